//! Lines that stay as far as they can from all thresholds: for products that are truncated before they are added up, where bits below
//! the result cost, and the width of the multiplier does not.
//!
//! For a shift s and a multiplier M, the offsets b that pass over and under the right points are an interval,
//!
//! ```text
//! max over points above (k 2^s - M z)  <=  b  <  min over points below (k 2^s - M z)
//! ```
//!
//! Its length is a concave function of M. Relative to 2^s, that of the narrowest channel decides how many bits all channels need; the
//! others take the least multiplier that is as good, since smaller products have shorter sums. The shift is the smallest that loses
//! less than a quarter of what the largest one gives.

use super::{Affine, Point, Slopes, Steps, hull, slopes};
use crate::check;

/// Points that count, and the slopes of lines between them.
struct Channel {
    over: Vec<Point>,
    under: Vec<Point>,
    slopes: Slopes,
}

impl Channel {
    fn new(steps: &Steps, top: i64) -> Self {
        let (over, under) = steps.points(top);
        let slopes = slopes(&over, &under);
        Self { over: hull(&over, true), under: hull(&under, false), slopes }
    }

    /// The least and the largest offset of a line.
    fn offsets(&self, multiplier: i128, shift: u32) -> [Option<i128>; 2] {
        let offset = |&(z, k): &Point| (i128::from(k) << shift) - multiplier * i128::from(z);
        [self.over.iter().map(offset).max(), self.under.iter().map(|point| offset(point) - 1).min()]
    }

    /// One more than the number of offsets between these, by which lines are compared; `None` if any offset on one side will do.
    fn room(&self, multiplier: i128, shift: u32) -> Option<i128> {
        let [least, most] = self.offsets(multiplier, shift);
        Some(most? - least?)
    }

    /// The smallest multiplier with the widest room.
    fn widest(&self, shift: u32) -> Option<i128> {
        let (least, most) = self.slopes.multipliers(shift, check::MAX_MULTIPLIER.into())?;
        Some(first(least, most, |m| self.room(m + 1, shift) <= self.room(m, shift)))
    }

    /// The smallest multiplier that has some room.
    fn least(&self, shift: u32, room: i128) -> Option<i128> {
        let (least, _) = self.slopes.multipliers(shift, check::MAX_MULTIPLIER.into())?;
        let enough = |m: i128| self.room(m, shift).is_none_or(|own| own >= room);
        let widest = self.widest(shift)?;
        enough(widest).then(|| first(least, widest, enough))
    }

    fn line(&self, shift: u32, room: i128) -> Option<Affine> {
        let multiplier = self.least(shift, room)?;
        let offset = match self.offsets(multiplier, shift) {
            [Some(least), Some(most)] => (least + most).div_euclid(2),
            [Some(bound), None] | [None, Some(bound)] => bound,
            [None, None] => 0,
        };
        Some(Affine { multiplier: multiplier.try_into().ok()?, offset: offset.try_into().ok()?, shift })
    }
}

/// The first of lo..hi for which something holds from then on; hi if it does for none.
fn first(mut lo: i128, mut hi: i128, holds: impl Fn(i128) -> bool) -> i128 {
    while lo < hi {
        let middle = lo + (hi - lo) / 2;
        if holds(middle) { hi = middle } else { lo = middle + 1 }
    }
    lo
}

/// Some lines for all channels with one shift.
struct Search {
    channels: Vec<Channel>,
    limit: i64,
}

impl Search {
    /// The room of the narrowest channel; more than 2^s, the distance of thresholds, is of no use.
    fn room(&self, shift: u32) -> Option<i128> {
        let most = 1 << shift;
        let widest = |channel: &Channel| Some(channel.room(channel.widest(shift)?, shift).unwrap_or(most));
        self.channels.iter().map(widest).try_fold(most, |least, room| Some(least.min(room?)))
    }

    /// False if some product leaves its limits whatever the line: a quick test.
    fn may_fit(&self, channels: &[Steps], shift: u32) -> bool {
        let fits = |(channel, steps): (&Channel, &Steps)| {
            let span = i128::from(steps.domain.hi) - i128::from(steps.domain.lo);
            let least = channel.slopes.multipliers(shift, check::MAX_MULTIPLIER.into());
            least.is_some_and(|(least, _)| least * span <= 2 * i128::from(self.limit))
        };
        self.channels.iter().zip(channels).all(fits)
    }

    /// Lines as good as that, if no product leaves its limits.
    fn lines(&self, channels: &[Steps], top: i64, shift: u32) -> Option<(i128, Vec<Affine>)> {
        let room = self.may_fit(channels, shift).then(|| self.room(shift))??;
        let line = |(channel, steps): (&Channel, &Steps)| {
            let line = channel.line(shift, room)?;
            let ends = [steps.domain.lo, steps.domain.hi].map(|z| i128::from(line.multiplier) * i128::from(z));
            let reached = |product: i128| (product + i128::from(line.offset)).abs() <= self.limit.into();
            (ends.into_iter().all(reached) && line.equals(steps, top)).then_some(line)
        };
        Some((room, self.channels.iter().zip(channels).map(line).collect::<Option<_>>()?))
    }
}

/// A multiplier and an offset for each channel, and one shift, with nearly the most room that there is; `None` if a channel has no line
/// within the limits of [`check`].
pub fn widest(channels: &[Steps], top: i64) -> Option<Vec<Affine>> {
    let search =
        Search { channels: channels.iter().map(|steps| Channel::new(steps, top)).collect(), limit: check::MAX_REACHED };
    // The least shift of all, and the largest whose products fit.
    let possible = |shift: i128| search.lines(channels, top, shift as u32).is_some();
    let shifts: Vec<u32> = (0..=check::MAX_SHIFT).collect();
    let largest = *shifts.iter().rev().find(|&&shift| possible(shift.into()))?;
    let (most, _) = search.lines(channels, top, largest)?;
    let good = |shift: i128| {
        let room = search.room(shift as u32);
        room.is_some_and(|room| room << (largest - shift as u32) >= most / 4 * 3)
    };
    let shift = first(0, largest.into(), good) as u32;
    let found = search.lines(channels, top, shift).or_else(|| search.lines(channels, top, largest));
    Some(found?.1)
}

/// True if every channel has a line, whatever its products reach.
pub fn exists(channels: &[Steps], top: i64) -> bool {
    let has_line = |steps: &Steps| {
        let slopes = steps.slopes(top);
        slopes.multipliers(check::MAX_SHIFT, check::MAX_MULTIPLIER.into()).is_some()
    };
    channels.iter().all(has_line)
}
