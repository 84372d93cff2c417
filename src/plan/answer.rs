//! How the output is opened to the client: all values, or the index of the largest.

use std::sync::Arc;

use lowkey_mpc::argmax::{Argmax, MAX_CLASSES};
use lowkey_mpc::demand::Demand;
use lowkey_mpc::output;
use lowkey_mpc::program::Program;

use super::Reveal;
use crate::node::{Held, Holding, LayoutChoice, Operand, PlanError};

/// How the output is opened to the client.
#[derive(Debug)]
pub struct AnswerPlan {
    /// What is opened: an accumulator or a shared activation.
    pub operand: Operand,
    /// Number of values.
    pub lanes: usize,
    /// Width of a value: ell of an accumulator, the ring of an activation.
    pub bits: u32,
    /// Opens the values.
    pub logits: Arc<Program>,
    /// Opens the index of the largest; `None` for an output of one value. Takes a guard bit in any case.
    pub class: Option<Argmax>,
}

impl AnswerPlan {
    /// What its protocol spends in one inference.
    pub(crate) fn demand(&self, reveal: Reveal) -> Demand {
        match (reveal, &self.class) {
            (Reveal::Logits, _) => self.logits.demand() * self.lanes,
            (Reveal::Class, Some(argmax)) => argmax.demand(),
            (Reveal::Class, None) => Demand::ZERO,
        }
    }

    /// Width of a value.
    pub(crate) fn width(held: &Held<'_>) -> u32 {
        match held.holdings[held.output()] {
            Holding::Accumulator { ell } => ell,
            Holding::Shared { ring, .. } => ring,
            Holding::Small { .. } | Holding::Scaled { .. } | Holding::Truncated { .. } => {
                unreachable!("no output is held so")
            }
        }
    }

    pub(super) fn derive(held: &Held<'_>) -> Result<Self, PlanError> {
        let of_output = |source| PlanError::Layout { node: "output".into(), source };
        let operand = held.operand(held.output());
        let (lanes, bits) = (held.tensors[held.output()].elements(), Self::width(held));
        let logits = match operand {
            Operand::Accumulator(_) => output::logits(bits as usize),
            Operand::Shared(_) | Operand::Small(_) | Operand::Scaled(_) => output::reveal(bits as usize),
        };
        let class = match (lanes, &held.chosen.class) {
            (lanes, _) if !has_class(lanes) => None,
            (_, Some(LayoutChoice::Chain(chain))) => Some(Argmax::new(bits as usize, lanes, chain).map_err(of_output)?),
            _ => return Err(PlanError::Choice { node: None, what: "the layout of the arg max", value: 0 }),
        };
        Ok(Self { operand, lanes, bits, logits: Arc::new(logits.map_err(of_output)?), class })
    }
}

/// Whether the index of the largest of so many outputs can be opened alone. A detector's or a segmentation's outputs are no classes.
pub(crate) fn has_class(outputs: usize) -> bool {
    (2..=MAX_CLASSES).contains(&outputs)
}

// A network of more outputs has no class.
const _: () = assert!(MAX_CLASSES == lowkey_models::answer::MAX_CLASSES);
