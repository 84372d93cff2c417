//! The linear nodes as the choice of parameters sees them.

use lowkey_bridge::budget::{self, Norms};
use lowkey_bridge::conv::ConvShape;
use lowkey_models::Network;

use super::Widths;
use super::rings::accumulator_ring;
use crate::plan::conv_shape;

/// A linear node as the choice of parameters sees it.
pub(super) struct Layer {
    pub name: String,
    pub ell: u32,
    /// True if the network says what ell is: its sums wrap in it.
    pub declared: bool,
    pub outputs: usize,
    pub terms: Vec<(ConvShape, Norms)>,
}

impl Layer {
    /// The norms to plan with where an output ciphertext has so many channels.
    pub fn norms(&self, bands: usize) -> Vec<Norms> {
        self.terms.iter().map(|(_, class)| budget::banded(*class, bands)).collect()
    }
}

pub(super) fn of(network: &Network, widths: Widths) -> Vec<Layer> {
    let architecture = network.architecture();
    let bounds = network.bounds();
    let mut layers = Vec::new();
    for (node, bounds) in bounds.iter().enumerate() {
        let (Some(bounds), Some((terms, weights))) = (bounds, network.linear(node)) else { continue };
        let terms = terms.iter().zip(&weights.terms).filter_map(|(term, array)| {
            let shape = conv_shape(term, network.tensors()[term.input()].shape)?;
            let weights = array.as_ref()?.as_standard_layout();
            let norms = budget::norms_per_output(&shape, weights.as_slice().expect("standard layout"));
            let largest = norms.into_iter().fold(Norms::default(), Norms::max);
            // The plan is public: it is made from what the norms may say of the weights.
            let class = largest.class(shape.fan_in());
            Some((shape, class))
        });
        // The bounds of a declared ring are its ends.
        let declared = architecture.ring(node).is_some();
        layers.push(Layer {
            name: architecture.nodes[node].name.clone(),
            ell: match declared {
                true => bounds.accumulator_bits(),
                false => accumulator_ring(network, node, bounds.range()).max(widths.least()),
            },
            declared,
            outputs: network.tensors()[node + 1].shape[0],
            terms: terms.collect(),
        });
    }
    layers
}
