//! Where the branches of a layer meet under one secret, and what their errors have in common there.
//!
//! Tile t of every branch is under secret t, with one b*_0. A pixel's value is the sum of one coefficient of each branch;
//! of branches whose tiles cut the image alike, these are under one secret, a public distance of coefficients apart.

use std::collections::{HashMap, HashSet};

use lowkey_he::hint::Draw;
use lowkey_he::noise::Cross;
use lowkey_he::params::ParameterSet;

use crate::keys::LinearWord;
use crate::layer::LayerPlan;

/// Two branches, and how far the coefficient of the second lies above that of the first.
type Pair = (usize, usize, isize);

/// All ways in which branches meet in a pixel.
#[derive(Debug)]
pub(crate) struct Meetings {
    pairs: Vec<Pair>,
    /// For every kind of pixel, which pairs meet in it.
    pixels: Vec<Vec<usize>>,
}

impl Meetings {
    pub(crate) fn new(plan: &LayerPlan) -> Self {
        let mut places = vec![vec![(0, 0); plan.pixels()]; plan.terms.len()];
        for (places, term) in places.iter_mut().zip(&plan.terms) {
            for (index, tile) in term.tiles.iter().enumerate() {
                tile.outputs().iter().for_each(|&(pixel, _, coefficient)| places[pixel] = (index, coefficient));
            }
        }
        let mut numbers: HashMap<Pair, usize> = HashMap::new();
        let mut pixels = HashSet::new();
        for pixel in 0..plan.pixels() {
            let mut met = Vec::new();
            for second in 1..places.len() {
                for first in 0..second {
                    let ((tile, from), (other, to)) = (places[first][pixel], places[second][pixel]);
                    if tile == other {
                        let next = numbers.len();
                        met.push(*numbers.entry((first, second, to as isize - from as isize)).or_insert(next));
                    }
                }
            }
            pixels.insert(met);
        }
        let mut pairs = vec![(0, 0, 0); numbers.len()];
        numbers.into_iter().for_each(|(pair, number)| pairs[number] = pair);
        Self { pairs, pixels: pixels.into_iter().collect() }
    }

    /// What the branches share in the pixel where it weighs most, given what was drawn for one output channel.
    pub(crate) fn cross<W: LinearWord>(&self, set: &ParameterSet, r0: u32, draws: &[Draw<W>]) -> Cross {
        let products = self.pairs.iter().map(|&(first, second, shift)| draws[first].products(&draws[second], shift));
        let products: Vec<(f64, f64)> = products.collect();
        let sums = self.pixels.iter().map(|met| {
            met.iter().fold(Cross::NONE, |sum, &pair| Cross {
                rerandomisers: sum.rerandomisers + 2.0 * products[pair].0,
                hint_errors: sum.hint_errors + 2.0 * products[pair].1,
            })
        });
        sums.max_by(|a, b| a.variance(set, r0).total_cmp(&b.variance(set, r0))).unwrap_or(Cross::NONE)
    }
}
