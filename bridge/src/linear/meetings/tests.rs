//! Every output of a publication satisfies the bound with what was drawn, by the definition.

use std::sync::Arc;

use lowkey_he::mask::{EpochSeed, Mask};
use lowkey_he::noise::{self, Drawn, NoiseTerms};
use lowkey_he::params::T32N1024;
use lowkey_he::ring::Ring;
use lowkey_he::{Evaluator, Hint, Rounding};

use super::*;
use crate::conv::ConvShape;
use crate::linear::budget::{Norms, norms_per_output};
use crate::linear::keys::{self, SetPlan};
use crate::linear::server::ServerLayer;
use crate::{Kept, Packing, Publisher};

const OUTPUTS: usize = 12;
const EPOCH: EpochSeed = EpochSeed([7; 32]);

/// A layer whose weights use up what its plan allows for, but for `spare` bits.
struct Case {
    shapes: Vec<ConvShape>,
    plan: Arc<LayerPlan>,
    weights: Vec<Vec<i32>>,
}

/// u and delta of one output of one branch.
struct Small {
    u: Vec<i64>,
    delta: Vec<i64>,
}

impl Case {
    fn new(kernels: &[(usize, usize)], side: usize, ell: u32, rounding: u32, spare: f64) -> Self {
        let shapes = kernels.iter().map(|&(kernel, padding)| ConvShape::square(2, OUTPUTS, kernel, side, padding));
        let shapes: Vec<ConvShape> = shapes.collect();
        let parameters = LayerParameters { set: &T32N1024, ell, rounding: Rounding::all(rounding) };
        let terms = shapes.iter().enumerate().map(|(index, shape)| {
            TermPlan::new(index as u32, Packing::new(shape, T32N1024.degree).expect("small"), |_| index == 0)
        });
        let plan = LayerPlan { first_secret: 0, parameters, output: [OUTPUTS, side, side], terms: terms.collect() };
        let weights = shapes.iter().map(|s| vec![1; s.out_channels * s.fan_in()]).collect();
        let mut case = Self { shapes, plan: Arc::new(plan), weights };
        case.fill(spare);
        case
    }

    /// Weights of the first branch grow until the noise that is expected without common secrets just fits.
    fn fill(&mut self, spare: f64) {
        let parameters = self.plan.parameters;
        let fits = |case: &Self| {
            let planned = |norms| NoiseTerms::planned(parameters.set, norms, parameters.rounding);
            let terms: Vec<NoiseTerms> = case.norms(0).into_iter().map(planned).collect();
            noise::margin_bits(parameters.set, parameters.ell, &terms, Cross::NONE) >= spare
        };
        assert!(fits(self));
        while fits(self) {
            self.grow(1);
        }
        self.grow(-1);
    }

    /// Adds to a weight of every output of the first branch.
    fn grow(&mut self, by: i32) {
        self.weights[0].iter_mut().step_by(self.shapes[0].fan_in()).for_each(|weight| *weight += by);
    }

    /// Of every branch of one output.
    fn norms(&self, output: usize) -> Vec<Norms> {
        self.shapes.iter().zip(&self.weights).map(|(shape, own)| norms_per_output(shape, own)[output]).collect()
    }

    /// Publishes; u and delta of every branch and output, from what is published and kept.
    fn publish(&self) -> Vec<Vec<Small>> {
        let (set, rounding) = (self.plan.parameters.set, self.plan.parameters.rounding);
        let sets = [SetPlan { set, secrets: self.plan.secrets(), b0_rounding: rounding.b0 }];
        let masks = keys::rerandomiser_masks(&sets, &EPOCH).unwrap();
        let publisher =
            Publisher { epoch: &EPOCH, masks: &masks, server_key: &[1; 32], context: &[2; 32], kept: Kept::Ready };
        let weights: Vec<&[i32]> = self.weights.iter().map(Vec::as_slice).collect();
        let (server, hint) = ServerLayer::<u32>::publish(self.plan.clone(), &weights, &publisher).unwrap();
        let mask0 = masks.get::<u32>(set).unwrap();
        let mut hints = hint.chunks_exact(self.plan.one_hint_len());
        let mut branch = |index: usize| {
            let masks = self.plan.terms[index].masks(mask0.ring(), &EPOCH);
            let output = |output| {
                let hint = Hint::from_bytes(mask0.ring(), rounding.hint, hints.next().unwrap()).unwrap();
                self.small(&server, index, output, &hint, &masks, mask0)
            };
            (0..OUTPUTS).map(output).collect()
        };
        (0..self.shapes.len()).map(&mut branch).collect()
    }

    /// u * 1, and hint - sum w a - a0 u.
    fn small(
        &self,
        server: &ServerLayer<u32>,
        index: usize,
        output: usize,
        hint: &Hint<u32>,
        masks: &[Mask<u32>],
        mask0: &Mask<u32>,
    ) -> Small {
        let ring: &Ring<u32> = mask0.ring();
        let unit = ring.forward(&std::array::from_fn::<u32, 1024, _>(|i| u32::from(i == 0)));
        let polynomials = self.plan.terms[index].packing.weight_polynomials(output, &self.weights[index]);
        let products = polynomials.iter().map(|own| (&masks[own.ciphertext], own.terms.as_slice()));
        let evaluated = Evaluator::new(mask0.ring()).evaluate(products).unwrap();
        let u = server.rerandomiser(index, output);
        let exact = u.apply(mask0.ntt());
        let delta = hint.coefficients().iter().zip(&evaluated).zip(exact.iter());
        Small {
            u: u.apply(&unit).iter().map(|u| i64::from(*u as i32)).collect(),
            delta: delta.map(|((h, e), x)| i64::from(h.wrapping_sub(*e).wrapping_sub(*x) as i32)).collect(),
        }
    }

    /// Squared norms of what multiplies e*_0 and s in one pixel: the vectors of the branches under one secret are added first.
    fn drawn_at(&self, pixel: usize, output: usize, branches: &[Vec<Small>]) -> Drawn {
        let mut sums: HashMap<usize, Small> = HashMap::new();
        for (term, outputs) in self.plan.terms.iter().zip(branches) {
            let found = term.tiles.iter().enumerate().find_map(|(index, tile)| {
                let output = tile.outputs.iter().find(|output| output.pixel == pixel)?;
                Some((index, output.coefficient))
            });
            let (secret, coefficient) = found.expect("every pixel is somewhere");
            let sum = sums.entry(secret).or_insert_with(|| Small { u: vec![0; 1024], delta: vec![0; 1024] });
            sum.u.iter_mut().zip(turned(&outputs[output].u, coefficient)).for_each(|(sum, v)| *sum += v);
            sum.delta.iter_mut().zip(turned(&outputs[output].delta, coefficient)).for_each(|(sum, v)| *sum += v);
        }
        let norm2 = |v: &[i64]| v.iter().map(|&x| (x as f64).powi(2)).sum::<f64>();
        Drawn {
            rerandomiser_norm2: sums.values().map(|sum| norm2(&sum.u)).sum(),
            hint_error_norm2: sums.values().map(|sum| norm2(&sum.delta)).sum(),
        }
    }

    /// log2 of the noise allowed over that of one pixel of one output.
    fn margin_bits(&self, pixel: usize, output: usize, branches: &[Vec<Small>]) -> f64 {
        let LayerParameters { set, ell, rounding } = self.plan.parameters;
        let weights = self
            .norms(output)
            .into_iter()
            .fold(Norms::default(), |sum, own| Norms { norm2: sum.norm2 + own.norm2, norm1: sum.norm1 + own.norm1 });
        let all = NoiseTerms { weights, drawn: self.drawn_at(pixel, output, branches), rounding };
        let means = (weights.norm1 + (2 * branches.len() * set.degree) as f64) / 2.0;
        let required = noise::KAPPA * all.variance(set).sqrt() + means;
        (noise::allowed(set, ell) / required).log2()
    }
}

/// The vector that multiplies the secret's coefficients in coefficient k of a product with `v`.
fn turned(v: &[i64], k: usize) -> impl Iterator<Item = i64> + '_ {
    (0..v.len()).map(move |i| if i <= k { v[k - i] } else { -v[v.len() + k - i] })
}

/// A check of one branch at a time does not see to that.
#[test]
fn a_publication_satisfies_the_bound_with_what_was_drawn() {
    let kernels = [(3, 1), (1, 0), (5, 2), (3, 1), (1, 0), (3, 1)];
    for (branches, side, ell, rounding, spare) in
        [(2, 6, 10, 12, 0.02), (3, 6, 10, 11, 0.02), (4, 40, 9, 12, 0.05), (6, 6, 9, 12, 0.02)]
    {
        let kernels = &kernels[..branches];
        let case = Case::new(kernels, side, ell, rounding, spare);
        let drawn = case.publish();
        let mut worst = f64::INFINITY;
        for output in 0..OUTPUTS {
            for pixel in (0..side * side).step_by(if side > 10 { 37 } else { 1 }) {
                worst = worst.min(case.margin_bits(pixel, output, &drawn));
            }
        }
        println!("{kernels:?}: {worst:.4} bits left in the worst output");
        assert!(worst >= -1e-9, "{kernels:?}: {worst}");
        assert!(worst < 0.1, "{kernels:?}: {worst} is not tight");
    }
}
