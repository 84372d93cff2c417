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
mod tests {
    use std::sync::Arc;

    use lowkey_he::mask::EpochSeed;
    use lowkey_he::noise::{self, Drawn, NoiseTerms};
    use lowkey_he::params::T32N1024;
    use lowkey_he::ring::Ring;
    use lowkey_he::{Evaluator, Hint, Rounding};

    use super::*;
    use crate::conv::ConvShape;
    use crate::linear::budget::{Norms, norms_per_output};
    use crate::linear::client::expand_masks;
    use crate::linear::keys::{self, SetPlan};
    use crate::linear::server::ServerLayer;
    use crate::{Packing, Publisher};

    const OUTPUTS: usize = 12;

    fn layer(kernels: &[(usize, usize)], side: usize, ell: u32, rounding: u32) -> (Vec<ConvShape>, LayerPlan) {
        let shapes = kernels.iter().map(|&(kernel, padding)| ConvShape::square(2, OUTPUTS, kernel, side, padding));
        let shapes: Vec<ConvShape> = shapes.collect();
        let parameters = LayerParameters { set: &T32N1024, ell, rounding: Rounding::all(rounding) };
        let terms = shapes.iter().enumerate().map(|(index, shape)| {
            TermPlan::new(index as u32, Packing::new(shape, T32N1024.degree).expect("small"), |_| index == 0)
        });
        let plan = LayerPlan { first_secret: 0, parameters, output: [OUTPUTS, side, side], terms: terms.collect() };
        (shapes, plan)
    }

    /// Weights of the first branch grow until the noise that is expected without common secrets just fits.
    fn tight(shapes: &[ConvShape], ell: u32, rounding: u32, spare: f64) -> Vec<Vec<i32>> {
        let mut weights: Vec<Vec<i32>> = shapes.iter().map(|s| vec![1; s.out_channels * s.fan_in()]).collect();
        let fits = |weights: &[Vec<i32>]| {
            let terms: Vec<NoiseTerms> =
                shapes.iter().zip(weights).map(|(s, w)| planned(norms_per_output(s, w)[0], rounding)).collect();
            noise::margin_bits(&T32N1024, ell, &terms, Cross::NONE) >= spare
        };
        assert!(fits(&weights));
        loop {
            let mut more = weights.clone();
            more[0].iter_mut().step_by(shapes[0].fan_in()).for_each(|w| *w += 1);
            if !fits(&more) {
                return weights;
            }
            weights = more;
        }
    }

    fn planned(norms: Norms, rounding: u32) -> NoiseTerms {
        NoiseTerms::planned(&T32N1024, norms, Rounding::all(rounding))
    }

    /// The vector that multiplies the secret's coefficients in coefficient k of a product with `v`.
    fn turned(v: &[i64], k: usize) -> impl Iterator<Item = i64> + '_ {
        (0..v.len()).map(move |i| if i <= k { v[k - i] } else { -v[v.len() + k - i] })
    }

    /// Every output of a publication satisfies the bound with what was drawn, by the definition: the vectors of all branches
    /// that are under one secret are added, then their norm is taken. A check of one branch at a time does not see to that.
    #[test]
    fn a_publication_satisfies_the_bound_with_what_was_drawn() {
        let set = &T32N1024;
        let ring = Ring::<u32>::shared(set).unwrap();
        let kernels = [(3, 1), (1, 0), (5, 2), (3, 1), (1, 0), (3, 1)];
        for (branches, side, ell, rounding, spare) in
            [(2, 6, 10, 12, 0.02), (3, 6, 10, 11, 0.02), (4, 40, 9, 12, 0.05), (6, 6, 9, 12, 0.02)]
        {
            let kernels = &kernels[..branches];
            let (shapes, plan) = layer(kernels, side, ell, rounding);
            let secrets = plan.secrets();
            let weights = tight(&shapes, ell, rounding, spare);
            let weights: Vec<&[i32]> = weights.iter().map(Vec::as_slice).collect();
            let (plan, epoch) = (Arc::new(plan), EpochSeed([7; 32]));
            let masks = keys::rerandomiser_masks(&[SetPlan { set, secrets, b0_rounding: rounding }], &epoch).unwrap();
            let publisher = Publisher { epoch: &epoch, masks: &masks, server_key: &[1; 32], context: &[2; 32] };
            let (server, hint) = ServerLayer::<u32>::publish(plan.clone(), &weights, &publisher).unwrap();
            let mask0 = masks.get::<u32>(set).unwrap();

            // u and delta of every branch and output.
            let unit = ring.forward(&std::array::from_fn::<u32, 1024, _>(|i| u32::from(i == 0)));
            let mut hints = hint.chunks_exact(Hint::byte_len(ring, rounding));
            let mut drawn: Vec<Vec<[Vec<i64>; 2]>> = Vec::new();
            for (index, term) in plan.terms.iter().enumerate() {
                let masks = expand_masks(ring, &epoch, term);
                let own = (0..OUTPUTS).map(|output| {
                    let hint = Hint::<u32>::from_bytes(ring, rounding, hints.next().unwrap()).unwrap();
                    let polynomials = term.packing.weight_polynomials(output, weights[index]);
                    let products = polynomials.iter().map(|own| (&masks[own.ciphertext], own.terms.as_slice()));
                    let evaluated = Evaluator::new(ring).evaluate(products).unwrap();
                    let u = server.rerandomiser(index, output);
                    let exact = u.apply(mask0.ntt());
                    let delta = hint.coefficients().iter().zip(&evaluated).zip(exact.iter());
                    let delta = delta.map(|((h, e), x)| i64::from(h.wrapping_sub(*e).wrapping_sub(*x) as i32));
                    let u = u.apply(&unit).iter().map(|u| i64::from(*u as i32)).collect();
                    [u, delta.collect()]
                });
                drawn.push(own.collect());
            }

            let mut worst = f64::INFINITY;
            for output in 0..OUTPUTS {
                let terms = shapes.iter().zip(&weights).map(|(s, w)| norms_per_output(s, w)[output]);
                let norms = terms.fold(Norms::default(), |sum, own| Norms {
                    norm2: sum.norm2 + own.norm2,
                    norm1: sum.norm1 + own.norm1,
                });
                for pixel in (0..plan.pixels()).step_by(if side > 10 { 37 } else { 1 }) {
                    // By secret: the sum of the branches' vectors.
                    let mut sums: HashMap<usize, [Vec<i64>; 2]> = HashMap::new();
                    for (term, drawn) in plan.terms.iter().zip(&drawn) {
                        let found = term.tiles.iter().enumerate().find_map(|(index, tile)| {
                            let output = tile.outputs.iter().find(|output| output.pixel == pixel)?;
                            Some((index, output.coefficient))
                        });
                        let (secret, coefficient) = found.expect("every pixel is somewhere");
                        let sum = sums.entry(secret).or_insert_with(|| [vec![0; 1024], vec![0; 1024]]);
                        for (sum, v) in sum.iter_mut().zip(&drawn[output]) {
                            sum.iter_mut().zip(turned(v, coefficient)).for_each(|(sum, v)| *sum += v);
                        }
                    }
                    let norm = |part: usize| {
                        sums.values().flat_map(|sum| &sum[part]).map(|&x| (x as f64).powi(2)).sum::<f64>()
                    };
                    let all = NoiseTerms {
                        weights: norms,
                        drawn: Drawn { rerandomiser_norm2: norm(0), hint_error_norm2: norm(1) },
                        rounding: Rounding::all(rounding),
                    };
                    let means = (norms.norm1 + (2 * kernels.len() * 1024) as f64) / 2.0;
                    let required = noise::KAPPA * all.variance(set).sqrt() + means;
                    worst = worst.min((noise::allowed(ell, 32) / required).log2());
                }
            }
            println!("{kernels:?}: {worst:.4} bits left in the worst output");
            assert!(worst >= -1e-9, "{kernels:?}: {worst}");
            assert!(worst < 0.1, "{kernels:?}: {worst} is not tight");
        }
    }
}
