//! Reshapes, padding, concatenations; and real values that have to be a tensor of the network.

use std::rc::Rc;

use super::constants::{axis, target};
use super::graph::Node;
use super::real::{HALF_ULP, Post, odd_factor};
use super::tensor::{Constant, Element};
use super::value::{Ints, Later, Layout, Real, Scale, Source, Stop, Value};
use super::walk::{Walk, dims};
use crate::network::{Op, TensorId};

impl<'m> Walk<'m> {
    /// Real values as a tensor of the network times a unit.
    pub(super) fn plain(&mut self, real: &Real<'m>, node: Node<'m>) -> Result<Scale, Stop> {
        if let Some(scale) = self.tensor(real) {
            return Ok(scale);
        }
        let name = node.name();
        match (&real.source, &real.post[..], &real.later[..]) {
            // max(unit x, 0) = unit max(x, 0)
            (Source::Tensor(scale), [Post::Clip(0.0, hi)], []) if *hi == f32::MAX => {
                let id = self.builder.apply(&format!("{name}/relu"), scale.id, |x| x.max(0))?;
                Ok(Scale { id, ..*scale })
            }
            (Source::Average { input, window, .. }, factors, later)
                if factors.iter().all(|step| step.factor().is_some()) =>
            {
                let count = (window.kernel[0] * window.kernel[1]) as f32;
                let op = Op::SumPool { input: input.id, window: *window };
                let mut id = self.builder.node(&format!("{name}/sum"), op, None)?;
                for later in later {
                    let Later::Flatten = later else {
                        return Err(Stop::new("a max pool of averages", "quantise the averages"));
                    };
                    id = self.builder.flatten(&format!("{name}/flatten"), id)?;
                }
                let most = self.average_value(*input, window)(0).error;
                let unit = input.unit / count;
                // The unit is rounded once.
                let error = if most == 0.0 { 0.0 } else { most + HALF_ULP * self.largest(id, unit) };
                let scale = Scale { id, unit, error, quantised: None };
                self.multiplied(scale, factors).ok_or_else(|| {
                    Stop::near("its input is an average whose multiples are no floats", "multiply by powers of two")
                })
            }
            (Source::Concat(parts), [], _) => {
                let scales: Option<Vec<Scale>> = parts.iter().map(|part| part.plain()).collect();
                let scales = scales.filter(|scales| scales.iter().all(|s| s.unit == scales[0].unit && s.error == 0.0));
                let scales = scales.ok_or_else(|| {
                    Stop::new(
                        "its input joins values with different units",
                        "quantise them alike, or quantise again behind",
                    )
                })?;
                let inputs = scales.iter().map(|scale| scale.id).collect();
                let id = self.builder.node(&format!("{name}/concat"), Op::Concat { inputs }, None)?;
                Ok(Scale { id: self.later(node, real, id)?, quantised: None, ..scales[0] })
            }
            _ => {
                let hint = "put QuantizeLinear and DequantizeLinear, or Quant, between the two layers";
                Err(Stop::new("its input is not quantised", hint))
            }
        }
    }

    /// How far off a tensor's real values may be, as a part of the largest one.
    pub(super) fn relative_error(&self, scale: Scale) -> f64 {
        let largest = self.largest(scale.id, scale.unit);
        if scale.error == 0.0 { 0.0 } else { scale.error / largest.max(f64::MIN_POSITIVE) }
    }

    /// The largest magnitude of a tensor's real values.
    pub(super) fn largest(&self, id: TensorId, unit: f32) -> f64 {
        self.builder.tensor(id).range.magnitude() as f64 * f64::from(unit)
    }

    /// The network's tensor and its unit, if real values are that, perhaps times constants.
    pub(super) fn tensor(&self, real: &Real<'m>) -> Option<Scale> {
        match real.source {
            Source::Tensor(scale) if real.later.is_empty() => self.multiplied(scale, &real.post),
            _ => None,
        }
    }

    /// A tensor times the constants of `factors`, if nothing else is in them. All products are floats, or results may be approximate.
    fn multiplied(&self, scale: Scale, factors: &[Post]) -> Option<Scale> {
        factors.iter().try_fold(scale, |scale, step| {
            let factor = step.factor()?;
            let wanted = f64::from(scale.unit) * factor;
            let unit = wanted as f32;
            let most = self.builder.tensor(scale.id).range.magnitude() as f64;
            let floats = |unit: f32| most * odd_factor(unit) < (1 << 24) as f64;
            let exact = f64::from(unit) == wanted && floats(scale.unit) && floats(unit);
            let usable = factor > 0.0 && unit.is_normal() && (exact && scale.error == 0.0 || self.options.approximate);
            // The product is rounded, and so is the unit.
            let error = scale.error * factor + if exact { 0.0 } else { 4.0 * HALF_ULP * most * wanted };
            usable.then_some(Scale { unit, error, quantised: None, ..scale })
        })
    }

    pub(super) fn shape_of(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let dims = match self.value(node, 0)? {
            Value::Ints(ints) => dims(self.builder.tensor(ints.id).shape, ints.layout),
            Value::Real(real) => dims(self.shape(real)?, real.layout),
            Value::Input { flat } => {
                let layout = if *flat { Layout::of_rank(2) } else { self.input.layout };
                dims(self.input.shape, layout)
            }
            _ => return Err(Stop::new("the shape of a class", "end the network at the argmax")),
        };
        let sizes: Vec<i64> = dims.iter().map(|&size| size as i64).collect();
        Ok(Value::Constant(Constant::ints(vec![sizes.len()], Element::Int { bits: 64, signed: true }, sizes)))
    }

    /// `Flatten`, `Reshape`, `Squeeze`, `Unsqueeze`, and a `Transpose` that moves only dimensions of size 1.
    pub(super) fn reshape(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let value = self.value(node, 0)?.clone();
        let (shape, layout) = match &value {
            Value::Ints(ints) => (self.builder.tensor(ints.id).shape, ints.layout),
            Value::Real(real) => (self.shape(real)?, real.layout),
            Value::Input { flat } => (self.input.shape, if *flat { Layout::of_rank(2) } else { self.input.layout }),
            Value::Class(_) => return Ok(value),
            Value::Constant(_) | Value::Scaled(_) => unreachable!("constants are folded before"),
        };
        if layout.pad != [0; 4] {
            return Err(Stop::new("it follows padding", "only convolutions may follow padding"));
        }
        let old = dims(shape, layout);
        let new = self.new_dims(node, &old)?;
        let count: usize = shape.iter().product();
        let rank = match new[..] {
            _ if new == old => return Ok(value),
            [1, n] if n == count => 2,
            [1, n, 1, 1] if n == count && shape[1..] == [1, 1] => 4,
            _ => {
                let reason = format!("{old:?} becomes {new:?}");
                return Err(Stop::new(reason, "networks know images [1, c, h, w] and vectors [1, n]"));
            }
        };
        let layout = Layout::of_rank(rank);
        Ok(match value {
            Value::Ints(ints) => {
                let id = self.builder.flatten(node.name(), ints.id)?;
                Value::Ints(Ints { id, layout, ..ints })
            }
            Value::Input { .. } => Value::Input { flat: true },
            Value::Real(real) => {
                let mut real = (*real).clone();
                real.layout = layout;
                match real.plain() {
                    Some(scale) => {
                        let id = self.builder.flatten(node.name(), scale.id)?;
                        real.source = Source::Tensor(Scale { id, ..scale });
                        real.channels = self.builder.tensor(id).shape[0];
                    }
                    None if shape[1..] == [1, 1] => {}
                    None => real.later.push(Later::Flatten),
                }
                Value::Real(Rc::new(real))
            }
            other => other,
        })
    }

    fn new_dims(&self, node: Node<'m>, old: &[usize]) -> Result<Vec<usize>, Stop> {
        let axes = |rank: usize| -> Result<Option<Vec<usize>>, Stop> {
            let input = node.input(1).map(|_| self.constant(node, 1)).transpose()?;
            let axes = super::constants::axes(node, input, self.graph.opset)?;
            axes.map(|axes| axes.iter().map(|&a| axis(a, rank)).collect()).transpose()
        };
        Ok(match node.op() {
            "Reshape" => target(old, &self.constant(node, 1)?, node)?,
            "Flatten" => {
                let (before, after) = old.split_at(axis(node.int("axis", 1), old.len() + 1)?);
                vec![before.iter().product(), after.iter().product()]
            }
            "Squeeze" => {
                let drop = axes(old.len())?;
                let gone = |at: usize| old[at] == 1 && drop.as_ref().is_none_or(|drop| drop.contains(&at));
                (0..old.len()).filter(|&at| !gone(at)).map(|at| old[at]).collect()
            }
            "Unsqueeze" => {
                let count = node.ints("axes").map_or(1, <[i64]>::len);
                let mut new = old.to_vec();
                for at in axes(old.len() + count)?.unwrap_or_default() {
                    new.insert(at.min(new.len()), 1);
                }
                new
            }
            _ => {
                let perm = node.ints("perm").unwrap_or(&[]);
                let order: Vec<usize> = perm.iter().map(|&p| axis(p, old.len())).collect::<Result<_, _>>()?;
                let moved: Vec<usize> = order.iter().copied().filter(|&o| old[o] != 1).collect();
                if order.len() != old.len() || !moved.is_sorted() {
                    return Err(Stop::new("dimensions change places", "export with channels first"));
                }
                order.iter().map(|&o| old[o]).collect()
            }
        })
    }

    /// Zeros around an image, for the convolution behind.
    pub(super) fn pad(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        if node.text("mode", "constant") != "constant" {
            return Err(Stop::new("padding by other than a constant", "pad with zeros"));
        }
        let pads = match node.ints("pads") {
            Some(pads) => pads.to_vec(),
            None => self.constant(node, 1)?.to_ints().map_or(vec![], |pads| pads.to_vec()),
        };
        let fill = match node.input(2) {
            Some(_) => self.scalar(node, 2)?,
            None => node.float("value", 0.0),
        };
        let value = self.value(node, 0)?.clone();
        let wanted = if let Value::Ints(ints) = &value { ints.zero as f32 } else { 0.0 };
        let &[0, 0, top, left, 0, 0, bottom, right] = &pads[..] else {
            return Err(Stop::new("padding of other than height and width", "networks have two spatial dimensions"));
        };
        let size = |pad: i64| usize::try_from(pad).ok().filter(|&pad| pad <= 1 << 12);
        let (Some(top), Some(left), Some(bottom), Some(right)) = (size(top), size(left), size(bottom), size(right))
        else {
            return Err(Stop::new("padding that is negative or very large", "pad by small numbers"));
        };
        if fill != wanted {
            return Err(Stop::new(format!("padding by {fill}"), "pad with zeros: the zero point of integers"));
        }
        let by = [top, left, bottom, right];
        let more = |layout: Layout| Layout { pad: [0, 1, 2, 3].map(|side| layout.pad[side] + by[side]), ..layout };
        match value {
            Value::Ints(ints) => Ok(Value::Ints(Ints { layout: more(ints.layout), ..ints })),
            Value::Real(real) if real.plain().is_some() => {
                Ok(Value::Real(Rc::new(Real { layout: more(real.layout), ..(*real).clone() })))
            }
            _ => Err(Stop::new("padding of values that are not quantised", "quantise them before")),
        }
    }

    pub(super) fn concat(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let count = node.proto.input.len();
        if let Value::Ints(first) = *self.value(node, 0)? {
            let parts = (0..count).map(|index| self.ints(node, index, first.zero)).collect::<Result<Vec<_>, _>>()?;
            let id = self.join(node, parts.iter().map(|ints| (ints.id, ints.layout)).collect())?;
            return Ok(Value::Ints(Ints { id, ..first }));
        }
        let parts = (0..count).map(|index| self.real(node, index)).collect::<Result<Vec<_>, _>>()?;
        let layout = parts[0].layout;
        let along = axis(node.int("axis", 1), layout.rank)?;
        if along != 1 || parts.iter().any(|part| part.layout != layout || layout.pad != [0; 4]) {
            return Err(Stop::new("joined along another axis than the channels", "join along axis 1"));
        }
        let channels = parts.iter().map(|part| part.channels).sum();
        let source = Source::Concat(parts);
        Ok(Value::Real(Rc::new(Real { source, post: vec![], later: vec![], channels, layout, fused: None })))
    }

    /// `QLinearConcat`: scale and zero point of y, then for each part its values, scale and zero point.
    pub(super) fn qlinear_concat(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let quantiser = self.onnx_quantiser(node, 0, 1)?;
        let element = self.element(node, 1)?;
        let mut parts = Vec::new();
        for index in (2..node.proto.input.len()).step_by(3) {
            let (unit, zero) = (self.scalar(node, index + 1)?, self.zero(node, index + 2)?);
            let ints = self.ints(node, index, zero)?;
            let scale = Scale { id: ints.id, unit, error: 0.0, quantised: Some((zero, ints.element)) };
            let real = Real::tensor(scale, self.builder.tensor(ints.id).shape[0], ints.layout);
            parts.push((self.quantise(node, &real, &quantiser)?, ints.layout));
        }
        let layout = parts.first().map_or(Layout::of_rank(4), |part| part.1);
        let id = self.join(node, parts)?;
        Ok(Value::Ints(Ints { id, zero: quantiser.zero as i64, element, layout }))
    }

    fn join(&mut self, node: Node<'m>, parts: Vec<(TensorId, Layout)>) -> Result<TensorId, Stop> {
        let layout = parts.first().map_or(Layout::of_rank(4), |part| part.1);
        let along = axis(node.int("axis", 1), layout.rank)?;
        if along != 1 || layout.pad != [0; 4] || parts.iter().any(|part| part.1 != layout) {
            return Err(Stop::new("joined along another axis than the channels", "join along axis 1"));
        }
        if let [(id, _)] = parts[..] {
            return Ok(id);
        }
        let inputs = parts.iter().map(|part| part.0).collect();
        Ok(self.builder.node(node.name(), Op::Concat { inputs }, None)?)
    }
}
