//! Chooses parameter sets and roundings: those that cost the fewest bits.

use std::collections::HashMap;

use lowkey_bridge::budget::{self, Norms, Rounding};
use lowkey_bridge::conv::ConvShape;
use lowkey_bridge::{LayerParameters, Packing};
use lowkey_he::ParameterSet;
use lowkey_he::params;

use super::Widths;
use super::bands::Bodies;
use super::layers::Layer;
use crate::node::{LinearChoice, PlanError, SetChoice};
use crate::plan::MAX_PACKED;

/// How much a byte of the hint, sent once, weighs against a byte sent for every inference.
const HINT_WEIGHT: f64 = 1e-3;

/// The packing of one term, or why there is none.
fn packing(shape: &ConvShape, set: &ParameterSet) -> Result<Packing, String> {
    let packing = Packing::new(shape, set.degree).map_err(|error| error.to_string())?;
    match packing.size() {
        size if size <= MAX_PACKED => Ok(packing),
        size => Err(format!("it would take {size} words, at most {MAX_PACKED} are handled")),
    }
}

/// By layer and degree, what was computed before.
type KnownBodies = HashMap<(String, usize), Option<Bodies>>;

fn bodies(layer: &Layer, set: &ParameterSet, known: &mut KnownBodies) -> Option<Bodies> {
    *known.entry((layer.name.clone(), set.degree)).or_insert_with(|| {
        let packings = layer.terms.iter().map(|(shape, _)| packing(shape, set).ok());
        Some(Bodies::of(&packings.collect::<Option<Vec<_>>>()?))
    })
}

/// A parameter set with the bits that are rounded off each b*_0.
#[derive(Clone, Copy)]
struct Rounded {
    set: &'static ParameterSet,
    b0: u32,
}

/// How a layer runs under one [`Rounded`] set.
struct Fitting {
    rounding: Rounding,
    /// Of bodies, and of the hint by its weight.
    bits: f64,
    tiles: usize,
}

/// The fittings of one layer, by the number of the set and b0; none where nothing is encrypted.
type Fittings = HashMap<(u8, u32), Fitting>;

/// The cheapest assignment of parameter sets to layers, and of roundings to both. At most two sets are combined.
pub(super) fn choose(layers: &[Layer], widths: Widths) -> Result<(Vec<LinearChoice>, Vec<SetChoice>), PlanError> {
    let mut known = HashMap::new();
    let of_layer = |layer: &Layer| fittings(layer, widths, &mut known);
    let options: Vec<Fittings> = layers.iter().map(of_layer).collect::<Result<_, _>>()?;
    let mut best: Option<(f64, Vec<Rounded>)> = None;
    for sets in candidates(widths) {
        let Some(bits) = bits_under(&options, &sets) else { continue };
        if best.as_ref().is_none_or(|(least, _)| bits < *least) {
            best = Some((bits, sets));
        }
    }
    match best {
        Some((_, sets)) => Ok(assign(layers, &options, &sets)),
        // Some layers need one set and others another, beyond pairs.
        None => Err(PlanError::NothingFits {
            node: layers.first().map_or_else(String::new, |layer| layer.name.clone()),
            ell: layers.iter().map(|layer| layer.ell).max().unwrap_or(0),
            tried: vec!["the layers need more than two parameter sets together".into()],
        }),
    }
}

/// All ways to run one layer.
fn fittings(layer: &Layer, widths: Widths, known: &mut KnownBodies) -> Result<Fittings, PlanError> {
    let norms = layer.norms(1);
    let mut fits = HashMap::new();
    if norms.is_empty() {
        return Ok(fits);
    }
    for set in widths.sets() {
        for b0 in 0..set.torus_bits {
            let Some(rounding) = budget::largest_rounding(set, layer.ell, &norms, b0) else { break };
            let Some(bodies) = bodies(layer, set, known) else { break };
            let widths = LayerParameters { set, ell: layer.ell, rounding };
            let hint = (layer.terms.len() * layer.outputs * set.degree) as f64 * f64::from(widths.hint_width());
            let bits = bodies.bits(&widths) + HINT_WEIGHT * hint;
            fits.insert((set.id, b0), Fitting { rounding, bits, tiles: bodies.tiles });
        }
    }
    if fits.is_empty() { Err(nothing_fits(layer, &norms)) } else { Ok(fits) }
}

/// Every set and every pair of sets, with all roundings that are worth a look.
fn candidates(widths: Widths) -> impl Iterator<Item = Vec<Rounded>> {
    let roundings = |set: &'static ParameterSet| (0..set.torus_bits / 2).map(move |b0| Rounded { set, b0 });
    let singles = widths.sets().flat_map(roundings).map(|one| vec![one]);
    let pairs = widths.sets().enumerate().flat_map(move |(i, a)| {
        let others = widths.sets().skip(i + 1).flat_map(roundings);
        others.flat_map(move |b| roundings(a).map(move |a| vec![a, b]))
    });
    singles.chain(pairs)
}

/// Bits of an inference, the hints by their weight, where each layer takes the cheapest of `sets`; `None` if one fits none.
fn bits_under(options: &[Fittings], sets: &[Rounded]) -> Option<f64> {
    let (mut secrets, mut bits) = (vec![0; sets.len()], 0.0);
    for fits in options.iter().filter(|fits| !fits.is_empty()) {
        let (at, fitting) = cheapest(fits, sets)?;
        bits += fitting.bits;
        secrets[at] += fitting.tiles;
    }
    for (Rounded { set, b0 }, secrets) in sets.iter().zip(&secrets) {
        bits += (secrets * set.degree) as f64 * f64::from(set.torus_bits - b0);
    }
    Some(bits)
}

/// The choices of all layers, and the sets that are used, by their numbers.
fn assign(layers: &[Layer], options: &[Fittings], sets: &[Rounded]) -> (Vec<LinearChoice>, Vec<SetChoice>) {
    let mut used = vec![false; sets.len()];
    let mut linear = Vec::with_capacity(layers.len());
    for (layer, fits) in layers.iter().zip(options) {
        let mut choice = LinearChoice { ell: layer.ell, set: None, body_rounding: 0, hint_rounding: 0, bands: 1 };
        if let Some((at, Fitting { rounding, .. })) = cheapest(fits, sets) {
            used[at] = true;
            choice.set = Some(sets[at].set.id);
            choice.body_rounding = rounding.body;
            choice.hint_rounding = rounding.hint;
        }
        linear.push(choice);
    }
    let used = sets.iter().zip(used).filter(|(_, used)| *used);
    let mut sets: Vec<SetChoice> =
        used.map(|(Rounded { set, b0 }, _)| SetChoice { set: set.id, b0_rounding: *b0 }).collect();
    sets.sort_by_key(|choice| choice.set);
    (linear, sets)
}

/// Which of `sets` a layer takes, and how it runs under it.
fn cheapest<'a>(fits: &'a Fittings, sets: &[Rounded]) -> Option<(usize, &'a Fitting)> {
    let of = sets.iter().enumerate().filter_map(|(at, one)| Some((at, fits.get(&(one.set.id, one.b0))?)));
    of.min_by(|a, b| a.1.bits.total_cmp(&b.1.bits))
}

fn nothing_fits(layer: &Layer, norms: &[Norms]) -> PlanError {
    let tried = params::ALL.into_iter().map(|set| {
        let packed = layer.terms.iter().try_for_each(|(shape, _)| packing(shape, set).map(|_| ()));
        match packed {
            Err(error) => format!("{}: {error}", set.name),
            Ok(()) if layer.ell + 3 > set.torus_bits => format!("{}: the torus has {} bits", set.name, set.torus_bits),
            Ok(()) => {
                let margin = budget::margin_bits(set, layer.ell, norms, Rounding::default());
                format!("{}: its noise is {:.1} bits too large", set.name, -margin)
            }
        }
    });
    PlanError::NothingFits { node: layer.name.clone(), ell: layer.ell, tried: tried.collect() }
}
