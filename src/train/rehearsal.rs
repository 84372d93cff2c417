//! A training in the clear, by the data owner alone: what accuracy to expect, and whether its data keep every value in its range.
//!
//! A value out of range comes wrong out of a private step, and nobody notices; here it is counted. The first weights are this party's own, drawn
//! as the model owner draws its.

use lowkey_models::Network;
use lowkey_mpc::erasing::Erasing;
use rand::Rng;

use super::batch::Batch;
use super::coins::Seeded;
use super::export;
use super::format::Format;
use super::samples::Samples;
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

/// Trains on `samples` in the clear; `told` of (steps done, steps in all).
///
/// # Errors
/// When no training can be as it is asked for, or the weights grew beyond every use.
pub fn rehearse(wish: &Wish, samples: &Samples, told: impl Fn(u64, u64)) -> Result<Rehearsal> {
    rehearse_from(wish, samples, told, Erasing::new(*randomness::seed()?))
}

fn rehearse_from(
    wish: &Wish,
    samples: &Samples,
    told: impl Fn(u64, u64),
    mut randomness: Erasing,
) -> Result<Rehearsal> {
    wish.check()?;
    if wish.net.is_on_features() {
        return Err(Error::usage(
            "a head cannot be rehearsed",
            "its features are the model owner's: none but both parties have them",
        ));
    }
    let (net, format, terms) = (&wish.net, Format::NARROW, Terms::alone(wish, samples.len() as u64));
    let mut rng = randomness.next_rng();
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    let mut coins = Seeded::new(rng.next_u64());
    let masters = start::masters(net, &format, &mut rng);
    let mut twin = Twin::new(net.clone(), format, State::new(net, masters));
    let mut order = Vec::new();
    for step in 0..terms.steps() {
        let (epoch, batch) = (step / terms.steps_per_epoch(), step % terms.steps_per_epoch());
        if batch == 0 {
            order = samples.order(&seed, epoch);
        }
        let (inputs, labels) = samples.batch(net, &order, batch as usize);
        let batch = Batch::new(net, &format, &inputs, &labels).map_err(Error::internal)?;
        twin.step(batch, terms.rate(step), &mut coins);
        told(step + 1, terms.steps());
    }
    let network = export::network(net, &format, &twin.state.masters, &format!("trained-{net}"))?;
    let (overflows, spare_bits) = (twin.watch.overflows(), twin.watch.spare_bits());
    Ok(Rehearsal { network, steps: terms.steps(), overflows, spare_bits })
}
