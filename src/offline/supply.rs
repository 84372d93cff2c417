//! Agreeing on OTs as the plan says ([`Plan::ot_parts`]). Both parties call at the same times; each part takes three flights.

use std::collections::VecDeque;

use lowkey_mpc::channel::Channel;
use lowkey_mpc::ot::{Correlations, OtCount};

use crate::error::Result;
use crate::plan::{NodeId, Plan, Reveal};
use crate::scope::OT;

/// What is to be agreed on yet, in order: before which node, and how many.
pub(crate) struct Supply(VecDeque<(NodeId, OtCount)>);

impl Supply {
    /// The supply of one inference.
    pub(crate) fn new(plan: &Plan, reveal: Reveal) -> Self {
        Self(plan.ot_parts(reveal).into())
    }

    /// Agrees on what comes first, if nothing was agreed on yet.
    pub(crate) async fn start(&mut self, channel: &mut Channel, ot: &mut Correlations) -> Result<()> {
        self.before(NodeId::new(0), channel, ot).await
    }

    /// Agrees on what comes next, if that is needed from `node` on.
    pub(crate) async fn before(&mut self, node: NodeId, channel: &mut Channel, ot: &mut Correlations) -> Result<()> {
        while let Some(&(first, ots)) = self.0.front()
            && first <= node
        {
            self.0.pop_front();
            channel.scope(OT);
            ot.ensure(channel, ots).await?;
        }
        Ok(())
    }
}
