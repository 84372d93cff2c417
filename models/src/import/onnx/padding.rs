//! `Pad`: zeros for the convolution behind, and elements that are copies or a constant.

use std::rc::Rc;

use super::dims::pads;
use super::graph::Node;
use super::moves::Move;
use super::stop::Stop;
use super::value::{Ints, Layout, Origin, Real, Scale, Value};
use super::walk::Walk;
use crate::network::Op;

impl<'m> Walk<'m> {
    pub(super) fn pad(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let value = self.value(node, 0)?.clone();
        let rank = self.dims_of(&value)?.len();
        let (before, after) = pads(node, rank, |index| self.optional(node, index))?;
        let plain = match &value {
            Value::Ints(_) => true,
            Value::Real(real) => real.plain().is_some(),
            _ => false,
        };
        let mode = node.text("mode", "constant");
        if !plain {
            // Zeros are put there once the values are integers.
            let zeros = mode == "constant" && self.constant_of(node)? == 0.0 && matches!(value, Value::Real(_));
            if !zeros || value.padding() != [0; 4] {
                return Err(Stop::new("padding of values that are not quantised", "quantise them before"));
            }
            return self.padded(node, &value, &before, &after);
        }
        if mode != "constant" {
            let value = if value.padding() == [0; 4] { value } else { self.filled(node, &value)? };
            return self.copied(node, value, &mode, &before, &after);
        }
        let fill = self.fill(node, &value)?;
        if fill != 0 {
            let value = if value.padding() == [0; 4] { value } else { self.filled(node, &value)? };
            return self.around(node, &value, fill, &before, &after);
        }
        let (&[0, 0, top, left], &[0, 0, bottom, right]) = (&before[..], &after[..]) else {
            let value = if value.padding() == [0; 4] { value } else { self.filled(node, &value)? };
            return self.padded(node, &value, &before, &after);
        };
        if [top, left, bottom, right].iter().any(|&pad| pad < 0) {
            return self.padded(node, &value, &before, &after);
        }
        let by = [top, left, bottom, right].map(|pad| pad as usize);
        let more = |layout: Layout| Layout { pad: [0, 1, 2, 3].map(|side| layout.pad[side] + by[side]), ..layout };
        match value {
            Value::Ints(ints) => Ok(Value::Ints(Ints { layout: more(ints.layout), ..ints })),
            Value::Real(real) => Ok(Value::Real(Rc::new(Real { layout: more(real.layout), ..(*real).clone() }))),
            other => Ok(other),
        }
    }

    /// The number that is padded with.
    fn constant_of(&self, node: Node<'m>) -> Result<f32, Stop> {
        let given = node.input(2).map(|_| self.scalar(node, 2)).transpose()?;
        Ok(given.unwrap_or_else(|| node.float("value", 0.0)))
    }

    /// The network's integer for the constant that is padded with.
    fn fill(&self, node: Node<'m>, value: &Value<'m>) -> Result<i64, Stop> {
        let fill = self.constant_of(node)?;
        let (x, rounded) = match value {
            Value::Ints(ints) => (f64::from(fill) - ints.zero as f64, false),
            Value::Real(real) => {
                let unit = real.plain().map_or(1.0, |scale| scale.unit);
                // A quantiser of the same unit rounds the constant like everything else.
                let behind = self.graph.reader(node.output()).map(|(_, next)| next);
                let alike = |next: Node<'m>| next.op() == "QuantizeLinear" && self.scalar(next, 1).ok() == Some(unit);
                (f64::from(fill / unit), behind.is_some_and(alike))
            }
            _ => (f64::NAN, false),
        };
        let whole = if rounded { x.round_ties_even() } else { x };
        if whole.fract() == 0.0 && whole.abs() <= 255.0 {
            return Ok(whole as i64);
        }
        let hint = "pad with a multiple of the values' unit, and of their size";
        Err(Stop::new(format!("padding by {fill}, which is no value of the tensor"), hint))
    }

    /// Elements around a tensor that all have one value.
    fn around(
        &mut self,
        node: Node<'m>,
        value: &Value<'m>,
        fill: i64,
        before: &[i64],
        after: &[i64],
    ) -> Result<Value<'m>, Stop> {
        let old = self.dims_of(value)?;
        let count = old.iter().product::<usize>();
        let by = Move::padded(&old, before, after);
        // The constant is one more element, behind all others.
        let all = Move { dims: vec![1, count], axes: vec![(0..count as i64).collect()] };
        let first = Move { dims: vec![1, 1], axes: vec![vec![0]] };
        let id = |value: &Value<'m>| match value {
            Value::Ints(ints) => ints.id,
            Value::Real(real) => real.plain().map_or(0, |scale| scale.id),
            _ => 0,
        };
        let (whole, one) = (self.moved(node, value, &all)?, self.moved(node, value, &first)?);
        let one = self.builder.apply(&format!("{}/value", node.name()), id(&one), |_| fill)?;
        let inputs = vec![id(&whole), one];
        let id = self.builder.node(&format!("{}/values", node.name()), Op::Concat { inputs }, None)?;
        let layout = Layout::of_rank(2);
        let whole = match whole {
            Value::Ints(ints) => Value::Ints(Ints { id, layout, ..ints }),
            Value::Real(real) => {
                let scale = real.plain().map(|scale| Scale { id, ..scale });
                let source = scale.map_or_else(|| real.source.clone(), Origin::Tensor);
                Value::Real(Rc::new(Real { source, layout, channels: count + 1, ..(*real).clone() }))
            }
            other => other,
        };
        let places = by.elements().into_iter().map(|at| if at < 0 { count as i64 } else { at }).collect();
        self.moved(node, &whole, &Move { dims: by.dims, axes: vec![places] })
    }

    /// Elements around a tensor that are others of it: its border's, or mirrored, or those of the other side.
    fn copied(
        &mut self,
        node: Node<'m>,
        mut value: Value<'m>,
        mode: &str,
        before: &[i64],
        after: &[i64],
    ) -> Result<Value<'m>, Stop> {
        let mut dims = self.dims_of(&value)?;
        for (along, (&before, &after)) in before.iter().zip(after).enumerate() {
            let size = dims[along] as i64;
            if (before, after) == (0, 0) {
                continue;
            }
            if size == 0 || mode == "reflect" && before.max(after) >= size {
                return Err(Stop::new(format!("{before} and {after} more of {size}"), "the file is not consistent"));
            }
            let place = |at: i64| match mode {
                "edge" => Some(at.clamp(0, size - 1)),
                "reflect" => Some(if at < 0 {
                    -at
                } else if at < size {
                    at
                } else {
                    2 * size - 2 - at
                }),
                "wrap" => Some(at.rem_euclid(size)),
                _ => None,
            };
            let indices: Option<Vec<i64>> = (-before..size + after).map(place).collect();
            let indices = indices.filter(|indices| !indices.is_empty());
            let known = || Stop::new(format!("padding by {mode}"), "constant, reflect, edge and wrap are known");
            value = self.moved(node, &value, &Move::along(&dims, along, &indices.ok_or_else(known)?))?;
            dims[along] = (size + before + after) as usize;
        }
        Ok(value)
    }
}
