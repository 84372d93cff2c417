//! The integer networks with squares for activations, as `models/train/squares.py` writes them: three sums, a square after the
//! first two. Nothing is rounded between them, so a sum's integers grow with the widths.

use std::collections::HashMap;
use std::path::Path;

use num_bigint::BigInt;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

/// A network and what its file says of it.
pub struct Network {
    pub name: String,
    pub pixel_bits: u32,
    /// Of the 10,000 test images of MNIST: between 0 and 1.
    pub accuracy: f64,
    /// Three.
    pub layers: Vec<Layer>,
}

/// z = w y + b.
pub struct Layer {
    /// `[outputs, inputs, kernel, kernel]`.
    weight: Vec<i64>,
    /// One per output channel.
    bias: Vec<BigInt>,
    window: Window,
    /// Channels and side of what it reads.
    from: (usize, usize),
    /// Channels and side of z.
    pub to: (usize, usize),
    /// The largest sum of magnitudes of one result's weights.
    pub norm: i64,
    /// The largest Euclidean norm of one result's weights: how much the noise of independent ciphertexts grows.
    pub length: f64,
}

#[derive(Deserialize, Clone, Copy)]
struct Window {
    kernel: usize,
    stride: usize,
    padding: usize,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    side: usize,
    pixel_bits: u32,
    accuracy: f64,
    layers: Vec<DescribedLayer>,
}

#[derive(Deserialize)]
struct DescribedLayer {
    outputs: usize,
    bias_shift: u32,
    /// None: every output reads every input.
    window: Option<Window>,
}

impl Network {
    /// Of a file that is part of the benchmark.
    ///
    /// # Panics
    ///
    /// If it is not such a file.
    pub fn read(path: &Path) -> Network {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
        let metadata = header.metadata().clone().unwrap_or_else(HashMap::new);
        let described: Described = serde_json::from_str(&metadata["square"]).expect("a network with squares");
        let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let mut from = (1, described.side);
        let mut layers = Vec::new();
        for (position, layer) in described.layers.iter().enumerate() {
            let window = layer.window.unwrap_or(Window { kernel: from.1, stride: 1, padding: 0 });
            let to = (layer.outputs, (from.1 + 2 * window.padding - window.kernel) / window.stride + 1);
            let weight = integers(&tensors, &format!("{position}.weight"));
            assert_eq!(weight.len(), to.0 * from.0 * window.kernel * window.kernel, "{}", path.display());
            let bias: Vec<_> = integers(&tensors, &format!("{position}.bias"))
                .into_iter()
                .map(|mantissa| BigInt::from(mantissa) << layer.bias_shift)
                .collect();
            assert_eq!(bias.len(), to.0, "{}", path.display());
            let rows = || weight.chunks(from.0 * window.kernel * window.kernel);
            let norm = rows().map(|row| row.iter().map(|weight| weight.abs()).sum()).max().expect("rows");
            let square = |row: &[i64]| row.iter().map(|&weight| (weight * weight) as f64).sum::<f64>();
            let length = rows().map(square).fold(1.0, f64::max).sqrt();
            layers.push(Layer { weight, bias, window, from, to, norm, length });
            from = to;
        }
        assert_eq!(layers.len(), 3, "{}: the layouts are of three sums", path.display());
        let Described { name, pixel_bits, accuracy, .. } = described;
        Network { name, pixel_bits, accuracy, layers }
    }

    /// Logits of an image of `[28, 28]` pixels: what decryption has to give.
    pub fn logits(&self, pixels: &[i64]) -> Vec<BigInt> {
        let mut y: Vec<BigInt> = pixels.iter().map(|&pixel| pixel.into()).collect();
        for (position, layer) in self.layers.iter().enumerate() {
            y = layer.outputs().map(|(channel, place)| layer.sum(channel, place, &y)).collect();
            if position < 2 {
                y.iter_mut().for_each(|z| *z = &*z * &*z);
            }
        }
        y
    }

    /// The largest magnitude of a logit that any image can give, by intervals over the actual weights.
    pub fn bound(&self) -> BigInt {
        let zero = BigInt::from(0);
        let mut ranges = vec![(zero.clone(), BigInt::from((1 << self.pixel_bits) - 1)); self.layers[0].inputs()];
        for (position, layer) in self.layers.iter().enumerate() {
            let interval = |(channel, place): (usize, usize)| {
                let mut ends = (layer.bias[channel].clone(), layer.bias[channel].clone());
                for (input, weight) in layer.taps(channel, place) {
                    let (low, high) = &ranges[input];
                    let (low, high) = if weight < 0 { (high, low) } else { (low, high) };
                    ends.0 += low * weight;
                    ends.1 += high * weight;
                }
                ends
            };
            let sums: Vec<_> = layer.outputs().map(interval).collect();
            ranges = if position < 2 {
                let square = |(low, high): (BigInt, BigInt)| (zero.clone(), (&low * &low).max(&high * &high));
                sums.into_iter().map(square).collect()
            } else {
                sums
            };
        }
        ranges.into_iter().map(|(low, high)| (-low).max(high)).max().expect("logits")
    }
}

impl Layer {
    /// How many numbers it reads.
    pub fn inputs(&self) -> usize {
        self.from.0 * self.from.1 * self.from.1
    }

    /// Places of one output channel.
    pub fn places(&self) -> usize {
        self.to.1 * self.to.1
    }

    /// Channel and place of each of its results, in the order in which the next layer counts them.
    pub fn outputs(&self) -> impl Iterator<Item = (usize, usize)> {
        let places = self.places();
        (0..self.to.0 * places).map(move |output| (output / places, output % places))
    }

    /// The inputs that a result reads, and the weight of each, which may be 0.
    pub fn taps(&self, channel: usize, place: usize) -> impl Iterator<Item = (usize, i64)> + '_ {
        let each = self.window.kernel * self.window.kernel;
        (0..self.from.0 * each).filter_map(move |tap| {
            let input = self.reads(place, tap % each)?;
            let weight = self.weight[channel * self.from.0 * each + tap];
            Some((tap / each * self.from.1 * self.from.1 + input, weight))
        })
    }

    /// How many places of an input channel a window covers.
    pub fn window(&self) -> usize {
        self.window.kernel * self.window.kernel
    }

    /// The place of an input channel that a result's window has at `offset`; none in the padding.
    pub fn reads(&self, place: usize, offset: usize) -> Option<usize> {
        let Window { kernel, stride, padding } = self.window;
        let row = place / self.to.1 * stride + offset / kernel;
        let column = place % self.to.1 * stride + offset % kernel;
        let inside = |line: usize| line.checked_sub(padding).filter(|&line| line < self.from.1);
        Some(inside(row)? * self.from.1 + inside(column)?)
    }

    pub fn weight(&self, channel: usize, from: usize, offset: usize) -> i64 {
        self.weight[(channel * self.from.0 + from) * self.window() + offset]
    }

    pub fn bias(&self, channel: usize) -> &BigInt {
        &self.bias[channel]
    }

    fn sum(&self, channel: usize, place: usize, y: &[BigInt]) -> BigInt {
        self.taps(channel, place).fold(self.bias[channel].clone(), |z, (input, weight)| z + &y[input] * weight)
    }
}

/// A tensor of bytes or wider integers.
fn integers(tensors: &SafeTensors, name: &str) -> Vec<i64> {
    let view = tensors.tensor(name).expect("a tensor of each layer");
    let data = view.data();
    match view.dtype() {
        Dtype::I8 => data.iter().map(|&byte| i64::from(byte as i8)).collect(),
        Dtype::I16 => data.chunks_exact(2).map(|b| i64::from(i16::from_le_bytes([b[0], b[1]]))).collect(),
        Dtype::I32 => data.chunks_exact(4).map(|b| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
        other => panic!("{name}: {other:?}"),
    }
}
