//! Two numbers that follow from one, and what becomes of both: the data of products and sums of quantised tensors.

use std::rc::Rc;

use super::quantiser::Quantiser;
use super::tensor::Element;
use crate::shape::of_channel as at;

/// How two numbers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    Add,
    Sub,
    Mul,
    Div,
}

/// Integers x = q - zero.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Integers {
    /// For each value of the tensor that both operands follow from.
    Values(Rc<Vec<i64>>),
    /// One, or one for each channel.
    Channels(Vec<i64>),
}

/// One side of a product or a sum.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand {
    pub x: Integers,
    pub unit: f32,
    pub zero: i64,
    pub element: Element,
}

/// Two operands as functions of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Both {
    pub by: Join,
    pub operands: [Operand; 2],
    /// Unit and least value of the tensor.
    pub unit: f32,
    pub lo: i64,
}

/// The real values of a tensor that follows from another, by the values x of that.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reals {
    pub lo: i64,
    pub values: Vec<f32>,
}

impl Reals {
    pub fn value(&self, v: f32) -> f32 {
        self.values[index(v, 1.0, self.lo)]
    }
}

/// Which entry belongs to unit * x.
fn index(v: f32, unit: f32, lo: i64) -> usize {
    ((f64::from(v) / f64::from(unit)).round() as i64 - lo) as usize
}

impl Operand {
    fn x(&self, channel: usize, index: usize) -> i64 {
        match &self.x {
            Integers::Values(values) => values[index],
            Integers::Channels(list) => at(list, channel),
        }
    }

    fn differs(&self) -> bool {
        matches!(&self.x, Integers::Channels(list) if list.len() > 1)
    }
}

impl Both {
    pub fn differs(&self) -> bool {
        self.operands.iter().any(Operand::differs)
    }

    /// In floats, each operation rounded.
    pub fn real(&self, channel: usize, v: f32) -> f32 {
        let index = index(v, self.unit, self.lo);
        let [a, b] = self.operands.each_ref().map(|operand| operand.x(channel, index) as f32 * operand.unit);
        if self.by == Join::Mul { a * b } else { a + b }
    }

    /// Its numbers for some channels.
    pub fn of_channels(&self, channels: &std::ops::Range<usize>) -> Both {
        let of = |operand: &Operand| match &operand.x {
            Integers::Channels(list) if list.len() > 1 => {
                Operand { x: Integers::Channels(list[channels.clone()].to_vec()), ..operand.clone() }
            }
            _ => operand.clone(),
        };
        Both { operands: self.operands.each_ref().map(of), ..self.clone() }
    }

    /// In the order in which the runtime has them: a constant that is one number for whole rows goes second.
    pub fn ordered(mut self, rank: usize) -> Both {
        let rows = rank > 2 || !self.operands[0].differs();
        if matches!(self.operands[0].x, Integers::Channels(_)) && rows {
            self.operands.reverse();
        }
        self
    }

    /// ONNX Runtime's `QLinearMul` and `QLinearAdd` on x86 processors with AVX2, half to even: the product of integers times a ratio, plus
    /// the zero point; two fused multiply-adds. The result's zero point is larger by `more`.
    pub fn integer(&self, quantiser: &Quantiser, more: i64, channel: usize, index: usize) -> i64 {
        let zero = (quantiser.zero as i64 + more) as f32;
        let [a, b] = &self.operands;
        let [xa, xb] = [a, b].map(|operand| operand.x(channel, index));
        let v = if self.by == Join::Mul {
            (xa * xb) as f32 * (a.unit * b.unit / quantiser.scale) + zero
        } else {
            let [ra, rb] = [a, b].map(|operand| operand.unit / quantiser.scale);
            let fixed = zero - ra.mul_add(a.zero as f32, rb * b.zero as f32);
            ((xa + a.zero) as f32).mul_add(ra, ((xb + b.zero) as f32).mul_add(rb, fixed))
        };
        (v.round_ties_even() as i64 - more).clamp(quantiser.lo, quantiser.hi)
    }
}
