//! Chains for the games of an arg max.

use super::{Choice, Search, Start, frontier};
use crate::protocol::argmax::{Argmax, check_sizes};
use crate::spec::{LayoutError, Part};

impl Search {
    /// Chains for the comparisons of [`Argmax::new`], and what the whole costs: flights, and bits of all classes together.
    ///
    /// # Errors
    /// [`LayoutError`] as for [`Argmax::new`].
    pub fn argmax(&mut self, ell: usize, classes: usize) -> Result<Vec<Choice<Vec<Part>>>, LayoutError> {
        check_sizes(ell, classes)?;
        let mut all = Vec::new();
        for chain in self.chains(ell - 1, Start::online()) {
            let cost = Argmax::new(ell, classes, &chain)?.cost();
            let price = 8.0 * cost.total_bytes() as f64 + cost.demand.price(self.ot_price());
            all.push(Choice { flights: cost.flights(), price, layout: chain });
        }
        Ok(frontier(all))
    }
}
