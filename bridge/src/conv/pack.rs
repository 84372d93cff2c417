//! Weights as 16-bit digits, in the order in which the kernels read them.
//!
//! A weight w is sum over d of w_d 2^(b d) with signed digits of b bits; an ordinary weight is one digit. The sums of a
//! digit are gathered in 32 bits. For words of 16 and 32 bits they may wrap there, for the result is wanted modulo 2^32 at
//! most. For words of 64 bits they must not: the terms are cut into ranges whose products add up to less than 2^31.

use std::ops::Range;

use super::geometry::Term;
use super::tile::pair;
use super::word::Word;

/// One digit of all weights.
pub(super) struct Digit {
    /// The digit counts 2^place.
    pub(super) place: u32,
    /// The terms, cut so that the sums of a range are right.
    pub(super) ranges: Vec<Range<usize>>,
    values: Vec<i16>,
    fan_in: usize,
}

impl Digit {
    /// Splits `[outputs][fan_in]` weights. There is at least one digit; digits that are all zero or beyond the word are
    /// left out.
    pub(super) fn split<W: Word>(weights: &[i32], terms: &[Term], fan_in: usize) -> Vec<Self> {
        // For 64 bits, one term of two weights must be in range: 2 * 2^14 * 2^15 < 2^31.
        let width = if W::BITS == 64 { 15 } else { 16 };
        let mut rest: Vec<i64> = weights.iter().map(|&w| i64::from(w)).collect();
        let mut digits = Vec::new();
        for place in (0..W::BITS).step_by(width) {
            let values: Vec<i16> = rest.iter().map(|&w| (w << (64 - width) >> (64 - width)) as i16).collect();
            for (rest, &value) in rest.iter_mut().zip(&values) {
                *rest = (*rest - i64::from(value)) >> width;
            }
            if place == 0 || values.iter().any(|&v| v != 0) {
                let ranges = if W::BITS == 64 {
                    exact_ranges(&values, terms, fan_in)
                } else {
                    std::iter::once(0..terms.len()).collect()
                };
                digits.push(Self { place, ranges, values, fan_in });
            }
        }
        digits
    }

    /// Appends the weights of `height` outputs from `first` on, `[terms][height]` pairs; outputs from `end` on count as
    /// zero.
    pub(super) fn pack(&self, terms: &[Term], outputs: Range<usize>, height: usize, panel: &mut Vec<u32>) {
        panel.reserve(terms.len() * height);
        for term in terms {
            for output in outputs.start..outputs.start + height {
                let value = |i| if output < outputs.end { self.values[output * self.fan_in + i] as u16 } else { 0 };
                panel.push(pair(value(term.low), term.high.map_or(0, value)));
            }
        }
    }

    /// Whether every value fits in a byte.
    pub(super) fn fits_bytes(&self) -> bool {
        self.values.iter().all(|&v| i8::try_from(v).is_ok())
    }
}

/// Cuts the terms into ranges in which every output's weights add up, in absolute value, to at most 2^16 - 1: times limbs
/// of at most 2^15 in absolute value that is less than 2^31.
fn exact_ranges(values: &[i16], terms: &[Term], fan_in: usize) -> Vec<Range<usize>> {
    const LIMIT: u32 = (1 << 16) - 1;
    let mut ranges = Vec::new();
    let mut start = 0;
    let mut totals = vec![0u32; values.len() / fan_in];
    for (i, term) in terms.iter().enumerate() {
        let size = |row: &[i16]| {
            u32::from(row[term.low].unsigned_abs()) + term.high.map_or(0, |high| u32::from(row[high].unsigned_abs()))
        };
        let rows = || values.chunks_exact(fan_in);
        if totals.iter().zip(rows()).any(|(total, row)| total + size(row) > LIMIT) {
            ranges.push(start..i);
            start = i;
            totals.fill(0);
        }
        for (total, row) in totals.iter_mut().zip(rows()) {
            *total += size(row);
        }
    }
    ranges.push(start..terms.len());
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(fan_in: usize) -> Vec<Term> {
        (0..fan_in).step_by(2).map(|low| Term { low, high: (low + 1 < fan_in).then_some(low + 1) }).collect()
    }

    #[test]
    fn digits_add_up_to_the_weight() {
        let edges = [0, 1, -1, 0x3fff, 0x4000, -0x4000, -0x4001, 0x7fff, 0x8000, -0x8000, -0x8001, i32::MAX, i32::MIN];
        for w in edges {
            let value =
                |digits: Vec<Digit>| -> i128 { digits.iter().map(|d| i128::from(d.values[0]) << d.place).sum() };
            assert_eq!(value(Digit::split::<u16>(&[w], &terms(1), 1)) as u16, w as u16);
            assert_eq!(value(Digit::split::<u32>(&[w], &terms(1), 1)) as u32, w as u32);
            assert_eq!(value(Digit::split::<u64>(&[w], &terms(1), 1)), i128::from(w));
        }
    }

    #[test]
    fn small_weights_are_one_digit() {
        assert_eq!(Digit::split::<u16>(&[i32::MIN], &terms(1), 1).len(), 1);
        assert_eq!(Digit::split::<u32>(&[0x7fff, -0x8000], &terms(2), 2).len(), 1);
        assert_eq!(Digit::split::<u64>(&[0x3fff, -0x4000], &terms(2), 2).len(), 1);
    }

    #[test]
    fn ranges_are_exact_and_cover_the_terms() {
        let fan_in = 1001;
        let weights: Vec<i32> = (0..2 * fan_in as i32).map(|i| i * 7919 % 16384 - 8192).collect();
        let terms = terms(fan_in);
        for digit in Digit::split::<u64>(&weights, &terms, fan_in) {
            let mut next = 0;
            for range in &digit.ranges {
                assert_eq!(range.start, next);
                next = range.end;
                for row in digit.values.chunks_exact(fan_in) {
                    let total: i64 = terms[range.clone()]
                        .iter()
                        .flat_map(|t| [Some(t.low), t.high])
                        .flatten()
                        .map(|i| i64::from(row[i]).abs() << 15)
                        .sum();
                    assert!(total < 1 << 31);
                }
            }
            assert_eq!(next, terms.len());
        }
    }
}
