//! Where real numbers become integers: the rule from accumulator to value, and what of it could not be proved.

use std::cell::Cell;
use std::rc::Rc;

use super::graph::Node;
use super::quantiser::{Mode, Quantiser, Rule, same};
use super::real::{Near, Post, apply, at, power_of_two, quantised};
use super::tensor::Element;
use super::value::{Ints, Later, Layout, Real, Scale, Source, Stop, Value};
use super::walk::Walk;
use crate::import::builder::Sum;
use crate::network::{Op, Range, TensorId};
use crate::rescale::Steps;

pub(super) const FUSED: &str = "ONNX Runtime: float32 product of accumulator and scale, half to even";
pub(super) const FLOAT: &str = "float32 in the graph's order, half to even";

/// Counts results that float arithmetic does not determine.
#[derive(Default)]
pub(super) struct Doubts(Cell<u64>);

impl Doubts {
    /// The result; a doubt is counted.
    pub fn note(&self, (q, sure): (i64, bool)) -> i64 {
        self.0.set(self.0.get() + u64::from(!sure));
        q
    }
}

impl<'m> Walk<'m> {
    /// A node that quantises: `QuantizeLinear` or one of QONNX.
    pub(super) fn quantiser_node(&mut self, index: usize, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let input = match self.value(node, 0)? {
            Value::Real(real) => Some(Rc::clone(real)),
            Value::Input { .. } => None,
            Value::Ints(_) if node.op() != "QuantizeLinear" => {
                return Err(Stop::new("it quantises integers", "put DequantizeLinear before"));
            }
            _ => Some(self.real(node, 0)?),
        };
        let channels = input.as_ref().map_or(1, |real| real.channels);
        let quantiser = self.quantiser(node, channels)?;
        let Some(real) = input else { return self.quantised_input(node, &quantiser) };
        if node.op() != "QuantizeLinear" {
            self.builder.report.rule(&rule_name(&quantiser.rule));
            return self.quantised_real(node, &real, &quantiser);
        }
        let element = self.element(node, 2)?;
        let mut quantiser = quantiser;
        self.merge_clip(node, &mut quantiser)?;
        let layout = real.layout;
        let zero = quantiser.zero as i64;
        let id = match self.fused(index, node, &real, &quantiser, element)? {
            Some(id) => id,
            None => {
                self.builder.report.rule(FLOAT);
                self.quantise(node, &real, &quantiser)?
            }
        };
        Ok(Value::Ints(Ints { id, zero, element, layout }))
    }

    /// A `Clip` to narrower integers behind a quantiser becomes part of it.
    fn merge_clip(&mut self, node: Node<'m>, quantiser: &mut Quantiser) -> Result<(), Stop> {
        let Some((_, clip)) = self.graph.reader(node.output()).filter(|(_, clip)| clip.op() == "Clip") else {
            return Ok(());
        };
        let (lo, hi) = self.clip_bounds(clip)?;
        let (lo, hi) = (lo.map_or(quantiser.lo, |lo| lo as i64), hi.map_or(quantiser.hi, |hi| hi as i64));
        (quantiser.lo, quantiser.hi) = (quantiser.lo.max(lo), quantiser.hi.min(hi));
        if quantiser.lo >= quantiser.hi {
            return Err(Stop::new("a clip to nothing", "the file is not consistent"));
        }
        self.clips.insert(node.output(), (quantiser.lo, quantiser.hi));
        Ok(())
    }

    /// The quantiser that a node describes.
    fn quantiser(&self, node: Node<'m>, channels: usize) -> Result<Quantiser, Stop> {
        match node.op() {
            "QuantizeLinear" => self.onnx_quantiser(node, 1, 2),
            "MultiThreshold" => self.thresholds(node, channels),
            "Trunc" => self.trunc(node),
            op => {
                let bipolar = op == "BipolarQuant";
                let bits = if bipolar { 1.0 } else { self.scalar(node, 3)? };
                let zero = if bipolar { 0.0 } else { f64::from(self.scalar(node, 2)?) };
                let (rule, lo, hi) = super::constants::quant_rule(node, bits)?;
                Quantiser { rule, scale: self.scalar(node, 1)?, zero, lo, hi }.checked()
            }
        }
    }

    fn thresholds(&self, node: Node<'m>, channels: usize) -> Result<Quantiser, Stop> {
        let constant = self.constant(node, 1)?;
        let &[rows, count] = &constant.shape[..] else {
            return Err(Stop::new("thresholds that are no matrix", "give one row for each channel, or one"));
        };
        if (rows != 1 && rows != channels) || count == 0 || count > 255 {
            let reason = format!("{rows} rows of {count} thresholds for {channels} channels");
            return Err(Stop::new(reason, "give one row for each channel, or one, of at most 255 thresholds"));
        }
        let layout = node.text("data_layout", "");
        if !matches!(layout.as_str(), "" | "nchw" | "nc") {
            return Err(Stop::new(format!("the layout {layout:?}"), "channels come first"));
        }
        let values = constant.to_floats();
        let thresholds = values.chunks(count).map(<[f32]>::to_vec).collect();
        let (scale, bias) = (node.float("out_scale", 1.0), node.float("out_bias", 0.0));
        let zero = -f64::from(bias) / f64::from(scale);
        Quantiser { rule: Rule::Thresholds(thresholds), scale, zero, lo: 0, hi: count as i64 }.checked()
    }

    fn trunc(&self, node: Node<'m>) -> Result<Quantiser, Stop> {
        let (scale, zero) = (self.scalar(node, 1)?, self.scalar(node, 2)?);
        let mode = Mode::of(&node.text("rounding_mode", "FLOOR"))?;
        let bits_in = self.scalar(node, 3)?;
        if node.input(5).is_none() {
            let step = (bits_in - self.scalar(node, 4)?).exp2();
            // The first version of the operator does not clamp.
            let (lo, hi) = (-(1 << 20), 1 << 20);
            let rule = Rule::Trunc { scale, zero, step, mode };
            return Quantiser { rule, scale, zero: zero.into(), lo, hi }.checked();
        }
        let (out_scale, bits) = (self.scalar(node, 4)?, self.scalar(node, 5)?);
        let step = (f64::from(out_scale / scale).log2() as f32).round_ties_even().exp2();
        let (_, lo, hi) = super::constants::quant_rule(node, bits)?;
        let rule = Rule::Trunc { scale, zero, step, mode };
        Quantiser { rule, scale: out_scale, zero: f64::from(zero / step), lo, hi }.checked()
    }

    /// The graph's input, quantised: the network's input.
    fn quantised_input(&mut self, node: Node<'m>, quantiser: &Quantiser) -> Result<Value<'m>, Stop> {
        if !same(quantiser, &self.input.quantiser) {
            return Err(Stop::new("the input is quantised in two ways", "quantise it once"));
        }
        let &Value::Input { flat } = self.value(node, 0)? else { unreachable!("the caller has looked") };
        let mut layout = self.input.layout;
        let mut id = 0;
        if flat {
            (id, layout) = (self.builder.flatten(node.name(), id)?, Layout::of_rank(2));
        }
        if node.op() == "QuantizeLinear" {
            let mut clipped = quantiser.clone();
            self.merge_clip(node, &mut clipped)?;
            let zero = quantiser.zero as i64;
            if (clipped.lo, clipped.hi) != (quantiser.lo, quantiser.hi) {
                let (lo, hi) = (clipped.lo - zero, clipped.hi - zero);
                id = self.builder.apply(node.name(), id, |x| x.clamp(lo, hi))?;
            }
            return Ok(Value::Ints(Ints { id, zero, element: self.element(node, 2)?, layout }));
        }
        let (factor, offset, unit) = quantiser.means()?;
        if factor != 1 {
            // A bipolar input is stored as 0 or 1.
            id = self.builder.apply(node.name(), id, |y| factor * y - offset)?;
        }
        let scale = Scale { id, unit, exact: true, quantised: None };
        let channels = self.builder.tensor(id).shape[0];
        Ok(Value::Real(Rc::new(Real::tensor(scale, channels, layout))))
    }

    fn quantised_real(&mut self, node: Node<'m>, real: &Real<'m>, quantiser: &Quantiser) -> Result<Value<'m>, Stop> {
        let (_, _, unit) = quantiser.means()?;
        let exact = !matches!(quantiser.rule, Rule::Thresholds(_)) || power_of_two(unit);
        let id = self.quantise(node, real, quantiser)?;
        let channels = self.builder.tensor(id).shape[0];
        let layout = Layout { pad: [0; 4], ..real.layout };
        Ok(Value::Real(Rc::new(Real::tensor(Scale { id, unit, exact, quantised: None }, channels, layout))))
    }

    /// ONNX Runtime's integer operation for a linear node, an activation that the quantiser implies, and the quantiser.
    fn fused(
        &mut self,
        index: usize,
        node: Node<'m>,
        real: &Real<'m>,
        quantiser: &Quantiser,
        element: Element,
    ) -> Result<Option<TensorId>, Stop> {
        let (Some(fused), Source::Sum { sum, .. }) = (&real.fused, &real.source) else {
            return self.fused_other(node, real, quantiser, element);
        };
        let (x, w) = fused.elements;
        let byte = |element: Element| matches!(element, Element::Int { bits: 8, .. });
        let implied = match &real.post[..] {
            [] => true,
            [Post::Clip(lo, hi)] => clip_is_implied(*lo, *hi, quantiser, element),
            _ => false,
        };
        if !(byte(x) && byte(w) && byte(element) && implied && self.leads_to(fused.output, index)) {
            return Ok(None);
        }
        // On x86 only unsigned activations are merged, and signed ones that become unsigned.
        let unsigned = |element: Element| element == Element::UINT8;
        let result = if self.becomes_unsigned(node.output(), element) { Element::UINT8 } else { element };
        let merged = unsigned(x) && unsigned(result);
        if !merged && (element == Element::UINT8 || w != Element::INT8) {
            return Ok(None);
        }
        let sum = sum.clone();
        let scale: Vec<f32> = fused.weights.iter().map(|w| fused.input * w / quantiser.scale).collect();
        if !merged {
            self.note_floats(node, real, quantiser, &sum, &scale);
        }
        let id = self.requantise_ints(node, sum, &scale, quantiser)?;
        self.later(node, real, id).map(Some)
    }

    /// True if only node `index` reads the tensor, perhaps through operations that the runtime moves behind the quantiser.
    fn leads_to(&self, tensor: &'m str, index: usize) -> bool {
        let mut name = tensor;
        while let Some((reader, node)) = self.graph.reader(name) {
            if reader == index {
                return true;
            }
            if !matches!(node.op(), "Relu" | "Clip" | "MaxPool" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze") {
                return false;
            }
            name = node.output();
        }
        false
    }

    /// Says so if floats, which the runtime may use for signed bytes on x86, could give another result than integers.
    fn note_floats(&mut self, node: Node<'m>, real: &Real<'m>, quantiser: &Quantiser, sum: &Sum, scale: &[f32]) {
        let Source::Sum { unit, float, .. } = &real.source else { return };
        let bounds = self.builder.bounds(sum);
        let differs = |channel: usize, z: i64| {
            let error = float.error[channel];
            let exact = z as f64 * unit[channel];
            let near = apply(&real.post, channel, Near { error, ..Near::rounded(exact) });
            quantised(quantiser, channel, near) != (integer_rule(quantiser, at(scale, channel), z), true)
        };
        let any = bounds.iter().enumerate().any(|(channel, &range)| {
            let rule = |z| integer_rule(quantiser, at(scale, channel), z) - quantiser.lo;
            let steps = Steps::of(range, rule).map(|steps| steps.thresholds).unwrap_or_default();
            steps.iter().any(|&z| differs(channel, z) || differs(channel, z - 1))
        });
        if any {
            let note = "signed bytes are computed with as ONNX Runtime does it on ARM, in integers; where it keeps floats, as on x86 \
                        behind some quantisers, results may differ by one";
            self.builder.report.note(format!("{} \"{}\": {note}", node.op(), node.name()));
        }
    }

    /// clamp(half_to_even(float(z) * scale) + zero), ONNX Runtime's rule for integers.
    pub(super) fn requantise_ints(
        &mut self,
        node: Node<'m>,
        sum: Sum,
        scale: &[f32],
        quantiser: &Quantiser,
    ) -> Result<TensorId, Stop> {
        if let Some(channel) = self.builder.bounds(&sum).iter().position(|range| range.signed_bits() > 32) {
            let reason = format!("the accumulator of channel {channel} can leave 32 bits");
            return Err(Stop::new(reason, "the runtime would overflow: use fewer bits"));
        }
        self.builder.report.rule(FUSED);
        let (lo, zero) = (quantiser.lo, quantiser.zero as i64);
        let rule = |channel: usize, z: i64| integer_rule(quantiser, at(scale, channel), z) - lo;
        Ok(self.builder.requantise(node.name(), sum, zero - lo, rule)?)
    }

    /// Real numbers, quantised: a tensor of the network whose values are x = factor * q - offset.
    pub(super) fn quantise(
        &mut self,
        node: Node<'m>,
        real: &Real<'m>,
        quantiser: &Quantiser,
    ) -> Result<TensorId, Stop> {
        let doubts = Doubts::default();
        let name = node.name();
        let steps = &real.post;
        let rule = |channel: usize, near: Near| doubts.note(quantised(quantiser, channel, apply(steps, channel, near)));
        let id = match &real.source {
            Source::Tensor(scale) => {
                let near = |x: i64| scale.near(x);
                let by_channel = steps.iter().any(Post::differs) || quantiser.differs();
                if by_channel || self.builder.tensor(scale.id).range.count() > 256 {
                    let sum = Sum::identity(scale.id, real.channels);
                    self.requantise_sum(name, sum, quantiser, |channel, x| rule(channel, near(x)))?
                } else {
                    let (factor, offset, _) = quantiser.means()?;
                    self.builder.apply(name, scale.id, |x| factor * rule(0, near(x)) - offset)?
                }
            }
            Source::Sum { sum, unit, float } => {
                let near = |channel: usize, z: i64| {
                    let error = float.error[channel];
                    Near { error, ..Near::rounded(z as f64 * unit[channel]) }
                };
                self.requantise_sum(name, sum.clone(), quantiser, |channel, z| rule(channel, near(channel, z)))?
            }
            Source::Average { input, window, .. } => {
                let average = self.average_value(*input, window);
                if steps.iter().any(Post::differs) || quantiser.differs() {
                    return Err(Stop::new("factors for each channel behind an average", "quantise the average first"));
                }
                let (factor, offset, _) = quantiser.means()?;
                if factor == 1 {
                    self.builder.average(name, input.id, *window, offset, |sum| rule(0, average(sum)))?
                } else {
                    let id = self.builder.average(name, input.id, *window, 0, |sum| rule(0, average(sum)))?;
                    self.builder.apply(name, id, |q| factor * q - offset)?
                }
            }
            Source::Pair(a, b) => self.pair(node, *a, *b, quantiser, &doubts, |xa, xb| {
                let (a, b) = (a.near(xa), b.near(xb));
                let sum = Near { v: a.v + b.v, error: a.error + b.error };
                quantised(quantiser, 0, apply(steps, 0, sum))
            })?,
            Source::Concat(parts) => {
                let parts = parts.clone();
                let mut ids = Vec::new();
                for part in parts {
                    let mut part = (*part).clone();
                    part.post.extend(steps.iter().cloned());
                    if steps.iter().any(Post::differs) || quantiser.differs() {
                        return Err(Stop::new("factors for each channel behind a concatenation", "quantise it first"));
                    }
                    ids.push(self.quantise(node, &part, quantiser)?);
                }
                self.builder.node(name, Op::Concat { inputs: ids }, None)?
            }
        };
        self.settle(&doubts, "float32 sums decide results: an accumulator lies nearer to a boundary than their error")?;
        self.later(node, real, id)
    }

    /// Refuses doubts unless results may be approximate.
    pub(super) fn settle(&mut self, doubts: &Doubts, reason: &'static str) -> Result<(), Stop> {
        if doubts.0.get() == 0 {
            return Ok(());
        }
        if !self.options.approximate {
            let hint =
                "use scales that are powers of two, or accept results that may differ by one there (approximate)";
            return Err(Stop::new(reason, hint));
        }
        self.builder
            .report
            .note(format!("@: {reason}; exact arithmetic takes the place of float32, and results may differ by one"));
        Ok(())
    }

    /// What was put off until the values are integers.
    pub(super) fn later(&mut self, node: Node<'m>, real: &Real<'m>, mut id: TensorId) -> Result<TensorId, Stop> {
        for later in &real.later {
            id = match later {
                Later::MaxPool(window) => {
                    let op = Op::MaxPool { input: id, window: *window };
                    self.builder.node(&format!("{}/pool", node.name()), op, None)?
                }
                Later::Flatten => self.builder.flatten(&format!("{}/flatten", node.name()), id)?,
            };
        }
        Ok(id)
    }

    /// A requantisation by any monotone rule whose values q mean x = factor * q - offset.
    pub(super) fn requantise_sum(
        &mut self,
        name: &str,
        sum: Sum,
        quantiser: &Quantiser,
        rule: impl Fn(usize, i64) -> i64,
    ) -> Result<TensorId, Stop> {
        let (factor, offset, _) = quantiser.means()?;
        let bounds = self.builder.bounds(&sum);
        let ends = bounds.iter().enumerate().flat_map(|(c, &Range { lo, hi })| [rule(c, lo), rule(c, hi)]);
        let least = ends.min().expect("at least one channel");
        if factor == 1 && offset >= least && offset - least <= 255 {
            return Ok(self.builder.requantise(name, sum, offset - least, |c, z| rule(c, z) - least)?);
        }
        let id = self.builder.requantise(name, sum, 0, |c, z| rule(c, z) - least)?;
        Ok(self.builder.apply(&format!("{name}/values"), id, |y| factor * (y + least) - offset)?)
    }
}

/// clamp(half_to_even(float(z) * scale) + zero).
fn integer_rule(quantiser: &Quantiser, scale: f32, z: i64) -> i64 {
    let v = (z as f32 * scale).round_ties_even() as i64;
    v.saturating_add(quantiser.zero as i64).clamp(quantiser.lo, quantiser.hi)
}

/// True if what a quantiser's type can hold lies within the clip: the clip changes nothing.
pub(super) fn clip_is_implied(lo: f32, hi: f32, quantiser: &Quantiser, element: Element) -> bool {
    let end = |q: i64| (q - quantiser.zero as i64) as f32 * quantiser.scale;
    element.small().is_some_and(|(least, most)| end(least) >= lo && end(most) <= hi)
}

fn rule_name(rule: &Rule) -> String {
    match rule {
        Rule::Onnx => FLOAT.to_owned(),
        Rule::Qonnx(mode) => format!("QONNX Quant: {}", mode.name()),
        Rule::Bipolar => "QONNX BipolarQuant: sign".to_owned(),
        Rule::Thresholds(_) => "QONNX MultiThreshold".to_owned(),
        Rule::Trunc { mode, .. } => format!("QONNX Trunc: {}", mode.name()),
    }
}

impl Scale {
    /// The real value of x, as the runtime has it.
    pub fn near(&self, x: i64) -> Near {
        let v = x as f32 * self.unit;
        let error = if self.exact { 0.0 } else { f64::from(v).abs() * 4.0 / f64::from(1 << 24) };
        Near { v, error }
    }
}

impl Quantiser {
    /// True if the rule is not the same for all channels.
    pub fn differs(&self) -> bool {
        matches!(&self.rule, Rule::Thresholds(rows) if rows.len() > 1)
    }
}

impl Post {
    /// True if the step is not the same for all channels.
    pub fn differs(&self) -> bool {
        match self {
            Post::Add(list) | Post::From(list) | Post::Mul(list) | Post::Div(list) => list.len() > 1,
            Post::Norm { scale, bias } => scale.len() > 1 || bias.len() > 1,
            Post::Clip(..) | Post::Function(_) => false,
        }
    }
}
