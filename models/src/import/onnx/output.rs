//! The network's output: the last values as integers with one unit.

use super::graph::Node;
use super::input::dtype;
use super::moves;
use super::real::{Function, Post, at, is_relu};
use super::stop::Stop;
use super::tensor::Element;
use super::value::{Later, Layout, Origin, Real, Value};
use super::walk::Walk;
use crate::coding::{End, Order, OutputCoding};
use crate::import::builder::Sum;
use crate::network::{Shape, TensorId, selected};

impl<'m> Walk<'m> {
    /// The network's output: a tensor, and the real value of one unit of it. The builder learns how the file codes it.
    pub(super) fn output(&mut self, value: &Value<'m>, node: Node<'m>) -> Result<(TensorId, Option<f64>), Stop> {
        let name = self.graph.output;
        if value.padding() != [0; 4] {
            let filled = self.filled(node, value)?;
            return self.output(&filled, node);
        }
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
        let shape = self.builder.tensor(id).shape;
        // What has no batch in front is told as the network has it.
        let dims = match &layout.dims(shape)[..] {
            [1, rest @ ..] if rest.iter().product::<usize>() == shape.iter().product::<usize>() && !rest.is_empty() => {
                rest.to_vec()
            }
            _ => shape.to_vec(),
        };
        let small = quantised.and_then(|(zero, element)| Some((zero, dtype(element.small()?))));
        self.builder.output_coding = Some(OutputCoding {
            dims,
            order: Order::ChannelsFirst,
            dtype: small.map(|(_, dtype)| dtype),
            zero_point: small.map_or(0, |(zero, _)| zero),
            integers,
            ends: self.behind.clone(),
            probability: self.is_sigmoid(self.graph.output),
            class: self.class,
            parts: Vec::new(),
            units: Vec::new(),
        });
    }

    /// The unit that the file declares for integers.
    pub(super) fn declared_unit(&self, name: &'m str) -> Option<f32> {
        let passed = |node: &Node<'m>| match node.op() {
            "QuantizeLinear" | "DequantizeLinear" => self.done.contains(node.output()),
            "Identity" | "Cast" | "Clip" | "MaxPool" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze"
            | "Transpose" | "ArgMax" | "Softmax" => true,
            _ => false,
        };
        let node = self.graph.back(name).find(|node| !passed(node))?;
        match node.op() {
            "QLinearConcat" => self.scalar(node, 0).ok(),
            "QuantizeLinear" | "QLinearSoftmax" => self.scalar(node, 1).ok(),
            "QLinearAveragePool" | "QLinearGlobalAveragePool" | "QLinearSigmoid" | "QLinearLeakyRelu" => {
                self.scalar(node, 3).ok()
            }
            "QLinearConv" | "QLinearMatMul" | "QLinearAdd" | "QLinearMul" => self.scalar(node, 6).ok(),
            "QGemm" => self.scalar(node, 7).ok(),
            _ => None,
        }
    }

    /// True if values are the results of a sigmoid, perhaps quantised.
    fn is_sigmoid(&self, name: &'m str) -> bool {
        let passed = [
            "QuantizeLinear",
            "DequantizeLinear",
            "Quant",
            "IntQuant",
            "Identity",
            "Clip",
            "Reshape",
            "Flatten",
            "Squeeze",
            "Unsqueeze",
            "Cast",
        ];
        self.graph.back(name).find(|node| !passed.contains(&node.op())).is_some_and(|node| match node.op() {
            "Sigmoid" => !self.behind.contains(&End::Sigmoid),
            op => op == "QLinearSigmoid",
        })
    }

    fn real_output(&mut self, real: &Real<'m>, node: Node<'m>) -> Result<(TensorId, Option<f64>), Stop> {
        let Some((sum, unit)) = self.last_sum(real) else {
            let scale = self.plain(real, node)?;
            self.code(scale.id, real.layout, scale.quantised, false);
            return Ok((scale.id, Some(scale.unit.into())));
        };
        // Channels that come last in the file are put there by the client.
        let last = self.builder.shape_of(&sum.terms[0].0).filter(|&shape| channels_last(&real.later, shape));
        let bare = Real { later: vec![], ..real.clone() };
        let (sum, units) = self.output_sum(if last.is_some() { &bare } else { real }, &sum, &unit, node, true)?;
        let id = self.builder.linear(node.name(), sum)?;
        self.code(id, real.layout, None, false);
        if let (Some([c, h, w]), Some(coding)) = (last, &mut self.builder.output_coding) {
            (coding.dims, coding.order) = (vec![h, w, c], Order::ChannelsLast);
        }
        if let &[unit] = &units[..] {
            return Ok((id, Some(unit)));
        }
        if let Some(coding) = &mut self.builder.output_coding {
            coding.units = units;
        }
        Ok((id, None))
    }

    /// Last values that are sums times a unit: sums of products, and a tensor of which something makes other numbers. Each of its
    /// channels is a sum of itself alone.
    pub(super) fn last_sum(&self, real: &Real<'m>) -> Option<(Sum, Vec<f64>)> {
        match &real.source {
            Origin::Sum { sum, unit, .. } => Some(((**sum).clone(), unit.to_vec())),
            Origin::Tensor(scale) if !real.post.is_empty() && self.tensor(real).is_none() && !is_relu(&real.post) => {
                let channels = self.builder.tensor(scale.id).shape[0];
                Some((Sum::identity(scale.id, channels), vec![scale.unit.into(); channels]))
            }
            _ => None,
        }
    }

    /// Sums of products as integers with one unit, or with one for each channel where there may be `several`.
    pub(super) fn output_sum(
        &mut self,
        real: &Real<'m>,
        sum: &Sum,
        unit: &[f64],
        node: Node<'m>,
        several: bool,
    ) -> Result<(Sum, Vec<f64>), Stop> {
        let mut sum = sum.clone();
        let Lines { unit, bias } = Lines::of(unit, &real.post)?;
        let Units { mut units, factors, whole } = self.with_units(&mut sum, &unit, several)?;
        // Biases in whole units are so but for the rounding of their unit.
        let snapped = |b: f64| if (b - b.round()).abs() <= 1e-6 * b.abs() { b.round() } else { b };
        let offsets: Vec<f64> = (0..bias.len()).map(|c| snapped(bias[c] / at(&units, c))).collect();
        let finer = self.finer(&sum, &offsets);
        if finer > 1 {
            sum.multiply(&vec![finer; unit.len()])?;
            units.iter_mut().for_each(|unit| *unit /= finer as f64);
        }
        let (mut rounded, mut added) = (0.0f64, Vec::new());
        for (z, offset) in sum.bias.iter_mut().zip(&offsets) {
            let exact = offset * finer as f64;
            if exact.is_nan() || exact.abs() >= (1u64 << 45) as f64 {
                return Err(Stop::new("a bias that is much larger than its unit", "quantise with a larger scale"));
            }
            *z = z.saturating_add(exact.round() as i64);
            added.push(exact.round());
            rounded = rounded.max((exact - exact.round()).abs() / finer as f64);
        }
        if rounded > COARSE && !self.near {
            let reason = format!("biases of the outputs would be rounded by {rounded:.3} of a unit");
            return Err(Stop::near(reason, "use narrower weights in the last layer, or quantise its output"));
        }
        if rounded > TOLD || !whole {
            let exact = |c: usize| {
                let common = at(&units, c);
                let factor = unit[c] / common / (factors[c] * finer) as f64;
                (factor, bias[c] / common - factor * added[c])
            };
            self.builder.twin.outputs((0..unit.len()).map(exact).collect());
        }
        if rounded > TOLD {
            let largest = rounded * finer as f64 * units.iter().copied().fold(0.0, f64::max);
            self.note(node, &format!("the biases of the outputs are rounded, each by {largest:.1e} at most"));
        }
        in_order(real)?;
        Ok((sum, units))
    }

    /// Gives all channels one unit, or each its own where there may be `several`.
    fn with_units(&mut self, sum: &mut Sum, unit: &[f64], several: bool) -> Result<Units, Stop> {
        let least = unit.iter().map(|u| u.abs()).fold(f64::INFINITY, f64::min);
        if !(least.is_normal() && unit.iter().all(|u| u.is_finite())) {
            return Err(Stop::new("outputs without a unit", "the file is not consistent"));
        }
        if unit.iter().all(|&u| u > 0.0 && (u - unit[0]).abs() <= 1e-6 * unit[0]) {
            return Ok(Units { units: vec![unit[0]], factors: vec![1; unit.len()], whole: true });
        }
        // Weights stay within 16 bits: units become multiples of a smaller one.
        let most = sum.weights().flatten().map(|w| w.unsigned_abs()).max().unwrap_or(1).max(1);
        let factor = f64::from(32_000 / most).max(1.0).floor();
        let largest = unit.iter().map(|u| u.abs()).fold(0.0, f64::max);
        let multiples = unit.iter().all(|u| (u / least).fract() == 0.0) && largest / least <= factor;
        let signs = [unit.iter().any(|&u| u < 0.0), unit.iter().any(|&u| u > 0.0)];
        let own = if sum.has_identity() { signs != [true; 2] } else { !multiples };
        if several && own {
            let factors: Vec<i64> = unit.iter().map(|&u| if u < 0.0 { -1 } else { 1 }).collect();
            if factors.contains(&-1) {
                sum.multiply(&factors)?;
            }
            let mut units: Vec<f64> = unit.iter().map(|u| u.abs()).collect();
            if units.iter().all(|&u| u == units[0]) {
                units.truncate(1);
            }
            return Ok(Units { units, factors, whole: true });
        }
        if sum.has_identity() || !(multiples || self.near) {
            return Err(Stop::near("outputs with different units", "quantise the last layer by tensor"));
        }
        let common = if multiples { least } else { largest / factor };
        let factors: Vec<i64> = unit.iter().map(|u| (u / common).round() as i64).collect();
        let off = unit.iter().zip(&factors).map(|(u, &f)| (f as f64 * common / u - 1.0).abs()).fold(0.0, f64::max);
        sum.multiply(&factors)?;
        if !multiples {
            let note = format!("outputs have different units: factors approximate them to {:.2} %", 100.0 * off);
            self.builder.report.note(note);
        }
        Ok(Units { units: vec![common], factors, whole: multiples })
    }

    /// What the unit of the outputs z + offset is divided by, so that biases are multiples of it but for [`FINE`] parts of the unit: a
    /// power of two, as large as it has to be, and as weights of 16 bits and accumulators of 40 allow.
    fn finer(&self, sum: &Sum, offsets: &[f64]) -> i64 {
        let most =
            self.magnitudes(sum).into_iter().zip(offsets).map(|(z, offset)| z + offset.abs()).fold(1.0, f64::max);
        let weight = sum.weights().flatten().map(|w| w.unsigned_abs()).max().unwrap_or(1).max(1);
        let rest = |factor: i64| {
            let off = |offset: &f64| (offset * factor as f64 - (offset * factor as f64).round()).abs();
            offsets.iter().map(off).fold(0.0, f64::max) / factor as f64
        };
        let fits = |&factor: &i64| i64::from(weight) * factor < 1 << 15 && most * (factor as f64) < (1u64 << 39) as f64;
        let factors: Vec<i64> = (0..=14).map(|k| 1 << k).filter(fits).collect();
        factors.iter().copied().find(|&factor| rest(factor) <= FINE).or(factors.last().copied()).unwrap_or(1)
    }
}

/// What one unit of sums stands for, of all or of each channel; by what channels were multiplied, and whether that is exact.
struct Units {
    units: Vec<f64>,
    factors: Vec<i64>,
    whole: bool,
}

/// Outputs unit * z + bias, by channel.
struct Lines {
    unit: Vec<f64>,
    bias: Vec<f64>,
}

impl Lines {
    /// What the steps make of z times its unit.
    fn of(unit: &[f64], post: &[Post]) -> Result<Lines, Stop> {
        let (mut unit, mut bias) = (unit.to_vec(), vec![0.0; unit.len()]);
        for post in post {
            for c in 0..unit.len() {
                let (factor, offset) = match post {
                    Post::Add(list) => (1.0, at(list, c).into()),
                    Post::Mul(list) => (f64::from(at(list, c)), 0.0),
                    Post::Div(list) => (1.0 / f64::from(at(list, c)), 0.0),
                    Post::Norm { scale, bias } => (at(scale, c).into(), at(bias, c).into()),
                    Post::From(list) => (-1.0, at(list, c).into()),
                    Post::Function(Function::Neg) => (-1.0, 0.0),
                    Post::Clip(..)
                    | Post::Round(_)
                    | Post::Whole(_)
                    | Post::Function(_)
                    | Post::Slopes(_)
                    | Post::Join { .. }
                    | Post::Reals(_)
                    | Post::Both(_) => {
                        let hint = "end the network with a linear layer, or quantise its output";
                        return Err(Stop::new("a function of the last values, which nothing quantises", hint));
                    }
                };
                (unit[c], bias[c]) = (unit[c] * factor, bias[c] * factor + offset);
            }
        }
        Ok(Lines { unit, bias })
    }
}

/// True if what is put off leaves the elements of a shape, the channels of each place one behind the other.
fn channels_last(later: &[Later], [channels, height, width]: Shape) -> bool {
    let places = height * width;
    let mut order: Vec<Option<usize>> = (0..channels * places).map(Some).collect();
    for later in later {
        let Later::Select { axes, .. } = later else { return false };
        order = selected(axes).into_iter().map(|at| order.get(at?).copied().flatten()).collect();
    }
    let behind = |(n, &at): (usize, &Option<usize>)| at == Some(n % channels * places + n / channels);
    !later.is_empty() && order.len() == channels * places && order.iter().enumerate().all(behind)
}

/// Refuses outputs of which something is put off until they are integers.
fn in_order(real: &Real<'_>) -> Result<(), Stop> {
    let pools = real.later.iter().any(|later| matches!(later, Later::MaxPool(_)));
    if real.layout.pad != [0; 4] || pools {
        return Err(Stop::new("a pool of values that nothing has quantised", "quantise the output"));
    }
    if real.later.iter().any(|later| matches!(later, Later::Select { axes, .. } if !moves::whole(axes))) {
        return Err(Stop::new("outputs in another order, which nothing has quantised", "quantise the output"));
    }
    Ok(())
}

/// Roundings of biases, in units of the outputs: no more is wanted.
const FINE: f64 = 1.0 / 4096.0;
/// No more is accepted unasked.
const COARSE: f64 = 1.0 / 64.0;
/// No more is left untold: floats themselves are off by as much.
const TOLD: f64 = 1e-6;
