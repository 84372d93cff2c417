//! a = XOF(SHA-256(label | epoch seed | set | layer | ciphertext)): the public, static masks.
//!
//! Masks are the same in every inference, because every inference has fresh secrets (one hint serves every query, as in
//! [SimplePIR]). Both parties expand them from a public 256-bit epoch seed (SECURITY.md, rule 13) with the generator of
//! `tfhe` (`tfhe-csprng`), seeded by its extendable-output seed: a CBC-MAC under a public key derives an AES-128 key and
//! a start counter, AES-CTR expands. The masks are public: the seed hides nothing, it only has to make them look uniform.
//!
//! The server picks the epoch seed, and a CBC-MAC under a public key can be run backwards. So what the generator gets is
//! a digest, and masks are those of a random oracle of all that names them, whoever picked it:
//!
//! ```text
//! "LowkeyHE" | SHA-256("lowkey-he/mask/v2", zeros up to 32 bytes | epoch seed, 32 | set id, 1 | layer, 4 LE | ciphertext, 4 LE)
//! ```
//!
//! Every field has a fixed length, so different names are different inputs, and equal digests would be a collision of
//! SHA-256. The derivation behind it has a state of 128 bits: with M masks in an epoch, two of them coincide with
//! probability below M^2 / 2^129 over the oracle. M is below 2^15 in every plan that is accepted, so a server that
//! searches epochs for one with two equal masks expects to try 2^99.
//!
//! The generator of x86-64 and AArch64 runs on AES instructions. Where a processor has none, the one in software makes the same masks,
//! slower.
//!
//! [SimplePIR]: crate#references

use concrete_csprng::generators::{DefaultRandomGenerator, RandomGenerator, SoftwareRandomGenerator};
use concrete_csprng::seeders::XofSeed;
use sha2::{Digest, Sha256};

pub use crate::names::{EpochSeed, MaskId};
use crate::params::ParameterSet;
use crate::ring::{NttPoly, Ring};
use crate::word::TorusWord;

/// A public mask polynomial, in both representations.
#[derive(Debug, Clone)]
pub struct Mask<W: TorusWord> {
    coefficients: Vec<W>,
    transform: MaskTransform<W>,
}

/// The transform of a mask: all that a body is made of.
#[derive(Debug, Clone)]
pub struct MaskTransform<W: TorusWord> {
    ring: &'static Ring<W>,
    id: MaskId,
    pub(crate) ntt: NttPoly<W>,
}

impl<W: TorusWord> Mask<W> {
    /// Expands one mask.
    pub fn expand(ring: &'static Ring<W>, epoch: &EpochSeed, id: MaskId) -> Self {
        Self::expand_on(ring, epoch, id, has_aes())
    }

    /// With or without AES instructions, which the processor has to have where they are asked for.
    fn expand_on(ring: &'static Ring<W>, epoch: &EpochSeed, id: MaskId, aes: bool) -> Self {
        let seed = xof_seed(ring.set(), epoch, id);
        let coefficients = if aes {
            words(DefaultRandomGenerator::new(seed), ring.degree())
        } else {
            words(SoftwareRandomGenerator::new(seed), ring.degree())
        };
        let ntt = ring.forward(&coefficients);
        Self { coefficients, transform: MaskTransform { ring, id, ntt } }
    }

    /// The mask's name.
    pub fn id(&self) -> MaskId {
        self.transform.id
    }

    /// The ring it lives in.
    pub fn ring(&self) -> &'static Ring<W> {
        self.transform.ring
    }

    /// Its N coefficients.
    pub fn coefficients(&self) -> &[W] {
        &self.coefficients
    }

    /// Its transform.
    pub fn ntt(&self) -> &NttPoly<W> {
        &self.transform.ntt
    }

    /// Its transform, with its name.
    pub fn transform(&self) -> &MaskTransform<W> {
        &self.transform
    }

    /// Its transform alone.
    pub fn into_transform(self) -> MaskTransform<W> {
        self.transform
    }
}

impl<W: TorusWord> MaskTransform<W> {
    /// The mask's name.
    pub fn id(&self) -> MaskId {
        self.id
    }

    /// The ring it lives in.
    pub fn ring(&self) -> &'static Ring<W> {
        self.ring
    }
}

/// The first `count` words of a stream.
fn words<W: TorusWord>(mut generator: impl RandomGenerator, count: usize) -> Vec<W> {
    let mut word = || {
        let bytes = std::array::from_fn(|i| match i < W::BITS as usize / 8 {
            true => generator.next_byte().expect("a fresh generator yields 2^132 bytes"),
            false => 0,
        });
        W::from_u64(u64::from_le_bytes(bytes))
    };
    (0..count).map(|_| word()).collect()
}

/// Whether [`DefaultRandomGenerator`] runs here: on x86-64 and AArch64 it panics without these instructions.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = is_x86_feature_detected!("aes") && is_x86_feature_detected!("sse2");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("neon");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has = true;
    has
}

fn xof_seed(set: &ParameterSet, epoch: &EpochSeed, id: MaskId) -> XofSeed {
    let digest = Sha256::new()
        .chain_update(b"lowkey-he/mask/v2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
        .chain_update(epoch.0)
        .chain_update([set.id])
        .chain_update(id.layer.to_le_bytes())
        .chain_update(id.ciphertext.to_le_bytes())
        .finalize();
    XofSeed::new(digest.to_vec(), *b"LowkeyHE")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{ALL, T32N1024, T32N2048, T64N2048};

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

    const GOLDEN32: [u8; 16] = [56, 69, 212, 107, 94, 149, 47, 135, 96, 11, 50, 28, 254, 86, 89, 254];
    const GOLDEN64: [u64; 2] = [10345657999059110192, 6460415434476103404];

    /// The generator sees nothing that whoever picks the epoch could choose: a digest of it, not the seed itself.
    #[test]
    fn the_generator_is_seeded_by_a_digest() {
        let epoch = EpochSeed(std::array::from_fn(|i| i as u8));
        let seed = xof_seed(&T32N2048, &epoch, MaskId { layer: 0x0102_0304, ciphertext: 5 });
        let mut input = [0; 73];
        input[..17].copy_from_slice(b"lowkey-he/mask/v2");
        input[32..64].copy_from_slice(&epoch.0);
        input[64..].copy_from_slice(&[T32N2048.id, 4, 3, 2, 1, 5, 0, 0, 0]);
        assert_eq!(seed.seed(), Sha256::digest(input).as_slice());
        assert!(!seed.bytes().windows(8).any(|window| window == &epoch.0[8..16]));
    }

    /// As on a processor without AES instructions.
    #[test]
    fn masks_without_aes_instructions_are_the_same() {
        let (epoch, id) = (EpochSeed([3; 32]), MaskId { layer: 0, ciphertext: 0 });
        let ring = Ring::<u64>::shared(&T64N2048).unwrap();
        assert_eq!(
            Mask::expand_on(ring, &epoch, id, false).coefficients(),
            Mask::expand(ring, &epoch, id).coefficients()
        );
        let ring = Ring::<u32>::shared(&T32N2048).unwrap();
        assert_eq!(
            Mask::expand_on(ring, &epoch, id, false).coefficients(),
            Mask::expand(ring, &epoch, id).coefficients()
        );
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
