//! What the planner's price of a node depends on, as far as choices can change it.

use std::collections::BTreeSet;

use lowkey_models::choose::skeleton::Skeleton;
use lowkey_models::{Architecture, Op, Term};

/// Equal ones have equal prices, as long as the plan's parameter sets are the same.
pub type Signature = Vec<i64>;

/// Stands before what depends on the weights, where no ring is declared.
const UNDECLARED: i64 = -1;

/// Of a node; of the input for `None`.
pub fn of(architecture: &Architecture, skeleton: &Skeleton, node: Option<usize>) -> Signature {
    let mut all = Vec::new();
    let Some(node) = node else {
        asked(architecture, skeleton, 0, &mut all);
        return all;
    };
    if is_linear(architecture, node) {
        made(architecture, skeleton, node, &mut all);
        return all;
    }
    for source in before(architecture, node) {
        if is_linear(architecture, source) {
            made(architecture, skeleton, source, &mut all);
        } else {
            all.extend([skeleton.by[source].into(), tossed(skeleton, source)]);
        }
    }
    asked(architecture, skeleton, node + 1, &mut all);
    all
}

/// The linear nodes on which the signature of a node depends.
pub fn linear(architecture: &Architecture, node: Option<usize>) -> BTreeSet<usize> {
    let mut all = node.map_or_else(BTreeSet::new, |node| before(architecture, node));
    all.retain(|&node| is_linear(architecture, node));
    if !node.is_some_and(|node| is_linear(architecture, node)) {
        let readers = readers(architecture, node.map_or(0, |node| node + 1));
        all.extend(readers.into_iter().map(|(reader, _)| reader));
    }
    all
}

/// Whether a node makes sums; all others read what was made of some.
fn is_linear(architecture: &Architecture, node: usize) -> bool {
    matches!(architecture.nodes[node].op, Op::Linear { .. })
}

/// The requantisations whose results a node reads, and the linear nodes behind them, or the node itself.
fn before(architecture: &Architecture, node: usize) -> BTreeSet<usize> {
    let (mut seen, mut waiting) = (BTreeSet::from([node]), vec![node]);
    while let Some(node) = waiting.pop() {
        if !is_linear(architecture, node) {
            let makers = architecture.nodes[node].op.inputs().into_iter().filter_map(|input| input.checked_sub(1));
            waiting.extend(makers.filter(|&maker| seen.insert(maker)));
        }
    }
    seen.retain(|&node| {
        matches!(architecture.nodes[node].op, Op::Linear { .. } | Op::Requantise { .. } | Op::Block { .. })
    });
    seen
}

/// The sums of a linear node: their ring, the factors of its weights.
fn made(architecture: &Architecture, skeleton: &Skeleton, node: usize, all: &mut Signature) {
    let inputs = architecture.nodes[node].op.inputs();
    let units = inputs.into_iter().map(|input| i64::from(skeleton.units[input]));
    let common = i64::from(skeleton.common[node]);
    all.push(skeleton.by[node].into());
    // What weights are multiplied by, and without a ring how far the inputs go, and how far coins and the roundings of wider steps move
    // the sums.
    match skeleton.rings[node] {
        Some(ring) => {
            all.extend([ring.into(), common]);
            all.extend(units.map(|unit| unit - common));
        }
        None => {
            all.extend([UNDECLARED, common]);
            all.extend(units);
            all.extend(
                architecture
                    .consumers(node + 1)
                    .flat_map(|reader| [tossed(skeleton, reader), skeleton.by[reader].into()]),
            );
        }
    }
}

/// What a coin leaves of a shift; without one another number.
fn tossed(skeleton: &Skeleton, node: usize) -> i64 {
    skeleton.left[node].map_or(-1, i64::from)
}

/// The ring that the readers of a tensor ask for: the widest declared one, and those that depend on weights.
fn asked(architecture: &Architecture, skeleton: &Skeleton, tensor: usize, all: &mut Signature) {
    let (mut widest, mut others) = (0, Vec::new());
    for (reader, tensor) in readers(architecture, tensor) {
        let Some(ring) = skeleton.rings[reader] else {
            others.push(reader as i64);
            made(architecture, skeleton, reader, &mut others);
            continue;
        };
        let Op::Linear { terms } = &architecture.nodes[reader].op else { continue };
        let spare = terms.iter().filter(|term| term.input() == tensor).map(|term| match term {
            Term::Identity { multiplier, .. } => {
                (multiplier.trailing_zeros() + skeleton.units[tensor]).saturating_sub(skeleton.common[reader])
            }
            Term::Conv { .. } | Term::Dense { .. } => 0,
        });
        widest = widest.max(ring.saturating_sub(spare.min().unwrap_or(0)));
    }
    all.push(widest.into());
    all.extend(others);
}

/// The linear nodes that read a tensor, with what they read: the same elements in another order, or sums of them.
fn readers(architecture: &Architecture, tensor: usize) -> BTreeSet<(usize, usize)> {
    let (mut all, mut seen, mut waiting) = (BTreeSet::new(), BTreeSet::from([tensor]), vec![tensor]);
    while let Some(tensor) = waiting.pop() {
        for reader in architecture.consumers(tensor) {
            match &architecture.nodes[reader].op {
                Op::Linear { .. } => drop(all.insert((reader, tensor))),
                Op::MaxPool { .. }
                | Op::AvgPool { .. }
                | Op::SumPool { .. }
                | Op::Flatten { .. }
                | Op::Concat { .. }
                | Op::Select { .. } => {
                    if seen.insert(reader + 1) {
                        waiting.push(reader + 1);
                    }
                }
                Op::Scale { .. } | Op::Requantise { .. } | Op::Block { .. } | Op::Table { .. } => {}
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use lowkey_models::{Input, Node};

    use super::*;

    /// A dense layer, its requantisation, then what `more` makes of the tensor before, and a dense layer at the end.
    fn network(more: impl Iterator<Item = fn(usize) -> Op>) -> Architecture {
        let dense = |input| Op::Linear { terms: vec![Term::Dense { input, outputs: 1, weight_bits: 4 }] };
        let requantise = Op::Requantise { input: 1, bits: 4, shift: vec![3], top: None, zero_point: 0 };
        let mut ops = vec![dense(0), requantise];
        for op in more {
            ops.push(op(ops.len()));
        }
        ops.push(dense(ops.len()));
        let node = |(index, op): (usize, Op)| Node { name: index.to_string(), op };
        Architecture {
            name: "chain".into(),
            input: Input { shape: [1, 1, 1], bits: 4, zero_point: 0, pixels: None, coding: None },
            output: ops.len(),
            nodes: ops.into_iter().enumerate().map(node).collect(),
            rounding: None,
            output_scale: None,
            output_coding: None,
            classes: vec![],
            declared: Default::default(),
        }
    }

    #[test]
    fn a_long_way_back() {
        let deep = network((0..60_000).map(|_| (|input| Op::Flatten { input }) as fn(usize) -> Op));
        assert_eq!(before(&deep, 60_001), BTreeSet::from([0, 1]));
        assert_eq!(linear(&deep, Some(60_001)), BTreeSet::from([0, 60_002]));
    }

    /// Every tensor is read twice: as many ways as 2^200, and each node is looked at once.
    #[test]
    fn many_ways_back_and_forth() {
        let joined = network((0..200).map(|_| (|input| Op::Concat { inputs: vec![input; 2] }) as fn(usize) -> Op));
        assert_eq!(before(&joined, 201), BTreeSet::from([0, 1]));
        assert_eq!(readers(&joined, 2), BTreeSet::from([(202, 202)]));
        let none = vec![0; joined.nodes.len()];
        let skeleton = Skeleton {
            units: vec![0; joined.nodes.len() + 1],
            by: none.clone(),
            common: none,
            rings: vec![None; joined.nodes.len()],
            left: vec![None; joined.nodes.len()],
        };
        let own = of(&joined, &skeleton, Some(100));
        assert!(!own.is_empty() && own.len() < 20, "{own:?}");
    }
}
