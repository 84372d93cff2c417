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
        (0..=check::MAX_SHIFT).rev().any(|shift| slopes.multipliers(shift, check::MAX_MULTIPLIER.into()).is_some())
    };
    channels.iter().all(has_line)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    use super::super::fit;
    use super::*;
    use crate::network::Range;

    /// A float32 rule with up to `top` steps on an interval that reaches beyond them.
    fn steps(rng: &mut ChaCha20Rng, top: i64, bits: u32) -> Steps {
        let reach = 1i64 << rng.random_range(bits - 2..=bits);
        let scale = top as f32 / (rng.random_range(0.1f32..1.2) * reach as f32);
        let zero = rng.random_range(0..=top);
        let domain = Range { lo: -rng.random_range(0..=reach), hi: rng.random_range(1..=reach) };
        Steps::of(domain, |z| ((z as f32 * scale).round_ties_even() as i64 + zero).clamp(0, top)).expect("monotone")
    }

    /// The definition, for every accumulator and every threshold.
    fn room(line: &Affine, domain: Range, top: i64) -> [i128; 2] {
        let mut room = [1 << 100; 2];
        for z in domain.lo..=domain.hi {
            let sum = i128::from(line.multiplier) * i128::from(z) + i128::from(line.offset);
            for k in 1..=i128::from(top) {
                let over = sum - (k << line.shift);
                let at = usize::from(over < 0);
                room[at] = room[at].min(if over < 0 { -1 - over } else { over });
            }
        }
        room
    }

    #[test]
    fn the_room_of_a_line_is_the_least_distance_from_a_threshold() {
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        for round in 0..300 {
            let line = Affine {
                multiplier: rng.random_range(1..=200),
                offset: rng.random_range(-4000..=4000),
                shift: rng.random_range(0..=8),
            };
            let lo = rng.random_range(-60..=60);
            let domain = Range { lo, hi: lo + rng.random_range(0..=60) };
            let top = rng.random_range(1..=20);
            let (found, wanted) = (line.room(domain, top), room(&line, domain, top));
            assert_eq!(found, wanted, "round {round}: {line:?} on {domain:?} up to {top}");
        }
    }

    #[test]
    fn widest_lines_equal_the_rule_and_have_the_most_room() {
        let mut rng = ChaCha20Rng::seed_from_u64(6);
        let (mut lines, mut gained) = (0, 0.0);
        for round in 0..60 {
            let top = (1 << rng.random_range(1..=8)) - 1;
            let channels: Vec<Steps> = (0..3).map(|_| steps(&mut rng, top, 13)).collect();
            let (Some(short), Some(wide)) = (fit(&channels, top), widest(&channels, top)) else { continue };
            assert!(exists(&channels, top) && wide.iter().all(|line| line.shift == wide[0].shift), "round {round}");
            let relative = |of: &[Affine]| {
                let rooms = channels.iter().zip(of).map(|(steps, line)| {
                    let room: i128 = line.room(steps.domain, top).into_iter().sum();
                    (room as f64 + 1.0).log2().min(line.shift.into()) - f64::from(line.shift)
                });
                rooms.fold(0.0, f64::min)
            };
            for (steps, line) in channels.iter().zip(&wide) {
                for z in steps.domain.lo..=steps.domain.hi {
                    assert_eq!(line.value(z, top), steps.value(z), "round {round}, z {z}");
                }
            }
            let [short, wide] = [relative(&short), relative(&wide)];
            // A quarter less than the largest shift has, and that less than any line has: half a bit at most.
            assert!(wide > short - 0.6, "round {round}: room of 2^{wide} instead of 2^{short}");
            (lines, gained) = (lines + 1, gained + wide - short);
        }
        assert!(lines >= 30 && gained / f64::from(lines) > 1.0, "{gained} bits for {lines} layers");
    }

    #[test]
    fn wide_layers_have_lines_beyond_forty_bits() {
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let exact = |scale: f64| move |z: i64| ((z as f64 * scale).round_ties_even() as i64 + 100).clamp(0, 255);
        let domain = Range { lo: -(1 << 25), hi: 1 << 25 };
        let channels: Vec<Steps> = (0..40)
            .map(|_| Steps::of(domain, exact(rng.random_range(1.0..2.0) / f64::from(1 << 14))).expect("monotone"))
            .collect();
        assert_eq!(fit(&channels, 255), None, "no line of 31 bits and a shift of 40");
        let lines = widest(&channels, 255).expect("lines");
        assert!(lines.iter().zip(&channels).all(|(line, steps)| line.equals(steps, 255)));
    }
}
