//! Rescalings and functions of single values.

use super::model::{self, Operator};
use super::round::{Activation, Clamp, Kernels, Multiplier, Rule, divide_by_power};
use super::trouble::{Trouble, refuse};
use super::value::{Function, Quantisation, Value, quantisation};
use super::walk::Walk;
use crate::check::TensorInfo;
use crate::import::builder::Sum;
use crate::import::erf::erfc;
use crate::import::report::Verdict;
use crate::network::{Op, Range, TensorId};

impl<'m, 'f> Walk<'m, 'f> {
    /// Another scale for the same values; nothing where only the type changes.
    pub fn quantise(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.value(operator, 0)?;
        let x = self.narrow(name, &x)?;
        let Quantisation { scale, clamp } = quantisation(self.result(operator))?;
        let shift = clamp.zero_point - x.clamp.zero_point == clamp.lo - x.clamp.lo;
        if scale == x.scale && shift {
            self.define(operator, Value { clamp, ..x });
            return Ok(Verdict::Dropped("it only changes the type"));
        }
        let ratio = x.scale / scale;
        // XNNPACK takes eight bits of the ratio, for tensors of one type; the runtime's own kernel does the rest.
        let short =
            self.kernels == Kernels::Single && x.clamp.lo == clamp.lo && (2f32.powi(-8)..=128.0).contains(&ratio);
        let rule = if short { Rule::Short((256.0 * ratio).round_ties_even() as i64) } else { ratio_rule(&x, scale) };
        self.rescale(operator, name, &x, Quantisation { scale, clamp }, (rule, clamp))?;
        Ok(Verdict::Imported("a rescaling"))
    }

    /// A function of single values.
    pub fn table(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.value(operator, 0)?;
        let x = self.narrow(name, &x)?;
        let y = quantisation(self.result(operator))?;
        let stored = Range { lo: y.clamp.lo, hi: y.clamp.hi };
        let clamp = |activation: Activation| activation.clamp(self.kernels, y.scale, y.clamp.zero_point, stored);
        match operator.code {
            model::RELU => self.rescale(operator, name, &x, y, (ratio_rule(&x, y.scale), clamp(Activation::Relu)))?,
            model::RELU6 => self.rescale(operator, name, &x, y, (ratio_rule(&x, y.scale), clamp(Activation::Relu6)))?,
            model::RELU_N1_TO_1 => {
                self.rescale(operator, name, &x, y, (ratio_rule(&x, y.scale), clamp(Activation::ReluN1To1)))?;
            }
            model::RELU_0_TO_1 => {
                self.rescale(operator, name, &x, y, (ratio_rule(&x, y.scale), clamp(Activation::Relu0To1)))?;
            }
            model::GELU => self.gelu(operator, name, &x, y)?,
            code => {
                let swish = Swish::of(x.scale, y.scale);
                if code == model::HARD_SWISH && swish.is_none() {
                    return refuse(
                        format!("it rescales from {} to {}", x.scale, y.scale),
                        "use scales that are closer",
                    );
                }
                self.has_kernel(operator, &x, y)?;
                let kernels = self.kernels;
                let real = |value: i64| x.scale * value as f32;
                let abs = Multiplier::of((x.scale / y.scale).into());
                let stored = |value: i64| match (code, swish) {
                    (model::ABS, _) if x.scale == y.scale => y.clamp.apply(value.abs()),
                    (model::ABS, _) => y.clamp.apply(abs.apply(value.abs())),
                    // Stored values, whatever they stand for; -(-128) is -128.
                    (model::NEG, _) => i64::from(((value + x.clamp.zero_point) as i8).wrapping_neg()),
                    // Neither is taken by XNNPACK.
                    (model::EXP, _) => by_table(Kernels::Double, real(value).exp(), y),
                    (model::LOG, _) if value <= 0 => y.clamp.lo,
                    (model::LOG, _) => by_table(Kernels::Double, real(value).ln(), y),
                    // Cut off, not rounded.
                    (model::SQRT, _) => y.clamp.apply((real(value).max(0.0).sqrt() / y.scale) as i64),
                    (model::ELU, _) if value < 0 => by_table(kernels, real(value).exp_m1(), y),
                    (model::ELU, _) => by_table(kernels, real(value), y),
                    (model::HARD_SWISH, Some(swish)) => y.clamp.apply(swish.apply(value)),
                    (model::TANH, _) => by_table(kernels, (x.scale * value as f32).tanh(), y),
                    _ => by_table(kernels, 1.0 / (1.0 + (-x.scale * value as f32).exp()), y),
                };
                let made = self.pointwise(name, &x, y, stored)?;
                self.define(operator, made);
            }
        }
        Ok(Verdict::Imported("a function of single values"))
    }

    /// x Phi(x), or its approximation by a tangent; XNNPACK takes neither.
    fn gelu(&mut self, operator: &Operator<'f>, name: &str, x: &Value, y: Quantisation) -> Result<(), Trouble> {
        let tangent = operator.i8(0)? != 0;
        let stored = |value: i64, ulp: i32| by_table(Kernels::Double, gelu(x.scale * value as f32, tangent, ulp), y);
        // Libraries of mathematics differ in the last bit.
        let Range { lo, hi } = self.builder.tensor(x.id).range;
        if !self.approximate && (lo..=hi).any(|value| stored(value, -1) != stored(value, 1)) {
            return refuse(
                "a value of its table is half way between two",
                "use other scales, or accept results that may differ (approximate)",
            );
        }
        let made = self.pointwise(name, x, y, |value| stored(value, 0))?;
        self.define(operator, made);
        Ok(())
    }

    /// Refuses what the runtime has no kernel for.
    fn has_kernel(&self, operator: &Operator<'f>, x: &Value, y: Quantisation) -> Result<(), Trouble> {
        let signed = [model::ABS, model::NEG, model::EXP, model::LOG, model::ELU, model::SQRT].contains(&operator.code);
        if signed && x.clamp.lo == 0 {
            return refuse("the runtime has no kernel for unsigned numbers", "export with signed integers");
        }
        if operator.code == model::ELU && self.kernels == Kernels::Double {
            return refuse("the reference kernels have none", "round as XNNPACK does, which has one");
        }
        if operator.code == model::SQRT && self.builder.tensor(x.id).range.lo < 0 {
            return refuse("negative values reach it, which the runtime refuses", "put a RELU before it");
        }
        let far = !Multiplier::of((x.scale / y.scale).into()).holds(Range { lo: 0, hi: 256 });
        if operator.code == model::ABS && far {
            return refuse(format!("it rescales from {} to {}", x.scale, y.scale), "use scales that are closer");
        }
        Ok(())
    }

    /// The stored values `of(x)` of an operand without padding, of at most 8 bits.
    pub fn pointwise(
        &mut self,
        name: &str,
        x: &Value,
        y: Quantisation,
        of: impl Fn(i64) -> i64,
    ) -> Result<Value, Trouble> {
        let of = |x: i64| of(x) - y.clamp.zero_point;
        let id = self.builder.apply(name, x.id, of)?;
        let Function { root, table } = self.function(x.id);
        let table = table.into_iter().map(of).collect();
        self.functions.entry(id).or_insert(Function { root, table });
        Ok(Value { id, scale: y.scale, clamp: y.clamp, ..x.clone() })
    }

    /// What a tensor is of the one whose values it was made of, or of itself.
    pub fn function(&self, id: TensorId) -> Function {
        let identity = || {
            let Range { lo, hi } = self.builder.tensor(id).range;
            Function { root: id, table: (lo..=hi).collect() }
        };
        self.functions.get(&id).cloned().unwrap_or_else(identity)
    }

    /// A value without padding, of at most 8 bits: intervals that say more than there is, of joined tensors, are clamped.
    pub fn narrow(&mut self, name: &str, x: &Value) -> Result<Value, Trouble> {
        let x = self.without_padding(name, x)?;
        let TensorInfo { shape, range, .. } = self.builder.tensor(x.id);
        if range.count() <= 256 {
            return Ok(x);
        }
        // Once: what is made of one tensor stays so.
        if let Some(&id) = self.narrowed.get(&x.id) {
            return Ok(Value { id, ..x });
        }
        let zero_point = x.clamp.zero_point - x.clamp.lo;
        let sum = Sum { bias: vec![zero_point; shape[0]], ..Sum::identity(x.id, shape[0]) };
        let input = self.builder.linear(&format!("{name}/interval"), sum)?;
        let op = Op::Requantise { input, bits: 8, shift: vec![0], top: None, zero_point };
        let id = self.builder.node(&format!("{name}/within"), op, None)?;
        self.narrowed.insert(x.id, id);
        Ok(Value { id, ..x })
    }

    fn rescale(
        &mut self,
        operator: &Operator<'f>,
        name: &str,
        x: &Value,
        y: Quantisation,
        (rule, clamp): (Rule, Clamp),
    ) -> Result<(), Trouble> {
        if !rule.holds(self.builder.tensor(x.id).range) {
            return refuse(format!("it rescales from {} to {}", x.scale, y.scale), "use scales that are closer");
        }
        let made = self.pointwise(name, x, y, |value| clamp.apply(rule.apply(value)))?;
        self.define(operator, made);
        Ok(())
    }
}

/// Both kinds of kernels rescale single values with 31-bit multipliers.
fn ratio_rule(x: &Value, scale: f32) -> Rule {
    Rule::Double(Multiplier::of(f64::from(x.scale) / f64::from(scale)))
}

/// The stored value of a real one, as the runtimes fill their tables.
fn by_table(kernels: Kernels, real: f32, y: Quantisation) -> i64 {
    let real = real * (1.0 / y.scale);
    match kernels {
        Kernels::Double => y.clamp.apply(real.round() as i64),
        // The zero point is added before the rounding.
        Kernels::Single => {
            let stored = (real + y.clamp.zero_point as f32).round_ties_even() as i64;
            stored.clamp(y.clamp.lo, y.clamp.hi)
        }
    }
}

/// As the runtime writes it, in 32-bit floats (`gelu.h`), with an error function that is `ulp` units in the last place off.
fn gelu(v: f32, tangent: bool, ulp: i32) -> f32 {
    if tangent {
        const ROOT: f32 = (std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2) as f32;
        return 0.5 * v * (1.0 + (ROOT * (v + 0.044715 * v * v * v)).tanh());
    }
    let erfc = erfc(f64::from(v * -std::f32::consts::FRAC_1_SQRT_2)) as f32;
    // Of 2 all are sure.
    let off = if erfc == 2.0 { 0 } else { ulp };
    0.5 * v * f32::from_bits(erfc.to_bits().saturating_add_signed(off))
}

/// x relu6(x + 3) / 6 in 16-bit numbers, as both kinds of kernels compute it (`hardswish.h`): x 2^7 has the scale input / 2^7; it is
/// brought to the output's scale, and to one of 3 / 2^15, in which relu6(x + 3) / 6 is a number of 16 bits.
#[derive(Clone, Copy, Debug)]
struct Swish {
    /// To the output's scale.
    rescale: Multiplier,
    /// To the scale of the gate.
    gate: Multiplier,
}

impl Swish {
    /// `None` if a multiplier is out of range.
    fn of(input: f32, output: f32) -> Option<Swish> {
        let short = |real: f32| {
            let Multiplier { significand, exponent } = Multiplier::of(f64::from(real));
            let significand = (i64::from(significand) + (1 << 15)) >> 16;
            Multiplier { significand: significand.min(i16::MAX.into()) as i32, exponent }
        };
        let fine = input / 128.0;
        let swish = Swish { rescale: short(fine / output), gate: short(fine / (3.0 / 32768.0)) };
        let fits = |m: Multiplier, most: i32| (-15..=most).contains(&m.exponent);
        (fits(swish.rescale, 0) && fits(swish.gate, 15)).then_some(swish)
    }

    /// The rounded value.
    fn apply(self, x: i64) -> i64 {
        let saturated = |value: i64| value.clamp(i16::MIN.into(), i16::MAX.into());
        let high = |value: i64, m: Multiplier| saturated((value * i64::from(m.significand) + (1 << 14)) >> 15);
        let fine = x << 7;
        let scaled = high(fine, self.rescale);
        let up = self.gate.exponent.max(0);
        let mut gate = high(saturated(fine << (up - 1).max(0)), self.gate);
        if up > 0 {
            gate = saturated(gate << 1);
        }
        gate = divide_by_power(gate, (-self.gate.exponent).max(0) as u32);
        gate = (gate + (1 << 15)) >> 1;
        let product = saturated(gate * scaled / (1 << 15));
        divide_by_power(product, (-self.rescale.exponent).max(0) as u32)
    }
}
