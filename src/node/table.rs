//! Any function of a value of at most 8 bits, looked up in a public table. The values that it makes do not count from 0.

use lowkey_models::Op;
use lowkey_mpc::table;

use super::asked::Demands;
use super::choices::Chooses;
use super::context::{Before, Context, Held};
use super::step::{NonlinearKind, Step};
use super::{NodeId, Operator, PlanError, TensorId};

pub(super) struct Table<'a> {
    pub input: TensorId,
    pub table: &'a [i64],
}

impl Table<'_> {
    /// Width of an index, and an entry for each: indices beyond the input's range are not reachable.
    fn entries(&self, context: &Context<'_>) -> (u32, Vec<i64>) {
        let bits = context.widths[self.input];
        let mut entries = self.table.to_vec();
        entries.resize(1 << bits, self.table.first().copied().unwrap_or(0));
        (bits, entries)
    }
}

/// Width of an index of table `node`, and an entry for each; none of other nodes.
pub(crate) fn entries(context: &Context<'_>, node: NodeId) -> (u32, Vec<i64>) {
    let Op::Table { input, table } = context.op(node) else { return (0, Vec::new()) };
    Table { input: TensorId::new(*input), table }.entries(context)
}

impl Operator for Table<'_> {
    fn name(&self) -> &'static str {
        "table"
    }

    fn chooses(&self) -> Chooses {
        Chooses::Nothing
    }

    fn ask(&self, made: TensorId, context: &Context<'_>, demands: &mut Demands) {
        demands.at_least(self.input, context.widths[self.input]);
        demands.never_small(made);
    }

    fn step(&self, node: NodeId, held: &Held<'_>, _: Before<'_>) -> Result<Step, PlanError> {
        let (bits, entries) = self.entries(held);
        let programs = held.programs(node, |finish| table::program(bits as usize, &entries, finish))?;
        let widths = [bits, held.widths[node.output()]];
        Ok(held.nonlinear(node, held.operand(self.input), NonlinearKind::Table, widths, programs))
    }
}
