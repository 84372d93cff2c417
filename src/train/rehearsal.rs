//! A training in the clear, by the data owner alone: what accuracy to expect, and whether its data keep every value in its range.
//!
//! A value out of range comes wrong out of a private step, and nobody notices; here it is counted. The first weights are this party's own, drawn
//! as the model owner draws its. Of a head the features are those of a network that somebody has, with samples of its own.

use lowkey_models::Network;
use lowkey_mpc::erasing::{Erasing, OnceRng};
use rand::Rng;

use super::backbone::Backbone;
use super::batch::Batch;
use super::coins::Seeded;
use super::counts::Counts;
use super::export;
use super::format::{Format, Net};
use super::samples::{Pictures, Samples, shuffled};
use super::score::Score;
use super::start;
use super::terms::{Terms, Wish};
use super::twin::{State, Twin};
use crate::error::{Error, Result};
use crate::randomness;

/// What came of a rehearsal.
#[derive(Debug)]
pub struct Rehearsal {
    /// The trained network.
    pub network: Network,
    /// Steps that it took.
    pub steps: u64,
    /// Values out of range: a private training would have gone wrong in silence.
    pub overflows: u64,
    /// Bits that were left above the largest value, where fewest were.
    pub spare_bits: f64,
}

/// Told of steps done, of steps in all, and after an epoch how the network did on its samples while it trained.
type Told<'a> = &'a dyn Fn(u64, u64, Option<Score>);

/// Trains on `samples` in the clear; `told` of steps done, of steps in all, and after an epoch how the network did on its samples while it trained.
///
/// # Errors
/// When no training can be as it is asked for, or the weights grew beyond every use.
pub fn rehearse(wish: &Wish, samples: &Samples, told: impl Fn(u64, u64, Option<Score>)) -> Result<Rehearsal> {
    check(wish)?;
    if wish.net.is_on_features() {
        return Err(Error::usage("a head, and no network that it belongs to", "name that network"));
    }
    let mut start = Start::draw()?;
    let (net, format) = (&wish.net, Format::NARROW);
    let masters = start::masters(net, &format, &mut start.rng);
    let (twin, steps) = run(wish, net, samples, masters, start, &told)?;
    finish(&twin, steps, export::network(net, &format, &twin.state.masters, &format!("trained-{net}"))?)
}

/// Trains a head in the clear, on what `network` makes of `pictures`: by whoever has both, as a model owner has samples that are like those of
/// its data owners. `told_of_features` of samples done, and of how many; `told` as [`rehearse`] does.
///
/// # Errors
/// When no training can be as it is asked for, the network does not end in a dense layer, or does not read the samples.
pub fn rehearse_head(
    wish: &Wish,
    network: &Network,
    pictures: &Pictures,
    told_of_features: impl Fn(u64, u64),
    told: impl Fn(u64, u64, Option<Score>),
) -> Result<Rehearsal> {
    check(wish)?;
    let backbone = Backbone::of(network)?;
    let net = backbone.head();
    let mut start = Start::draw()?;
    let samples = backbone.features_of(pictures, &mut start.coins, told_of_features)?;
    let masters = vec![vec![0; net.weights(0)]];
    let (twin, steps) = run(wish, &net, &samples, masters, start, &told)?;
    finish(&twin, steps, backbone.with_head(&Format::NARROW, &twin.state.masters[0])?)
}

fn check(wish: &Wish) -> Result<()> {
    if wish.evaluates {
        return Err(Error::usage("an evaluation cannot be rehearsed", "evaluate the rehearsal's network"));
    }
    wish.check()
}

/// What a rehearsal draws.
struct Start {
    /// Of the order of samples.
    seed: [u8; 32],
    coins: Seeded,
    rng: OnceRng,
}

impl Start {
    fn draw() -> Result<Self> {
        let mut rng = Erasing::new(*randomness::seed()?).next_rng();
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        Ok(Self { seed, coins: Seeded::new(rng.next_u64()), rng })
    }
}

/// All steps. Returns their number too.
fn run(
    wish: &Wish,
    net: &Net,
    samples: &Samples,
    masters: Vec<Vec<i64>>,
    mut start: Start,
    told: Told<'_>,
) -> Result<(Twin, u64)> {
    let (format, terms) = (Format::NARROW, Terms::alone(wish, Counts { client: samples.len() as u64, server: 0 }));
    let mut twin = Twin::new(net.clone(), format, State::new(net, masters));
    let mut order = Vec::new();
    for step in 0..terms.steps() {
        let (epoch, number) = (step / terms.steps_per_epoch(), step % terms.steps_per_epoch());
        if number == 0 {
            order = shuffled(samples.len(), &start.seed, epoch);
        }
        let (inputs, labels) = samples.batch(net, &order, number as usize);
        let batch = Batch::new(net, &format, &inputs, &labels).map_err(Error::internal)?;
        twin.step(batch, terms.rate(step), &mut start.coins);
        let score = (step + 1).is_multiple_of(terms.steps_per_epoch()).then(|| twin.take_score());
        told(step + 1, terms.steps(), score);
    }
    Ok((twin, terms.steps()))
}

fn finish(twin: &Twin, steps: u64, network: Network) -> Result<Rehearsal> {
    Ok(Rehearsal { network, steps, overflows: twin.watch.overflows(), spare_bits: twin.watch.spare_bits() })
}
