//! What a step asks of the lattice part: products of shared matrices, up to guard bits.

use std::future::Future;

use lowkey_bridge::product::Terms;
use lowkey_mpc::channel::Channel;
use lowkey_mpc::party::Party;

use super::error::StepError;
use super::plan::Product;
use super::session::Opening;

/// How products are computed. Both parties call it alike.
pub trait Products {
    /// Begins a step on samples of `owner`, with keys of its own. The opening is sent first, and the peer's compared before anything of it is used.
    fn begin(
        &mut self,
        channel: &mut Channel,
        owner: Party,
        opening: Opening,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Ends a step, failed or not: its keys are wiped.
    fn end(&mut self);

    /// The terms of a product, from this party's shares of both matrices. Bits of these above the product's ring are ignored.
    fn terms(
        &mut self,
        channel: &mut Channel,
        product: Product,
        left: &[u64],
        right: &[u64],
    ) -> impl Future<Output = Result<Terms, StepError>> + Send;
}
