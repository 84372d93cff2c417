//! Scaled accumulators and truncated products as inputs of a circuit ([`circuits::rescale`]): what each party makes of its share.

use lowkey_mpc::bits::Planes;
use lowkey_mpc::guard::circuits;
use lowkey_mpc::rescale::Factor;
use zeroize::Zeroizing;

use crate::plan::NodeId;

/// What a requantisation reads of multiplied accumulators.
#[derive(Debug)]
pub(super) struct Products {
    /// The accumulators.
    pub(super) from: NodeId,
    /// Whose biases are added to products.
    pub(super) biased: NodeId,
    /// One, or one per channel. Public.
    pub(super) factors: Vec<Factor>,
    /// Subtracted from every product by the server.
    pub(super) lowered: i64,
    /// Elements of a channel.
    pub(super) pixels: usize,
    /// Bits of the sum.
    pub(super) ring: usize,
}

impl Products {
    /// The client's c_0, alpha and part of the sum, of its shares.
    pub(super) fn of_client(&self, shares: &[u64]) -> Vec<Planes> {
        self.planes(shares, |_, factor, share| factor.client(share))
    }

    /// The server's v_0, 1 - beta and part of the sum, of its shares and the biases.
    pub(super) fn of_server(&self, shares: &[u64], biases: &[i64]) -> Vec<Planes> {
        self.planes(shares, |channel, factor, share| {
            let offset = biases.get(channel).map_or(0, |bias| bias.wrapping_sub(self.lowered));
            let [own, v_0, not_beta] = factor.server_bits(share, offset);
            [v_0, not_beta, own]
        })
    }

    /// What both know: the weights of what wraps, of every lane.
    pub(super) fn public(&self, lanes: usize) -> Vec<Planes> {
        let of = |lane: usize| circuits::weights(self.factor(lane / self.pixels));
        let weights: Vec<[u64; 3]> = (0..lanes).map(of).collect();
        let column = |i: usize| Planes::from_lanes(&weights.iter().map(|row| row[i]).collect::<Vec<_>>(), self.ring);
        (0..3).map(column).collect()
    }

    fn factor(&self, channel: usize) -> Factor {
        self.factors[if self.factors.len() == 1 { 0 } else { channel }]
    }

    /// Two bits and a number for each share.
    fn planes(&self, shares: &[u64], row: impl Fn(usize, Factor, u64) -> [u64; 3]) -> Vec<Planes> {
        let mut columns = [(); 3].map(|()| Zeroizing::new(Vec::with_capacity(shares.len())));
        for (channel, shares) in shares.chunks(self.pixels).enumerate() {
            let factor = self.factor(channel);
            for &share in shares {
                columns.iter_mut().zip(row(channel, factor, share)).for_each(|(column, value)| column.push(value));
            }
        }
        columns.iter().zip([1, 1, self.ring]).map(|(column, width)| Planes::from_lanes(column, width)).collect()
    }
}
