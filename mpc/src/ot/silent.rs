//! `k ^ b Delta = m`: correlated OTs from silent OT extension, 0.73 bits each on the wire.
//!
//! Ferret [YWLZW20] with regular noise and the trees of [GYW+23], semi-honest. A batch turns a seed of correlated OTs, k for the
//! matrix and d for each of t trees, into n = t 2^d; the last ones are the seed of the next batch, the others are usable.
//!
//! ```text
//! sender (Delta; seed keys k)                         receiver (seed keys m, choices b = lsb(m))
//! tree j: leaves v, sums c from the OTs               tree j: leaves w, v ^ e Delta = w; e has a single one, at the
//! k + d j ..                       -- all c -->       place that the choices of these OTs spell
//! k' = A k ^ v                                        m' = A m ^ w,  so that k' ^ b' Delta = m' with b' = A b ^ e
//! ```
//!
//! `A` is the public matrix of `lpn.rs`, applied to the first k seed keys. That the choices `b'` are pseudo-random is the LPN
//! assumption with regular noise: t errors, one in each block of 2^d samples, dimension k. The [`Preset`]s are two that emp-ot
//! ships for 128 bits:
//!
//! | preset | n | k | t | d | bits per usable OT | for |
//! |---|---|---|---|---|---|---|
//! | [`FIRST`] | 870,400 | 65,536 | 850 | 10 | 1.50 | the first batch, whose seed costs 31 bits per OT |
//! | [`LATER`] | 2,396,160 | 131,072 | 1,170 | 11 | 0.73 | all others, whose seed is left from the batch before |
//!
//! In both, 2^d is n / t, and k samples are free of errors with probability (1 - t/n)^k = e^-64, 2^-92.
//!
//! A message carries no secret that is used twice: each step takes the state by value, so it cannot run twice on the
//! same seed.
//!
//! [GYW+23]: crate#references
//! [YWLZW20]: crate#references

use super::half_tree;
use super::lpn::{FEW_COLUMNS, MANY_COLUMNS, Matrices};
use crate::block::{Block, Delta};
use crate::error::{Error, Result};
use crate::hash::CcrHash;
use crate::prg::Prg;
use zeroize::{Zeroize, Zeroizing};

/// The size of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// t: trees, and the weight of the noise.
    pub trees: usize,
    /// d: levels of a tree.
    pub depth: usize,
    /// k: columns of the matrix.
    pub columns: usize,
}

/// The first batch of a session.
pub const FIRST: Preset = Preset { trees: 850, depth: FEW_LEVELS, columns: FEW_COLUMNS };

/// Every other batch.
pub const LATER: Preset = Preset { trees: 1170, depth: MANY_LEVELS, columns: MANY_COLUMNS };

/// Levels of the small trees.
const FEW_LEVELS: usize = 10;

/// Levels of the large trees.
const MANY_LEVELS: usize = 11;

/// Correlated OTs that a session's first batch starts from.
pub const SEED: usize = FIRST.seed();

impl Preset {
    /// Of the batch whose first usable OT has this index.
    #[must_use]
    pub const fn at(index: u64) -> Self {
        if index == 0 { FIRST } else { LATER }
    }

    /// n: correlated OTs that the batch makes.
    #[must_use]
    pub const fn outputs(self) -> usize {
        self.trees << self.depth
    }

    /// Correlated OTs that the batch starts from.
    #[must_use]
    pub const fn seed(self) -> usize {
        self.columns + self.tree_ots()
    }

    /// Correlated OTs that the batch yields: all but the seed of the next.
    #[must_use]
    pub const fn usable(self) -> usize {
        self.outputs() - LATER.seed()
    }

    /// Bytes of the message.
    #[must_use]
    pub const fn message_bytes(self) -> usize {
        PREFIX_BYTES + self.tree_ots() * Block::BYTES
    }

    /// OTs spent on the sums of the trees.
    const fn tree_ots(self) -> usize {
        self.trees * self.depth
    }
}

/// Version of the message format.
const VERSION: u8 = 1;

/// Bytes before the sums: version, reserved, length of the check, index.
const PREFIX_BYTES: usize = 1 + 1 + 2 + 8;

/// The sender's message of one batch.
///
/// ```text
/// byte  0        1         2..4            4..12                    12..                    then
///       version  reserved  length of the   index of the first       t x d blocks c          the check
///                = 0       check = 0       usable OT of the batch
/// ```
///
/// The check is the place for Ferret's consistency check against malicious parties (a coefficient and a hash from each
/// side). It has length zero: this version is semi-honest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchMessage {
    first: u64,
    /// d for each tree.
    sums: Vec<Block>,
}

impl BatchMessage {
    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Preset::at(self.first).message_bytes());
        bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(bytemuck::cast_slice(&self.sums));
        bytes
    }

    /// Reads a message whose first usable OT must have index `first`.
    ///
    /// # Errors
    /// [`Error::Protocol`] if length, version, length of the check, or index differ.
    pub fn decode(bytes: &[u8], first: u64) -> Result<Self> {
        let expected = Preset::at(first).message_bytes();
        if bytes.len() != expected {
            return Err(Error::protocol("length of an OT batch", expected, bytes.len()));
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
        Ok(Self { first, sums: sums.chunks_exact(Block::BYTES).map(bytemuck::pod_read_unaligned).collect() })
    }
}

/// The seed keys of one party, wiped when dropped.
struct Seed {
    preset: Preset,
    keys: Vec<Block>,
}

impl Seed {
    fn new(preset: Preset, keys: &[Block]) -> Self {
        assert_eq!(keys.len(), preset.seed(), "a batch starts from a fixed number of OTs");
        Self { preset, keys: keys.to_vec() }
    }

    fn table(&self) -> &[Block] {
        &self.keys[..self.preset.columns]
    }

    /// The keys of all trees.
    fn trees(&self) -> &[Block] {
        &self.keys[self.preset.columns..]
    }

    /// Moves the last outputs of a batch into the seed of the next.
    fn refill(&mut self, out: &mut Vec<Block>) {
        let usable = out.len() - LATER.seed();
        let next = Self::new(LATER, &out[usable..]);
        *self = next;
        out[usable..].zeroize();
        out.truncate(usable);
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        self.keys.zeroize();
    }
}

/// What both roles keep between batches.
struct Common {
    seed: Seed,
    matrices: Matrices,
    hash: CcrHash,
    batch: u64,
    /// The index of the first usable OT of this batch.
    first: u64,
}

impl Common {
    fn new(seed: &[Block], matrices: Block) -> Self {
        let matrices = Matrices::new(matrices);
        Self { seed: Seed::new(FIRST, seed), matrices, hash: CcrHash::new(), batch: 0, first: 0 }
    }

    /// Goes on to the next batch.
    fn advance(&mut self, out: &mut Vec<Block>) {
        self.batch += 1;
        self.first += self.seed.preset.usable() as u64;
        self.seed.refill(out);
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

    /// The index that the next message has.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.common.first
    }

    /// Grows the trees, from roots that must come from a secret random stream, and appends their leaves to `out`.
    #[must_use]
    pub fn grow(self, roots: &mut Prg, out: &mut Vec<Block>) -> (GrownSender, BatchMessage) {
        let sums = match self.common.seed.preset.depth {
            FEW_LEVELS => self.grow_trees::<FEW_LEVELS>(roots, out),
            _ => self.grow_trees::<MANY_LEVELS>(roots, out),
        };
        let message = BatchMessage { first: self.common.first, sums };
        (GrownSender(self), message)
    }

    fn grow_trees<const DEPTH: usize>(&self, roots: &mut Prg, out: &mut Vec<Block>) -> Vec<Block> {
        let Common { seed, hash, .. } = &self.common;
        let mut root = Zeroizing::new(vec![Block::ZERO; seed.preset.trees]);
        roots.fill(&mut root);
        let mut leaves = Zeroizing::new(vec![Block::ZERO; 1 << DEPTH]);
        let mut sums = Vec::with_capacity(seed.preset.tree_ots());
        for (&root, keys) in root.iter().zip(seed.trees().as_chunks::<DEPTH>().0) {
            let left: [Block; DEPTH] = half_tree::grow(hash, &self.delta, root, &mut leaves);
            sums.extend(left.iter().zip(keys).map(|(&left, &key)| left ^ key));
            out.extend_from_slice(&leaves);
        }
        sums
    }
}

/// The sender after its message.
pub struct GrownSender(Sender);

impl GrownSender {
    /// Turns the leaves at the end of `out` into [`Preset::usable`] keys.
    ///
    /// # Panics
    /// If `out` does not end with the leaves that [`Sender::grow`] appended.
    #[must_use]
    pub fn finish(self, out: &mut Vec<Block>) -> Sender {
        let Self(mut sender) = self;
        let common = &mut sender.common;
        let start = out.len() - common.seed.preset.outputs();
        common.matrices.add_product(common.batch, 0, common.seed.table(), &mut out[start..]);
        common.advance(out);
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
        self.common.first
    }

    /// Appends the [`Preset::usable`] keys of one batch to `out`.
    #[must_use]
    pub fn extend(mut self, message: &BatchMessage, out: &mut Vec<Block>) -> Self {
        match self.common.seed.preset.depth {
            FEW_LEVELS => self.puncture_trees::<FEW_LEVELS>(message, out),
            _ => self.puncture_trees::<MANY_LEVELS>(message, out),
        }
        self.common.advance(out);
        self
    }

    fn puncture_trees<const DEPTH: usize>(&self, message: &BatchMessage, out: &mut Vec<Block>) {
        let Common { seed, matrices, hash, batch, .. } = &self.common;
        let mut leaves = Zeroizing::new(vec![Block::ZERO; 1 << DEPTH]);
        let (keys, sums) = (seed.trees().as_chunks::<DEPTH>().0, message.sums.as_chunks::<DEPTH>().0);
        for (tree, (keys, sums)) in keys.iter().zip(sums).enumerate() {
            let alpha: [u8; DEPTH] = std::array::from_fn(|i| 1 - keys[i].lsb());
            let known: [Block; DEPTH] = std::array::from_fn(|i| sums[i] ^ keys[i]);
            half_tree::puncture(hash, &alpha, &known, &mut leaves);
            matrices.add_product(*batch, tree << DEPTH, seed.table(), &mut leaves);
            out.extend_from_slice(&leaves);
        }
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
    fn presets_are_those_of_the_table() {
        assert_eq!((FIRST.outputs(), FIRST.seed(), FIRST.usable()), (870_400, 74_036, 726_458));
        assert_eq!((LATER.outputs(), LATER.seed(), LATER.usable()), (2_396_160, 143_942, 2_252_218));
        let bits = |preset: Preset| 8.0 * preset.message_bytes() as f64 / preset.usable() as f64;
        assert!((bits(FIRST) - 1.498).abs() < 0.001 && (bits(LATER) - 0.7315).abs() < 0.001);
        for preset in [FIRST, LATER] {
            let rate = preset.trees as f64 / preset.outputs() as f64;
            assert!(preset.columns as f64 * (1.0 - rate).log2() < -92.0, "{preset:?}");
        }
    }

    #[test]
    fn every_output_of_several_batches_is_correlated() {
        let (mut sender, mut receiver, mut roots) = pair(1);
        let (mut k, mut m) = (Vec::new(), Vec::new());
        for batch in 0..3 {
            let preset = if batch == 0 { FIRST } else { LATER };
            let (grown, message) = sender.grow(&mut roots, &mut k);
            let bytes = message.encode();
            assert_eq!(bytes.len(), preset.message_bytes());
            sender = grown.finish(&mut k);
            let message = BatchMessage::decode(&bytes, receiver.first()).unwrap();
            receiver = receiver.extend(&message, &mut m);
            let usable = FIRST.usable() + batch * LATER.usable();
            assert_eq!((k.len(), m.len()), (usable, usable));
            assert_eq!((sender.first(), receiver.first()), (usable as u64, usable as u64));
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
        // A bit of tree 3, level 5. In the batch it reaches some leaves of the tree only; the next batch multiplies outputs
        // of late trees by its matrix, so flip there to see it spread.
        for (tree, spreads) in [(3, false), (FIRST.trees - 100, true)] {
            let (sender, receiver, mut roots) = pair(2);
            let (mut k, mut m) = (Vec::new(), Vec::new());
            let (grown, message) = sender.grow(&mut roots, &mut k);
            let sender = grown.finish(&mut k);
            let mut bytes = message.encode();
            bytes[PREFIX_BYTES + (tree * FIRST.depth + 5) * Block::BYTES + 7] ^= 0x10;
            let message = BatchMessage::decode(&bytes, 0).unwrap();
            let receiver = receiver.extend(&message, &mut m);
            let first = broken(&k, &m, sender.delta());
            assert_eq!(first > 0, !spreads);
            assert!(first < 1 << FIRST.depth);

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
        assert_eq!(fault(&good, FIRST.usable() as u64), "length of an OT batch");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn garbage_is_refused_without_panic(seed: u64, prefix: [u8; PREFIX_BYTES]) {
            for first in [0, seed] {
                let mut bytes = vec![seed as u8; Preset::at(first).message_bytes()];
                bytes[..PREFIX_BYTES].copy_from_slice(&prefix);
                if let Ok(message) = BatchMessage::decode(&bytes, first) {
                    prop_assert_eq!(message.encode(), bytes);
                }
            }
        }
    }
}
