//! `K ^ u Delta = M`: correlated OTs for 31 bits each, the bootstrap of silent OT.
//!
//! SoftSpokenOT [Roy22], semi-honest, with `k = 4` and the repetition code. Notation: `F = F_2^4`; the block `Delta` is
//! 32 elements `Delta_j` of `F`; a vector over `F` is stored as 4 bit vectors (planes).
//!
//! ```text
//! receiver                                            sender (Delta)
//! base OT sender                                      base OT receiver, OT 4 j + i has choice 1 - Delta_{j,i}
//! tree j: all leaf streams r_x, x in F                tree j: all but r_{Delta_j}
//! u_j = sum_x r_x,  v_j = sum_x x r_x                 w_j = sum_x (x + Delta_j) r_x  =  Delta_j u_j + v_j
//! d_j = u_j + u_0, j = 1..31      -- sums, d -->      w_j + Delta_j d_j  =  Delta_j u_0 + v_j
//! M = the columns of v                                K = the columns of w
//! u = u_0, the choice bits
//! ```
//!
//! Column `i` of the 128 planes is key `i`. The least significant bit of `Delta` is 1; overwriting those of `K` by 0
//! and of `M` by `u` keeps the correlation and makes the choice bit part of the key.
//!
//! [Roy22]: crate#references

use super::ggm::{self, Sums};
use super::transpose::transpose;
use crate::block::{Block, Delta};
use crate::error::{Error, Result};
use crate::hash::TccrHash;
use crate::prg::KeyedStreams;
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
    /// `d_1, ..., d_31`, each of as many blocks as columns / 128.
    d: Vec<Block>,
}

impl Correction {
    /// Bytes of the message for `blocks * 128` OTs.
    #[must_use]
    pub const fn bytes(blocks: usize) -> usize {
        (TREES * (ggm::DEPTH - 1) * 2 + (TREES - 1) * blocks) * Block::BYTES
    }

    /// The message as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::bytes(self.d.len() / (TREES - 1)));
        bytes.extend_from_slice(bytemuck::cast_slice(self.sums.as_flattened().as_flattened()));
        bytes.extend_from_slice(bytemuck::cast_slice(&self.d));
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
        let (sums, d) = bytes.split_at(Self::bytes(0));
        Ok(Self {
            sums: sums.chunks_exact(size_of::<Sums>()).map(bytemuck::pod_read_unaligned).collect(),
            d: d.chunks_exact(Block::BYTES).map(bytemuck::pod_read_unaligned).collect(),
        })
    }
}

/// The receiver's keys `M` of `blocks * 128` OTs, from both keys of every base OT.
///
/// # Panics
/// If there are not [`BASE_OTS`] pairs of keys.
#[must_use]
pub fn receive(base: &[[Block; 2]], blocks: usize) -> (Zeroizing<Vec<Block>>, Correction) {
    assert_eq!(base.len(), BASE_OTS, "one base OT for each bit of delta");
    let hash = TccrHash::new();
    let mut planes = Zeroizing::new(vec![Block::ZERO; BASE_OTS * blocks]);
    let mut u = Zeroizing::new(vec![Block::ZERO; TREES * blocks]);
    let mut sums = Vec::with_capacity(TREES);
    let trees =
        base.chunks_exact(ggm::DEPTH).zip(planes.chunks_exact_mut(ggm::DEPTH * blocks)).zip(u.chunks_exact_mut(blocks));
    for (tree, ((keys, planes), u)) in trees.enumerate() {
        let (leaves, corrections) = ggm::grow(&hash, tree, keys);
        sums.push(corrections);
        sum_streams(&*leaves, planes, u);
    }
    let (u_0, others) = u.split_at(blocks);
    let d = others.chunks_exact(blocks).flat_map(|u_j| u_j.iter().zip(u_0).map(|(&a, &b)| a ^ b));
    let correction = Correction { sums, d: d.collect() };
    let mut keys = columns(&planes, blocks);
    for (i, key) in keys.iter_mut().enumerate() {
        *key = key.with_lsb((u128::from(u_0[i / 128]) >> (i % 128) & 1) as u8);
    }
    (keys, correction)
}

/// The sender's keys `K` of `blocks * 128` OTs, from the keys of the choices of the base OTs.
///
/// # Panics
/// If there are not [`BASE_OTS`] keys.
///
/// # Errors
/// [`Error::Protocol`] if the message is for another number of OTs.
pub fn send(base: &[Block], delta: &Delta, correction: &Correction, blocks: usize) -> Result<Zeroizing<Vec<Block>>> {
    assert_eq!(base.len(), BASE_OTS, "one base OT for each bit of delta");
    if correction.sums.len() != TREES || correction.d.len() != (TREES - 1) * blocks {
        return Err(Error::protocol("blocks of an OT correction", (TREES - 1) * blocks, correction.d.len()));
    }
    let hash = TccrHash::new();
    let bits = delta_bits(delta);
    let mut planes = Zeroizing::new(vec![Block::ZERO; BASE_OTS * blocks]);
    let mut unused = vec![Block::ZERO; blocks];
    let trees = base
        .chunks_exact(ggm::DEPTH)
        .zip(bits.chunks_exact(ggm::DEPTH))
        .zip(planes.chunks_exact_mut(ggm::DEPTH * blocks))
        .zip(&correction.sums);
    for (tree, (((keys, y), planes), sums)) in trees.enumerate() {
        // Position p holds the leaf p + Delta_j, so the coefficient of its stream is p.
        let leaves = ggm::puncture(&hash, tree, y, keys, sums);
        sum_streams(&*leaves, planes, &mut unused);
        if tree > 0 {
            let d = &correction.d[(tree - 1) * blocks..][..blocks];
            for (plane, &bit) in planes.chunks_exact_mut(blocks).zip(y) {
                for (w, &d) in plane.iter_mut().zip(d) {
                    *w ^= d & Block::splat(bit);
                }
            }
        }
    }
    let mut keys = columns(&planes, blocks);
    for key in keys.iter_mut() {
        *key = key.with_lsb(0);
    }
    Ok(keys)
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
fn sum_streams(leaves: &[Block], planes: &mut [Block], total: &mut [Block]) {
    let blocks = total.len();
    let mut stream = Zeroizing::new([Block::ZERO; CHUNK]);
    for (p, &leaf) in leaves.iter().enumerate() {
        let streams = KeyedStreams::new(leaf);
        for start in (0..blocks).step_by(CHUNK) {
            let end = blocks.min(start + CHUNK);
            let stream = &mut stream[..end - start];
            streams.fill(0, start as u64, stream);
            xor_into(&mut total[start..end], stream);
            for (bit, plane) in planes.chunks_exact_mut(blocks).enumerate() {
                if p >> bit & 1 == 1 {
                    xor_into(&mut plane[start..end], stream);
                }
            }
        }
    }
}

fn xor_into(sum: &mut [Block], term: &[Block]) {
    for (sum, &term) in sum.iter_mut().zip(term) {
        *sum ^= term;
    }
}

/// The columns of 128 planes.
fn columns(planes: &[Block], blocks: usize) -> Zeroizing<Vec<Block>> {
    let mut columns = Zeroizing::new(Vec::with_capacity(BASE_OTS * blocks));
    let mut square = Zeroizing::new([Block::ZERO; 128]);
    for b in 0..blocks {
        for (row, plane) in square.iter_mut().zip(planes.chunks_exact(blocks)) {
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
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

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
            let (m, correction) = receive(&pairs, blocks);
            let bytes = correction.encode();
            assert_eq!(bytes.len(), Correction::bytes(blocks));
            let correction = Correction::decode(&bytes, blocks).unwrap();
            let k = send(&chosen, &delta, &correction, blocks).unwrap();
            assert_eq!((k.len(), m.len()), (blocks * 128, blocks * 128));
            assert_eq!(broken(&k, &m, &delta), 0, "seed {seed}");
            assert!(k.iter().all(|k| k.lsb() == 0));
            let ones = m.iter().filter(|m| m.lsb() == 1).count();
            let sigma = (m.len() as f64).sqrt() / 2.0;
            assert!((ones as f64 - m.len() as f64 / 2.0).abs() < 6.0 * sigma, "{ones} ones, seed {seed}");
        }
    }

    #[test]
    fn a_flipped_bit_of_the_message_breaks_the_correlation() {
        let rng = &mut ChaCha20Rng::seed_from_u64(6);
        // Corrections of the side that is known have no effect, so try both sides; d acts where Delta_j is not 0.
        let delta = Delta::random(rng);
        let (pairs, chosen) = base(&delta, rng);
        let (m, correction) = receive(&pairs, 2);
        let bytes = correction.encode();
        let effect = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let k = send(&chosen, &delta, &Correction::decode(&bytes, 2).unwrap(), 2).unwrap();
            broken(&k, &m, &delta)
        };
        assert!(effect(0) + effect(16) > 200);
        let d = Correction::bytes(0);
        assert_eq!((0..4).map(|j| effect(d + 32 * j)).max(), Some(1));
    }

    #[test]
    fn messages_of_another_length_are_refused() {
        let bytes = vec![0; Correction::bytes(2)];
        assert!(Correction::decode(&bytes[1..], 2).unwrap_err().is_peer_fault());
        assert!(Correction::decode(&bytes, 3).unwrap_err().is_peer_fault());
        let correction = Correction::decode(&bytes, 2).unwrap();
        let delta = Delta::random(&mut ChaCha20Rng::seed_from_u64(7));
        let keys = vec![Block::ZERO; BASE_OTS];
        assert!(send(&keys, &delta, &correction, 3).unwrap_err().is_peer_fault());
    }
}
