//! What a step asks of the lattice part: products of shared matrices, up to guard bits.

use std::future::Future;

use lowkey_mpc::channel::Channel;
use zeroize::Zeroizing;

use super::error::StepError;
use super::plan::Product;
use super::session::Opening;

/// One party's shares of the terms of a product, row by row. Bits above their rings are undefined.
pub struct Terms {
    /// Modulo 2^ell: the product of the own shares; where the client knows L, zero at the server.
    pub local: Zeroizing<Vec<u64>>,
    /// Modulo 2^(ell+1): of each cross term z, c + v = 2 z + r with 0 <= r < 2.
    pub crosses: Vec<Zeroizing<Vec<u64>>>,
}

/// How products are computed. Both parties call it alike.
pub trait Products {
    /// Begins a step, with keys of its own. The opening is sent first, and the peer's compared before anything of it is used.
    fn begin(&mut self, channel: &mut Channel, opening: Opening) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Ends a step, failed or not: its keys are wiped.
    fn end(&mut self);

    /// The terms of a product, from this party's shares of both matrices. Bits above the ring are undefined.
    fn terms(
        &mut self,
        channel: &mut Channel,
        product: Product,
        left: &[u64],
        right: &[u64],
    ) -> impl Future<Output = Result<Terms, StepError>> + Send;
}
