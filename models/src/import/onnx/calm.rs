//! What ONNX Runtime does to a graph before anything else: operations that change nothing go, and of two pairs of quantisers in a row one
//! is left, whose scale and zero point are neither's.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use prost::Message;

use super::schema::{GraphProto, Model, NodeProto, TensorProto};
use super::tensor::{Constant, Element};

/// Leaves nodes out as the runtime does; returns the operators of those that change nothing, once for each.
pub(super) fn simplify(model: &mut Model) -> Vec<String> {
    let Some(graph) = &mut model.graph else { return Vec::new() };
    let gone = identities(graph);
    pairs(graph);
    duplicates(graph);
    gone
}

/// What may give other results each time, and what holds graphs of its own.
const OF_THEIR_OWN: [&str; 11] = [
    "Constant",
    "If",
    "Loop",
    "Scan",
    "Dropout",
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

/// Leaves one of several nodes that do the same with the same tensors, by their names, outputs of the graph besides: so the
/// quantisers that each reader of a tensor has for itself are one.
fn duplicates(graph: &mut GraphProto) {
    let ends: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    let mut same: HashMap<String, String> = HashMap::new();
    let mut seen: HashMap<Vec<u8>, Vec<String>> = HashMap::new();
    graph.node.retain_mut(|node| {
        // Nodes come in order: what this one reads has its final name.
        for name in &mut node.input {
            if let Some(first) = same.get(name) {
                name.clone_from(first);
            }
        }
        if node.input.is_empty() || OF_THEIR_OWN.contains(&node.op_type.as_str()) {
            return true;
        }
        let ends = node.output.iter().any(|name| ends.contains(name));
        let mut attribute = node.attribute.clone();
        attribute.sort_by(|a, b| a.name.cmp(&b.name));
        let what = NodeProto { name: String::new(), output: vec![], attribute, ..node.clone() };
        match seen.entry(what.encode_to_vec()) {
            Entry::Vacant(place) => {
                place.insert(node.output.clone());
                true
            }
            Entry::Occupied(first) if !ends && first.get().len() == node.output.len() => {
                same.extend(node.output.iter().cloned().zip(first.get().iter().cloned()));
                false
            }
            Entry::Occupied(_) => true,
        }
    });
}

/// Takes out `Identity`, and `Dropout` whose mask nobody reads, unless they make an output of the graph or stand behind its input.
fn identities(graph: &mut GraphProto) -> Vec<String> {
    let ends: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    let made: HashSet<String> = graph.node.iter().flat_map(|node| node.output.iter().cloned()).collect();
    let read: HashSet<String> = graph.node.iter().flat_map(|node| node.input.iter().cloned()).collect();
    let is_read = |name: &String| !name.is_empty() && (read.contains(name) || ends.contains(name));
    let mut same: HashMap<String, String> = HashMap::new();
    let mut gone = Vec::new();
    graph.node.retain(|node| {
        let [from, ..] = &node.input[..] else { return true };
        let calm = matches!(node.op_type.as_str(), "Identity" | "Dropout") && made.contains(from);
        let [to, rest @ ..] = &node.output[..] else { return true };
        if !calm || ends.contains(to) || rest.iter().any(is_read) {
            return true;
        }
        // Nodes come in order: what this one reads has its final name.
        let from = same.get(from).unwrap_or(from).clone();
        same.insert(to.clone(), from);
        gone.push(node.op_type.clone());
        false
    });
    for name in graph.node.iter_mut().flat_map(|node| &mut node.input) {
        if let Some(from) = same.get(name) {
            name.clone_from(from);
        }
    }
    gone
}

/// Scale and zero point that the two nodes of a pair share, and the type of the quantised values.
#[derive(Clone, Copy, PartialEq)]
struct Coded {
    scale: f32,
    zero: i64,
    element: Element,
}

/// Merges `QuantizeLinear`, `DequantizeLinear`, `QuantizeLinear`, `DequantizeLinear` in a row into one pair, first pairs first.
fn pairs(graph: &mut GraphProto) {
    let constants = scalars(graph);
    let mut coded: Vec<Option<Coded>> = graph.node.iter().map(|node| read(node, &constants)).collect();
    let maker: HashMap<&str, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(at, node)| node.output.iter().map(move |o| (o.as_str(), at)))
        .collect();
    let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, node) in graph.node.iter().enumerate() {
        node.input.iter().for_each(|name| readers.entry(name).or_default().push(at));
    }
    let ends: HashSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    // The only reader of what a node makes.
    let next = |at: usize| -> Option<usize> {
        let name = graph.node[at].output.first()?.as_str();
        match readers.get(name).map(Vec::as_slice) {
            Some(&[reader]) if !ends.contains(name) => Some(reader),
            _ => None,
        }
    };
    let is = |at: usize, op: &str| graph.node[at].op_type == op;
    // For each pair that was merged: what its last node reads instead.
    let mut reads: HashMap<usize, usize> = HashMap::new();
    let (mut gone, mut changed) = (HashSet::new(), HashSet::new());
    for second in 0..graph.node.len() {
        let found = || {
            let first = reads
                .get(&second)
                .copied()
                .or_else(|| maker.get(graph.node[second].input.first()?.as_str()).copied())?;
            let third = next(second)?;
            let fourth = next(third)?;
            let ops = ["QuantizeLinear", "DequantizeLinear", "QuantizeLinear", "DequantizeLinear"];
            let all = [first, second, third, fourth];
            // The first one's only reader is this pair, whatever went before.
            let alone = reads.contains_key(&second) || next(first) == Some(second);
            let fits = all.iter().zip(ops).all(|(&at, op)| is(at, op))
                && alone
                && graph.node[third].input.first() == graph.node[second].output.first();
            let [Some(a), Some(b), Some(c), Some(d)] = all.map(|at| coded[at]) else { return None };
            (fits && a == b && c == d).then(|| Some((all, merged(a, c)?)))?
        };
        let Some(([first, second, third, fourth], pair)) = found() else { continue };
        gone.extend([second, third]);
        reads.insert(fourth, first);
        changed.extend([first, fourth]);
        (coded[first], coded[fourth]) = (Some(pair), Some(pair));
    }
    let changed = changed.into_iter().filter_map(|at| Some((at, coded[at].filter(|_| !gone.contains(&at))?))).collect();
    rewrite(graph, &reads, changed, &gone);
}

/// Lets nodes read others' results, codes those that changed by new scales and zero points, and drops those that are gone.
fn rewrite(graph: &mut GraphProto, reads: &HashMap<usize, usize>, changed: Vec<(usize, Coded)>, gone: &HashSet<usize>) {
    let outputs: Vec<String> = graph.node.iter().map(|node| node.output.first().cloned().unwrap_or_default()).collect();
    for (&at, &from) in reads {
        graph.node[at].input[0].clone_from(&outputs[from]);
    }
    for (at, pair) in changed {
        let names = ["scale", "zero"].map(|part| format!("{}/merged {part}", outputs[at]));
        graph.initializer.extend(pair.tensors(&names));
        graph.node[at].input.truncate(1);
        graph.node[at].input.extend(names);
    }
    let mut index = 0..;
    graph.node.retain(|_| index.next().is_none_or(|at| !gone.contains(&at)));
}

/// The pair that takes the place of two: the reals that both can hold, in all integers of the type. `None` if it merges no such ones.
fn merged(first: Coded, second: Coded) -> Option<Coded> {
    let (lo, hi) = first.element.small().filter(|_| first.element.is_byte())?;
    if first.element != second.element {
        return None;
    }
    if first.zero == second.zero && f64::from((first.scale - second.scale).abs()) < 1e-20 {
        return Some(first);
    }
    let end = |pair: Coded, q: i64| (q - pair.zero) as f32 * pair.scale;
    let least = end(first, lo).max(end(second, lo));
    let most = end(first, hi).min(end(second, hi));
    let scale = (most - least) / (hi - lo) as f32;
    let zero = (lo as f32 - least / scale).round();
    // A cast to the type; both pairs hold 0, and so does their common part.
    (scale.is_normal() && scale > 0.0 && (lo as f32..=hi as f32).contains(&zero)).then_some(Coded {
        scale,
        zero: zero as i64,
        element: first.element,
    })
}

/// The numbers of the graph that stand alone, by name.
fn scalars(graph: &GraphProto) -> HashMap<String, Constant> {
    let alone = |tensor: &TensorProto| tensor.dims.iter().all(|&dim| dim == 1);
    let constants = graph.initializer.iter().map(|tensor| (&tensor.name, tensor));
    let nodes = graph.node.iter().filter(|node| node.op_type == "Constant").filter_map(|node| {
        let value = node.attribute.iter().find(|attribute| attribute.name == "value")?;
        Some((node.output.first()?, value.t.as_ref()?))
    });
    constants
        .chain(nodes)
        .filter(|(_, tensor)| alone(tensor))
        .filter_map(|(name, tensor)| Some((name.clone(), Constant::read(tensor).ok()?)))
        .collect()
}

/// What a node of a pair declares, with an explicit zero point.
fn read(node: &NodeProto, constants: &HashMap<String, Constant>) -> Option<Coded> {
    if !matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear") {
        return None;
    }
    let number = |at: usize| constants.get(node.input.get(at)?);
    let zero = number(2)?;
    Some(Coded { scale: number(1)?.scalar()?, zero: zero.scalar()? as i64, element: zero.element })
}

impl Coded {
    /// Its scale and zero point as constants of a file.
    fn tensors(self, [scale, zero]: &[String; 2]) -> [TensorProto; 2] {
        let data_type = if self.element == Element::UINT8 { 2 } else { 3 };
        [
            TensorProto { name: scale.clone(), data_type: 1, float_data: vec![self.scale], ..TensorProto::default() },
            TensorProto { name: zero.clone(), data_type, int32_data: vec![self.zero as i32], ..TensorProto::default() },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pairs_in_a_row_become_one_of_their_common_range() {
        let pair = |scale, zero| Coded { scale, zero, element: Element::UINT8 };
        assert!(merged(pair(0.5, 7), pair(0.5, 7)) == Some(pair(0.5, 7)));
        // -64..=191 and -64..=63.5: the latter.
        assert!(merged(pair(1.0, 64), pair(0.5, 128)) == Some(pair(0.5, 128)));
        // 0..=25.5 and -1..=24.5: 0..=24.5.
        assert!(
            merged(pair(0.1, 0), pair(0.1, 10)).is_some_and(|p| p.zero == 0 && (p.scale - 24.5 / 255.0).abs() < 1e-7)
        );
        assert!(merged(pair(0.1, 0), Coded { element: Element::INT8, ..pair(0.1, 0) }).is_none());
    }
}
