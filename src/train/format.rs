//! Which network is trained, and in which numbers: fractional bits of values, bits of rings.
//!
//! A value x is an integer that stands for x / 2^f; a ring of ell bits holds its shares. Truncation leaves a smaller ring, so the bits of a
//! truncated value follow from its product's ring and from the two f.

use std::fmt;
use std::str::FromStr;

use lowkey_mpc::fixed::{score, softmax};
use lowkey_mpc::party::Party;

use super::maps::{Maps, Windows};

/// log2 of the samples of a step.
pub const BATCH_BITS: u8 = 7;
/// Samples of a step.
pub const BATCH: usize = 1 << BATCH_BITS;
/// Classes: the softmax's tables are made for ten.
pub const CLASSES: usize = 10;
/// Bits that three times a momentum lose: it keeps 29/32.
pub const DECAY_DROP: u8 = 5;

/// Most fractional bits of any value, and the largest j of a rate 2^-j: sums of some are below 2^8 then.
const MOST_FRACTION: u8 = 24;

/// Fractional bits of each kind of value, and the ring of each product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// f of the inputs.
    pub input: u8,
    /// f of activations.
    pub activation: u8,
    /// f of logits.
    pub logit: u8,
    /// f of weights inside a product.
    pub weight: u8,
    /// f of gradients of activations.
    pub gradient: u8,
    /// f of gradients of a convolution's outputs: there are many positions, and the gradient of a weight is their sum.
    pub map_gradient: u8,
    /// f of masters and momenta.
    pub master: u8,
    /// Ring of X W.
    pub forward: u8,
    /// Ring of delta W^T.
    pub back: u8,
    /// Ring of X^T delta, but for [`Self::update_of`].
    pub update: u8,
    /// Ring of masters and momenta.
    pub held: u8,
}

impl Format {
    /// The narrowest format that trains as well as float32 does: 97.6 % of MNIST's test images after three epochs of
    /// [`Net::a`](Net::a).
    pub const NARROW: Self = Self {
        input: 4,
        activation: 3,
        logit: 4,
        weight: 6,
        gradient: 5,
        map_gradient: 4,
        master: 13,
        forward: 18,
        back: 18,
        update: 19,
        held: 25,
    };

    /// All fields, in their order.
    pub fn bytes(&self) -> [u8; 11] {
        let Self { input, activation, logit, weight, gradient, map_gradient, master, forward, back, update, held } =
            *self;
        [input, activation, logit, weight, gradient, map_gradient, master, forward, back, update, held]
    }

    /// f of the inputs of layer `i`.
    pub fn input_of(&self, i: usize) -> u8 {
        if i == 0 { self.input } else { self.activation }
    }

    /// f of the outputs of layer `i` of `net`.
    pub fn output_of(&self, net: &Net, i: usize) -> u8 {
        if i + 1 == net.layers() { self.logit } else { self.activation }
    }

    /// Bits that a product of inputs and weights of layer `i` loses.
    pub fn forward_drop(&self, net: &Net, i: usize) -> u8 {
        self.input_of(i) + self.weight - self.output_of(net, i)
    }

    /// f of gradients of the outputs of layer `i` of `net`.
    pub fn gradient_of(&self, net: &Net, i: usize) -> u8 {
        if net.positions(i) > 1 { self.map_gradient } else { self.gradient }
    }

    /// Bits that a product of gradients and weights of layer `i`, which is not the first, loses.
    pub fn back_drop(&self, net: &Net, i: usize) -> u8 {
        self.gradient_of(net, i) + self.weight - self.gradient_of(net, i - 1)
    }

    /// Bits that a product of inputs and gradients of layer `i` loses at the rate 2^-`rate`: mean over the batch and rate are in it.
    pub fn update_drop(&self, net: &Net, i: usize, rate: u8) -> u8 {
        (self.input_of(i) + self.gradient_of(net, i) + BATCH_BITS + rate).saturating_sub(self.master)
    }

    /// Ring of X^T delta of layer `i`: a bit more for the last one behind pools, whose sums come within 1.2 bits of the ring that is enough for
    /// all others.
    pub fn update_of(&self, net: &Net, i: usize) -> u8 {
        self.update + u8::from(i + 1 == net.layers() && net.has_pools())
    }

    /// Bits that a master loses to become a weight of a product.
    pub fn weight_drop(&self) -> u8 {
        self.master - self.weight
    }

    /// Bits of the ring of logits of `net`.
    pub fn logit_width(&self, net: &Net) -> u8 {
        self.forward - self.forward_drop(net, net.layers() - 1)
    }

    /// The softmax of `net`.
    pub fn softmax(&self, net: &Net) -> softmax::Spec {
        let (classes, width) = (CLASSES as u8, self.logit_width(net));
        softmax::Spec { classes, width, fraction: self.logit, result: self.gradient, to: self.operand_of(net) }
    }

    /// The score of `net` on samples of `owner`.
    pub fn score(&self, net: &Net, owner: Party) -> score::Spec {
        score::Spec { classes: CLASSES as u8, width: self.logit_width(net), fraction: self.logit, owner }
    }

    /// Ring of activations and gradients of `net` that enter products.
    pub fn operand_of(&self, net: &Net) -> u8 {
        self.operand().max(self.update_of(net, net.layers() - 1))
    }

    /// The same where there are no pools, and of shared features.
    pub fn operand(&self) -> u8 {
        self.forward.max(self.back).max(self.update)
    }

    /// Whether `net` trains in this format at the rate 2^-`rate`.
    ///
    /// # Errors
    /// [`FormatError`], saying what does not fit.
    pub fn check(&self, net: &Net, rate: u8) -> Result<(), FormatError> {
        let refuse = |what| Err(FormatError { what });
        let [fractions @ .., _, _, _, _] = self.bytes();
        if fractions.iter().chain([&rate]).any(|bits| *bits > MOST_FRACTION) {
            return refuse("fractional bits, or j of the rate 2^-j, are more than 24");
        }
        if self.held < DECAY_DROP + 2 {
            return refuse("the ring of masters leaves no room for what momenta lose");
        }
        if self.logit < 3 || self.gradient > 20 || self.held > 48 || self.operand_of(net) > 48 {
            return refuse("logits have less than 3, gradients more than 20 fractional bits, or a ring more than 48");
        }
        if self.weight >= self.master || self.held < self.weight_drop() + self.forward.max(self.back) {
            return refuse(
                "the weights of products would need an extension: their ring is wider than what masters leave",
            );
        }
        for i in 0..net.layers() {
            if self.input_of(i) + self.weight < self.output_of(net, i) {
                return refuse("outputs of a layer have more fractional bits than its products");
            }
            if self.forward_drop(net, i) + 3 > self.forward {
                return refuse("products of inputs and weights leave less than three bits");
            }
            if self.input_of(i) + self.gradient_of(net, i) + BATCH_BITS + rate < self.master {
                return refuse("the rate is so large that gradients would have to be multiplied");
            }
            if self.update_drop(net, i, rate) + 3 > self.update_of(net, i) {
                return refuse("the rate is so small that products of inputs and gradients leave less than three bits");
            }
            if i > 0 && self.gradient_of(net, i) + self.weight < self.gradient_of(net, i - 1) {
                return refuse("gradients of a layer have more fractional bits than their products");
            }
            if i > 0 && self.back_drop(net, i) + 3 > self.back {
                return refuse("products of gradients and weights leave less than three bits");
            }
        }
        match self.softmax(net).check(None) {
            Ok(()) => Ok(()),
            Err(_) => refuse("the softmax has no program for the ring of the logits"),
        }
    }
}

/// Why a network does not train in a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the format does not fit: {what}")]
pub struct FormatError {
    what: &'static str,
}

/// The largest feature, in units of the inputs: 1.9 in real numbers. However large all of them are, what a step adds to a weight keeps its range.
pub(super) const MOST_FEATURE: u64 = 31;

/// A layer: dense, on each of many patches where it reads maps.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Layer {
    /// Inputs of a row, the one of the bias not counted.
    inputs: usize,
    /// Outputs of a row.
    outputs: usize,
    /// What a convolution reads.
    maps: Option<Maps>,
    /// Rows and columns of the windows of a max pool behind it; 1 for none.
    pool: usize,
}

/// Dense layers with rectifiers between them, and a softmax of ten classes at the end; every layer has a bias. The first ones may be
/// convolutions, each a dense layer on many patches, with max pools behind them; the patches of the first the samples' owner cuts out.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Net {
    layers: Vec<Layer>,
    /// The inputs are features of a network, of the client's samples in shares; else they are their owner's.
    on_features: bool,
}

impl Net {
    /// The network of these numbers of values: inputs, of each hidden layer, 10 classes.
    ///
    /// # Errors
    /// [`FormatError`] unless there are two or more, none is zero, and the last is 10.
    pub fn new(widths: &[usize]) -> Result<Self, FormatError> {
        let sound = widths.len() >= 2 && !widths.contains(&0) && widths.last() == Some(&CLASSES);
        if sound {
            Ok(Self::of(&[], widths))
        } else {
            Err(FormatError { what: "a network needs inputs and ends in ten classes" })
        }
    }

    /// Convolutions of these maps to so many, with a pool behind each, then dense layers.
    fn of(convolutions: &[(Maps, usize, usize)], dense: &[usize]) -> Self {
        let convolution = |(maps, outputs, pool): &(Maps, usize, usize)| Layer {
            inputs: maps.inputs(),
            outputs: *outputs,
            maps: Some(*maps),
            pool: *pool,
        };
        let dense = dense.windows(2).map(|pair| Layer { inputs: pair[0], outputs: pair[1], maps: None, pool: 1 });
        Self { layers: convolutions.iter().map(convolution).chain(dense).collect(), on_features: false }
    }

    /// 784-128-128-10.
    pub fn a() -> Self {
        Self::of(&[], &[784, 128, 128, CLASSES])
    }

    /// Two convolutions by 5 x 5, unpadded, with a max pool of 2 x 2 behind each: 28 x 28 pixels to 20 maps, these to 50; then 800-500-10.
    pub fn c() -> Self {
        let maps = |side, channels| Maps { side, channels, stride: 1, before: 0, after: 0 };
        Self::of(&[(maps(28, 1), 20, 2), (maps(12, 20), 50, 2)], &[800, 500, CLASSES])
    }

    /// A convolution of 28 x 28 pixels by 5 x 5 with stride 2 to five maps (padded as "same"), then 980-100-10.
    pub fn d() -> Self {
        Self::of(&[(Maps { side: 28, channels: 1, stride: 2, before: 1, after: 2 }, 5, 1)], &[980, 100, CLASSES])
    }

    /// A small network of all kinds of layers: pools of different sizes, a padded convolution.
    #[cfg(test)]
    pub(super) fn pools() -> Self {
        let first = Maps { side: 16, channels: 1, stride: 1, before: 0, after: 0 };
        let second = Maps { side: 6, channels: 3, stride: 1, before: 1, after: 2 };
        Self::of(&[(first, 3, 2), (second, 4, 5)], &[4, CLASSES])
    }

    /// One layer, on features.
    ///
    /// # Errors
    /// [`FormatError`] without features.
    pub fn head(features: usize) -> Result<Self, FormatError> {
        Self::new(&[features, CLASSES])
    }

    /// One layer on features that both parties have shares of, of a network whose last layer it becomes. Who does not have that network
    /// does not know how many they are: 0.
    pub fn on_features(features: usize) -> Self {
        Self { on_features: true, ..Self::of(&[], &[features, CLASSES]) }
    }

    /// Whether it is one of [`Net::on_features`].
    pub fn is_on_features(&self) -> bool {
        self.on_features
    }

    /// Who knows the inputs of layer `i` in a step on samples of `owner`. Features of the client's samples are shared; what is before a head is
    /// the server's, which computes those of its own.
    pub(super) fn known_to(&self, i: usize, owner: Party) -> Option<Party> {
        (i == 0 && !(self.on_features && owner == Party::Client)).then_some(owner)
    }

    /// The largest magnitude of an input.
    pub(super) fn most_input(&self, format: &Format) -> u64 {
        match self.on_features {
            true => MOST_FEATURE,
            false => 1_u64.checked_shl(format.input.into()).unwrap_or(u64::MAX),
        }
    }

    /// Positions of the first layer, then the numbers of values: its inputs, the outputs of each; per position. No two networks have the same.
    pub(super) fn shape(&self) -> (usize, Vec<usize>) {
        let outputs = self.layers.iter().map(|layer| layer.outputs);
        (self.positions(0), std::iter::once(self.inputs(0)).chain(outputs).collect())
    }

    /// How many layers there are.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// What layer `i` reads, if it is a convolution.
    pub(super) fn maps(&self, i: usize) -> Option<&Maps> {
        self.layers[i].maps.as_ref()
    }

    /// The max pool behind layer `i`.
    pub(super) fn windows(&self, i: usize) -> Option<Windows> {
        let Layer { outputs, maps, pool, .. } = &self.layers[i];
        let side = maps.as_ref()?.patches();
        (*pool > 1).then_some(Windows { pool: *pool, side, channels: *outputs })
    }

    /// True if there is a max pool behind any layer.
    fn has_pools(&self) -> bool {
        (0..self.layers()).any(|i| self.windows(i).is_some())
    }

    /// Values of a sample.
    pub(super) fn values(&self) -> usize {
        self.maps(0).map_or(self.inputs(0), Maps::values)
    }

    /// Rows of a sample in layer `i`.
    pub fn positions(&self, i: usize) -> usize {
        self.maps(i).map_or(1, |maps| maps.patches() * maps.patches())
    }

    /// Rows of a batch in layer `i`.
    pub fn rows(&self, i: usize) -> usize {
        BATCH * self.positions(i)
    }

    /// Inputs of a row of layer `i`, the one of the bias not counted.
    pub fn inputs(&self, i: usize) -> usize {
        self.layers[i].inputs
    }

    /// Outputs of a row of layer `i`.
    pub fn outputs(&self, i: usize) -> usize {
        self.layers[i].outputs
    }

    /// What layer `i` leaves of a batch, behind its pool and its rectifier.
    pub(super) fn activations(&self, i: usize) -> usize {
        let pool = self.layers[i].pool;
        self.rows(i) * self.outputs(i) / (pool * pool)
    }

    /// Weights of layer `i`, biases included: a matrix of inputs + 1 rows, the last for the bias.
    pub fn weights(&self, i: usize) -> usize {
        (self.inputs(i) + 1) * self.outputs(i)
    }
}

impl fmt::Display for Net {
    /// As it is parsed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<String> = self.shape().1.iter().map(usize::to_string).collect();
        f.write_str(&match self {
            net if *net == Self::a() => "A".to_owned(),
            net if *net == Self::c() => "C".to_owned(),
            net if *net == Self::d() => "D".to_owned(),
            net if net.on_features => "head".to_owned(),
            _ => widths.join("-"),
        })
    }
}

impl FromStr for Net {
    type Err = FormatError;

    /// A, C, D or head, or numbers of values as in 64-32-10.
    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "A" | "a" => Ok(Self::a()),
            "C" | "c" => Ok(Self::c()),
            "D" | "d" => Ok(Self::d()),
            "head" => Ok(Self::on_features(0)),
            _ => {
                let widths: Result<Vec<usize>, _> = text.split('-').map(str::parse).collect();
                let unread = FormatError { what: "a network is A, C, D, head or numbers of values, as in 64-32-10" };
                Self::new(&widths.map_err(|_| unread)?)
            }
        }
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (positions, widths) = self.shape();
        let widths: Vec<String> = widths.iter().map(usize::to_string).collect();
        match positions {
            1 if self.on_features => write!(f, "Net({} on shares)", widths.join("-")),
            1 => write!(f, "Net({})", widths.join("-")),
            n => write!(f, "Net({} at {n} positions)", widths.join("-")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_design() {
        let (format, net) = (Format::NARROW, Net::a());
        format.check(&net, 4).unwrap();
        assert_eq!([0, 1, 2].map(|i| format.forward - format.forward_drop(&net, i)), [11, 12, 13]);
        assert_eq!([0, 1].map(|i| format.update - format.update_drop(&net, i, 4)), [12, 13]);
        assert_eq!(
            (format.back - format.back_drop(&net, 1), format.held - format.weight_drop(), format.operand()),
            (12, 18, 19)
        );
        assert_eq!((net.weights(0), format!("{net:?}").as_str()), (785 * 128, "Net(784-128-128-10)"));
    }

    /// A sum over the batch of features times gradients, which are at most one and a unit of rounding, stays two bits below its ring.
    #[test]
    fn updates_of_a_head_cannot_leave_their_range() {
        let format = Format::NARROW;
        let gradient = (1_u64 << format.gradient) + 1;
        assert!(BATCH as u64 * MOST_FEATURE * gradient < 1 << (format.update - 2));
        assert!(BATCH as u64 * (MOST_FEATURE + 1) * gradient > 1 << (format.update - 2));
    }

    #[test]
    fn a_convolution_is_a_layer_on_patches() {
        let (format, net) = (Format::NARROW, Net::d());
        format.check(&net, 4).unwrap();
        assert_eq!(
            [0, 1, 2].map(|i| (net.rows(i), net.inputs(i), net.outputs(i))),
            [(25_088, 25, 5), (128, 980, 100), (128, 100, 10)]
        );
        assert_eq!([1, 2].map(|i| format.back_drop(&net, i)), [7, 6]);
    }

    #[test]
    fn convolutions_have_pools() {
        let (format, net) = (Format::NARROW, Net::c());
        format.check(&net, 4).unwrap();
        let sizes = [0, 1, 2, 3].map(|i| (net.rows(i), net.inputs(i), net.outputs(i), net.activations(i)));
        let wanted =
            [(73_728, 25, 20, 368_640), (8192, 500, 50, 102_400), (128, 800, 500, 64_000), (128, 500, 10, 1280)];
        assert_eq!(sizes, wanted);
        assert_eq!([1, 2, 3].map(|i| format.back_drop(&net, i)), [6, 7, 6]);
        assert_eq!([0, 1].map(|i| net.windows(i).map(|windows| windows.size())), [Some(4); 2]);
        assert_eq!((net.values(), net.shape()), (784, (576, vec![25, 20, 50, 500, 10])));
        // What a layer leaves is what the next one reads.
        for net in [Net::a(), net, Net::d(), Net::pools()] {
            for i in 1..net.layers() {
                let read = net.maps(i).map_or(net.inputs(i), Maps::values);
                assert_eq!(net.activations(i - 1), BATCH * read, "layer {i} of {net:?}");
            }
        }
    }

    #[test]
    fn networks_are_read_as_they_are_written() {
        for text in ["A", "C", "D", "head", "64-32-10", "7-10"] {
            assert_eq!(text.parse::<Net>().unwrap().to_string(), text);
        }
        assert_eq!(
            ["784-128-128-10", "c", "d"].map(|text| text.parse::<Net>().unwrap()),
            [Net::a(), Net::c(), Net::d()]
        );
        for text in ["", "B", "10", "64-9", "64--10", "-1-10", "64-0-10", "99999999999999999999-10"] {
            assert!(text.parse::<Net>().is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let (format, net) = (Format::NARROW, Net::a());
        let wrong = [
            Format { held: 24, ..format },
            Format { logit: 2, ..format },
            Format { weight: 13, ..format },
            Format { forward: 9, ..format },
            Format { back: 8, ..format },
            Format { update: 9, ..format },
        ];
        for format in wrong {
            assert!(format.check(&net, 4).is_err(), "{format:?}");
        }
        assert!(Format { gradient: 0, activation: 0, ..format }.check(&net, 4).is_err());
        assert!(format.check(&net, 14).is_err());
        for widths in [&[][..], &[10], &[4, 0, 10], &[4, 9]] {
            assert!(Net::new(widths).is_err());
        }
        assert!(Net::head(64).is_ok());
    }

    /// Whatever numbers a format has, it is refused or has a plan, and no sum of them wraps.
    #[test]
    fn hostile_formats_are_refused() {
        use crate::train::plan::StepPlan;
        const HOSTILE: [u8; 12] = [0, 2, 4, 7, 24, 25, 32, 48, 64, 128, 240, 255];
        let formats = |change: &mut dyn FnMut(Format)| {
            for (i, j) in (0..11).flat_map(|i| (0..=i).map(move |j| (i, j))) {
                for (a, b) in HOSTILE.iter().flat_map(|a| HOSTILE.map(|b| (*a, b))) {
                    let mut bytes = Format::NARROW.bytes();
                    (bytes[i], bytes[j]) = (a, b);
                    let [input, activation, logit, weight, gradient, map_gradient, master, rings @ ..] = bytes;
                    let [forward, back, update, held] = rings;
                    let map = map_gradient;
                    change(Format {
                        input,
                        activation,
                        logit,
                        weight,
                        gradient,
                        map_gradient: map,
                        master,
                        forward,
                        back,
                        update,
                        held,
                    });
                }
            }
        };
        for net in [Net::new(&[3, 2, 10]).unwrap(), Net::d()] {
            for rate in [0, 4, 24, 25, 240, 255] {
                let mut sound = 0;
                formats(&mut |format| {
                    if format.check(&net, rate).is_ok() {
                        sound += 1;
                        if sound % 256 == 1
                            && net.rows(0) == BATCH
                            && let Ok(plan) =
                                StepPlan::new(&net, format, rate, Party::Client, [8, 40], Default::default())
                        {
                            assert!(!plan.products().is_empty());
                        }
                    }
                });
                assert!(if rate > MOST_FRACTION { sound == 0 } else { sound > 0 || rate > 4 }, "{net:?} at {rate}");
            }
        }
        let wrong = [
            Format { input: 32, ..Format::NARROW },
            Format { weight: 0, master: 1, forward: 3, back: 3, update: 4, held: 4, ..Format::NARROW },
        ];
        for format in wrong {
            assert!(format.check(&Net::head(4).unwrap(), 1).is_err(), "{format:?}");
        }
    }
}
