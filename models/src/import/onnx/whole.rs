//! Dialects in which accumulators stay integers, or floats that are integers: what follows `ConvInteger` and `MatMulInteger`, or a `Conv`
//! with whole weights, is arithmetic that ends in `Floor`, `Round` or a division, a `Clip` and a `Cast`. That is a requantisation.

use std::rc::Rc;

use super::dims::axis;
use super::graph::Node;
use super::integers::Whole;
use super::quantiser::{Mode, Quantiser, Rule, per_channel};
use super::real::Post;
use super::stop::Stop;
use super::tensor::Element;
use super::value::{Ints, Origin, Real, Scale, Value};
use super::walk::Walk;
use crate::network::Range;

/// The bounds of values that steps make whole numbers of; `None` where these are none, or nothing bounds them, or nothing rounds.
fn bounds(post: &[Post], mut integral: bool) -> Option<(i64, i64)> {
    let (mut lo, mut hi) = (f32::MIN, f32::MAX);
    let mut rounds = false;
    let is_whole = |v: f32| v.fract() == 0.0;
    for step in post {
        match step {
            Post::Round(_) => {
                (integral, rounds) = (true, true);
                (lo, hi) = (lo.floor(), hi.ceil());
            }
            Post::Clip(least, most) => {
                (lo, hi) = (lo.max(*least).min(*most), hi.min(*most).max(*least));
                integral &= is_whole(lo) && is_whole(hi);
            }
            Post::Whole(steps) => {
                for step in steps {
                    (rounds, lo, hi) = match step {
                        Whole::Within(least, most) => (rounds, lo.max(*least as f32), hi.min(*most as f32)),
                        Whole::Shift(_) => (true, 0.0, hi),
                        _ => (true, f32::MIN, f32::MAX),
                    };
                }
            }
            _ => (integral, lo, hi) = (false, f32::MIN, f32::MAX),
        }
    }
    (integral && rounds && lo <= hi && hi - lo <= 255.0).then_some((lo as i64, hi as i64))
}

impl<'m> Walk<'m> {
    /// A value that nothing but its arithmetic quantises, once it is whole and of at most 8 bits.
    pub(super) fn narrowed_by_steps(&mut self, node: Node<'m>, value: Value<'m>) -> Result<Value<'m>, Stop> {
        let Value::Real(real) = &value else { return Ok(value) };
        let one = match &real.source {
            Origin::Tensor(scale) => scale.unit == 1.0,
            Origin::Sum { unit, float, .. } => unit.iter().all(|&u| u == 1.0) && float.error.iter().all(|&e| e == 0.0),
            _ => false,
        };
        let Some((lo, hi)) = bounds(&real.post, one).filter(|(lo, hi)| lo < hi) else { return Ok(value) };
        let quantiser = Quantiser { rule: Rule::Onnx, scale: 1.0, zero: 0.0, lo, hi };
        self.builder.report.rule("arithmetic of the graph");
        let id = self.quantise(node, real, &quantiser)?;
        let channels = self.builder.tensor(id).shape[0];
        let scale = Scale { id, unit: 1.0, error: 0.0, quantised: None };
        Ok(Value::Real(Rc::new(Real::tensor(scale, channels, real.layout))))
    }

    /// `Floor`, `Ceil` and `Round`.
    pub(super) fn round(&mut self, node: Node<'m>, mode: Mode) -> Result<Value<'m>, Stop> {
        let real = self.real(node, 0)?;
        let value = self.after(&real, Post::Round(mode))?;
        self.narrowed_by_steps(node, value)
    }

    /// `Max` and `Min` of a tensor and a number.
    pub(super) fn extreme(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let pair = || Stop::new("other than a tensor and one number", "let Relu, Clip or MaxPool take its place");
        if node.proto.input.len() != 2 {
            return Err(pair());
        }
        let first = matches!(self.value(node, 0)?, Value::Constant(_) | Value::Scaled(_));
        let bound = self.constant(node, usize::from(!first))?.scalar().ok_or_else(pair)?;
        let (lo, hi) = if node.op() == "Max" { (bound, f32::MAX) } else { (f32::MIN, bound) };
        match self.value(node, usize::from(first))?.clone() {
            Value::Real(real) => {
                let value = self.after(&real, Post::Clip(lo, hi))?;
                self.narrowed_by_steps(node, value)
            }
            Value::Ints(ints) => {
                let id = self
                    .builder
                    .apply(node.name(), ints.id, |x| ((x + ints.zero) as f32).max(lo).min(hi) as i64 - ints.zero)?;
                Ok(Value::Ints(Ints { id, ..ints }))
            }
            _ => Err(pair()),
        }
    }

    /// A step of integers behind everything that is done to `real`.
    pub(super) fn after_whole(&self, real: &Real<'m>, step: Whole) -> Result<Value<'m>, Stop> {
        let mut real = real.clone();
        let mut steps = match real.post.last() {
            Some(Post::Whole(steps)) => steps.clone(),
            _ => vec![],
        };
        if !steps.is_empty() {
            real.post.pop();
        }
        steps.push(step);
        self.after(&real, Post::Whole(steps))
    }

    /// Refuses values beyond the bounds of a type, which would be others of it, where they are quantised.
    pub(super) fn within(&self, real: &Rc<Real<'m>>, (lo, hi): (i64, i64)) -> Result<Value<'m>, Stop> {
        let inside = |range: Range| lo <= range.lo && range.hi <= hi;
        let known = real.post.is_empty()
            && match &real.source {
                Origin::Tensor(scale) => scale.unit == 1.0 && inside(self.builder.tensor(scale.id).range),
                Origin::Sum { sum, unit, .. } => {
                    unit.iter().all(|&u| u == 1.0) && self.builder.bounds(sum).into_iter().all(inside)
                }
                _ => false,
            };
        if known { Ok(Value::Real(Rc::clone(real))) } else { self.after_whole(real, Whole::Within(lo, hi)) }
    }

    /// `BitShift` to the right, by constants.
    pub(super) fn bit_shift(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        if node.text("direction", "") != "right" {
            return Err(Stop::new("a shift to the left", "multiply by a power of two"));
        }
        let by = |list: &[i64]| list.iter().all(|by| (0..32).contains(by));
        match self.value(node, 0)?.clone() {
            Value::Real(real) => {
                let list = self.channel_list(node, 1, &real)?;
                match self.integers(node, 1, &list)?.filter(|list| by(list)) {
                    Some(list) => self.after_whole(&real, Whole::Shift(list)),
                    None => Err(Stop::new("a shift by other than 0 to 31 bits", "shift by constants")),
                }
            }
            Value::Ints(ints) if ints.zero == 0 && self.builder.tensor(ints.id).range.lo >= 0 => {
                let bits = self.constant(node, 1)?.to_ints().and_then(|ints| <[i64; 1]>::try_from(&ints[..]).ok());
                let Some([bits]) = bits.filter(|bits| by(bits)) else {
                    return Err(Stop::new("a shift by other than one number of 0 to 31 bits", "shift by a constant"));
                };
                let id = self.builder.apply(node.name(), ints.id, |x| x >> bits)?;
                Ok(Value::Ints(Ints { id, ..ints }))
            }
            _ => Err(Stop::new("a shift of other than unsigned integers", "cast integers to uint32 first")),
        }
    }

    /// `DequantizeLinear` of 32-bit integers, one unit or one for each channel.
    pub(super) fn accumulator(&mut self, node: Node<'m>, real: &Rc<Real<'m>>) -> Result<Value<'m>, Stop> {
        let zeros = self.optional(node, 2)?;
        if zeros.is_some_and(|zeros| zeros.to_ints().is_none_or(|zeros| zeros.iter().any(|&zero| zero != 0))) {
            return Err(Stop::new("a zero point of 32-bit integers", "leave it out"));
        }
        let units = self.constant(node, 1)?.to_floats();
        let rank = self.dims_of(&Value::Real(Rc::clone(real)))?.len();
        let along = units.len() == 1 || axis(node.int("axis", 1), rank)? == 1;
        let list = per_channel(&units, real.channels).filter(|_| along).ok_or_else(|| {
            Stop::new("units that are not one, or one for each channel", "quantise by tensor or by channel")
        })?;
        if let Some(unit) = list.iter().find(|unit| !(unit.is_normal() && **unit > 0.0)) {
            return Err(Stop::new(format!("a scale of {unit}"), "scales are positive numbers"));
        }
        self.after(real, Post::Mul(list))
    }

    /// Integers of 8 bits of real numbers that are such.
    pub(super) fn cast_real(
        &mut self,
        node: Node<'m>,
        real: &Rc<Real<'m>>,
        element: Element,
    ) -> Result<Value<'m>, Stop> {
        let Some((least, most)) = element.small() else {
            // Towards 0, which changes nothing on whole numbers.
            let value = if real.post.is_empty() {
                Value::Real(Rc::clone(real))
            } else {
                self.after(real, Post::Round(Mode::Down))?
            };
            let value = match (element.wraps(), value) {
                (Some(bounds), Value::Real(real)) => self.within(&real, bounds)?,
                (_, value) => value,
            };
            return self.narrowed_by_steps(node, value);
        };
        let wrong = || {
            let hint = "round and clip the values first: Round, Clip, Cast";
            Stop::new("a cast to 8 bits of values that may lie outside, or are not whole", hint)
        };
        let scale = real.plain().filter(|scale| scale.unit == 1.0 && scale.error == 0.0).ok_or_else(wrong)?;
        let range = self.builder.tensor(scale.id).range;
        if range.lo < least || range.hi > most {
            return Err(wrong());
        }
        Ok(Value::Ints(Ints { id: scale.id, zero: 0, element, layout: real.layout }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_whole_values() {
        let clip = Post::Clip(0.0, 15.0);
        assert_eq!(bounds(&[Post::Mul(vec![0.3]), Post::Round(Mode::Floor), clip.clone()], true), Some((0, 15)));
        assert_eq!(bounds(&[Post::Mul(vec![0.3]), clip.clone(), Post::Round(Mode::Floor)], true), Some((0, 15)));
        assert_eq!(bounds(&[Post::Mul(vec![0.3]), clip.clone()], true), None);
        assert_eq!(bounds(&[Post::Round(Mode::Floor), Post::Clip(0.0, 2.5)], true), None);
        assert_eq!(bounds(&[Post::Round(Mode::Floor), Post::Clip(0.0, f32::MAX)], true), None);
        assert_eq!(bounds(std::slice::from_ref(&clip), true), None);
        let most = Post::Clip(f32::MIN, 255.0);
        let shifted = Post::Whole(vec![Whole::Within(0, i64::MAX), Whole::Shift(vec![3])]);
        assert_eq!(bounds(&[shifted, most.clone()], true), Some((0, 255)));
        assert_eq!(bounds(&[Post::Whole(vec![Whole::Div(vec![8])]), most], true), None);
    }
}
