//! What a step trains on: checked before anything is sent.

use super::format::{BATCH, CLASSES, Format, Net};
use crate::share::RingShare;

/// A batch in the clear, of the sizes of a network.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    inputs: &'a [i64],
    labels: &'a [u8],
}

/// Why a batch is none. Values are not told, only where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Another number of inputs.
    #[error("a batch has {expected} inputs, not {found}")]
    Inputs {
        /// Those of the network.
        expected: usize,
        /// Those given.
        found: usize,
    },
    /// Another number of labels.
    #[error("a batch has {} labels, not {found}", BATCH)]
    Labels {
        /// Those given.
        found: usize,
    },
    /// A label that is no class.
    #[error("the label of sample {sample} is no class: they are 0 to 9")]
    Class {
        /// Which sample.
        sample: usize,
    },
    /// An input that the products have no room for.
    #[error("input {place} is larger than one: scale inputs to -1 to 1")]
    Magnitude {
        /// Which input, all samples after one another.
        place: usize,
    },
}

impl<'a> Batch<'a> {
    /// Rows of inputs, [`Net::rows`] of the first layer, with the format's fractional bits and up to one, features up to 1.9; and a class for each of
    /// [`BATCH`] samples.
    ///
    /// # Errors
    /// [`BatchError`], saying what is wrong.
    pub fn new(net: &Net, format: &Format, inputs: &'a [i64], labels: &'a [u8]) -> Result<Self, BatchError> {
        let expected = net.rows(0) * net.inputs(0);
        if inputs.len() != expected {
            return Err(BatchError::Inputs { expected, found: inputs.len() });
        }
        if labels.len() != BATCH {
            return Err(BatchError::Labels { found: labels.len() });
        }
        if let Some(sample) = labels.iter().position(|label| usize::from(*label) >= CLASSES) {
            return Err(BatchError::Class { sample });
        }
        let most = net.most_input(format);
        match inputs.iter().position(|x| x.unsigned_abs() > most) {
            Some(place) => Err(BatchError::Magnitude { place }),
            None => Ok(Self { inputs, labels }),
        }
    }

    /// The inputs, row by row.
    pub fn inputs(&self) -> &'a [i64] {
        self.inputs
    }

    /// The classes.
    pub fn labels(&self) -> &'a [u8] {
        self.labels
    }

    /// Fails if the batch was made for another network: our bug.
    pub(super) fn assert_of(&self, net: &Net) {
        assert_eq!(self.inputs.len(), net.rows(0) * net.inputs(0), "a batch of {net:?}");
    }
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} inputs, ..)", self.inputs.len())
    }
}

/// What a party brings to a step.
#[derive(Clone, Copy)]
pub enum Given<'a> {
    /// Who is not the owner of the batch, where that one has the inputs.
    Nothing,
    /// The owner, where it has the inputs.
    Batch(Batch<'a>),
    /// Either party, where they are shared: its share of them, row by row. The owner with the classes.
    Shares(&'a RingShare, Option<&'a [u8]>),
}

impl<'a> Given<'a> {
    /// The classes, at the owner.
    pub(super) fn labels(self) -> Option<&'a [u8]> {
        match self {
            Self::Nothing => None,
            Self::Batch(batch) => Some(batch.labels()),
            Self::Shares(_, labels) => labels,
        }
    }
}

impl std::fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Given(nothing)",
            Self::Batch(_) => "Given(a batch)",
            Self::Shares(..) => "Given(shares, redacted)",
        })
    }
}

impl<'a> From<Option<Batch<'a>>> for Given<'a> {
    fn from(batch: Option<Batch<'a>>) -> Self {
        batch.map_or(Self::Nothing, Self::Batch)
    }
}

/// Pixels as inputs of `fraction` fractional bits, 1 being 256; rounded to nearest.
///
/// # Panics
/// If there are more than eight fractional bits.
pub fn pixels(bytes: &[u8], fraction: u8) -> Vec<i64> {
    assert!(fraction <= 8, "a pixel has eight bits");
    bytes.iter().map(|pixel| (i64::from(*pixel) + (128 >> fraction)) >> (8 - fraction)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_batch() {
        let (net, format) = (Net::head(3).unwrap(), Format::NARROW);
        let (inputs, labels) = (vec![16; 3 * BATCH], vec![9; BATCH]);
        assert!(Batch::new(&net, &format, &inputs, &labels).is_ok());
        let of = |inputs: &[i64], labels: &[u8]| Batch::new(&net, &format, inputs, labels).unwrap_err();
        assert_eq!(of(&inputs[1..], &labels), BatchError::Inputs { expected: 384, found: 383 });
        assert_eq!(of(&inputs, &labels[2..]), BatchError::Labels { found: 126 });
        let mut wrong = labels.clone();
        wrong[5] = 10;
        assert_eq!(of(&inputs, &wrong), BatchError::Class { sample: 5 });
        for x in [17, -17, i64::MIN] {
            let mut wrong = inputs.clone();
            wrong[7] = x;
            assert_eq!(of(&wrong, &labels), BatchError::Magnitude { place: 7 });
        }
    }

    #[test]
    fn pixels_are_rounded() {
        assert_eq!(pixels(&[0, 7, 8, 23, 24, 255], 4), [0, 0, 1, 1, 2, 16]);
    }
}
