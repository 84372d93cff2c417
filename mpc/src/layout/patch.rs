//! The digits of a patch.

use super::{Choice, Search, Start, frontier};
use crate::program::{Builder, Time};
use crate::protocol::patch::{self, Chains, Spec};
use crate::spec::{Finish, LayoutError};

impl Search {
    /// Chains for [`patch::program`], as [`Search::requantise`] lists layouts; prices are those of a patch.
    ///
    /// # Errors
    /// [`LayoutError`] if the specification has no program.
    pub fn patch(&mut self, spec: Spec, finish: Finish) -> Result<Vec<Choice<Chains>>, LayoutError> {
        spec.check(finish)?;
        let start = Start { server: Time::START, client: Time::OFFLINE, carry_in: false };
        let lows = self.chains(spec.low(), start);
        let gates = self.chains(spec.compared(), Start::online());
        let price = self.ot_price();
        let of = |pixels: usize, chains: &Chains| {
            let mut b = Builder::counting();
            patch::record(&mut b, spec, pixels, chains, finish);
            (b.flights(), b.tally().price(price))
        };
        let mut found = Vec::with_capacity(lows.len() * gates.len());
        for low in &lows {
            for gate in &gates {
                let chains = Chains { low: low.clone(), gate: gate.clone() };
                // All pixels cost the same.
                let (flights, one) = of(1, &chains);
                let more = match spec.pixels {
                    1 => 0.0,
                    pixels => f64::from(pixels - 1) * (of(2, &chains).1 - one),
                };
                found.push(Choice { flights, price: one + more, layout: chains });
            }
        }
        Ok(frontier(found))
    }
}
