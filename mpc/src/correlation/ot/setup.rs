//! From nothing to the seeds of silent OT, in both directions at once, in three flights; the first batch takes three more.
//!
//! ```text
//! each party                                                            flight
//! 32 random bytes; both together give the session's number.             1
//!   A commitment to its part of the session's coins
//! base OT: as receiver (its delta), and as sender. Its part of the      2
//!   coins, opened now that the other's commitment is here
//! SoftSpokenOT correction, as the party that receives correlated OTs    3
//! ```
//!
//! A party that will send correlated OTs receives in the base OTs, and the other way round.

use super::base::{self, Domain, SessionId};
use super::coins::{COMMITMENT_BYTES, Coins, NONCE_BYTES, Nonce};
use super::silent::{self, SEED};
use super::softspoken::{self, BASE_OTS, Correction};
use crate::error::{Error, Result};
use crate::party::Party;
use crate::primitive::block::{Block, Delta};
use crate::transport::channel::{Channel, FrameKind, HEADER_BYTES};
use rand::CryptoRng;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

/// Version of the messages of the set-up.
const VERSION: u8 = 2;

/// Bytes that each party contributes to the session's number.
const ID_BYTES: usize = 32;

/// Bytes of the greeting: version, part of the session's number, commitment to a part of the coins.
const HELLO_BYTES: usize = 1 + ID_BYTES + COMMITMENT_BYTES;

/// Bytes of the base OT message of one party in both roles, and of its part of the coins.
const BASE_BYTES: usize = base::ReceiverMessage::bytes(BASE_OTS) + base::SenderMessage::bytes(BASE_OTS) + NONCE_BYTES;

/// Columns of SoftSpokenOT, in blocks: the smallest number that covers a seed.
const COLUMN_BLOCKS: usize = SEED.div_ceil(128);

/// Bytes that each party sends before the first batch, frame headers included.
pub const BYTES: usize = 3 * HEADER_BYTES + HELLO_BYTES + BASE_BYTES + Correction::bytes(COLUMN_BLOCKS);

/// What the set-up gives one party.
pub struct Roles {
    /// Where it sends.
    pub sender: silent::Sender,
    /// Where it receives.
    pub receiver: silent::Receiver,
    /// The session.
    pub session: SessionId,
    /// The coins of the direction in which it sends.
    pub sends: Coins,
    /// The coins of the direction in which it receives.
    pub receives: Coins,
}

/// Runs the set-up; both parties call it.
pub async fn set_up<R: CryptoRng>(ch: &mut Channel, rng: &mut R) -> Result<Roles> {
    let party = ch.party();
    let nonce = Nonce::random(party, rng);
    let (session, commitment) = agree(ch, &nonce, rng).await?;
    let delta = Delta::random(rng);
    let base = base_ots(ch, rng, session, &delta, (nonce, commitment)).await?;
    let [sends, receives] =
        [party.other(), party].map(|receiver| Coins::new(session, [&base.own, &base.theirs], receiver));

    let (received, correction) = softspoken::receive(&base.pairs, &receives, COLUMN_BLOCKS);
    ch.send(FrameKind::OtBatch, correction.encode()).await?;
    let correction = ch.recv(FrameKind::OtBatch, Correction::bytes(COLUMN_BLOCKS)).await?;
    let correction = Correction::decode(&correction, COLUMN_BLOCKS)?;
    let sent = softspoken::send(&base.keys, &delta, &correction, &sends, COLUMN_BLOCKS)?;

    let sender = silent::Sender::new(delta, &sent[..SEED], sends);
    let receiver = silent::Receiver::new(&received[..SEED], receives);
    Ok(Roles { sender, receiver, session, sends, receives })
}

/// Exchanges greetings and hashes them, the client's first. Returns the session and the peer's commitment.
async fn agree<R: CryptoRng>(
    ch: &mut Channel,
    nonce: &Nonce,
    rng: &mut R,
) -> Result<(SessionId, [u8; COMMITMENT_BYTES])> {
    let mut hello = vec![VERSION; HELLO_BYTES];
    rng.fill_bytes(&mut hello[1..=ID_BYTES]);
    hello[1 + ID_BYTES..].copy_from_slice(&nonce.commitment());
    ch.send(FrameKind::OtBatch, hello.clone()).await?;
    let theirs = ch.recv(FrameKind::OtBatch, HELLO_BYTES).await?;
    if theirs[0] != VERSION {
        return Err(Error::protocol("version of the OT set-up", VERSION, theirs[0]));
    }
    let (client, server) = match ch.party() {
        Party::Client => (&hello, &theirs),
        Party::Server => (&theirs, &hello),
    };
    let digest = Sha512::new().chain_update(b"lowkey OT session").chain_update(client).chain_update(server).finalize();
    let commitment = *theirs.last_chunk().expect("the length was checked");
    Ok((SessionId(std::array::from_fn(|i| digest[i])), commitment))
}

/// What base OTs and openings give one party.
struct Base {
    /// The keys of the choices that its delta makes.
    keys: Zeroizing<Vec<Block>>,
    /// Both keys of the peer's.
    pairs: Zeroizing<Vec<[Block; 2]>>,
    own: Nonce,
    theirs: Nonce,
}

/// Base OTs in both directions, and the opening of both nonces.
async fn base_ots<R: CryptoRng>(
    ch: &mut Channel,
    rng: &mut R,
    session: SessionId,
    delta: &Delta,
    (own, commitment): (Nonce, [u8; COMMITMENT_BYTES]),
) -> Result<Base> {
    let domain = |receiver| Domain { session, receiver };
    let (receiver, chosen) = base::Receiver::start(domain(ch.party()), softspoken::base_choices(delta), rng);
    let (sender, offered) = base::Sender::start(domain(ch.party().other()), BASE_OTS, rng);
    let mut message = Vec::with_capacity(BASE_BYTES);
    chosen.encode(&mut message);
    offered.encode(&mut message);
    message.extend_from_slice(own.opening());
    ch.send(FrameKind::OtBatch, message).await?;

    let theirs = ch.recv(FrameKind::OtBatch, BASE_BYTES).await?;
    let (points, opening) = theirs.split_last_chunk().expect("the length was checked");
    let (chosen, offered) = points.split_at(base::ReceiverMessage::bytes(BASE_OTS));
    let theirs = Nonce::open(ch.party().other(), &commitment, opening)?;
    let pairs = sender.finish(&base::ReceiverMessage::decode(chosen)?)?;
    let keys = receiver.finish(&base::SenderMessage::decode(offered)?)?;
    Ok(Base { keys, pairs, own, theirs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    /// Honest but for its correction, whose byte `at` it changes. What it then hears from the server.
    async fn cheat(ch: &mut Channel, at: usize) -> Error {
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        let (party, nonce) = (ch.party(), Nonce::random(ch.party(), rng));
        let (session, commitment) = agree(ch, &nonce, rng).await.unwrap();
        let delta = Delta::random(rng);
        let base = base_ots(ch, rng, session, &delta, (nonce, commitment)).await.unwrap();
        let coins = Coins::new(session, [&base.own, &base.theirs], party);
        let (_, correction) = softspoken::receive(&base.pairs, &coins, COLUMN_BLOCKS);
        let mut correction = correction.encode();
        correction[at] ^= 4;
        ch.send(FrameKind::OtBatch, correction).await.unwrap();
        ch.recv(FrameKind::OtBatch, Correction::bytes(COLUMN_BLOCKS)).await.unwrap();
        // A batch would come next.
        ch.recv(FrameKind::OtBatch, silent::FIRST.message_bytes()).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_receiver_that_cheats_is_told_only_that_it_was_caught() {
        let bytes = Correction::bytes(COLUMN_BLOCKS);
        let sums = 16 * 14 * 16;
        // A sum of a tree, for either choice; the tags of a tree, and of all; a correction; the hash of the choices, and of a plane.
        let places = [80, 80 + 16, sums + 5, sums + 16 * 32, sums + 17 * 32 + 1000, bytes - 128 * 32 - 1, bytes - 1];
        let mut answers = Vec::new();
        for at in places {
            let (mut client, mut server) = Channel::pair();
            let honest = async {
                let rng = &mut ChaCha20Rng::seed_from_u64(2);
                let result = set_up(&mut server, rng).await;
                let sent = server.traffic().total().bytes_sent;
                server.close().await.unwrap();
                (result.err().expect("a correction that was changed"), sent)
            };
            let (heard, (error, sent)) = tokio::join!(cheat(&mut client, at), honest);
            assert!(matches!(heard, Error::Disconnected), "{heard}");
            assert!(error.is_peer_fault());
            answers.push((error.to_string(), sent));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }

    #[tokio::test]
    async fn a_peer_that_sends_back_what_it_gets_is_refused() {
        let (mut client, mut echo) = Channel::pair();
        let attack = async {
            while let Ok(frame) = echo.recv_at_most(FrameKind::OtBatch, 1 << 20).await {
                echo.send(FrameKind::OtBatch, frame).await.unwrap();
            }
        };
        let honest = async {
            let rng = &mut ChaCha20Rng::seed_from_u64(3);
            let error = set_up(&mut client, rng).await.err().expect("a commitment of the wrong party");
            client.close().await.unwrap();
            error
        };
        let (error, ()) = tokio::join!(honest, attack);
        assert_eq!(
            error.to_string(),
            "the peer broke the protocol: nonce of the OT set-up is another, expected the one committed to"
        );
    }
}
