//! Networks whose requantisations round by coins ([`declared`](crate::declared)): run with given ones, and made.

use std::cell::RefCell;

use crate::declared::{of_channel, wrapped};
use crate::error::{InputError, ModelError};
use crate::interpret::{Tensor, add_product};
use crate::network::Op;
use crate::rings::Wraps;
use crate::weights::Network;

/// Fewest bits of a shift that are worth a coin: below, taking the guard bit off costs what it saves.
pub const LEAST_SHIFT: u32 = 3;

impl Network {
    /// The network's answer where the coin of element `e` of node `n` is `coins(n, e)`, less than 2^t; elements count row-major. It is not
    /// asked for nodes without coins.
    ///
    /// # Errors
    /// If the input has another shape, or a value outside of the range.
    pub fn run_with_coins(&self, input: &Tensor, coins: impl Fn(usize, usize) -> u64) -> Result<Tensor, InputError> {
        let add = |_: usize, term: crate::interpret::Weighted<'_>, x: &Tensor, z: &mut Tensor| add_product(term, x, z);
        let toss = |node: usize, z: &Tensor| self.tossed(node, z, |element| coins(node, element));
        let mut tensors = self.evaluate(input, add, toss, |_, _| {})?;
        Ok(tensors.swap_remove(self.architecture().output))
    }

    /// The answers to many inputs, and how often sums wrapped. `coins_of(i)` makes what tosses the coins of input `i`: asked for t, a coin
    /// of t bits, node by node and row-major.
    ///
    /// # Errors
    /// As [`run_with_coins`](Self::run_with_coins).
    pub fn run_batch_tossing<T: FnMut(u32) -> u64>(
        &self,
        inputs: &[Tensor],
        coins_of: impl Fn(usize) -> T,
    ) -> Result<(Vec<Tensor>, Wraps), InputError> {
        // Nodes come in order, input by input.
        let state = RefCell::new((0, usize::MAX, None));
        self.run_batch_seen(inputs, |node, z| {
            let bits = self.architecture().coin(node);
            if bits == 0 {
                return None;
            }
            let (begun, last, toss) = &mut *state.borrow_mut();
            if node <= std::mem::replace(last, node) {
                *toss = Some(coins_of(*begun));
                *begun += 1;
            }
            self.tossed(node, z, |_| toss.as_mut().map_or(0, |toss| toss(bits)))
        })
    }

    /// The result of a requantisation that has coins.
    fn tossed(&self, node: usize, z: &Tensor, mut coin_of: impl FnMut(usize) -> u64) -> Option<Tensor> {
        let architecture = self.architecture();
        let coin = architecture.coin(node);
        let Op::Requantise { input, bits, shift, top, zero_point } = &architecture.nodes[node].op else { return None };
        if coin == 0 {
            return None;
        }
        let (ring, top, half) = (architecture.ring(*input - 1), top.unwrap_or((1 << bits) - 1), 1 << (coin - 1));
        let mut made = z.clone();
        for (element, ((channel, ..), y)) in made.indexed_iter_mut().enumerate() {
            let moved = *y - half + coin_of(element) as i64;
            let moved = ring.map_or(moved, |ring| wrapped(moved, of_channel(ring, channel)));
            *y = (moved >> of_channel(shift, channel)).clamp(0, top) - zero_point;
        }
        Some(made)
    }

    /// The network with coins wherever they can be and shifts have [`LEAST_SHIFT`] bits: of all bits of the shift but `left`.
    ///
    /// # Errors
    /// A limit that is broken: none where the network is valid.
    pub fn with_coins(&self, left: u32) -> Result<Network, ModelError> {
        let (mut architecture, weights) = self.clone().into_parts();
        for index in 0..architecture.nodes.len() {
            let coin = architecture.tossable(index).ok().filter(|shift| *shift >= LEAST_SHIFT);
            let coin = coin.map_or(0, |shift| shift.saturating_sub(left));
            let name = architecture.nodes[index].name.clone();
            if coin > 0 || architecture.declared.contains_key(&name) {
                architecture.declared.entry(name).or_default().coin = coin;
            }
        }
        architecture.declared.retain(|_, declared| declared.coin > 0 || !declared.ring.is_empty());
        Network::new(architecture, weights)
    }

    /// Elements of one inference that are rounded by coins.
    pub fn tosses(&self) -> u64 {
        let tossed = (0..self.architecture().nodes.len()).filter(|&index| self.architecture().coin(index) > 0);
        tossed.map(|index| self.tensors()[index + 1].elements() as u64).sum()
    }
}
