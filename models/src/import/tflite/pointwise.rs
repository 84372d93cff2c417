//! Rescalings and functions of single values.

use super::model::{self, Operator};
use super::round::{Activation, Clamp, Multiplier, Rounding, Rule};
use super::walk::{Quantisation, Trouble, Value, Walk, quantisation, refuse};
use crate::import::report::Verdict;
use crate::network::Range;

impl<'m, 'f> Walk<'m, 'f> {
    /// Another scale for the same values; nothing where only the type changes.
    pub fn quantise(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.value(operator, 0)?.unpadded()?.clone();
        let Quantisation { scale, clamp } = quantisation(self.result(operator))?;
        let shift = clamp.zero_point - x.clamp.zero_point == clamp.lo - x.clamp.lo;
        if scale == x.scale && shift {
            self.define(operator, Value { clamp, ..x });
            return Ok(Verdict::Dropped("it only changes the type"));
        }
        self.rescale(operator, name, &x, Quantisation { scale, clamp }, clamp)?;
        Ok(Verdict::Imported("a rescaling"))
    }

    /// A function of single values.
    pub fn table(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.value(operator, 0)?.unpadded()?.clone();
        let y = quantisation(self.result(operator))?;
        let stored = Range { lo: y.clamp.lo, hi: y.clamp.hi };
        let clamp = |activation: Activation| activation.clamp(self.rounding, y.scale, y.clamp.zero_point, stored);
        match operator.code {
            model::RELU => self.rescale(operator, name, &x, y, clamp(Activation::Relu))?,
            model::RELU6 => self.rescale(operator, name, &x, y, clamp(Activation::Relu6))?,
            code => {
                let function = |value: i64| transcendental(code, value, &x, y) - y.clamp.zero_point;
                let id = self.builder.apply(name, x.id, function)?;
                self.define(operator, Value { id, scale: y.scale, clamp: y.clamp, ..x.clone() });
            }
        }
        Ok(Verdict::Imported("a function of single values"))
    }

    fn rescale(
        &mut self,
        operator: &Operator<'f>,
        name: &str,
        x: &Value,
        y: Quantisation,
        clamp: Clamp,
    ) -> Result<(), Trouble> {
        let rule = match self.rounding {
            Rounding::Double => Rule::Double(Multiplier::of(f64::from(x.scale) / f64::from(y.scale))),
            Rounding::Single => Rule::Single(x.scale / y.scale),
        };
        if !rule.holds(self.builder.tensor(x.id).range) {
            return refuse(format!("it rescales from {} to {}", x.scale, y.scale), "use scales that are closer");
        }
        let id = self.builder.apply(name, x.id, |value| clamp.apply(rule.apply(value)) - clamp.zero_point)?;
        self.define(operator, Value { id, scale: y.scale, clamp: y.clamp, ..x.clone() });
        Ok(())
    }
}

/// The stored value of f(scale * x) by a table that the runtime makes in floating point.
fn transcendental(code: i32, x: i64, input: &Value, y: Quantisation) -> i64 {
    let real = input.scale * x as f32;
    let result = match code {
        model::LOGISTIC => 1.0 / (1.0 + (-real).exp()),
        model::TANH => real.tanh(),
        _ => real * (real + 3.0).clamp(0.0, 6.0) / 6.0,
    };
    y.clamp.apply((result / y.scale).round() as i64)
}
