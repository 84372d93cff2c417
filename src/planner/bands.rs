//! Chooses how many output channels share an output ciphertext ([`Packing::banded`]): more make a layer's hint smaller, and save both parties
//! products of polynomials, but every input takes more bodies.

use lowkey_bridge::{LayerParameters, Packing, budget};
use lowkey_he::ParameterSet;

use super::layers::Layer;
use crate::node::{LinearChoice, SetChoice};
use crate::plan::MAX_PACKED;

/// How many bits of the hint, sent once, one bit more for every inference has to save. A hint of N = 2048 coefficients, some 9 kB, costs each
/// party a product of polynomials in every inference, 25 to 45 microseconds: as long as 0.3 to 0.6 kB take on 100 Mbit/s. So on any
/// link the bits that are sent more take no longer than the products that are saved.
const HINT_PER_BODY: f64 = 16.0;
/// Hints of fewer bits, 1 MiB, are left as they are.
const LEAST_HINT: f64 = 8.0 * 1048576.0;
/// Most channels of an output ciphertext.
const MOST: usize = 64;

/// Bodies of one layer under one parameter set.
#[derive(Clone, Copy)]
pub(super) struct Bodies {
    /// Those that define a pad: only their low bits travel.
    low: usize,
    /// The others.
    full: usize,
    /// Secrets, the most of any term.
    pub tiles: usize,
}

impl Bodies {
    /// Of the terms of a layer, as if each read a tensor of its own.
    pub fn of(packings: &[Packing]) -> Self {
        let mut sum = Self { low: 0, full: 0, tiles: 0 };
        for packing in packings {
            let mut seen = vec![false; packing.shape().input_len()];
            for index in 0..packing.tiles() {
                for body in packing.tile(index).bodies {
                    match body.element {
                        Some(element) if !std::mem::replace(&mut seen[element as usize], true) => sum.low += 1,
                        _ => sum.full += 1,
                    }
                }
            }
            sum.tiles = sum.tiles.max(packing.tiles());
        }
        sum
    }

    /// Bits on the wire.
    pub fn bits(&self, widths: &LayerParameters) -> f64 {
        self.low as f64 * f64::from(widths.low_width()) + self.full as f64 * f64::from(widths.full_width())
    }
}

/// Raises the number of bands where that pays.
pub(super) fn choose(layers: &[Layer], sets: &[SetChoice], choices: &mut [LinearChoice]) {
    for (layer, choice) in layers.iter().zip(choices) {
        let set = sets.iter().find(|set| Some(set.set) == choice.set);
        if let Some((set, b0)) = set.and_then(|own| Some((ParameterSet::by_id(own.set)?, own.b0_rounding))) {
            choose_one(layer, set, b0, choice);
        }
    }
}

fn choose_one(layer: &Layer, set: &'static ParameterSet, b0: u32, choice: &mut LinearChoice) {
    let Some(plain) = Way::new(layer, set, b0, 1) else { return };
    if plain.hint < LEAST_HINT {
        return;
    }
    let mut best = plain;
    let mut bands = 2;
    while let Some(option) = (bands <= MOST).then(|| Way::new(layer, set, b0, bands)).flatten() {
        if option.cost() < best.cost() {
            best = option;
        }
        bands *= 2;
    }
    choice.bands = best.bands as u32;
    choice.body_rounding = best.parameters.rounding.body;
    choice.hint_rounding = best.parameters.rounding.hint;
}

/// A layer with some number of bands.
struct Way {
    bands: usize,
    parameters: LayerParameters,
    /// Bits of the bodies of an inference.
    bodies: f64,
    /// Bits of the hint.
    hint: f64,
}

impl Way {
    /// `None` if the layer does not fit so.
    fn new(layer: &Layer, set: &'static ParameterSet, b0: u32, bands: usize) -> Option<Self> {
        let packings = layer.terms.iter().map(|(shape, _)| Packing::banded(shape, set.degree, bands));
        let packings: Vec<Packing> = packings.collect::<Option<_>>()?;
        if packings.iter().any(|packing| packing.size() > MAX_PACKED) {
            return None;
        }
        let rounding = budget::largest_rounding(set, layer.ell, &layer.norms(bands), b0)?;
        let parameters = LayerParameters { set, ell: layer.ell, rounding };
        let hints: usize = packings.iter().map(Packing::output_ciphertexts).sum();
        let hint = (hints * set.degree) as f64 * f64::from(parameters.hint_width());
        Some(Self { bands, parameters, bodies: Bodies::of(&packings).bits(&parameters), hint })
    }

    /// Bits of an inference, the hint by its weight.
    fn cost(&self) -> f64 {
        self.bodies + self.hint / HINT_PER_BODY
    }
}
