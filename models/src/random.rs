//! Random valid networks and inputs for property tests (feature `random`): every operation, every kind of window, widths of 1 to
//! 8 bits, zero points, residuals, shared tensors, per-channel shifts, constant channels.
//!
//! The same generator state gives the same network: a test that prints its seed can be repeated.

use std::collections::BTreeMap;

use ndarray::{Array4, Axis};
use rand::{Rng, RngExt};

use crate::bounds::linear_bounds;
use crate::check::{MAX_SHIFT, TensorInfo, weight_range};
use crate::declared::LEAST_ABOVE;
use crate::error::Kind;
use crate::floats::Floats;
use crate::interpret::{Tensor, add_product, step};
use crate::limits::MAX_FLOAT_VALUE;
use crate::network::{Architecture, Input, Node, Op, Range, TensorId, Term, Window};
use crate::weights::{LinearWeights, Network, Weights};

/// How large the networks are.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Blocks (a linear layer with its requantisation, a pool, a table) before the last layer.
    pub blocks: usize,
    /// Most channels of a tensor.
    pub channels: usize,
    /// Largest height and width of the input.
    pub side: usize,
    /// Widest weights, at most 8.
    pub weight_bits: u32,
    /// Widest activations, at most 8.
    pub activation_bits: u32,
    /// Whether requantisations may clip below their width.
    pub clips: bool,
}

impl Default for Size {
    /// Networks that the reference interpreter runs in well under a millisecond.
    fn default() -> Size {
        Size { blocks: 4, channels: 4, side: 7, weight_bits: 8, activation_bits: 8, clips: false }
    }
}

/// A random network whose output is the accumulator of a dense layer over everything that was left to read, or, one time in
/// four, the requantisation of that. Nearly always it depends on the input.
pub fn network<R: Rng + ?Sized>(rng: &mut R, size: &Size) -> Network {
    for _ in 0..8 {
        let (network, answers) = candidate(rng, size);
        if answers.iter().any(|answer| *answer != answers[0]) {
            return network;
        }
    }
    candidate(rng, size).0
}

/// A random network and its answers to a few inputs.
fn candidate<R: Rng + ?Sized>(rng: &mut R, size: &Size) -> (Network, Vec<Tensor>) {
    let bits = rng.random_range(1..=size.activation_bits);
    let mut dimension = |most: usize| rng.random_range(1..=most);
    let shape = [dimension(size.channels), dimension(size.side), dimension(size.side)];
    let input = Input { shape, bits, zero_point: zero_point(rng, bits), pixels: None, coding: None };
    let mut builder = Builder::new(rng, *size, input);
    for _ in 0..size.blocks {
        builder.block();
    }
    builder.finish()
}

/// A random input of a network.
pub fn input<R: Rng + ?Sized>(rng: &mut R, input: &Input) -> Tensor {
    let Range { lo, hi } = input.range();
    Tensor::from_shape_simple_fn(input.shape, || rng.random_range(lo..=hi))
}

/// The network with random declared rings, most of them narrow enough that sums wrap.
pub fn rings<R: Rng + ?Sized>(rng: &mut R, network: &Network) -> Network {
    let bounds = network.bounds();
    let mut rings = BTreeMap::new();
    for (index, node) in network.architecture().nodes.iter().enumerate() {
        let (Ok(shift), Some(bounds)) = (network.architecture().declarable(index), &bounds[index]) else { continue };
        let worst = bounds.accumulator_bits().saturating_sub(shift.iter().min().copied().unwrap_or(0));
        let above = rng.random_range(LEAST_ABOVE..=worst.clamp(LEAST_ABOVE, 12));
        if rng.random_range(0..4) > 0 {
            rings.insert(node.name.clone(), shift.iter().map(|shift| above + shift).collect());
        }
    }
    network.with_rings(rings).expect("rings that their readers can hold")
}

/// The network with blocks of random patches, some of them identities, in place of most requantisations that can become one.
pub fn blocks<R: Rng + ?Sized>(rng: &mut R, network: &Network) -> Network {
    let mut changed = network.clone();
    for (index, node) in network.architecture().nodes.iter().enumerate() {
        let [_, height, width] = network.tensors()[index + 1].shape;
        let patch = [rng.random_range(1..=height), rng.random_range(1..=width)];
        let patch = (rng.random_range(0..4) > 0).then_some(patch);
        if rng.random_range(0..4) > 0 {
            changed = changed.with_blocks(&[(node.name.clone(), patch)].into()).unwrap_or(changed);
        }
    }
    changed
}

/// The network with random coins at most requantisations that can have one.
pub fn coins<R: Rng + ?Sized>(rng: &mut R, network: &Network) -> Network {
    let (mut architecture, weights) = network.clone().into_parts();
    for index in 0..architecture.nodes.len() {
        let most = architecture.tossable(index).unwrap_or(0);
        if most > 0 && rng.random_range(0..4) > 0 {
            let name = architecture.nodes[index].name.clone();
            architecture.declared.entry(name).or_default().coin = rng.random_range(1..=most);
        }
    }
    Network::new(architecture, weights).expect("coins that their nodes can have")
}

/// The network with random sums of floats at the average pools that can have them.
pub fn floats<R: Rng + ?Sized>(rng: &mut R, network: &Network) -> Network {
    let mut found = network.clone();
    for index in 0..network.architecture().nodes.len() {
        let (mut architecture, weights) = found.clone().into_parts();
        let tensors = found.tensors().to_vec();
        let Op::AvgPool { input, window, floats, .. } = &mut architecture.nodes[index].op else { continue };
        let count = window.kernel[0] * window.kernel[1];
        let values = window.values(tensors[*input].range);
        // 0.1 has sums that are nearly powers of two.
        let unit = if rng.random_range(0..3) > 0 { rng.random_range(1 << 23..1 << 24) } else { 0xcc_cccd };
        if values.magnitude() > MAX_FLOAT_VALUE as u64 || count > 16 {
            continue;
        }
        let near = Floats::reach(unit, values, count) / 4;
        let sums = values.lo * count as i64..=values.hi * count as i64;
        let mut least = Vec::new();
        for sum in sums {
            if rng.random_range(0..3) > 0 {
                least.push([sum, rng.random_range(-near..=near)]);
            }
        }
        *floats = Some(Floats { unit, least });
        // Where the average that is one lower fits what reads it.
        if let Ok(network) = Network::new(architecture, weights) {
            found = network;
        }
    }
    found
}

/// Random weights of a given shape and width; one time in four most of them are 0 (where the width allows).
pub fn weights<R: Rng + ?Sized>(rng: &mut R, shape: [usize; 4], bits: u32) -> Array4<i32> {
    let Range { lo, hi } = weight_range(bits);
    let sparse = rng.random_range(0..4) == 0;
    Array4::from_shape_simple_fn(shape, || match bits {
        1 => 2 * rng.random_range(0..2) - 1,
        _ if sparse && rng.random_range(0..4) != 0 => 0,
        _ => rng.random_range(lo as i32..=hi as i32),
    })
}

fn zero_point<R: Rng + ?Sized>(rng: &mut R, bits: u32) -> i64 {
    if rng.random_range(0..3) == 0 { rng.random_range(0..1 << bits) } else { 0 }
}

struct Builder<'r, R: ?Sized> {
    rng: &'r mut R,
    size: Size,
    architecture: Architecture,
    linear: Vec<Option<LinearWeights>>,
    tensors: Vec<TensorInfo>,
    /// The tensors of a few inputs: biases and shifts are chosen such that results depend on the input.
    samples: [Vec<Tensor>; 4],
}

impl<'r, R: Rng + ?Sized> Builder<'r, R> {
    fn new(rng: &'r mut R, size: Size, input: Input) -> Self {
        let samples = std::array::from_fn(|_| vec![self::input(rng, &input)]);
        let tensors = vec![TensorInfo { shape: input.shape, kind: Kind::Activation, range: input.range() }];
        let architecture = Architecture {
            name: "random".to_owned(),
            input,
            nodes: Vec::new(),
            output: 0,
            rounding: None,
            output_scale: None,
            output_coding: None,
            classes: Vec::new(),
            declared: Default::default(),
        };
        Builder { rng, size, architecture, linear: Vec::new(), tensors, samples }
    }

    /// True one time in `n`.
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_range(0..n) == 0
    }

    /// Appends a node; the checker says what its tensor is.
    fn push(&mut self, op: Op, weights: Option<LinearWeights>) -> TensorId {
        let name = format!("node{}", self.architecture.nodes.len());
        self.architecture.nodes.push(Node { name, op: op.clone() });
        self.tensors = self.architecture.check_nodes().expect("only valid nodes are appended");
        for sample in &mut self.samples {
            sample.push(step(&op, weights.as_ref(), &self.tensors, sample, add_product));
        }
        self.linear.push(weights);
        self.tensors.len() - 1
    }

    /// An activation to read: usually the last one, so that networks are deep.
    fn source(&mut self) -> TensorId {
        let activations: Vec<TensorId> = self.activations().collect();
        if self.one_in(4) {
            activations[self.rng.random_range(0..activations.len())]
        } else {
            *activations.last().expect("the input is an activation")
        }
    }

    fn activations(&self) -> impl Iterator<Item = TensorId> + '_ {
        (0..self.tensors.len()).filter(|&tensor| self.tensors[tensor].kind == Kind::Activation)
    }

    fn block(&mut self) {
        let input = self.source();
        let TensorInfo { shape, range, .. } = self.tensors[input];
        match self.rng.random_range(0..12) {
            0 => {
                let window = self.window(shape, true);
                self.push(Op::MaxPool { input, window }, None);
            }
            1 => {
                let window = self.window(shape, false);
                let count = (window.kernel[0] * window.kernel[1]) as i64;
                let shift = self.rng.random_range(4..=10);
                let half = 1i64 << (shift - 1);
                let (multiplier, offset) = ((1 << shift) / count, self.rng.random_range(-half..=half));
                self.push(Op::AvgPool { input, window, multiplier, offset, shift, floats: None }, None);
            }
            2 if range.magnitude() < 1 << 12 => {
                let window = self.window(shape, false);
                self.push(Op::SumPool { input, window }, None);
            }
            3 if range.count() <= 256 => {
                let (bits, shift) =
                    (self.rng.random_range(1..=self.size.activation_bits), self.rng.random_range(-128..=128));
                let table = (0..range.count()).map(|_| self.rng.random_range(0..1 << bits) + shift).collect();
                self.push(Op::Table { input, table }, None);
            }
            4 => {
                let fits: Vec<TensorId> = self
                    .activations()
                    .filter(|&other| self.tensors[other].shape[1..] == shape[1..] && self.tensors[other].shape[0] <= 16)
                    .collect();
                if shape[0] <= 16 {
                    let other = fits[self.rng.random_range(0..fits.len())];
                    self.push(Op::Concat { inputs: vec![input, other] }, None);
                }
            }
            5 => {
                let turned = self.turned(input, shape);
                self.push(turned, None);
            }
            6 => {
                let input = self.flat(input);
                let outputs = self.rng.random_range(1..=3 * self.size.channels);
                let term = Term::Dense { input, outputs, weight_bits: self.weight_bits() };
                self.layer(term);
            }
            _ => {
                let term = self.convolution(input);
                self.layer(term);
            }
        }
    }

    /// An image with its axes exchanged, one column less or one of zeros more.
    fn turned(&mut self, input: TensorId, [channels, height, width]: [usize; 3]) -> Op {
        let steps = |count: usize, by: usize| (0..count).map(|i| (i * by) as i64).collect::<Vec<_>>();
        let mut columns = steps(width, 1);
        match self.rng.random_range(0..3) {
            0 if width > 1 => drop(columns.remove(0)),
            1 => columns.push(-1),
            _ => {}
        }
        let shape = [channels, columns.len(), height];
        let axes = vec![steps(channels, height * width), columns, steps(height, width)];
        Op::Select { input, shape, axes }
    }

    fn weight_bits(&mut self) -> u32 {
        self.rng.random_range(1..=self.size.weight_bits)
    }

    fn flat(&mut self, input: TensorId) -> TensorId {
        if self.tensors[input].shape[1..] == [1, 1] { input } else { self.push(Op::Flatten { input }, None) }
    }

    fn convolution(&mut self, input: TensorId) -> Term {
        let shape = self.tensors[input].shape;
        let divisors: Vec<usize> = (1..=shape[0]).filter(|g| shape[0].is_multiple_of(*g)).collect();
        let groups = divisors[self.rng.random_range(0..divisors.len())];
        let multiples = (self.size.channels / groups).max(1);
        let out_channels = groups * self.rng.random_range(1..=multiples);
        let window = self.window(shape, false);
        Term::Conv { input, out_channels, groups, window, weight_bits: self.weight_bits() }
    }

    /// A window that fits; with `values`, one without padding next to it (so that no window of a pool is empty) unless it
    /// is dense and at least two wide.
    fn window(&mut self, [_, height, width]: [usize; 3], values: bool) -> Window {
        let mut window = Window::POINT;
        for (axis, side) in [height, width].into_iter().enumerate() {
            let kernel = self.rng.random_range(1..=3);
            let dilation = if self.one_in(3) { 2 } else { 1 };
            window.stride[axis] = self.rng.random_range(1..=2);
            let most = if !values {
                2
            } else if kernel > 1 && dilation == 1 {
                1
            } else {
                0
            };
            let padding = if self.one_in(2) { 0 } else { most };
            let (before, after) = (self.rng.random_range(0..=padding), self.rng.random_range(0..=padding));
            if dilation * (kernel - 1) < side + before + after {
                window.kernel[axis] = kernel;
                window.dilation[axis] = dilation;
                window.padding[axis] = before;
                window.padding[axis + 2] = after;
            }
        }
        window
    }

    /// A linear node with `term`, now and then with residuals, its requantisation and now and then a second one.
    fn layer(&mut self, term: Term) {
        let shape = self.result(&term);
        let mut terms = vec![term];
        for other in self.activations().collect::<Vec<_>>() {
            let found = self.tensors[other].shape;
            if found == shape && self.one_in(3) {
                let multiplier = self.rng.random_range(1..=8) * if self.one_in(2) { 1 } else { -1 };
                terms.push(Term::Identity { input: other, multiplier });
            } else if found[1..] == shape[1..] && self.one_in(6) {
                let weight_bits = self.weight_bits();
                let (out_channels, window) = (shape[0], Window::POINT);
                terms.push(Term::Conv { input: other, out_channels, groups: 1, window, weight_bits });
            }
        }
        if terms.len() > 1 && self.one_in(4) {
            // The residuals alone, or in another order.
            terms.rotate_left(1);
        }
        let accumulator = self.linear(terms);
        if self.one_in(4) {
            let scaled = self.scale(accumulator);
            self.requantise(scaled);
        }
        if !self.read(accumulator) || self.one_in(6) {
            self.requantise(accumulator);
        }
        if self.one_in(6) {
            self.requantise(accumulator);
        }
    }

    fn read(&self, tensor: TensorId) -> bool {
        self.architecture.consumers(tensor).next().is_some()
    }

    /// A scale with multipliers of a few bits, one or one per channel.
    fn scale(&mut self, input: TensorId) -> TensorId {
        let channels = self.tensors[input].shape[0];
        let count = if self.one_in(2) { 1 } else { channels };
        let bits = self.rng.random_range(1..=10);
        let multiplier = (0..count).map(|_| self.rng.random_range(1..=1 << bits)).collect();
        let bias = (0..channels).map(|_| self.rng.random_range(-(1 << bits)..=1 << bits)).collect();
        self.push(Op::Scale { input, multiplier }, Some(LinearWeights { terms: vec![], bias }))
    }

    fn result(&self, term: &Term) -> [usize; 3] {
        let shape = self.tensors[term.input()].shape;
        match term {
            Term::Conv { out_channels, window, .. } => {
                let [height, width] = window.output([shape[1], shape[2]]).expect("the window fits");
                [*out_channels, height, width]
            }
            Term::Dense { outputs, .. } => [*outputs, 1, 1],
            Term::Identity { .. } => shape,
        }
    }

    /// A linear node with random weights. The biases move the accumulators of the samples around 0, now and then so far away that
    /// the channel becomes constant.
    fn linear(&mut self, terms: Vec<Term>) -> TensorId {
        let channels = self.result(&terms[0])[0];
        let arrays = terms
            .iter()
            .map(|term| {
                let shape = term.weight_shape(self.tensors[term.input()].shape)?;
                Some(weights(self.rng, shape, term.weight_bits().expect("it has weights")))
            })
            .collect();
        let mut linear = LinearWeights { terms: arrays, bias: vec![0; channels] };
        let bounds = linear_bounds(&terms, &linear, &self.tensors);
        let accumulator = self.push(Op::Linear { terms }, Some(linear.clone()));
        for (channel, (bias, bound)) in linear.bias.iter_mut().zip(bounds).enumerate() {
            let values: Vec<i64> =
                self.samples.iter().flat_map(|s| s[accumulator].index_axis(Axis(0), channel)).copied().collect();
            let reach = (values.iter().max().expect("values") - values.iter().min().expect("values")) / 4 + 1;
            *bias = self.rng.random_range(-reach..=3 * reach) - values[self.rng.random_range(0..values.len())];
            if self.rng.random_range(0..12) == 0 {
                *bias += bound.magnitude() as i64 * self.rng.random_range(-8..=8);
            }
        }
        for sample in &mut self.samples {
            for (mut plane, bias) in sample[accumulator].outer_iter_mut().zip(&linear.bias) {
                plane += *bias;
            }
        }
        self.linear[accumulator - 1] = Some(linear);
        accumulator
    }

    /// A requantisation whose shift suits the accumulators of the samples, give or take a bit or two.
    fn requantise(&mut self, input: TensorId) {
        let bits = self.rng.random_range(1..=self.size.activation_bits);
        let values = self.samples.iter().flat_map(|sample| &sample[input]).copied();
        let mut positive: Vec<i64> = values.filter(|&z| z > 0).collect();
        positive.sort_unstable();
        let typical = Range { lo: 0, hi: positive.get(positive.len() / 2).copied().unwrap_or(0) };
        let suited = typical.signed_bits().saturating_sub(bits);
        let base = self.rng.random_range(suited.saturating_sub(3)..=suited);
        let channels = self.tensors[input].shape[0];
        let (count, spread) = if self.one_in(2) { (channels, 3) } else { (1, 0) };
        let shift = (0..count).map(|_| (base + self.rng.random_range(0..=spread)).min(MAX_SHIFT)).collect();
        let zero_point = zero_point(self.rng, bits);
        // Now and then a clip below the width.
        let largest = (1 << bits) - 1;
        let clips = self.size.clips && bits > 1 && self.one_in(5);
        let top = clips.then(|| self.rng.random_range(largest / 2..=largest)).filter(|&t| t > 0);
        self.push(Op::Requantise { input, bits, shift, top, zero_point }, None);
    }

    /// The last layer reads every activation that nothing else reads.
    fn finish(mut self) -> (Network, Vec<Tensor>) {
        let unused: Vec<TensorId> =
            self.activations().filter(|&tensor| self.architecture.consumers(tensor).next().is_none()).collect();
        let outputs = self.rng.random_range(2..=10);
        let terms = unused
            .into_iter()
            .map(|tensor| {
                let input = self.flat(tensor);
                Term::Dense { input, outputs, weight_bits: self.weight_bits() }
            })
            .collect();
        let accumulator = self.linear(terms);
        if self.one_in(4) {
            self.requantise(accumulator);
        }
        self.architecture.output = self.tensors.len() - 1;
        let answers = self.samples.into_iter().filter_map(|mut sample| sample.pop()).collect();
        let weights = Weights { linear: self.linear };
        (Network::new(self.architecture, weights).expect("the generator keeps the rules"), answers)
    }
}
