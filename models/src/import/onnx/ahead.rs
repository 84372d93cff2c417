//! Elements of the input that are moved before something quantises them: a quantiser of all elements alike commutes with that, so the
//! client quantises first (slices of an image joined as channels, rows of a matrix, an image turned).

use std::collections::HashSet;

use super::graph::{Graph, Node};
use super::stop::Stop;
use super::value::Value;
use super::walk::Walk;

/// What moves elements and makes none.
const MOVES: [&str; 14] = [
    "Slice",
    "Split",
    "Gather",
    "GatherND",
    "Concat",
    "Transpose",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "SpaceToDepth",
    "DepthToSpace",
    "Expand",
    "Tile",
];

/// The tensors between the graph's input and its quantisers.
#[derive(Default)]
pub(super) struct Ahead<'m> {
    /// Those that have elements of the input alone, the first one included; none if anything but moves and quantisers reads them.
    pub tensors: HashSet<&'m str>,
    /// What quantises them.
    pub quantisers: Vec<Node<'m>>,
}

impl<'m> Ahead<'m> {
    /// Looks for them from a tensor on.
    pub fn of(graph: &Graph<'m>, tensor: &'m str) -> Ahead<'m> {
        let (mut tensors, mut quantisers) = (HashSet::from([tensor]), Vec::new());
        // Nodes stand in order.
        for &node in &graph.nodes {
            let reads = |name: &String| tensors.contains(name.as_str());
            let Some(at) = node.proto.input.iter().position(reads) else { continue };
            match node.op() {
                "Concat" if node.proto.input.iter().all(reads) => {}
                "Identity" | "Dropout" if at == 0 => {}
                "Shape" | "Size" => continue,
                op if at == 0 && MOVES.contains(&op) && op != "Concat" => {}
                _ if at == 0 && node.is_quantiser() => {
                    quantisers.push(node);
                    continue;
                }
                _ => return Ahead::default(),
            }
            tensors.extend(node.proto.output.iter().map(String::as_str));
        }
        let clipped = |node: &Node<'m>| graph.reader(node.output()).is_some_and(|(_, next)| next.op() == "Clip");
        let ends = tensors.iter().any(|name| graph.is_output(name));
        if ends || quantisers.iter().any(clipped) { Ahead::default() } else { Ahead { tensors, quantisers } }
    }
}

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
}
