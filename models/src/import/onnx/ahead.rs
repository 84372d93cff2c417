//! Elements of the input that are moved before something quantises them: a quantiser of all elements alike commutes with that, so the
//! client quantises first (slices of an image joined as channels, rows of a matrix, an image turned).

use std::collections::HashSet;

use super::graph::{Graph, Node};

/// What moves elements and makes none.
pub(super) const MOVES: [&str; 14] = [
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
