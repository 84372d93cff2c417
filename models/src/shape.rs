//! What a tensor is called, what shape it has, and in which interval its values lie.

use serde::{Deserialize, Serialize};

/// A tensor: 0 is the network's input, `i + 1` the output of node `i`.
pub type TensorId = usize;

/// Channels, height, width. A vector of n values is `[n, 1, 1]`.
pub type Shape = [usize; 3];

/// The closed interval that a tensor's values lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Smallest value.
    pub lo: i64,
    /// Largest value.
    pub hi: i64,
}

impl Range {
    /// So much farther at both ends.
    pub fn widened(self, by: i64) -> Range {
        Range { lo: self.lo - by, hi: self.hi + by }
    }

    /// True if `value` lies in the interval.
    pub fn contains(self, value: i64) -> bool {
        self.lo <= value && value <= self.hi
    }

    /// How many integers the interval holds; 0 if it is empty.
    pub fn count(self) -> u128 {
        (i128::from(self.hi) - i128::from(self.lo) + 1).max(0) as u128
    }

    /// The smallest interval that holds this one and 0, the value of padding.
    pub fn with_zero(self) -> Range {
        Range { lo: self.lo.min(0), hi: self.hi.max(0) }
    }

    /// The largest absolute value in the interval.
    pub fn magnitude(self) -> u64 {
        self.lo.unsigned_abs().max(self.hi.unsigned_abs())
    }

    /// The smallest ell with -2^(ell-1) <= v <= 2^(ell-1) - 1 for every v of the interval: the width of a signed ring that
    /// holds it.
    pub fn signed_bits(self) -> u32 {
        let negative = if self.lo < 0 { i64::BITS - (!self.lo).leading_zeros() } else { 0 };
        let positive = if self.hi > 0 { i64::BITS - self.hi.leading_zeros() } else { 0 };
        negative.max(positive) + 1
    }
}

/// The entry of a channel in a list that has one for the layer, or one per channel.
pub fn of_channel<T: Copy>(list: &[T], channel: usize) -> T {
    if list.len() == 1 { list[0] } else { list[channel] }
}
