//! Chooses parameter sets and roundings: those that cost the fewest bits.

use std::collections::HashMap;

use lowkey_bridge::budget::{self, Norms, Rounding};
use lowkey_bridge::conv::ConvShape;
use lowkey_bridge::{LayerParameters, Packing};
use lowkey_he::ParameterSet;
use lowkey_he::params;

use super::Widths;
use super::layers::Layer;
use crate::node::{LinearChoice, PlanError, SetChoice};
use crate::plan::MAX_PACKED;

/// How much a byte of the hint, sent once, weighs against a byte sent for every inference.
const HINT_WEIGHT: f64 = 1e-3;

/// One layer under one parameter set: what its bodies cost.
#[derive(Clone, Copy)]
struct Bodies {
    low: usize,
    full: usize,
    tiles: usize,
}

/// The packing of one term, or why there is none.
fn packing(shape: &ConvShape, set: &ParameterSet) -> Result<Packing, String> {
    let packing = Packing::new(shape, set.degree).map_err(|error| error.to_string())?;
    match packing.size() {
        size if size <= MAX_PACKED => Ok(packing),
        size => Err(format!("it would take {size} words, at most {MAX_PACKED} are handled")),
    }
}

fn bodies(layer: &Layer, set: &ParameterSet, known: &mut HashMap<(String, usize), Option<Bodies>>) -> Option<Bodies> {
    *known.entry((layer.name.clone(), set.degree)).or_insert_with(|| {
        let mut sum = Bodies { low: 0, full: 0, tiles: 0 };
        for (shape, _) in &layer.terms {
            let packing = packing(shape, set).ok()?;
            let mut seen = vec![false; shape.input_len()];
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
        Some(sum)
    })
}

/// The cheapest assignment of parameter sets to layers, and of roundings to both. At most two sets are combined.
pub(super) fn choose(layers: &[Layer], widths: Widths) -> Result<(Vec<LinearChoice>, Vec<SetChoice>), PlanError> {
    let mut known = HashMap::new();
    // For every layer, set and r0: rounding and cost in bits, if it fits.
    let mut options: Vec<HashMap<(u8, u32), Fitting>> = Vec::with_capacity(layers.len());
    for layer in layers.iter() {
        let norms: Vec<Norms> = layer.terms.iter().map(|term| term.1).collect();
        let mut fits = HashMap::new();
        if !norms.is_empty() {
            for set in widths.sets() {
                for b0 in 0..set.torus_bits {
                    let Some(rounding) = budget::largest_rounding(set, layer.ell, &norms, b0) else { break };
                    let Some(bodies) = bodies(layer, set, &mut known) else { break };
                    let widths = LayerParameters { set, ell: layer.ell, rounding };
                    let bits = bodies.low as f64 * f64::from(widths.low_width())
                        + bodies.full as f64 * f64::from(widths.full_width());
                    let hint = (layer.terms.len() * layer.outputs * set.degree) as f64 * f64::from(widths.hint_width());
                    fits.insert((set.id, b0), (rounding, bits + HINT_WEIGHT * hint, bodies.tiles));
                }
            }
            if fits.is_empty() {
                return Err(nothing_fits(layer, &norms));
            }
        }
        options.push(fits);
    }

    let roundings = |set: &'static ParameterSet| (0..set.torus_bits / 2).map(move |b0| (set, b0));
    let singles = widths.sets().flat_map(roundings).map(|one| vec![one]);
    let pairs = widths.sets().enumerate().flat_map(|(i, a)| {
        let others = widths.sets().skip(i + 1).flat_map(roundings);
        others.flat_map(move |b| roundings(a).map(move |a| vec![a, b]))
    });
    let mut best: Option<(f64, Vec<(&'static ParameterSet, u32)>)> = None;
    for candidate in singles.chain(pairs) {
        let mut secrets = vec![0; candidate.len()];
        let mut cost = 0.0;
        let mut possible = true;
        for fits in options.iter().filter(|fits| !fits.is_empty()) {
            match cheapest(fits, &candidate) {
                Some((at, (_, bits, tiles))) => {
                    cost += bits;
                    secrets[at] += *tiles;
                }
                None => possible = false,
            }
        }
        if !possible {
            continue;
        }
        for ((set, b0), secrets) in candidate.iter().zip(&secrets) {
            cost += (secrets * set.degree) as f64 * f64::from(set.torus_bits - b0);
        }
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, candidate));
        }
    }
    let Some((_, sets)) = best else {
        // Some layers need one set and others another, beyond pairs.
        return Err(PlanError::NothingFits {
            node: layers.first().map_or_else(String::new, |layer| layer.name.clone()),
            ell: layers.iter().map(|layer| layer.ell).max().unwrap_or(0),
            tried: vec!["the layers need more than two parameter sets together".into()],
        });
    };

    let mut used = vec![false; sets.len()];
    let mut linear = Vec::with_capacity(layers.len());
    for (layer, fits) in layers.iter().zip(&options) {
        let mut choice = LinearChoice { ell: layer.ell, set: None, body_rounding: 0, hint_rounding: 0 };
        if let Some((at, (rounding, _, _))) = cheapest(fits, &sets) {
            used[at] = true;
            choice.set = Some(sets[at].0.id);
            choice.body_rounding = rounding.body;
            choice.hint_rounding = rounding.hint;
        }
        linear.push(choice);
    }
    let mut sets: Vec<SetChoice> = sets
        .iter()
        .zip(used)
        .filter(|(_, used)| *used)
        .map(|((set, b0_rounding), _)| SetChoice { set: set.id, b0_rounding: *b0_rounding })
        .collect();
    sets.sort_by_key(|choice| choice.set);
    Ok((linear, sets))
}

/// Rounding, cost in bits, tiles.
type Fitting = (Rounding, f64, usize);

fn cheapest<'a>(
    fits: &'a HashMap<(u8, u32), Fitting>,
    sets: &[(&'static ParameterSet, u32)],
) -> Option<(usize, &'a Fitting)> {
    let of = sets.iter().enumerate().filter_map(|(at, (set, b0))| Some((at, fits.get(&(set.id, *b0))?)));
    of.min_by(|a, b| a.1.1.total_cmp(&b.1.1))
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
