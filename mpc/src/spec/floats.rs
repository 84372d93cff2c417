//! What both parties know of averages that sums of floats decide ([`crate::average`]).

use super::checks::check_size;
use super::error::LayoutError;

/// Bits of a float's significand.
pub(crate) const SIGNIFICAND: usize = 24;
/// Most values of a window.
pub const MAX_VALUES: usize = 64;
/// Largest magnitude of a value.
pub const MAX_VALUE: i64 = 1 << 8;

/// The sum of a window as a chain of floats, in units of the last bit of one value's step: m times each value, rounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Floats {
    /// m, 2^23..2^24.
    pub unit: i64,
    /// Smallest and largest value.
    pub values: [i64; 2],
    /// Values of a window.
    pub count: usize,
    /// No error d of a sum is larger.
    pub reach: i64,
    /// Whether errors decide how many bits some sums have.
    pub near_powers: bool,
    /// Sums S with the least d at which nothing is lowered.
    pub least: Vec<[i64; 2]>,
}

fn length(value: u64) -> usize {
    (u64::BITS - value.leading_zeros()) as usize
}

impl Floats {
    fn magnitude(&self) -> u64 {
        let [lo, hi] = self.values;
        self.unit.unsigned_abs() * lo.unsigned_abs().max(hi.unsigned_abs())
    }

    /// Bits of the ring of m x.
    #[must_use]
    pub fn term_bits(&self) -> usize {
        length(self.magnitude()) + 1
    }

    /// Bits of the ring of m S and what is within reach of it: every value has to be shared in one as wide.
    #[must_use]
    pub fn sum_bits(&self) -> usize {
        length(self.magnitude() * self.count as u64 + self.reach.unsigned_abs()) + 1
    }

    /// Bits of S less the smallest S.
    #[must_use]
    pub fn index_bits(&self) -> usize {
        length(self.values[0].abs_diff(self.values[1]) * self.count as u64).max(2)
    }

    /// Bits of the ring of the difference of two errors.
    pub(crate) fn error_bits(&self) -> usize {
        length(2 * self.reach.unsigned_abs() + 1) + 1
    }

    /// m S + the least d at which nothing is lowered, for each S less the smallest.
    pub(crate) fn thresholds(&self) -> Vec<u64> {
        let lowest = self.lowest();
        let mut least = vec![-self.reach; 1 << self.index_bits()];
        self.least.iter().for_each(|[sum, d]| least[(sum - lowest) as usize] = *d);
        least.iter().zip(lowest..).map(|(d, sum)| (self.unit * sum + d) as u64).collect()
    }

    /// The smallest S.
    #[must_use]
    pub fn lowest(&self) -> i64 {
        self.values[0] * self.count as i64
    }

    /// Checks all numbers.
    ///
    /// # Errors
    /// [`LayoutError`], saying what does not fit.
    pub fn check(&self) -> Result<(), LayoutError> {
        // Counted from the least that is allowed; what is below it is more than all.
        let size = |what, value: i64, lo: i64, hi: i64| {
            check_size(what, value.saturating_sub(lo) as usize, 0, hi.saturating_sub(lo) as usize)
        };
        check_size("values of a sum of floats", self.count, 1, MAX_VALUES)?;
        size("the significand of a scale", self.unit, 1 << (SIGNIFICAND - 1), (1 << SIGNIFICAND) - 1)?;
        size("a value in a sum of floats", self.values[0], -MAX_VALUE, MAX_VALUE)?;
        size("a value in a sum of floats", self.values[1], self.values[0], MAX_VALUE)?;
        size("the error of a sum of floats", self.reach, 0, 1 << (SIGNIFICAND - 3))?;
        let most = self.sum_bits().saturating_sub(SIGNIFICAND).max(1);
        check_size("the ring of an error", self.error_bits(), most, self.term_bits())?;
        for [sum, least] in &self.least {
            size("a sum of floats", *sum, self.lowest(), self.values[1] * self.count as i64)?;
            size("the error of a sum of floats", *least, -self.reach, self.reach + 1)?;
        }
        Ok(())
    }
}
