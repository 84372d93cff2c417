//! Quotients of quantised values as the runtime computes them: by a reciprocal of 31 bits that three steps of Newton's method find
//! (`div.h`, `GetReciprocal`, gemmlowp's `one_over_one_plus_x_for_x_in_0_1`).

use super::round::{Multiplier, divide_by_power};

/// x / c in units of a result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quotient {
    multiplier: Multiplier,
}

impl Quotient {
    /// With `ratio` = scale of x / (scale of c * scale of the result); `None` if that is none that kernels take.
    pub fn of(ratio: f32) -> Option<Quotient> {
        let multiplier = Multiplier::of(f64::from(ratio));
        (multiplier.significand > 0).then_some(Quotient { multiplier })
    }

    /// True if no shift leaves 32 bits for any numerator of 9 bits.
    pub fn holds(self, divisor: i64) -> bool {
        let bits = 31 - (divisor.unsigned_abs() as u32).leading_zeros() as i32;
        // The headroom of -1, 0 and of numbers of 9 bits.
        [31, 22].iter().all(|headroom| (-31..=0).contains(&(self.multiplier.exponent - bits - headroom)))
    }

    /// The rounded quotient; the divisor is not 0.
    pub fn apply(self, x: i64, divisor: i64) -> i64 {
        if x == 0 {
            return 0;
        }
        let (x, divisor) = if divisor < 0 { (-x, -divisor) } else { (x, divisor) };
        let free = (divisor as u32).leading_zeros();
        // The divisor's bits above its highest one, of 31.
        let fraction = i64::from((divisor as u32) << free) - (1 << 31);
        let headroom = (x.unsigned_abs() * 2 - u64::from(x < 0)).leading_zeros() as i32 - 32;
        let quotient = high(x << headroom, one_over_one_plus(fraction));
        let shift = self.multiplier.exponent - (31 - free as i32) - headroom;
        divide_by_power(high(quotient, self.multiplier.significand.into()), (-shift) as u32)
    }
}

/// SaturatingRoundingDoublingHighMul.
fn high(a: i64, b: i64) -> i64 {
    if a == b && a == i64::from(i32::MIN) {
        return i32::MAX.into();
    }
    let product = a * b;
    (product + if product >= 0 { 1 << 30 } else { 1 - (1 << 30) }) / (1 << 31)
}

/// 1 / (1 + a) for a of 31 fractional bits in 0..1, with as many.
fn one_over_one_plus(a: i64) -> i64 {
    let one = i64::from(i32::MAX);
    let half = (a + one + 1) / 2;
    // 48/17 - 32/17 d, with 29 fractional bits.
    let mut x = 1_515_870_810 + high(half, -1_010_580_540);
    for _ in 0..3 {
        let rest = (1 << 29) - high(half, x);
        x += saturated(high(x, rest) << 2);
    }
    saturated(x << 1)
}

fn saturated(value: i64) -> i64 {
    value.clamp(i32::MIN.into(), i32::MAX.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_near_the_true_ones() {
        let quotient = Quotient::of(100.0).expect("a ratio");
        for divisor in [-128, -77, -3, -1, 1, 2, 5, 100, 255] {
            assert!(quotient.holds(divisor), "{divisor}");
            for x in -255..=255 {
                let real = 100.0 * x as f64 / divisor as f64;
                assert!((quotient.apply(x, divisor) as f64 - real).abs() <= 0.5 + 1e-4, "{x} / {divisor}");
            }
        }
    }
}
