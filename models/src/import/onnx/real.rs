//! Functions of real numbers as a runtime computes them: in 32-bit floats, step by step, with a bound on what the order of summation
//! can change.
//!
//! A value is v with |v - what the runtime has| <= error. The error is 0 as long as every step has one correctly rounded result;
//! sums of products with units that are no powers of two have not, since nobody says in which order they are added up.

use std::rc::Rc;

use super::integers::{Whole, whole};
use super::joint::{Both, Join, Reals};
use super::quantiser::{Mode, Quantiser};
use super::stop::Stop;
use crate::import::erf::erf;

pub(super) use crate::shape::of_channel as at;

/// Most functions of real numbers between two quantisers.
pub(super) const MAX_STEPS: usize = 64;

/// 2^-24: a float's relative rounding error.
pub(super) const HALF_ULP: f64 = 1.0 / (1 << 24) as f64;

/// True for a sole max(v, 0).
pub(super) fn is_relu(post: &[Post]) -> bool {
    matches!(post, [Post::Clip(0.0, hi)] if *hi == f32::MAX)
}

/// A step on each element. Lists have one entry, or one for each channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Post {
    Add(Vec<f32>),
    /// c - v.
    From(Vec<f32>),
    Mul(Vec<f32>),
    Div(Vec<f32>),
    /// scale * v + bias, both rounded, as ONNX Runtime on x86 computes it.
    Norm {
        scale: Vec<f32>,
        bias: Vec<f32>,
    },
    Clip(f32, f32),
    /// To a whole number.
    Round(Mode),
    /// On whole numbers, exactly.
    Whole(Vec<Whole>),
    Function(Function),
    /// Factors below zero.
    Slopes(Vec<f32>),
    /// Another quantised tensor's values, which follow from this one's.
    Reals(Rc<Reals>),
    /// A product or a sum of two such, or of one and a quantised constant.
    Both(Rc<Both>),
    /// Two functions of the same number, joined.
    Join {
        by: Join,
        left: Vec<Post>,
        right: Vec<Post>,
    },
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    Sigmoid,
    Tanh,
    HardSwish,
    /// Slope and offset.
    HardSigmoid(f32, f32),
    /// By the error function, or by tanh.
    Gelu {
        tanh: bool,
    },
    /// The factor below zero.
    Elu(f32),
    LeakyRelu(f32),
    /// Factors below zero and of all.
    Selu(f32, f32),
    Celu(f32),
    /// What is above it stays; the rest is 0.
    ThresholdedRelu(f32),
    Softplus,
    Softsign,
    Mish,
    /// v sigmoid(a v).
    Swish(f32),
    Erf,
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Sin,
    Cos,
    Abs,
    Neg,
    Sign,
}

/// A value and how far off it may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Near {
    pub v: f32,
    pub error: f64,
}

/// How far off sums of products may be, in reals, by channel; nothing if they are exact in any order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Float {
    pub error: Vec<f64>,
    /// The runtime has the accumulator as an integer, which it makes a float before it multiplies it by the unit: that rounds twice.
    pub whole: bool,
}

impl Near {
    /// A real number that the runtime has after one rounding.
    pub fn rounded(v: f64) -> Near {
        Near { v: v as f32, error: 0.0 }
    }

    /// What a table has for this number, which is exact.
    fn looked_up(self, v: f32) -> Near {
        Near { v, error: if self.error == 0.0 { 0.0 } else { f64::INFINITY } }
    }

    fn after(self, v: f32, factor: f64) -> Near {
        let error =
            if self.error == 0.0 { 0.0 } else { self.error * factor.abs() + f64::from(v).abs() * 2.0 * HALF_ULP };
        Near { v, error }
    }
}

impl Float {
    pub fn exact(channels: usize) -> Float {
        Float { error: vec![0.0; channels], whole: false }
    }

    /// Of accumulators that the runtime has as integers.
    pub fn whole(channels: usize) -> Float {
        Float { whole: true, ..Float::exact(channels) }
    }

    /// The real value of an accumulator on a channel.
    pub fn near(&self, channel: usize, z: i64, unit: f64) -> Near {
        let z = if self.whole { f64::from(z as f32) } else { z as f64 };
        Near { error: self.error[channel], ..Near::rounded(z * unit) }
    }

    /// For sums of `products` products of magnitudes that add up to `magnitude` integers, with these units. They are exact in any
    /// order if all partial sums fit a float, times the odd factors of the units: 1 for powers of two.
    pub fn of(products: usize, magnitude: &[f64], input: Scales, weights: impl Fn(usize) -> f32) -> Float {
        let error = |(channel, &magnitude): (usize, &f64)| {
            let weight = weights(channel);
            if input.error == 0.0 && magnitude * odd_factor(input.unit) * odd_factor(weight) < (1 << 24) as f64 {
                return 0.0;
            }
            ((products as f64 + 5.0) * HALF_ULP + input.error)
                * magnitude
                * f64::from(input.unit).abs()
                * f64::from(weight).abs()
        };
        Float { error: magnitude.iter().enumerate().map(error).collect(), whole: false }
    }
}

/// Unit of the input of a sum, and how far off its values may be, as a part of the largest one.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub unit: f32,
    pub error: f64,
}

/// Refuses constants of which some are no numbers: what a quantiser makes of these is nowhere written.
pub(super) fn finite(list: &[f32]) -> Result<(), Stop> {
    if list.iter().all(|v| v.is_finite()) {
        return Ok(());
    }
    Err(Stop::new("constants that are not finite", "the file is not consistent"))
}

/// True if a product with the number is exact (but for very small results).
pub(super) fn power_of_two(v: f32) -> bool {
    v.is_normal() && v.to_bits() & 0x7f_ffff == 0
}

/// The odd factor of a number: it times integers is exact while its odd factor times these fits 24 bits. Infinite for what is no normal
/// number.
pub(super) fn odd_factor(v: f32) -> f64 {
    let mantissa = v.to_bits() & 0x7f_ffff | 0x80_0000;
    if v.is_normal() { (mantissa >> mantissa.trailing_zeros()).into() } else { f64::INFINITY }
}

/// What the steps make of `near` on a channel.
pub(super) fn apply(post: &[Post], channel: usize, near: Near) -> Near {
    post.iter().fold(near, |near, step| step.apply(channel, near))
}

impl Post {
    fn apply(&self, channel: usize, near: Near) -> Near {
        let v = near.v;
        match self {
            Post::Add(c) => near.after(v + at(c, channel), 1.0),
            Post::From(c) => near.after(at(c, channel) - v, 1.0),
            Post::Mul(c) => near.after(v * at(c, channel), at(c, channel).into()),
            Post::Div(c) => near.after(v / at(c, channel), 1.0 / f64::from(at(c, channel))),
            Post::Norm { scale, bias } => {
                let (scale, bias) = (at(scale, channel), at(bias, channel));
                near.after(v * scale + bias, scale.into())
            }
            Post::Clip(lo, hi) => Near { v: v.max(*lo).min(*hi), ..near },
            Post::Round(mode) => {
                let round = |v: f64| f64::from(mode.round(v as f32));
                let (here, reach) = (round(v.into()), near.error * 1.01);
                let off = if reach == 0.0 {
                    0.0
                } else {
                    [-reach, reach].map(|by| (round(f64::from(v) + by) - here).abs()).into_iter().fold(0.0, f64::max)
                };
                Near { v: here as f32, error: off }
            }
            Post::Whole(steps) => match whole(steps, channel, v as i64) {
                Some(z) if near.error == 0.0 && z as f32 as i64 == z => Near::rounded(z as f64),
                Some(z) => Near { v: z as f32, error: f64::INFINITY },
                None => Near { v, error: f64::INFINITY },
            },
            Post::Reals(reals) => near.looked_up(reals.value(v)),
            Post::Both(both) => near.looked_up(both.real(channel, v)),
            Post::Join { by, left, right } => by.of(apply(left, channel, near), apply(right, channel, near)),
            Post::Function(function) => function.near(near),
            Post::Slopes(slopes) => Function::LeakyRelu(at(slopes, channel)).near(near),
        }
    }

    /// True if the step rises on every channel.
    pub fn rises(&self) -> bool {
        match self {
            Post::Add(_) | Post::Clip(..) | Post::Round(_) => true,
            Post::Whole(steps) => steps.iter().all(Whole::rises),
            Post::From(_) => false,
            Post::Mul(c) | Post::Div(c) | Post::Norm { scale: c, .. } => c.iter().all(|&c| c > 0.0),
            Post::Function(function) => function.rises(),
            Post::Slopes(slopes) => slopes.iter().all(|&slope| slope >= 0.0),
            Post::Join { .. } | Post::Reals(_) | Post::Both(_) => false,
        }
    }
}

impl Join {
    fn of(self, a: Near, b: Near) -> Near {
        let (x, y) = (f64::from(a.v), f64::from(b.v));
        let (v, error) = match self {
            Join::Add => (a.v + b.v, a.error + b.error),
            Join::Sub => (a.v - b.v, a.error + b.error),
            Join::Mul => (a.v * b.v, a.error * y.abs() + b.error * x.abs() + a.error * b.error),
            // A denominator that may be 0 may give anything.
            Join::Div if b.error >= y.abs() && b.error > 0.0 => (a.v / b.v, f64::INFINITY),
            Join::Div => (a.v / b.v, (a.error + (x / y).abs() * b.error) / (y.abs() - b.error)),
        };
        let rounding = if error == 0.0 { 0.0 } else { f64::from(v).abs() * 2.0 * HALF_ULP };
        Near { v, error: error + rounding }
    }
}

impl Function {
    /// True where the result is that of one operation of floats, which rounds it once: so does a cast from 64 bits, which are more than
    /// twice as many.
    fn rounds_once(self, v: f32) -> bool {
        match self {
            Function::LeakyRelu(_) | Function::ThresholdedRelu(_) | Function::Sqrt | Function::Reciprocal => true,
            Function::Abs | Function::Neg | Function::Sign => true,
            // A product and a sum, rounded once or twice.
            Function::HardSigmoid(alpha, beta) => {
                let sum = v * alpha + beta;
                sum == v.mul_add(alpha, beta) && sum.clamp(0.0, 1.0) == self.value(v.into()) as f32
            }
            // Polynomials without a constant, and what is added to them.
            Function::Sigmoid | Function::Exp | Function::Cos => v == 0.0,
            Function::Tanh | Function::Erf | Function::Sin | Function::Softsign | Function::HardSwish => v == 0.0,
            Function::Mish | Function::Swish(_) | Function::Gelu { .. } => v == 0.0,
            Function::Elu(_) | Function::Celu(_) | Function::Selu(..) => v >= 0.0,
            Function::Log | Function::Softplus => false,
        }
    }

    fn near(self, near: Near) -> Near {
        let exact = self.value(near.v.into());
        let v = exact as f32;
        let own = if self.rounds_once(near.v) { 0.0 } else { self.error() * exact.abs().max(self.size(near.v)) };
        let change = |by: f64| (self.value(f64::from(near.v) + by) - exact).abs();
        let spread = match self {
            _ if near.error == 0.0 => 0.0,
            _ if self.is_steep() => change(near.error * 1.01).max(change(-near.error * 1.01)),
            _ => near.error * 1.25,
        };
        let error = spread + own;
        if v.is_finite() && error.is_finite() {
            return Near { v, error };
        }
        // What a quantiser makes of no number is nowhere written.
        Near { v: 0.0, error: f64::INFINITY }
    }

    /// How far off the runtime's value may be, as a part of it; of small values absolutely: about 4/3 of the most that ONNX Runtime 1.32 has
    /// on 300,000 numbers (on x86 with AVX2).
    fn error(self) -> f64 {
        match self {
            Function::Tanh | Function::Mish => 4e-7,
            Function::Sigmoid | Function::Softsign | Function::Log => 2e-7,
            Function::Erf | Function::Exp | Function::Elu(_) | Function::Celu(_) | Function::Sin | Function::Cos => {
                1.5e-7
            }
            _ => 2.5e-7,
        }
    }

    /// What counts as a small value: those of a product with the argument are as far off as the argument is large.
    fn size(self, v: f32) -> f64 {
        let size = match self {
            Function::Swish(_) | Function::Gelu { .. } | Function::Mish | Function::HardSwish => v,
            Function::Elu(alpha) | Function::Celu(alpha) => alpha,
            Function::Selu(alpha, gamma) => alpha * gamma / 1.7,
            _ => 1.0,
        };
        f64::from(size).abs().max(1.0)
    }

    /// True if it may rise or fall by more than 5/4 of what its argument does; such functions are monotone near any argument.
    fn is_steep(self) -> bool {
        matches!(
            self,
            Function::LeakyRelu(_)
                | Function::Elu(_)
                | Function::Selu(..)
                | Function::ThresholdedRelu(_)
                | Function::Exp
                | Function::Log
                | Function::Sqrt
                | Function::Reciprocal
                | Function::Sign
        )
    }

    /// True if it rises everywhere.
    fn rises(self) -> bool {
        match self {
            Function::LeakyRelu(slope) | Function::Elu(slope) | Function::ThresholdedRelu(slope) => slope >= 0.0,
            Function::Selu(alpha, gamma) => alpha >= 0.0 && gamma >= 0.0,
            Function::Celu(alpha) => alpha > 0.0,
            Function::HardSigmoid(alpha, _) => alpha >= 0.0,
            Function::Sigmoid | Function::Tanh | Function::Softplus | Function::Softsign => true,
            Function::Erf | Function::Exp | Function::Log | Function::Sqrt | Function::Sign => true,
            Function::HardSwish | Function::Gelu { .. } | Function::Mish | Function::Swish(_) => false,
            Function::Reciprocal | Function::Sin | Function::Cos | Function::Abs | Function::Neg => false,
        }
    }

    /// In 64-bit floats.
    fn value(self, v: f64) -> f64 {
        match self {
            Function::Sigmoid => 1.0 / (1.0 + (-v).exp()),
            Function::Tanh => v.tanh(),
            Function::HardSwish => v * (v / 6.0 + 0.5).clamp(0.0, 1.0),
            Function::HardSigmoid(alpha, beta) => (f64::from(alpha) * v + f64::from(beta)).clamp(0.0, 1.0),
            Function::Gelu { tanh: false } => 0.5 * v * (1.0 + erf(v * std::f64::consts::FRAC_1_SQRT_2)),
            Function::Gelu { tanh: true } => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044_715 * v * v * v);
                0.5 * v * (1.0 + inner.tanh())
            }
            Function::Elu(alpha) => {
                if v >= 0.0 {
                    v
                } else {
                    f64::from(alpha) * v.exp_m1()
                }
            }
            Function::LeakyRelu(slope) => {
                if v >= 0.0 {
                    v
                } else {
                    f64::from(slope) * v
                }
            }
            Function::Selu(alpha, gamma) => f64::from(gamma) * if v >= 0.0 { v } else { f64::from(alpha) * v.exp_m1() },
            Function::Celu(alpha) => {
                let alpha = f64::from(alpha);
                if v >= 0.0 { v } else { alpha * (v / alpha).exp_m1() }
            }
            Function::ThresholdedRelu(above) => {
                if v > f64::from(above) {
                    v
                } else {
                    0.0
                }
            }
            Function::Softplus => v.max(0.0) + (-v.abs()).exp().ln_1p(),
            Function::Softsign => v / (1.0 + v.abs()),
            Function::Mish => v * Function::Softplus.value(v).tanh(),
            Function::Swish(alpha) => v / (1.0 + (-f64::from(alpha) * v).exp()),
            Function::Erf => erf(v),
            Function::Exp => v.exp(),
            Function::Log => v.ln(),
            Function::Sqrt => v.sqrt(),
            Function::Reciprocal => 1.0 / v,
            Function::Sin => v.sin(),
            Function::Cos => v.cos(),
            Function::Abs => v.abs(),
            Function::Neg => -v,
            Function::Sign if v == 0.0 => 0.0,
            Function::Sign => v.signum(),
        }
    }
}

/// A quantiser's result, and by how much it may be off for what the value may be: 0 if it is certain.
pub(super) fn quantised(quantiser: &Quantiser, channel: usize, near: Near) -> (i64, i64) {
    let q = quantiser.index(channel, near.v);
    if near.error == 0.0 {
        return (q, 0);
    }
    let ends = quantiser.between(channel, near);
    (q, (ends[0] - q).abs().max((ends[1] - q).abs()))
}

impl Quantiser {
    /// The least and the largest result for what a value may be.
    pub fn between(&self, channel: usize, near: Near) -> [i64; 2] {
        let reach = if near.error.is_finite() { near.error * 1.01 } else { f64::INFINITY };
        [-reach, reach].map(|by| self.index(channel, (f64::from(near.v) + by) as f32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_where_all_partial_sums_are_floats() {
        let scales = Scales { unit: 0.25, error: 0.0 };
        assert_eq!(Float::of(9, &[1e4, 1e4], scales, |_| 0.5), Float::exact(2));
        assert!(Float::of(9, &[1e4], scales, |_| 0.3).error[0] > 0.0);
        assert!(Float::of(9, &[1e9], scales, |_| 0.5).error[0] > 0.0);
        assert_eq!(Float::of(9, &[1e6], scales, |_| 2.5), Float::exact(1));
        assert!(Float::of(9, &[1e7], scales, |_| 2.5).error[0] > 0.0);
    }
}
