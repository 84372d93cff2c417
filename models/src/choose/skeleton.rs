//! What a selection makes of each node, without its weights: what a planner's price of a node depends on.

use crate::choose::distortion::{Change, Table};
use crate::choose::narrow::{common, units_of_terms};
use crate::declared::LEAST_ABOVE;
use crate::network::{Architecture, Op};

/// A network under a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skeleton {
    /// By tensor, log2 of the unit of its values.
    pub units: Vec<u32>,
    /// By node, the bits that the results of a requantisation or the weights of a linear node give up.
    pub by: Vec<u32>,
    /// By node, log2 of what the terms of a linear node are divided by.
    pub common: Vec<u32>,
    /// By node, the widest declared ring of its channels.
    pub rings: Vec<Option<u32>>,
    /// By node, the bits of its shift that a coin leaves.
    pub left: Vec<Option<u32>>,
}

/// The network of a table, without declared rings, whose skeletons are asked for.
#[derive(Clone, Debug)]
pub struct Skeletons<'a> {
    table: &'a Table,
    architecture: &'a Architecture,
    /// By variable.
    nodes: Vec<Vec<usize>>,
    /// By node, the largest shift above which a declared ring counts.
    shifts: Vec<Option<u32>>,
}

impl<'a> Skeletons<'a> {
    /// Of a table that [is](Table::check) the network's.
    pub fn new(table: &'a Table, architecture: &'a Architecture) -> Self {
        let position = |name: &String| architecture.position(name);
        let nodes = table.variables.iter().map(|variable| variable.nodes.iter().filter_map(position).collect());
        let shift = |index| architecture.declarable(index).ok()?.into_iter().max();
        let shifts = (0..architecture.nodes.len()).map(shift).collect();
        Self { table, architecture, nodes: nodes.collect(), shifts }
    }

    /// The nodes of a variable.
    pub fn nodes(&self, variable: usize) -> &[usize] {
        &self.nodes[variable]
    }

    /// The skeleton under a selection.
    pub fn of(&self, selection: &[usize]) -> Skeleton {
        let architecture = self.architecture;
        let count = architecture.nodes.len();
        let (zeros, nones) = (vec![0; count], vec![None; count]);
        let mut skeleton =
            Skeleton { units: vec![0; count + 1], by: zeros.clone(), common: zeros, rings: nones.clone(), left: nones };
        let mut above = vec![None; count];
        for ((variable, nodes), &option) in self.table.variables.iter().zip(&self.nodes).zip(selection) {
            let Some(entry) = option.checked_sub(1) else { continue };
            for &index in nodes {
                match variable.options[entry].change {
                    Change::Fewer(bits) | Change::Weights(bits) => skeleton.by[index] = bits,
                    Change::Coin { left } => skeleton.left[index] = Some(left),
                    Change::Spare(spare) => {
                        above[index] = variable.above.map(|above| i64::from(above) + i64::from(spare))
                    }
                }
            }
        }
        for (index, node) in architecture.nodes.iter().enumerate() {
            skeleton.units[index + 1] = match &node.op {
                Op::Linear { terms } => {
                    let units = units_of_terms(terms, &skeleton.units, skeleton.by[index]);
                    skeleton.common[index] = common(architecture, index, &units, &skeleton.by);
                    skeleton.common[index]
                }
                Op::Requantise { .. } => skeleton.by[index],
                Op::MaxPool { input, .. }
                | Op::SumPool { input, .. }
                | Op::Flatten { input }
                | Op::Select { input, .. } => skeleton.units[*input],
                Op::Concat { inputs } => skeleton.units[inputs[0]],
                Op::Scale { .. } | Op::Block { .. } | Op::AvgPool { .. } | Op::Table { .. } => 0,
            };
        }
        for (index, above) in above.into_iter().enumerate() {
            let (Some(above), Some(shift)) = (above, self.shifts[index]) else { continue };
            let fewer = architecture.consumers(index + 1).map(|reader| skeleton.by[reader]).max().unwrap_or(0);
            let shift = i64::from(shift) + i64::from(fewer) - i64::from(skeleton.common[index]);
            let ring = shift + (above - i64::from(fewer)).max(LEAST_ABOVE.into());
            skeleton.rings[index] = u32::try_from(ring).ok();
        }
        skeleton
    }
}
