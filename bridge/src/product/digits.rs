//! The clear operand as small signed digits: x = sum_d digit_d 2^(b d) mod 2^ell, -2^(b-1) <= digit_d < 2^(b-1).
//!
//! A share is uniform in Z_{2^ell}, whatever it is a share of. Where a product of two such does not fit the torus, the
//! evaluator multiplies digits and the owner encrypts 2^(b d) A for each d: the inner dimension is D times as long.

use zeroize::Zeroizing;

/// How the clear operand is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digits {
    /// ell.
    pub ell: u32,
    /// D.
    pub count: u32,
}

impl Digits {
    /// b: the width of a digit. The last one may be narrower.
    pub fn bits(self) -> u32 {
        self.ell.div_ceil(self.count)
    }

    /// True if there are digits and each has a bit.
    pub fn none_is_empty(self) -> bool {
        self.ell > 0 && (1..=self.ell).contains(&self.count) && (self.count - 1) * self.bits() < self.ell
    }

    /// The power of two that digit `d` counts.
    pub fn place(self, d: u32) -> u32 {
        self.bits() * d
    }

    /// Digit `d` of each value mod 2^ell. No branch and no address depends on a value.
    pub fn take(self, values: &[u64], d: u32) -> Zeroizing<Vec<i64>> {
        let width = (self.ell - self.place(d)).min(self.bits());
        // Half a digit in every place makes all digits positive: the carries of the balanced form.
        let halves = (0..self.count).map(|d| 1u64 << (self.place(d) + (self.ell - self.place(d)).min(self.bits()) - 1));
        let offset: u64 = halves.sum();
        let digit = |value: u64| {
            let digit = value.wrapping_add(offset) >> self.place(d) & ((1 << width) - 1);
            digit as i64 - (1 << (width - 1))
        };
        Zeroizing::new(values.iter().map(|&value| digit(value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn digits_are_balanced_and_add_up(ell in 2u32..=48, count in 1u32..=9, values: [u64; 8]) {
            let digits = Digits { ell, count };
            prop_assume!(digits.none_is_empty());
            let half = 1i64 << (digits.bits() - 1);
            let mut sums = [0u64; 8];
            for d in 0..count {
                for (sum, digit) in sums.iter_mut().zip(digits.take(&values, d).iter()) {
                    prop_assert!((-half..half).contains(digit));
                    *sum = sum.wrapping_add((*digit as u64) << digits.place(d));
                }
            }
            for (sum, value) in sums.iter().zip(values) {
                prop_assert_eq!(sum << (64 - ell), value << (64 - ell));
            }
        }
    }
}
