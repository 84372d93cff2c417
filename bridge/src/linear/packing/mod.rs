//! Coefficient packing (\[HLHD22\], section 3.1): which coefficient of which ciphertext carries which input element, where
//! the kernel's taps go, and at which coefficients the outputs appear.
//!
//! Notation. A convolution of stride t is a stride-1 convolution on t^2 *subgrids* of every channel (space-to-depth): the padded
//! pixel Y = i t + p belongs to subgrid p, row i. A *stretch* is the part of a ciphertext that holds one subgrid of one channel;
//! its pixel (y, x) sits at `pos(stretch, y, x) = stretch * stretch_pitch + y * row_pitch + x`. The kernel is reversed:
//!
//! ```text
//!     weight of tap (dy, dx)    at coefficient  base - pos(stretch, dy, dx)
//!     output (i, j)             at coefficient  base + i * row_pitch + j
//! ```
//!
//! so output (i, j) meets exactly the inputs pos(stretch, i + dy, j + dx). Neighbouring rows share their padding columns and
//! neighbouring stretches their padding rows: all of them carry the public value 0. A layer larger than a ciphertext is cut into
//! tiles of one shape; every tile has a secret of its own and the same masks.
//!
//! A ciphertext has one *band* of N coefficients, or 2^k bands of N / 2^k. Inputs are in the first band, the others carry 0, and an output
//! ciphertext holds one output channel per band, so that there are fewer of them, and fewer hints:
//!
//! ```text
//!     weight of tap (dy, dx), output channel of band g      at coefficient  g N / 2^k + base - pos(stretch, dy, dx)
//!     output (i, j) of that channel                         at coefficient  g N / 2^k + base + i * row_pitch + j
//! ```
//!
//! The output of band g meets the weights of band g' at band g - g', modulo N and up to the sign: zeros, but their bodies are needed, whole.
//! So bands are paid for in bodies: of every input, and of its padding, one per band.

mod subgrid;
mod tile;

use lowkey_he::evaluate::WeightPolynomial;

use crate::conv::ConvShape;
use subgrid::{Subgrids, Tap};
pub use tile::{Body, Tile, UNFILLED};

/// Version of the way from weights to weight polynomials. Raise it with every change to where a tap, an input or an output
/// sits: it separates the publications of programs that pack differently (`lowkey_he::context`).
pub const PACKING_VERSION: u32 = 1;

/// The convolution does not fit a ciphertext of this degree, however it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("one output needs {needed} coefficients, a ciphertext of degree {degree} is too small")]
pub struct DoesNotFit {
    /// Coefficients between the first and the last input pixel of one output.
    pub needed: usize,
    /// Ring degree N.
    pub degree: usize,
}

/// The packing of one convolution (a dense layer is one with height = width = 1) at one ring degree.
#[derive(Clone, Debug)]
pub struct Packing {
    shape: ConvShape,
    degree: usize,
    output: [usize; 2],
    /// Output rows and columns of a tile.
    tile: [usize; 2],
    /// Tiles down and across.
    grid: [usize; 2],
    subgrids: Subgrids,
    taps: Vec<Tap>,
    /// Largest row and column of a tap within its subgrid.
    reach: [usize; 2],
    row_pitch: usize,
    stretch_pitch: usize,
    /// Stretches in a ciphertext.
    stretches: usize,
    base: usize,
    bands: usize,
}

impl Packing {
    /// Packs `shape` into ciphertexts of `degree` coefficients with as few tiles as possible.
    ///
    /// # Errors
    /// When not even one output fits.
    pub fn new(shape: &ConvShape, degree: usize) -> Result<Self, DoesNotFit> {
        let mut packing = Self::uncut(shape, degree, 1);
        let [height, width] = packing.output;
        for across in 1..=width {
            for down in 1..=height {
                packing.cut([down, across]);
                if packing.span() <= degree {
                    packing.fill();
                    return Ok(packing);
                }
            }
        }
        Err(DoesNotFit { needed: packing.reach[0] * packing.row_pitch + packing.reach[1] + 1, degree })
    }

    /// Packs `shape` with `bands` output channels in an output ciphertext, a power of two. `None` where that cannot be, or is of no use: a
    /// band is too small for one channel of the input, two bands hold no more channels than one, or the convolution has groups.
    pub fn banded(shape: &ConvShape, degree: usize, bands: usize) -> Option<Self> {
        if bands == 1 {
            return Self::new(shape, degree).ok();
        }
        let possible =
            bands.is_power_of_two() && bands <= degree && bands / 2 < shape.out_channels && shape.groups == 1;
        let mut packing = possible.then(|| Self::uncut(shape, degree, bands))?;
        packing.cut([1, 1]);
        (packing.span() <= packing.band()).then(|| packing.fill())?;
        Some(packing)
    }

    /// Before it is decided where anything sits.
    fn uncut(shape: &ConvShape, degree: usize, bands: usize) -> Self {
        let (height, width) = shape.output();
        let subgrids = Subgrids::new(shape);
        let taps = subgrids.taps(shape);
        let reach = [taps.iter().map(|t| t.dy).max().unwrap_or(0), taps.iter().map(|t| t.dx).max().unwrap_or(0)];
        Self {
            shape: shape.clone(),
            degree,
            output: [height, width],
            tile: [0; 2],
            grid: [0; 2],
            subgrids,
            taps,
            reach,
            row_pitch: 0,
            stretch_pitch: 0,
            stretches: 0,
            base: 0,
            bands,
        }
    }

    /// Cuts the output into at most so many tiles down and across, all of one size. Where a dimension is neither cut nor
    /// strided, the padding after one row (channel) is that before the next.
    fn cut(&mut self, parts: [usize; 2]) {
        self.tile = [0, 1].map(|axis| self.output[axis].div_ceil(parts[axis]));
        self.grid = [0, 1].map(|axis| self.output[axis].div_ceil(self.tile[axis]));
        let s = &self.shape;
        let pitch = |axis: usize, size: usize, before: usize, after: usize| {
            if self.grid[axis] == 1 && s.stride[axis] == 1 {
                (size + before.max(after)).max(self.output[axis])
            } else {
                self.tile[axis] + self.reach[axis]
            }
        };
        let [top, left, bottom, right] = s.padding;
        let row = pitch(1, s.width, left, right);
        let rows = pitch(0, s.height, top, bottom);
        (self.row_pitch, self.stretch_pitch) = (row, rows * row);
    }

    /// Coefficients from the first to the last pixel of one stretch.
    fn span(&self) -> usize {
        let [rows, columns] = [0, 1].map(|axis| self.tile[axis] + self.reach[axis]);
        (rows - 1) * self.row_pitch + columns
    }

    /// As many stretches in a band as fit and as there are. base is the largest pos of a tap: every weight has a coefficient.
    fn fill(&mut self) {
        self.stretches = (1 + (self.band() - self.span()) / self.stretch_pitch).min(self.all_stretches());
        self.base = (self.stretches - 1) * self.stretch_pitch + self.reach[0] * self.row_pitch + self.reach[1];
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
        self.all_stretches().div_ceil(self.stretches)
    }

    /// Output channels of an output ciphertext.
    pub fn bands(&self) -> usize {
        self.bands
    }

    /// Coefficients of a band.
    pub(super) fn band(&self) -> usize {
        self.degree / self.bands
    }

    /// Output ciphertexts (and hints).
    pub fn output_ciphertexts(&self) -> usize {
        self.shape.out_channels.div_ceil(self.bands)
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
        // All of it in words of 64 bits: a usize may have 32.
        let product = |sizes: &[usize]| sizes.iter().fold(1u64, |product, &size| product.saturating_mul(size as u64));
        let inputs = product(&[self.bands, self.shape.channels, height, width]);
        let tile = product(&[self.ciphertexts(), self.degree]).saturating_add(inputs);
        let planned = product(&self.output).saturating_add(self.taps.len() as u64).saturating_mul(2);
        tile.saturating_mul(product(&self.grid)).saturating_add(planned)
    }

    /// The convolution of one tile's padded input: same kernel, no padding.
    pub fn tile_shape(&self) -> ConvShape {
        let [height, width] = self.padded_shape();
        ConvShape { height, width, padding: [0; 4], ..self.shape.clone() }
    }

    /// The coefficient at which tile-relative output (i, j) of the first band appears.
    pub fn output_coefficient(&self, i: usize, j: usize) -> usize {
        self.base + i * self.row_pitch + j
    }

    /// The weight polynomials of output ciphertext `number`, one for each input ciphertext that holds one of its inputs. `weights` is
    /// [out, in / groups, kernel h, kernel w].
    pub fn weight_polynomials(&self, number: usize, weights: &[i32]) -> Vec<WeightPolynomial> {
        let s = &self.shape;
        let (inputs, outputs) = (s.channels / s.groups, s.out_channels / s.groups);
        let own = number * self.bands..s.out_channels.min((number + 1) * self.bands);
        // Bands are those of one group.
        let first = own.start / outputs * inputs;
        let kernels: Vec<&[i32]> = own.map(|o| &weights[o * s.fan_in()..][..s.fan_in()]).collect();
        let mut polynomials: Vec<WeightPolynomial> = Vec::new();
        for channel in 0..inputs {
            for subgrid in 0..self.subgrids.count() {
                let Stretch { ciphertext, index } = self.stretch(first + channel, subgrid);
                if polynomials.last().is_none_or(|last| last.ciphertext != ciphertext) {
                    polynomials.push(WeightPolynomial { ciphertext, terms: Vec::new() });
                }
                let terms = &mut polynomials.last_mut().expect("pushed above").terms;
                for (band, kernel) in kernels.iter().enumerate() {
                    let kernel = &kernel[channel * self.taps.len()..][..self.taps.len()];
                    let base = band * self.band() + self.base;
                    let taps = self.taps.iter().zip(kernel).filter(|(tap, _)| tap.subgrid == subgrid);
                    terms.extend(taps.map(|(tap, &weight)| (base - self.pos(index, tap.dy, tap.dx), weight)));
                }
            }
        }
        polynomials
    }

    /// Stretches that one tile's input takes.
    fn all_stretches(&self) -> usize {
        self.shape.channels * self.subgrids.count()
    }

    /// Where a subgrid of a channel is held.
    fn stretch(&self, channel: usize, subgrid: usize) -> Stretch {
        let number = channel * self.subgrids.count() + subgrid;
        Stretch { ciphertext: number / self.stretches, index: number % self.stretches }
    }

    fn pos(&self, stretch: usize, y: usize, x: usize) -> usize {
        stretch * self.stretch_pitch + y * self.row_pitch + x
    }
}

/// A part of a ciphertext.
struct Stretch {
    ciphertext: usize,
    index: usize,
}
