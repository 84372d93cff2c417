//! The coins by which a client's activations were rounded.

use std::collections::BTreeMap;

use lowkey_models::{InputError, Network, Tensor};
use lowkey_mpc::bits::Planes;
use lowkey_mpc::dither::Dither;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// The coins of one inference, by node: the client's own, and nobody else knows them. Wiped when dropped; print redacted. Empty where
/// the network has none.
///
/// [`Model::answer_with`](crate::Model::answer_with) is the same answer in the clear.
#[derive(Clone, Default)]
pub struct Coins(BTreeMap<String, Tossed>);

/// The coins of a node: all ones less the low bits of the client's share.
#[derive(Clone)]
struct Tossed {
    dither: Dither,
    low: Planes,
}

impl Coins {
    /// Those of a node, row-major; none where a node has none.
    pub fn of(&self, node: &str) -> Zeroizing<Vec<u64>> {
        let Some(Tossed { dither, low }) = self.0.get(node) else { return Zeroizing::default() };
        let mut coins = Zeroizing::new(low.to_lanes::<u64>());
        coins.iter_mut().for_each(|low| *low = dither.coin_of(*low));
        coins
    }

    /// True if nothing was rounded by a coin.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps the low bits of the client's share of what a node rounds.
    pub(crate) fn keep(&mut self, node: &str, dither: Dither, low: Planes) {
        self.0.insert(node.to_owned(), Tossed { dither, low });
    }

    /// The answer of a network, folded or not, to an input where these coins fall.
    pub(crate) fn run(&self, network: &Network, input: &Tensor) -> Result<Tensor> {
        let architecture = network.architecture();
        let mut coins = Vec::with_capacity(architecture.nodes.len());
        for (index, node) in architecture.nodes.iter().enumerate() {
            let (own, bits) = (self.of(&node.name), architecture.coin(index));
            let wanted = if bits == 0 { 0 } else { network.tensors()[index + 1].elements() };
            if own.len() != wanted || own.iter().any(|coin| coin >> bits != 0) {
                return Err(Error::usage(
                    format!("node {:?}: its coins are of another network", node.name),
                    "give the coins that came with an answer of this network",
                ));
            }
            coins.push(own);
        }
        let failed = |error: InputError| Error::Input(Box::new(error));
        network.run_with_coins(input, |node, element| coins[node][element]).map_err(failed)
    }
}

impl std::fmt::Debug for Coins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Coins([redacted])")
    }
}
