//! Sums of convolutions, matrices and public multiples: evaluated on ciphertexts before the input is known, on plain integers after.

use lowkey_models::Term;

use super::holding::Demands;
use super::{ByTensor, Context, Holding, Operator, TensorId};

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

    fn ask(&self, made: TensorId, context: &Context<'_>, demands: &mut Demands) {
        let ell = context.ell(made.maker().expect("made by this node"));
        for term in self.terms {
            let spare = match term {
                Term::Identity { multiplier, .. } => multiplier.trailing_zeros().min(ell - 1),
                Term::Conv { .. } | Term::Dense { .. } => 0,
            };
            demands.at_least(TensorId::new(term.input()), ell - spare);
        }
    }

    fn holding(&self, made: TensorId, context: &Context<'_>, _: &Demands, _: &ByTensor<Holding>) -> Holding {
        Holding::Accumulator { ell: context.ell(made.maker().expect("made by this node")) }
    }
}
