//! Sums of convolutions, matrices and public multiples: evaluated on ciphertexts before the input is known, on plain integers after.

use lowkey_bridge::share::GUARD_BITS;
use lowkey_models::{Op, Term};

use super::asked::Demands;
use super::choices::Chooses;
use super::context::{Before, Context, Held};
use super::halves::Halves;
use super::step::Step;
use super::{ByTensor, Holding, NodeId, Operator, PlanError, TensorId};

pub(super) struct Linear<'a> {
    pub terms: &'a [Term],
}

impl Operator for Linear<'_> {
    fn name(&self) -> &'static str {
        match self.terms {
            [Term::Dense { .. }] => "dense",
            [Term::Conv { groups: 1, .. }] => "conv",
            [Term::Conv { .. }] => "grouped conv",
            [Term::Identity { .. }, ..] => "sum",
            [] | [Term::Dense { .. } | Term::Conv { .. }, ..] => "conv and sum",
        }
    }

    fn chooses(&self) -> Chooses {
        Chooses::Linear
    }

    fn ask(&self, result: TensorId, context: &Context<'_>, demands: &mut Demands) {
        let ell = context.ell(result);
        for term in self.terms {
            let spare = match term {
                Term::Identity { multiplier, .. } => multiplier.trailing_zeros().min(ell - 1),
                Term::Conv { .. } | Term::Dense { .. } => 0,
            };
            demands.at_least(TensorId::new(term.input()), ell - spare);
        }
    }

    fn holding(&self, result: TensorId, context: &Context<'_>, _: &Demands, _: &ByTensor<Holding>) -> Holding {
        Holding::Accumulator { ell: context.ell(result) }
    }

    fn step(&self, node: NodeId, held: &Held<'_>, _: Before<'_>) -> Result<Step, PlanError> {
        let before = &held.architecture.nodes[..node.index()];
        Ok(Step::Linear(before.iter().filter(|node| matches!(node.op, Op::Linear { .. })).count()))
    }
}

/// Adds public multiples of activations to a share of an accumulator with a guard bit.
pub(crate) fn add_identities(halves: &Halves, identities: &[(TensorId, i64)], share: &mut [u64]) {
    for &(tensor, multiplier) in identities {
        for (sum, x) in share.iter_mut().zip(halves.shared[tensor].words()) {
            *sum = sum.wrapping_add(x.wrapping_mul((multiplier as u64) << GUARD_BITS));
        }
    }
}

/// Adds the server's biases to its share of an accumulator, channel by channel.
pub(crate) fn add_biases(biases: &[i64], share: &mut [u64]) {
    let pixels = share.len() / biases.len();
    for (channel, bias) in share.chunks_exact_mut(pixels).zip(biases) {
        let bias = (*bias as u64) << GUARD_BITS;
        channel.iter_mut().for_each(|v| *v = v.wrapping_add(bias));
    }
}
