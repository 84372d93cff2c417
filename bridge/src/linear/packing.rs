//! Coefficient packing (\[HLHD22\], section 3.1): which coefficient of which ciphertext carries which input element, where
//! the kernel's taps go, and at which coefficients the outputs appear.
//!
//! Notation. A convolution of stride t is a stride-1 convolution on t^2 *phase channels* (space-to-depth): the padded pixel
//! Y = i t + p belongs to phase p, row i. A *slot* is the stretch of a ciphertext that holds one phase channel; its pixel
//! (y, x) sits at `pos(slot, y, x) = slot * channel_pitch + y * row_pitch + x`. The kernel is reversed:
//!
//! ```text
//!     weight of tap (dy, dx)    at coefficient  base - pos(slot, dy, dx)
//!     output (i, j)             at coefficient  base + i * row_pitch + j
//! ```
//!
//! so output (i, j) meets exactly the inputs pos(slot, i + dy, j + dx). Neighbouring rows share their padding columns and
//! neighbouring channels their padding rows: all of them carry the public value 0. A layer larger than a ciphertext is cut into
//! tiles of one shape; every tile has a secret of its own and the same masks.

use std::collections::HashMap;
use std::ops::Range;

use crate::conv::ConvShape;

/// Version of the way from weights to weight polynomials. Raise it with every change to where a tap, an input or an output
/// sits: it separates the publications of programs that pack differently (`lowkey_he::context`).
pub const PACKING_VERSION: u32 = 1;

/// Marks a position of the padded input that no body fills.
pub const UNFILLED: u32 = u32::MAX;

/// The convolution does not fit a ciphertext of this degree, however it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("one output needs {needed} coefficients, a ciphertext of degree {degree} is too small")]
pub struct DoesNotFit {
    /// Coefficients between the first and the last input pixel of one output.
    pub needed: usize,
    /// Ring degree N.
    pub degree: usize,
}

/// One coefficient that is sent encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// Which ciphertext (and mask) of the layer.
    pub ciphertext: u32,
    /// Which coefficient.
    pub coefficient: u32,
    /// The input element (row-major channels, height, width), or `None` for padding, whose value is publicly 0.
    pub element: Option<u32>,
}

/// The bodies of one tile in the order in which they travel, and what the server does with them.
#[derive(Clone, Debug)]
pub struct Tile {
    /// In order of ciphertext, then coefficient.
    pub bodies: Vec<Body>,
    /// For each position of the tile's padded input (channels, [`Packing::padded_shape`], row-major) the index in `bodies` of
    /// the word that belongs there, or [`UNFILLED`] where no useful output looks.
    pub gather: Vec<u32>,
    /// Useful output rows of the layer.
    pub rows: Range<usize>,
    /// Useful output columns of the layer.
    pub columns: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tap {
    phase: usize,
    dy: usize,
    dx: usize,
}

/// The packing of one convolution (a dense layer is one with height = width = 1) at one ring degree.
#[derive(Clone, Debug)]
pub struct Packing {
    shape: ConvShape,
    degree: usize,
    output: [usize; 2],
    tile: [usize; 2],
    grid: [usize; 2],
    /// The row and the column phases that taps meet, numbered: phase (p, q) is row number * columns + column number.
    phases: [HashMap<usize, usize>; 2],
    taps: Vec<Tap>,
    /// Largest row and column of a tap within its phase.
    reach: [usize; 2],
    row_pitch: usize,
    channel_pitch: usize,
    slots: usize,
    base: usize,
}

impl Packing {
    /// Packs `shape` into ciphertexts of `degree` coefficients with as few tiles as possible.
    ///
    /// # Errors
    /// When not even one output fits.
    pub fn new(shape: &ConvShape, degree: usize) -> Result<Self, DoesNotFit> {
        let (height, width) = shape.output();
        let phases = [0, 1].map(|axis| {
            let mut numbers = HashMap::new();
            for tap in 0..shape.kernel[axis] {
                let next = numbers.len();
                numbers.entry(tap * shape.dilation[axis] % shape.stride[axis]).or_insert(next);
            }
            numbers
        });
        let mut taps = Vec::with_capacity(shape.kernel[0] * shape.kernel[1]);
        for r in 0..shape.kernel[0] {
            for t in 0..shape.kernel[1] {
                let [y, x] = [r * shape.dilation[0], t * shape.dilation[1]];
                let [row, column] = [phases[0][&(y % shape.stride[0])], phases[1][&(x % shape.stride[1])]];
                let phase = row * phases[1].len() + column;
                taps.push(Tap { phase, dy: y / shape.stride[0], dx: x / shape.stride[1] });
            }
        }
        let reach = [taps.iter().map(|t| t.dy).max().unwrap_or(0), taps.iter().map(|t| t.dx).max().unwrap_or(0)];
        let mut packing = Self {
            shape: shape.clone(),
            degree,
            output: [height, width],
            tile: [0; 2],
            grid: [0; 2],
            phases,
            taps,
            reach,
            row_pitch: 0,
            channel_pitch: 0,
            slots: 0,
            base: 0,
        };
        for across in 1..=width {
            for down in 1..=height {
                packing.tile = [height.div_ceil(down), width.div_ceil(across)];
                packing.grid = [height.div_ceil(packing.tile[0]), width.div_ceil(packing.tile[1])];
                packing.set_pitches();
                let [rows, columns] = [packing.tile[0] + reach[0], packing.tile[1] + reach[1]];
                let span = (rows - 1) * packing.row_pitch + columns;
                if span <= degree {
                    let channels = shape.channels * packing.phase_count();
                    packing.slots = (1 + (degree - span) / packing.channel_pitch).min(channels);
                    packing.base =
                        (packing.slots - 1) * packing.channel_pitch + reach[0] * packing.row_pitch + reach[1];
                    return Ok(packing);
                }
            }
        }
        Err(DoesNotFit { needed: reach[0] * packing.row_pitch + reach[1] + 1, degree })
    }

    /// Where a dimension is neither cut nor strided, the padding after one row (channel) is that before the next.
    fn set_pitches(&mut self) {
        let (s, reach) = (&self.shape, self.reach);
        let pitch = |axis: usize, size: usize, before: usize, after: usize| {
            if self.grid[axis] == 1 && s.stride[axis] == 1 {
                (size + before.max(after)).max(self.output[axis])
            } else {
                self.tile[axis] + reach[axis]
            }
        };
        let [top, left, bottom, right] = s.padding;
        let row = pitch(1, s.width, left, right);
        let rows = pitch(0, s.height, top, bottom);
        (self.row_pitch, self.channel_pitch) = (row, rows * row);
    }

    /// The convolution.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Ring degree N.
    pub fn degree(&self) -> usize {
        self.degree
    }

    /// Input ciphertexts (and masks) per tile.
    pub fn ciphertexts(&self) -> usize {
        (self.shape.channels * self.phase_count()).div_ceil(self.slots)
    }

    /// Tiles, each under its own secret.
    pub fn tiles(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Output rows and columns of one tile.
    pub fn tile_output(&self) -> [usize; 2] {
        self.tile
    }

    /// Height and width of one tile's padded input.
    pub fn padded_shape(&self) -> [usize; 2] {
        let s = &self.shape;
        [0, 1].map(|d| (self.tile[d] - 1) * s.stride[d] + (s.kernel[d] - 1) * s.dilation[d] + 1)
    }

    /// An upper bound on the words that this packing takes in plans and masks, and on the steps to plan it: computed without
    /// planning, so that a stranger's layer can be refused first.
    pub fn size(&self) -> u64 {
        let [height, width] = self.padded_shape();
        let tile = self.ciphertexts() * self.degree + self.shape.channels * height * width;
        let outputs = self.output[0] * self.output[1];
        (tile as u64).saturating_mul(self.tiles() as u64).saturating_add((2 * outputs + 2 * self.taps.len()) as u64)
    }

    /// The convolution of one tile's padded input: same kernel, no padding.
    pub fn tile_shape(&self) -> ConvShape {
        let [height, width] = self.padded_shape();
        ConvShape { height, width, padding: [0; 4], ..self.shape.clone() }
    }

    fn phase_count(&self) -> usize {
        self.phases[0].len() * self.phases[1].len()
    }

    fn pos(&self, slot: usize, y: usize, x: usize) -> usize {
        slot * self.channel_pitch + y * self.row_pitch + x
    }

    /// The coefficient at which tile-relative output (i, j) appears.
    pub fn output_coefficient(&self, i: usize, j: usize) -> usize {
        self.base + i * self.row_pitch + j
    }

    /// The weight polynomial of output channel `o` for each input ciphertext that holds one of its inputs:
    /// (ciphertext, [(coefficient, weight)]). `weights` is [out, in / groups, kernel h, kernel w].
    pub fn weight_polynomials(&self, o: usize, weights: &[i32]) -> Vec<(usize, Vec<(usize, i32)>)> {
        let s = &self.shape;
        let (inputs, outputs) = (s.channels / s.groups, s.out_channels / s.groups);
        let first = o / outputs * inputs;
        let own = &weights[o * inputs * self.taps.len()..][..inputs * self.taps.len()];
        let mut polynomials: Vec<(usize, Vec<(usize, i32)>)> = Vec::new();
        for (channel, kernel) in own.chunks_exact(self.taps.len()).enumerate() {
            for phase in 0..self.phase_count() {
                let place = (first + channel) * self.phase_count() + phase;
                let (ciphertext, slot) = (place / self.slots, place % self.slots);
                if polynomials.last().is_none_or(|p| p.0 != ciphertext) {
                    polynomials.push((ciphertext, Vec::new()));
                }
                let terms = &mut polynomials.last_mut().expect("pushed above").1;
                for (tap, &weight) in self.taps.iter().zip(kernel) {
                    if tap.phase == phase {
                        terms.push((self.base - self.pos(slot, tap.dy, tap.dx), weight));
                    }
                }
            }
        }
        polynomials
    }

    /// The bodies of tile `index` (row-major over the grid).
    pub fn tile(&self, index: usize) -> Tile {
        let s = &self.shape;
        let [row, column] = [index / self.grid[1] * self.tile[0], index % self.grid[1] * self.tile[1]];
        let rows = row..(row + self.tile[0]).min(self.output[0]);
        let columns = column..(column + self.tile[1]).min(self.output[1]);
        let [height, width] = self.padded_shape();
        let (needed, pitch) = self.needed(rows.len(), columns.len());
        let numbers = |axis: usize, size: usize| -> Vec<Option<usize>> {
            (0..size).map(|i| self.phases[axis].get(&(i % s.stride[axis])).copied()).collect()
        };
        let (row_phases, column_phases) = (numbers(0, height), numbers(1, width));

        // One entry per (ciphertext, coefficient) that some useful output meets.
        let mut places = vec![None; self.ciphertexts() * self.degree];
        let mut at = vec![UNFILLED as usize; s.channels * height * width];
        for channel in 0..s.channels {
            for y in 0..height {
                for x in 0..width {
                    let (Some(row_phase), Some(column_phase)) = (row_phases[y], column_phases[x]) else { continue };
                    let phase = row_phase * self.phases[1].len() + column_phase;
                    if !needed[phase][y / s.stride[0] * pitch + x / s.stride[1]] {
                        continue;
                    }
                    let slot = channel * self.phase_count() + phase;
                    let pos = self.pos(slot % self.slots, y / s.stride[0], x / s.stride[1]);
                    let place = slot / self.slots * self.degree + pos;
                    let (py, px) = (row * s.stride[0] + y, column * s.stride[1] + x);
                    let inside = (s.padding[0]..s.padding[0] + s.height).contains(&py)
                        && (s.padding[1]..s.padding[1] + s.width).contains(&px);
                    let element =
                        inside.then(|| ((channel * s.height + py - s.padding[0]) * s.width + px - s.padding[1]) as u32);
                    let old = places[place].replace(element);
                    assert!(old.is_none_or(|old| old == element), "two inputs at one coefficient");
                    at[(channel * height + y) * width + x] = place;
                }
            }
        }
        let mut bodies = Vec::new();
        let mut index_of = vec![UNFILLED; places.len()];
        for (place, element) in places.iter().enumerate() {
            if let Some(element) = *element {
                index_of[place] = bodies.len() as u32;
                bodies.push(Body {
                    ciphertext: (place / self.degree) as u32,
                    coefficient: (place % self.degree) as u32,
                    element,
                });
            }
        }
        let gather = at.iter().map(|&p| if p == UNFILLED as usize { UNFILLED } else { index_of[p] }).collect();
        Tile { bodies, gather, rows, columns }
    }

    /// Per phase, the pixels (row-major, and their pitch) that the first `rows` x `columns` outputs of a tile read.
    fn needed(&self, rows: usize, columns: usize) -> (Vec<Vec<bool>>, usize) {
        let [height, width] = [0, 1].map(|d| self.tile[d] + self.reach[d]);
        let mut needed = vec![vec![false; height * width]; self.phase_count()];
        for tap in &self.taps {
            for i in 0..rows {
                needed[tap.phase][(i + tap.dy) * width + tap.dx..][..columns].fill(true);
            }
        }
        (needed, width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shapes() -> impl Strategy<Value = ConvShape> {
        let small = 1..=3usize;
        (
            (small.clone(), small.clone(), 1..=3usize),
            (1..=12usize, 1..=12usize),
            (1..=4usize, 1..=4usize),
            (small.clone(), small.clone()),
            (small.clone(), small),
            [0..=2usize, 0..=2usize, 0..=2usize, 0..=2usize],
        )
            .prop_map(|((inputs, outputs, groups), (height, width), kernel, stride, dilation, padding)| ConvShape {
                channels: inputs * groups,
                height,
                width,
                out_channels: outputs * groups,
                kernel: kernel.into(),
                stride: stride.into(),
                padding,
                dilation: dilation.into(),
                groups,
            })
            .prop_filter("the kernel fits the padded input", |s| {
                s.height + s.padding[0] + s.padding[2] > (s.kernel[0] - 1) * s.dilation[0]
                    && s.width + s.padding[1] + s.padding[3] > (s.kernel[1] - 1) * s.dilation[1]
            })
    }

    /// Negacyclic sum over ciphertexts of weight polynomial times message polynomial, then the outputs.
    fn by_polynomials(packing: &Packing, weights: &[i32], input: &[i64]) -> Vec<i64> {
        let s = packing.shape();
        let (height, width) = s.output();
        let mut out = vec![i64::MIN; s.out_channels * height * width];
        for index in 0..packing.tiles() {
            let tile = packing.tile(index);
            let mut messages = vec![vec![0i64; packing.degree()]; packing.ciphertexts()];
            for body in &tile.bodies {
                messages[body.ciphertext as usize][body.coefficient as usize] =
                    body.element.map_or(0, |e| input[e as usize]);
            }
            for o in 0..s.out_channels {
                let mut product = vec![0i64; packing.degree()];
                for (ciphertext, terms) in packing.weight_polynomials(o, weights) {
                    for (coefficient, weight) in terms {
                        for (k, &m) in messages[ciphertext].iter().enumerate() {
                            let place = coefficient + k;
                            let sign = if place < packing.degree() { 1 } else { -1 };
                            product[place % packing.degree()] += sign * i64::from(weight) * m;
                        }
                    }
                }
                for (i, row) in tile.rows.clone().enumerate() {
                    for (j, column) in tile.columns.clone().enumerate() {
                        out[(o * height + row) * width + column] = product[packing.output_coefficient(i, j)];
                    }
                }
            }
        }
        out
    }

    fn plain(s: &ConvShape, weights: &[i32], input: &[i64]) -> Vec<i64> {
        let (height, width) = s.output();
        let (inputs, outputs) = (s.channels / s.groups, s.out_channels / s.groups);
        let mut out = Vec::new();
        for o in 0..s.out_channels {
            for i in 0..height {
                for j in 0..width {
                    let mut sum = 0;
                    for c in 0..inputs {
                        for r in 0..s.kernel[0] {
                            for t in 0..s.kernel[1] {
                                let y = (i * s.stride[0] + r * s.dilation[0]).wrapping_sub(s.padding[0]);
                                let x = (j * s.stride[1] + t * s.dilation[1]).wrapping_sub(s.padding[1]);
                                if y < s.height && x < s.width {
                                    let w = weights[((o * inputs + c) * s.kernel[0] + r) * s.kernel[1] + t];
                                    sum +=
                                        i64::from(w) * input[((o / outputs * inputs + c) * s.height + y) * s.width + x];
                                }
                            }
                        }
                    }
                    out.push(sum);
                }
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn packed_products_are_the_convolution(shape in shapes(), log_degree in 5..9usize, seed in any::<u64>()) {
            let mut state = seed | 1;
            let mut next = |m: i64| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as i64 % m
            };
            let weights: Vec<i32> =
                (0..shape.out_channels * shape.channels / shape.groups * shape.kernel[0] * shape.kernel[1])
                    .map(|_| next(15) as i32 - 7).collect();
            let input: Vec<i64> = (0..shape.channels * shape.height * shape.width).map(|_| next(1000)).collect();
            match Packing::new(&shape, 1 << log_degree) {
                Ok(packing) => {
                    prop_assert_eq!(by_polynomials(&packing, &weights, &input), plain(&shape, &weights, &input));
                    let tiles = (0..packing.tiles()).map(|index| packing.tile(index));
                    let words: usize = tiles.map(|tile| tile.bodies.len() + tile.gather.len()).sum();
                    prop_assert!(words as u64 <= packing.size());
                }
                Err(error) => prop_assert!(error.needed > 1 << log_degree),
            }
        }
    }

    #[test]
    fn padding_is_shared_between_rows_and_channels() {
        let shape = ConvShape::square(2, 1, 3, 8, 1);
        let packing = Packing::new(&shape, 256).expect("fits");
        let tile = packing.tile(0);
        let zeros = tile.bodies.iter().filter(|b| b.element.is_none()).count();
        // Rows of pitch 9: two channels of 9 rows, one closing row, one closing pixel, less the 128 elements.
        assert_eq!(zeros, 2 * 81 + 9 + 1 - 128);
        assert_eq!(packing.ciphertexts(), 1);
    }

    #[test]
    fn dense_layers_have_one_output_coefficient() {
        let shape = ConvShape::dense(256, 100);
        let packing = Packing::new(&shape, 2048).expect("fits");
        assert_eq!((packing.ciphertexts(), packing.tiles(), packing.output_coefficient(0, 0)), (1, 1, 255));
    }
}
