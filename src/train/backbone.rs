//! A network whose last layer is to be trained anew: what is before it, and how the trained head takes its place.
//!
//! The head reads features: the tensor x, from lo to hi, that the last dense layer reads. Training sees t = T(x - lo, s), which is at most
//! [`MOST_FEATURE`], with the format's 4 fractional bits. In the network that is written the head reads x as it is,
//!
//! ```text
//! logits = (W x + b) / 2^f        f = s + 4 + fw,   W = round(w / 2^(fm - fw)),   b = round(w_bias 2^(f - fm)) - lo * (sums of W's rows)
//! ```
//!
//! so that nothing of it is rounded but the weights.

use std::sync::{Arc, PoisonError};

use lowkey_models::network::{Node, Op, Term};
use lowkey_models::{Architecture, LinearWeights, Network};
use lowkey_mpc::fixed::truncate;
use ndarray::Array4;
use sha2::{Digest as _, Sha256};

use super::coins::{Coins, Site, Value};
use super::export::{MOST, WEIGHT_BITS, nearest};
use super::format::{BATCH, CLASSES, Format, MOST_FEATURE, Net};
use super::samples::{Pictures, Samples};
use crate::error::{Error, Result};
use crate::plan::{Plan, TensorId};

/// The tensor that a head reads. Public to both parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features {
    /// How many there are.
    pub(super) count: usize,
    /// The lowest value.
    pub(super) lowest: i64,
    /// s: the low bits that training drops.
    pub(super) dropped: u8,
}

impl Features {
    fn new(count: usize, [lowest, highest]: [i64; 2]) -> Self {
        let span = (highest - lowest).unsigned_abs();
        let fits = |s: &u8| span.div_ceil(1_u64 << *s) <= MOST_FEATURE;
        Self { count, lowest, dropped: (0..=62).find(fits).unwrap_or(62) }
    }

    /// Of the output of a plan.
    pub(super) fn of(plan: &Plan) -> Self {
        let output = &plan.tensors[TensorId::new(plan.architecture.output)];
        Self::new(output.elements(), [output.range.lo, output.range.hi])
    }
}

/// A network whose last layer is a dense one, of activations.
#[derive(Clone, Debug)]
pub(super) struct Backbone {
    whole: Network,
    /// What is before the last layer; its output are the features.
    before: Network,
}

impl Backbone {
    /// Takes a network apart.
    ///
    /// # Errors
    /// [`Error::Usage`] if it does not end in a dense layer.
    pub(super) fn of(network: &Network) -> Result<Self> {
        let architecture = network.architecture();
        let refuse = |what: &str| {
            let what = format!("{}: {what}", architecture.name);
            Error::usage(what, "a head is trained for a network that ends in one dense layer")
        };
        let Some((Node { op: Op::Linear { terms }, name }, nodes)) = architecture.nodes.split_last() else {
            return Err(refuse("its last layer is no dense one"));
        };
        let ([Term::Dense { input, .. }], true) = (&terms[..], architecture.output == architecture.nodes.len()) else {
            return Err(refuse("its last layer is no dense one"));
        };
        if *input == 0 {
            return Err(refuse("it has no layer but the last"));
        }
        let mut declared = architecture.declared.clone();
        declared.remove(name);
        let before = Architecture {
            declared,
            nodes: nodes.to_vec(),
            output: *input,
            output_scale: None,
            output_coding: None,
            classes: Vec::new(),
            ..architecture.clone()
        };
        let mut weights = network.weights().clone();
        weights.linear.pop();
        let before = Network::new(before, weights).map_err(|error| Error::Model(Box::new(error)))?;
        Ok(Self { whole: network.clone(), before })
    }

    /// What is before the last layer.
    pub(super) fn before(&self) -> &Network {
        &self.before
    }

    /// Of what is before the last layer: whether features are this network's.
    ///
    /// # Errors
    /// None for a network that was read.
    pub(super) fn digest(&self) -> Result<[u8; 32]> {
        let bytes = self.before.to_bytes_without_digest().map_err(|error| Error::Model(Box::new(error)))?;
        Ok(Sha256::digest(bytes).into())
    }

    /// What the head reads.
    pub(super) fn features(&self) -> Features {
        let output = self.before.tensors()[self.before.architecture().output];
        Features::new(output.elements(), [output.range.lo, output.range.hi])
    }

    /// What is before the last layer makes of its owner's pictures, a row for each; computed once. `told` of samples done, and of how many.
    ///
    /// # Errors
    /// When the network does not read them, or there are not as many as classes.
    pub(super) fn run(&self, pictures: &Pictures, told: impl Fn(u64, u64)) -> Result<Arc<Vec<i64>>> {
        let digest = self.digest()?;
        let mut kept = pictures.features.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rows)) = kept.as_ref().filter(|(of, _)| *of == digest) {
            return Ok(rows.clone());
        }
        let inputs = (pictures.read)(&self.whole.architecture().input)?;
        if inputs.len() != pictures.count() {
            let what = format!("{} inputs but {} labels", inputs.len(), pictures.count());
            return Err(Error::usage(what, "the two files do not belong together"));
        }
        let Features { count, .. } = self.features();
        let mut rows = Vec::with_capacity(count * inputs.len());
        for some in inputs.iter().collect::<Vec<_>>().chunks(BATCH) {
            let all = self.before.run_batch_parallel(some).map_err(|error| Error::Input(Box::new(error)))?;
            all.iter().for_each(|features| rows.extend(features));
            told((rows.len() / count) as u64, inputs.len() as u64);
        }
        let rows = Arc::new(rows);
        *kept = Some((digest, rows.clone()));
        Ok(rows)
    }

    /// Features in the clear, as training reads them. `told` as in [`Backbone::run`].
    ///
    /// # Errors
    /// As [`Backbone::run`].
    pub(super) fn features_of(
        &self,
        pictures: &Pictures,
        coins: &mut impl Coins,
        told: impl Fn(u64, u64),
    ) -> Result<Samples> {
        let (rows, Features { count, lowest, dropped }) = (self.run(pictures, told)?, self.features());
        let coins = coins.toss(Site { value: Value::Feature, layer: 0 }, dropped, rows.len());
        let values = rows.iter().zip(coins).map(|(x, coin)| truncate::ideal(dropped, x - lowest, coin) as u8);
        Ok(Samples::of_features(values.collect(), count, pictures.labels().to_vec()))
    }

    /// What is trained.
    pub(super) fn head(&self) -> Net {
        Net::on_features(self.features().count)
    }

    /// The network with another last layer.
    ///
    /// # Errors
    /// [`Error::Model`] if weights are so large that no 8 bits hold them: the training went wrong.
    pub(super) fn with_head(&self, format: &Format, masters: &[i64]) -> Result<Network> {
        let Features { count, lowest, dropped } = self.features();
        let (weights, bias) = masters.split_at(count * CLASSES);
        let largest = weights.iter().map(|w| w.abs()).max().unwrap_or(0);
        let fraction = (0..=format.master).rev().find(|fraction| nearest(largest, format.master - fraction) <= MOST);
        let fraction = fraction.ok_or_else(|| {
            Error::Model("the weights of the head grew beyond every use: train at a smaller rate".into())
        })?;
        let w = |class: usize, feature: usize| nearest(weights[feature * CLASSES + class], format.master - fraction);
        let sums = dropped + format.input + fraction;
        let of_class = |(class, bias): (usize, &i64)| {
            let bias = match sums.checked_sub(format.master) {
                Some(more) => bias << more,
                None => nearest(*bias, format.master - sums),
            };
            bias - lowest * (0..count).map(|feature| w(class, feature)).sum::<i64>()
        };
        let bias = bias.iter().enumerate().map(of_class).collect();
        let array = Array4::from_shape_fn((CLASSES, count, 1, 1), |(class, feature, _, _)| w(class, feature) as i32);

        let (mut architecture, mut weights) = self.whole.clone().into_parts();
        if let (Some(node), Some(last)) = (architecture.nodes.last_mut(), weights.linear.last_mut()) {
            architecture.declared.remove(&node.name);
            let input = self.before.architecture().output;
            node.op = Op::Linear { terms: vec![Term::Dense { input, outputs: CLASSES, weight_bits: WEIGHT_BITS }] };
            *last = Some(LinearWeights { terms: vec![Some(array)], bias });
        }
        architecture.name = format!("{}-head", architecture.name);
        architecture.output_scale = Some((-f64::from(sums)).exp2());
        (architecture.output_coding, architecture.classes) = (None, Vec::new());
        Network::new(architecture, weights).map_err(|error| Error::Model(Box::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lowkey_models::{Tensor, zoo};

    fn inputs(network: &Network) -> impl Iterator<Item = Tensor> {
        let (shape, range) = (network.architecture().input.shape, network.architecture().input.range());
        let span = range.hi - range.lo + 1;
        let value = move |seed: usize, at: usize| range.lo + ((at * at + seed * 31) as i64 * 7) % span;
        (0..3).map(move |seed| {
            let values = (0..shape.iter().product()).map(|at| value(seed, at)).collect();
            Tensor::from_shape_vec(shape, values).unwrap()
        })
    }

    /// The features are what the last layer reads, and a head of masters answers what these say of them.
    #[test]
    fn a_head_takes_the_place_of_the_last_layer() {
        let format = Format::NARROW;
        for name in ["digits", "cifar10-resnet20-w4a4", "mnist-cryptonets-w4a4"] {
            let network = zoo::find(name).unwrap().network();
            let backbone = Backbone::of(&network).unwrap();
            let Features { count, lowest, dropped } = backbone.features();
            assert_eq!(backbone.head(), Net::on_features(count));
            let master = |at: usize| (at as i64 * 7919 + 31) % 3001 - 1500;
            let masters: Vec<i64> = (0..(count + 1) * CLASSES).map(master).collect();
            let trained = backbone.with_head(&format, &masters).unwrap();
            let unit = trained.architecture().output_scale.unwrap();
            for input in inputs(&network) {
                let features = backbone.before().run(&input).unwrap();
                let all = network.run_all(&input).unwrap();
                assert_eq!(features.as_slice(), all[all.len() - 2].as_slice(), "{name}");
                let logits = trained.run(&input).unwrap();
                for (class, logit) in logits.iter().enumerate() {
                    let real = |x: i64| (x - lowest) as f64 / f64::from(16 << dropped);
                    let weight = |row: usize| masters[row * CLASSES + class] as f64 / 8192.0;
                    let sum: f64 = features.iter().zip(0..).map(|(x, row)| real(*x) * weight(row)).sum();
                    // Weights are rounded to 1/512.
                    let (wanted, most) = (sum + weight(count), features.iter().map(|x| real(*x)).sum::<f64>() / 1024.0);
                    let found = *logit as f64 * unit;
                    assert!((found - wanted).abs() <= most + 1e-3, "{name}, {class}: {found} for {wanted}");
                }
            }
            assert_eq!(Network::from_bytes(&trained.to_bytes().unwrap()).unwrap(), trained);
        }
    }

    #[test]
    fn features_are_scaled_to_five_bits() {
        let of = |lo, hi| Features::new(64, [lo, hi]);
        let spans = [(1, 0), (15, 0), (31, 0), (32, 1), (62, 1), (63, 2), (192, 3), (960, 5), (992, 5), (993, 6)];
        for (span, dropped) in spans {
            assert_eq!(of(0, span), Features { count: 64, lowest: 0, dropped }, "{span}");
            assert_eq!(of(-span, 0), Features { count: 64, lowest: -span, dropped });
        }
    }

    #[test]
    fn other_networks_are_refused() {
        let digits = zoo::find("digits").unwrap().network();
        let before = Backbone::of(&digits).unwrap().before;
        assert!(Backbone::of(&before).unwrap_err().to_string().contains("its last layer is no dense one"));
        let head = super::super::export::network(&Net::head(4).unwrap(), &Format::NARROW, &[vec![0; 50]], "n").unwrap();
        assert!(Backbone::of(&head).is_ok_and(|it| it.features().count == 4));
    }
}
