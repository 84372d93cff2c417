//! `K ^ u Delta = M`: correlated OTs for 15 bits each, the bootstrap of silent OT.
//!
//! SoftSpokenOT [Roy22] with `k = 8` and the repetition code, against malicious parties. Notation: `F = F_2^8`; the block
//! `Delta` is 16 elements `Delta_j` of `F`; a vector over `F` is stored as 8 bit vectors (planes).
//!
//! ```text
//! receiver                                            sender (Delta)
//! base OT sender                                      base OT receiver, OT 8 j + i has choice 1 - Delta_{j,i}
//! tree j: all leaf streams r_x, x in F                tree j: all but r_{Delta_j}
//! u_j = sum_x r_x,  v_j = sum_x x r_x                 w_j = sum_x (x + Delta_j) r_x  =  Delta_j u_j + v_j
//! d_j = u_j + u_0, j = 1..15      -- sums, d -->      w_j + Delta_j d_j  =  Delta_j u_0 + v_j
//! tags of the leaves, R(u_0), R(v)  -- check -->      tags and R(w) = R(v) + Delta R(u_0), or abort
//! M = the columns of v                                K = the columns of w
//! u = u_0, the choice bits
//! ```
//!
//! Column `i` of the 128 planes is key `i`. The least significant bit of `Delta` is 1; overwriting those of `K` by 0
//! and of `M` by `u` keeps the correlation and makes the choice bit part of the key. What is checked, and how, is in
//! `consistency.rs`. A malicious sender has no message to send, and its choices of base OTs only choose `Delta`.
//!
//! [Roy22]: crate#references

use super::coins::Coins;
use super::consistency::{HIDING_BLOCKS, LinearCheck, LinearHash, Tags, TreeCheck};
use super::ggm::{self, LEAVES, Sums};
use super::transpose::transpose;
use crate::error::{Error, Result};
use crate::primitive::block::{Block, Delta};
use crate::primitive::hash::TccrHash;
use crate::primitive::prg::KeyedStreams;
use rayon::prelude::*;
use subtle::Choice;
use zeroize::Zeroizing;

/// Number of base OTs.
pub const BASE_OTS: usize = 128;

/// Trees, and elements of `F` in `Delta`.
const TREES: usize = BASE_OTS / ggm::DEPTH;

/// Blocks of a stream that are made at a time.
const CHUNK: usize = 64;

/// The receiver's only message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    sums: Vec<Sums>,
    trees: TreeCheck,
    /// `d_1, ..., d_15`, each of as many blocks as columns / 128.
    d: Vec<Block>,
    linear: LinearCheck,
}

impl Correction {
    /// Bytes of the message for `blocks * 128` OTs.
    #[must_use]
    pub const fn bytes(blocks: usize) -> usize {
        Self::sums_bytes()
            + TreeCheck::bytes(TREES)
            + (TREES - 1) * (blocks + HIDING_BLOCKS) * Block::BYTES
            + LinearCheck::bytes(BASE_OTS)
    }

    const fn sums_bytes() -> usize {
        TREES * size_of::<Sums>()
    }

    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::bytes(self.d.len() / (TREES - 1)));
        bytes.extend_from_slice(bytemuck::cast_slice(self.sums.as_flattened().as_flattened()));
        self.trees.encode(&mut bytes);
        bytes.extend_from_slice(bytemuck::cast_slice(&self.d));
        self.linear.encode(&mut bytes);
        bytes
    }

    /// Reads the message for `blocks * 128` OTs.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the length is another.
    pub fn decode(bytes: &[u8], blocks: usize) -> Result<Self> {
        if bytes.len() != Self::bytes(blocks) {
            return Err(Error::protocol("length of an OT correction", Self::bytes(blocks), bytes.len()));
        }
        let (sums, rest) = bytes.split_at(Self::sums_bytes());
        let (trees, rest) = rest.split_at(TreeCheck::bytes(TREES));
        let (d, linear) = rest.split_at(rest.len() - LinearCheck::bytes(BASE_OTS));
        Ok(Self {
            sums: sums.chunks_exact(size_of::<Sums>()).map(bytemuck::pod_read_unaligned).collect(),
            trees: TreeCheck::decode(trees),
            d: d.chunks_exact(Block::BYTES).map(bytemuck::pod_read_unaligned).collect(),
            linear: LinearCheck::decode(linear),
        })
    }

    /// The linear hash that everything before the linear check leads to.
    fn hash(coins: &Coins, sums: &[Sums], trees: &TreeCheck, d: &[Block]) -> LinearHash {
        let mut check = Vec::with_capacity(TreeCheck::bytes(TREES));
        trees.encode(&mut check);
        LinearHash::new(
            coins,
            &[bytemuck::cast_slice(sums.as_flattened().as_flattened()), &check, bytemuck::cast_slice(d)],
        )
    }
}

/// The receiver's keys `M` of `blocks * 128` OTs, from both keys of every base OT.
///
/// # Panics
/// If there are not [`BASE_OTS`] pairs of keys.
#[must_use]
pub fn receive(base: &[[Block; 2]], coins: &Coins, blocks: usize) -> (Zeroizing<Vec<Block>>, Correction) {
    assert_eq!(base.len(), BASE_OTS, "one base OT for each bit of delta");
    let all = blocks + HIDING_BLOCKS;
    let mut planes = Zeroizing::new(vec![Block::ZERO; BASE_OTS * all]);
    let mut u = Zeroizing::new(vec![Block::ZERO; TREES * all]);
    let trees = base.par_chunks_exact(ggm::DEPTH).zip(planes.par_chunks_exact_mut(ggm::DEPTH * all));
    let trees = trees.zip(u.par_chunks_exact_mut(all)).enumerate().map(|(tree, ((keys, planes), u))| {
        let (leaves, sums) = ggm::grow(&tree_hash(coins, tree), tree, keys);
        sum_streams(coins, &leaves, planes, u);
        (leaves, sums)
    });
    let (leaves, sums): (Vec<_>, Vec<_>) = trees.collect();
    let mut tags = Tags::new(coins);
    let tag_sums = leaves.iter().enumerate().map(|(tree, leaves)| tags.whole(tree, leaves)).collect();
    let trees = TreeCheck { sums: tag_sums, all: tags.finish() };
    let (u_0, others) = u.split_at(all);
    let d = others.chunks_exact(all).flat_map(|u_j| u_j.iter().zip(u_0).map(|(&a, &b)| a ^ b));
    let d: Vec<Block> = d.collect();

    let hash = Correction::hash(coins, &sums, &trees, &d);
    let linear =
        LinearCheck { choices: hash.of(u_0), planes: planes.par_chunks_exact(all).map(|v| hash.of(v)).collect() };
    let mut keys = columns(&planes, all, blocks);
    for (i, key) in keys.iter_mut().enumerate() {
        *key = key.with_lsb((u128::from(u_0[i / 128]) >> (i % 128) & 1) as u8);
    }
    (keys, Correction { sums, trees, d, linear })
}

/// The sender's keys `K` of `blocks * 128` OTs, from the keys of the choices of the base OTs.
///
/// # Panics
/// If there are not [`BASE_OTS`] keys.
///
/// # Errors
/// [`Error::Protocol`] if the message is for another number of OTs, or fails a check. Which of them is not said: the answer to a
/// receiver that guesses bits of `Delta` is one bit.
pub fn send(
    base: &[Block],
    delta: &Delta,
    correction: &Correction,
    coins: &Coins,
    blocks: usize,
) -> Result<Zeroizing<Vec<Block>>> {
    assert_eq!(base.len(), BASE_OTS, "one base OT for each bit of delta");
    let all = blocks + HIDING_BLOCKS;
    if correction.sums.len() != TREES || correction.d.len() != (TREES - 1) * all {
        return Err(Error::protocol("blocks of an OT correction", (TREES - 1) * all, correction.d.len()));
    }
    let bits = delta_bits(delta);
    let mut planes = Zeroizing::new(vec![Block::ZERO; BASE_OTS * all]);
    let trees = base.par_chunks_exact(ggm::DEPTH).zip(bits.par_chunks_exact(ggm::DEPTH));
    let trees = trees.zip(planes.par_chunks_exact_mut(ggm::DEPTH * all)).zip(&correction.sums).enumerate();
    let leaves: Vec<_> = trees
        .map(|(tree, (((keys, y), planes), sums))| {
            // Position p holds the leaf p + Delta_j, so the coefficient of its stream is p.
            let leaves = ggm::puncture(&tree_hash(coins, tree), tree, y, keys, sums);
            sum_streams(coins, &leaves, planes, &mut Zeroizing::new(vec![Block::ZERO; all]));
            if tree > 0 {
                let d = &correction.d[(tree - 1) * all..][..all];
                for (plane, &bit) in planes.chunks_exact_mut(all).zip(y) {
                    for (w, &d) in plane.iter_mut().zip(d) {
                        *w ^= d & Block::splat(bit);
                    }
                }
            }
            leaves
        })
        .collect();

    let mut tags = Tags::new(coins);
    for (tree, (leaves, y)) in leaves.iter().zip(bits.chunks_exact(ggm::DEPTH)).enumerate() {
        tags.punctured(tree, y, leaves, &correction.trees.sums[tree]);
    }
    let mut honest = subtle::ConstantTimeEq::ct_eq(&tags.finish()[..], &correction.trees.all[..]);
    let hash = Correction::hash(coins, &correction.sums, &correction.trees, &correction.d);
    let hashes: Zeroizing<Vec<_>> = Zeroizing::new(planes.par_chunks_exact(all).map(|w| hash.of(w)).collect());
    for (i, &hashed) in hashes.iter().enumerate() {
        honest &= correction.linear.holds(i, bits[i], hashed);
    }
    check(honest)?;

    let mut keys = columns(&planes, all, blocks);
    for key in keys.iter_mut() {
        *key = key.with_lsb(0);
    }
    Ok(keys)
}

fn check(honest: Choice) -> Result<()> {
    match bool::from(honest) {
        true => Ok(()),
        false => Err(Error::protocol("check of an OT correction", "that of one set of choices", "another")),
    }
}

/// The hash of one tree; each has its own key, so that a look at the permutation is a guess at the nodes of one tree only.
fn tree_hash(coins: &Coins, tree: usize) -> TccrHash {
    TccrHash::new(coins.key("seed trees", tree as u64))
}

/// The choices of the base OTs of a sender with `delta`: the complements of its bits.
#[must_use]
pub fn base_choices(delta: &Delta) -> Vec<u8> {
    delta_bits(delta).map(|bit| 1 - bit).to_vec()
}

fn delta_bits(delta: &Delta) -> Zeroizing<[u8; BASE_OTS]> {
    let delta = u128::from(delta.block());
    Zeroizing::new(std::array::from_fn(|i| (delta >> i & 1) as u8))
}

/// `planes = sum_p p r_p` without position 0, and `total = sum_p r_p`, over the streams of the leaves at positions `p`.
///
/// As a counter carries: the sum over a subtree whose last bits are all ones goes to the plane of that bit and is added to its
/// sibling's, so a leaf costs two additions and not one per bit.
fn sum_streams(coins: &Coins, leaves: &[Block; LEAVES], planes: &mut [Block], total: &mut [Block]) {
    let blocks = total.len();
    let number = coins.key("leaf streams", 0).low();
    let streams: Vec<KeyedStreams> = leaves.iter().map(|&leaf| KeyedStreams::new(leaf)).collect();
    let mut left = Zeroizing::new([[Block::ZERO; CHUNK]; ggm::DEPTH]);
    let mut sum = Zeroizing::new([Block::ZERO; CHUNK]);
    for start in (0..blocks).step_by(CHUNK) {
        let end = blocks.min(start + CHUNK);
        let sum = &mut sum[..end - start];
        for (p, stream) in streams.iter().enumerate() {
            stream.fill(number, start as u64, sum);
            let carries = p.trailing_ones() as usize;
            for (left, plane) in left.iter().zip(planes.chunks_exact_mut(blocks)).take(carries) {
                xor_into(&mut plane[start..end], sum);
                xor_into(sum, &left[..end - start]);
            }
            match left.get_mut(carries) {
                Some(left) => left[..end - start].copy_from_slice(sum),
                None => total[start..end].copy_from_slice(sum),
            }
        }
    }
}

fn xor_into(sum: &mut [Block], term: &[Block]) {
    for (sum, &term) in sum.iter_mut().zip(term) {
        *sum ^= term;
    }
}

/// The columns of the first `blocks` of the `all` blocks of 128 planes.
fn columns(planes: &[Block], all: usize, blocks: usize) -> Zeroizing<Vec<Block>> {
    let mut columns = Zeroizing::new(Vec::with_capacity(BASE_OTS * blocks));
    let mut square = Zeroizing::new([Block::ZERO; 128]);
    for b in 0..blocks {
        for (row, plane) in square.iter_mut().zip(planes.chunks_exact(all)) {
            *row = plane[b];
        }
        transpose(&mut square);
        columns.extend_from_slice(&*square);
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::party::Party;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    const COINS: Coins = Coins::fixed([9; 32], Party::Client);

    /// Ideal base OTs: both keys of each, and the keys of the choices.
    fn base(delta: &Delta, rng: &mut ChaCha20Rng) -> (Vec<[Block; 2]>, Vec<Block>) {
        let pairs: Vec<_> = (0..BASE_OTS).map(|_| [Block::random(rng), Block::random(rng)]).collect();
        let choices = base_choices(delta);
        let chosen = pairs.iter().zip(choices).map(|(pair, b)| pair[usize::from(b)]).collect();
        (pairs, chosen)
    }

    fn broken(k: &[Block], m: &[Block], delta: &Delta) -> usize {
        k.iter().zip(m).filter(|&(&k, &m)| k ^ delta.times(m.lsb()) != m).count()
    }

    #[test]
    fn the_correlation_holds_and_choices_are_balanced() {
        for (seed, blocks) in [(1, 1), (2, 63), (3, 64), (4, 65), (5, 200)] {
            let rng = &mut ChaCha20Rng::seed_from_u64(seed);
            let delta = Delta::random(rng);
            let (pairs, chosen) = base(&delta, rng);
            let (m, correction) = receive(&pairs, &COINS, blocks);
            let bytes = correction.encode();
            assert_eq!(bytes.len(), Correction::bytes(blocks));
            let correction = Correction::decode(&bytes, blocks).unwrap();
            let k = send(&chosen, &delta, &correction, &COINS, blocks).unwrap();
            assert_eq!((k.len(), m.len()), (blocks * 128, blocks * 128));
            assert_eq!(broken(&k, &m, &delta), 0, "seed {seed}");
            assert!(k.iter().all(|k| k.lsb() == 0));
            let ones = m.iter().filter(|m| m.lsb() == 1).count();
            let sigma = (m.len() as f64).sqrt() / 2.0;
            assert!((ones as f64 - m.len() as f64 / 2.0).abs() < 6.0 * sigma, "{ones} ones, seed {seed}");
        }
    }

    #[test]
    fn streams_are_summed_by_their_positions() {
        let rng = &mut ChaCha20Rng::seed_from_u64(8);
        let leaves: [Block; LEAVES] = std::array::from_fn(|_| Block::random(rng));
        let blocks = CHUNK + 5;
        let (mut planes, mut total) = (vec![Block::ZERO; ggm::DEPTH * blocks], vec![Block::ZERO; blocks]);
        sum_streams(&COINS, &leaves, &mut planes, &mut total);
        let (mut plain_planes, mut plain_total) = (vec![Block::ZERO; ggm::DEPTH * blocks], vec![Block::ZERO; blocks]);
        let mut stream = vec![Block::ZERO; blocks];
        for (p, &leaf) in leaves.iter().enumerate() {
            KeyedStreams::new(leaf).fill(COINS.key("leaf streams", 0).low(), 0, &mut stream);
            xor_into(&mut plain_total, &stream);
            for (bit, plane) in plain_planes.chunks_exact_mut(blocks).enumerate() {
                if p >> bit & 1 == 1 {
                    xor_into(plane, &stream);
                }
            }
        }
        assert_eq!((planes, total), (plain_planes, plain_total));
    }

    /// A receiver that corrects tree `j` by something else in column `i`, and is otherwise honest, with hashes that it makes anew.
    fn cheat(pairs: &[[Block; 2]], tree: usize, error: Block, column_block: usize, blocks: usize) -> Correction {
        let (_, mut correction) = receive(pairs, &COINS, blocks);
        correction.d[(tree - 1) * (blocks + HIDING_BLOCKS) + column_block] ^= error;
        correction
    }

    #[test]
    fn a_receiver_with_other_choices_in_one_tree_is_caught() {
        let rng = &mut ChaCha20Rng::seed_from_u64(6);
        let delta = Delta::random(rng);
        let (pairs, chosen) = base(&delta, rng);
        // In one choice, in many, and where nothing is used but the check.
        for (error, block) in [(Block::new(1, 0), 0), (Block::ONES, 1), (Block::new(0, 1 << 63), 3)] {
            for tree in [1, 7, TREES - 1] {
                let refused = send(&chosen, &delta, &cheat(&pairs, tree, error, block, 2), &COINS, 2);
                assert!(refused.unwrap_err().is_peer_fault());
            }
        }
    }

    #[test]
    fn a_guess_of_delta_is_all_that_a_receiver_can_try() {
        // The receiver cheats in tree 1 and makes the check right for one value of Delta_1: it passes for that value alone.
        let rng = &mut ChaCha20Rng::seed_from_u64(7);
        let (blocks, all) = (2, 2 + HIDING_BLOCKS);
        let mut passed = 0;
        for guess in [0usize, 1, 200, 255] {
            for right in [true, false] {
                let value = if right { guess } else { guess ^ 16 };
                let delta = Delta::of(u128::from(Delta::random(rng).block()) & !(0xff << 8) | (value as u128) << 8);
                let (pairs, chosen) = base(&delta, rng);
                let (_, mut correction) = receive(&pairs, &COINS, blocks);
                let mut error = vec![Block::ZERO; all];
                error[0] = Block::new(rng_word(rng), 7);
                for (d, e) in correction.d[..all].iter_mut().zip(&error) {
                    *d ^= *e;
                }
                let before = Correction::hash(&COINS, &correction.sums, &correction.trees, &correction.d);
                correction.linear = honest_check(&pairs, &before, blocks);
                // w_1 has an error of Delta_1 e: add R(e) to the planes where the guess has a one.
                let hashed = before.of(&error);
                for bit in (0..ggm::DEPTH).filter(|bit| guess >> bit & 1 == 1) {
                    let plane = &mut correction.linear.planes[ggm::DEPTH + bit];
                    *plane = [plane[0] ^ hashed[0], plane[1] ^ hashed[1]];
                }
                let passes = send(&chosen, &delta, &correction, &COINS, blocks).is_ok();
                assert_eq!(passes, right, "guess {guess}");
                passed += usize::from(passes);
            }
        }
        assert_eq!(passed, 4);
    }

    fn rng_word(rng: &mut ChaCha20Rng) -> u64 {
        rand::Rng::next_u64(rng)
    }

    /// R of the honest vectors under another challenge.
    fn honest_check(pairs: &[[Block; 2]], hash: &LinearHash, blocks: usize) -> LinearCheck {
        let all = blocks + HIDING_BLOCKS;
        let (mut planes, mut u_0) = (vec![], vec![Block::ZERO; all]);
        for (tree, keys) in pairs.chunks_exact(ggm::DEPTH).enumerate() {
            let (mut own, mut u) = (vec![Block::ZERO; ggm::DEPTH * all], vec![Block::ZERO; all]);
            sum_streams(&COINS, &ggm::grow(&tree_hash(&COINS, tree), tree, keys).0, &mut own, &mut u);
            planes.extend(own.chunks_exact(all).map(|plane| hash.of(plane)));
            if tree == 0 {
                u_0 = u;
            }
        }
        LinearCheck { choices: hash.of(&u_0), planes }
    }

    #[test]
    fn bad_sums_of_trees_are_guesses_of_one_bit_each() {
        // A sum that only one choice uses, in some trees: passes if no choice was that, and then nothing is amiss.
        let rng = &mut ChaCha20Rng::seed_from_u64(10);
        let places = [(0, 1, 0), (3, 4, 1), (TREES - 1, ggm::DEPTH - 1, 0)];
        let mut passed = [0; 2];
        for trial in 0..24 {
            let delta = Delta::random(rng);
            let (pairs, chosen) = base(&delta, rng);
            let (m, mut correction) = receive(&pairs, &COINS, 2);
            let guesses = &places[..1 + trial % 3];
            for &(tree, level, side) in guesses {
                correction.sums[tree][level - 1][side] ^= Block::new(rng_word(rng), 0);
            }
            let hash = Correction::hash(&COINS, &correction.sums, &correction.trees, &correction.d);
            correction.linear = honest_check(&pairs, &hash, 2);
            let bits = delta_bits(&delta);
            // The sum of side b is used where Delta has the bit 1 - b.
            let right = guesses.iter().all(|&(tree, level, side)| usize::from(bits[tree * ggm::DEPTH + level]) == side);
            let sent = send(&chosen, &delta, &correction, &COINS, 2);
            assert_eq!(sent.is_ok(), right, "trial {trial}");
            if let Ok(k) = sent {
                assert_eq!(broken(&k, &m, &delta), 0);
            }
            passed[usize::from(right)] += 1;
        }
        assert!(passed[0] > 5 && passed[1] > 2, "{passed:?}");
    }

    #[test]
    fn the_hash_of_the_choices_is_hidden_by_bits_that_are_not_used() {
        let rng = &mut ChaCha20Rng::seed_from_u64(11);
        let (runs, blocks) = (100, 1);
        let (mut ones, mut seen) = (0, Vec::new());
        for _ in 0..runs {
            let (pairs, _) = base(&Delta::random(rng), rng);
            let (m, correction) = receive(&pairs, &COINS, blocks);
            let choices = m.iter().rev().fold(0u128, |bits, m| bits << 1 | u128::from(m.lsb()));
            let hash = Correction::hash(&COINS, &correction.sums, &correction.trees, &correction.d);
            // R without what the used choices contribute.
            let used = hash.of(&[Block::from(choices), Block::ZERO, Block::ZERO]);
            for (all, used) in correction.linear.choices.iter().zip(used) {
                let hiding = u128::from(*all ^ used);
                assert_ne!(hiding, choices);
                ones += hiding.count_ones();
                seen.push(hiding);
            }
        }
        let bits = f64::from(runs) * 256.0;
        assert!((f64::from(ones) - bits / 2.0).abs() < 3.0 * bits.sqrt(), "{ones} ones");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 2 * runs as usize);
    }

    #[test]
    fn every_flipped_bit_that_matters_is_caught() {
        let rng = &mut ChaCha20Rng::seed_from_u64(9);
        let delta = Delta::random(rng);
        let (pairs, chosen) = base(&delta, rng);
        let (_, correction) = receive(&pairs, &COINS, 2);
        let bytes = correction.encode();
        for at in (0..bytes.len()).step_by(37).chain(bytes.len() - 4128..bytes.len() - 4090) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            let refused = send(&chosen, &delta, &Correction::decode(&bytes, 2).unwrap(), &COINS, 2);
            // Every part of the message but the last leads to the challenge, so nothing passes.
            assert!(refused.is_err_and(|e| e.is_peer_fault()), "byte {at}");
        }
        let other = Coins::fixed([8; 32], Party::Client);
        assert!(send(&chosen, &delta, &correction, &other, 2).is_err());
    }

    #[test]
    fn messages_of_another_length_are_refused() {
        let bytes = vec![0; Correction::bytes(2)];
        assert!(Correction::decode(&bytes[1..], 2).unwrap_err().is_peer_fault());
        assert!(Correction::decode(&bytes, 3).unwrap_err().is_peer_fault());
        let correction = Correction::decode(&bytes, 2).unwrap();
        let delta = Delta::random(&mut ChaCha20Rng::seed_from_u64(7));
        let keys = vec![Block::ZERO; BASE_OTS];
        assert!(send(&keys, &delta, &correction, &COINS, 3).unwrap_err().is_peer_fault());
    }
}
