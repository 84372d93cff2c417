//! `key = keys[b]`: random OTs from nothing, on Ristretto.
//!
//! Endemic OT of [MR19], one flight, here with Diffie-Hellman as the uniform key agreement:
//!
//! ```text
//! receiver (choice b)                               sender
//! a random, r_{1-b} a random point
//! r_b = a G - H_b(r_{1-b})       -- r_0, r_1 -->
//!                                <---- B ------     B = y G
//! key = KDF_b(a B)                                  keys[i] = KDF_i(y (r_i + H_i(r_{1-i})))
//! ```
//!
//! `G` is the base point; `H_i` hashes to the group and `KDF_i` to a block, both with the session, the direction,
//! the OT's index and `i` in the domain. Both `r` are uniform whatever `b` is. The receiver can solve for only one
//! of the two Diffie-Hellman problems, so the other key is random to it: the proof is in the random-oracle
//! model under (computational, since `KDF` is an oracle) Diffie-Hellman, and holds against malicious parties
//! with the endemic functionality, in which a cheating party may choose its own outputs. Each OT has its own
//! `y`: sharing one saves 4 KiB and needs a stronger assumption.
//!
//! [MR19]: crate#references

use crate::error::{Error, Result};
use crate::party::Party;
use crate::primitive::block::Block;
use curve25519_dalek::constants::RISTRETTO_BASEPOINT_TABLE;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use rand::CryptoRng;
use sha2::{Digest, Sha512};
use subtle::{Choice, ConditionallySelectable};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of an encoded point.
const POINT_BYTES: usize = 32;

/// A public value that both parties contributed to; separates the hashes of different sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId(pub [u8; 32]);

/// What the hashes of one batch of base OTs are bound to.
#[derive(Clone, Copy, Debug)]
pub struct Domain {
    /// The session.
    pub session: SessionId,
    /// The party that receives in this batch.
    pub receiver: Party,
}

impl Domain {
    fn hash(self, label: &[u8], index: usize, choice: u8) -> Sha512 {
        Sha512::new()
            .chain_update(label)
            .chain_update(self.session.0)
            .chain_update([self.receiver as u8])
            .chain_update((index as u64).to_le_bytes())
            .chain_update([choice])
    }

    /// `H_choice(other)`.
    fn point(self, index: usize, choice: u8, other: &CompressedRistretto) -> RistrettoPoint {
        let hash = self.hash(b"lowkey base OT point", index, choice);
        RistrettoPoint::from_uniform_bytes(&hash.chain_update(other.as_bytes()).finalize().into())
    }

    /// `KDF_choice(shared)`, bound to all that was sent.
    fn key(self, index: usize, choice: u8, sent: Transcript<'_>, shared: RistrettoPoint) -> Block {
        let mut digest = self
            .hash(b"lowkey base OT key", index, choice)
            .chain_update(sent.r[0].as_bytes())
            .chain_update(sent.r[1].as_bytes())
            .chain_update(sent.b.as_bytes())
            .chain_update(shared.compress().as_bytes())
            .finalize();
        let key = Block::from_bytes(std::array::from_fn(|i| digest[i]));
        digest.as_mut_slice().zeroize();
        key
    }
}

/// The points of one OT.
#[derive(Clone, Copy)]
struct Transcript<'a> {
    r: &'a [CompressedRistretto; 2],
    b: &'a CompressedRistretto,
}

/// The receiver's message: `r_0, r_1` of each OT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverMessage {
    points: Vec<[CompressedRistretto; 2]>,
}

impl ReceiverMessage {
    /// Bytes of the message of `n` OTs.
    #[must_use]
    pub const fn bytes(n: usize) -> usize {
        n * 2 * POINT_BYTES
    }

    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for point in self.points.iter().flatten() {
            out.extend_from_slice(point.as_bytes());
        }
    }

    /// Reads the message of `bytes.len() / 64` OTs. The points are checked where they are used.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the length is not that of whole OTs.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let points = decode_points(bytes, 2)?;
        Ok(Self { points: points.chunks_exact(2).map(|r| [r[0], r[1]]).collect() })
    }
}

/// The sender's message: `B` of each OT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderMessage {
    points: Vec<CompressedRistretto>,
}

impl SenderMessage {
    /// Bytes of the message of `n` OTs.
    #[must_use]
    pub const fn bytes(n: usize) -> usize {
        n * POINT_BYTES
    }

    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for point in &self.points {
            out.extend_from_slice(point.as_bytes());
        }
    }

    /// Reads the message of `bytes.len() / 32` OTs. The points are checked where they are used.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the length is not that of whole OTs.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Ok(Self { points: decode_points(bytes, 1)? })
    }
}

/// The receiver between its two steps.
#[derive(ZeroizeOnDrop)]
pub struct Receiver {
    #[zeroize(skip)]
    domain: Domain,
    choices: Vec<u8>,
    scalars: Vec<Scalar>,
    #[zeroize(skip)]
    message: ReceiverMessage,
}

impl Receiver {
    /// Starts one OT for each of `choices`, which are 0 or 1.
    pub fn start<R: CryptoRng + ?Sized>(domain: Domain, choices: Vec<u8>, rng: &mut R) -> (Self, ReceiverMessage) {
        let mut scalars = Vec::with_capacity(choices.len());
        let mut points = Vec::with_capacity(choices.len());
        for (index, &b) in choices.iter().enumerate() {
            let a = Scalar::random(rng);
            let other = RistrettoPoint::random(rng).compress();
            let chosen = RISTRETTO_BASEPOINT_TABLE * &a - domain.point(index, b, &other);
            let chosen = chosen.compress();
            let swap = Choice::from(b);
            points.push([select(&chosen, &other, swap), select(&other, &chosen, swap)]);
            scalars.push(a);
        }
        let message = ReceiverMessage { points };
        let receiver = Self { domain, choices, scalars, message: message.clone() };
        (receiver, message)
    }

    /// The key of the choice of each OT.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the message has another number of OTs or an invalid point.
    pub fn finish(self, message: &SenderMessage) -> Result<Zeroizing<Vec<Block>>> {
        check_len(message.points.len(), self.scalars.len())?;
        let mut keys = Zeroizing::new(Vec::with_capacity(self.scalars.len()));
        for (index, (a, b)) in self.scalars.iter().zip(&message.points).enumerate() {
            let sent = Transcript { r: &self.message.points[index], b };
            let shared = decompress(b)? * a;
            keys.push(self.domain.key(index, self.choices[index], sent, shared));
        }
        Ok(keys)
    }
}

/// The sender between its two steps.
#[derive(ZeroizeOnDrop)]
pub struct Sender {
    #[zeroize(skip)]
    domain: Domain,
    scalars: Vec<Scalar>,
    #[zeroize(skip)]
    message: SenderMessage,
}

impl Sender {
    /// Starts `n` OTs.
    pub fn start<R: CryptoRng + ?Sized>(domain: Domain, n: usize, rng: &mut R) -> (Self, SenderMessage) {
        let scalars: Vec<_> = (0..n).map(|_| Scalar::random(rng)).collect();
        let points = scalars.iter().map(|y| (RISTRETTO_BASEPOINT_TABLE * y).compress()).collect();
        let message = SenderMessage { points };
        let sender = Self { domain, scalars, message: message.clone() };
        (sender, message)
    }

    /// Both keys of each OT.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the message has another number of OTs or an invalid point.
    pub fn finish(self, message: &ReceiverMessage) -> Result<Zeroizing<Vec<[Block; 2]>>> {
        check_len(message.points.len(), self.scalars.len())?;
        let mut keys = Zeroizing::new(Vec::with_capacity(self.scalars.len()));
        for (index, (y, r)) in self.scalars.iter().zip(&message.points).enumerate() {
            let sent = Transcript { r, b: &self.message.points[index] };
            let points = [decompress(&r[0])?, decompress(&r[1])?];
            keys.push([0, 1].map(|i: u8| {
                let other = &r[1 - usize::from(i)];
                let public = points[usize::from(i)] + self.domain.point(index, i, other);
                self.domain.key(index, i, sent, public * y)
            }));
        }
        Ok(keys)
    }
}

fn select(a: &CompressedRistretto, b: &CompressedRistretto, choice: Choice) -> CompressedRistretto {
    CompressedRistretto(<[u8; POINT_BYTES]>::conditional_select(&a.0, &b.0, choice))
}

fn check_len(found: usize, expected: usize) -> Result<()> {
    if found != expected {
        return Err(Error::protocol("number of base OTs", expected, found));
    }
    Ok(())
}

fn decode_points(bytes: &[u8], per_ot: usize) -> Result<Vec<CompressedRistretto>> {
    if !bytes.len().is_multiple_of(per_ot * POINT_BYTES) {
        let expected = format_args!("a multiple of {}", per_ot * POINT_BYTES).to_string();
        return Err(Error::protocol("length of a base OT message", expected, bytes.len()));
    }
    let points = bytes.chunks_exact(POINT_BYTES);
    Ok(points.map(|point| CompressedRistretto(std::array::from_fn(|i| point[i]))).collect())
}

/// A point of the peer: canonical, and not the identity, which no honest peer sends.
fn decompress(point: &CompressedRistretto) -> Result<RistrettoPoint> {
    match point.decompress() {
        Some(point) if !point.is_identity() => Ok(point),
        _ => {
            Err(Error::protocol("point of a base OT", "a canonical encoding other than the identity", "something else"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    const DOMAIN: Domain = Domain { session: SessionId([7; 32]), receiver: Party::Client };

    fn choices(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i * i / 3 % 2) as u8).collect()
    }

    struct Run {
        sender: Sender,
        receiver: Receiver,
        to_receiver: SenderMessage,
        to_sender: ReceiverMessage,
    }

    fn start(domains: [Domain; 2], n: usize, seed: u64) -> Run {
        let rng = &mut ChaCha20Rng::seed_from_u64(seed);
        let (sender, to_receiver) = Sender::start(domains[0], n, rng);
        let (receiver, to_sender) = Receiver::start(domains[1], choices(n), rng);
        Run { sender, receiver, to_receiver, to_sender }
    }

    #[test]
    fn the_receiver_gets_the_chosen_key_only() {
        let run = start([DOMAIN; 2], 20, 1);
        let pairs = run.sender.finish(&run.to_sender).unwrap();
        let keys = run.receiver.finish(&run.to_receiver).unwrap();
        for ((pair, &key), b) in pairs.iter().zip(keys.iter()).zip(choices(20)) {
            assert!(pair[usize::from(b)] == key);
            assert!(pair[usize::from(1 - b)] != key);
        }
    }

    #[test]
    fn keys_depend_on_session_and_direction() {
        let session = Domain { session: SessionId([8; 32]), ..DOMAIN };
        let direction = Domain { receiver: Party::Server, ..DOMAIN };
        for other in [session, direction] {
            let run = start([DOMAIN, other], 4, 2);
            let pairs = run.sender.finish(&run.to_sender).unwrap();
            let keys = run.receiver.finish(&run.to_receiver).unwrap();
            assert!(pairs.iter().zip(keys.iter()).all(|(pair, key)| !pair.contains(key)));
        }
    }

    #[test]
    fn messages_round_trip_and_reject_partial_points() {
        let run = start([DOMAIN; 2], 3, 3);
        let mut bytes = Vec::new();
        run.to_sender.encode(&mut bytes);
        assert_eq!(bytes.len(), ReceiverMessage::bytes(3));
        assert_eq!(ReceiverMessage::decode(&bytes).unwrap(), run.to_sender);
        assert!(ReceiverMessage::decode(&bytes[..96]).unwrap_err().is_peer_fault());
        let mut bytes = Vec::new();
        run.to_receiver.encode(&mut bytes);
        assert_eq!(bytes.len(), SenderMessage::bytes(3));
        assert_eq!(SenderMessage::decode(&bytes).unwrap(), run.to_receiver);
        assert!(SenderMessage::decode(&bytes[1..]).unwrap_err().is_peer_fault());
    }

    #[test]
    fn invalid_points_and_wrong_counts_are_the_peers_fault() {
        for bad in [[0; 32], [255; 32], [1; 32]] {
            let mut run = start([DOMAIN; 2], 3, 4);
            run.to_sender.points[1][0] = CompressedRistretto(bad);
            run.to_receiver.points[2] = CompressedRistretto(bad);
            assert!(run.sender.finish(&run.to_sender).unwrap_err().is_peer_fault());
            assert!(run.receiver.finish(&run.to_receiver).unwrap_err().is_peer_fault());
        }
        let mut run = start([DOMAIN; 2], 3, 5);
        run.to_sender.points.pop();
        run.to_receiver.points.pop();
        assert!(run.sender.finish(&run.to_sender).unwrap_err().is_peer_fault());
        assert!(run.receiver.finish(&run.to_receiver).unwrap_err().is_peer_fault());
    }

    #[test]
    fn a_flipped_bit_of_a_message_changes_the_keys() {
        // A flip gives another point or an invalid one; take the first that is valid.
        let mut tried = 0;
        for bit in 0..256 {
            let mut run = start([DOMAIN; 2], 1, 6);
            run.to_sender.points[0][1].0[bit / 8] ^= 1 << (bit % 8);
            let Ok(pairs) = run.sender.finish(&run.to_sender) else {
                continue;
            };
            let keys = run.receiver.finish(&run.to_receiver).unwrap();
            assert!(!pairs[0].contains(&keys[0]));
            tried += 1;
            if tried == 3 {
                return;
            }
        }
        panic!("no flipped point was valid");
    }
}
