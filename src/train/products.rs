//! What a step asks of the lattice part: products of shared matrices, up to guard bits.

use std::future::Future;

use lowkey_bridge::BridgeError;
use lowkey_mpc::channel::Channel;
use lowkey_mpc::error::Error;
use zeroize::Zeroizing;

use super::session::Opening;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The channel failed, or the peer broke a protocol.
    #[error(transparent)]
    Protocol(#[from] Error),
    /// A product failed.
    #[error(transparent)]
    Product(#[from] BridgeError),
    /// A step failed midway, and its shares are gone.
    #[error("a step failed before: go on from a checkpoint, in a new session")]
    Lost,
    /// The shares are not those that the session was agreed on for.
    #[error("these shares are not those that the session was agreed on for: agree with the checkpoint to go on from")]
    OtherShares,
}

/// Which of a layer's products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Inputs times weights.
    Forward,
    /// Inputs, transposed, times gradients.
    Update,
    /// Gradients times weights, transposed.
    Back,
}

/// A product L R of a left (rows x inner) and a right matrix (inner x columns), modulo 2^ell, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    /// Of which layer.
    pub layer: usize,
    /// Which of its products.
    pub kind: Kind,
    /// Rows of L.
    pub rows: usize,
    /// Columns of L, rows of R.
    pub inner: usize,
    /// Columns of R.
    pub columns: usize,
    /// Bits of the ring.
    pub ell: u8,
    /// The largest magnitude of L where the client knows it, and the server's share is zero. Else L is shared.
    pub known: Option<u32>,
}

impl Product {
    /// Elements of the result.
    #[cfg(test)]
    pub fn outputs(&self) -> usize {
        self.rows * self.columns
    }

    /// Terms in which the parties meet: one where the client knows L, else two.
    #[cfg(test)]
    pub fn crosses(&self) -> usize {
        if self.known.is_some() { 1 } else { 2 }
    }
}

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
