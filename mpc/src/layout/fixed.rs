//! Chains for the comparisons of training.

use super::{Choice, Search, Start, frontier};
use crate::fixed::{relu, score, softmax};
use crate::program::{Builder, Time};
use crate::spec::{LayoutError, Part};

impl Search {
    /// Chains for the sign of [`relu::program`], as [`Search::requantise`] lists layouts.
    ///
    /// # Errors
    /// [`LayoutError`] if the specification has no program.
    pub fn rectify(
        &mut self,
        spec: relu::Spec,
        client: Time,
        server: Time,
    ) -> Result<Vec<Choice<Vec<Part>>>, LayoutError> {
        spec.check(None)?;
        let bits = usize::from(spec.from) - 1;
        self.choose(bits, client, server, |b, chain| relu::record(b, spec, chain, client, server))
    }
    /// Chains for both comparisons of [`softmax::program`], as [`Search::requantise`] lists layouts.
    ///
    /// # Errors
    /// [`LayoutError`] if the specification has no program.
    pub fn softmax(&mut self, spec: softmax::Spec) -> Result<Vec<Choice<softmax::Chains>>, LayoutError> {
        spec.check(None)?;
        let games = self.chains(spec.compared(), Start::online());
        let bounds = self.chains(spec.bounded(), Start::online());
        let pairs = games.iter().flat_map(|game| bounds.iter().map(move |bound| (game.clone(), bound.clone())));
        let ot_price = self.ot_price();
        Ok(frontier(pairs.map(|(game, bound)| {
            let layout = softmax::Chains { game, bound };
            let mut b = Builder::counting();
            softmax::record(&mut b, spec, &layout, softmax::More::default());
            Choice { flights: b.flights(), price: b.tally().price(ot_price), layout }
        })))
    }

    /// Chains for the comparisons of [`score::program`], as [`Search::requantise`] lists layouts.
    ///
    /// # Errors
    /// [`LayoutError`] if the specification has no program.
    pub fn score(&mut self, spec: score::Spec) -> Result<Vec<Choice<Vec<Part>>>, LayoutError> {
        spec.check(None)?;
        self.choose(spec.compared(), Time::START, Time::START, |b, chain| score::record(b, spec, chain))
    }
}
