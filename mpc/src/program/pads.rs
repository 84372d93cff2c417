//! From the keys of random OTs to pad planes: hash each key alone, transpose, keep what the gates need.
//!
//! Bit p of gate g of the OT number i (counted over the session) under key x is bit p mod 128 of
//! H(x; i, g, p div 128), H the tweakable correlation-robust hash of this layer, direction, wire and chunk of lanes. A sender hashes
//! k_i and k_i xor delta, a receiver its only key; never is a XOR of keys hashed. One inner permutation per key serves all gates of a
//! wire.
//!
//! A receiver that knows what a pad hides knows some bits of the hash of a key that it lacks. Of all such hashes under one permutation
//! it can look for any by one look at the permutation, so a chunk has its own: 512 keys, whatever the size of the layer.

use super::code::{Code, WirePads};
use super::graph::Label;
use super::machine::{CHUNK_LANES, CHUNK_WORDS, Chunk, Place};
use crate::correlation::ot::{Cots, OtCount};
use crate::party::Party;
use crate::primitive::bits::{WORD_LANES, gather};
use crate::primitive::block::Block;
use crate::primitive::vectorise::vectorised;
use std::ops::Range;
use zeroize::Zeroize;

/// Inner permutations and hashes of the keys of one chunk of lanes.
struct Workspace {
    inner: Vec<Block>,
    out: Vec<Block>,
}

/// Where a chunk of lanes lies in the registers of its block.
#[derive(Clone, Copy)]
struct Spot {
    /// Chunks per register.
    size: usize,
    /// Which of them.
    chunk: usize,
}

impl Spot {
    #[inline(always)]
    fn of(self, register: u32) -> usize {
        register as usize * self.size + self.chunk
    }
}

/// Some of a program's OTs: in each direction the same lanes of consecutive wires. Of all OTs, wire `w` has those from `w` times the number of
/// lanes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Portion {
    /// Wires on which the client receives, and on which the server does.
    pub wires: [Range<usize>; 2],
    /// From a multiple of [`CHUNK_LANES`] to another, or to the end.
    pub lanes: Range<usize>,
}

impl Portion {
    /// All OTs.
    pub fn whole(ots: OtCount, lanes: usize) -> Self {
        Self { wires: PARTIES.map(|receiver| 0..ots.where_receives(receiver)), lanes: 0..lanes }
    }

    /// Parts of about `most` OTs, in the order of their index in each direction: whole wires, or chunks of one.
    pub fn cut(ots: OtCount, lanes: usize, most: usize) -> Vec<Self> {
        let (wires, step) = ((most / lanes.max(1)).max(1), (most / CHUNK_LANES).max(1) * CHUNK_LANES);
        let mut parts = Vec::new();
        for receiver in PARTIES {
            let all = ots.where_receives(receiver);
            for first in (0..all).step_by(wires) {
                let own = first..all.min(first + wires);
                let wires = PARTIES.map(|party| if party == receiver { own.clone() } else { 0..0 });
                let lanes = (0..lanes).step_by(step).map(|start| start..lanes.min(start + step));
                parts.extend(lanes.map(|lanes| Self { wires: wires.clone(), lanes }));
            }
        }
        parts
    }

    /// How many OTs.
    pub fn ots(&self) -> OtCount {
        let [client_receives, server_receives] = self.wires.clone().map(|wires| wires.len() * self.lanes.len());
        OtCount { client_receives, server_receives }
    }

    /// Where the keys of a chunk of lanes from `start` on are among those of this part.
    fn keys(&self, receiver: Party, wire: usize, start: usize) -> Option<Range<usize>> {
        let wires = &self.wires[usize::from(receiver == Party::Server)];
        if !wires.contains(&wire) || !self.lanes.contains(&start) {
            return None;
        }
        let first = (wire - wires.start) * self.lanes.len() + start - self.lanes.start;
        Some(first..first + CHUNK_LANES.min(self.lanes.end - start))
    }
}

const PARTIES: [Party; 2] = [Party::Client, Party::Server];

/// Fills the pad registers of a block as far as they come from `part`, whose OTs `cots` are.
pub(super) fn fill(code: &Code, part: &Portion, cots: &Cots, registers: &mut [Chunk], place: Place) {
    let mut space = Workspace { inner: vec![Block::ZERO; CHUNK_LANES], out: vec![Block::ZERO; CHUNK_LANES] };
    for wire in &code.wires {
        let receiver = if wire.receives { cots.party() } else { cots.party().other() };
        for chunk in 0..place.size {
            let start = (place.first + chunk) * CHUNK_LANES;
            let Some(keys) = part.keys(receiver, wire.index, start) else { continue };
            fill_chunk(wire, cots, keys, &mut space, Spot { size: place.size, chunk }, registers);
        }
    }
    space.inner.zeroize();
    space.out.zeroize();
}

fn fill_chunk(
    wire: &WirePads,
    cots: &Cots,
    keys: Range<usize>,
    space: &mut Workspace,
    spot: Spot,
    registers: &mut [Chunk],
) {
    let (first, all) = match wire.receives {
        true => (cots.received.first(), cots.received.keys()),
        false => (cots.sent.first(), cots.sent.keys()),
    };
    let index = first + keys.start as u64;
    let hash = if wire.receives { cots.received.hash(index) } else { cots.sent.hash(index) };
    let keys = &all[keys];
    if let Some(choice) = wire.choice {
        let words = &mut registers[spot.of(choice)].0;
        *words = [0; CHUNK_WORDS];
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
            for planes in gate.planes.chunk_by(|(a, _), (b, _)| a / 128 == b / 128) {
                let block = u64::from(planes[0].0 / 128);
                hash.finish(inner, |j| Block::new(index + j as u64, u64::from(gate.gate) << 32 | block), out);
                for half in planes.chunk_by(|(a, _), (b, _)| a / 64 == b / 64) {
                    keep_planes(out, half, spot, registers);
                }
            }
        }
    }
}

vectorised! {
    /// Transposes one half of the blocks, that which holds the positions of `planes`, and keeps these.
    fn keep_planes(blocks: &[Block], planes: &[(u32, u32)], spot: Spot, registers: &mut [Chunk]) {
        let (low, high) = (planes[0].0, planes[planes.len() - 1].0);
        let (second, width) = (low as usize / WORD_LANES % 2 == 1, high as usize % WORD_LANES + 1);
        let mut rows = [0; WORD_LANES];
        for (w, lanes) in blocks.chunks(WORD_LANES).enumerate() {
            rows[lanes.len()..].fill(0);
            for (row, lane) in rows.iter_mut().zip(lanes) {
                *row = if second { lane.high() } else { lane.low() };
            }
            gather(&mut rows, width);
            for (position, register) in planes {
                registers[spot.of(*register)].0[w] = rows[*position as usize % WORD_LANES];
            }
        }
        rows.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::ot::coins::Subkeys;
    use crate::correlation::ot::ideal;
    use crate::primitive::hash::TccrHash;
    use crate::program::testing::{ODD_LANES, run};
    use crate::program::{Builder, Time};
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    /// Bit `position` of the pads of a gate, from the definition; `chunk` is the number of the chunk's first OT.
    fn pad(key: Block, chunk: u64, index: u64, gate: u64, position: u64) -> u64 {
        let mut block = [key];
        TccrHash::new(Subkeys::new(ideal::PADS).at(chunk))
            .hash(&mut block, |_| Block::new(index, gate << 32 | (position / 128)));
        (u128::from(block[0]) >> (position % 128) & 1) as u64
    }

    #[test]
    fn pads_are_hashes_of_single_keys() {
        const PADS: usize = 300;
        let mut b = Builder::new();
        let client = b.input(Party::Client, 2, Time::OFFLINE);
        let halves = b.halves(&client);
        // The second wire, its second gate.
        let _ = b.tap(halves[0]);
        let _ = b.tap(halves[1]);
        let (tap, _) = b.tap(halves[1]);
        for label in [Label::Held, Label::Zero, Label::One] {
            for pads in [b.pads(tap, label, 64), b.pads(tap, label, PADS)] {
                for from in (0..pads.width()).step_by(60) {
                    let word = b.slice(&pads, from, 60.min(pads.width() - from));
                    b.output(&word);
                }
            }
        }
        let choice = b.choice_of(tap);
        let choice = b.word_of(Party::Client, choice, Time::Prepared);
        b.output(&choice);
        let program = Arc::new(b.finish());
        for lanes in ODD_LANES {
            let (client, server) = ideal::deal(program.ots() * lanes, &mut ChaCha20Rng::seed_from_u64(lanes as u64));
            let zero = crate::primitive::bits::Planes::zero(lanes, 2);
            let outcome = run(&program, lanes, &[zero], lanes as u64);
            for lane in 0..lanes {
                let i = lanes + lane;
                let (held, sent) = (client.received.keys()[i], server.sent.keys()[i]);
                let chunk = (lanes + lane / CHUNK_LANES * CHUNK_LANES) as u64;
                let delta = server.sent.delta().block();
                let mut outputs = [outcome.client.iter(), outcome.server.iter()];
                for (key, side) in [(held, 0), (sent, 1), (sent ^ delta, 1)] {
                    for width in [64, PADS] {
                        for from in (0..width).step_by(60) {
                            let got = outputs[side].next().unwrap().to_lanes::<u64>()[lane];
                            let all = from..width.min(from + 60);
                            let want = all.rev().fold(0, |all, p| all << 1 | pad(key, chunk, i as u64, 1, p as u64));
                            assert_eq!(got, want, "lane {lane} of {lanes}");
                        }
                    }
                }
                assert_eq!(outputs[0].next().unwrap().to_lanes::<u8>()[lane], client.received.choice(i));
            }
        }
    }
}
