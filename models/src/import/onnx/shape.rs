//! Reshapes, padding, concatenations; and real values that have to be a tensor of the network.

use std::rc::Rc;

use super::arrays::shape_part;
use super::dims::axis;
use super::graph::Node;
use super::real::{HALF_ULP, Post, is_relu, odd_factor};
use super::stop::Stop;
use super::tensor::{Constant, Element};
use super::value::{Ints, Later, Layout, Origin, Real, Scale, Value};
use super::walk::Walk;
use crate::check::MAX_DIMENSION;
use crate::network::{Op, TensorId};

/// How many times joined values may be joined before something quantises them.
const MAX_NESTING: usize = 16;

impl<'m> Walk<'m> {
    /// Real values as a tensor of the network times a unit.
    pub(super) fn plain(&mut self, real: &Real<'m>, node: Node<'m>) -> Result<Scale, Stop> {
        if let Some(scale) = self.tensor(real) {
            return Ok(scale);
        }
        let name = node.name();
        match (&real.source, &real.post[..], &real.later[..]) {
            // max(unit x, 0) = unit max(x, 0)
            (Origin::Tensor(scale), post, []) if is_relu(post) => {
                let id = self.builder.apply(&format!("{name}/relu"), scale.id, |x| x.max(0))?;
                Ok(Scale { id, ..*scale })
            }
            (Origin::Average { input, window, .. }, factors, later)
                if factors.iter().all(|step| step.factor().is_some()) =>
            {
                let count = (window.kernel[0] * window.kernel[1]) as f32;
                let op = Op::SumPool { input: input.id, window: *window };
                let mut id = self.builder.node(&format!("{name}/sum"), op, None)?;
                for later in later {
                    let Later::Select { shape, axes } = later else {
                        return Err(Stop::new("a max pool of averages", "quantise the averages"));
                    };
                    id = self.builder.select(&format!("{name}/select"), id, *shape, axes.to_vec())?;
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
            (Origin::Concat(parts), [], _) => {
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
            Origin::Tensor(scale) if real.later.is_empty() => self.multiplied(scale, &real.post),
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
            let usable = factor > 0.0 && unit.is_normal() && (exact && scale.error == 0.0 || self.near);
            // The product is rounded, and so is the unit.
            let error = scale.error * factor + if exact { 0.0 } else { 4.0 * HALF_ULP * most * wanted };
            usable.then_some(Scale { unit, error, quantised: None, ..scale })
        })
    }

    /// `Shape` and `Size`: dimensions are known.
    pub(super) fn shape_of(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let dims = self.dims_of(self.value(node, 0)?)?;
        let int64 = Element::Int { bits: 64, signed: true };
        if node.op() == "Size" {
            return Ok(Value::Constant(Constant::ints(vec![], int64, vec![dims.iter().product::<usize>() as i64])));
        }
        let sizes = shape_part(node, &dims);
        Ok(Value::Constant(Constant::ints(vec![sizes.len()], int64, sizes)))
    }

    pub(super) fn concat(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let count = node.proto.input.len();
        if let Value::Ints(first) = *self.value(node, 0)? {
            let parts = (0..count).map(|index| self.ints(node, index, first.zero)).collect::<Result<Vec<_>, _>>()?;
            let along = axis(node.int("axis", 1), self.dims_of(&Value::Ints(first))?.len())?;
            if along != 1 || first.layout.rank == 0 {
                let parts: Vec<Value> = parts.into_iter().map(Value::Ints).collect();
                return self.joined(node, &parts, along);
            }
            let id = self.join(node, parts.iter().map(|ints| (ints.id, ints.layout)).collect())?;
            return Ok(Value::Ints(Ints { id, ..first }));
        }
        let parts = (0..count).map(|index| self.real(node, index)).collect::<Result<Vec<_>, _>>()?;
        let layout = parts[0].layout;
        let along = axis(node.int("axis", 1), layout.dims(self.shape(&parts[0])?).len())?;
        if along != 1 || layout.rank == 0 {
            let unit = |part: &Rc<Real<'m>>| part.plain().filter(|scale| scale.error == 0.0).map(|scale| scale.unit);
            if parts.iter().any(|part| unit(part).is_none() || unit(part) != unit(&parts[0])) {
                let hint = "quantise them alike, or join along axis 1";
                return Err(Stop::new(
                    "it joins values with different units along another axis than the channels",
                    hint,
                ));
            }
            let parts: Vec<Value> = parts.into_iter().map(Value::Real).collect();
            return self.joined(node, &parts, along);
        }
        if parts.iter().any(|part| part.layout != layout || layout.pad != [0; 4]) {
            return Err(Stop::new("it joins an image and a vector", "the file is not consistent"));
        }
        let mut channels = 0usize;
        for part in &parts {
            channels = channels.saturating_add(self.shape(part)?[0]);
        }
        let source = Origin::Concat(parts);
        if channels > MAX_DIMENSION || source.nesting() > MAX_NESTING {
            return Err(Stop::new("parts of parts of many parts", "quantise what is joined"));
        }
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
