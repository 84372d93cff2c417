//! What can be computed from constants alone: quantised weights, shapes, scales.

use std::rc::Rc;

use super::arrays;
use super::dims::{axis, inconsistent, reshaped};
use super::graph::Node;
use super::quantiser::{Mode, Quantiser, Rule};
use super::stop::Stop;
use super::tensor::{Constant, Element, Values, is_small};
use super::value::{Scaled, Value};
use crate::shape::of_channel;

const INT64: Element = Element::Int { bits: 64, signed: true };

/// The node's result, if it is one of those that are computed on constants; `inputs` are all constant.
pub(super) fn fold<'m>(node: Node<'m>, inputs: &[Option<Value<'m>>]) -> Result<Option<Value<'m>>, Stop> {
    let value = folded(node, inputs)?;
    let shape = match &value {
        Some(Value::Constant(constant)) => &constant.shape[..],
        Some(Value::Scaled(scaled)) => &scaled.shape,
        _ => &[],
    };
    if is_small(shape) { Ok(value) } else { Err(inconsistent()) }
}

fn folded<'m>(node: Node<'m>, inputs: &[Option<Value<'m>>]) -> Result<Option<Value<'m>>, Stop> {
    if node.op() == "Constant" {
        return Ok(Some(Value::Constant(node.value()?)));
    }
    let Some(Some(first)) = inputs.first() else { return Ok(None) };
    let number = |index: usize| inputs.get(index).and_then(Option::as_ref).and_then(Value::constant);
    let needed = |index: usize| number(index).ok_or_else(|| Stop::new("an input is missing", "the file is damaged"));
    let constant = needed(0)?;
    let rank = constant.shape.len();
    Ok(Some(match node.op() {
        "Identity" | "Dropout" => first.clone(),
        "Cast" => cast(first, &constant, node)?,
        "DequantizeLinear" => {
            // Without a list of units the axis means nothing.
            let axis = if needed(1)?.len() == 1 { 0 } else { axis(node.int("axis", 1), rank)? };
            if node.int("block_size", 0) != 0 {
                return Err(Stop::new("units for blocks of weights", "use one unit for each output channel"));
            }
            Value::Scaled(Rc::new(dequantise(&constant, &needed(1)?, number(2).as_ref(), axis)?))
        }
        "QuantizeLinear" => Value::Constant(quantise(node, &constant, &needed(1)?, number(2).as_ref())?),
        "Quant" | "IntQuant" | "BipolarQuant" => Value::Scaled(Rc::new(quant(node, inputs, &constant)?)),
        "Clip" => Value::Constant(clip(&constant, number(1), number(2))?),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
            with_shape(first, &constant, &reshaped(node, &constant.shape, 0, |index| Ok(number(index)))?)
        }
        "Transpose" => transpose(first, &constant, node)?,
        "Relu" => Value::Constant(clip(&constant, Some(Constant::floats(vec![], vec![0.0])), None)?),
        _ => {
            let constants: Vec<Option<Constant>> = (0..inputs.len()).map(number).collect();
            return Ok(arrays::fold(node, &constants)?.map(Value::Constant));
        }
    }))
}

fn with_shape<'m>(value: &Value<'m>, constant: &Constant, shape: &[usize]) -> Value<'m> {
    match value {
        Value::Scaled(scaled) if scaled.scale.len() == 1 => {
            Value::Scaled(Rc::new(Scaled { shape: shape.to_vec(), axis: 0, ..(**scaled).clone() }))
        }
        _ => Value::Constant(Constant { shape: shape.to_vec(), ..constant.clone() }),
    }
}

fn transpose<'m>(value: &Value<'m>, constant: &Constant, node: Node<'m>) -> Result<Value<'m>, Stop> {
    let rank = constant.shape.len();
    let order: Vec<usize> = match node.ints("perm") {
        Some(perm) => perm.iter().map(|&p| axis(p, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut seen = order.clone();
    seen.sort_unstable();
    if seen != (0..rank).collect::<Vec<_>>() {
        return Err(inconsistent());
    }
    let shape: Vec<usize> = order.iter().map(|&o| constant.shape[o]).collect();
    let stride = |of: usize| constant.shape[of + 1..].iter().product::<usize>();
    let strides: Vec<usize> = order.iter().map(|&o| stride(o)).collect();
    let source = |mut index: usize| {
        let mut from = 0;
        for at in (0..rank).rev() {
            from += index % shape[at] * strides[at];
            index /= shape[at];
        }
        from
    };
    let count = constant.len();
    Ok(match value {
        Value::Scaled(scaled) => {
            let ints = (0..count).map(|index| scaled.ints[source(index)]).collect();
            let axis = order.iter().position(|&o| o == scaled.axis).unwrap_or(0);
            Value::Scaled(Rc::new(Scaled { shape, ints, axis, ..(**scaled).clone() }))
        }
        _ => Value::Constant(match &constant.values {
            Values::Float(values) => Constant::floats(shape.clone(), (0..count).map(|i| values[source(i)]).collect()),
            Values::Int(values) => {
                Constant::ints(shape.clone(), constant.element, (0..count).map(|i| values[source(i)]).collect())
            }
        }),
    })
}

fn cast<'m>(value: &Value<'m>, constant: &Constant, node: Node<'m>) -> Result<Value<'m>, Stop> {
    let to = i32::try_from(node.int("to", 1)).ok().and_then(Element::of).ok_or_else(inconsistent)?;
    Ok(match (to, &constant.values) {
        (Element::Float, Values::Float(_)) => value.clone(),
        (Element::Float, _) => Value::Constant(Constant::floats(constant.shape.clone(), constant.to_floats().to_vec())),
        (element, _) => {
            let whole = constant.to_floats().iter().map(|v| v.trunc() as i64).collect();
            let ints = if let Values::Int(values) = &constant.values { values.to_vec() } else { whole };
            Value::Constant(Constant::ints(constant.shape.clone(), element, ints))
        }
    })
}

fn clip(constant: &Constant, lo: Option<Constant>, hi: Option<Constant>) -> Result<Constant, Stop> {
    let bound = |bound: Option<Constant>, otherwise: f32| bound.map_or(Some(otherwise), |bound| bound.scalar());
    let lo = bound(lo, f32::MIN).ok_or_else(inconsistent)?;
    let hi = bound(hi, f32::MAX).ok_or_else(inconsistent)?;
    Ok(match &constant.values {
        Values::Float(values) => {
            let values = values.iter().map(|v| v.max(lo).min(hi)).collect();
            Constant::floats(constant.shape.clone(), values)
        }
        // Casts of floats saturate.
        Values::Int(values) => {
            let values = values.iter().map(|&v| v.max(lo as i64).min(hi as i64)).collect();
            Constant::ints(constant.shape.clone(), constant.element, values)
        }
    })
}

/// Integers with units from integers, scales and zero points of `DequantizeLinear`.
pub(super) fn dequantise(
    ints: &Constant,
    scale: &Constant,
    zero: Option<&Constant>,
    axis: usize,
) -> Result<Scaled, Stop> {
    let values = ints.to_ints().ok_or_else(inconsistent)?;
    let scales = scale.to_floats();
    let zeros = match zero {
        Some(zero) => zero.to_ints().ok_or_else(inconsistent)?,
        None => Rc::new(vec![0]),
    };
    let groups = ints.shape.get(axis).copied().unwrap_or(1);
    let fits = |count: usize| count == 1 || count == groups;
    if !fits(scales.len()) || !fits(zeros.len()) {
        return Err(Stop::new("scales that are not one, or one for each channel", "quantise by tensor or by channel"));
    }
    let inner: usize = ints.shape.iter().skip(axis + 1).product();
    let group = |index: usize| index / inner.max(1) % groups.max(1);
    let zero = |index: usize| of_channel(&zeros, group(index));
    let shifted = values.iter().enumerate().map(|(index, &v)| v.saturating_sub(zero(index))).collect();
    checked(Scaled {
        shape: ints.shape.clone(),
        ints: shifted,
        scale: scales.to_vec(),
        axis,
        element: Some(ints.element),
    })
}

fn checked(scaled: Scaled) -> Result<Scaled, Stop> {
    match scaled.scale.iter().find(|scale| !(scale.is_normal() && **scale > 0.0)) {
        None => Ok(scaled),
        Some(scale) => Err(Stop::new(format!("a scale of {scale}"), "scales are positive numbers")),
    }
}

/// Type of the result of `QuantizeLinear`: that of the zero point, else an attribute, else unsigned bytes.
pub(super) fn target_element(node: Node<'_>, zero: Option<&Constant>) -> Element {
    let declared = i32::try_from(node.int("output_dtype", 0)).ok().and_then(Element::of);
    zero.map(|zero| zero.element).or(declared).unwrap_or(Element::UINT8)
}

fn quantise(node: Node<'_>, constant: &Constant, scale: &Constant, zero: Option<&Constant>) -> Result<Constant, Stop> {
    let element = target_element(node, zero);
    let small = element.wraps().ok_or_else(|| Stop::new("more than 16 bits", "quantise to at most 16 bits"))?;
    let one = Constant::ints(vec![], INT64, vec![0]);
    let zeros = zero.unwrap_or(&one).to_ints().ok_or_else(inconsistent)?;
    let scales = scale.to_floats();
    let axis = axis(node.int("axis", 1), constant.shape.len()).unwrap_or(0);
    let groups = constant.shape.get(axis).copied().unwrap_or(1).max(1);
    let inner = constant.shape.iter().skip(axis + 1).product::<usize>().max(1);
    if [scales.len(), zeros.len()].iter().any(|&n| n != 1 && n != groups) {
        return Err(inconsistent());
    }
    let value = |(index, &v): (usize, &f32)| {
        let group = index / inner % groups;
        let (scale, zero) = (scales[group % scales.len()], zeros[group % zeros.len()]);
        Quantiser::onnx(scale, zero, small).map(|quantiser| quantiser.index(0, v))
    };
    let values = constant.to_floats().iter().enumerate().map(value).collect::<Result<Vec<_>, _>>()?;
    Ok(Constant::ints(constant.shape.clone(), element, values))
}

/// The rule of `Quant`, but for its scale.
pub(super) fn quant_rule(node: Node<'_>, bits: f32) -> Result<(Rule, i64, i64), Stop> {
    if node.op() == "BipolarQuant" {
        return Ok((Rule::Bipolar, 0, 1));
    }
    // Wide ones are biases; activations and weights are refused where they become part of the network.
    if !(1.0..=32.0).contains(&bits) || bits.fract() != 0.0 {
        return Err(Stop::new(format!("a width of {bits} bits"), "use whole widths, of activations up to 8 bits"));
    }
    let (signed, narrow) = (node.int("signed", 1) != 0, node.int("narrow", 0));
    let bits = bits as u32;
    if signed && bits == 1 {
        return Ok((Rule::Bipolar, 0, 1));
    }
    let (lo, hi) = if signed {
        (-(1 << (bits - 1)) + narrow.clamp(0, 1), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1 - narrow.clamp(0, 1))
    };
    Ok((Rule::Qonnx(Mode::of(&node.text("rounding_mode", "ROUND"))?), lo, hi))
}

/// Quantised weights by QONNX: the scale is broadcast, so it may have any rank.
fn quant(node: Node<'_>, inputs: &[Option<Value<'_>>], constant: &Constant) -> Result<Scaled, Stop> {
    let input = |index: usize| inputs.get(index).and_then(Option::as_ref).and_then(Value::constant);
    let missing = || Stop::new("an input is missing", "the file is damaged");
    let scale = input(1).ok_or_else(missing)?;
    let bipolar = node.op() == "BipolarQuant";
    let zero = if bipolar { 0.0 } else { input(2).and_then(|zero| zero.scalar()).ok_or_else(missing)? };
    let bits = if bipolar { 1.0 } else { input(3).and_then(|bits| bits.scalar()).ok_or_else(missing)? };
    let (rule, lo, hi) = quant_rule(node, bits)?;
    let rank = constant.shape.len();
    let scales = scale.to_floats();
    // The axis of the scale that is longer than 1, counted from the right.
    let long = scale.shape.iter().position(|&size| size != 1);
    let axis = match long {
        None => 0,
        Some(at) => (at + rank).checked_sub(scale.shape.len()).ok_or_else(inconsistent)?,
    };
    let groups = constant.shape.get(axis).copied().unwrap_or(1).max(1);
    if scales.len() != 1 && scales.len() != groups {
        return Err(Stop::new("scales along more than one axis", "quantise by tensor or by channel"));
    }
    let inner = constant.shape.iter().skip(axis + 1).product::<usize>().max(1);
    let value = |(index, &v): (usize, &f32)| {
        let scale = scales[index / inner % groups % scales.len()];
        let quantiser = Quantiser { rule: rule.clone(), scale, zero: zero.into(), lo, hi }.checked()?;
        let (factor, offset, _) = quantiser.means()?;
        if factor == 2 && rule != Rule::Bipolar {
            return Err(Stop::new(format!("a zero point of {zero}"), "zero points of weights are whole"));
        }
        Ok(factor * quantiser.index(0, v) - offset)
    };
    let ints = constant.to_floats().iter().enumerate().map(value).collect::<Result<Vec<_>, _>>()?;
    checked(Scaled { shape: constant.shape.clone(), ints, scale: scales.to_vec(), axis, element: None })
}

/// Float weights that are whole numbers, as quantised ones of unit 1.
pub(super) fn whole_weights(constant: &Constant) -> Option<Scaled> {
    let Values::Float(_) = &constant.values else { return None };
    let ints = constant.to_ints().filter(|ints| ints.iter().all(|w| w.abs() < 1 << 15))?;
    Some(Scaled { shape: constant.shape.clone(), ints: ints.to_vec(), scale: vec![1.0], axis: 0, element: None })
}
