//! What a party has to train on: read and checked before anybody is asked, shuffled anew for every epoch.

use std::fmt;
use std::sync::{Arc, Mutex};

use lowkey_models::coding::{Coding, Dtype, Order, RoundingMode, Rule};
use lowkey_models::data::Inputs;
use lowkey_models::{Input, Shape};
use lowkey_mpc::erasing::OnceRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest as _, Sha256};

use super::batch::pixels;
use super::format::{BATCH, CLASSES, Format, Net};
use super::terms::MOST_SAMPLES;

/// Inputs and labels in the clear. Prints redacted.
#[derive(Clone)]
pub struct Samples {
    /// Rows of `size` values, with the format's fractional bits; or of features.
    values: Vec<u8>,
    size: usize,
    labels: Vec<u8>,
}

/// Why samples are none. Values are not told, only where they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplesError {
    /// Another number of values than the network reads.
    #[error("an input has the shape {found:?}, the network reads {wanted:?}")]
    Shape {
        /// Of the inputs.
        found: Shape,
        /// Of the network's.
        wanted: Shape,
    },
    /// Inputs and labels that do not belong together.
    #[error("{inputs} inputs but {labels} labels")]
    Counts {
        /// How many inputs.
        inputs: usize,
        /// How many labels.
        labels: usize,
    },
    /// Too few or too many.
    #[error("{found} samples: {} takes {least} to {}", if *least > 1 { "training" } else { "an evaluation" }, MOST_SAMPLES)]
    Count {
        /// How many.
        found: usize,
        /// The fewest.
        least: usize,
    },
    /// A label that is no class.
    #[error("the label of sample {sample} is no class: they are 0 to 9")]
    Class {
        /// Which sample.
        sample: usize,
    },
    /// A value above one.
    #[error("an input of sample {sample} is larger than one, which is {one}")]
    Magnitude {
        /// Which sample.
        sample: usize,
        /// The largest value.
        one: u8,
    },
}

/// What a network of this kind reads, in training and as a `.lowkey` file: real numbers from 0 to 1 as multiples of 1/16, rounded to
/// nearest. Pixels of 8 bits are divided by 255. An array of bytes has these multiples themselves, 0 to 16; nothing above one is read.
pub fn input(net: &Net) -> Input {
    let (format, size) = (Format::NARROW, net.values());
    let side = size.isqrt();
    let shape = if side * side == size && side > 1 { [1, side, side] } else { [size, 1, 1] };
    let all: Vec<u8> = (0..=255).collect();
    let table: Vec<u8> = pixels(&all, format.input).into_iter().map(|y| y as u8).collect();
    let pixels = Some(vec![table; shape[0]]);
    let (bits, one) = (u32::from(format.input) + 1, 1 << format.input);
    let coding = Coding {
        dims: if shape[1] > 1 { shape.to_vec() } else { vec![size] },
        order: Order::ChannelsFirst,
        dtype: Dtype::Uint(bits),
        lowest: 0,
        highest: one,
        scale: Some(1.0 / one as f32),
        zero_point: 0,
        steps: Vec::new(),
        rule: Rule::Qonnx(RoundingMode::HalfEven),
        integers: false,
    };
    Input { shape, bits, zero_point: 0, pixels, coding: Some(coding) }
}

impl Samples {
    /// Samples to train a network on; the inputs were read as [`input`] says.
    ///
    /// # Errors
    /// [`SamplesError`], saying what is wrong and where.
    pub fn new(net: &Net, inputs: &Inputs, labels: &[u8]) -> Result<Self, SamplesError> {
        Self::of(net, inputs, labels, BATCH)
    }

    /// The same to evaluate a network on, one at least.
    ///
    /// # Errors
    /// As [`Samples::new`].
    pub fn held_out(net: &Net, inputs: &Inputs, labels: &[u8]) -> Result<Self, SamplesError> {
        Self::of(net, inputs, labels, 1)
    }

    fn of(net: &Net, inputs: &Inputs, labels: &[u8], least: usize) -> Result<Self, SamplesError> {
        let wanted = input(net).shape;
        if inputs.shape() != wanted {
            return Err(SamplesError::Shape { found: inputs.shape(), wanted });
        }
        let size = wanted.iter().product();
        Self::of_values(inputs.stored().flatten().copied().collect(), size, labels.to_vec(), least)
    }

    fn of_values(values: Vec<u8>, size: usize, labels: Vec<u8>, least: usize) -> Result<Self, SamplesError> {
        let found = values.len() / size;
        if found != labels.len() {
            return Err(SamplesError::Counts { inputs: found, labels: labels.len() });
        }
        check_labels(&labels, least)?;
        let one = 1 << Format::NARROW.input;
        match values.iter().position(|value| *value > one) {
            Some(place) => Err(SamplesError::Magnitude { sample: place / size, one }),
            None => Ok(Self { values, size, labels }),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Never true: no samples are refused.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// For this party alone: whether a checkpoint was made with these.
    pub(super) fn digest(&self) -> [u8; 32] {
        let size = (self.size as u64).to_le_bytes();
        Sha256::new().chain_update(size).chain_update(&self.values).chain_update(&self.labels).finalize().into()
    }

    /// Features of a party's own samples, rows of `size` of them.
    pub(super) fn of_features(values: Vec<u8>, size: usize, labels: Vec<u8>) -> Self {
        assert_eq!(values.len(), size * labels.len(), "a row of features for each sample");
        Self { values, size, labels }
    }

    /// Inputs and labels of batch `batch` of an epoch's order, rows as the network reads them.
    pub(super) fn batch(&self, net: &Net, order: &[u32], batch: usize) -> (Vec<i64>, Vec<u8>) {
        self.rows(net, chosen(order, batch))
    }

    /// Those of some samples.
    pub(super) fn rows(&self, net: &Net, chosen: impl Iterator<Item = usize> + Clone) -> (Vec<i64>, Vec<u8>) {
        let row = |at: usize| self.values[at * self.size..][..self.size].iter().map(|value| i64::from(*value));
        let inputs: Vec<i64> = chosen.clone().flat_map(row).collect();
        let inputs = match net.maps(0) {
            None => inputs,
            Some(maps) => maps.columns(&inputs),
        };
        (inputs, chosen.map(|at| self.labels[at]).collect())
    }
}

/// The samples of batch `batch` of an order.
pub(super) fn chosen(order: &[u32], batch: usize) -> impl Iterator<Item = usize> + Clone + '_ {
    order[batch * BATCH..][..BATCH].iter().map(|at| *at as usize)
}

/// The numbers below `count`, shuffled, the same way whenever `seed` and `epoch` are.
pub(super) fn shuffled(count: usize, seed: &[u8; 32], epoch: u64) -> Vec<u32> {
    let label = b"lowkey training: order";
    let hash = Sha256::new().chain_update(label).chain_update(seed).chain_update(epoch.to_le_bytes());
    let mut rng = OnceRng::from_seed(hash.finalize().into());
    let mut order: Vec<u32> = (0..).take(count).collect();
    for last in (1..order.len()).rev() {
        // A bias of 2^-38 at most.
        let other = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, other as usize);
    }
    order
}

/// Fails unless there are so many samples, with a class each.
fn check_labels(labels: &[u8], least: usize) -> Result<(), SamplesError> {
    let found = labels.len();
    if found < least || found as u64 > MOST_SAMPLES {
        return Err(SamplesError::Count { found, least });
    }
    match labels.iter().position(|label| usize::from(*label) >= CLASSES) {
        Some(sample) => Err(SamplesError::Class { sample }),
        None => Ok(()),
    }
}

/// Reads inputs as a network reads them.
pub type Reader = Arc<dyn Fn(&Input) -> crate::Result<Inputs> + Send + Sync>;

/// The digest of a network, and what it made of all inputs.
type Computed = ([u8; 32], Arc<Vec<i64>>);

/// What a head is trained on: classes, and inputs of the network whose features it reads. That network is the model owner's, so the inputs are
/// read once it has said what it reads. Prints redacted.
#[derive(Clone)]
pub struct Pictures {
    labels: Vec<u8>,
    pub(super) read: Reader,
    /// At the owner of the network: what is before the last layer, by its digest, and its features. They are computed before anybody waits.
    pub(super) features: Arc<Mutex<Option<Computed>>>,
}

impl Pictures {
    /// Classes in the order of the inputs that `read` gives.
    ///
    /// # Errors
    /// [`SamplesError`] if they are too few, or no classes.
    pub fn new(labels: Vec<u8>, read: Reader) -> Result<Self, SamplesError> {
        check_labels(&labels, BATCH).map(|()| Self { labels, read, features: Arc::default() })
    }

    /// The same to evaluate a head on, one at least.
    ///
    /// # Errors
    /// As [`Pictures::new`].
    pub fn held_out(labels: Vec<u8>, read: Reader) -> Result<Self, SamplesError> {
        check_labels(&labels, 1).map(|()| Self { labels, read, features: Arc::default() })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.labels.len()
    }

    /// The classes.
    pub(super) fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// For this party alone: whether a checkpoint was made with these. The features are in it.
    pub(super) fn digest(&self) -> [u8; 32] {
        Sha256::new().chain_update(b"labels").chain_update(&self.labels).finalize().into()
    }
}

impl fmt::Debug for Pictures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pictures({}, redacted)", self.labels.len())
    }
}

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Samples({} of {} values, redacted)", self.len(), self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(count: usize) -> Samples {
        let values = (0..count * 3).map(|i| (i % 17) as u8).collect();
        Samples::of_values(values, 3, (0..count).map(|i| (i % 10) as u8).collect(), BATCH).unwrap()
    }

    #[test]
    fn refuses_what_are_no_samples() {
        let of =
            |values: usize, labels: usize| Samples::of_values(vec![16; values * 3], 3, vec![9; labels], BATCH).err();
        assert_eq!(of(128, 128), None);
        assert_eq!(of(128, 127), Some(SamplesError::Counts { inputs: 128, labels: 127 }));
        assert_eq!(of(127, 127), Some(SamplesError::Count { found: 127, least: 128 }));
        let few = |count: usize| Samples::of_values(vec![16; count * 3], 3, vec![9; count], 1).err();
        assert_eq!((few(1), few(0)), (None, Some(SamplesError::Count { found: 0, least: 1 })));
        let mut labels = vec![0; 200];
        labels[130] = 10;
        assert_eq!(Samples::of_values(vec![0; 600], 3, labels, BATCH).err(), Some(SamplesError::Class { sample: 130 }));
        let mut values = vec![0; 600];
        values[301] = 17;
        let refused = Samples::of_values(values, 3, vec![0; 200], BATCH).err();
        assert_eq!(refused, Some(SamplesError::Magnitude { sample: 100, one: 16 }));
        assert_eq!(format!("{:?}", samples(130)), "Samples(130 of 3 values, redacted)");
    }

    /// Every sample once in an epoch, in another order in each, and in the same again.
    #[test]
    fn orders_are_shuffles() {
        let samples = samples(300);
        let [first, again, second, other] =
            [([1; 32], 0), ([1; 32], 0), ([1; 32], 1), ([2; 32], 0)].map(|(seed, epoch)| shuffled(300, &seed, epoch));
        assert_eq!(first, again);
        assert!(first != second && first != other && second != other);
        for order in [&first, &second, &other] {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..300).collect::<Vec<u32>>());
        }
        let net = Net::new(&[3, 10]).unwrap();
        let (inputs, labels) = samples.batch(&net, &first, 1);
        let at = first[BATCH] as usize;
        assert_eq!((inputs[0], labels[0]), ((at * 3 % 17) as i64, (at % 10) as u8));
        assert_eq!((inputs.len(), labels.len()), (3 * BATCH, BATCH));
    }

    /// Bytes 0 to 16 and real numbers from 0 to 1 are the same, in training and in the network that comes of it; 17 is refused in both.
    #[test]
    fn arrays_say_what_one_is() {
        let npy = |dtype: &str, data: &[u8]| {
            let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': (1, 2, 2), }}\n");
            let length = (header.len() as u16).to_le_bytes();
            [&b"\x93NUMPY\x01\0"[..], &length, header.as_bytes(), data].concat()
        };
        let input = input(&Net::head(4).unwrap());
        let bytes = Inputs::from_bytes(&npy("|u1", &[0, 4, 8, 16]), &input).unwrap();
        let reals = [0.0f32, 0.25, 0.5, 1.0].map(f32::to_le_bytes).concat();
        assert!(Inputs::from_bytes(&npy("<f4", &reals), &input).unwrap() == bytes);
        assert!(Inputs::from_bytes(b"0,0.25,0.5,1\n", &input).unwrap() == bytes);
        assert!(Inputs::from_bytes(&npy("|u1", &[0, 4, 8, 17]), &input).is_err());
    }

    #[test]
    fn inputs_are_pictures_where_they_can_be() {
        assert_eq!([Net::a(), Net::d()].map(|net| input(&net).shape), [[1, 28, 28]; 2]);
        assert_eq!(input(&Net::head(10).unwrap()).shape, [10, 1, 1]);
        let input = input(&Net::head(64).unwrap());
        assert_eq!((input.shape, input.bits), ([1, 8, 8], 5));
        let table = &input.pixels.as_ref().unwrap()[0];
        assert_eq!([0, 7, 8, 127, 247, 248, 255].map(|pixel| table[pixel]), [0, 0, 1, 8, 15, 16, 16]);
    }

    /// Samples are those of the file, and belong to a network of their shape alone.
    #[test]
    fn samples_are_what_was_read() {
        let net = Net::head(4).unwrap();
        let pixels: Vec<u8> = (0..128 * 4).map(|i| (i % 256) as u8).collect();
        let mut idx = vec![0, 0, 8, 3, 0, 0, 0, 128, 0, 0, 0, 2, 0, 0, 0, 2];
        idx.extend(&pixels);
        let inputs = Inputs::from_bytes(&idx, &input(&net)).unwrap();
        let samples = Samples::new(&net, &inputs, &[3; 128]).unwrap();
        assert_eq!(samples.values[..4], [0; 4]);
        assert_eq!(samples.values[255], 16);
        let refused = Samples::new(&Net::head(9).unwrap(), &inputs, &[3; 128]).err();
        assert_eq!(refused, Some(SamplesError::Shape { found: [1, 2, 2], wanted: [1, 3, 3] }));
        assert_ne!(samples.digest(), Samples { labels: vec![4; 128], ..samples.clone() }.digest());
    }
}
