//! Nodes that quantise: what they declare, and what they make of real numbers or of the graph's input.

use std::rc::Rc;

use super::ahead::MOVES;
use super::constants::quant_rule;
use super::graph::Node;
use super::quantiser::{Mode, Quantiser, Rule, same};
use super::real::{HALF_ULP, power_of_two};
use super::requantise::FLOAT;
use super::stop::Stop;
use super::value::{Ints, Layout, Real, Scale, Value};
use super::walk::Walk;

impl<'m> Walk<'m> {
    /// True if a node quantises what was moved before.
    pub(super) fn is_ahead(&self, node: Node<'m>) -> bool {
        node.input(0).is_some_and(|name| self.input.ahead.tensors.contains(name))
    }

    /// Quantises what a node moves of the graph's input, where that is quantised behind it.
    pub(super) fn quantised_ahead(&mut self, node: Node<'m>) -> Result<(), Stop> {
        let Some(&quantiser) = self.input.ahead.quantisers.first() else { return Ok(()) };
        if !MOVES.contains(&node.op()) {
            return Ok(());
        }
        for name in &node.proto.input {
            if let Some(&Value::Input { flat }) = self.values.get(name.as_str())
                && self.input.ahead.tensors.contains(name.as_str())
            {
                let rule = self.quantiser(quantiser, 1)?;
                let value = self.quantised_input(quantiser, &rule, flat)?;
                self.values.insert(name, value);
            }
        }
        Ok(())
    }

    /// A node that quantises: `QuantizeLinear` or one of QONNX.
    pub(super) fn quantiser_node(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let input = match self.value(node, 0)? {
            value @ (Value::Real(_) | Value::Ints(_)) if self.is_ahead(node) => {
                let value = value.clone();
                let rule = self.quantiser(node, 1)?;
                return if same(&rule, &self.input.quantiser) { Ok(value) } else { Err(two_ways()) };
            }
            Value::Real(real) => Some(Rc::clone(real)),
            Value::Input { .. } => None,
            Value::Ints(_) if node.op() != "QuantizeLinear" => {
                return Err(Stop::new("it quantises integers", "put DequantizeLinear before"));
            }
            _ => Some(self.real(node, 0)?),
        };
        let channels = input.as_ref().map_or(1, |real| real.channels);
        let quantiser = self.quantiser(node, channels)?;
        let Some(real) = input else {
            let &Value::Input { flat } = self.value(node, 0)? else { unreachable!("looked at above") };
            return self.quantised_input(node, &quantiser, flat);
        };
        if node.op() != "QuantizeLinear" {
            self.builder.report.rule(&rule_name(&quantiser.rule));
            return self.quantised_real(node, &real, &quantiser);
        }
        let element = self.element(node, 2)?;
        let mut quantiser = quantiser;
        self.merge_clip(node, &mut quantiser)?;
        let layout = real.layout;
        let zero = quantiser.zero as i64;
        let id = match self.fused(node, &real, &quantiser, element)? {
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
    pub(super) fn quantiser(&self, node: Node<'m>, channels: usize) -> Result<Quantiser, Stop> {
        match node.op() {
            "QuantizeLinear" => self.onnx_quantiser(node, 1, 2),
            "MultiThreshold" => self.thresholds(node, channels),
            "Trunc" => self.trunc(node),
            op => {
                let bipolar = op == "BipolarQuant";
                let bits = if bipolar { 1.0 } else { self.scalar(node, 3)? };
                let zero = if bipolar { 0.0 } else { f64::from(self.scalar(node, 2)?) };
                let (rule, lo, hi) = quant_rule(node, bits)?;
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
        let (_, lo, hi) = quant_rule(node, bits)?;
        let rule = Rule::Trunc { scale, zero, step, mode };
        Quantiser { rule, scale: out_scale, zero: f64::from(zero / step), lo, hi }.checked()
    }

    /// The graph's input, quantised: the network's input.
    pub(super) fn quantised_input(
        &mut self,
        node: Node<'m>,
        quantiser: &Quantiser,
        flat: bool,
    ) -> Result<Value<'m>, Stop> {
        let mut clipped = quantiser.clone();
        if node.op() == "QuantizeLinear" {
            self.merge_clip(node, &mut clipped)?;
        }
        let input = self.input.quantiser.clone();
        if !same(quantiser, &input) && !same(&clipped, &input) {
            return Err(two_ways());
        }
        let mut layout = self.input.layout;
        let mut id = 0;
        if flat {
            (id, layout) = (self.builder.flatten(node.name(), id)?, Layout::of_rank(2));
        }
        if node.op() == "QuantizeLinear" {
            let zero = quantiser.zero as i64;
            if (clipped.lo, clipped.hi) != (input.lo, input.hi) {
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
        let scale = Scale { id, unit, error: 0.0, quantised: None };
        let channels = self.builder.tensor(id).shape[0];
        Ok(Value::Real(Rc::new(Real::tensor(scale, channels, layout))))
    }

    fn quantised_real(&mut self, node: Node<'m>, real: &Real<'m>, quantiser: &Quantiser) -> Result<Value<'m>, Stop> {
        let (_, _, unit) = quantiser.means()?;
        let id = self.quantise(node, real, quantiser)?;
        let exact = !matches!(quantiser.rule, Rule::Thresholds(_)) || power_of_two(unit);
        let error = if exact { 0.0 } else { 4.0 * HALF_ULP * self.largest(id, unit) };
        let channels = self.builder.tensor(id).shape[0];
        let layout = Layout { pad: [0; 4], ..real.layout };
        Ok(Value::Real(Rc::new(Real::tensor(Scale { id, unit, error, quantised: None }, channels, layout))))
    }
}

fn two_ways() -> Stop {
    Stop::new("the input is quantised in two ways", "quantise it once, before it is cut")
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
