//! From the keys of random OTs to pad planes: hash each key alone, transpose, keep what the gates need.
//!
//! Bit p of gate g of the OT number i (counted over the session) under key x is bit p mod 128 of
//! H(x; i, g, p div 128), H the tweakable correlation-robust hash. A sender hashes k_i and k_i xor delta, a receiver
//! its only key; never is a XOR of keys hashed. One inner permutation per key serves all gates of a wire.

use super::compile::{Code, GatePads, WirePads};
use super::graph::Label;
use super::machine::{CHUNK_LANES, Chunk, Place};
use crate::bits::{WORD_LANES, gather};
use crate::block::Block;
use crate::hash::TccrHash;
use crate::ot::Cots;
use crate::vectorise::vectorised;
use zeroize::Zeroize;

/// Keys, hashes and their transposes of one chunk of lanes.
struct Workspace {
    inner: Vec<Block>,
    out: Vec<Block>,
}

/// Fills the pad registers of a block. The keys of wire `w` are those from `w * lanes` on.
pub(super) fn fill(code: &Code, cots: &Cots, lanes: usize, hash: &TccrHash, registers: &mut [Chunk], place: Place) {
    let mut space = Workspace { inner: vec![Block::ZERO; CHUNK_LANES], out: vec![Block::ZERO; CHUNK_LANES] };
    for wire in &code.wires {
        for i in 0..place.size {
            let start = (place.first + i) * CHUNK_LANES;
            let keys = wire.index * lanes + start..wire.index * lanes + lanes.min(start + CHUNK_LANES);
            fill_chunk(wire, cots, keys, hash, &mut space, |register| register as usize * place.size + i, registers);
        }
    }
    space.inner.zeroize();
    space.out.zeroize();
}

fn fill_chunk(
    wire: &WirePads,
    cots: &Cots,
    keys: std::ops::Range<usize>,
    hash: &TccrHash,
    space: &mut Workspace,
    at: impl Fn(u32) -> usize,
    registers: &mut [Chunk],
) {
    let (first, all) = match wire.receives {
        true => (cots.received.first(), cots.received.keys()),
        false => (cots.sent.first(), cots.sent.keys()),
    };
    let index = first + keys.start as u64;
    let keys = &all[keys];
    if let Some(choice) = wire.choice {
        let words = &mut registers[at(choice)].0;
        *words = [0; 8];
        for (word, keys) in words.iter_mut().zip(keys.chunks(WORD_LANES)) {
            *word = keys.iter().rev().fold(0, |word, key| word << 1 | u64::from(key.lsb()));
        }
    }
    let (inner, out) = (&mut space.inner[..keys.len()], &mut space.out[..keys.len()]);
    for label in [Label::Held, Label::Zero, Label::One] {
        let mut gates = wire.gates.iter().filter(|gate| gate.label == label).peekable();
        if gates.peek().is_none() {
            continue;
        }
        inner.copy_from_slice(keys);
        if label == Label::One {
            let delta = cots.sent.delta().block();
            inner.iter_mut().for_each(|key| *key ^= delta);
        }
        hash.inner(inner);
        for gate in gates {
            fill_gate(gate, index, hash, inner, out, &at, registers);
        }
    }
}

fn fill_gate(
    gate: &GatePads,
    index: u64,
    hash: &TccrHash,
    inner: &[Block],
    out: &mut [Block],
    at: impl Fn(u32) -> usize,
    registers: &mut [Chunk],
) {
    for planes in gate.planes.chunk_by(|(a, _), (b, _)| a / 128 == b / 128) {
        let block = u64::from(planes[0].0 / 128);
        hash.finish(inner, |j| Block::new(index + j as u64, u64::from(gate.gate) << 32 | block), out);
        for half in planes.chunk_by(|(a, _), (b, _)| a / 64 == b / 64) {
            let high = half[0].0 / 64 % 2 == 1;
            let width = half[half.len() - 1].0 as usize % WORD_LANES + 1;
            vectorised(|| {
                let mut rows = [0; WORD_LANES];
                for (w, lanes) in out.chunks(WORD_LANES).enumerate() {
                    rows[lanes.len()..].fill(0);
                    for (row, lane) in rows.iter_mut().zip(lanes) {
                        *row = if high { lane.high() } else { lane.low() };
                    }
                    gather(&mut rows, width);
                    for (position, register) in half {
                        registers[at(*register)].0[w] = rows[*position as usize % WORD_LANES];
                    }
                }
                rows.zeroize();
            });
        }
    }
}
