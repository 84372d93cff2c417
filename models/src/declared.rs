//! What a network may choose for its nodes beyond their operations. Every choice is an exact operation of its own.
//!
//! **Rings.** The sums of a linear node stay far below what its weights could make of the worst input. A network may declare their
//! width: z then *wraps*, it is the signed number of `ring` bits that is congruent to the sum modulo 2^ring. Both parties do the same by
//! cutting their shares, at no cost; whatever reads z becomes cheaper with each bit less. A ring is declared where every reader can hold
//! it ([`Architecture::declarable`]):
//!
//! - all readers are requantisations, of which none asks for the sign alone: y = [z >= 2^s] needs z - 2^s, which has no room in the ring
//!   of z; and the answer of a network is compared by differences, which have none either;
//! - all channels keep the same number of bits above their shift, so that one ring is left once shifts are folded into weights.
//!
//! **Coins.** A requantisation may round by a coin d, uniform in 0..2^t, that only the client knows, 1 <= t <= s:
//!
//! ```text
//! y = clamp((z - 2^(t-1) + d) >> s, 0, top)
//! ```
//!
//! in the ring of z where that is declared. z has the rounding constant 2^(s-1) in it, so t = s rounds without bias; t low bits cost nothing any
//! more. The interpreter takes coins as an argument ([`Network::run_with_coins`]); without one every d is 2^(t-1), and y is what it is
//! without coins. Coins need a sum of encrypted terms, one shift, and results of two bits or more.
//!
//! [`Network::run_with_coins`]: crate::Network::run_with_coins

use std::collections::BTreeMap;

use ndarray::Array3;

use crate::check::TensorInfo;
use crate::error::{ModelError, Place, Problem};
use crate::limits::MAX_RING;
use crate::network::{Architecture, Declared, Op, Range};
pub use crate::shape::of_channel;

/// Fewest bits that a declared ring has above a shift: the sign, and results of two bits.
pub const LEAST_ABOVE: u32 = 3;

impl Architecture {
    /// The declared ring of node `index`: one entry for the layer, or one per channel.
    pub fn ring(&self, index: usize) -> Option<&[u32]> {
        let declared = self.declared.get(&self.nodes[index].name)?;
        Some(&declared.ring[..]).filter(|ring| !ring.is_empty())
    }

    /// True if some node has a declared ring.
    pub fn has_rings(&self) -> bool {
        (0..self.nodes.len()).any(|index| self.ring(index).is_some())
    }

    /// Bits of the coin of node `index`; 0 for none.
    pub fn coin(&self, index: usize) -> u32 {
        self.declared.get(&self.nodes[index].name).map_or(0, |declared| declared.coin)
    }

    /// True if some node has a coin.
    pub fn has_coins(&self) -> bool {
        self.declared.values().any(|declared| declared.coin > 0)
    }

    /// By how much coins move the sums of linear node `index` at most: half of the largest of its readers'.
    pub fn half_coin(&self, index: usize) -> i64 {
        let most = self.consumers(index + 1).map(|reader| self.coin(reader)).max().unwrap_or(0);
        1 << most >> 1
    }

    /// The most bits that a coin of node `index` may have: those of its shift.
    ///
    /// # Errors
    /// Why it can have no coin.
    pub fn tossable(&self, index: usize) -> Result<u32, &'static str> {
        let Op::Requantise { input, bits, shift, top, .. } = &self.nodes[index].op else {
            return Err("it is no requantisation");
        };
        let encrypted = match &self.nodes[*input - 1].op {
            Op::Linear { terms } => terms.iter().any(|term| term.weight_bits().is_some()),
            _ => return Err("it does not read the sums of a linear node"),
        };
        if !encrypted {
            return Err("nothing that it reads is encrypted: its shares have no uniform low bits");
        }
        if *bits < 2 || *top == Some(1) {
            return Err("its results have one bit");
        }
        if shift.iter().any(|other| other != &shift[0]) {
            return Err("its channels have different shifts");
        }
        Ok(shift[0])
    }

    /// The shifts above which a declared ring of node `index` counts its bits, of the reader that drops the most: one or one per channel.
    ///
    /// # Errors
    /// Why no ring can be declared for it.
    pub fn declarable(&self, index: usize) -> Result<Vec<u32>, &'static str> {
        if !matches!(self.nodes[index].op, Op::Linear { .. }) {
            return Err("it is no linear node");
        }
        if self.output == index + 1 {
            return Err("it is the answer, whose differences need more room than its ring has");
        }
        let mut above: Option<Vec<u32>> = None;
        for reader in self.consumers(index + 1) {
            let Op::Requantise { bits, shift, top, .. } = &self.nodes[reader].op else {
                return Err(match self.nodes[reader].op {
                    Op::Block { .. } => "a block reads it, which needs one bit more than its ring has",
                    _ => "a scale reads it",
                });
            };
            if *bits < 2 || *top == Some(1) {
                return Err("a requantisation to one bit reads it, which needs one more than the ring has");
            }
            above = Some(match above {
                None => shift.clone(),
                Some(other) => farther(other, shift).ok_or("its readers' shifts differ from each other by channel")?,
            });
        }
        above.ok_or("nothing reads it")
    }

    /// Every declaration is of a node that can hold it.
    pub(crate) fn check_declared(&self, tensors: &[TensorInfo]) -> Result<(), ModelError> {
        let mut unknown: BTreeMap<&str, &Declared> = self.declared.iter().map(|(name, of)| (&name[..], of)).collect();
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(declared) = unknown.remove(&node.name[..]) else { continue };
            let place = Place::Node { index, name: node.name.clone() };
            let check = || {
                if declared.coin > 0 {
                    self.check_coin(index, declared.coin)?;
                    if declared.ring.is_empty() {
                        return Ok(());
                    }
                }
                self.check_ring(index, &declared.ring, tensors[index + 1].shape[0])
            };
            check().map_err(|problem| problem.at(&place))?;
        }
        match unknown.keys().next() {
            None => Ok(()),
            Some(name) => Err(Problem::Undeclared { name: (*name).to_owned() }.at(&Place::Network)),
        }
    }

    fn check_coin(&self, index: usize, coin: u32) -> Result<(), Problem> {
        let most = self.tossable(index).map_err(|why| Problem::Coin { coin, why })?;
        if coin > most {
            return Err(Problem::Coin { coin, why: "it has more bits than the shift" });
        }
        Ok(())
    }

    fn check_ring(&self, index: usize, ring: &[u32], channels: usize) -> Result<(), Problem> {
        if ring.len() != 1 && ring.len() != channels {
            return Err(Problem::RingCount { found: ring.len(), channels });
        }
        let refused = |ring, why| Problem::Ring { ring, why };
        let shift = self.declarable(index).map_err(|why| refused(ring[0], why))?;
        let above = |channel: usize| i64::from(of_channel(ring, channel)) - i64::from(of_channel(&shift, channel));
        for channel in 0..channels {
            let own = of_channel(ring, channel);
            if above(channel) < LEAST_ABOVE.into() {
                return Err(refused(own, "it leaves less than results of two bits and a sign above the shift"));
            }
            if above(channel) != above(0) {
                return Err(refused(own, "its channels keep different numbers of bits above their shifts"));
            }
            if own > MAX_RING {
                return Err(refused(own, "a sum has at most 56 bits"));
            }
        }
        Ok(())
    }
}

/// The larger of two lists of shifts, if they differ by the same number everywhere.
fn farther(one: Vec<u32>, other: &[u32]) -> Option<Vec<u32>> {
    let count = one.len().max(other.len());
    let by = |channel| i64::from(of_channel(&one, channel)) - i64::from(of_channel(other, channel));
    (0..count).all(|channel| by(channel) == by(0)).then(|| if by(0) < 0 { other.to_vec() } else { one.clone() })
}

/// The signed number of `ring` bits, 1..=64, that is congruent to z.
pub fn wrapped(z: i64, ring: u32) -> i64 {
    let unused = i64::BITS - ring;
    (z << unused) >> unused
}

/// The values of a ring.
pub(crate) fn values_of(ring: u32) -> Range {
    Range { lo: -(1 << (ring - 1)), hi: (1 << (ring - 1)) - 1 }
}

/// Every sum in its ring.
pub(crate) fn wrap(z: &mut Array3<i64>, ring: &[u32]) {
    for (channel, mut plane) in z.outer_iter_mut().enumerate() {
        let ring = of_channel(ring, channel);
        plane.mapv_inplace(|z| wrapped(z, ring));
    }
}
