//! seed -> a generator for each draw of a slot's lattice work: ChaCha20 under H(seed, draw).

use std::fmt;

use lowkey_mpc::erasing::OnceRng;
use rand::SeedableRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::plan::TensorId;

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Draw {
    /// All secrets, and the errors of all b*_0.
    Keys,
    /// Random pads of a tensor.
    Pads(TensorId),
    /// The errors of an upload's bodies.
    Errors { upload: usize },
}

impl Draw {
    /// Kind and number: no two draws of a slot have the same.
    fn domain(self) -> [u8; 9] {
        let (kind, number) = match self {
            Self::Keys => (0, 0),
            Self::Pads(tensor) => (1, tensor.index()),
            Self::Errors { upload } => (2, upload),
        };
        let mut domain = [kind; 9];
        domain[1..].copy_from_slice(&(number as u64).to_le_bytes());
        domain
    }
}

/// The seed of all that is random in the lattice work of one slot. Whoever knows it knows the slot's secrets and pads.
pub struct SlotSeed(Zeroizing<[u8; 32]>);

impl SlotSeed {
    /// A seed of these bytes, uniform ones.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The generator of one draw.
    pub(crate) fn rng(&self, draw: Draw) -> OnceRng {
        let hash = Sha256::new_with_prefix(b"lowkey/slot draw/1").chain_update(&self.0[..]).chain_update(draw.domain());
        let own: Zeroizing<[u8; 32]> = Zeroizing::new(hash.finalize().into());
        OnceRng::from_seed(*own)
    }
}

impl fmt::Debug for SlotSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlotSeed([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::Rng;

    use super::*;

    #[test]
    fn every_draw_has_a_generator_of_its_own() {
        let draws = (0..50).flat_map(|n| [Draw::Pads(TensorId::new(n)), Draw::Errors { upload: n }]);
        let draws: Vec<Draw> = draws.chain([Draw::Keys]).collect();
        let first = |seed: u8, draw: &Draw| SlotSeed::new(Zeroizing::new([seed; 32])).rng(*draw).next_u64();
        let seen: HashSet<u64> = draws.iter().flat_map(|draw| [first(1, draw), first(2, draw)]).collect();
        assert_eq!(seen.len(), 2 * draws.len());
        assert_eq!(first(1, &Draw::Keys), first(1, &Draw::Keys));
        assert_eq!(format!("{:?}", SlotSeed::new(Zeroizing::new([7; 32]))), "SlotSeed([redacted])");
    }
}
