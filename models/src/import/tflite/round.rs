//! How LiteRT rounds: the rules as functions of the accumulator, exactly as its kernels compute them.
//!
//! *Double* rounding is that of the reference kernels (gemmlowp): with m = M 2^(e-31), M of 31 bits,
//!
//! ```text
//! high(a) = floor(a M / 2^31 + 1/2)                         SaturatingRoundingDoublingHighMul
//! rule(z) = high(z 2^max(e,0)) / 2^max(-e,0), half away from 0    RoundingDivideByPOT
//! ```
//!
//! The reference kernel for matrices takes the product in 64-bit floats instead and rounds it half away from 0;
//! kernels of TensorFlow Lite before LiteRT used the rule above there too.
//!
//! *Single* rounding is that of XNNPACK, which the runtime uses unless it is told otherwise: rule(z) = round(fl(z) * s), the
//! product in 32-bit floats, half to even.
//!
//! Both are monotone. Double rounding has a bend at 0, where ties change their side.

use crate::network::Range;

/// Which kernels an imported TFLite network equals, bit for bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// The reference kernels (`BUILTIN_REF`).
    #[default]
    Double,
    /// XNNPACK, the default of the runtime. Where sums are wide its 32-bit floats are no longer a line with steps; such layers are
    /// refused, or rounded without floats if [`approximate`](crate::import::Options::approximate) is set.
    Single,
}

impl Kernels {
    /// The name that a network carries.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kernels::Double => "LiteRT 2 reference kernels: 31-bit multipliers, rounded twice",
            Kernels::Single => "LiteRT 2 with XNNPACK: float32 multipliers, half to even",
        }
    }
}

/// A multiplication with a rounding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rule {
    Double(Multiplier),
    /// M / 2^8, half up: how XNNPACK changes scales.
    Short(i64),
    /// In 64-bit floats, half away from zero: what the reference kernel for matrices does.
    Wide(f64),
    Single(f32),
    /// The same without the rounding of the product, half up.
    Nearest(f32),
}

/// M 2^(e - 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Multiplier {
    /// M, in 2^30..2^31, or 0.
    pub significand: i32,
    /// e.
    pub exponent: i32,
}

impl Multiplier {
    /// QuantizeMultiplier: `real` to 31 bits; `real` is not negative.
    pub fn of(real: f64) -> Multiplier {
        if real == 0.0 || !real.is_normal() {
            return Multiplier { significand: 0, exponent: 0 };
        }
        // real = fraction * 2^exponent with fraction in [1/2, 1)
        let bits = real.to_bits();
        let mut exponent = ((bits >> 52) & 0x7ff) as i32 - 1022;
        let fraction = f64::from_bits(bits & !(0x7ff << 52) | (0x3fe << 52));
        let mut significand = (fraction * (1u64 << 31) as f64).round() as i64;
        if significand == 1 << 31 {
            significand /= 2;
            exponent += 1;
        }
        if exponent < -31 {
            return Multiplier { significand: 0, exponent: 0 };
        }
        Multiplier { significand: significand as i32, exponent }
    }

    /// MultiplyByQuantizedMultiplier, for what [`Multiplier::holds`].
    pub fn apply(self, z: i64) -> i64 {
        let z = z << self.exponent.max(0);
        let high = (z * i64::from(self.significand) + (1 << 30)) >> 31;
        divide_by_power(high, (-self.exponent).max(0) as u32)
    }

    /// True if no number of 32 bits overflows on its way, for any z in the interval.
    pub fn holds(self, domain: Range) -> bool {
        let limit = i128::from(i32::MAX) - 256;
        self.exponent < 31 && (i128::from(domain.magnitude()) << self.exponent.max(0)) <= limit
    }
}

/// z / 2^exponent, half away from 0.
pub(super) fn divide_by_power(z: i64, exponent: u32) -> i64 {
    let mask = (1i64 << exponent) - 1;
    let threshold = (mask >> 1) + i64::from(z < 0);
    (z >> exponent) + i64::from(z & mask > threshold)
}

/// floor(z * scale + 1/2), exactly; `scale` is positive and normal.
fn nearest(z: i64, scale: f32) -> i64 {
    let bits = scale.to_bits();
    let significand = i128::from(bits & 0x7f_ffff | 0x80_0000);
    // scale = significand / 2^shift
    let shift = 150 - (bits >> 23) as i32;
    let product = i128::from(z) * significand;
    match shift {
        // |z| < 2^32: the result is 0.
        60.. => 0,
        1..60 => ((product + (1 << (shift - 1))) >> shift) as i64,
        _ => (product << (-shift).min(60)).clamp(i64::MIN.into(), i64::MAX.into()) as i64,
    }
}

impl Rule {
    /// round(m z).
    pub fn apply(self, z: i64) -> i64 {
        match self {
            Rule::Double(multiplier) => multiplier.apply(z),
            Rule::Short(multiplier) => (z * multiplier + (1 << 7)) >> 8,
            Rule::Wide(scale) => (z as f64 * scale).round() as i64,
            Rule::Nearest(scale) => nearest(z, scale),
            // A product that leaves the integers is clamped by the conversion, and by the kernel.
            Rule::Single(scale) => (z as f32 * scale).round_ties_even() as i64,
        }
    }

    /// True if the runtime computes it without overflow on the whole interval.
    pub fn holds(self, domain: Range) -> bool {
        match self {
            Rule::Double(multiplier) => multiplier.holds(domain),
            // XNNPACK takes no others.
            Rule::Single(scale) if !(f32::MIN_POSITIVE..256.0).contains(&scale) => false,
            Rule::Single(_) | Rule::Nearest(_) | Rule::Short(_) => domain.magnitude() <= i32::MAX as u64,
            Rule::Wide(scale) => domain.magnitude() as f64 * scale.max(1.0) < f64::from(i32::MAX - 256),
        }
    }
}

/// Clamping and zero point of a quantised tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clamp {
    pub zero_point: i64,
    /// Smallest stored value.
    pub lo: i64,
    /// Largest stored value.
    pub hi: i64,
}

impl Clamp {
    /// The stored value of a rounded number.
    pub fn apply(self, rounded: i64) -> i64 {
        rounded.saturating_add(self.zero_point).clamp(self.lo, self.hi)
    }
}

/// A fused activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    None,
    Relu,
    ReluN1To1,
    Relu6,
    /// An operator of its own only.
    Relu0To1,
}

impl Activation {
    /// By its number in the schema.
    pub fn of(code: i8) -> Option<Activation> {
        [Activation::None, Activation::Relu, Activation::ReluN1To1, Activation::Relu6].get(code as usize).copied()
    }

    /// The clamp of a tensor with this activation: bounds are quantised as the kernels do it.
    pub fn clamp(self, kernels: Kernels, scale: f32, zero_point: i64, stored: Range) -> Clamp {
        let quantise = |value: f32| match kernels {
            Kernels::Double => zero_point.saturating_add((value / scale).round() as i64),
            Kernels::Single => (value / scale + zero_point as f32).round_ties_even() as i64,
        };
        let (least, most) = match self {
            Activation::None => (stored.lo, stored.hi),
            Activation::Relu => (quantise(0.0), stored.hi),
            Activation::ReluN1To1 => (quantise(-1.0), quantise(1.0)),
            Activation::Relu6 => (quantise(0.0), quantise(6.0)),
            Activation::Relu0To1 => (quantise(0.0), quantise(1.0)),
        };
        let lo = least.max(stored.lo).min(stored.hi);
        Clamp { zero_point, lo, hi: most.min(stored.hi).max(lo) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipliers_have_31_bits() {
        assert_eq!(Multiplier::of(1.0), Multiplier { significand: 1 << 30, exponent: 1 });
        assert_eq!(Multiplier::of(0.75), Multiplier { significand: 3 << 29, exponent: 0 });
        assert_eq!(Multiplier::of(1.0 - 1e-12), Multiplier { significand: 1 << 30, exponent: 1 });
        assert_eq!(Multiplier::of(1e-12), Multiplier { significand: 0, exponent: 0 });
    }

    #[test]
    fn the_nearest_number_needs_no_floats() {
        assert_eq!((-3..=3).map(|z| nearest(z, 0.5)).collect::<Vec<_>>(), [-1, -1, 0, 0, 1, 1, 2]);
        assert_eq!([nearest(7, 3.0), nearest(-7, 16_777_216.0), nearest(1 << 31, 1e-20)], [21, -7 << 24, 0]);
        for z in -100_000..100_000 {
            let product = f64::from(0.003_f32) * z as f64;
            assert_eq!(nearest(z, 0.003), (product + 0.5).floor() as i64);
        }
    }

    #[test]
    fn ties_go_away_from_zero_after_they_went_up() {
        let half = Multiplier::of(0.25);
        let rounded: Vec<i64> = (-7..=7).map(|z| half.apply(z)).collect();
        // 0.25 = 2^30 2^-31 2^-1: the first product is exact for even z only, and rounds up.
        assert_eq!(rounded, [-2, -2, -1, -1, -1, -1, 0, 0, 1, 1, 1, 1, 2, 2, 2]);
        assert!(rounded.is_sorted());
    }
}
