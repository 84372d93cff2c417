//! Steps on integers, exact.

use crate::shape::of_channel as at;

/// A step on an integer of 32 or 64 bits, exact. Lists have one entry, or one for each channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Whole {
    Add(Vec<i64>),
    /// c - z.
    From(Vec<i64>),
    Mul(Vec<i64>),
    /// Towards 0, as the runtime divides integers.
    Div(Vec<i64>),
    /// Down by bits, of what is not negative.
    Shift(Vec<i64>),
    /// Nothing, within the bounds of a type.
    Within(i64, i64),
}

/// Results beyond this are where runtimes overflow.
const MOST: i64 = i32::MAX as i64;

impl Whole {
    /// The result; `None` where 32 bits do not hold it.
    fn apply(&self, channel: usize, z: i64) -> Option<i64> {
        let z = match self {
            Whole::Add(c) => z.checked_add(at(c, channel)),
            Whole::From(c) => at(c, channel).checked_sub(z),
            Whole::Mul(c) => z.checked_mul(at(c, channel)),
            Whole::Div(c) => z.checked_div(at(c, channel)),
            Whole::Shift(c) => {
                u32::try_from(at(c, channel)).ok().and_then(|bits| z.checked_shr(bits)).filter(|_| z >= 0)
            }
            &Whole::Within(lo, hi) => (lo..=hi).contains(&z).then_some(z),
        };
        z.filter(|z| z.abs() <= MOST)
    }

    /// True if the step rises on every channel.
    pub fn rises(&self) -> bool {
        match self {
            Whole::Mul(c) | Whole::Div(c) => c.iter().all(|&c| c > 0),
            Whole::From(_) => false,
            Whole::Add(_) | Whole::Shift(_) | Whole::Within(..) => true,
        }
    }

    /// True if the step is not the same for all channels.
    pub fn differs(&self) -> bool {
        match self {
            Whole::Add(c) | Whole::From(c) | Whole::Mul(c) | Whole::Div(c) | Whole::Shift(c) => c.len() > 1,
            Whole::Within(..) => false,
        }
    }

    pub fn of_channels(&self, channels: &std::ops::Range<usize>) -> Whole {
        let of = |list: &[i64]| if list.len() == 1 { list.to_vec() } else { list[channels.clone()].to_vec() };
        match self {
            Whole::Add(c) => Whole::Add(of(c)),
            Whole::From(c) => Whole::From(of(c)),
            Whole::Mul(c) => Whole::Mul(of(c)),
            Whole::Div(c) => Whole::Div(of(c)),
            Whole::Shift(c) => Whole::Shift(of(c)),
            &Whole::Within(lo, hi) => Whole::Within(lo, hi),
        }
    }
}

/// What the steps make of z; `None` where 32 bits do not hold it.
pub(super) fn whole(steps: &[Whole], channel: usize, z: i64) -> Option<i64> {
    steps.iter().try_fold(z, |z, step| step.apply(channel, z))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_on_integers_are_exact_or_none() {
        let steps = [Whole::Mul(vec![3, -5]), Whole::Add(vec![7]), Whole::Div(vec![4])];
        assert_eq!(whole(&steps, 0, -5), Some(-2));
        assert_eq!(whole(&steps, 1, 50), Some(-60));
        assert_eq!(whole(&steps, 0, 1 << 30), None);
        assert_eq!(whole(&[Whole::Div(vec![0])], 0, 1), None);
        assert_eq!([7, -7].map(|z| whole(&[Whole::Shift(vec![1])], 0, z)), [Some(3), None]);
        assert_eq!([7, -1].map(|z| whole(&[Whole::Within(0, i64::MAX)], 0, z)), [Some(7), None]);
    }
}
