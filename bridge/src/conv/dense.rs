//! Convolution to a single pixel, a dense layer among them: a matrix times a vector, bound by reading the matrix.

use rayon::prelude::*;

use super::backend::Backend;
use super::geometry::{ConvShape, Span, Term};
use super::pack::Digit;
use super::tile::{DENSE_ROWS, DenseWeights, pair};
use super::word::Word;

/// A packed matrix for every group.
pub(super) struct Dense {
    backend: Backend,
    shape: ConvShape,
    /// Pairs of inputs.
    pairs: usize,
    digits: Vec<PackedDigit>,
}

struct PackedDigit {
    place: u32,
    ranges: Vec<std::ops::Range<usize>>,
    weights: Packed,
}

/// `[groups][panels][pairs][DENSE_ROWS]` pairs of weights.
enum Packed {
    Bytes(Vec<[i8; 2]>),
    Words(Vec<u32>),
}

impl Dense {
    pub(super) fn new<W: Word>(backend: Backend, shape: &ConvShape, weights: &[i32]) -> Self {
        let fan_in = shape.fan_in();
        let terms: Vec<Term> =
            (0..fan_in).step_by(2).map(|low| Term { low, high: (low + 1 < fan_in).then_some(low + 1) }).collect();
        let per_group = shape.out_channels / shape.groups;
        let digits = Digit::split::<W>(weights, &terms, fan_in)
            .into_iter()
            .map(|digit| {
                let mut words = Vec::new();
                for group in 0..shape.groups {
                    let end = (group + 1) * per_group;
                    for first in (group * per_group..end).step_by(DENSE_ROWS) {
                        digit.pack(&terms, first..end, DENSE_ROWS, &mut words);
                    }
                }
                let weights = if digit.fits_bytes() {
                    Packed::Bytes(words.iter().map(|&pair| [pair as i8, (pair >> 16) as i8]).collect())
                } else {
                    Packed::Words(words)
                };
                PackedDigit { place: digit.place, ranges: digit.ranges, weights }
            })
            .collect();
        Self { backend, shape: shape.clone(), pairs: terms.len(), digits }
    }

    /// output = weights * input, or output += weights * input where `add`; on all threads where `parallel`.
    pub(super) fn apply<W: Word>(&self, input: &[W], output: &mut [W], add: bool, parallel: bool) {
        let per_group = self.shape.out_channels / self.shape.groups;
        let panels = per_group.div_ceil(DENSE_ROWS);
        let channels = self.shape.channels / self.shape.groups * self.shape.height * self.shape.width;
        for (group, (input, output)) in input.chunks_exact(channels).zip(output.chunks_exact_mut(per_group)).enumerate()
        {
            let inputs = self.gather(input);
            let panel = |(i, out): (usize, &mut [W])| self.panel(group * panels + i, &inputs, out, add);
            if parallel {
                output.par_chunks_mut(DENSE_ROWS).enumerate().for_each(panel);
            } else {
                output.chunks_mut(DENSE_ROWS).enumerate().for_each(panel);
            }
        }
    }

    /// The inputs of the only pixel, `[limbs][pairs]`, from those of a group.
    fn gather<W: Word>(&self, input: &[W]) -> Vec<u32> {
        let [down, right] = self.shape.axes();
        let whole = [down, right].iter().all(|axis| axis.before == 0 && axis.dilation == 1 && axis.kernel == axis.size);
        if whole {
            return self.pair::<W>(input);
        }
        let mut words = Vec::with_capacity(2 * self.pairs);
        for channel in input.chunks_exact(down.size * right.size) {
            for i in 0..down.kernel {
                let y = down.source(i * down.dilation, 0);
                for j in 0..right.kernel {
                    let x = right.source(j * right.dilation, 0);
                    words.push(y.zip(x).map_or(W::default(), |(y, x)| channel[y * right.size + x]));
                }
            }
        }
        self.pair(&words)
    }

    /// Pairs of consecutive words, `[limbs][pairs]`.
    fn pair<W: Word>(&self, words: &[W]) -> Vec<u32> {
        let mut pairs = vec![0; W::LIMBS * self.pairs];
        let (twos, one) = words.as_chunks::<2>();
        for (limb, pairs) in pairs.chunks_exact_mut(self.pairs).enumerate() {
            for (out, [low, high]) in pairs.iter_mut().zip(twos) {
                *out = pair(low.limb(limb), high.limb(limb));
            }
            if let [low] = one {
                pairs[self.pairs - 1] = pair(low.limb(limb), 0);
            }
        }
        pairs
    }

    /// The outputs of one panel, at most DENSE_ROWS.
    fn panel<W: Word>(&self, panel: usize, inputs: &[u32], out: &mut [W], add: bool) {
        let mut sums = [W::Sum::default(); DENSE_ROWS];
        let mut narrow = [0; DENSE_ROWS];
        for digit in &self.digits {
            for range in &digit.ranges {
                let cells = |at: usize| (panel * self.pairs + at) * DENSE_ROWS;
                let weights = match &digit.weights {
                    Packed::Bytes(weights) => DenseWeights::Bytes(&weights[cells(range.start)..cells(range.end)]),
                    Packed::Words(weights) => DenseWeights::Words(&weights[cells(range.start)..cells(range.end)]),
                };
                for (limb, inputs) in inputs.chunks_exact(self.pairs).enumerate() {
                    let place = digit.place + 16 * limb as u32;
                    if place >= W::BITS {
                        break;
                    }
                    self.backend.dense(weights, &inputs[range.clone()], &mut narrow);
                    self.backend.fold(&mut sums, &narrow, place, false);
                }
            }
        }
        let lanes = ((1u32 << out.len()) - 1) as u16;
        self.backend.store(&sums, &[Span { at: 0, lanes }], &mut [out], add);
    }
}
