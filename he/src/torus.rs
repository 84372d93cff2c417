//! Nearest rounding on the torus, and the floor that turns a torus share into a ring share.

use crate::word::TorusWord;

/// How many low bits of what a linear layer publishes and sends travel nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounding {
    /// rb: off every body.
    pub body: u32,
    /// r0: off b*_0, the same for all layers of a parameter set.
    pub b0: u32,
    /// rh: off the hint.
    pub hint: u32,
}

impl Rounding {
    /// The same number of bits off everything.
    pub fn all(bits: u32) -> Self {
        Self { body: bits, b0: bits, hint: bits }
    }
}

/// The multiple of 2^bits nearest to `x`, ties upwards, mod q. `bits` is less than BITS.
///
/// The error lies in \[-2^(bits-1) + 1, 2^(bits-1)\]: uniform there for uniform `x`, with variance below 4^bits / 12 and
/// mean 1/2 (0 for `bits` = 0).
#[inline(always)]
pub fn round_to<W: TorusWord>(x: W, bits: u32) -> W {
    let half = W::from_u64((1 << bits) >> 1);
    x.wrapping_add(half).shr(bits).shl(bits)
}

/// [`round_to`] on every coefficient.
pub fn round_all<W: TorusWord>(values: &mut [W], bits: u32) {
    for value in values {
        *value = round_to(*value, bits);
    }
}

/// floor(x / U) for U = 2^unit_log: one party's ring share, in Z_{2^(BITS - unit_log)}, of what its torus share shares.
///
/// The floors of two shares of U * m + noise add up to m, m + 1 or so by the offset that one of them carries
/// (`docs/protocol.md`, section 1). `unit_log` is less than BITS.
#[inline(always)]
pub fn floor_share<W: TorusWord>(x: W, unit_log: u32) -> W {
    x.shr(unit_log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rounding_wraps_at_the_top_and_ties_go_up() {
        assert_eq!(round_to(u32::MAX, 4), 0);
        assert_eq!(round_to(0xffff_fff7u32, 4), 0xffff_fff0);
        assert_eq!(round_to(8u32, 4), 16);
        assert_eq!(round_to(7u64, 4), 0);
        assert_eq!(round_to(u64::MAX, 63), 0);
        assert_eq!(round_to(u64::MAX, 0), u64::MAX);
    }

    proptest! {
        #[test]
        fn rounding_is_to_the_nearest(x: u64, bits in 0u32..63) {
            let rounded = round_to(x, bits);
            prop_assert_eq!(rounded & ((1 << bits) - 1), 0);
            let error = rounded.wrapping_sub(x) as i64;
            let half = 1i64 << bits >> 1;
            prop_assert!(error <= half && (error > -half || bits == 0), "error {error}");
            prop_assert_eq!(round_to(x as u32, bits % 32), round_to(u64::from(x as u32), bits % 32) as u32);
        }

        #[test]
        fn two_floors_miss_the_floor_of_the_sum_by_at_most_one(x: u32, y: u32, unit in 0u32..32) {
            let width = 32 - unit;
            let mask = (1u64 << width) - 1;
            let of_sum = u64::from(floor_share(x.wrapping_add(y), unit));
            let sum = u64::from(floor_share(x, unit)) + u64::from(floor_share(y, unit));
            prop_assert!((of_sum.wrapping_sub(sum) & mask) <= 1);
        }
    }
}
