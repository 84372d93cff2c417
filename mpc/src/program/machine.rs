//! The machine that runs a party's code over all lanes, a block of lanes at a time.

use super::code::{Code, Instruction, OpCode};
use crate::primitive::bits::Planes;
use crate::primitive::vectorise::vectorised;
use rayon::prelude::*;
use zeroize::Zeroize;

/// Words of a chunk: the unit of every plane in memory, 512 lanes.
pub(super) const CHUNK_WORDS: usize = 8;

/// Lanes of a chunk. Part of the protocol: the keys of a wire that one hash makes pads of.
pub(super) const CHUNK_LANES: usize = CHUNK_WORDS * u64::BITS as usize;

/// 512 lanes of a plane.
#[derive(Clone, Copy, Default, Zeroize)]
#[repr(align(64))]
pub(super) struct Chunk(pub [u64; CHUNK_WORDS]);

/// Chunks that a block's registers may occupy together: half a megabyte, to stay in the second-level cache.
const SCRATCH_CHUNKS: usize = 1 << 13;

/// Most chunks per register of a block.
const MAX_BLOCK: usize = 8;

/// Chunks wiped on drop.
pub(super) struct Chunks(pub Vec<Chunk>);

impl Chunks {
    pub fn zero(len: usize) -> Self {
        Self(vec![Chunk::default(); len])
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// How lanes are cut into blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    pub lanes: usize,
    /// Chunks per plane.
    pub chunks: usize,
    /// Chunks per plane of a block; the last block may have fewer.
    pub size: usize,
}

impl Blocks {
    pub fn new(code: &Code, lanes: usize) -> Self {
        let chunks = lanes.div_ceil(CHUNK_LANES);
        let fits = SCRATCH_CHUNKS / code.registers.max(1);
        Self { lanes, chunks, size: fits.clamp(1, MAX_BLOCK).min(chunks.max(1)) }
    }

    /// (first chunk, number of chunks) of every block.
    pub fn iter(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.chunks).step_by(self.size).map(move |first| (first, self.size.min(self.chunks - first)))
    }

    /// Shows `f` every block, on all threads, with its part of `planes` planes.
    pub fn for_each(self, chunks: &mut [Chunk], planes: usize, f: impl Fn(Place, &mut [Chunk]) + Sync) {
        let places: Vec<_> = self.iter().map(|(first, size)| Place { first, size, cells: 0 }).collect();
        let own = chunks.par_chunks_mut((planes * self.size).max(1));
        places.into_par_iter().zip(own).for_each(|(place, own)| f(place, own));
    }
}

/// A frame in memory: plane after plane, each of [`Blocks::chunks`] chunks.
pub(super) struct FrameBuffer {
    chunks: Chunks,
    stride: usize,
}

impl FrameBuffer {
    pub fn zero(planes: usize, blocks: Blocks) -> Self {
        Self { chunks: Chunks::zero(planes * blocks.chunks), stride: blocks.chunks }
    }

    /// Bytes of a frame: every plane takes ceil(lanes / 8).
    pub fn bytes(planes: usize, lanes: usize) -> usize {
        planes * lanes.div_ceil(8)
    }

    /// The planes as bytes, lanes beyond the last cleared.
    pub fn encode(&self, lanes: usize) -> Vec<u8> {
        let len = lanes.div_ceil(8);
        let mut bytes = Vec::with_capacity(self.chunks.0.len() * CHUNK_LANES / 8);
        if len == 0 {
            return bytes;
        }
        for plane in self.chunks.0.chunks(self.stride) {
            let start = bytes.len();
            let words = plane.iter().flat_map(|chunk| chunk.0).take(lanes.div_ceil(64));
            bytes.extend(words.flat_map(u64::to_le_bytes));
            bytes.truncate(start + len);
            bytes[start + len - 1] &= last_byte(lanes);
        }
        bytes
    }

    /// The planes of a frame of the right length; `None` if a bit beyond the last lane is set.
    pub fn decode(bytes: &[u8], planes: usize, blocks: Blocks) -> Option<Self> {
        let mut frame = Self::zero(planes, blocks);
        let len = blocks.lanes.div_ceil(8);
        if len == 0 {
            return Some(frame);
        }
        let mut excess = 0;
        for (plane, bytes) in frame.chunks.0.chunks_mut(frame.stride).zip(bytes.chunks_exact(len)) {
            excess |= bytes[len - 1] & !last_byte(blocks.lanes);
            for (word, bytes) in plane.iter_mut().flat_map(|chunk| &mut chunk.0).zip(bytes.chunks(8)) {
                let mut padded = [0; 8];
                padded[..bytes.len()].copy_from_slice(bytes);
                *word = u64::from_le_bytes(padded);
            }
        }
        (excess == 0).then_some(frame)
    }

    fn plane(&self, plane: u32, first: usize, size: usize) -> &[Chunk] {
        &self.chunks.0[plane as usize * self.stride + first..][..size]
    }

    fn plane_mut(&mut self, plane: u32, first: usize, size: usize) -> &mut [Chunk] {
        &mut self.chunks.0[plane as usize * self.stride + first..][..size]
    }
}

/// The bits of a plane's last byte that belong to lanes.
fn last_byte(lanes: usize) -> u8 {
    match lanes % 8 {
        0 => u8::MAX,
        rest => (1 << rest) - 1,
    }
}

/// What a segment reads and writes besides registers.
pub(super) struct Memory<'a> {
    /// Cells of all blocks: those of one block are adjacent.
    pub cells: &'a mut [Chunk],
    pub received: &'a FrameBuffer,
    pub sent: &'a mut FrameBuffer,
    pub inputs: &'a [Planes],
    pub outputs: &'a mut [Planes],
}

/// One block of lanes: where it starts, and how many chunks it has.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub first: usize,
    pub size: usize,
    /// Where the block's cells start.
    pub cells: usize,
}

vectorised! {
    /// Runs the code of a segment on one block. Every instruction does the same work whatever the values.
    pub(super) fn run(code: &[Instruction], registers: &mut [Chunk], place: Place, memory: &mut Memory<'_>) {
        let n = place.size;
        let at = |register: u32| register as usize * n;
        for instruction in code {
            let [a, b, c] = instruction.operands;
            let dst = at(instruction.register);
            match instruction.code {
                OpCode::Zero => registers[dst..dst + n].fill(Chunk([0; CHUNK_WORDS])),
                OpCode::One => registers[dst..dst + n].fill(Chunk([u64::MAX; CHUNK_WORDS])),
                OpCode::Not => map(registers, n, dst, [at(a); 3], |a, _, _| !a),
                OpCode::Xor => map(registers, n, dst, [at(a), at(b), at(b)], |a, b, _| a ^ b),
                OpCode::And => map(registers, n, dst, [at(a), at(b), at(b)], |a, b, _| a & b),
                OpCode::Or => map(registers, n, dst, [at(a), at(b), at(b)], |a, b, _| a | b),
                OpCode::Xor3 => map(registers, n, dst, [at(a), at(b), at(c)], |a, b, c| a ^ b ^ c),
                OpCode::Maj => map(registers, n, dst, [at(a), at(b), at(c)], |a, b, c| (a & b) | (c & (a | b))),
                OpCode::Mux => map(registers, n, dst, [at(a), at(b), at(c)], |s, zero, one| zero ^ (s & (zero ^ one))),
                OpCode::AndXor => map(registers, n, dst, [at(a), at(b), at(c)], |a, b, c| (a & b) ^ c),
                OpCode::Load => {
                    let cell = place.cells + at(a);
                    registers[dst..dst + n].copy_from_slice(&memory.cells[cell..cell + n]);
                }
                OpCode::Store => {
                    let cell = place.cells + at(a);
                    memory.cells[cell..cell + n].copy_from_slice(&registers[dst..dst + n]);
                }
                OpCode::Take => {
                    registers[dst..dst + n].copy_from_slice(memory.received.plane(a, place.first, n));
                }
                OpCode::Put => {
                    memory.sent.plane_mut(a, place.first, n).copy_from_slice(&registers[dst..dst + n]);
                }
                OpCode::Input => {
                    let plane = &memory.inputs[a as usize].plane(b as usize)[place.first * CHUNK_WORDS..];
                    let words = registers[dst..dst + n].iter_mut().flat_map(|chunk| &mut chunk.0);
                    words.zip(plane).for_each(|(word, input)| *word = *input);
                }
                OpCode::Output => {
                    let plane = &mut memory.outputs[a as usize].plane_mut(b as usize)[place.first * CHUNK_WORDS..];
                    let words = registers[dst..dst + n].iter().flat_map(|chunk| &chunk.0);
                    plane.iter_mut().zip(words).for_each(|(output, word)| *output = *word);
                }
            }
        }
    }
}

/// Applies a word operation to whole registers.
#[inline(always)]
fn map(registers: &mut [Chunk], n: usize, dst: usize, operands: [usize; 3], f: impl Fn(u64, u64, u64) -> u64) {
    for i in 0..n {
        let [a, b, c] = operands.map(|operand| registers[operand + i].0);
        let result = &mut registers[dst + i].0;
        for w in 0..CHUNK_WORDS {
            result[w] = f(a[w], b[w], c[w]);
        }
    }
}
