//! Requantisations that an exact import splits: the sum of several clipped lines of one accumulator, in real numbers one line.

use crate::network::{Op, Term};
use crate::shape::of_channel;
use crate::weights::Network;

/// The line factor * z + bias of each channel, z being tensor `source`: what all parts together are between their ends.
pub(super) struct Line {
    /// An accumulator.
    pub source: usize,
    /// By channel.
    pub factor: Vec<f32>,
    /// By channel.
    pub bias: Vec<f32>,
}

/// clamp((multiplier * z + offset) >> shift, 0, top) of one channel.
struct Part {
    multiplier: f64,
    offset: f64,
    unit: f64,
    top: f64,
}

impl Part {
    /// The z at which the part leaves 0 and reaches its top: floor is half a step below the line on average.
    fn ends(&self) -> [f64; 2] {
        let at = |value: f64| ((value + floored(self.unit)) * self.unit - self.offset) / self.multiplier;
        [at(0.0), at(self.top)]
    }
}

/// What floor(z / unit) lies below z / unit on average, for integers z.
pub(super) fn floored(unit: f64) -> f64 {
    (1.0 - 1.0 / unit) / 2.0
}

/// The line, if node `index` adds up the parts of one accumulator and nothing else.
pub(super) fn line(network: &Network, index: usize) -> Option<Line> {
    let nodes = &network.architecture().nodes;
    let Op::Linear { terms } = &nodes[index].op else { return None };
    let parts = terms.iter().map(|term| match term {
        Term::Identity { input, multiplier: 1 } => by_channel(network, *input),
        Term::Identity { .. } | Term::Conv { .. } | Term::Dense { .. } => None,
    });
    let parts: Vec<(usize, Vec<Part>)> = parts.collect::<Option<_>>()?;
    let source = parts.first()?.0;
    if parts.len() < 2 || parts.iter().any(|(from, _)| *from != source) {
        return None;
    }
    let own = &network.weights().linear[index].as_ref()?.bias;
    let of = |channel: usize| {
        let of = || parts.iter().map(|(_, channels)| &channels[channel]);
        let all: f64 = of().map(|part| part.top).sum();
        let first = of().map(|part| part.ends()[0]).fold(f64::INFINITY, f64::min);
        let last = of().map(|part| part.ends()[1]).fold(f64::NEG_INFINITY, f64::max);
        let factor = all / (last - first);
        (factor as f32, (own[channel] as f64 - factor * first) as f32)
    };
    let (factor, bias) = (0..own.len()).map(of).unzip();
    Some(Line { source, factor, bias })
}

/// The accumulator that a requantisation reads, behind a scale or not, and what becomes of each channel.
fn by_channel(network: &Network, tensor: usize) -> Option<(usize, Vec<Part>)> {
    let architecture = network.architecture();
    let node = tensor.checked_sub(1)?;
    let Op::Requantise { input, bits, shift, top, zero_point: 0 } = &architecture.nodes[node].op else { return None };
    let top = top.unwrap_or((1 << bits) - 1) as f64;
    let (source, scale) = match &architecture.nodes[input.checked_sub(1)?].op {
        Op::Scale { input: source, multiplier } => {
            (*source, Some((multiplier, &network.weights().linear[input - 1].as_ref()?.bias)))
        }
        Op::Linear { .. } => (*input, None),
        _ => return None,
    };
    let part = |channel: usize| Part {
        multiplier: scale.map_or(1.0, |(multiplier, _)| of_channel(multiplier, channel) as f64),
        offset: scale.map_or(0.0, |(_, bias)| bias[channel] as f64),
        unit: f64::from(of_channel(shift, channel)).exp2(),
        top,
    };
    Some((source, (0..network.tensors()[tensor].shape[0]).map(part).collect()))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, Array4};

    use crate::network::{Architecture, Input, Node, Op, Term, Window};
    use crate::ptq::from_network::from_network;
    use crate::ptq::run;
    use crate::weights::{LinearWeights, Network, Weights};

    /// z = 3 x - 40, then parts (multiplier, offset, shift, top) of z added up, then y - 20.
    fn split(parts: &[(i64, i64, u32, i64)]) -> Network {
        let node = |name: String, op| Node { name, op };
        let window = Window::POINT;
        let conv = Term::Conv { input: 0, out_channels: 1, groups: 1, window, weight_bits: 4 };
        let mut nodes = vec![node("conv".into(), Op::Linear { terms: vec![conv] })];
        let weights = LinearWeights { terms: vec![Some(Array4::from_elem([1, 1, 1, 1], 3))], bias: vec![-40] };
        let mut linear = vec![Some(weights)];
        let mut terms = Vec::new();
        for (number, &(multiplier, offset, shift, top)) in parts.iter().enumerate() {
            nodes.push(node(format!("scale{number}"), Op::Scale { input: 1, multiplier: vec![multiplier] }));
            linear.push(Some(LinearWeights { terms: vec![], bias: vec![offset] }));
            let input = nodes.len();
            let op = Op::Requantise { input, bits: 6, shift: vec![shift], top: Some(top), zero_point: 0 };
            nodes.push(node(format!("part{number}"), op));
            linear.push(None);
            terms.push(Term::Identity { input: nodes.len(), multiplier: 1 });
        }
        linear.push(Some(LinearWeights { terms: vec![None; terms.len()], bias: vec![0] }));
        nodes.push(node("parts".into(), Op::Linear { terms }));
        let last = Op::Requantise { input: nodes.len(), bits: 6, shift: vec![0], top: None, zero_point: 20 };
        nodes.push(node("last".into(), last));
        linear.push(None);
        let output = nodes.len();
        let architecture = Architecture {
            name: "split".into(),
            input: Input { shape: [1, 1, 1], bits: 8, zero_point: 0, pixels: None, coding: None },
            nodes,
            output,
            declared: Default::default(),
            rounding: None,
            output_scale: None,
            output_coding: None,
            classes: vec![],
        };
        Network::new(architecture, Weights { linear }).expect("a network")
    }

    /// Pieces from one level to the next, and every other step, are the one line that they were cut from.
    #[test]
    fn parts_are_one_line() {
        // z runs from -40 to 725, y from 0 to 50 in steps of about 15.3.
        let pieces = [(17, 680, 8, 20), (17, 680 - 20 * 256, 8, 30)];
        let parities = [(17, 680, 9, 25), (17, 680 + 256, 9, 25)];
        for parts in [&pieces, &parities] {
            let network = split(parts);
            let real = from_network(&network).expect("its real function").normalised();
            assert_eq!(real.nodes.len(), 1, "{real:?}");
            for x in 0..=255 {
                let input = Array3::from_elem([1, 1, 1], x);
                let wanted = network.run(&input).expect("an input of its range")[[0, 0, 0]] as f32;
                let found = run::run(&real, &[input.mapv(|x| x as f32)])[0][[0, 0, 0]];
                assert!((found - wanted).abs() < 1.01, "{x}: {found} for {wanted}");
            }
        }
    }
}
