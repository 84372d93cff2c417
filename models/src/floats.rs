//! The sum of a window as a chain of 32-bit floats has it, in integers: what decides an average that lies between two steps.
//!
//! A runtime that adds up floats has fl(s x_i) of each value and v = fl(.. fl(fl(s x_1 + s x_2) + s x_3) .. + s x_n), in the order of the window.
//! Where the scale s is m 2^e with m of 24 bits, all of these are multiples of 2^e:
//!
//! ```text
//! v_1 = near(m x_1)
//! v_k = near(v_(k-1) + near(m x_k))
//! d   = v_n - m (x_1 + .. + x_n)
//! ```
//!
//! near(t) is the float that is nearest to t: the nearest multiple of 2^r, where t has r bits beyond 24; halves go to even multiples.

use serde::{Deserialize, Serialize};

use crate::error::Problem;
use crate::limits::{MAX_FLOAT_VALUE, MAX_FLOATS};
use crate::shape::Range;

/// Bits of a float's significand.
const SIGNIFICAND: u32 = 24;

/// What of an average the rounding errors of floats decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floats {
    /// m: the scale's significand, 2^23..2^24.
    pub unit: i64,
    /// Sums S with the least d at which the average is not lowered by one, by ascending S. Others are never lowered.
    pub least: Vec<[i64; 2]>,
}

/// Bits of t beyond those of a float.
pub(crate) fn beyond(t: i64) -> u32 {
    (u64::BITS - t.unsigned_abs().leading_zeros()).saturating_sub(SIGNIFICAND)
}

/// The float that is nearest to t, of two the even one.
fn near(t: i64) -> i64 {
    let r = beyond(t);
    let odd = t >> r & 1;
    if r == 0 { t } else { (t + (1 << (r - 1)) - 1 + odd) >> r << r }
}

impl Floats {
    /// d of the values of a window.
    pub fn error(&self, values: impl IntoIterator<Item = i64>) -> i64 {
        let (mut v, mut sum) = (0, 0);
        for x in values {
            let product = self.unit * x;
            sum += product;
            v = near(v + near(product));
        }
        v - sum
    }

    /// 1 where the average of these values, whose sum is `sum`, is one step lower; else 0.
    pub fn lowers(&self, sum: i64, values: impl IntoIterator<Item = i64>) -> i64 {
        let known = self.least.binary_search_by_key(&sum, |[sum, _]| *sum);
        known.map_or(0, |at| i64::from(self.error(values) < self.least[at][1]))
    }

    /// No |d| of `count` values in `range`, which has 0 where padding counts, is larger: half of the last place of each value and of each sum.
    pub fn reach(unit: i64, range: Range, count: usize) -> i64 {
        let most = unit.saturating_mul(range.magnitude() as i64);
        let half = |times: i64| 1i64 << beyond(most.saturating_mul(times)) >> 1;
        let count = count as i64;
        count * half(1) + (2..=count).map(half).sum::<i64>()
    }

    /// True if some sum of such values times the unit is so near to a power of two that its error decides how many bits it has beyond a float's.
    pub fn is_near_powers(unit: i64, range: Range, count: usize) -> bool {
        let (reach, ends) = (Self::reach(unit, range, count), range.with_zero());
        let apart = |sum: i64| beyond(unit * sum - reach) != beyond(unit * sum + reach);
        (ends.lo * count as i64..=ends.hi * count as i64).any(apart)
    }

    /// Checks the numbers for windows of `count` values in `range`.
    ///
    /// # Errors
    /// What does not fit.
    pub(crate) fn check(&self, range: Range, count: usize, sums: Range) -> Result<(), Problem> {
        let within = |what, value: i64, lo: i64, hi: i64| {
            let fits = (lo..=hi).contains(&value);
            let [value, lo, hi] = [value, lo, hi].map(i128::from);
            if fits { Ok(()) } else { Err(Problem::OutOfRange { what, value, lo, hi }) }
        };
        within("the significand of a scale", self.unit, 1 << (SIGNIFICAND - 1), (1 << SIGNIFICAND) - 1)?;
        within("the number of values of a sum of floats", count as i64, 1, MAX_FLOATS as i64)?;
        for value in [range.lo, range.hi] {
            within("a value in a sum of floats", value, -MAX_FLOAT_VALUE, MAX_FLOAT_VALUE)?;
        }
        let (reach, mut next) = (Self::reach(self.unit, range, count), sums.lo);
        for &[sum, least] in &self.least {
            within("a sum of floats", sum, next, sums.hi)?;
            within("the error of a sum of floats", least, -reach, reach + 1)?;
            next = sum + 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same sum by the machine's floats; the unit stands for itself.
    fn by_floats(unit: i64, values: &[i64]) -> i64 {
        values.iter().fold(0.0f32, |v, &x| v + unit as f32 * x as f32) as i64
    }

    #[test]
    fn chains_are_those_of_floats_and_errors_stay_within_reach() {
        let mut state = 1u64;
        let mut draw = move |count: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % count
        };
        let (mut near_powers, mut apart) = (0, 0);
        for case in 0..400 {
            // Every fourth is a unit of decimals, of which some sums are nearly powers of two.
            let decimals = [0.02_f32, 0.1, 0.05, 0.003];
            let unit = if case % 4 > 0 {
                (1 << 23) + draw(1 << 23) as i64
            } else {
                i64::from(decimals[draw(4) as usize].to_bits() & 0x7f_ffff | 0x80_0000)
            };
            let count = 1 + draw(12) as usize;
            let lo = -(draw(256) as i64);
            let range = Range { lo, hi: lo + 255 };
            near_powers += i32::from(Floats::is_near_powers(unit, range, count));
            let (floats, reach) = (Floats { unit, least: vec![] }, Floats::reach(unit, range, count));
            for _ in 0..50 {
                let values: Vec<i64> = (0..count).map(|_| lo + draw(256) as i64).collect();
                let (sum, d) = (values.iter().sum::<i64>(), floats.error(values.iter().copied()));
                assert_eq!(unit * sum + d, by_floats(unit, &values), "case {case}: {unit} {values:?}");
                assert!(d.abs() <= reach, "case {case}: {unit} {values:?}");
                apart += i64::from(d != 0);
            }
        }
        assert!(near_powers > 50 && apart > 10_000, "{near_powers} {apart}");
    }

    #[test]
    fn halves_go_to_even_multiples() {
        let all = [(-6, -8), (-5, -4), (-2, 0), (2, 0), (3, 4), (6, 8), (10, 8), (11, 12)];
        let most = 3 << 24;
        all.into_iter().for_each(|(t, v)| assert_eq!(near(most + t), most + v, "{t}"));
        all.into_iter().for_each(|(t, v)| assert_eq!(near(-most - 16 - t), -most - 16 - v, "{t}"));
        assert_eq!((near(5), near((1 << 24) + 1), near((1 << 24) + 3)), (5, 1 << 24, (1 << 24) + 4));
    }
}
