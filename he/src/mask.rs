//! a = XOF(label, epoch seed, parameter set, id): the public, static masks.
//!
//! Masks are the same in every inference, because every inference has fresh secrets (one hint serves every query, as in
//! [SimplePIR]). Both parties expand them from a public 256-bit epoch seed (`security.md`, rule 7) with the generator of
//! `tfhe` (`tfhe-csprng`), seeded by its extendable-output seed: a CBC-MAC under a public key derives an AES-128 key and
//! a start counter, AES-CTR expands. The masks are public: the seed hides nothing, it only has to make them look uniform.
//!
//! The seed's 64 bytes are
//!
//! ```text
//! "LowkeyHE" | epoch seed, 32 bytes | "mask/v1\0" | set id, 1 | 0, 7 bytes | layer, 4 LE | ciphertext, 4 LE
//! ```
//!
//! Everything that tells two masks of an epoch apart lies in the fourth AES block. The blocks before it lead to one
//! chaining value, and the rest of the derivation is a composition of permutations, so masks of one epoch have distinct
//! AES keys with certainty: they never coincide.
//!
//! On x86-64 the generator needs AES-NI and panics without it.
//!
//! [SimplePIR]: crate#references

use concrete_csprng::generators::{DefaultRandomGenerator, RandomGenerator};
use concrete_csprng::seeders::XofSeed;

use crate::params::ParameterSet;
use crate::ring::{NttPoly, Ring};
use crate::word::TorusWord;

/// The public seed of all masks of a model publication. A new publication takes a new seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpochSeed(pub [u8; 32]);

/// Names a mask within an epoch and a parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaskId {
    /// The layer whose input it masks.
    pub layer: u32,
    /// The ciphertext among the layer's.
    pub ciphertext: u32,
}

impl MaskId {
    /// a*_0, the mask of the rerandomiser: one per parameter set. No layer has this index.
    pub const RERANDOMISER: Self = Self { layer: u32::MAX, ciphertext: u32::MAX };
}

/// A public mask polynomial, in both representations.
#[derive(Debug, Clone)]
pub struct Mask<W: TorusWord> {
    ring: &'static Ring<W>,
    id: MaskId,
    coefficients: Vec<W>,
    ntt: NttPoly<W>,
}

impl<W: TorusWord> Mask<W> {
    /// Expands one mask.
    pub fn expand(ring: &'static Ring<W>, epoch: &EpochSeed, id: MaskId) -> Self {
        let mut generator = DefaultRandomGenerator::new(xof_seed(ring.set(), epoch, id));
        let mut word = || {
            let bytes = std::array::from_fn(|i| match i < W::BITS as usize / 8 {
                true => generator.next_byte().expect("a fresh generator yields 2^132 bytes"),
                false => 0,
            });
            W::from_u64(u64::from_le_bytes(bytes))
        };
        let coefficients: Vec<W> = (0..ring.degree()).map(|_| word()).collect();
        let ntt = ring.forward(&coefficients);
        Self { ring, id, coefficients, ntt }
    }

    /// The mask's name.
    pub fn id(&self) -> MaskId {
        self.id
    }

    /// The ring it lives in.
    pub fn ring(&self) -> &'static Ring<W> {
        self.ring
    }

    /// Its N coefficients.
    pub fn coefficients(&self) -> &[W] {
        &self.coefficients
    }

    /// Its transform.
    pub fn ntt(&self) -> &NttPoly<W> {
        &self.ntt
    }
}

fn xof_seed(set: &ParameterSet, epoch: &EpochSeed, id: MaskId) -> XofSeed {
    let mut seed = Vec::with_capacity(56);
    seed.extend_from_slice(&epoch.0);
    seed.extend_from_slice(b"mask/v1\0");
    seed.extend_from_slice(&[set.id, 0, 0, 0, 0, 0, 0, 0]);
    seed.extend_from_slice(&id.layer.to_le_bytes());
    seed.extend_from_slice(&id.ciphertext.to_le_bytes());
    XofSeed::new(seed, *b"LowkeyHE")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{ALL, T32N1024, T32N2048, T64N2048};
    use concrete_csprng::generators::SoftwareRandomGenerator;

    fn head(set: &ParameterSet, epoch: &EpochSeed, id: MaskId) -> [u8; 16] {
        let mut generator = DefaultRandomGenerator::new(xof_seed(set, epoch, id));
        std::array::from_fn(|_| generator.next_byte().unwrap())
    }

    #[test]
    fn the_expansion_is_pinned() {
        let epoch = EpochSeed(std::array::from_fn(|i| i as u8));
        let id = MaskId { layer: 1, ciphertext: 2 };
        let mut bytes = [0; 16];
        let ring = Ring::<u32>::shared(&T32N2048).unwrap();
        for (word, bytes) in Mask::expand(ring, &epoch, id).coefficients().iter().zip(bytes.chunks_exact_mut(4)) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        assert_eq!(bytes, GOLDEN32);
        let ring = Ring::<u64>::shared(&T64N2048).unwrap();
        let mask = Mask::expand(ring, &epoch, MaskId::RERANDOMISER);
        assert_eq!(mask.coefficients()[..2], GOLDEN64);
    }

    const GOLDEN32: [u8; 16] = [105, 169, 157, 67, 166, 3, 122, 232, 255, 212, 90, 109, 229, 248, 161, 101];
    const GOLDEN64: [u64; 2] = [14377560698493966070, 14338767326304162244];

    #[test]
    fn the_software_generator_agrees() {
        let (epoch, id) = (EpochSeed([3; 32]), MaskId { layer: 0, ciphertext: 0 });
        let ring = Ring::<u64>::shared(&T64N2048).unwrap();
        let software = SoftwareRandomGenerator::new(xof_seed(&T64N2048, &epoch, id));
        let bytes: Vec<u8> = software.take(8 * ring.degree()).collect();
        let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        assert_eq!(Mask::expand(ring, &epoch, id).coefficients(), words);
    }

    #[test]
    fn every_input_separates() {
        let mut heads = vec![];
        let ids = [(0, 0), (0, 1), (1, 0), (256, 0), (0, 256), (u32::MAX, 0), (0, u32::MAX), (u32::MAX, u32::MAX)];
        for epoch in [EpochSeed([0; 32]), EpochSeed([1; 32])] {
            for set in ALL {
                for (layer, ciphertext) in ids {
                    heads.push(head(set, &epoch, MaskId { layer, ciphertext }));
                }
            }
        }
        let count = heads.len();
        heads.sort_unstable();
        heads.dedup();
        assert_eq!(heads.len(), count);
    }

    #[test]
    fn both_representations_agree() {
        let ring = Ring::<u32>::shared(&T32N1024).unwrap();
        let mask = Mask::expand(ring, &EpochSeed([5; 32]), MaskId::RERANDOMISER);
        assert_eq!(ring.inverse(mask.ntt()), mask.coefficients());
    }
}
