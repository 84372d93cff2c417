//! Pools and means.

use super::linear::window;
use super::model::Operator;
use super::round::{Activation, Clamp, Multiplier, Rounding, Rule};
use super::walk::{Quantisation, Trouble, Value, Walk, quantisation, refuse};
use crate::import::report::Verdict;
use crate::network::{Op, Range, Window};

impl<'m, 'f> Walk<'m, 'f> {
    /// The average of each window, half away from 0, of stored values.
    pub fn average_pool(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let (x, window, clamp) = self.pool(operator)?;
        if window.padding != x.padding {
            return refuse(
                "its windows at the border are smaller",
                "use VALID padding, or an input that windows cover",
            );
        }
        let count = (window.kernel[0] * window.kernel[1]) as i64;
        let average = |sum: i64| {
            let sum = sum + count * clamp.zero_point;
            let half = if sum > 0 { count / 2 } else { -(count / 2) };
            ((sum + half) / count).clamp(clamp.lo, clamp.hi) - x.clamp.lo
        };
        let id = self.builder.average(name, x.id, window, clamp.zero_point - x.clamp.lo, average)?;
        self.pooled(operator, &x, id);
        Ok(Verdict::Imported("an average pool"))
    }

    /// The largest value of each window.
    pub fn max_pool(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let (x, window, clamp) = self.pool(operator)?;
        if x.padding != [0; 4] && self.builder.tensor(x.id).range.lo < 0 {
            return refuse("it reads the result of a PAD", "a max pool may follow a PAD only behind a RELU");
        }
        let id = self.builder.node(name, Op::MaxPool { input: x.id, window }, None)?;
        let id =
            self.builder.apply(&format!("{name}/activation"), id, |value| clamp.apply(value) - clamp.zero_point)?;
        self.pooled(operator, &x, id);
        Ok(Verdict::Imported("a max pool"))
    }

    /// Input, geometry and clamp of a pool. Its output has the input's scale.
    fn pool(&self, operator: &Operator<'f>) -> Result<(Value, Window, Clamp), Trouble> {
        let x = self.value(operator, 0)?.image()?.clone();
        let y = quantisation(self.result(operator))?;
        if y.scale != x.scale || y.clamp != x.clamp {
            return refuse("its input and its output have different scales", "a pool keeps the scale");
        }
        let kernel = [operator.i32(4, 0)?, operator.i32(3, 0)?].map(|size| usize::try_from(size).unwrap_or(0));
        let window = window(&x, kernel, [operator.i32(2, 0)?, operator.i32(1, 0)?], [1, 1], operator.i8(0)?)?;
        let Some(activation) = Activation::of(operator.i8(5)?) else {
            return refuse("its activation function is unknown", "use none, RELU, RELU6 or RELU_N1_TO_1");
        };
        let Clamp { zero_point, lo, hi } = y.clamp;
        Ok((x, window, activation.clamp(self.rounding, y.scale, zero_point, Range { lo, hi })))
    }

    fn pooled(&mut self, operator: &Operator<'f>, x: &Value, id: usize) {
        let grid = self.builder.tensor(id).shape;
        let [channels, height, width] = grid;
        let dims = vec![1, height, width, channels];
        self.define(operator, Value { id, grid, dims, padding: [0; 4], ..x.clone() });
    }

    /// The mean over height and width, with a rescaling.
    pub fn mean(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.value(operator, 0)?.unpadded()?.image()?.clone();
        let mut axes = self.whole(operator, 1)?;
        axes.iter_mut().for_each(|axis| *axis += if *axis < 0 { 4 } else { 0 });
        axes.sort_unstable();
        axes.dedup();
        let [channels, height, width] = x.grid;
        if axes != [1, 2] {
            return refuse(format!("it runs over the axes {axes:?}"), "only means over height and width are supported");
        }
        let count = height * width;
        let Quantisation { scale, clamp } = quantisation(self.result(operator))?;
        let rule = mean_rule(self.rounding, x.scale, scale, count);
        let window = Window { kernel: [height, width], ..Window::POINT };
        let range = self.builder.tensor(x.id).range;
        let count = count as i64;
        if !rule.holds(Range { lo: range.lo.saturating_mul(count), hi: range.hi.saturating_mul(count) }) {
            return refuse("its sum overflows in the runtime", "use another output scale");
        }
        let id = self
            .builder
            .average(name, x.id, window, clamp.zero_point - clamp.lo, |sum| clamp.apply(rule.apply(sum)) - clamp.lo)?;
        let dims = if operator.i8(0)? != 0 { vec![1, 1, 1, channels] } else { vec![1, channels] };
        let grid = [channels, 1, 1];
        self.define(operator, Value { id, grid, dims, padding: [0; 4], scale, clamp });
        Ok(Verdict::Imported("an average pool"))
    }
}

/// round(m sum) with m = input / (output * count): QuantizedMeanOrSum shortens the significand by the division.
fn mean_rule(rounding: Rounding, input: f32, output: f32, count: usize) -> Rule {
    match rounding {
        Rounding::Double => {
            let Multiplier { significand, exponent } = Multiplier::of(f64::from(input) / f64::from(output));
            let shift = (count as u64).ilog2().min(32).min((31 + exponent).max(0) as u32);
            let significand = ((i64::from(significand) << shift) / count as i64) as i32;
            Rule::Double(Multiplier { significand, exponent: exponent - shift as i32 })
        }
        Rounding::Single => Rule::Single(input / (output * count as f32)),
    }
}
