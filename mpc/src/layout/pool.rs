//! Which way to pool: after the clip, or between shift and clip.

use super::{Choice, Search, Start, frontier};
use crate::program::{Builder, Program, Time};
use crate::protocol::maxpool::{self, tournament};
use crate::protocol::pooled::{self, Spec};
use crate::protocol::requantise;
use crate::spec::{Finish, Layout, LayoutError, Part, check_ring, check_size};
use serde::{Deserialize, Serialize};

/// How a layer that ends in a max pool is evaluated: a program on its values, one on its windows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PoolLayout {
    /// Every value is clipped ([`requantise`]), then the windows are pooled ([`maxpool`]).
    After {
        /// The digits of the requantisation.
        layer: Layout,
        /// The chain of a comparison.
        game: Vec<Part>,
    },
    /// Every value loses its low bits ([`pooled::carries`]), then the windows are pooled and clipped ([`pooled::program`]).
    Between {
        /// The chain over the low bits.
        low: Vec<Part>,
        /// The chain of a comparison.
        game: Vec<Part>,
        /// The digits of the clip.
        clip: Layout,
    },
}

/// The programs of a layer that ends in a max pool.
#[derive(Debug)]
pub struct PoolPrograms {
    /// One lane per value. Of [`PoolLayout::Between`] without low bits there is none.
    pub values: Option<Program>,
    /// One lane per window.
    pub windows: Program,
}

/// A pool of clipped values.
fn after(spec: Spec) -> Result<maxpool::Spec, LayoutError> {
    let bits = spec.layer.effective_bits()? as u8;
    Ok(maxpool::Spec { bits, window: spec.window, client: Time::START, server: Time::START })
}

impl PoolLayout {
    /// Both programs. Of [`PoolLayout::After`] the first is [`requantise::program_clipped`] ending as [`Finish::Small`], the
    /// second [`maxpool::program`] with shares known at the start of the online stage.
    ///
    /// # Errors
    /// [`LayoutError`] if something does not fit.
    pub fn programs(&self, spec: Spec, finish: Finish) -> Result<PoolPrograms, LayoutError> {
        match self {
            Self::After { layer, game } => {
                let (small, early, late) = (Finish::Small, Time::OFFLINE, Time::START);
                let values = requantise::program_clipped(spec.layer, spec.clip, layer, small, early, late)?;
                let windows = maxpool::program(after(spec)?, game, finish)?;
                Ok(PoolPrograms { values: Some(values), windows })
            }
            Self::Between { low, game, clip } => {
                let values = (spec.low() > 0).then(|| pooled::carries(spec, low)).transpose()?;
                Ok(PoolPrograms { values, windows: pooled::program(spec, game, clip, finish)? })
            }
        }
    }
}

impl Search {
    /// Ways to pool, the cheapest for each number of flights, fewest flights first. Prices are bits per window, of which each
    /// has `values` values of its own: those of the input over the number of windows. The flights are those of both
    /// programs, one after the other.
    ///
    /// `room` says that the differences within a window fit ([`pooled`]); else values are only pooled after their clip.
    /// As the room may cost the layer one bit more, a planner compares searches for both widths.
    ///
    /// # Errors
    /// [`LayoutError`] if the specification has no program.
    pub fn pool(
        &mut self,
        spec: Spec,
        finish: Finish,
        values: f64,
        room: bool,
    ) -> Result<Vec<Choice<PoolLayout>>, LayoutError> {
        let mut all = self.pool_after(spec, finish, values)?;
        if room && spec.layer.effective_bits()? > 1 {
            all.extend(self.pool_between(spec, finish, values)?);
        }
        Ok(frontier(all))
    }

    /// [`Search::pool`] after the clip only.
    pub(crate) fn pool_after(
        &mut self,
        spec: Spec,
        finish: Finish,
        values: f64,
    ) -> Result<Vec<Choice<PoolLayout>>, LayoutError> {
        let small = Finish::Small;
        let layers = self.requantise_clipped(spec.layer, spec.clip, small, Time::OFFLINE, Time::START)?;
        let games = self.max_pool(after(spec)?, finish)?;
        let both =
            both(&layers, &games, values, |layer, game| PoolLayout::After { layer: layer.clone(), game: game.clone() });
        Ok(both)
    }

    /// [`Search::pool`] between shift and clip only.
    pub(crate) fn pool_between(
        &mut self,
        spec: Spec,
        finish: Finish,
        values: f64,
    ) -> Result<Vec<Choice<PoolLayout>>, LayoutError> {
        let (low, a, high) = spec.layer.cuts()?;
        check_ring(finish, a)?;
        check_size("bits of a value pooled before its clip", a, 2, requantise::MAX_BITS.into())?;
        check_size("values per window", spec.window.into(), 1, maxpool::MAX_WINDOW)?;
        let lows = match low {
            0 => vec![Choice { flights: 0, price: 0.0, layout: Vec::new() }],
            _ => self.choose(low, Time::OFFLINE, Time::START, |b, chain| pooled::record_carries(b, low, chain))?,
        };
        let mut found = Vec::new();
        for (game, start) in self.games(spec) {
            for layout in self.clamps(a, high, spec.clip, start) {
                let mut b = Builder::counting();
                pooled::record(&mut b, spec, &game, &layout, finish)?;
                let price = b.tally().price(self.ot_price());
                found.push(Choice { flights: b.flights(), price, layout: (game.clone(), layout) });
            }
        }
        let both = both(&lows, &frontier(found), values, |low, (game, clip)| PoolLayout::Between {
            low: low.clone(),
            game: game.clone(),
            clip: clip.clone(),
        });
        Ok(both)
    }

    /// Undominated chains for the games of a tournament, and when the parties know the winner.
    fn games(&mut self, spec: Spec) -> Vec<(Vec<Part>, Start)> {
        let carry_in = spec.low() > 0;
        let mut all = Vec::new();
        for game in self.chains(spec.width() - 1, Start { carry_in, ..Start::online() }) {
            let mut b = Builder::counting();
            let players = pooled::players(&mut b, spec);
            let winner = tournament(players, |first, second| pooled::play(&mut b, &game, &first, &second));
            let (server, client) = winner.times();
            let start = Start { server, client: client.max(Time::START), carry_in };
            all.push((b.tally().price(self.ot_price()), start, game));
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut kept: Vec<(Vec<Part>, Start)> = Vec::new();
        for (_, start, game) in all {
            if !kept.iter().any(|(_, known)| known.server <= start.server && known.client <= start.client) {
                kept.push((game, start));
            }
        }
        kept
    }
}

/// The frontier of two steps, one after the other; the first runs on `values` lanes per lane of the second.
fn both<A, B, C>(
    first: &[Choice<A>],
    second: &[Choice<B>],
    values: f64,
    layout: impl Fn(&A, &B) -> C,
) -> Vec<Choice<C>> {
    let pairs = first.iter().flat_map(|a| second.iter().map(move |b| (a, b)));
    frontier(pairs.map(|(a, b)| Choice {
        flights: a.flights + b.flights,
        price: values * a.price + b.price,
        layout: layout(&a.layout, &b.layout),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Clip;

    /// What a search says of a layout is what its programs cost; and the layer of the MNIST model pools between.
    #[test]
    fn predictions_are_measured() {
        let cases =
            [((13, 7, 4), 4), ((11, 5, 4), 4), ((10, 6, 2), 9), ((24, 12, 8), 4), ((9, 7, 1), 4), ((12, 7, 4), 1)];
        for ((ell, shift, bits), window) in cases {
            let layer = requantise::Spec { ell, shift, bits, guard: 1 };
            for (top, spare) in [(u8::MAX, false), (u8::MAX, true), (((1_u16 << bits) - 2) as u8, true)] {
                if bits == 1 && top != u8::MAX {
                    continue;
                }
                let spec = Spec { layer, clip: Clip { top, spare }, window };
                for finish in [Finish::Small, Finish::Upload { ring: 13 }] {
                    let mut search = Search::new(1.37);
                    let found = search.pool(spec, finish, f64::from(window), true).unwrap();
                    let after = search.pool(spec, finish, f64::from(window), false).unwrap();
                    assert!(after.iter().all(|choice| matches!(choice.layout, PoolLayout::After { .. })));
                    for choice in found.iter().chain(&after) {
                        let programs = choice.layout.programs(spec, finish).unwrap();
                        let price = |program: &Program| program.tally().price(1.37);
                        let flights = |program: &Program| program.cost(1).flights();
                        let measured =
                            programs.values.as_ref().map_or(0.0, price) * f64::from(window) + price(&programs.windows);
                        assert!((measured - choice.price).abs() < 1e-6, "{spec:?} {choice:?} costs {measured}");
                        let steps = programs.values.as_ref().map_or(0, flights) + flights(&programs.windows);
                        assert_eq!(steps, choice.flights, "{spec:?} {choice:?}");
                    }
                    let least = |found: &[Choice<PoolLayout>]| found.last().unwrap().price;
                    assert!(least(&found) <= least(&after));
                }
            }
        }
    }

    /// The first layer of the MNIST model, with room: a fifth less than after the clip.
    #[test]
    fn pooling_between_saves() {
        let layer = requantise::Spec { ell: 13, shift: 7, bits: 4, guard: 1 };
        let spec = Spec { layer, clip: Clip { top: u8::MAX, spare: true }, window: 4 };
        let (finish, mut search) = (Finish::Upload { ring: 13 }, Search::new(1.37));
        let least = |found: Vec<Choice<PoolLayout>>| found.last().unwrap().price;
        let after = least(search.pool(spec, finish, 4.0, false).unwrap());
        let between = least(search.pool(spec, finish, 4.0, true).unwrap());
        assert!(between < 0.85 * after, "{between} {after}");
    }
}
