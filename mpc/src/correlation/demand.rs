//! What a protocol spends of the correlations, by kind. Programs count it while they are recorded, plans sum it up, sessions
//! are charged for it; a new kind that programs take from a pool is a field here, its pool a folder beside [`ot`](super::ot).
//!
//! Triples of the guarded mode are no field: no program takes them. Circuits do, from batches that are made for many slots, of OTs and with
//! checks of their own, and that get those of opened slots back. [`guard::cost`](crate::guard::cost) counts them, and the OTs that they are
//! made of.

use super::ot::OtCount;
use crate::party::Party;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul};

/// Correlations of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Demand {
    /// Correlated OTs, in each direction.
    pub ots: OtCount,
}

impl Demand {
    /// Nothing.
    pub const ZERO: Self = Self { ots: OtCount::ZERO };

    /// `n` OTs in which `party` receives.
    #[must_use]
    pub fn ots_received_by(party: Party, n: usize) -> Self {
        OtCount::received_by(party, n).into()
    }

    /// Of each kind the larger number: what is enough for either of two.
    #[must_use]
    pub fn larger(self, other: Self) -> Self {
        Self { ots: self.ots.larger(other.ots) }
    }

    /// What it is worth in bits, where an OT is worth `ot_price` of them.
    #[must_use]
    pub fn price(self, ot_price: f64) -> f64 {
        ot_price * self.ots.total() as f64
    }
}

impl From<OtCount> for Demand {
    fn from(ots: OtCount) -> Self {
        Self { ots }
    }
}

impl Add for Demand {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { ots: self.ots + other.ots }
    }
}

impl AddAssign for Demand {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<usize> for Demand {
    type Output = Self;
    fn mul(self, times: usize) -> Self {
        Self { ots: self.ots * times }
    }
}

impl Sum for Demand {
    fn sum<I: Iterator<Item = Self>>(demands: I) -> Self {
        demands.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_apart() {
        let [one, other] = [Demand::ots_received_by(Party::Client, 5), Demand::ots_received_by(Party::Server, 3)];
        let both = one + other;
        assert_eq!(both.ots, OtCount { client_receives: 5, server_receives: 3 });
        assert_eq!([one, other].into_iter().sum::<Demand>(), both);
        assert_eq!((both * 2).ots, OtCount { client_receives: 10, server_receives: 6 });
        assert_eq!((both * usize::MAX + both).ots.total(), usize::MAX, "no plan may reach it");
        assert_eq!(one.larger(other), both);
        assert_eq!((both * 2).larger(one), both * 2);
        assert!((both.price(0.5) - 4.0).abs() < 1e-12);
        assert_eq!(Demand::ZERO, Demand::default());
    }
}
