//! The same layers at another width, for their cost: weights, biases and shifts scaled.

use lowkey_models::{Architecture, Network, Op, Term};

/// The width that all weights and activations of a network have; the input may have another.
pub fn width(architecture: &Architecture) -> Option<u32> {
    let mut widths = architecture.nodes.iter().flat_map(|node| match &node.op {
        Op::Linear { terms } => terms.iter().filter_map(Term::weight_bits).collect(),
        Op::Requantise { bits, .. } => vec![*bits],
        _ => Vec::new(),
    });
    let first = widths.next()?;
    widths.all(|other| other == first).then_some(first)
}

/// Largest weight of a width.
fn largest(bits: u32) -> f64 {
    f64::from(((1u32 << (bits - 1)) - 1).max(1))
}

/// The network with weights and activations of `bits` bits; in words, why that cannot be.
pub fn rescaled(network: &Network, bits: u32) -> Result<Network, String> {
    let (mut architecture, mut weights) = (network.architecture().clone(), network.weights().clone());
    let activations = architecture.nodes.iter().find_map(|node| match &node.op {
        Op::Requantise { bits, .. } => Some(*bits),
        _ => None,
    });
    let activations = activations.unwrap_or(architecture.input.bits);
    if architecture.input.zero_point != 0 {
        return Err("its input has a zero point".into());
    }
    architecture.input.bits = (architecture.input.bits + bits).saturating_sub(activations).clamp(1, 8);
    (architecture.input.pixels, architecture.input.coding) = (None, None);
    (architecture.output_coding, architecture.output_scale) = (None, None);
    // By how much the weights of the accumulator that a node makes have grown.
    let mut grown = vec![1.0; architecture.nodes.len() + 1];
    for (index, node) in architecture.nodes.iter_mut().enumerate() {
        match &mut node.op {
            Op::Linear { terms } => {
                let own = weights.linear[index].as_mut().expect("a linear node has weights");
                let before = terms.iter().find_map(Term::weight_bits).unwrap_or(bits);
                let factor = largest(bits) / largest(before);
                grown[index + 1] = factor;
                for (term, array) in terms.iter_mut().zip(&mut own.terms) {
                    match term {
                        Term::Conv { weight_bits, .. } | Term::Dense { weight_bits, .. } => *weight_bits = bits,
                        Term::Identity { multiplier, .. } => {
                            *multiplier = ((*multiplier as f64 * factor).round() as i64).max(1);
                        }
                    }
                    array.iter_mut().flatten().for_each(|w| *w = scaled(*w, factor, bits));
                }
                let all = factor * (f64::from(bits) - f64::from(activations)).exp2();
                own.bias.iter_mut().for_each(|bias| *bias = (*bias as f64 * all).round() as i64);
            }
            Op::Requantise { input, bits: own, shift, top, zero_point } => {
                if *zero_point != 0 || top.is_some() {
                    return Err(format!("{} has a zero point or a ceiling of its own", node.name));
                }
                *own = bits;
                let more = grown[*input].log2().round() as i64;
                shift.iter_mut().for_each(|shift| *shift = (i64::from(*shift) + more).max(0) as u32);
            }
            Op::MaxPool { .. } | Op::AvgPool { .. } | Op::SumPool { .. } | Op::Flatten { .. } | Op::Concat { .. } => {}
            Op::Scale { .. } | Op::Block { .. } | Op::Select { .. } | Op::Table { .. } => {
                return Err(format!("{} is neither linear nor a shift", node.name));
            }
        }
    }
    Network::new(architecture, weights).map_err(|error| error.to_string())
}

/// A weight at another width; of one bit its sign.
fn scaled(weight: i32, factor: f64, bits: u32) -> i32 {
    match bits {
        1 if weight < 0 => -1,
        1 => 1,
        _ => (f64::from(weight) * factor).round() as i32,
    }
}

#[cfg(test)]
mod tests {
    use lowkey_models::zoo;

    use super::*;

    #[test]
    fn layers_keep_their_shapes_and_change_their_widths() {
        let network = zoo::find("digits").unwrap().network();
        assert_eq!(width(network.architecture()), Some(4));
        for bits in [1, 2, 6, 8] {
            let other = rescaled(&network, bits).unwrap();
            assert_eq!(width(other.architecture()), Some(bits));
            let shapes = |network: &Network| network.tensors().iter().map(|tensor| tensor.shape).collect::<Vec<_>>();
            assert_eq!(shapes(&network), shapes(&other));
        }
        let same = rescaled(&network, 4).unwrap();
        assert_eq!(
            (same.architecture().nodes.clone(), same.weights()),
            (network.architecture().nodes.clone(), network.weights())
        );
    }
}
