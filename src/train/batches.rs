//! Which samples are in the batch of a step: whose they are, orders of epochs, and rows of samples or of their shared features.

use lowkey_mpc::party::Party;
use zeroize::Zeroizing;

use super::checkpoint::About;
use super::counts::Place;
use super::format::BATCH;
use super::samples::{Pictures, Samples, chosen, shuffled};
use super::terms::Terms;
use crate::share::RingShare;

/// What a party's batches are made of.
pub(super) struct Material {
    /// What it knows: its samples, or the features of them at the owner of the network before a head.
    pub(super) own: Option<Samples>,
    /// Of a head: what both have shares of.
    pub(super) shared: Option<Shared>,
}

/// Shares of a row of features for every sample of the client; at the client their classes too.
pub(super) struct Shared {
    pub(super) rows: RingShare,
    pub(super) labels: Option<Zeroizing<Vec<u8>>>,
}

/// A batch of either kind.
pub(super) enum Chosen {
    Nothing,
    Batch(Vec<i64>, Vec<u8>),
    Shares(RingShare, Option<Vec<u8>>),
}

/// The order of some samples in an epoch.
type Order = (u64, Zeroizing<Vec<u32>>);

/// The batches of a training.
pub(super) struct Batches {
    party: Party,
    pub(super) material: Material,
    /// Of the own samples, and of the shared ones.
    orders: [Option<Order>; 2],
}

impl Batches {
    /// Batches of what a party has.
    pub(super) fn of(party: Party, material: Material) -> Self {
        Self { party, material, orders: [None, None] }
    }

    /// That of the step after `done` steps, as far as this party has a part of it.
    pub(super) fn at(&mut self, done: u64, terms: &Terms, about: &About) -> Chosen {
        let (epoch, Place { owner, batch }) = (done / terms.steps_per_epoch(), terms.place(done));
        let Material { own, shared } = &self.material;
        if let Some(Shared { rows, labels }) = shared.as_ref().filter(|_| owner == Party::Client) {
            let order = in_order(&mut self.orders[1], epoch, batch, terms, owner, &about.common);
            let count = terms.net.inputs(0);
            let mut some = Zeroizing::new(Vec::with_capacity(BATCH * count));
            order.clone().for_each(|at| some.extend(&rows.words()[at * count..][..count]));
            let labels = labels.as_ref().map(|labels| order.map(|at| labels[at]).collect());
            return Chosen::Shares(RingShare::new(some, rows.ring()), labels);
        }
        match own.as_ref().filter(|_| owner == self.party) {
            None => Chosen::Nothing,
            Some(samples) => {
                let order = in_order(&mut self.orders[0], epoch, batch, terms, owner, &about.order);
                let (inputs, labels) = samples.rows(&terms.net, order);
                Chosen::Batch(inputs, labels)
            }
        }
    }
}

/// The samples of `owner` in its batch `batch` of an epoch. Of an evaluation they come as they are, and the first one until the last batch is
/// full.
fn in_order<'a>(
    kept: &'a mut Option<Order>,
    epoch: u64,
    batch: u64,
    terms: &Terms,
    owner: Party,
    seed: &[u8; 32],
) -> impl Iterator<Item = usize> + Clone + 'a {
    if kept.as_ref().is_none_or(|(of, _)| *of != epoch) {
        let samples = terms.samples.of(owner) as usize;
        let order = match terms.evaluates {
            true => {
                let full = samples.next_multiple_of(BATCH);
                (0..).take(samples).chain(std::iter::repeat(0)).take(full).collect()
            }
            false => shuffled(samples, seed, epoch),
        };
        *kept = Some((epoch, Zeroizing::new(order)));
    }
    chosen(kept.as_ref().map_or(&[][..], |(_, order)| order), batch as usize)
}

/// In which order the samples of a head come, from the first to the last step: the server must not know which one is which.
pub(super) fn secret_order(pictures: &Pictures, about: &About) -> Zeroizing<Vec<u32>> {
    Zeroizing::new(shuffled(pictures.labels().len(), &about.order, 0))
}
