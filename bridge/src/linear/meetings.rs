//! Where the branches of a layer meet under one secret, and what their errors have in common there.
//!
//! Tile t of every branch is under the layer's secret t, with one b*_0. A pixel's value is the sum of one coefficient of each branch;
//! of branches whose tiles cut the image alike, these are under one secret, a public distance of coefficients apart.

use std::collections::{HashMap, HashSet};

use lowkey_he::hint::Draw;
use lowkey_he::noise::Cross;

use super::by_set::LinearWord;
use super::layer::{LayerPlan, TermPlan};
use crate::parameters::LayerParameters;

/// Two branches, and how far the coefficient of the second lies above that of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pair {
    first: usize,
    second: usize,
    shift: isize,
}

/// Where the value of a branch in a pixel comes from.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    tile: usize,
    coefficient: usize,
}

/// All ways in which branches meet in a pixel.
#[derive(Debug)]
pub(crate) struct Meetings {
    pairs: Vec<Pair>,
    /// For every kind of pixel, which pairs meet in it.
    pixels: Vec<Vec<usize>>,
}

impl Meetings {
    pub(crate) fn new(plan: &LayerPlan) -> Self {
        let places: Vec<Vec<Place>> = plan.terms.iter().map(|term| places(term, plan.pixels())).collect();
        let mut numbers: HashMap<Pair, usize> = HashMap::new();
        let mut pixels = HashSet::new();
        for pixel in 0..plan.pixels() {
            let mut met = Vec::new();
            for second in 1..places.len() {
                for first in 0..second {
                    let (a, b) = (places[first][pixel], places[second][pixel]);
                    if a.tile == b.tile {
                        let next = numbers.len();
                        let shift = b.coefficient as isize - a.coefficient as isize;
                        met.push(*numbers.entry(Pair { first, second, shift }).or_insert(next));
                    }
                }
            }
            pixels.insert(met);
        }
        let mut pairs: Vec<(Pair, usize)> = numbers.into_iter().collect();
        pairs.sort_unstable_by_key(|&(_, number)| number);
        Self { pairs: pairs.into_iter().map(|(pair, _)| pair).collect(), pixels: pixels.into_iter().collect() }
    }

    /// What the branches share in the pixel where it weighs most, given what was drawn for one output channel.
    pub(crate) fn cross<W: LinearWord>(&self, parameters: &LayerParameters, draws: &[Draw<W>]) -> Cross {
        let pairs = self.pairs.iter().map(|pair| draws[pair.first].cross(&draws[pair.second], pair.shift));
        let pairs: Vec<Cross> = pairs.collect();
        let sums = self.pixels.iter().map(|met| met.iter().fold(Cross::NONE, |sum, &pair| sum + pairs[pair]));
        let variance = |cross: &Cross| cross.variance(parameters.set, parameters.rounding);
        sums.max_by(|a, b| variance(a).total_cmp(&variance(b))).unwrap_or(Cross::NONE)
    }
}

/// Tile and coefficient of every pixel of a branch.
fn places(term: &TermPlan, pixels: usize) -> Vec<Place> {
    let mut places = vec![Place::default(); pixels];
    for (index, tile) in term.tiles.iter().enumerate() {
        for output in &tile.outputs {
            places[output.pixel] = Place { tile: index, coefficient: output.coefficient };
        }
    }
    places
}

#[cfg(test)]
mod tests;
