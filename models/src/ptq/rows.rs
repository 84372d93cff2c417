//! The weights of a linear layer, row by row, and what a step makes of them.

use ndarray::{Array3, Array4};

use super::real::RealTerm;
use crate::parallel::each;
use crate::shape::of_channel;

/// Largest multiplier of a skip that has one for each channel.
const MOST_POINT: f64 = 32767.0;

/// Real value of each weight for one unit of its input, and the mean square of that input.
pub(super) struct Rows {
    /// By channel.
    channels: Vec<Row>,
    /// The largest weight.
    top: f32,
    /// True where the skips have one multiplier for all channels.
    pub uniform: bool,
}

struct Row {
    weights: Vec<[f32; 2]>,
    skips: Vec<[f32; 2]>,
}

/// A term in integers.
#[derive(Clone, Debug)]
pub(super) enum Whole {
    /// Weights of this many bits.
    Weights(Array4<i32>, u32),
    /// A multiple.
    Identity(i64),
    /// A multiple for each channel, of this many bits.
    Points(Vec<i32>, u32),
}

impl Rows {
    /// Of terms that read tensors with these units and these mean squares per channel, for weights of `bits` bits.
    pub fn of(terms: &[RealTerm], units: &[f64], powers: &[Vec<f64>], channels: usize, bits: u32) -> Rows {
        let mut rows: Vec<Row> = (0..channels).map(|_| Row { weights: vec![], skips: vec![] }).collect();
        let mut uniform = true;
        for ((term, &unit), power) in terms.iter().zip(units).zip(powers) {
            match term {
                RealTerm::Weights { weights, groups, .. } => {
                    let (outputs, inputs, ..) = weights.dim();
                    for (channel, (row, weights)) in rows.iter_mut().zip(weights.outer_iter()).enumerate() {
                        let first = channel / (outputs / groups) * inputs;
                        let value = |((input, _, _), &w): ((usize, usize, usize), &f32)| {
                            [(f64::from(w) * unit) as f32, power[first + input] as f32]
                        };
                        row.weights.extend(weights.indexed_iter().map(value));
                    }
                }
                RealTerm::Identity { factor, .. } => {
                    uniform &= factor.iter().all(|&f| f == factor[0]);
                    for (channel, row) in rows.iter_mut().enumerate() {
                        let value = f64::from(of_channel(factor, channel)) * unit;
                        row.skips.push([value as f32, power[channel] as f32]);
                    }
                }
            }
        }
        Rows { channels: rows, top: ((1 << (bits - 1)) - 1) as f32, uniform }
    }

    /// The largest weight of each channel.
    pub fn largest(&self) -> Vec<f64> {
        let most = |row: &Row| row.weights.iter().fold(0.0f32, |most, [w, _]| most.max(w.abs()));
        self.channels.iter().map(|row| f64::from(most(row))).collect()
    }

    /// The largest weight.
    pub fn top(&self) -> f64 {
        self.top.into()
    }

    /// The real value of one unit of the skips' input, where they all have the same.
    pub fn skip(&self) -> Option<f64> {
        let mut all = self.channels.iter().flat_map(|row| &row.skips).map(|[value, _]| value.abs());
        let first = all.next()?;
        all.all(|value| value == first).then_some(f64::from(first)).filter(|&value| value > 0.0)
    }

    /// Mean square of what a step makes wrong in the sum, by channel.
    pub fn errors(&self, step: f64) -> Vec<f64> {
        let (step, over) = (step as f32, (1.0 / step) as f32);
        let off = |[value, power]: &[f32; 2], top: f32| {
            let e = (value * over).round_ties_even().clamp(-top, top) * step - value;
            e * e * power
        };
        each(&self.channels, |row| {
            // Several sums, so that they are long no more.
            let part = |weights: &[[f32; 2]]| weights.iter().map(|w| off(w, self.top)).sum::<f32>();
            let weights: f64 = row.weights.chunks(256).map(|weights| f64::from(part(weights))).sum();
            weights + row.skips.iter().map(|skip| f64::from(off(skip, MOST_POINT as f32))).sum::<f64>()
        })
    }

    /// The terms with a step for each channel. A skip is never multiplied by 0.
    pub fn whole(&self, terms: &[RealTerm], units: &[f64], steps: &[f64], bits: u32) -> Vec<Whole> {
        let one_step = steps.iter().all(|&step| step == steps[0]);
        let term = |(term, &unit): (&RealTerm, &f64)| match term {
            RealTerm::Weights { weights, .. } => {
                let top = self.top();
                let whole = Array4::from_shape_fn(weights.dim(), |at| {
                    let w = f64::from(weights[at]) * unit / steps[at.0];
                    let w = w.round_ties_even().clamp(-top, top) as i32;
                    // One bit is a sign.
                    if bits == 1 && w == 0 { 1 } else { w }
                });
                Whole::Weights(whole, bits)
            }
            RealTerm::Identity { factor, .. } => {
                let multiple = |channel: usize| {
                    let m = f64::from(of_channel(factor, channel)) * unit / steps[channel];
                    m.round_ties_even()
                };
                if one_step && self.uniform {
                    let m = multiple(0);
                    return Whole::Identity(if m == 0.0 { f64::from(factor[0]).signum() as i64 } else { m as i64 });
                }
                let points: Vec<i32> =
                    (0..steps.len()).map(|channel| multiple(channel).clamp(-MOST_POINT, MOST_POINT) as i32).collect();
                let most = points.iter().map(|m| m.unsigned_abs()).max().unwrap_or(0);
                Whole::Points(points, (u32::BITS - most.leading_zeros() + 1).max(2))
            }
        };
        terms.iter().zip(units).map(term).collect()
    }
}

/// The term on integers, which are floats here.
pub(super) fn as_real(term: &RealTerm, whole: &Whole) -> RealTerm {
    match (term, whole) {
        (RealTerm::Weights { input, window, groups, dense, .. }, Whole::Weights(weights, _)) => RealTerm::Weights {
            input: *input,
            window: *window,
            groups: *groups,
            weights: weights.mapv(|w| w as f32),
            dense: *dense,
        },
        (term, Whole::Identity(m)) => RealTerm::Identity { input: term.input(), factor: vec![*m as f32] },
        (term, Whole::Points(points, _)) => {
            RealTerm::Identity { input: term.input(), factor: points.iter().map(|&m| m as f32).collect() }
        }
        (RealTerm::Identity { .. }, Whole::Weights(..)) => unreachable!("a skip has no weights"),
    }
}

/// Mean square of each channel.
pub(super) fn powers(tensors: &[Array3<f32>]) -> Vec<f64> {
    means(tensors, |x| x * x)
}

/// Mean of `of` each value, by channel.
pub(super) fn means(tensors: &[Array3<f32>], of: impl Fn(f64) -> f64) -> Vec<f64> {
    let (channels, height, width) = tensors[0].dim();
    let mut sums = vec![0.0; channels];
    for tensor in tensors {
        for (sum, plane) in sums.iter_mut().zip(tensor.outer_iter()) {
            *sum += plane.iter().map(|&x| of(x.into())).sum::<f64>();
        }
    }
    sums.iter().map(|sum| sum / (tensors.len() * height * width) as f64).collect()
}
