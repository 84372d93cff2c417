//! hint_o = sum_j w_oj a_j + a*_0 u_o + e_o of every output ciphertext: what the server publishes of a layer, once per model.
//!
//! All terms of an output are drawn together, since the exactness of their sum is judged together (`meetings`). u_o and e_o
//! are functions of the server's key and of everything that the hint is made of.

use std::sync::Arc;

use lowkey_he::context::{OutputContext, Widths};
use lowkey_he::evaluate::Evaluator;
use lowkey_he::hint::{Draw, Hint, Rerandomiser, publication_rng, publish};
use lowkey_he::mask::{EpochSeed, Mask};
use lowkey_he::noise::{self, NoiseTerms};
use lowkey_he::ring::Ring;
use lowkey_he::with_word;
use rand::CryptoRng;
use rayon::prelude::*;
use zeroize::Zeroizing;

use super::budget::{Norms, norms_per_ciphertext};
use super::by_set::LinearWord;
use super::keys::RerandomiserMasks;
use super::layer::{Kept, LayerPlan, TermPlan};
use super::meetings::Meetings;
use super::packing::{PACKING_VERSION, Packing};
use super::server::{ServerLayer, ServerLinear};
use crate::error::BridgeError;

/// What the server needs beside the plan to publish a layer.
pub struct Publisher<'a> {
    /// Public seed of the masks.
    pub epoch: &'a EpochSeed,
    /// a*_0 of every set.
    pub masks: &'a RerandomiserMasks,
    /// Secret; the hint's randomness is a function of it, of `context`, and of what is evaluated.
    pub server_key: &'a [u8; 32],
    /// Digest of the plan and of all weights. What else an output depends on (weight polynomials, masks, parameters) is added
    /// for each output ([`OutputContext`]).
    pub context: &'a [u8; 32],
    /// In which form the server keeps what re-randomises hints.
    pub kept: Kept,
}

/// Publishes a layer: the server's half, and the hint's bytes. `weights` has, per term, `[out, in / groups, kernel]`.
///
/// # Errors
/// When the noise check fails for an output ciphertext: the plan's parameters do not suit these weights.
pub fn publish_layer(
    plan: Arc<LayerPlan>,
    weights: &[&[i32]],
    publisher: &Publisher<'_>,
) -> Result<(Box<dyn ServerLinear>, Vec<u8>), BridgeError> {
    with_word!(plan.parameters.set, W => {
        let (layer, hint) = ServerLayer::<W>::publish(plan, weights, publisher)?;
        Ok((Box::new(layer), hint))
    })
}

impl<W: LinearWord> ServerLayer<W> {
    pub(crate) fn publish(
        plan: Arc<LayerPlan>,
        weights: &[&[i32]],
        publisher: &Publisher<'_>,
    ) -> Result<(Self, Vec<u8>), BridgeError> {
        let layer = plan.terms[0].layer;
        let rng = |context: &[u8; 32], output| publication_rng(publisher.server_key, context, layer, output);
        Self::publish_with(plan, weights, publisher, rng)
    }

    /// Publishes with the generator `rng(context, output)` for the (u_o, e_o) of all terms.
    pub(crate) fn publish_with<R: CryptoRng>(
        plan: Arc<LayerPlan>,
        weights: &[&[i32]],
        publisher: &Publisher<'_>,
        rng: impl Fn(&[u8; 32], u32) -> R + Sync,
    ) -> Result<(Self, Vec<u8>), BridgeError> {
        let publication = Publication::<W>::new(&plan, weights, publisher)?;
        let outputs = (0..plan.output_ciphertexts()).into_par_iter().map(|output| publication.output(output, &rng));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        let (hint, rerandomisers) = by_term(outputs, plan.terms.len());
        Ok((Self::new(plan, weights, rerandomisers), hint))
    }
}

/// What the outputs of a layer's publication have in common.
struct Publication<'a, W: LinearWord> {
    plan: &'a LayerPlan,
    weights: &'a [&'a [i32]],
    /// a*_0.
    mask0: &'a Mask<W>,
    /// a_j of each term.
    masks: Vec<Vec<Mask<W>>>,
    /// Of each term, by output.
    norms: Vec<Vec<Norms>>,
    meetings: Meetings,
    context: OutputContext,
    kept: Kept,
}

/// A hint's bytes, and what the server keeps of it.
type OfTerm<W> = (Vec<u8>, Rerandomiser<W>);

/// The masks of one output, evaluated.
struct Evaluated<W> {
    /// sum_j w_oj a_j, by term.
    sums: Vec<Vec<W>>,
    /// Digest of all that they are made of.
    context: Zeroizing<[u8; 32]>,
}

impl<'a, W: LinearWord> Publication<'a, W> {
    fn new(plan: &'a LayerPlan, weights: &'a [&[i32]], publisher: &Publisher<'a>) -> Result<Self, BridgeError> {
        let parameters = &plan.parameters;
        let ring = Ring::<W>::shared(parameters.set)?;
        let mask0 = publisher.masks.get::<W>(parameters.set)?;
        let widths = Widths { ell: parameters.ell, rounding: parameters.rounding };
        let terms = || plan.terms.iter();
        Ok(Self {
            plan,
            weights,
            mask0,
            masks: terms().map(|term| term.masks(ring, publisher.epoch)).collect(),
            norms: terms().zip(weights).map(|(term, own)| norms_of(&term.packing, own)).collect(),
            meetings: Meetings::new(plan),
            context: OutputContext::new(publisher.context, PACKING_VERSION, publisher.epoch, mask0, widths),
            kept: publisher.kept,
        })
    }

    /// The hints of one output and what the server keeps of them, by term.
    fn output<R: CryptoRng>(
        &self,
        output: usize,
        rng: impl Fn(&[u8; 32], u32) -> R,
    ) -> Result<Vec<OfTerm<W>>, BridgeError> {
        // sum_j w_oj a_j, and the digest of all that it is made of.
        let evaluated = self.evaluate(output)?;
        // u_o and e_o of all terms, again if the noise of their sum is too large.
        let mut rng = rng(&evaluated.context, output as u32);
        let fits = |draws: &[Draw<W>]| self.margin_bits(output, draws) >= 0.0;
        let published = publish(&evaluated.sums, self.mask0, &mut rng, self.plan.parameters.rounding.hint, fits)?;
        let keep = |((hint, mut rerandomiser), term): ((Hint<W>, Rerandomiser<W>), &TermPlan)| {
            if !term.keeps_transforms(self.kept) {
                rerandomiser.compact();
            }
            rerandomiser.shorten(self.plan.parameters.rounding.b0);
            (hint.to_bytes(), rerandomiser)
        };
        Ok(published.into_iter().zip(&self.plan.terms).map(keep).collect())
    }

    /// The masks of every term evaluated with the weights of one output.
    fn evaluate(&self, output: usize) -> Result<Evaluated<W>, BridgeError> {
        let (mut context, mut evaluator) = (self.context.clone(), Evaluator::new(self.mask0.ring()));
        let mut sums = Vec::with_capacity(self.plan.terms.len());
        for ((term, weights), masks) in self.plan.terms.iter().zip(self.weights).zip(&self.masks) {
            let polynomials = term.packing.weight_polynomials(output, weights);
            let products = polynomials.iter().map(|own| (&masks[own.ciphertext], own.terms.as_slice()));
            let sum = evaluator.evaluate(products)?;
            context.branch(term.layer, &polynomials, &sum);
            sums.push(sum);
        }
        Ok(Evaluated { sums, context: context.finish() })
    }

    /// log2 of the noise allowed over that of one output with what was drawn for its terms.
    fn margin_bits(&self, output: usize, draws: &[Draw<W>]) -> f64 {
        let parameters = &self.plan.parameters;
        let terms = self.norms.iter().zip(draws).map(|(norms, draw)| NoiseTerms {
            weights: norms[output],
            drawn: draw.drawn(),
            rounding: parameters.rounding,
        });
        let terms: Vec<NoiseTerms> = terms.collect();
        noise::margin_bits(parameters.set, parameters.ell, &terms, self.meetings.cross(parameters, draws))
    }
}

fn norms_of(packing: &Packing, weights: &[i32]) -> Vec<Norms> {
    norms_per_ciphertext(packing.shape(), packing.bands(), weights)
}

/// The hints' bytes and the rerandomisers, by term and then by output.
fn by_term<W: LinearWord>(outputs: Vec<Vec<OfTerm<W>>>, terms: usize) -> (Vec<u8>, Vec<Vec<Rerandomiser<W>>>) {
    let mut hints = vec![Vec::new(); terms];
    let mut rerandomisers: Vec<Vec<_>> = (0..terms).map(|_| Vec::new()).collect();
    for output in outputs {
        for (term, (hint, rerandomiser)) in output.into_iter().enumerate() {
            hints[term].extend_from_slice(&hint);
            rerandomisers[term].push(rerandomiser);
        }
    }
    (hints.concat(), rerandomisers)
}
