//! `k ^ b Delta = m`: correlated OTs from silent OT extension, 1.37 bits each on the wire.
//!
//! Ferret [YWLZW20] with regular noise and the trees of [GYW+23], semi-honest. A batch turns [`SEED`] correlated OTs
//! into [`OUTPUTS`]; the last [`SEED`] of these are the seed of the next batch, the others are usable.
//!
//! ```text
//! sender (Delta; seed keys k)                         receiver (seed keys m, choices b = lsb(m))
//! tree j: leaves v, sums c from the OTs               tree j: leaves w, v ^ e Delta = w; e has a single one, at the
//! 65536 + 10 j ..                  -- all c -->       place that the choices of these OTs spell
//! k' = A k ^ v                                        m' = A m ^ w,  so that k' ^ b' Delta = m' with b' = A b ^ e
//! ```
//!
//! `A` is the public matrix of `lpn.rs`, applied to the first 65536 seed keys. That the choices `b'` are
//! pseudo-random is the LPN assumption with regular noise: [`TREES`] errors, one in each block of 1024
//! samples, dimension 65536, the preset that emp-ot ships for 128 bits.
//!
//! A message carries no secret that is used twice: each step takes the state by value, so it cannot run twice on the
//! same seed.
//!
//! [GYW+23]: crate#references
//! [YWLZW20]: crate#references

use super::half_tree::{self, LEAVES};
use super::lpn::{self, Matrices, Table};
use crate::block::{Block, Delta};
use crate::error::{Error, Result};
use crate::hash::CcrHash;
use crate::prg::Prg;
use zeroize::{Zeroize, Zeroizing};

/// Trees of a batch: the weight `t` of the noise.
pub const TREES: usize = 850;

/// Correlated OTs that a batch makes, `n`.
pub const OUTPUTS: usize = TREES * LEAVES;

/// OTs spent on the sums of the trees.
const TREE_OTS: usize = TREES * half_tree::DEPTH;

/// Correlated OTs that a batch starts from: `k` for the matrix, then 10 for each tree.
pub const SEED: usize = lpn::COLUMNS + TREE_OTS;

/// Correlated OTs that a batch yields.
pub const USABLE: usize = OUTPUTS - SEED;

/// Version of the message format.
const VERSION: u8 = 1;

/// Bytes before the sums: version, reserved, length of the check, index.
const PREFIX_BYTES: usize = 1 + 1 + 2 + 8;

/// The sender's message of one batch.
///
/// ```text
/// byte  0        1         2..4            4..12                    12..                    then
///       version  reserved  length of the   index of the first       850 x 10 blocks c       the check
///                = 0       check = 0       usable OT of the batch
/// ```
///
/// The check is the place for Ferret's consistency check against malicious parties (a coefficient and a hash from each
/// side). It has length zero: this version is semi-honest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchMessage {
    first: u64,
    sums: Vec<[Block; half_tree::DEPTH]>,
}

impl BatchMessage {
    /// Bytes of the message.
    pub const BYTES: usize = PREFIX_BYTES + TREE_OTS * Block::BYTES;

    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(bytemuck::cast_slice(self.sums.as_flattened()));
        bytes
    }

    /// Reads a message whose first usable OT must have index `first`.
    ///
    /// # Errors
    /// [`Error::Protocol`] if length, version, length of the check, or index differ.
    pub fn decode(bytes: &[u8], first: u64) -> Result<Self> {
        if bytes.len() != Self::BYTES {
            return Err(Error::protocol("length of an OT batch", Self::BYTES, bytes.len()));
        }
        let (prefix, sums) = bytes.split_at(PREFIX_BYTES);
        if prefix[0] != VERSION || prefix[1] != 0 {
            return Err(Error::protocol("version of an OT batch", VERSION, format_args!("{:?}", &prefix[..2])));
        }
        let check = u16::from_le_bytes([prefix[2], prefix[3]]);
        if check != 0 {
            return Err(Error::protocol("check length of an OT batch", 0, check));
        }
        let found = u64::from_le_bytes(std::array::from_fn(|i| prefix[4 + i]));
        if found != first {
            return Err(Error::protocol("first index of an OT batch", first, found));
        }
        Ok(Self {
            first,
            sums: sums.chunks_exact(half_tree::DEPTH * Block::BYTES).map(bytemuck::pod_read_unaligned).collect(),
        })
    }
}

/// The seed keys of one party, wiped when dropped.
struct Seed {
    table: Box<Table>,
    trees: Vec<[Block; half_tree::DEPTH]>,
}

impl Seed {
    fn new(keys: &[Block]) -> Self {
        assert_eq!(keys.len(), SEED, "a batch starts from a fixed number of OTs");
        let mut seed = Self {
            table: vec![Block::ZERO; lpn::COLUMNS].try_into().expect("the length of a table"),
            trees: vec![[Block::ZERO; half_tree::DEPTH]; TREES],
        };
        seed.replace(keys);
        seed
    }

    fn replace(&mut self, keys: &[Block]) {
        let (table, trees) = keys.split_at(lpn::COLUMNS);
        self.table.copy_from_slice(table);
        self.trees.as_flattened_mut().copy_from_slice(trees);
    }

    /// Moves the last outputs of a batch into the seed of the next.
    fn refill(&mut self, out: &mut Vec<Block>) {
        let usable = out.len() - SEED;
        self.replace(&out[usable..]);
        out[usable..].zeroize();
        out.truncate(usable);
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        self.table.zeroize();
        self.trees.as_flattened_mut().zeroize();
    }
}

/// What both roles keep between batches.
struct Common {
    seed: Seed,
    matrices: Matrices,
    hash: CcrHash,
    batch: u64,
}

impl Common {
    fn new(seed: &[Block], matrices: Block) -> Self {
        Self { seed: Seed::new(seed), matrices: Matrices::new(matrices), hash: CcrHash::new(), batch: 0 }
    }

    /// The index of the first usable OT of this batch.
    fn first(&self) -> u64 {
        self.batch * USABLE as u64
    }
}

/// The sender between two batches.
pub struct Sender {
    common: Common,
    delta: Delta,
}

impl Sender {
    /// A sender with its halves of [`SEED`] correlated OTs, and a public seed for the matrices.
    ///
    /// # Panics
    /// If `seed` has another length.
    #[must_use]
    pub fn new(delta: Delta, seed: &[Block], matrices: Block) -> Self {
        Self { common: Common::new(seed, matrices), delta }
    }

    /// The correlation.
    #[must_use]
    pub fn delta(&self) -> &Delta {
        &self.delta
    }

    /// Grows the trees, from roots that must come from a secret random stream, and appends their leaves to `out`.
    #[must_use]
    pub fn grow(self, roots: &mut Prg, out: &mut Vec<Block>) -> (GrownSender, BatchMessage) {
        let Common { seed, hash, .. } = &self.common;
        let mut root = Zeroizing::new([Block::ZERO; TREES]);
        roots.fill(&mut *root);
        let mut leaves = Zeroizing::new([Block::ZERO; LEAVES]);
        let mut sums = Vec::with_capacity(TREES);
        for (&root, keys) in root.iter().zip(&seed.trees) {
            let left = half_tree::grow(hash, &self.delta, root, &mut leaves);
            sums.push(std::array::from_fn(|i| left[i] ^ keys[i]));
            out.extend_from_slice(&*leaves);
        }
        let message = BatchMessage { first: self.common.first(), sums };
        (GrownSender(self), message)
    }
}

/// The sender after its message.
pub struct GrownSender(Sender);

impl GrownSender {
    /// Turns the leaves at the end of `out` into [`USABLE`] keys.
    ///
    /// # Panics
    /// If `out` does not end with the leaves that [`Sender::grow`] appended.
    #[must_use]
    pub fn finish(self, out: &mut Vec<Block>) -> Sender {
        let Self(mut sender) = self;
        let common = &mut sender.common;
        let start = out.len() - OUTPUTS;
        common.matrices.add_product(common.batch, 0, &common.seed.table, &mut out[start..]);
        common.seed.refill(out);
        common.batch += 1;
        sender
    }
}

/// The receiver between two batches.
pub struct Receiver {
    common: Common,
}

impl Receiver {
    /// A receiver with its halves of [`SEED`] correlated OTs, and the same public seed as the sender's.
    ///
    /// # Panics
    /// If `seed` has another length.
    #[must_use]
    pub fn new(seed: &[Block], matrices: Block) -> Self {
        Self { common: Common::new(seed, matrices) }
    }

    /// The index that the next message must have.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.common.first()
    }

    /// Appends the [`USABLE`] keys of one batch to `out`.
    #[must_use]
    pub fn extend(mut self, message: &BatchMessage, out: &mut Vec<Block>) -> Self {
        let common = &mut self.common;
        let mut leaves = Zeroizing::new([Block::ZERO; LEAVES]);
        for (tree, (keys, sums)) in common.seed.trees.iter().zip(&message.sums).enumerate() {
            let alpha = std::array::from_fn(|i| 1 - keys[i].lsb());
            let known = std::array::from_fn(|i| sums[i] ^ keys[i]);
            half_tree::puncture(&common.hash, &alpha, &known, &mut leaves);
            common.matrices.add_product(common.batch, tree * LEAVES, &common.seed.table, &mut *leaves);
            out.extend_from_slice(&*leaves);
        }
        common.seed.refill(out);
        common.batch += 1;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    const MATRICES: Block = Block::new(3, 4);

    /// Both roles after an ideal set-up, and the roots of the sender's trees.
    fn pair(seed: u64) -> (Sender, Receiver, Prg) {
        let rng = &mut ChaCha20Rng::seed_from_u64(seed);
        let delta = Delta::random(rng);
        let k: Vec<_> = (0..SEED).map(|_| Block::random(rng).with_lsb(0)).collect();
        let m: Vec<_> = k.iter().map(|&k| k ^ delta.times(Block::random(rng).lsb())).collect();
        (Sender::new(delta, &k, MATRICES), Receiver::new(&m, MATRICES), Prg::from_rng(rng))
    }

    fn broken(k: &[Block], m: &[Block], delta: &Delta) -> usize {
        k.iter().zip(m).filter(|&(&k, &m)| k ^ delta.times(m.lsb()) != m).count()
    }

    #[test]
    fn every_output_of_several_batches_is_correlated() {
        let (mut sender, mut receiver, mut roots) = pair(1);
        let (mut k, mut m) = (Vec::new(), Vec::new());
        for batch in 1..=3 {
            let (grown, message) = sender.grow(&mut roots, &mut k);
            let bytes = message.encode();
            assert_eq!(bytes.len(), BatchMessage::BYTES);
            sender = grown.finish(&mut k);
            let message = BatchMessage::decode(&bytes, receiver.first()).unwrap();
            receiver = receiver.extend(&message, &mut m);
            assert_eq!((k.len(), m.len()), (batch * USABLE, batch * USABLE));
        }
        assert_eq!(broken(&k, &m, sender.delta()), 0);
        assert!(k.iter().all(|k| k.lsb() == 0));
        let ones = m.iter().filter(|m| m.lsb() == 1).count() as f64;
        let sigma = (m.len() as f64).sqrt() / 2.0;
        assert!((ones - m.len() as f64 / 2.0).abs() < 6.0 * sigma, "{ones} ones");
        let mut sorted: Vec<_> = k.iter().map(|&k| u128::from(k)).collect();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[0] != pair[1]), "a key occurs twice");
    }

    #[test]
    fn a_flipped_bit_of_a_message_breaks_the_correlation() {
        // A bit of tree 3, level 5. In the batch it reaches some leaves of the tree only; the next batch starts from outputs
        // of the last trees, so flip there to see it spread.
        for (tree, spreads) in [(3, false), (TREES - 1, true)] {
            let (sender, receiver, mut roots) = pair(2);
            let (mut k, mut m) = (Vec::new(), Vec::new());
            let (grown, message) = sender.grow(&mut roots, &mut k);
            let sender = grown.finish(&mut k);
            let mut bytes = message.encode();
            bytes[PREFIX_BYTES + (tree * half_tree::DEPTH + 5) * Block::BYTES + 7] ^= 0x10;
            let message = BatchMessage::decode(&bytes, 0).unwrap();
            let receiver = receiver.extend(&message, &mut m);
            let first = broken(&k, &m, sender.delta());
            assert_eq!(first > 0, !spreads);
            assert!(first < LEAVES);

            let (grown, message) = sender.grow(&mut roots, &mut k);
            let sender = grown.finish(&mut k);
            let _receiver = receiver.extend(&message, &mut m);
            let both = broken(&k, &m, sender.delta());
            assert!(if spreads { both > 1000 } else { both == first }, "{first}, {both}");
        }
    }

    #[test]
    fn the_header_of_a_message_is_checked() {
        let (sender, _, mut roots) = pair(3);
        let (_, message) = sender.grow(&mut roots, &mut Vec::new());
        let good = message.encode();
        assert_eq!(BatchMessage::decode(&good, 0).unwrap(), message);
        let fault = |bytes: &[u8], first| match BatchMessage::decode(bytes, first) {
            Err(Error::Protocol { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        assert_eq!(fault(&good[1..], 0), "length of an OT batch");
        assert_eq!(fault(&[&good[..], &[0]].concat(), 0), "length of an OT batch");
        assert_eq!(fault(&[], 0), "length of an OT batch");
        assert_eq!(fault(&with(0, 2), 0), "version of an OT batch");
        assert_eq!(fault(&with(1, 1), 0), "version of an OT batch");
        assert_eq!(fault(&with(3, 1), 0), "check length of an OT batch");
        assert_eq!(fault(&with(11, 1), 0), "first index of an OT batch");
        assert_eq!(fault(&good, USABLE as u64), "first index of an OT batch");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn garbage_is_refused_without_panic(seed: u64, prefix: [u8; PREFIX_BYTES]) {
            let mut bytes = vec![seed as u8; BatchMessage::BYTES];
            bytes[..PREFIX_BYTES].copy_from_slice(&prefix);
            if let Ok(message) = BatchMessage::decode(&bytes, seed) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }
}
