//! Where real numbers become integers: the rule from accumulator to value, and what of it could not be proved.

use std::rc::Rc;

use super::doubts::{Doubts, MEANS};
use super::graph::Node;
use super::pairs::PairRule;
use super::quantiser::{Mode, Quantiser, Rule, same};
use super::real::{HALF_ULP, Near, Post, apply, power_of_two, quantised};
use super::value::{Ints, Later, Layout, Mean, Real, Scale, Source, Stop, Value};
use super::walk::Walk;
use super::whole::{Whole, whole};
use crate::import::builder::{Obstacle, Sum};
use crate::network::{Op, Range, TensorId, Window};
use crate::rescale::Steps;

pub(super) const FLOAT: &str = "float32 in the graph's order, half to even";

impl<'m> Walk<'m> {
    /// A node that quantises: `QuantizeLinear` or one of QONNX.
    pub(super) fn quantiser_node(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
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
        let mut clipped = quantiser.clone();
        if node.op() == "QuantizeLinear" {
            self.merge_clip(node, &mut clipped)?;
        }
        let input = self.input.quantiser.clone();
        if !same(quantiser, &input) && !same(&clipped, &input) {
            return Err(Stop::new("the input is quantised in two ways", "quantise it once"));
        }
        let &Value::Input { flat } = self.value(node, 0)? else { unreachable!("the caller has looked") };
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

    /// Real numbers, quantised: a tensor of the network whose values are x = factor * q - offset.
    pub(super) fn quantise(
        &mut self,
        node: Node<'m>,
        real: &Real<'m>,
        quantiser: &Quantiser,
    ) -> Result<TensorId, Stop> {
        let (doubts, mut measured) = (Doubts::default(), None);
        let name = node.name();
        let steps = &real.post;
        let rule = |channel: usize, near: Near| doubts.note(quantised(quantiser, channel, apply(steps, channel, near)));
        let id = match &real.source {
            Source::Tensor(scale) => {
                let near = |x: i64| scale.near(x);
                let by_channel = steps.iter().any(Post::differs) || quantiser.differs();
                let wide = self.builder.tensor(scale.id).range.count() > 256;
                let table = wide && !by_channel && !steps.iter().all(Post::rises);
                let narrow = if table { self.narrowed(node, scale)? } else { None };
                if let Some(id) = narrow {
                    // A table needs a tensor of 8 bits.
                    let (factor, offset, _) = quantiser.means()?;
                    self.builder.apply(name, id, |x| factor * rule(0, near(x)) - offset)?
                } else if by_channel || wide {
                    let sum = Sum::identity(scale.id, real.channels);
                    self.requantise_sum(name, sum, quantiser, |channel, x| rule(channel, near(x)))?
                } else {
                    let (factor, offset, _) = quantiser.means()?;
                    let value = |x: i64| factor * rule(0, near(x)) - offset;
                    let Range { lo, hi } = self.builder.tensor(scale.id).range;
                    let id = self.builder.apply(name, scale.id, value)?;
                    self.follows(id, scale.id, (lo..=hi).map(value).collect());
                    id
                }
            }
            Source::Sum { sum, unit, float } => {
                let near = |channel: usize, z: i64| {
                    let error = float.error[channel];
                    Near { error, ..Near::rounded(z as f64 * unit[channel]) }
                };
                // Steps on integers come first; the accumulator is one.
                let (first, rest) = match &steps[..] {
                    [Post::Whole(first), rest @ ..] if unit.iter().all(|&u| u == 1.0) => (&first[..], rest),
                    all => (&[][..], all),
                };
                let values = |channel, z| {
                    let after = whole(first, channel, z);
                    let near = near(channel, after.unwrap_or(z));
                    let near = if after.is_none() { Near { error: f64::INFINITY, ..near } } else { near };
                    doubts.note(quantised(quantiser, channel, apply(rest, channel, near)))
                };
                let id = self.requantise_sum(name, (**sum).clone(), quantiser, values)?;
                if doubts.any() && first.is_empty() {
                    self.weigh(id, (sum, unit), steps, quantiser, &doubts);
                    measured = self.measured(sum, real.fused.as_ref(), near, steps, quantiser);
                }
                id
            }
            Source::Average { input, window, .. } => {
                let average = self.average_value(*input, window);
                let plain = self.average_rule(*input, window, quantiser.clone(), &doubts);
                let rule = |sum: i64| if steps.is_empty() { plain(sum) } else { rule(0, average(sum)) };
                let (factor, offset, _) = quantiser.means()?;
                if steps.iter().any(Post::differs) || quantiser.differs() {
                    let op = Op::SumPool { input: input.id, window: *window };
                    let sum = self.builder.node(&format!("{name}/sum"), op, None)?;
                    self.requantise_sum(name, Sum::identity(sum, real.channels), quantiser, |channel, sum| {
                        doubts.note(quantised(quantiser, channel, apply(steps, channel, average(sum))))
                    })?
                } else if factor == 1 {
                    self.builder.average(name, input.id, *window, offset, rule)?
                } else {
                    let id = self.builder.average(name, input.id, *window, 0, rule)?;
                    self.builder.apply(name, id, |q| factor * q - offset)?
                }
            }
            Source::Pair(a, b) => {
                let value = |channel: usize, xa: i64, xb: i64| {
                    let (a, b) = (a.near(xa), b.near(xb));
                    let sum = Near { v: a.v + b.v, error: a.error + b.error };
                    quantised(quantiser, channel, apply(steps, channel, sum))
                };
                let by_channel = steps.iter().any(Post::differs) || quantiser.differs();
                let summands: [&dyn Fn(i64) -> f64; 2] = [&|x| a.near(x).v.into(), &|x| b.near(x).v.into()];
                let channels = if by_channel { real.channels } else { 1 };
                self.pair(
                    node,
                    *a,
                    *b,
                    quantiser,
                    &doubts,
                    &PairRule { value: &value, channels, summands, step: quantiser.scale.into() },
                )?
            }
            Source::Pieces { parts, shape, places } => self.pieces(node, (parts, *shape, places), |walk, part| {
                let post = steps.clone();
                walk.quantise(node, &Real { post, ..part.clone() }, quantiser)
            })?,
            Source::Concat(parts) => {
                let parts = parts.clone();
                let (mut ids, mut first) = (Vec::new(), 0);
                for part in parts {
                    let mut part = (*part).clone();
                    let channels = first..first + part.channels;
                    first = channels.end;
                    let own: Vec<Post> = steps.iter().map(|step| step.of_channels(&channels)).collect();
                    let after = part.later.iter().any(|_| own.iter().any(|step| step.differs() || !step.rises()));
                    if after || (!part.later.is_empty() && quantiser.differs()) {
                        return Err(behind_later());
                    }
                    part.post.extend(own);
                    ids.push(self.quantise(node, &part, &quantiser.of_channels(&channels))?);
                }
                self.builder.node(name, Op::Concat { inputs: ids }, None)?
            }
        };
        if doubts.any() {
            self.measure(real, quantiser, &doubts);
        }
        match (&real.source, &steps[..]) {
            (Source::Average { mean: Mean::Reduced, .. }, _) => self.settle(node, &doubts, MEANS, None)?,
            (Source::Average { window, .. }, []) => {
                self.settle_average(node, &doubts, window.kernel[0] * window.kernel[1])?
            }
            _ => self.settle(node, &doubts, self.floats_decide(node, real), measured)?,
        }
        self.later(node, real, id)
    }

    /// Measures doubts over all that is reachable.
    fn measure(&self, real: &Real<'m>, quantiser: &Quantiser, doubts: &Doubts) {
        let ends = |channel: usize, near: Near| quantiser.between(channel, apply(&real.post, channel, near));
        match &real.source {
            Source::Tensor(scale) => {
                let by_channel = real.post.iter().any(Post::differs) || quantiser.differs();
                let channels = if by_channel { real.channels } else { 1 };
                let range = self.builder.tensor(scale.id).range;
                doubts.average(vec![range; channels], |channel, x| ends(channel, scale.near(x)));
            }
            Source::Sum { sum, unit, float } => doubts.average(self.builder.bounds(sum), |channel, z| {
                ends(channel, Near { error: float.error[channel], ..Near::rounded(z as f64 * unit[channel]) })
            }),
            Source::Average { input, window, .. } => {
                let average = self.average_value(*input, window);
                doubts.average([self.sums(*input, window)], |channel, sum| ends(channel, average(sum)));
            }
            Source::Pair(..) | Source::Concat(_) | Source::Pieces { .. } => {}
        }
    }

    /// The sums that windows of a tensor can have.
    pub(super) fn sums(&self, input: Scale, window: &Window) -> Range {
        let count = (window.kernel[0] * window.kernel[1]) as i64;
        let range = self.builder.tensor(input.id).range;
        let range = if window.padding == [0; 4] { range } else { range.with_zero() };
        Range { lo: range.lo.saturating_mul(count), hi: range.hi.saturating_mul(count) }
    }

    /// A tensor whose declared range is wider than the type of its values, clipped to that; `None` if nothing says the type.
    fn narrowed(&mut self, node: Node<'m>, scale: &Scale) -> Result<Option<TensorId>, Stop> {
        let Some((zero, (lo, hi))) = scale.quantised.and_then(|(zero, element)| Some((zero, element.small()?))) else {
            return Ok(None);
        };
        let sum = Sum::identity(scale.id, self.builder.tensor(scale.id).shape[0]);
        let name = format!("{}/clip", node.name());
        Ok(Some(self.builder.requantise(&name, sum, zero - lo, |_, x| (x + zero).clamp(lo, hi) - lo)?))
    }

    /// What was put off until the values are integers.
    pub(super) fn later(&mut self, node: Node<'m>, real: &Real<'m>, mut id: TensorId) -> Result<TensorId, Stop> {
        for later in &real.later {
            id = match later {
                Later::MaxPool(window) => {
                    let op = Op::MaxPool { input: id, window: *window };
                    self.builder.node(&format!("{}/pool", node.name()), op, None)?
                }
                Later::Select { shape, axes } => {
                    self.builder.select(&format!("{}/select", node.name()), id, *shape, axes.to_vec())?
                }
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
        let ends = || bounds.iter().enumerate().flat_map(|(c, &Range { lo, hi })| [rule(c, lo), rule(c, hi)]);
        let (least, most) = (ends().min().expect("at least one channel"), ends().max().expect("at least one channel"));
        if most - least > 255 {
            return Err(Obstacle::TooWide { lo: least, hi: most }.into());
        }
        if factor == 1 && offset >= least && offset - least <= 255 {
            return Ok(self.builder.requantise(name, sum, offset - least, |c, z| rule(c, z) - least)?);
        }
        let id = self.builder.requantise(name, sum, 0, |c, z| rule(c, z) - least)?;
        Ok(self.builder.apply(&format!("{name}/values"), id, |y| factor * (y + least) - offset)?)
    }

    /// The same by the steps of each channel's sum times its sign; these count from `least`.
    pub(super) fn requantise_by(
        &mut self,
        name: &str,
        sum: Sum,
        quantiser: &Quantiser,
        least: i64,
        signs: &[i64],
        steps: Vec<Steps>,
    ) -> Result<TensorId, Stop> {
        let (factor, offset, _) = quantiser.means()?;
        if factor == 1 && offset >= least && offset - least <= 255 {
            return Ok(self.builder.requantise_signed(name, sum, offset - least, signs, steps)?);
        }
        let id = self.builder.requantise_signed(name, sum, 0, signs, steps)?;
        Ok(self.builder.apply(&format!("{name}/values"), id, |y| factor * (y + least) - offset)?)
    }
}

/// Why steps that do not rise alike on all channels can't follow what is put off.
pub(super) fn behind_later() -> Stop {
    let hint = "quantise the values before the pool or the reshape";
    Stop::new("it follows a pool or a reshape of values that nothing has quantised", hint)
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
        Near { v: x as f32 * self.unit, error: self.error }
    }
}

impl Quantiser {
    /// Its rule for some channels.
    fn of_channels(&self, channels: &std::ops::Range<usize>) -> Quantiser {
        match &self.rule {
            Rule::Thresholds(rows) if rows.len() > 1 => {
                Quantiser { rule: Rule::Thresholds(rows[channels.clone()].to_vec()), ..self.clone() }
            }
            _ => self.clone(),
        }
    }

    /// True if the rule is not the same for all channels.
    pub fn differs(&self) -> bool {
        matches!(&self.rule, Rule::Thresholds(rows) if rows.len() > 1)
    }
}

impl Post {
    /// The number that the step multiplies everything by, if it does nothing else.
    pub fn factor(&self) -> Option<f64> {
        match self {
            Post::Mul(list) if list.len() == 1 => Some(list[0].into()),
            Post::Div(list) if list.len() == 1 => Some(1.0 / f64::from(list[0])),
            _ => None,
        }
    }

    /// Its numbers for some channels.
    fn of_channels(&self, channels: &std::ops::Range<usize>) -> Post {
        let of = |list: &[f32]| if list.len() == 1 { list.to_vec() } else { list[channels.clone()].to_vec() };
        match self {
            Post::Add(list) => Post::Add(of(list)),
            Post::Slopes(list) => Post::Slopes(of(list)),
            Post::From(list) => Post::From(of(list)),
            Post::Mul(list) => Post::Mul(of(list)),
            Post::Div(list) => Post::Div(of(list)),
            Post::Norm { scale, bias } => Post::Norm { scale: of(scale), bias: of(bias) },
            Post::Join { by, left, right } => {
                let of = |list: &[Post]| list.iter().map(|step| step.of_channels(channels)).collect();
                Post::Join { by: *by, left: of(left), right: of(right) }
            }
            Post::Whole(steps) => Post::Whole(steps.iter().map(|step| step.of_channels(channels)).collect()),
            Post::Both(both) => Post::Both(Rc::new(both.of_channels(channels))),
            Post::Clip(..) | Post::Round(_) | Post::Function(_) | Post::Reals(_) => self.clone(),
        }
    }

    /// True if the step is not the same for all channels.
    pub fn differs(&self) -> bool {
        match self {
            Post::Add(list) | Post::From(list) | Post::Mul(list) | Post::Div(list) | Post::Slopes(list) => {
                list.len() > 1
            }
            Post::Norm { scale, bias } => scale.len() > 1 || bias.len() > 1,
            Post::Join { left, right, .. } => left.iter().chain(right).any(Post::differs),
            Post::Whole(steps) => steps.iter().any(Whole::differs),
            Post::Both(both) => both.differs(),
            Post::Clip(..) | Post::Round(_) | Post::Function(_) | Post::Reals(_) => false,
        }
    }
}
