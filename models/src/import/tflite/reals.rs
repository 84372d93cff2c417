//! Islands of real numbers between quantised tensors: elements in another order, and functions of single values that 32-bit floats
//! compute everywhere alike (sums, products and bounds with one constant).
//!
//! A real tensor is a quantised one whose values stand for numbers of a table; where it is quantised again, that is a function of
//! single values. Its elements move as those of the quantised one do.

use std::rc::Rc;

use super::model::{self, Element, Operator};
use super::names::number;
use super::round::{Clamp, Kernels};
use super::trouble::{Trouble, refuse};
use super::value::{Quantisation, Real, Value, quantisation};
use super::walk::{Import, Walk};
use crate::import::report::Verdict;
use crate::network::Range;

/// Operators that only move elements.
pub(super) const MOVEMENTS: [i32; 20] = [
    number("REVERSE_V2"),
    number("BROADCAST_TO"),
    number("RESHAPE"),
    number("SQUEEZE"),
    number("EXPAND_DIMS"),
    number("TRANSPOSE"),
    number("SLICE"),
    number("STRIDED_SLICE"),
    number("SPLIT"),
    number("SPLIT_V"),
    number("PACK"),
    number("UNPACK"),
    number("GATHER"),
    number("TILE"),
    number("CONCATENATION"),
    number("DEPTH_TO_SPACE"),
    number("SPACE_TO_DEPTH"),
    number("RESIZE_NEAREST_NEIGHBOR"),
    number("PAD"),
    number("MIRROR_PAD"),
];

/// Functions of single numbers.
const FUNCTIONS: [i32; 14] = [
    model::ADD,
    model::SUB,
    model::MUL,
    model::DIV,
    model::MAXIMUM,
    model::MINIMUM,
    model::RELU,
    model::RELU6,
    model::NEG,
    model::ABS,
    model::EXP,
    model::TANH,
    model::LOGISTIC,
    model::QUANTIZE,
];

/// Whether an operator may read float32 numbers.
pub(super) fn takes_reals(code: i32) -> bool {
    MOVEMENTS.contains(&code) || FUNCTIONS.contains(&code)
}

impl<'m, 'f> Walk<'m, 'f> {
    /// Real numbers of a quantised tensor.
    pub fn dequantise(&mut self, operator: &Operator<'f>, _: &str) -> Result<Verdict, Trouble> {
        let x = self.value(operator, 0)?;
        if self.result(operator).element != Element::Float32 {
            return refuse("its result is no float32 tensor", "the file is damaged");
        }
        self.define(operator, x);
        self.reals.insert(operator.outputs[0], Real::Stored);
        Ok(Verdict::Dropped("its numbers are those of the quantised tensor"))
    }

    /// The real operand that an operator reads, if there is one.
    pub fn real(&self, operator: &Operator<'_>) -> Option<usize> {
        operator.inputs.iter().flatten().copied().find(|input| self.reals.contains_key(input))
    }

    /// Imports an operator that reads the real tensor `operand`.
    pub fn on_reals(
        &mut self,
        operator: &Operator<'f>,
        name: &str,
        operand: usize,
        import: Import,
    ) -> Result<Verdict, Trouble> {
        let real = self.reals[&operand].clone();
        if operator.code == model::QUANTIZE {
            return self.quantise_reals(operator, name, &real);
        }
        if MOVEMENTS.contains(&operator.code) {
            let others = || operator.inputs.iter().flatten().filter(|input| self.values.contains_key(input));
            let first = &self.values[&operand];
            let alike = |input: &usize| {
                let x = &self.values[input];
                self.reals.get(input) == Some(&real) && (x.scale, x.clamp) == (first.scale, first.clamp)
            };
            if !others().all(alike) {
                return refuse("it joins float32 numbers of different scales", "quantise the whole model");
            }
            let zero = match &real {
                Real::Table(lo, table) => table.get((-lo) as usize).is_some_and(|zero| *zero == 0.0),
                _ => true,
            };
            if operator.code == number("PAD") && !zero {
                return refuse(
                    "it pads float32 numbers that are none of a quantised tensor",
                    "quantise the whole model",
                );
            }
            self.moves_reals = true;
            let made = import(self, operator, name);
            self.moves_reals = false;
            for &output in &operator.outputs {
                if self.values.contains_key(&output) {
                    self.reals.insert(output, real.clone());
                }
            }
            return made;
        }
        self.function_of_reals(operator, name, operand, &real)
    }

    /// Float32 numbers to stored values, as QUANTIZE does it.
    fn quantise_reals(&mut self, operator: &Operator<'f>, name: &str, real: &Real) -> Result<Verdict, Trouble> {
        let x = self.value(operator, 0)?;
        let y = quantisation(self.result(operator))?;
        if *real == Real::Input {
            if (x.scale, x.clamp) != (y.scale, y.clamp) {
                return refuse("the input is quantised in more than one way", "quantise it once");
            }
            self.define(operator, x);
            return Ok(Verdict::Dropped("the network reads quantised values"));
        }
        let x = self.narrow(name, &x)?;
        let numbers = self.numbers_of(&x, real);
        let lo = self.builder.tensor(x.id).range.lo;
        let kernels = self.kernels;
        let made = self.pointwise(name, &x, y, |x| quantised(kernels, numbers[(x - lo) as usize], y))?;
        self.define(operator, made);
        Ok(Verdict::Imported("a rescaling"))
    }

    /// The real numbers of all values of a tensor.
    fn numbers_of(&self, x: &Value, real: &Real) -> Vec<f32> {
        let Range { lo, hi } = self.builder.tensor(x.id).range;
        let number = |value: i64| match real {
            Real::Table(first, table) => {
                let at = (value - first).clamp(0, table.len() as i64 - 1);
                table[at as usize]
            }
            _ => x.scale * value as f32,
        };
        (lo..=hi).map(number).collect()
    }

    /// A function of single values that is exact in 32-bit floats.
    fn function_of_reals(
        &mut self,
        operator: &Operator<'f>,
        name: &str,
        operand: usize,
        real: &Real,
    ) -> Result<Verdict, Trouble> {
        let hint = "quantise the whole model to 8-bit integers";
        if *real == Real::Input {
            return refuse("it computes with float32 numbers before they are quantised", hint);
        }
        let first = operator.inputs.first() == Some(&Some(operand));
        let other = operator.inputs.iter().flatten().copied().find(|&input| input != operand);
        let constant = other.map(|tensor| self.scalar(tensor)).transpose()?;
        let of: Box<dyn Fn(f32) -> f32> = match (operator.code, constant) {
            (model::ADD, Some(c)) => Box::new(move |v| v + c),
            (model::SUB, Some(c)) if first => Box::new(move |v| v - c),
            (model::SUB, Some(c)) => Box::new(move |v| c - v),
            (model::MUL, Some(c)) => Box::new(move |v| v * c),
            (model::DIV, Some(c)) if first => Box::new(move |v| v / c),
            (model::DIV, Some(c)) => Box::new(move |v| c / v),
            (model::MAXIMUM, Some(c)) => Box::new(move |v| v.max(c)),
            (model::MINIMUM, Some(c)) => Box::new(move |v| v.min(c)),
            (model::RELU, None) => Box::new(|v| v.max(0.0)),
            (model::RELU6, None) => Box::new(|v| v.clamp(0.0, 6.0)),
            (model::NEG, None) => Box::new(|v| -v),
            (model::ABS, None) => Box::new(f32::abs),
            // The reference kernels take these from the library of mathematics; others approximate.
            (model::EXP, None) if self.kernels == Kernels::Double => Box::new(f32::exp),
            (model::TANH, None) if self.kernels == Kernels::Double => Box::new(f32::tanh),
            (model::LOGISTIC, None) if self.kernels == Kernels::Double => Box::new(logistic),
            _ => return refuse("it computes with float32 numbers, in a way that kernels differ in", hint),
        };
        let fused = match (operator.code, constant) {
            (model::MAXIMUM | model::MINIMUM, _) | (_, None) => 0,
            _ => operator.i8(0)?,
        };
        let activation: fn(f32) -> f32 = match fused {
            0 => |v| v,
            1 => |v| v.max(0.0),
            2 => |v| v.clamp(-1.0, 1.0),
            3 => |v| v.clamp(0.0, 6.0),
            _ => return refuse("its activation function is unknown", "use none, RELU, RELU6 or RELU_N1_TO_1"),
        };
        let x = self.narrow(name, &self.values[&operand].clone())?;
        let numbers: Vec<f32> = self.numbers_of(&x, real).into_iter().map(|v| activation(of(v))).collect();
        if numbers.iter().any(|number| !number.is_finite()) {
            return refuse(
                "it divides by 0, or overflows, for a value that it may read; runtimes quantise infinities differently",
                "quantise its function as one operator (LOGISTIC for 1 / (1 + exp(-x))), or use other scales",
            );
        }
        let lo = self.builder.tensor(x.id).range.lo;
        self.reals.insert(operator.outputs[0], Real::Table(lo, Rc::new(numbers)));
        self.define(operator, x);
        Ok(Verdict::Imported("a part of the next rescaling"))
    }

    /// A constant of one number.
    fn scalar(&self, tensor: usize) -> Result<f32, Trouble> {
        let tensor = &self.model.tensors[tensor];
        match <[u8; 4]>::try_from(tensor.data) {
            Ok(bytes) if tensor.element == Element::Float32 && !tensor.indirect => Ok(f32::from_le_bytes(bytes)),
            _ => refuse(
                "it computes with float32 numbers, of more than one tensor or constant",
                "quantise the whole model to 8-bit integers",
            ),
        }
    }
}

/// The reference kernel's logistic function.
fn logistic(v: f32) -> f32 {
    match v {
        v if v > 16.619_047 => 1.0,
        v if v < -9.0 => v.exp(),
        v => 1.0 / (1.0 + (-v).exp()),
    }
}

/// The stored value of a real number.
fn quantised(kernels: Kernels, real: f32, y: Quantisation) -> i64 {
    let Clamp { zero_point, lo, hi } = y.clamp;
    let rounded = match kernels {
        Kernels::Double => (real / y.scale).round(),
        Kernels::Single => (real * (1.0 / y.scale)).round_ties_even(),
    };
    (rounded as i64).saturating_add(zero_point).clamp(lo, hi)
}
