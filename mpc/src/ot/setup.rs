//! From nothing to the seeds of silent OT, in both directions at once, in three flights; the first batch is a fourth.
//!
//! ```text
//! each party                                                            flight
//! 32 random bytes; both together give the session's number              1
//! base OT: as receiver (its delta), and as sender                       2
//! SoftSpokenOT correction, as the party that receives correlated OTs    3
//! ```
//!
//! A party that will send correlated OTs receives in the base OTs, and the other way round.

use super::base::{self, Domain, SessionId};
use super::silent::{self, SEED};
use super::softspoken::{self, BASE_OTS, Correction};
use crate::block::{Block, Delta};
use crate::channel::{Channel, FrameKind, HEADER_BYTES};
use crate::error::{Error, Result};
use crate::party::Party;
use rand::CryptoRng;
use sha2::{Digest, Sha512};

/// Version of the messages of the set-up.
const VERSION: u8 = 1;

/// Bytes that each party contributes to the session's number.
const NONCE_BYTES: usize = 32;

/// Bytes of the greeting: version and nonce.
const HELLO_BYTES: usize = 1 + NONCE_BYTES;

/// Bytes of the base OT message of one party in both roles.
const BASE_BYTES: usize = base::ReceiverMessage::bytes(BASE_OTS) + base::SenderMessage::bytes(BASE_OTS);

/// Columns of SoftSpokenOT, in blocks: the smallest number that covers a seed.
const COLUMN_BLOCKS: usize = SEED.div_ceil(128);

/// Bytes that each party sends in the set-up and for the first batch, frame headers included.
pub const SETUP_BYTES: usize =
    4 * HEADER_BYTES + HELLO_BYTES + BASE_BYTES + Correction::bytes(COLUMN_BLOCKS) + silent::FIRST.message_bytes();

/// Runs the set-up; both parties call it. Returns this party's two roles and the session.
pub async fn set_up<R: CryptoRng>(
    ch: &mut Channel,
    rng: &mut R,
) -> Result<(silent::Sender, silent::Receiver, SessionId)> {
    let party = ch.party();
    let session = agree(ch, rng).await?;
    let delta = Delta::random(rng);
    let (sending, receiving) = base_ots(ch, rng, session, &delta).await?;

    let (received, correction) = softspoken::receive(&receiving, COLUMN_BLOCKS);
    ch.send(FrameKind::OtBatch, correction.encode()).await?;
    let correction = ch.recv(FrameKind::OtBatch, Correction::bytes(COLUMN_BLOCKS)).await?;
    let correction = Correction::decode(&correction, COLUMN_BLOCKS)?;
    let sent = softspoken::send(&sending, &delta, &correction, COLUMN_BLOCKS)?;

    let sender = silent::Sender::new(delta, &sent[..SEED], matrices(session, party.other()));
    let receiver = silent::Receiver::new(&received[..SEED], matrices(session, party));
    Ok((sender, receiver, session))
}

/// Exchanges nonces and hashes them, the client's first.
async fn agree<R: CryptoRng>(ch: &mut Channel, rng: &mut R) -> Result<SessionId> {
    let mut hello = [VERSION; HELLO_BYTES];
    rng.fill_bytes(&mut hello[1..]);
    ch.send(FrameKind::OtBatch, hello.to_vec()).await?;
    let theirs = ch.recv(FrameKind::OtBatch, HELLO_BYTES).await?;
    if theirs[0] != VERSION {
        return Err(Error::protocol("version of the OT set-up", VERSION, theirs[0]));
    }
    let (client, server) = match ch.party() {
        Party::Client => (&hello[..], &theirs[..]),
        Party::Server => (&theirs[..], &hello[..]),
    };
    let digest = Sha512::new().chain_update(b"lowkey OT session").chain_update(client).chain_update(server).finalize();
    Ok(SessionId(std::array::from_fn(|i| digest[i])))
}

/// Base OTs in both directions: the keys of the choices that `delta` makes, and both keys of the peer's.
async fn base_ots<R: CryptoRng>(
    ch: &mut Channel,
    rng: &mut R,
    session: SessionId,
    delta: &Delta,
) -> Result<(zeroize::Zeroizing<Vec<Block>>, zeroize::Zeroizing<Vec<[Block; 2]>>)> {
    let domain = |receiver| Domain { session, receiver };
    let (receiver, chosen) = base::Receiver::start(domain(ch.party()), softspoken::base_choices(delta), rng);
    let (sender, offered) = base::Sender::start(domain(ch.party().other()), BASE_OTS, rng);
    let mut message = Vec::with_capacity(BASE_BYTES);
    chosen.encode(&mut message);
    offered.encode(&mut message);
    ch.send(FrameKind::OtBatch, message).await?;

    let theirs = ch.recv(FrameKind::OtBatch, BASE_BYTES).await?;
    let (chosen, offered) = theirs.split_at(base::ReceiverMessage::bytes(BASE_OTS));
    let pairs = sender.finish(&base::ReceiverMessage::decode(chosen)?)?;
    let keys = receiver.finish(&base::SenderMessage::decode(offered)?)?;
    Ok((keys, pairs))
}

/// The public seed of the LPN matrices of the direction in which `receiver` receives.
fn matrices(session: SessionId, receiver: Party) -> Block {
    let digest = Sha512::new()
        .chain_update(b"lowkey LPN matrices")
        .chain_update(session.0)
        .chain_update([receiver as u8])
        .finalize();
    Block::from_bytes(std::array::from_fn(|i| digest[i]))
}
