//! Which samples are in the batch of a step: orders of epochs, and rows of samples or of their shared features.

use zeroize::Zeroizing;

use super::checkpoint::About;
use super::format::BATCH;
use super::samples::{Pictures, Samples, chosen, shuffled};
use super::settings::Contribution;
use super::terms::Terms;
use crate::share::RingShare;

/// What a party's batches are made of.
pub(super) enum Material {
    /// The client has the samples, and this is the server.
    Nothing,
    Samples(Samples),
    /// Shares of a row for every sample; at the client their classes too.
    Features(RingShare, Option<Zeroizing<Vec<u8>>>),
}

/// A batch of either kind.
pub(super) enum Chosen {
    Nothing,
    Batch(Vec<i64>, Vec<u8>),
    Shares(RingShare, Option<Vec<u8>>),
}

impl Material {
    /// Of a party's part, and its shares of features where these are trained on.
    pub(super) fn new(part: Contribution, features: Option<RingShare>, about: &About) -> Self {
        match (features, part) {
            (Some(rows), Contribution::Pictures(pictures)) => {
                let order = secret_order(&pictures, about);
                let labels = order.iter().map(|at| pictures.labels()[*at as usize]).collect();
                Self::Features(rows, Some(Zeroizing::new(labels)))
            }
            (Some(rows), _) => Self::Features(rows, None),
            (None, Contribution::Data(samples)) => Self::Samples(samples),
            (None, _) => Self::Nothing,
        }
    }

    /// The order of an epoch's samples. Of an evaluation that in which they are, and the first one until the last batch is full.
    fn order(&self, epoch: u64, terms: &Terms, about: &About) -> Vec<u32> {
        match self {
            _ if terms.evaluates => {
                let full = terms.steps_per_epoch() as usize * BATCH;
                (0..).take(terms.samples as usize).chain(std::iter::repeat(0)).take(full).collect()
            }
            Self::Nothing => Vec::new(),
            Self::Samples(samples) => samples.order(&about.order, epoch),
            Self::Features(..) => shuffled(terms.samples as usize, &about.common, epoch),
        }
    }
}

/// The batches of a training.
pub(super) struct Batches {
    pub(super) source: Material,
    /// Of which epoch, and the order of its samples.
    order: Option<(u64, Zeroizing<Vec<u32>>)>,
}

impl Batches {
    /// Batches of a source.
    pub(super) fn of(source: Material) -> Self {
        Self { source, order: None }
    }

    /// That of the step after `done` steps.
    pub(super) fn at(&mut self, done: u64, terms: &Terms, about: &About) -> Chosen {
        let (epoch, batch) = (done / terms.steps_per_epoch(), (done % terms.steps_per_epoch()) as usize);
        let order = match &self.order {
            Some((of, order)) if *of == epoch => order,
            _ => &self.order.insert((epoch, Zeroizing::new(self.source.order(epoch, terms, about)))).1,
        };
        match &self.source {
            Material::Nothing => Chosen::Nothing,
            Material::Samples(samples) => {
                let (inputs, labels) = samples.batch(&terms.net, order, batch);
                Chosen::Batch(inputs, labels)
            }
            Material::Features(rows, labels) => {
                let count = terms.net.inputs(0);
                let mut own = Zeroizing::new(Vec::with_capacity(BATCH * count));
                chosen(order, batch).for_each(|at| own.extend(&rows.words()[at * count..][..count]));
                let own = RingShare::new(own, rows.ring());
                Chosen::Shares(own, labels.as_ref().map(|labels| chosen(order, batch).map(|at| labels[at]).collect()))
            }
        }
    }
}

/// In which order the samples of a head come, from the first to the last step: the server must not know which one is which.
pub(super) fn secret_order(pictures: &Pictures, about: &About) -> Zeroizing<Vec<u32>> {
    Zeroizing::new(shuffled(pictures.labels().len(), &about.order, 0))
}
