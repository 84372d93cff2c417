//! A multiplied accumulator: made exact in a wider ring, in which each party multiplies; or never made, where the requantisation that
//! reads it lets each party multiply and drop low bits.

use super::holding::Demands;
use super::{ByTensor, Context, Holding, Operator, TensorId};

pub(super) struct Scale;

impl Operator for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn ask(&self, _: TensorId, _: &Context<'_>, _: &mut Demands) {}

    fn holding(&self, made: TensorId, context: &Context<'_>, _: &Demands, _: &ByTensor<Holding>) -> Holding {
        let node = made.maker().expect("made by this node");
        let ell = context.ell(node);
        match context.choices.dropped(context.architecture, node) {
            Some(dropped) => Holding::Truncated { ell: ell - dropped },
            None => Holding::Scaled { ell },
        }
    }
}
