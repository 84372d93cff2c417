//! Trained weights as a network that is served: integers of 8 bits, shifts, and rounding to nearest.
//!
//! A master w stands for w / 2^fm. Each layer has the largest fw <= fm for which all of its weights fit 8 bits:
//!
//! ```text
//! W = round(w / 2^(fm - fw)), |W| <= 127        b = round(w_bias 2^(fx + fw - fm))      ties away from zero
//! X' = clamp((X W + b + half) >> s, 0, 255)     s = fx + fw - fx'                       half = 2^(s - 1)
//! ```
//!
//! Training rounds by coins and to 6 fractional bits; a served network has none of the coins. Activations have the fractional bits of
//! training, 3, so 255 is 31.9: training on MNIST reaches 22.

use lowkey_models::network::{Node, Op, Term, Window};
use lowkey_models::{Architecture, LinearWeights, Network, Weights};
use ndarray::Array4;

use super::format::{Format, Net};
use super::maps::{KERNEL, Maps};
use super::samples::input;
use crate::error::{Error, Result};

/// Bits of weights, and the largest.
pub(super) const WEIGHT_BITS: u32 = 8;
pub(super) const MOST: i64 = 127;
/// Bits of activations.
const ACTIVATION_BITS: u32 = 8;

/// Weights and biases of a layer, and the fractional bits of its sums.
struct Layer {
    /// Row by row as masters are, without the bias.
    weights: Vec<i32>,
    bias: Vec<i64>,
    /// fx + fw.
    fraction: u8,
}

/// The network of trained masters.
///
/// # Errors
/// [`Error::Model`] if weights are so large that no 8 bits hold them: the training went wrong.
pub(super) fn network(net: &Net, format: &Format, masters: &[Vec<i64>], name: &str) -> Result<Network> {
    let (mut nodes, mut linear) = (Vec::new(), Vec::new());
    let mut add = |name: &str, op, weights| {
        nodes.push(Node { name: name.to_owned(), op });
        linear.push(weights);
        nodes.len()
    };
    let (mut at, mut last_fraction) = (0, 0);
    for (i, masters) in masters.iter().enumerate() {
        let (k, n, last) = (net.inputs(i), net.outputs(i), i + 1 == net.layers());
        let mut layer = layer(net, format, i, masters)?;
        let shift = layer.fraction.saturating_sub(format.output_of(net, i));
        last_fraction = layer.fraction;
        if !last && shift > 0 {
            layer.bias.iter_mut().for_each(|bias| *bias += 1 << (shift - 1));
        }
        let maps = net.maps(i);
        if maps.is_none() && (i == 0 || net.maps(i - 1).is_some()) {
            at = add(&format!("flatten{i}"), Op::Flatten { input: at }, None);
        }
        let weight_bits = WEIGHT_BITS;
        let (term, shape) = match maps {
            Some(maps) => {
                let window = patches(maps);
                let term = Term::Conv { input: at, out_channels: n, groups: 1, window, weight_bits };
                (term, (n, maps.channels, KERNEL, KERNEL))
            }
            None => (Term::Dense { input: at, outputs: n, weight_bits }, (n, k, 1, 1)),
        };
        let array = Array4::from_shape_fn(shape, |(o, channel, y, x)| {
            let input = (channel * shape.2 + y) * shape.3 + x;
            layer.weights[row(net, i, input) * n + o]
        });
        let weights = LinearWeights { terms: vec![Some(array)], bias: layer.bias };
        at = add(&format!("layer{i}"), Op::Linear { terms: vec![term] }, Some(weights));
        if !last {
            let shift = vec![shift.into()];
            let op = Op::Requantise { input: at, bits: ACTIVATION_BITS, shift, top: None, zero_point: 0 };
            at = add(&format!("rectify{i}"), op, None);
        }
        if let Some(windows) = net.windows(i) {
            let square = [windows.pool; 2];
            let window = Window { kernel: square, stride: square, padding: [0; 4], dilation: [1, 1] };
            at = add(&format!("pool{i}"), Op::MaxPool { input: at, window }, None);
        }
    }
    let architecture = Architecture {
        declared: Default::default(),
        name: name.to_owned(),
        input: input(net),
        nodes,
        output: at,
        rounding: None,
        output_scale: Some((-f64::from(last_fraction)).exp2()),
        output_coding: None,
        classes: Vec::new(),
    };
    Network::new(architecture, Weights { linear }).map_err(|error| Error::Model(Box::new(error)))
}

/// The row of masters of an input of layer `i`: a served network has one channel after the other, training position after position.
pub(super) fn row(net: &Net, i: usize, input: usize) -> usize {
    let channels = match net.maps(i) {
        Some(maps) => maps.channels,
        None if i > 0 && net.maps(i - 1).is_some() => net.outputs(i - 1),
        None => 1,
    };
    let positions = net.inputs(i) / channels;
    input % positions * channels + input / positions
}

/// What [`Maps::columns`] cuts out.
fn patches(maps: &Maps) -> Window {
    let Maps { stride, before, after, .. } = *maps;
    Window { kernel: [KERNEL; 2], stride: [stride; 2], padding: [before, before, after, after], dilation: [1, 1] }
}

/// The weights of a layer in as many fractional bits as fit.
fn layer(net: &Net, format: &Format, i: usize, masters: &[i64]) -> Result<Layer> {
    let (weights, bias) = masters.split_at(net.inputs(i) * net.outputs(i));
    let least = format.output_of(net, i).saturating_sub(format.input_of(i));
    let largest = weights.iter().map(|w| w.abs()).max().unwrap_or(0);
    let fraction = (least..=format.master).rev().find(|fraction| nearest(largest, format.master - fraction) <= MOST);
    let Some(fraction) = fraction else {
        let what = format!("the weights of layer {i} grew beyond every use: train at a smaller rate");
        return Err(Error::Model(what.into()));
    };
    let weights = weights.iter().map(|w| nearest(*w, format.master - fraction) as i32).collect();
    let sums = format.input_of(i) + fraction;
    let bias = bias.iter().map(|b| match sums.checked_sub(format.master) {
        Some(more) => b << more,
        None => nearest(*b, format.master - sums),
    });
    Ok(Layer { weights, bias: bias.collect(), fraction: sums })
}

/// The masters of a network that [`network`] made.
///
/// # Errors
/// [`Error::Usage`] for any other.
pub(super) fn masters(net: &Net, format: &Format, from: &Network) -> Result<Vec<Vec<i64>>> {
    let found = read(net, format, from).filter(|masters| {
        let again = network(net, format, masters, &from.architecture().name);
        let classes = from.architecture().classes.clone();
        again.is_ok_and(|again| {
            let (mut architecture, weights) = again.into_parts();
            // Older programs wrote no coding.
            if from.architecture().input.coding.is_none() {
                architecture.input.coding = None;
            }
            Architecture { classes, ..architecture } == *from.architecture() && weights == *from.weights()
        })
    });
    found.ok_or_else(|| {
        let what = format!("{}: no network that a training of {net} wrote", from.architecture().name);
        Error::usage(what, "leave the model out for random weights, or name the network that it is")
    })
}

/// What the weights of a network stand for, if its layers are those of `net`.
fn read(net: &Net, format: &Format, from: &Network) -> Option<Vec<Vec<i64>>> {
    let architecture = from.architecture();
    let shifts = architecture.nodes.iter().filter_map(|node| {
        let Op::Requantise { shift, .. } = &node.op else { return None };
        shift.first()
    });
    let mut shifts = shifts.map(|shift| u8::try_from(*shift).ok());
    let mut layers = from.weights().linear.iter().flatten();
    let mut all = Vec::new();
    for i in 0..net.layers() {
        let (k, n, last) = (net.inputs(i), net.outputs(i), i + 1 == net.layers());
        let shift = if last { 0 } else { shifts.next()?? };
        let sums = match last {
            true => (1..64).find(|bits| architecture.output_scale == Some((-f64::from(*bits)).exp2()))?,
            false => shift.checked_add(format.output_of(net, i)).filter(|sums| *sums < 64)?,
        };
        let dropped = format.master.checked_sub(sums.checked_sub(format.input_of(i))?)?;
        let LinearWeights { terms, bias } = layers.next()?;
        let [Some(weights)] = &terms[..] else { return None };
        if weights.len() != k * n || bias.len() != n {
            return None;
        }
        let mut masters = vec![0; net.weights(i)];
        for (at, weight) in weights.iter().enumerate() {
            masters[row(net, i, at % k) * n + at / k] = i64::from(*weight) << dropped;
        }
        let half = if shift > 0 { 1 << (shift - 1) } else { 0 };
        for (master, bias) in masters[k * n..].iter_mut().zip(bias) {
            let bias = bias.checked_sub(half)?;
            *master = match sums.checked_sub(format.master) {
                Some(more) => bias >> more,
                None => bias.checked_mul(1 << (format.master - sums))?,
            };
        }
        all.push(masters);
    }
    Some(all)
}

/// x / 2^dropped, to nearest, ties away from zero.
pub(super) fn nearest(x: i64, dropped: u8) -> i64 {
    if dropped == 0 { x } else { x.signum() * ((x.abs() + (1 << (dropped - 1))) >> dropped) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::matrix::Number;
    use lowkey_models::{Input, Tensor};

    fn masters(net: &Net, largest: i64) -> Vec<Vec<i64>> {
        let layer = |i: usize| {
            let word = |w: usize| (w as i64 * 7919 + i as i64 * 31) % (2 * largest + 1) - largest;
            (0..net.weights(i)).map(word).collect()
        };
        (0..net.layers()).map(layer).collect()
    }

    impl Number for f64 {
        fn plus_product(self, a: Self, b: Self) -> Self {
            self + a * b
        }
    }

    /// Logits in real numbers: masters as they are, no rounding at all.
    fn real(net: &Net, masters: &[Vec<i64>], pixels: &[i64]) -> Vec<f64> {
        let unit = |w: i64| w as f64 / 8192.0;
        let mut x: Vec<f64> = pixels.iter().map(|x| *x as f64 / 16.0).collect();
        for (i, w) in masters.iter().enumerate() {
            let (k, n) = (net.inputs(i), net.outputs(i));
            if let Some(maps) = net.maps(i) {
                x = maps.columns(&x);
            }
            let rows = x.chunks_exact(k).flat_map(|row| {
                (0..n).map(move |o| {
                    row.iter().enumerate().map(|(j, x)| x * unit(w[j * n + o])).sum::<f64>() + unit(w[k * n + o])
                })
            });
            let z: Vec<f64> = rows.collect();
            x = if i + 1 == net.layers() { z } else { z.into_iter().map(|z| z.clamp(0.0, 255.0 / 8.0)).collect() };
            if let Some(windows) = net.windows(i) {
                let places = windows.cut(&x);
                let largest = |at: usize| places.iter().map(|place| place[at]).fold(0.0, f64::max);
                x = (0..places[0].len()).map(largest).collect();
            }
        }
        x
    }

    fn follows(net: &Net, largest: i64, within: f64) {
        let masters = masters(net, largest);
        let network = network(net, &Format::NARROW, &masters, "trained").unwrap();
        let Input { shape, .. } = input(net);
        let size = shape.iter().product::<usize>();
        let unit = network.architecture().output_scale.unwrap();
        for image in 0..3 {
            let values: Vec<i64> = (0..size).map(|i| ((i * i + image * 5) % 17) as i64).collect();
            let logits = network.run(&Tensor::from_shape_vec(shape, values.clone()).unwrap()).unwrap();
            for (found, wanted) in logits.iter().zip(real(net, &masters, &values)) {
                let found = *found as f64 * unit;
                assert!((found - wanted).abs() < within, "{net:?}: {found} for {wanted}");
            }
        }
        let bytes = network.to_bytes().unwrap();
        let read = Network::from_bytes(&bytes).unwrap();
        assert_eq!(read, network);
        // Training goes on from it, and nowhere else.
        let again = super::masters(net, &Format::NARROW, &read).unwrap();
        assert_eq!(super::network(net, &Format::NARROW, &again, "trained").unwrap(), network);
        assert!(super::masters(&Net::new(&[5, 10]).unwrap(), &Format::NARROW, &read).is_err());
    }

    /// The served network answers what the masters do, but for roundings.
    #[test]
    fn a_network_follows_its_masters() {
        follows(&Net::head(64).unwrap(), 2000, 0.2);
        follows(&Net::head(10).unwrap(), 9000, 0.5);
        follows(&Net::new(&[64, 20, 15, 10]).unwrap(), 700, 0.3);
        follows(&Net::a(), 300, 0.5);
        follows(&Net::c(), 300, 0.5);
        follows(&Net::d(), 500, 0.5);
        follows(&Net::pools(), 500, 0.3);
    }

    #[test]
    fn weights_have_as_many_bits_as_fit() {
        let (net, format) = (Net::head(1).unwrap(), Format::NARROW);
        for (largest, fraction, weight) in [(127, 13, 127), (128, 12, 64), (8191, 6, 64), (1 << 15, 4, 64)] {
            let mut masters = vec![0; net.weights(0)];
            masters[0] = -largest;
            let layer = layer(&net, &format, 0, &masters).unwrap();
            assert_eq!((layer.fraction, layer.weights[0]), (fraction + 4, -weight), "{largest}");
        }
        assert!(network(&net, &format, &[vec![1 << 24; 20]], "wild").is_err());
        for bundled in lowkey_models::zoo::ALL {
            for net in [Net::a(), Net::c(), Net::d(), Net::head(64).unwrap()] {
                assert!(super::masters(&net, &format, &bundled.network()).is_err(), "{}", bundled.name);
            }
        }
        assert_eq!(
            [(5, 1), (-5, 1), (4, 1), (-7, 2), (6, 2), (-9, 0)].map(|(x, s)| nearest(x, s)),
            [3, -3, 2, -2, 2, -9]
        );
    }
}
