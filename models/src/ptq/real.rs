//! Networks of real numbers, as they are trained: linear layers, clips, pools. What [`super::quantise`] starts from.

use ndarray::Array4;

use crate::coding::OutputCoding;
use crate::network::{Input, Shape, Window, selected};
use crate::shape::of_channel;

/// A network of real numbers. Tensor 0 is the input, tensor `i + 1` the output of node `i`, as in [`crate::Architecture`].
#[derive(Clone, Debug)]
pub struct RealNetwork {
    /// A name to print.
    pub name: String,
    /// The integers that the quantised network reads.
    pub input: Input,
    /// Real value of one unit of the input.
    pub unit: f64,
    /// In topological order.
    pub nodes: Vec<RealNode>,
    /// The tensor that is the answer.
    pub output: usize,
    /// Names of the classes, where they are known.
    pub classes: Vec<String>,
    /// What the client does with the answer, where the file says it.
    pub coding: Option<OutputCoding>,
}

/// One operation with a name.
#[derive(Clone, Debug)]
pub struct RealNode {
    /// Reports use it.
    pub name: String,
    /// What it does.
    pub op: RealOp,
}

/// The operations.
#[derive(Clone, Debug)]
pub enum RealOp {
    /// The sum of the terms and a bias for each channel.
    Linear {
        /// At least one.
        terms: Vec<RealTerm>,
        /// One for each channel.
        bias: Vec<f32>,
    },
    /// clamp(x, lo, hi); a ReLU is 0..infinity.
    Clip {
        /// Any tensor.
        input: usize,
        /// -infinity for none.
        lo: f32,
        /// Infinity for none.
        hi: f32,
    },
    /// Largest value of each window.
    MaxPool {
        /// Any tensor.
        input: usize,
        /// Its windows.
        window: Window,
    },
    /// The sum of each window (padding counts as 0) over a constant.
    AveragePool {
        /// Any tensor.
        input: usize,
        /// Its windows.
        window: Window,
        /// The number of elements of a window for an average.
        divisor: f32,
    },
    /// One vector.
    Flatten {
        /// Any tensor.
        input: usize,
    },
    /// Channel after channel.
    Concat {
        /// Two or more.
        inputs: Vec<usize>,
    },
    /// As [`crate::Op::Select`].
    Select {
        /// Any tensor.
        input: usize,
        /// Of the result.
        shape: Shape,
        /// What each element reads.
        axes: Vec<Vec<i64>>,
    },
}

/// One summand of a linear layer.
#[derive(Clone, Debug)]
pub enum RealTerm {
    /// A convolution; a matrix is one of a window of one element on a vector.
    Weights {
        /// Any tensor.
        input: usize,
        /// Kernel geometry.
        window: Window,
        /// As in [`crate::Term::Conv`].
        groups: usize,
        /// `[out_channels, in_channels / groups, kernel h, kernel w]`.
        weights: Array4<f32>,
        /// True for a matrix.
        dense: bool,
    },
    /// A multiple of a tensor: one factor, or one for each channel.
    Identity {
        /// Any tensor.
        input: usize,
        /// One, or one for each channel.
        factor: Vec<f32>,
    },
}

impl RealTerm {
    /// The tensor it reads.
    pub fn input(&self) -> usize {
        match self {
            RealTerm::Weights { input, .. } | RealTerm::Identity { input, .. } => *input,
        }
    }

    fn input_mut(&mut self) -> &mut usize {
        match self {
            RealTerm::Weights { input, .. } | RealTerm::Identity { input, .. } => input,
        }
    }

    /// The same, its channels multiplied.
    fn scaled(mut self, by: &[f32]) -> RealTerm {
        match &mut self {
            RealTerm::Weights { weights, .. } => {
                for (channel, mut row) in weights.outer_iter_mut().enumerate() {
                    row *= of_channel(by, channel);
                }
            }
            RealTerm::Identity { factor, .. } => {
                let channels = factor.len().max(by.len());
                *factor = (0..channels).map(|channel| of_channel(factor, channel) * of_channel(by, channel)).collect();
            }
        }
        self
    }
}

impl RealOp {
    /// The tensors it reads, in order.
    pub fn inputs(&self) -> Vec<usize> {
        match self {
            RealOp::Linear { terms, .. } => terms.iter().map(RealTerm::input).collect(),
            RealOp::Concat { inputs } => inputs.clone(),
            RealOp::Clip { input, .. }
            | RealOp::MaxPool { input, .. }
            | RealOp::AveragePool { input, .. }
            | RealOp::Flatten { input }
            | RealOp::Select { input, .. } => vec![*input],
        }
    }

    fn inputs_mut(&mut self) -> Vec<&mut usize> {
        match self {
            RealOp::Linear { terms, .. } => terms.iter_mut().map(RealTerm::input_mut).collect(),
            RealOp::Concat { inputs } => inputs.iter_mut().collect(),
            RealOp::Clip { input, .. }
            | RealOp::MaxPool { input, .. }
            | RealOp::AveragePool { input, .. }
            | RealOp::Flatten { input }
            | RealOp::Select { input, .. } => vec![input],
        }
    }

    /// Shape of what it makes of tensors of `shapes`; `None` if they do not fit.
    pub(crate) fn shape(&self, shapes: &[Shape]) -> Option<Shape> {
        Some(match self {
            RealOp::Linear { terms, bias } => {
                let mut all = terms.iter().map(|term| term.shape(shapes[term.input()]));
                let first = all.next()??;
                let fits = all.all(|shape| shape == Some(first)) && bias.len() == first[0];
                fits.then_some(first)?
            }
            RealOp::Clip { input, .. } => shapes[*input],
            RealOp::MaxPool { input, window } | RealOp::AveragePool { input, window, .. } => {
                let [channels, height, width] = shapes[*input];
                let [rows, columns] = window.output([height, width])?;
                [channels, rows, columns]
            }
            RealOp::Flatten { input } => [shapes[*input].iter().product(), 1, 1],
            RealOp::Concat { inputs } => {
                let [_, height, width] = shapes[*inputs.first()?];
                let fits = inputs.iter().all(|&input| shapes[input][1..] == [height, width]);
                [fits.then(|| inputs.iter().map(|&input| shapes[input][0]).sum())?, height, width]
            }
            RealOp::Select { input, shape, axes } => {
                let (elements, made) = (shapes[*input].iter().product::<usize>(), selected(axes));
                let fits =
                    made.iter().flatten().all(|&at| at < elements) && made.len() == shape.iter().product::<usize>();
                fits.then_some(*shape)?
            }
        })
    }
}

impl RealTerm {
    fn shape(&self, shape: Shape) -> Option<Shape> {
        match self {
            RealTerm::Weights { window, groups, weights, .. } => {
                let (outputs, inputs, height, width) = weights.dim();
                let fits = inputs * groups == shape[0] && outputs % groups == 0 && [height, width] == window.kernel;
                let [rows, columns] = window.output([shape[1], shape[2]]).filter(|_| fits)?;
                Some([outputs, rows, columns])
            }
            RealTerm::Identity { factor, .. } => [1, shape[0]].contains(&factor.len()).then_some(shape),
        }
    }
}

impl RealNetwork {
    /// Shapes of all tensors.
    ///
    /// # Errors
    /// The name of the first node whose inputs do not fit it.
    pub fn shapes(&self) -> Result<Vec<Shape>, String> {
        let mut shapes = vec![self.input.shape];
        for node in &self.nodes {
            shapes.push(node.op.shape(&shapes).ok_or_else(|| node.name.clone())?);
        }
        Ok(shapes)
    }

    /// The nodes that read a tensor, once for each time.
    pub fn readers(&self, tensor: usize) -> Vec<usize> {
        let reads = |(index, node): (usize, &RealNode)| {
            node.op.inputs().into_iter().filter(move |&input| input == tensor).map(move |_| index)
        };
        self.nodes.iter().enumerate().flat_map(reads).collect()
    }

    /// The node that makes a tensor, unless that is the input.
    fn maker(&self, tensor: usize) -> Option<&RealOp> {
        tensor.checked_sub(1).map(|index| &self.nodes[index].op)
    }

    fn is_linear(&self, tensor: usize) -> bool {
        matches!(self.maker(tensor), Some(RealOp::Linear { .. }))
    }

    fn only_reader(&self, tensor: usize) -> bool {
        self.output != tensor && self.readers(tensor).len() == 1
    }

    /// The same function in the form that is quantised: linear layers are as large as can be, each is read by one clip (or is the
    /// answer), every clip reads a linear layer.
    pub(super) fn normalised(mut self) -> RealNetwork {
        self.sweep();
        while self.add_up() || self.fuse() || self.swap_pool() || self.merge_clips() {}
        self.answer_linear();
        self.sweep();
        self.clip_sums();
        self.sum_clipped();
        self.unshare();
        self
    }

    /// Multiples of one tensor in one sum are one: an int8 file's accumulator may come in several rounded parts.
    fn add_up(&mut self) -> bool {
        let mut found = false;
        for node in &mut self.nodes {
            let RealOp::Linear { terms, .. } = &mut node.op else { continue };
            let mut kept: Vec<RealTerm> = Vec::with_capacity(terms.len());
            for term in terms.drain(..) {
                let same = kept.iter_mut().find_map(|other| match (other, &term) {
                    (RealTerm::Identity { input, factor }, RealTerm::Identity { input: from, factor: more }) => {
                        (input == from).then_some((factor, more))
                    }
                    _ => None,
                });
                match same {
                    Some((factor, more)) => {
                        let channels = factor.len().max(more.len());
                        *factor = (0..channels).map(|c| of_channel(factor, c) + of_channel(more, c)).collect();
                        found = true;
                    }
                    None => kept.push(term),
                }
            }
            *terms = kept;
        }
        found
    }

    /// A multiple of a linear layer that nothing else reads becomes terms of its reader.
    fn fuse(&mut self) -> bool {
        for index in 0..self.nodes.len() {
            let RealOp::Linear { terms, .. } = &self.nodes[index].op else { continue };
            let inlined = terms.iter().position(|term| {
                matches!(term, RealTerm::Identity { input, .. } if self.is_linear(*input) && self.only_reader(*input))
            });
            let Some(at) = inlined else { continue };
            let RealOp::Linear { terms, bias } = &mut self.nodes[index].op else { continue };
            let RealTerm::Identity { input, factor } = terms.remove(at) else { continue };
            let mut bias = std::mem::take(bias);
            let mut terms = std::mem::take(terms);
            let RealOp::Linear { terms: inner, bias: more } = self.nodes[input - 1].op.clone() else { continue };
            for (channel, sum) in bias.iter_mut().enumerate() {
                *sum += more[channel] * of_channel(&factor, channel);
            }
            terms.extend(inner.into_iter().map(|term| term.scaled(&factor)));
            self.nodes[index].op = RealOp::Linear { terms, bias };
            // What nothing reads any more is dropped at the end; until then it must not count as a reader.
            let first = self.input_of(input);
            self.nodes[input - 1].op = RealOp::Clip { input: first, lo: 0.0, hi: 0.0 };
            self.retire(input);
            return true;
        }
        false
    }

    fn input_of(&self, tensor: usize) -> usize {
        self.nodes[tensor - 1].op.inputs()[0]
    }

    /// Takes a node out that nothing reads.
    fn retire(&mut self, tensor: usize) {
        self.nodes.remove(tensor - 1);
        let moved = |input: &mut usize| *input -= usize::from(*input > tensor);
        self.nodes.iter_mut().flat_map(|node| node.op.inputs_mut()).for_each(moved);
        moved(&mut self.output);
    }

    /// A clip behind a max pool is one before it.
    fn swap_pool(&mut self) -> bool {
        for index in 0..self.nodes.len() {
            let RealOp::Clip { input, lo, hi } = self.nodes[index].op else { continue };
            let Some(&RealOp::MaxPool { input: from, window }) = self.maker(input) else { continue };
            let alone = !matches!(self.maker(from), Some(RealOp::Clip { .. })) || self.only_reader(from);
            if self.only_reader(input) && alone {
                self.nodes[input - 1].op = RealOp::Clip { input: from, lo, hi };
                self.nodes[index].op = RealOp::MaxPool { input, window };
                return true;
            }
        }
        false
    }

    /// A clip of a clip that nothing else reads is one.
    fn merge_clips(&mut self) -> bool {
        for index in 0..self.nodes.len() {
            let RealOp::Clip { input, lo, hi } = self.nodes[index].op else { continue };
            let Some(&RealOp::Clip { input: from, lo: least, hi: most }) = self.maker(input) else { continue };
            if self.only_reader(input) {
                let (lo, hi) = (lo.clamp(least, most), hi.clamp(least, most));
                self.nodes[index].op = RealOp::Clip { input: from, lo, hi };
                self.retire(input);
                return true;
            }
        }
        false
    }

    /// The answer is the linear layer itself where only its shape follows.
    fn answer_linear(&mut self) {
        while let Some(&RealOp::Flatten { input }) = self.maker(self.output)
            && self.readers(self.output).is_empty()
            && self.is_linear(input)
        {
            self.output = input;
        }
    }

    /// Linear layers that something else than a clip reads get one without bounds.
    fn clip_sums(&mut self) {
        let mut index = 0;
        while index < self.nodes.len() {
            let reads = |network: &RealNetwork, tensor: usize| {
                network.is_linear(tensor) && !matches!(network.nodes[index].op, RealOp::Clip { .. })
            };
            let inputs = self.nodes[index].op.inputs();
            if let Some(&sum) = inputs.iter().find(|&&tensor| reads(self, tensor)) {
                let clip = RealOp::Clip { input: sum, lo: f32::NEG_INFINITY, hi: f32::INFINITY };
                let name = format!("{}_value", self.nodes[sum - 1].name);
                self.insert(sum, RealNode { name, op: clip });
                let clipped = sum + 1;
                for at in clipped..self.nodes.len() {
                    if !matches!(self.nodes[at].op, RealOp::Clip { .. }) {
                        let stale = self.nodes[at].op.inputs_mut().into_iter().filter(|input| **input == sum);
                        stale.for_each(|input| *input = clipped);
                    }
                }
            } else {
                index += 1;
            }
        }
    }

    /// Clips that read no linear layer get one: the tensor itself.
    fn sum_clipped(&mut self) {
        let mut index = 0;
        while index < self.nodes.len() {
            if let RealOp::Clip { input, .. } = self.nodes[index].op
                && !self.is_linear(input)
            {
                let channels = self.shapes().map_or(0, |shapes| shapes[input][0]);
                let op = RealOp::Linear {
                    terms: vec![RealTerm::Identity { input, factor: vec![1.0] }],
                    bias: vec![0.0; channels],
                };
                let name = format!("{}_in", self.nodes[index].name);
                self.insert(index, RealNode { name, op });
                if let RealOp::Clip { input, .. } = &mut self.nodes[index + 1].op {
                    *input = index + 1;
                }
            }
            index += 1;
        }
    }

    /// A linear layer that several clips read, or a clip and the answer, is there once for each: their rounding is part of its bias.
    fn unshare(&mut self) {
        let mut tensor = 1;
        while tensor <= self.nodes.len() {
            let readers = self.readers(tensor);
            let uses = readers.len() + usize::from(self.output == tensor);
            if let (true, true, Some(&last)) = (self.is_linear(tensor), uses > 1, readers.last()) {
                let RealNode { name, op } = self.nodes[tensor - 1].clone();
                self.insert(tensor, RealNode { name: format!("{name}_{}", uses - 1), op });
                self.nodes[last + 1].op.inputs_mut().into_iter().for_each(|input| *input = tensor + 1);
            } else {
                tensor += 1;
            }
        }
    }

    /// Puts a node at `index`; what reads later tensors is renumbered.
    fn insert(&mut self, index: usize, node: RealNode) {
        let moved = |input: &mut usize| *input += usize::from(*input > index);
        self.nodes.iter_mut().flat_map(|node| node.op.inputs_mut()).for_each(moved);
        moved(&mut self.output);
        self.nodes.insert(index, node);
    }

    /// Without the nodes that the answer does not depend on.
    fn sweep(&mut self) {
        let mut tensor = self.nodes.len();
        while tensor > 0 {
            if tensor != self.output && self.readers(tensor).is_empty() {
                self.retire(tensor);
            }
            tensor -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ptq::run::run;

    fn point(input: usize, rows: usize, columns: usize, seed: f32) -> RealTerm {
        let weights =
            Array4::from_shape_fn((rows, columns, 1, 1), |(o, i, _, _)| ((o * 7 + i * 3) as f32 + seed).sin());
        RealTerm::Weights { input, window: Window::POINT, groups: 1, weights, dense: false }
    }

    fn node(name: &str, op: RealOp) -> RealNode {
        RealNode { name: name.into(), op }
    }

    fn network(nodes: Vec<RealNode>, output: usize) -> RealNetwork {
        let input = Input { shape: [2, 4, 4], bits: 8, zero_point: 0, pixels: None, coding: None };
        RealNetwork { name: "test".into(), input, unit: 0.01, nodes, output, classes: vec![], coding: None }
    }

    fn pool(input: usize) -> RealOp {
        let window = Window { kernel: [2, 2], stride: [2, 2], padding: [0; 4], dilation: [1, 1] };
        RealOp::MaxPool { input, window }
    }

    /// What an exact import splits into parts is one layer again.
    #[test]
    fn parts_of_a_sum_are_one() {
        let linear = |terms: Vec<RealTerm>, channels: usize| RealOp::Linear { terms, bias: vec![0.25; channels] };
        let scaled = |input, factor: &[f32]| RealTerm::Identity { input, factor: factor.to_vec() };
        let before = network(
            vec![
                node("a", linear(vec![point(0, 3, 2, 0.1)], 3)),
                node("part", linear(vec![scaled(1, &[0.5])], 3)),
                node("part_2", linear(vec![scaled(1, &[0.25, 0.5, -1.0])], 3)),
                node("b", linear(vec![point(0, 3, 2, 0.4)], 3)),
                node("sum", linear(vec![scaled(2, &[2.0]), scaled(4, &[1.0]), scaled(3, &[3.0])], 3)),
                node("relu", RealOp::Clip { input: 5, lo: 0.0, hi: 9.0 }),
            ],
            6,
        );
        let after = before.clone().normalised();
        let names: Vec<&str> = after.nodes.iter().map(|node| &node.name[..]).collect();
        assert_eq!(names, ["sum", "relu"]);
        let input = ndarray::Array3::from_shape_fn((2, 4, 4), |(c, h, w)| (c * 17 + h * 5 + w * 11) as f32 % 7.0);
        let inputs = [input];
        let (a, b) = (run(&before, &inputs), run(&after, &inputs));
        assert!(a[0].iter().zip(&b[0]).all(|(a, b)| (a - b).abs() < 1e-4));
    }

    /// Batch normalisation, a sum of two layers, a pool before the ReLU, a ReLU of a ReLU, a layer that reads a sum.
    #[test]
    fn the_normal_form_computes_the_same() {
        let clip = |input, hi| RealOp::Clip { input, lo: 0.0, hi };
        let linear = |terms: Vec<RealTerm>, channels: usize| RealOp::Linear {
            terms,
            bias: (0..channels).map(|c| c as f32 / 8.0 - 0.2).collect(),
        };
        let scaled = |input, factor: &[f32]| RealTerm::Identity { input, factor: factor.to_vec() };
        let before = network(
            vec![
                node("a", linear(vec![point(0, 3, 2, 0.1)], 3)),
                node("norm", linear(vec![scaled(1, &[0.5, -2.0, 1.5])], 3)),
                node("b", linear(vec![point(0, 3, 2, 0.7)], 3)),
                node("sum", linear(vec![scaled(2, &[1.0]), scaled(3, &[-1.0])], 3)),
                node("pool", pool(4)),
                node("relu", clip(5, f32::INFINITY)),
                node("relu6", clip(6, 6.0)),
                node("c", linear(vec![point(7, 2, 3, 0.3)], 2)),
                node("d", linear(vec![point(8, 2, 2, 0.9)], 2)),
                node("unread", pool(8)),
                node("flat", RealOp::Flatten { input: 9 }),
            ],
            11,
        );
        let after = before.clone().normalised();
        let names: Vec<&str> = after.nodes.iter().map(|node| &node.name[..]).collect();
        assert_eq!(names, ["sum", "relu", "relu6", "c", "c_value", "d"]);
        for node in &after.nodes {
            let RealOp::Clip { input, .. } = node.op else { continue };
            assert!(after.is_linear(input), "{}", node.name);
        }
        let inputs: Vec<ndarray::Array3<f32>> = (0..3)
            .map(|n| {
                ndarray::Array3::from_shape_fn((2, 4, 4), |(c, h, w)| (n * 31 + c * 17 + h * 5 + w * 11) as f32 % 7.0)
            })
            .collect();
        for (a, b) in run(&before, &inputs).iter().zip(run(&after, &inputs)) {
            let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{worst}");
        }
    }
}
