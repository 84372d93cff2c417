//! Sums of two activations of different scales.
//!
//! The runtime brings both operands to a common scale with a rounding each and rounds the sum again, so its result is a function
//! f(x1, x2) of two values of at most 8 bits. Here it becomes clamp(floor((m1 x1 + m2 x2 + b) / 2^s), 0, top) with the smallest
//! shift for which that equals f on every pair; all pairs are looked at. With z = m1 x1 + m2 x2 the conditions on b are
//!
//! ```text
//! min { z : f >= k } + b >= k 2^s      and      max { z : f < k } + b < k 2^s      for each k
//! ```
//!
//! Rounding half away from zero bends f at zero. There it is the sum of two such terms, below and above the zero point.

use super::model::{self, Operator};
use super::round::{Activation, Clamp, Kernels, Multiplier};
use super::trouble::{Trouble, refuse};
use super::value::{Value, quantisation};
use super::walk::Walk;
use crate::import::builder::Sum;
use crate::import::report::Verdict;
use crate::network::{Op, Range, Term};

/// Largest shift that is tried: multipliers of about as many bits.
const MAX_SHIFT: u32 = 30;
/// Left shift of the operands in the reference kernel.
const HEADROOM: u32 = 20;

impl<'m, 'f> Walk<'m, 'f> {
    /// A sum or a difference of two activations; the shorter shape is repeated.
    pub fn add(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let operands = [self.whole_value(operator, 0, name)?, self.whole_value(operator, 1, name)?];
        let operands = [self.narrow(name, &operands[0])?, self.narrow(name, &operands[1])?];
        let operands = self.same_shape(name, operands)?;
        let [first, second] = &operands;
        let minus = operator.code == model::SUB;
        let y = quantisation(self.result(operator))?;
        let Some(activation) = Activation::of(operator.i8(0)?) else {
            return refuse("its activation function is unknown", "use none, RELU, RELU6 or RELU_N1_TO_1");
        };
        let Clamp { zero_point, lo, hi } = y.clamp;
        let clamp = activation.clamp(self.kernels, y.scale, zero_point, Range { lo, hi });
        let Some(rule) = Rule::of(self.kernels, [first.scale, second.scale], y.scale, minus) else {
            let reason = format!("it brings the scales {} and {} to {}", first.scale, second.scale, y.scale);
            return refuse(reason, "use scales that are closer");
        };
        // What falls with the second operand rises with its negative.
        let sign = if minus { -1 } else { 1 };
        let mut ranges = [first, second].map(|x| self.builder.tensor(x.id).range);
        if minus {
            ranges[1] = Range { lo: -ranges[1].hi, hi: -ranges[1].lo };
        }
        let ratios = [first, second].map(|x| f64::from(x.scale) / f64::from(y.scale));
        let grid = Grid::new(ranges, ratios, |[x, y]| clamp.apply(rule.apply([x, sign * y])) - lo);
        let lowered = grid.least().min(zero_point - lo).max(0);
        let (grid, zero_point) = (grid.lowered(lowered), zero_point - lo - lowered);
        let last = grid.last().max(1);
        let cuts = [vec![0, last], vec![0, zero_point, last]];
        let fits = |levels: &Vec<i64>| levels.windows(2).map(|ends| grid.fit(ends[0], ends[1])).collect();
        let cuts = cuts.iter().filter(|levels| levels.is_sorted_by(|one, other| one < other));
        let Some(mut planes) = cuts.map(fits).find_map(|fits: Option<Vec<Plane>>| fits) else {
            return refuse(
                "no multipliers equal its two roundings on all pairs",
                "use the other rounding, or other scales",
            );
        };
        planes.iter_mut().for_each(|plane| plane.multipliers[1] *= sign);
        let id = self.planes(name, &operands, &planes, zero_point)?;
        let dims = first.dims.clone();
        self.define(operator, Value { id, dims, scale: y.scale, clamp: y.clamp, ..first.clone() });
        Ok(Verdict::Imported(if minus { "a difference" } else { "a sum" }))
    }

    /// The sum of the planes, less the zero point.
    fn planes(
        &mut self,
        name: &str,
        operands: &[Value; 2],
        planes: &[Plane],
        zero_point: i64,
    ) -> Result<usize, Trouble> {
        let channels = operands[0].grid[0];
        let mut parts = Vec::new();
        for plane in planes {
            let term = |(x, &multiplier): (&Value, &i64)| (Term::Identity { input: x.id, multiplier }, None);
            let terms = operands.iter().zip(&plane.multipliers).map(term).collect();
            let input = self.builder.linear(name, Sum { terms, bias: vec![plane.offset; channels] })?;
            let bits = plane.top.ilog2() + 1;
            let (shift, zero_point) = (vec![plane.shift], if planes.len() == 1 { zero_point } else { 0 });
            let top = Some(plane.top).filter(|&top| top != (1 << bits) - 1);
            let op = Op::Requantise { input, bits, shift, top, zero_point };
            parts.push(self.builder.node(&format!("{name}/requantise"), op, None)?);
        }
        if let [only] = parts[..] {
            return Ok(only);
        }
        let bits = planes.iter().map(|plane| plane.top).sum::<i64>().ilog2() + 1;
        let terms = parts.into_iter().map(|input| (Term::Identity { input, multiplier: 1 }, None)).collect();
        let input = self.builder.linear(&format!("{name}/halves"), Sum { terms, bias: vec![0; channels] })?;
        let op = Op::Requantise { input, bits: bits.min(8), shift: vec![0], top: None, zero_point };
        Ok(self.builder.node(&format!("{name}/sum"), op, None)?)
    }
}

/// How a runtime adds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// Multipliers of the operands and of the sum.
    Double([Multiplier; 2], Multiplier),
    /// floor((m1 x1 + m2 x2) / 2^shift + 1/2).
    Single([i64; 2], u32),
}

impl Rule {
    /// Of a sum, or of a difference with `minus`; `None` where no kernel takes these scales.
    pub fn of(kernels: Kernels, inputs: [f32; 2], output: f32, minus: bool) -> Option<Rule> {
        let ratios = inputs.map(|scale| scale / output);
        // XNNPACK leaves other scales to the runtime's own kernels.
        let delegated = ratios.iter().all(|ratio| (2f32.powi(-10)..2f32.powi(8)).contains(ratio));
        let sign = if minus { -1 } else { 1 };
        if kernels == Kernels::Single && delegated {
            // The larger multiplier has 21 bits.
            let shift = 20 - ((ratios[0].max(ratios[1]).to_bits() >> 23) as i32 - 127);
            let [one, other] = ratios.map(|ratio| (ratio * 2f32.powi(shift)).round_ties_even() as i64);
            return Some(Rule::Single([one, sign * other], shift as u32));
        }
        let twice = 2.0 * f64::from(inputs[0].max(inputs[1]));
        let sum = Multiplier::of(twice / f64::from((1u32 << HEADROOM) as f32 * output));
        let [one, mut other] = inputs.map(|scale| Multiplier::of(f64::from(scale) / twice));
        other.significand *= sign as i32;
        (sum.exponent <= 0).then_some(Rule::Double([one, other], sum))
    }

    /// The rounded sum.
    pub fn apply(self, x: [i64; 2]) -> i64 {
        match self {
            Rule::Double(operands, sum) => {
                sum.apply(operands[0].apply(x[0] << HEADROOM) + operands[1].apply(x[1] << HEADROOM))
            }
            Rule::Single([one, other], shift) => (one * x[0] + other * x[1] + (1 << (shift - 1))) >> shift,
        }
    }
}

/// A function of all pairs of two intervals.
struct Grid {
    ranges: [Range; 2],
    /// Its slopes, about.
    ratios: [f64; 2],
    /// Row after row of the first.
    values: Vec<i64>,
}

/// clamp(floor((m1 x1 + m2 x2 + b) / 2^s), 0, top).
#[derive(Clone, Copy, Debug)]
struct Plane {
    multipliers: [i64; 2],
    offset: i64,
    shift: u32,
    top: i64,
}

impl Grid {
    fn new(ranges: [Range; 2], ratios: [f64; 2], f: impl Fn([i64; 2]) -> i64) -> Grid {
        let row = |x: i64| (ranges[1].lo..=ranges[1].hi).map(move |y| [x, y]);
        let values = (ranges[0].lo..=ranges[0].hi).flat_map(row).map(f).collect();
        Grid { ranges, ratios, values }
    }

    fn least(&self) -> i64 {
        self.values.iter().copied().min().expect("intervals are not empty")
    }

    fn last(&self) -> i64 {
        self.values.iter().copied().max().expect("intervals are not empty")
    }

    fn lowered(mut self, by: i64) -> Grid {
        self.values.iter_mut().for_each(|value| *value -= by);
        self
    }

    /// The plane of the smallest shift that equals clamp(f, from, to) - from.
    fn fit(&self, from: i64, to: i64) -> Option<Plane> {
        (0..=MAX_SHIFT).find_map(|shift| {
            let near = self.ratios.map(|ratio| (ratio * 2f64.powi(shift as i32)).round() as i64);
            // A little to the sides, more where multipliers are long: steps of about 2^-24 of a value.
            let step = 1i64 << shift.saturating_sub(24);
            let sides = || (0..7).map(|side: i64| if side % 2 == 0 { side / 2 } else { -(side + 1) / 2 } * step);
            let pairs = sides().flat_map(|one| sides().map(move |other| [near[0] + one, near[1] + other]));
            let mut pairs = pairs.filter(|pair| pair.iter().all(|&m| m > 0));
            pairs.find_map(|multipliers| self.offset(multipliers, shift, from, to))
        })
    }

    /// The plane with these multipliers and this shift.
    fn offset(&self, multipliers: [i64; 2], shift: u32, from: i64, to: i64) -> Option<Plane> {
        let top = to - from;
        // The least and the greatest z for each value of the part.
        let mut ends = vec![(i64::MAX, i64::MIN); top as usize + 1];
        let mut values = self.values.iter();
        for x in self.ranges[0].lo..=self.ranges[0].hi {
            for y in self.ranges[1].lo..=self.ranges[1].hi {
                let value = values.next().expect("one for each pair");
                let z = multipliers[0] * x + multipliers[1] * y;
                let (least, most) = &mut ends[(value - from).clamp(0, top) as usize];
                (*least, *most) = (z.min(*least), z.max(*most));
            }
        }
        let (mut lo, mut hi) = (i64::MIN, i64::MAX);
        let mut above = i64::MAX;
        for (k, &(least, _)) in ends.iter().enumerate().skip(1).rev() {
            above = above.min(least);
            if above < i64::MAX {
                lo = lo.max(((k as i64) << shift) - above);
            }
        }
        let mut below = i64::MIN;
        for (k, &(_, most)) in ends.iter().enumerate() {
            // Values below k + 1; those of the top are clamped.
            below = below.max(most);
            if below > i64::MIN && (k as i64) < top {
                hi = hi.min(((k as i64 + 1) << shift) - 1 - below);
            }
        }
        (lo <= hi).then(|| {
            let offset = match (lo, hi) {
                (i64::MIN, i64::MAX) => 0,
                (i64::MIN, bound) | (bound, i64::MAX) => bound,
                (lo, hi) => lo + (hi - lo) / 2,
            };
            // Without a clip below the width where nothing reaches it.
            let natural = (1i64 << (top.ilog2() + 1)) - 1;
            let free = below + offset < (top + 1) << shift;
            Plane { multipliers, offset, shift, top: if free { natural } else { top } }
        })
    }
}
