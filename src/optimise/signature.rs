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
    match &architecture.nodes[node].op {
        Op::Linear { .. } => made(architecture, skeleton, node, &mut all),
        Op::Scale { .. }
        | Op::Requantise { .. }
        | Op::MaxPool { .. }
        | Op::AvgPool { .. }
        | Op::SumPool { .. }
        | Op::Flatten { .. }
        | Op::Concat { .. }
        | Op::Select { .. }
        | Op::Table { .. } => {
            let mut sources = BTreeSet::new();
            before(architecture, node, &mut sources);
            for source in sources {
                match &architecture.nodes[source].op {
                    Op::Linear { .. } => made(architecture, skeleton, source, &mut all),
                    _ => all.push(skeleton.by[source].into()),
                }
            }
            asked(architecture, skeleton, node + 1, &mut all);
        }
    }
    all
}

/// The linear nodes on which the signature of a node depends.
pub fn linear(architecture: &Architecture, node: Option<usize>) -> BTreeSet<usize> {
    let mut all = BTreeSet::new();
    if let Some(node) = node {
        before(architecture, node, &mut all);
        all.retain(|node| matches!(architecture.nodes[*node].op, Op::Linear { .. }));
    }
    if !node.is_some_and(|node| matches!(architecture.nodes[node].op, Op::Linear { .. })) {
        let readers = readers(architecture, node.map_or(0, |node| node + 1));
        all.extend(readers.into_iter().map(|(reader, _)| reader));
    }
    all
}

/// The requantisations whose results a node reads, and the linear nodes behind them, or the node itself.
fn before(architecture: &Architecture, node: usize, found: &mut BTreeSet<usize>) {
    match &architecture.nodes[node].op {
        Op::Linear { .. } => drop(found.insert(node)),
        Op::Requantise { .. } => {
            found.insert(node);
            of_inputs(architecture, node, found);
        }
        Op::Scale { .. }
        | Op::MaxPool { .. }
        | Op::AvgPool { .. }
        | Op::SumPool { .. }
        | Op::Flatten { .. }
        | Op::Concat { .. }
        | Op::Select { .. }
        | Op::Table { .. } => of_inputs(architecture, node, found),
    }
}

fn of_inputs(architecture: &Architecture, node: usize, found: &mut BTreeSet<usize>) {
    let makers = architecture.nodes[node].op.inputs().into_iter().filter_map(|input| input.checked_sub(1));
    makers.for_each(|maker| before(architecture, maker, found));
}

/// The sums of a linear node: their ring, the factors of its weights.
fn made(architecture: &Architecture, skeleton: &Skeleton, node: usize, all: &mut Signature) {
    let inputs = architecture.nodes[node].op.inputs();
    let units = inputs.into_iter().map(|input| i64::from(skeleton.units[input]));
    let common = i64::from(skeleton.common[node]);
    match skeleton.rings[node] {
        Some(ring) => all.extend([ring.into(), common]),
        None => all.extend([UNDECLARED, common]),
    }
    // What weights are multiplied by, and without a ring how far the inputs go.
    match skeleton.rings[node] {
        Some(_) => all.extend(units.map(|unit| unit - common)),
        None => all.extend(units),
    }
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
fn readers(architecture: &Architecture, tensor: usize) -> Vec<(usize, usize)> {
    let (mut all, mut waiting) = (Vec::new(), vec![tensor]);
    while let Some(tensor) = waiting.pop() {
        for reader in architecture.consumers(tensor) {
            match &architecture.nodes[reader].op {
                Op::Linear { .. } => all.push((reader, tensor)),
                Op::MaxPool { .. }
                | Op::AvgPool { .. }
                | Op::SumPool { .. }
                | Op::Flatten { .. }
                | Op::Concat { .. }
                | Op::Select { .. } => waiting.push(reader + 1),
                Op::Scale { .. } | Op::Requantise { .. } | Op::Table { .. } => {}
            }
        }
    }
    all
}
