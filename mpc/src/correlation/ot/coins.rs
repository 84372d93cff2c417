//! Public coins of a session, to which both parties committed before they saw the other's.
//!
//! ```text
//! each party                                              flight
//! r random;  Com(r) = SHA-256(label, party, r)      -->   1
//! r, checked against the other's commitment         -->   2
//! coins = SHA-256(label, session, r of the client, r of the server)
//! ```
//!
//! From the coins come the matrices of LPN and the keys of the fixed-key hashes, by direction, purpose, batch and tree. A party that
//! could choose them could look for a weak matrix; one that commits first can only give up and start a session anew.

use super::base::SessionId;
use crate::error::{Error, Result};
use crate::party::Party;
use crate::primitive::block::Block;
use crate::primitive::prg::KeyedStreams;
use rand::CryptoRng;
use sha2::{Digest, Sha256};

/// Bytes of a party's contribution.
pub const NONCE_BYTES: usize = 32;

/// Bytes of a commitment.
pub const COMMITMENT_BYTES: usize = 32;

/// A party's contribution, before it is opened.
pub struct Nonce {
    party: Party,
    bytes: [u8; NONCE_BYTES],
}

impl Nonce {
    /// A random contribution of `party`.
    pub fn random<R: CryptoRng + ?Sized>(party: Party, rng: &mut R) -> Self {
        let mut bytes = [0; NONCE_BYTES];
        rng.fill_bytes(&mut bytes);
        Self { party, bytes }
    }

    /// What is sent first: hides the contribution, and fixes it and whose it is.
    #[must_use]
    pub fn commitment(&self) -> [u8; COMMITMENT_BYTES] {
        commit(self.party, &self.bytes)
    }

    /// What is sent when the peer's commitment is here.
    #[must_use]
    pub fn opening(&self) -> &[u8; NONCE_BYTES] {
        &self.bytes
    }

    /// The peer's contribution, which must be the one that it committed to.
    ///
    /// # Errors
    /// [`Error::Protocol`] if it is another.
    pub fn open(party: Party, commitment: &[u8], opening: &[u8; NONCE_BYTES]) -> Result<Self> {
        if commit(party, opening) != commitment {
            return Err(Error::protocol("nonce of the OT set-up", "the one committed to", "another"));
        }
        Ok(Self { party, bytes: *opening })
    }
}

fn commit(party: Party, nonce: &[u8; NONCE_BYTES]) -> [u8; COMMITMENT_BYTES] {
    let hash = Sha256::new_with_prefix(b"lowkey OT nonce commitment/1");
    hash.chain_update([party as u8]).chain_update(nonce).finalize().into()
}

/// The public coins of one direction of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coins {
    session: [u8; 32],
    receiver: Party,
}

impl Coins {
    /// The coins of the direction in which `receiver` receives, from both contributions.
    ///
    /// # Panics
    /// If both contributions are the same party's.
    #[must_use]
    pub fn new(session: SessionId, nonces: [&Nonce; 2], receiver: Party) -> Self {
        let of = |party| nonces.iter().find(|nonce| nonce.party == party).expect("a contribution of each party");
        let hash = Sha256::new_with_prefix(b"lowkey OT coins/1").chain_update(session.0);
        let hash = hash.chain_update(of(Party::Client).bytes).chain_update(of(Party::Server).bytes);
        Self { session: hash.finalize().into(), receiver }
    }

    /// Coins for test doubles and benchmarks: both parties know them before they start.
    #[must_use]
    pub const fn fixed(session: [u8; 32], receiver: Party) -> Self {
        Self { session, receiver }
    }

    /// A hash that starts with these coins and a purpose.
    pub(super) fn hash(&self, purpose: &str) -> Sha256 {
        Sha256::new_with_prefix(b"lowkey OT key/1")
            .chain_update(self.session)
            .chain_update([self.receiver as u8, purpose.len() as u8])
            .chain_update(purpose)
    }

    /// A public key for one purpose; `number` tells batches, or other uses of one purpose, apart.
    #[must_use]
    pub fn key(&self, purpose: &str, number: u64) -> Block {
        let digest = self.hash(purpose).chain_update(number.to_le_bytes()).finalize();
        Block::from_bytes(std::array::from_fn(|i| digest[i]))
    }
}

/// Public keys of many small uses of one purpose: the blocks of a stream under a key of the coins.
#[derive(Clone)]
pub struct Subkeys(KeyedStreams);

impl Subkeys {
    /// The keys that a key of the coins gives.
    #[must_use]
    pub fn new(key: Block) -> Self {
        Self(KeyedStreams::new(key))
    }

    /// Key number `i`.
    #[must_use]
    pub fn at(&self, i: u64) -> Block {
        let mut key = [Block::ZERO];
        self.0.fill(0, i, &mut key);
        key[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    const SESSION: SessionId = SessionId([5; 32]);

    fn nonces() -> [Nonce; 2] {
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        [Nonce::random(Party::Client, rng), Nonce::random(Party::Server, rng)]
    }

    #[test]
    fn a_commitment_opens_to_one_nonce_of_one_party() {
        let [client, server] = nonces();
        assert!(Nonce::open(Party::Client, &client.commitment(), client.opening()).is_ok());
        let refused = |party, commitment: &Nonce, opening: &Nonce| {
            Nonce::open(party, &commitment.commitment(), opening.opening()).is_err_and(|e| e.is_peer_fault())
        };
        assert!(refused(Party::Client, &client, &server));
        // What one party sent is no commitment of the other: nothing can be reflected.
        assert!(refused(Party::Server, &client, &client));
    }

    #[test]
    fn coins_are_the_same_at_both_ends_and_separate_everything() {
        let [client, server] = nonces();
        let coins = Coins::new(SESSION, [&client, &server], Party::Client);
        assert_eq!(coins, Coins::new(SESSION, [&server, &client], Party::Client));
        let [other, _] = nonces().map(|nonce| Nonce { bytes: [1; 32], ..nonce });
        let mut keys = Vec::new();
        for coins in [
            coins,
            Coins::new(SESSION, [&client, &server], Party::Server),
            Coins::new(SessionId([6; 32]), [&client, &server], Party::Client),
            Coins::new(SESSION, [&other, &server], Party::Client),
        ] {
            for (purpose, number) in [("pads", 0), ("pads", 1), ("LPN matrix", 0), ("half trees", 0)] {
                keys.push(u128::from(coins.key(purpose, number)));
            }
        }
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }
}
