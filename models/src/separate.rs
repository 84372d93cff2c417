//! Gives every reader of an accumulator its own copy of the linear node, where that is what it takes to fold shifts.
//!
//! Folding multiplies the weights of a channel by a power of two that depends on the requantisation's shifts. An accumulator
//! that several nodes read (or one node and the caller, as the output) can be multiplied for one of them only, so if a reader
//! has different shifts for different channels, the linear node is repeated: once for each reader.

use crate::check::MAX_NAME;
use crate::error::ModelError;
use crate::network::{Node, Op, TensorId};
use crate::weights::{Network, Weights};

/// The equivalent network in which every requantisation with different shifts is the only reader of its accumulator; `None`
/// if the network is one.
pub(crate) fn separate(network: &Network) -> Result<Option<Network>, ModelError> {
    let architecture = network.architecture();
    let uneven = |op: &Op| matches!(op, Op::Requantise { shift, .. } if shift.iter().any(|s| s != &shift[0]));
    let readers = |tensor: TensorId| architecture.consumers(tensor).collect::<Vec<usize>>();
    let repeats = |node: usize| {
        let readers = readers(node + 1);
        let is_output = architecture.output == node + 1;
        let linear = matches!(architecture.nodes[node].op, Op::Linear { .. });
        let needed = linear && readers.iter().any(|&reader| uneven(&architecture.nodes[reader].op));
        // The output keeps the first copy, so that every reader gets one of its own.
        if needed { (readers.len() + usize::from(is_output)).saturating_sub(1) } else { 0 }
    };
    if (0..architecture.nodes.len()).all(|node| repeats(node) == 0) {
        return Ok(None);
    }
    let mut nodes: Vec<Node> = Vec::new();
    let mut weights = Weights { linear: Vec::new() };
    let mut declared = architecture.declared.clone();
    // The new number of every old tensor, and the copies that are still to be given to readers.
    let mut renamed: Vec<TensorId> = vec![0];
    let mut copies: Vec<Vec<TensorId>> = vec![Vec::new()];
    for (index, node) in architecture.nodes.iter().enumerate() {
        let mut node = node.clone();
        node.op.rename_inputs(|tensor| copies[tensor].pop().unwrap_or(renamed[tensor]));
        let own = &network.weights().linear[index];
        nodes.push(node.clone());
        weights.linear.push(own.clone());
        renamed.push(nodes.len());
        let mut own_copies = Vec::new();
        for copy in 0..repeats(index) {
            let name = unused_name(network, &node.name, copy + 2);
            declared.extend(architecture.declared.get(&node.name).map(|of| (name.clone(), of.clone())));
            nodes.push(Node { name, op: node.op.clone() });
            weights.linear.push(own.clone());
            own_copies.push(nodes.len());
        }
        copies.push(own_copies);
    }
    let mut architecture = architecture.clone();
    architecture.output = renamed[architecture.output];
    architecture.nodes = nodes;
    architecture.declared = declared;
    Network::new(architecture, weights).map(Some)
}

/// A name for copy number `number` of a node, which no node of the network has.
fn unused_name(network: &Network, name: &str, number: usize) -> String {
    let taken = |candidate: &String| network.architecture().nodes.iter().any(|node| &node.name == candidate);
    // Room for the number and a few more characters within the longest name.
    let stem: String = name
        .chars()
        .scan(0, |len, c| {
            *len += c.len_utf8();
            (*len <= MAX_NAME - 32).then_some(c)
        })
        .collect();
    let mut candidate = format!("{stem}#{number}");
    while taken(&candidate) {
        candidate.push('#');
    }
    candidate
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Architecture, Input, Term};
    use crate::weights::LinearWeights;
    use ndarray::Array4;

    fn requantise(name: &str, shift: Vec<u32>) -> Node {
        Node { name: name.into(), op: Op::Requantise { input: 1, bits: 4, shift, top: None, zero_point: 0 } }
    }

    /// One dense layer, read by two requantisations and by the caller.
    fn shared() -> Network {
        let term = |input| Term::Identity { input, multiplier: 1 };
        let nodes = vec![
            Node {
                name: "dense".into(),
                op: Op::Linear { terms: vec![Term::Dense { input: 0, outputs: 2, weight_bits: 3 }] },
            },
            requantise("a", vec![0, 2]),
            requantise("b", vec![1, 0]),
            Node { name: "sum".into(), op: Op::Linear { terms: vec![term(2), term(3)] } },
        ];
        let architecture = Architecture {
            name: "shared".into(),
            input: Input { shape: [2, 1, 1], bits: 3, zero_point: 0, pixels: None, coding: None },
            nodes,
            output: 4,
            rounding: None,
            output_scale: None,
            output_coding: None,
            classes: vec![],
            declared: Default::default(),
        };
        let dense = LinearWeights {
            terms: vec![Some(Array4::from_shape_vec((2, 2, 1, 1), vec![3, -1, 2, 2]).unwrap())],
            bias: vec![1, -2],
        };
        let sum = LinearWeights { terms: vec![None, None], bias: vec![0, 0] };
        Network::new(architecture, Weights { linear: vec![Some(dense), None, None, Some(sum)] }).unwrap()
    }

    #[test]
    fn each_reader_gets_a_copy() {
        let network = shared();
        let separated = separate(&network).unwrap().expect("two readers with different shifts");
        assert_eq!(separated.architecture().nodes.len(), 5);
        let folded = network.folded().unwrap();
        for node in &folded.architecture().nodes {
            assert!(!matches!(&node.op, Op::Requantise { shift, .. } if shift.len() != 1));
        }
        for a in 0..8 {
            for b in 0..8 {
                let input = crate::Tensor::from_shape_vec((2, 1, 1), vec![a, b]).unwrap();
                assert_eq!(network.run(&input), separated.run(&input));
                assert_eq!(network.run(&input), folded.run(&input));
            }
        }
        assert!(separate(&separated).unwrap().is_none());
    }

    #[test]
    fn the_output_counts_as_a_reader() {
        let (mut architecture, mut weights) = shared().into_parts();
        architecture.nodes.truncate(2);
        weights.linear.truncate(2);
        architecture.output = 1;
        // Tensor 2 is read by nobody, which the rules do not allow: sum it.
        architecture.nodes.push(Node {
            name: "sum".into(),
            op: Op::Linear { terms: vec![Term::Identity { input: 2, multiplier: 1 }] },
        });
        weights.linear.push(Some(LinearWeights { terms: vec![None], bias: vec![0, 0] }));
        architecture.output = 3;
        let network = Network::new(architecture, weights).unwrap();
        assert!(separate(&network).unwrap().is_none(), "one reader, not the output");
    }
}
