//! Blocks: one sign for a patch of pixels in place of one for each, after Gorski, Jevnisek and Avidan (*Securing neural networks with knapsack
//! optimization*).
//!
//! A block reads the sums z of a linear node. With t = floor(z / 2^s), pixel by pixel,
//!
//! ```text
//! y_i = t_i if the t of the patch of i add up to more than 0, else 0
//! ```
//!
//! A patch is a rectangle of one channel; those at the lower and right borders have fewer pixels where the map is no multiple of it. An
//! *identity* has no gate: y = t. Where a patch is let through its negative pixels stay, so y is signed, and nothing is clipped: a clip would
//! need a sign and a comparison for each pixel, which is what a block spares.
//!
//! **Room.** What a block leaves out is how each pixel's two shares wrap, so its values must be known to fit: |t| < 2^(bits-1) for all inputs,
//! by the weights and the ranges of what its linear node reads ([`Network::new`] checks it), and the ring of z has one bit more, which the
//! planner sees to. A ring that is declared for the sums that a block reads is refused: sums that wrap in it leave no room. Sums over patches
//! are made in a ring that holds them.

use std::collections::BTreeMap;

use crate::bounds::{LinearBounds, linear_bounds};
use crate::error::{ModelError, Place, Problem};
use crate::network::{Architecture, Declared, Op, Range};
use crate::patch::values_of;
use crate::weights::Network;

pub use crate::limits::{MAX_BLOCK_BITS, MAX_PATCH};
pub use crate::patch::{Patch, patches};

/// The fewest bits, 2 at least, of a block whose sums are in `sums`.
fn bits_of(sums: Range, shift: u32) -> u32 {
    let most = (sums.lo >> shift).unsigned_abs().max((sums.hi >> shift).unsigned_abs());
    (u64::BITS - most.leading_zeros() + 1).max(2)
}

impl Architecture {
    /// True if some node is a block.
    pub fn has_blocks(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.op, Op::Block { .. }))
    }

    /// Every block reads the sums of a linear node.
    pub(crate) fn check_blocks(&self) -> Result<(), ModelError> {
        for (index, node) in self.nodes.iter().enumerate() {
            let Op::Block { input, .. } = &node.op else { continue };
            if !matches!(self.nodes[*input - 1].op, Op::Linear { .. }) {
                let why = "it does not read the sums of a linear node";
                return Err(Problem::Block { why }.at(&Place::Node { index, name: node.name.clone() }));
            }
        }
        Ok(())
    }

    /// What requantisation `index` reads, and its shift, where it can become a block.
    fn blockable(&self, index: usize) -> Result<(usize, u32), &'static str> {
        let Op::Requantise { input, shift, zero_point, .. } = &self.nodes[index].op else {
            return Err("it is no requantisation");
        };
        if !matches!(self.nodes[*input - 1].op, Op::Linear { .. }) {
            return Err("it does not read the sums of a linear node");
        }
        if *zero_point != 0 {
            return Err("its values do not start at 0");
        }
        if shift.iter().any(|other| other != &shift[0]) {
            return Err("its channels have different shifts");
        }
        Ok((*input, shift[0]))
    }
}

impl Network {
    /// The values of every block fit, with the actual weights and biases.
    pub(crate) fn check_block_values(&self) -> Result<(), ModelError> {
        for (index, node) in self.architecture().nodes.iter().enumerate() {
            let Op::Block { input, bits, shift, .. } = &node.op else { continue };
            let sums = self.sums_of(*input - 1);
            let Range { lo, hi } = values_of(*bits);
            for sum in [sums.lo, sums.hi] {
                let value = sum >> shift;
                if !(lo..=hi).contains(&value) {
                    let (value, lo, hi) = (value.into(), lo.into(), hi.into());
                    let problem = Problem::OutOfRange { what: "a reachable value of a block", value, lo, hi };
                    return Err(problem.at(&Place::Node { index, name: node.name.clone() }));
                }
            }
        }
        Ok(())
    }

    /// Results of blocks of one inference.
    pub fn blocked(&self) -> u64 {
        let nodes = self.architecture().nodes.iter().zip(&self.tensors()[1..]);
        let blocks = nodes.filter(|(node, _)| matches!(node.op, Op::Block { .. }));
        blocks.map(|(_, tensor)| tensor.elements() as u64).sum()
    }

    /// What the sums of a linear node can be by its weights.
    fn sums_of(&self, node: usize) -> Range {
        let (terms, weights) = self.linear(node).expect("a block reads a linear node");
        LinearBounds { channels: linear_bounds(terms, weights, self.tensors()) }.range()
    }

    /// The network with blocks in place of requantisations, by name; rings and coins of theirs go. The values that they make are as wide as
    /// the weights need it, and so is what reads them: calibrate rings afterwards.
    ///
    /// # Errors
    /// A node that cannot become a block: one that is no requantisation of a linear node's sums to values from 0, or has several shifts; a
    /// patch that is larger than the map; values that get too wide.
    pub fn with_blocks(&self, blocks: &BTreeMap<String, Patch>) -> Result<Network, ModelError> {
        let (mut architecture, weights) = self.clone().into_parts();
        if let Some(name) = blocks.keys().find(|name| architecture.position(name).is_none()) {
            return Err(Problem::Undeclared { name: name.clone() }.at(&Place::Network));
        }
        for index in 0..architecture.nodes.len() {
            let name = architecture.nodes[index].name.clone();
            let Some(patch) = blocks.get(&name) else { continue };
            let (input, shift) = architecture
                .blockable(index)
                .map_err(|why| Problem::Block { why }.at(&Place::Node { index, name: name.clone() }))?;
            let sums = architecture.nodes[input - 1].name.clone();
            architecture.declared.remove(&name);
            if let Some(declared) = architecture.declared.get_mut(&sums) {
                declared.ring.clear();
            }
            architecture.declared.retain(|_, declared| *declared != Declared::default());
            let network = Network::new(architecture, weights.clone())?;
            let bits = bits_of(network.sums_of(input - 1), shift);
            (architecture, _) = network.into_parts();
            architecture.nodes[index].op = Op::Block { input, bits, shift, patch: *patch };
        }
        Network::new(architecture, weights)
    }
}
