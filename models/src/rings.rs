//! Declared rings found by data, and the sums that wrap in them counted.
//!
//! A ring is *calibrated*: as wide as the sums of samples need it, and some bits to spare. No sum of the samples wraps then; of other
//! inputs a few may, and [`Network::run_batch_counting`] says how many.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::bounds::linear_bounds;
use crate::declared::{LEAST_ABOVE, values_of};
use crate::error::{InputError, ModelError};
use crate::interpret::Tensor;
use crate::limits::MAX_RING;
use crate::network::{Architecture, Declared, Op, Range};
use crate::parallel;
use crate::shape::of_channel;
use crate::weights::Network;

/// Bits between what the samples need and the ring, unless asked for others.
pub const SPARE: i32 = 1;

/// How often sums wrapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wraps {
    /// Sums that wrapped, by name of their node; none for nodes whose sums never did.
    pub nodes: BTreeMap<String, u64>,
    /// Inputs for which at least one did.
    pub inputs: u64,
}

impl Wraps {
    /// All sums that wrapped.
    pub fn sums(&self) -> u64 {
        self.nodes.values().sum()
    }

    /// With those of other inputs.
    #[must_use]
    pub fn and(mut self, other: Wraps) -> Wraps {
        self.inputs += other.inputs;
        for (name, count) in other.nodes {
            *self.nodes.entry(name).or_default() += count;
        }
        self
    }
}

/// Why rings were not calibrated.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// No samples.
    #[error("there is no input to calibrate with")]
    NoSamples,
    /// A sample that is none of the network's inputs.
    #[error(transparent)]
    Input(#[from] InputError),
    /// What came out breaks a rule.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Network {
    /// The network with these declared rings, by node, in place of those that it has.
    ///
    /// # Errors
    /// A node that cannot have such a ring.
    pub fn with_rings(&self, rings: BTreeMap<String, Vec<u32>>) -> Result<Network, ModelError> {
        let (mut architecture, weights) = self.clone().into_parts();
        architecture.declared.retain(|_, declared| {
            declared.ring.clear();
            *declared != Declared::default()
        });
        for (name, ring) in rings {
            architecture.declared.entry(name).or_default().ring = ring;
        }
        Network::new(architecture, weights)
    }

    /// The network with calibrated rings: each `spare` bits wider than the sums of the samples need (narrower where that is negative),
    /// wherever that is narrower than the weights need it and all readers can hold it.
    ///
    /// # Errors
    /// No samples, or samples that are no inputs of the network.
    pub fn calibrated(&self, samples: &[Tensor], spare: i32) -> Result<Network, CalibrationError> {
        if samples.is_empty() {
            return Err(CalibrationError::NoSamples);
        }
        let plain = self.with_rings(BTreeMap::new())?;
        let mut rings = BTreeMap::new();
        for (index, reached) in plain.reached(samples)? {
            let Ok(shift) = plain.architecture().declarable(index) else { continue };
            let needed = most_above(&reached, &shift, plain.architecture().half_coin(index));
            let ring = plain.ring_above(index, needed + i64::from(spare));
            rings.extend(ring.map(|ring| (plain.architecture().nodes[index].name.clone(), ring)));
        }
        Ok(plain.with_rings(rings)?)
    }

    /// The ring of node `index` with so many bits above the shifts of its readers, and [`LEAST_ABOVE`] at least; `None` where that is not
    /// narrower than weights and coins need it, or no ring can be declared.
    pub(crate) fn ring_above(&self, index: usize, above: i64) -> Option<Vec<u32>> {
        let shift = self.architecture().declarable(index).ok()?;
        let (terms, weights) = self.linear(index)?;
        let bounds = linear_bounds(terms, weights, self.tensors());
        let worst = most_above(&bounds, &shift, self.architecture().half_coin(index));
        let above = above.max(LEAST_ABOVE.into());
        let ring: Option<Vec<u32>> = shift.iter().map(|&shift| u32::try_from(above + i64::from(shift)).ok()).collect();
        ring.filter(|ring| above < worst && ring.iter().all(|&ring| ring <= MAX_RING))
    }

    /// The sums of every linear node on some inputs, by channel.
    fn reached(&self, inputs: &[Tensor]) -> Result<BTreeMap<usize, Vec<Range>>, InputError> {
        let of_part = |part: &[Tensor]| {
            let all: RefCell<BTreeMap<usize, Vec<Range>>> = RefCell::default();
            let seen = |index: usize, z: &Tensor| {
                let mut all = all.borrow_mut();
                let channels = all.entry(index).or_insert_with(|| vec![Range { lo: 0, hi: 0 }; z.dim().0]);
                for (range, plane) in channels.iter_mut().zip(z.outer_iter()) {
                    *range = plane.iter().fold(*range, |Range { lo, hi }, &z| Range { lo: lo.min(z), hi: hi.max(z) });
                }
            };
            self.run_batch_with(part, |_, _| None, seen).map(|_| all.into_inner())
        };
        let mut all: BTreeMap<usize, Vec<Range>> = BTreeMap::new();
        for part in parallel::parts(inputs, of_part) {
            for (index, channels) in part? {
                let known = all.entry(index).or_insert_with(|| channels.clone());
                for (known, own) in known.iter_mut().zip(channels) {
                    *known = Range { lo: known.lo.min(own.lo), hi: known.hi.max(own.hi) };
                }
            }
        }
        Ok(all)
    }

    /// As [`run_batch`](Self::run_batch), and how often sums wrapped.
    ///
    /// # Errors
    /// As [`run_batch`](Self::run_batch).
    pub fn run_batch_counting(&self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Wraps), InputError> {
        self.run_batch_seen(inputs, |_, _| None)
    }

    /// The same, where the requantisation of a node is `other(node, accumulator)` if that is something.
    pub(crate) fn run_batch_seen(
        &self,
        inputs: &[Tensor],
        other: impl Fn(usize, &Tensor) -> Option<Tensor>,
    ) -> Result<(Vec<Tensor>, Wraps), InputError> {
        let architecture = self.architecture();
        if !architecture.has_rings() {
            return Ok((self.run_batch_with(inputs, other, |_, _| {})?, Wraps::default()));
        }
        // Nodes come in order, input by input.
        let state = RefCell::new((Wraps::default(), usize::MAX, false));
        let seen = |index: usize, z: &Tensor| {
            let (wraps, last, wrapped) = &mut *state.borrow_mut();
            if index <= *last {
                *wrapped = false;
            }
            *last = index;
            let count = wraps_of(architecture, index, z);
            if count > 0 {
                wraps.inputs += u64::from(!std::mem::replace(wrapped, true));
                *wraps.nodes.entry(architecture.nodes[index].name.clone()).or_default() += count;
            }
        };
        let answers = self.run_batch_with(inputs, other, seen)?;
        Ok((answers, state.into_inner().0))
    }

    /// The same, on all cores.
    ///
    /// # Errors
    /// As [`run_batch`](Self::run_batch).
    pub fn run_batch_counting_parallel(&self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Wraps), InputError> {
        joined(parallel::parts(inputs, |part| self.run_batch_counting(part)))
    }

    /// Sums of one inference that have a declared ring.
    pub fn ringed_sums(&self) -> u64 {
        let nodes = 0..self.architecture().nodes.len();
        let ringed = nodes.filter(|&index| self.architecture().ring(index).is_some());
        ringed.map(|index| self.tensors()[index + 1].elements() as u64).sum()
    }
}

/// Answers one after the other, and all sums that wrapped.
pub(crate) fn joined<E>(parts: Vec<Result<(Vec<Tensor>, Wraps), E>>) -> Result<(Vec<Tensor>, Wraps), E> {
    let (mut answers, mut wraps) = (Vec::new(), Wraps::default());
    for part in parts {
        let (own, counted) = part?;
        answers.extend(own);
        wraps = wraps.and(counted);
    }
    Ok((answers, wraps))
}

/// The most bits that the sums of a channel need above its shift, the sign included, where coins move them by `half` at most.
pub(crate) fn most_above(channels: &[Range], shift: &[u32], half: i64) -> i64 {
    let above = |(channel, range): (usize, &Range)| {
        i64::from(range.widened(half).signed_bits()) - i64::from(of_channel(shift, channel))
    };
    channels.iter().enumerate().map(above).max().unwrap_or(0)
}

/// How many sums of a node are not in its declared ring.
fn wraps_of(architecture: &Architecture, index: usize, z: &Tensor) -> u64 {
    let Some(ring) = architecture.ring(index) else { return 0 };
    debug_assert!(matches!(architecture.nodes[index].op, Op::Linear { .. }));
    let outside = |(channel, plane): (usize, ndarray::ArrayView2<'_, i64>)| {
        let values = values_of(of_channel(ring, channel));
        plane.iter().filter(|&&z| !values.contains(z)).count() as u64
    };
    z.outer_iter().enumerate().map(outside).sum()
}
