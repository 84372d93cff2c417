//! Any function of a value of at most 8 bits, looked up in a public table. The values that it makes do not count from 0.

use super::holding::Demands;
use super::{Context, Operator, TensorId};

pub(super) struct Table {
    pub input: TensorId,
}

impl Operator for Table {
    fn name(&self) -> &'static str {
        "table"
    }

    fn ask(&self, made: TensorId, context: &Context<'_>, demands: &mut Demands) {
        demands.at_least(self.input, context.widths[self.input]);
        demands.never_small(made);
    }
}
