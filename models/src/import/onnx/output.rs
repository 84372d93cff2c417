//! The network's output: the last values as integers with one unit.

use super::graph::Node;
use super::input::dtype;
use super::real::{Post, at};
use super::tensor::Element;
use super::value::{Later, Layout, Real, Source, Stop, Value};
use super::walk::Walk;
use crate::coding::{End, Order, OutputCoding};
use crate::import::builder::Sum;
use crate::network::TensorId;

impl<'m> Walk<'m> {
    /// The network's output: a tensor, and the real value of one unit of it. The builder learns how the file codes it.
    pub(super) fn output(&mut self, value: &Value<'m>, node: Node<'m>) -> Result<(TensorId, Option<f64>), Stop> {
        let name = self.graph.output;
        match value {
            Value::Ints(ints) => {
                let unit = self.declared_unit(name);
                // With a softmax behind, the file's integers are others.
                let integers = self.behind.is_empty() && self.class.is_none();
                self.code(ints.id, ints.layout, Some((ints.zero, ints.element)), integers);
                Ok((ints.id, unit.map(f64::from)))
            }
            Value::Class(value) => self.output(&(**value).clone(), node),
            Value::Real(real) => self.real_output(real, node),
            _ => Err(Stop::new("the output does not depend on the input", "export the whole network")),
        }
    }

    /// Tells the builder how the file codes its output.
    fn code(&mut self, id: TensorId, layout: Layout, quantised: Option<(i64, Element)>, integers: bool) {
        let [c, h, w] = self.builder.tensor(id).shape;
        let small = quantised.and_then(|(zero, element)| Some((zero, dtype(element.small()?))));
        self.builder.output_coding = Some(OutputCoding {
            dims: if layout.rank == 2 { vec![c * h * w] } else { vec![c, h, w] },
            order: Order::ChannelsFirst,
            dtype: small.map(|(_, dtype)| dtype),
            zero_point: small.map_or(0, |(zero, _)| zero),
            integers,
            ends: self.behind.clone(),
            probability: self.is_sigmoid(self.graph.output),
            class: self.class,
        });
    }

    /// The unit that the file declares for integers.
    fn declared_unit(&self, name: &'m str) -> Option<f32> {
        let node = self.graph.maker(name)?;
        match node.op() {
            "QLinearConcat" => self.scalar(node, 0).ok(),
            "QuantizeLinear" | "QLinearSoftmax" => self.scalar(node, 1).ok(),
            "QLinearAveragePool" | "QLinearGlobalAveragePool" | "QLinearSigmoid" | "QLinearLeakyRelu" => {
                self.scalar(node, 3).ok()
            }
            "QLinearConv" | "QLinearMatMul" | "QLinearAdd" => self.scalar(node, 6).ok(),
            "QGemm" => self.scalar(node, 7).ok(),
            "Identity" | "Cast" | "Clip" | "MaxPool" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze"
            | "Transpose" | "ArgMax" | "Softmax" => self.declared_unit(node.input(0)?),
            _ => None,
        }
    }

    /// True if values are the results of a sigmoid, perhaps quantised.
    fn is_sigmoid(&self, name: &'m str) -> bool {
        self.graph.maker(name).is_some_and(|node| match node.op() {
            "Sigmoid" => !self.behind.contains(&End::Sigmoid),
            "QLinearSigmoid" => true,
            "QuantizeLinear" | "DequantizeLinear" | "Quant" | "IntQuant" | "Identity" | "Clip" | "Reshape"
            | "Flatten" | "Squeeze" | "Unsqueeze" | "Cast" => node.input(0).is_some_and(|name| self.is_sigmoid(name)),
            _ => false,
        })
    }

    fn real_output(&mut self, real: &Real<'m>, node: Node<'m>) -> Result<(TensorId, Option<f64>), Stop> {
        let Source::Sum { sum, unit, .. } = &real.source else {
            let scale = self.plain(real, node)?;
            self.code(scale.id, real.layout, scale.quantised, false);
            return Ok((scale.id, Some(scale.unit.into())));
        };
        let (mut sum, mut unit) = ((**sum).clone(), (**unit).clone());
        let mut rounded = 0.0f64;
        // Factors first, then offsets: v = unit z + bias.
        let mut bias = vec![0.0; unit.len()];
        for post in &real.post {
            for c in 0..unit.len() {
                let (factor, offset) = match post {
                    Post::Add(list) => (1.0, at(list, c).into()),
                    Post::Mul(list) => (f64::from(at(list, c)), 0.0),
                    Post::Div(list) => (1.0 / f64::from(at(list, c)), 0.0),
                    Post::Norm { scale, bias } => (at(scale, c).into(), at(bias, c).into()),
                    Post::From(list) => (-1.0, at(list, c).into()),
                    Post::Clip(..) | Post::Function(_) => {
                        let hint = "end the network with a linear layer, or quantise its output";
                        return Err(Stop::new("a function of the last values, which nothing quantises", hint));
                    }
                };
                (unit[c], bias[c]) = (unit[c] * factor, bias[c] * factor + offset);
            }
        }
        let least = unit.iter().map(|u| u.abs()).fold(f64::INFINITY, f64::min);
        if !(least.is_normal() && unit.iter().all(|u| u.is_finite())) {
            return Err(Stop::new("outputs without a unit", "the file is not consistent"));
        }
        let same = unit.iter().all(|&u| u > 0.0 && (u - unit[0]).abs() <= 1e-6 * unit[0]);
        let mut common = unit[0];
        if !same {
            // Weights stay within 16 bits: units become multiples of a smaller one.
            let most = sum.weights().flatten().map(|w| w.unsigned_abs()).max().unwrap_or(1).max(1);
            let factor = f64::from(32_000 / most).max(1.0).floor();
            let largest = unit.iter().map(|u| u.abs()).fold(0.0, f64::max);
            let multiples = unit.iter().all(|u| (u / least).fract() == 0.0) && largest / least <= factor;
            if sum.has_identity() || !(multiples || self.options.approximate) {
                let hint = "quantise the last layer by tensor, or accept approximate outputs (approximate)";
                return Err(Stop::new("outputs with different units", hint));
            }
            common = if multiples { least } else { largest / factor };
            let factors: Vec<i64> = unit.iter().map(|u| (u / common).round() as i64).collect();
            let off = unit.iter().zip(&factors).map(|(u, &f)| (f as f64 * common / u - 1.0).abs()).fold(0.0, f64::max);
            sum.multiply(&factors)?;
            if !multiples {
                let note = format!("outputs have different units: factors approximate them to {:.2} %", 100.0 * off);
                self.builder.report.note(note);
            }
        }
        // Biases in whole units are so but for the rounding of their unit.
        let snapped = |b: f64| if (b - b.round()).abs() <= 1e-6 * b.abs() { b.round() } else { b };
        let offsets: Vec<f64> = bias.iter().map(|b| snapped(b / common)).collect();
        let (finer, ordered) = self.finer(&sum, &offsets);
        if finer > 1 {
            sum.multiply(&vec![finer; unit.len()])?;
            common /= finer as f64;
        }
        for (z, offset) in sum.bias.iter_mut().zip(&offsets) {
            let exact = offset * finer as f64;
            if exact.is_nan() || exact.abs() >= (1u64 << 45) as f64 {
                return Err(Stop::new("a bias that is much larger than its unit", "quantise with a larger scale"));
            }
            *z = z.saturating_add(exact.round() as i64);
            rounded = rounded.max((exact - exact.round()).abs());
        }
        if rounded > 1e-4 {
            let order = if ordered {
                "the order of the outputs is the file's"
            } else {
                "nearly equal outputs may change places"
            };
            let note =
                format!("the bias of the output is rounded to whole units, by {rounded:.2} of a unit at most: {order}");
            self.builder.report.note(note);
        }
        if !real.layout.pad.iter().all(|&pad| pad == 0)
            || real.later.iter().any(|later| matches!(later, Later::MaxPool(_)))
        {
            return Err(Stop::new("a pool of values that nothing has quantised", "quantise the output"));
        }
        let id = self.builder.linear(node.name(), sum)?;
        self.code(id, real.layout, None, false);
        Ok((id, Some(common)))
    }

    /// A power of two that divides the unit of the outputs z + offset, so that outputs with offsets in whole units keep their order, and
    /// whether they do. Accumulators stay within 16 bits; wider ones keep their unit, which is small.
    fn finer(&self, sum: &Sum, offsets: &[f64]) -> (i64, bool) {
        let most =
            self.magnitudes(sum).into_iter().zip(offsets).map(|(z, offset)| z + offset.abs()).fold(0.0, f64::max);
        let fits = |&factor: &i64| (most + 1.0) * factor as f64 <= f64::from(1 << 15);
        let factors = (0..=MAX_FINER).map(|k| 1 << k);
        match factors.clone().find(|&factor| in_order(offsets, factor)) {
            Some(factor) if factor == 1 || fits(&factor) => (factor, true),
            _ => (factors.rev().find(fits).unwrap_or(1), false),
        }
    }
}

/// The largest logarithm of what the unit of the outputs is divided by.
const MAX_FINER: u32 = 8;

/// True if z_i + b_i and z_j + b_j compare alike with b and with b rounded to parts of `factor`, for all integers z.
fn in_order(b: &[f64], factor: i64) -> bool {
    let rounded = |v: f64| (v * factor as f64).round() / factor as f64;
    let alike = |v: f64, w: f64| v.floor() == w.floor() && (v.fract() == 0.0) == (w.fract() == 0.0);
    b.iter().enumerate().all(|(i, &v)| b[..i].iter().all(|&w| alike(v - w, rounded(v) - rounded(w))))
}

#[cfg(test)]
mod tests {
    use super::in_order;

    #[test]
    fn rounded_offsets_keep_the_order_of_all_sums() {
        assert!(in_order(&[0.0, 3.0, -2.0], 1));
        // Both become 0.
        assert!(!in_order(&[0.4, 0.2], 1));
        assert!(!in_order(&[0.3, 0.6], 1), "1 + 0.3 is larger than 0.6, but 1 is not larger than 1");
        assert!(!in_order(&[0.3, 0.6], 2), "both become 1/2");
        assert!(in_order(&[0.3, 0.6], 4));
        let offsets = [0.31, -1.62, 2.05, 0.77, -0.48];
        for factor in [1, 2, 4, 8, 16] {
            let wanted = (-5..=5).all(|z| {
                let rounded = offsets.map(|b: f64| (b * f64::from(factor)).round());
                (0..25).all(|pair| {
                    let (i, j) = (pair / 5, pair % 5);
                    let order = (f64::from(z) + offsets[i]).total_cmp(&offsets[j]);
                    i == j || order == (f64::from(z * factor) + rounded[i]).total_cmp(&rounded[j])
                })
            });
            assert_eq!(in_order(&offsets, factor.into()), wanted, "{factor}");
        }
    }
}
