//! Networks whose requantisations round by coins ([`declared`](crate::declared)): run with given ones, and made.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::declared::wrapped;
use crate::error::{InputError, ModelError};
use crate::interpret::{Tensor, add_product};
use crate::network::{Declared, Op};
use crate::parallel;
use crate::rings::{Wraps, joined};
use crate::shape::of_channel;
use crate::weights::Network;

/// Fewest bits of a coin that pays by rule. To take the guard bit off costs ell + 1.5 bits for each result, 13 to 16 in networks of small
/// integers. What is saved is the guard bit's step of the carry chain and one for each bit of the coin, at 3 to 4 bits each.
pub const LEAST_COIN: u32 = 3;

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
        self.run_batch_seen(inputs, self.tossing(coins_of))
    }

    /// The same, on all cores.
    ///
    /// # Errors
    /// As [`run_with_coins`](Self::run_with_coins).
    pub fn run_batch_tossing_parallel<T: FnMut(u32) -> u64>(
        &self,
        inputs: &[Tensor],
        coins_of: impl Fn(usize) -> T + Sync,
    ) -> Result<(Vec<Tensor>, Wraps), InputError> {
        let all: Vec<usize> = (0..inputs.len()).collect();
        let of_part = |part: &[usize]| {
            let first = part[0];
            self.run_batch_tossing(&inputs[first..first + part.len()], |own| coins_of(first + own))
        };
        joined(parallel::parts(&all, of_part))
    }

    /// What requantisations become where coins are tossed: asked node by node in order, input by input.
    pub(crate) fn tossing<T: FnMut(u32) -> u64>(
        &self,
        coins_of: impl Fn(usize) -> T,
    ) -> impl Fn(usize, &Tensor) -> Option<Tensor> {
        let state = RefCell::new((0, usize::MAX, None));
        move |node, z| {
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
        }
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

    /// The network with coins of all bits of a shift but `left`, wherever that pays by rule: where it makes [`LEAST_COIN`] bits, and not
    /// before a max pool that alone reads the results. Without coins such a pool comes before the rounding, and clips and high bits are made
    /// once for a window; with them every element has its own, for the largest of rounded values is not the rounded largest.
    ///
    /// # Errors
    /// A limit that is broken: none where the network is valid.
    pub fn with_coins(&self, left: u32) -> Result<Network, ModelError> {
        let architecture = self.architecture();
        let mut bits = BTreeMap::new();
        for (index, node) in architecture.nodes.iter().enumerate() {
            let coin = architecture.tossable(index).map_or(0, |shift| shift.saturating_sub(left));
            let mut readers = architecture.consumers(index + 1).map(|reader| &architecture.nodes[reader].op);
            let pooled = matches!((readers.next(), readers.next()), (Some(Op::MaxPool { .. }), None));
            if coin >= LEAST_COIN && !pooled {
                bits.insert(node.name.clone(), coin);
            }
        }
        self.with_coin_bits(bits)
    }

    /// The network with coins of so many bits, by node, in place of those that it has; 0 for none.
    ///
    /// # Errors
    /// A node that cannot have such a coin.
    pub fn with_coin_bits(&self, bits: BTreeMap<String, u32>) -> Result<Network, ModelError> {
        let (mut architecture, weights) = self.clone().into_parts();
        architecture.declared.values_mut().for_each(|declared| declared.coin = 0);
        for (name, coin) in bits {
            architecture.declared.entry(name).or_default().coin = coin;
        }
        architecture.declared.retain(|_, declared| *declared != Declared::default());
        Network::new(architecture, weights)
    }

    /// Elements of one inference that are rounded by coins.
    pub fn tosses(&self) -> u64 {
        let tossed = (0..self.architecture().nodes.len()).filter(|&index| self.architecture().coin(index) > 0);
        tossed.map(|index| self.tensors()[index + 1].elements() as u64).sum()
    }
}
