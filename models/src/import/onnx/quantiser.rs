//! From a real number to an integer, by the rules of ONNX and of QONNX.

use super::stop::Stop;
pub(super) use crate::coding::RoundingMode as Mode;
use crate::shape::of_channel as at;

/// q = index(v); what q means is scale * (q - zero), or ±scale for a bipolar one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Quantiser {
    pub rule: Rule,
    /// Unit of the result.
    pub scale: f32,
    /// Zero point of the result; fractions are for [`Quantiser::means`].
    pub zero: f64,
    /// Smallest and largest result.
    pub lo: i64,
    pub hi: i64,
}

/// How v becomes q.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rule {
    /// clamp(half_to_even(v / scale) + zero).
    Onnx,
    /// mode(clamp(v / scale + zero)).
    Qonnx(Mode),
    /// v >= 0.
    Bipolar,
    /// How many thresholds v reaches; by channel.
    Thresholds(Vec<Vec<f32>>),
    /// mode(clamp(half_to_even(v / scale + zero) / step)).
    Trunc { scale: f32, zero: f32, step: f32, mode: Mode },
}

impl Mode {
    /// By the name in the file.
    pub(super) fn of(name: &str) -> Result<Mode, Stop> {
        Ok(match name {
            "round" | "half_even" => Mode::HalfEven,
            "ceil" => Mode::Ceil,
            "floor" => Mode::Floor,
            "up" => Mode::Up,
            "down" | "round_to_zero" => Mode::Down,
            "half_up" => Mode::HalfUp,
            "half_down" => Mode::HalfDown,
            _ => {
                let hint = "ROUND, CEIL, FLOOR, UP, DOWN, HALF_EVEN, HALF_UP and HALF_DOWN are known";
                return Err(Stop::new(format!("the rounding mode {name:?} is not known"), hint));
            }
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::HalfEven => "half to even",
            Mode::Ceil => "up",
            Mode::Floor => "down",
            Mode::Up => "away from zero",
            Mode::Down => "towards zero",
            Mode::HalfUp => "half away from zero",
            Mode::HalfDown => "half towards zero",
        }
    }
}

impl Quantiser {
    /// The rule of `QuantizeLinear`.
    pub fn onnx(scale: f32, zero: i64, (lo, hi): (i64, i64)) -> Result<Quantiser, Stop> {
        Quantiser { rule: Rule::Onnx, scale, zero: zero as f64, lo, hi }.checked()
    }

    /// Refuses units that are no positive numbers and results of more than 8 bits.
    pub fn checked(self) -> Result<Quantiser, Stop> {
        if !(self.scale.is_normal() && self.scale > 0.0 && self.zero.is_finite() && self.zero.abs() < 1e6) {
            let reason = format!("a scale of {} and a zero point of {}", self.scale, self.zero);
            return Err(Stop::new(reason, "scales are positive numbers"));
        }
        Ok(self)
    }

    /// The same, whose integers are larger by so much.
    pub fn moved(&self, by: i64) -> Quantiser {
        Quantiser { zero: self.zero + by as f64, lo: self.lo + by, hi: self.hi + by, ..self.clone() }
    }

    /// The integer for v, within lo..=hi.
    pub fn index(&self, channel: usize, v: f32) -> i64 {
        let (lo, hi) = (self.lo, self.hi);
        match &self.rule {
            // A cast of a float saturates; NaN becomes 0.
            Rule::Onnx => ((v / self.scale).round_ties_even() as i64).saturating_add(self.zero as i64).clamp(lo, hi),
            Rule::Qonnx(mode) => mode.round((v / self.scale + self.zero as f32).max(lo as f32).min(hi as f32)) as i64,
            Rule::Bipolar => i64::from(v >= 0.0),
            Rule::Thresholds(thresholds) => {
                let thresholds = if thresholds.len() == 1 { &thresholds[0] } else { &thresholds[channel] };
                thresholds.iter().filter(|&&t| v >= t).count() as i64
            }
            Rule::Trunc { scale, zero, step, mode } => {
                let y = (v / scale + zero).round_ties_even() / step;
                mode.round(y.max(lo as f32).min(hi as f32)) as i64
            }
        }
    }

    /// The integer for a real number in units of the scale, in exact arithmetic; `None` where halves are not rounded to even.
    pub fn exactly(&self, v: f64) -> Option<i64> {
        let q = match self.rule {
            Rule::Onnx => v.round_ties_even() + self.zero,
            Rule::Qonnx(Mode::HalfEven) => (v + self.zero).round_ties_even(),
            _ => return None,
        };
        Some((q as i64).clamp(self.lo, self.hi))
    }

    /// How q becomes the network's value x = factor * q - offset, and the unit of x. The zero point is a multiple of 1/2.
    pub fn means(&self) -> Result<(i64, i64, f32), Stop> {
        if self.rule == Rule::Bipolar {
            return Ok((2, 1, self.scale));
        }
        if self.zero.fract() == 0.0 {
            return Ok((1, self.zero as i64, self.scale));
        }
        let twice = 2.0 * self.zero;
        if twice.fract() == 0.0 {
            return Ok((2, twice as i64, self.scale / 2.0));
        }
        Err(Stop::new(format!("a zero point of {}", self.zero), "zero points are multiples of one half of a unit"))
    }
}

/// The most that two quantisers may differ to be the same one: nothing.
pub(super) fn same(a: &Quantiser, b: &Quantiser) -> bool {
    a == b
}

/// A list with one entry for each channel, or one for all, from a constant that is broadcast along the channel axis.
pub(super) fn per_channel<T: Copy + PartialEq>(values: &[T], channels: usize) -> Option<Vec<T>> {
    match values.len() {
        1 => Some(vec![values[0]]),
        n if n == channels => {
            Some(if (1..n).all(|c| at(values, c) == values[0]) { vec![values[0]] } else { values.to_vec() })
        }
        _ => None,
    }
}
