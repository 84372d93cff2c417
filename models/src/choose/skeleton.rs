//! What a selection makes of each node, without its weights: what a planner's price of a node depends on.

use crate::choose::distortion::{Change, Table};
use crate::choose::narrow::common;
use crate::declared::LEAST_ABOVE;
use crate::network::{Architecture, Op};

/// A network under a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skeleton {
    /// By tensor, log2 of the unit of its values.
    pub units: Vec<u32>,
    /// By node, the bits that a requantisation gives up.
    pub by: Vec<u32>,
    /// By node, log2 of what the terms of a linear node are divided by.
    pub common: Vec<u32>,
    /// By node, the widest declared ring of its channels.
    pub rings: Vec<Option<u32>>,
}

impl Table {
    /// The skeleton of a network without declared rings under a selection.
    pub fn skeleton(&self, architecture: &Architecture, selection: &[usize]) -> Skeleton {
        let count = architecture.nodes.len();
        let mut skeleton = Skeleton {
            units: vec![0; count + 1],
            by: vec![0; count],
            common: vec![0; count],
            rings: vec![None; count],
        };
        let mut above = vec![None; count];
        for (variable, &option) in self.variables.iter().zip(selection) {
            let Some(entry) = option.checked_sub(1) else { continue };
            for index in variable.nodes.iter().filter_map(|name| position(architecture, name)) {
                match variable.options[entry].change {
                    Change::Fewer(bits) => skeleton.by[index] = bits,
                    Change::Spare(spare) => {
                        above[index] = variable.above.map(|above| i64::from(above) + i64::from(spare))
                    }
                }
            }
        }
        for (index, node) in architecture.nodes.iter().enumerate() {
            skeleton.units[index + 1] = match &node.op {
                Op::Linear { terms } => {
                    let units: Vec<u32> = terms.iter().map(|term| skeleton.units[term.input()]).collect();
                    skeleton.common[index] = common(architecture, index, &units, &skeleton.by);
                    skeleton.common[index]
                }
                Op::Requantise { .. } => skeleton.by[index],
                Op::MaxPool { input, .. }
                | Op::SumPool { input, .. }
                | Op::Flatten { input }
                | Op::Select { input, .. } => skeleton.units[*input],
                Op::Concat { inputs } => skeleton.units[inputs[0]],
                Op::Scale { .. } | Op::AvgPool { .. } | Op::Table { .. } => 0,
            };
        }
        for (index, above) in above.into_iter().enumerate() {
            let (Some(above), Ok(shift)) = (above, architecture.declarable(index)) else { continue };
            let fewer = architecture.consumers(index + 1).map(|reader| skeleton.by[reader]).max().unwrap_or(0);
            let shift = i64::from(shift.iter().max().copied().unwrap_or(0));
            let shift = shift + i64::from(fewer) - i64::from(skeleton.common[index]);
            let ring = shift + (above - i64::from(fewer)).max(LEAST_ABOVE.into());
            skeleton.rings[index] = u32::try_from(ring).ok();
        }
        skeleton
    }
}

/// The node of a name.
pub fn position(architecture: &Architecture, name: &str) -> Option<usize> {
    architecture.nodes.iter().position(|node| node.name == name)
}
