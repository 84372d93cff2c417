//! Layers, sums, clips and pools.

use ndarray::Array4;

use super::{Reader, Tensor};
use crate::import::onnx::client::by_channel;
use crate::import::onnx::dims::axes;
use crate::import::onnx::graph::Node;
use crate::import::onnx::stop::Stop;
use crate::import::onnx::tensor::Constant;
use crate::import::onnx::walk::Walk;
use crate::network::Window;
use crate::ptq::real::{RealOp, RealTerm};

fn inconsistent() -> Stop {
    Stop::new("shapes that do not fit each other", "the file is not consistent")
}

impl<'m> Reader<'_, 'm> {
    pub(super) fn conv(&mut self, node: Node<'m>) -> Result<(), Stop> {
        let input = self.tensor(node, 0)?.clone();
        let weights = self.constant(node, 1)?;
        let dims = match weights.shape[..] {
            [o, i, h, w] if input.rank == 4 => [o, i, h, w],
            [o, i, w] if input.rank == 3 => [o, i, 1, w],
            _ => {
                return Err(Stop::new(
                    "a convolution of other than images",
                    "networks have one or two spatial dimensions",
                ));
            }
        };
        let [channels, height, width] = self.shape(&input);
        let groups =
            usize::try_from(node.int("group", 1)).ok().filter(|&groups| groups > 0).ok_or_else(inconsistent)?;
        if dims.contains(&0) || dims[1].checked_mul(groups) != Some(channels) || dims[0] % groups != 0 {
            return Err(inconsistent());
        }
        let window = Walk::window_of(node, [dims[2], dims[3]], [channels, height, width], [0; 4])?;
        let bias = self.bias(node, 2, dims[0])?;
        let weights = finite(&weights)?;
        let weights = Array4::from_shape_vec(dims, weights).map_err(|_| inconsistent())?;
        let term = RealTerm::Weights { input: input.id, window, groups, weights, dense: false };
        self.push(node, RealOp::Linear { terms: vec![term], bias }, input.rank)
    }

    /// alpha * x * w + beta * b.
    pub(super) fn gemm(&mut self, node: Node<'m>) -> Result<(), Stop> {
        if node.int("transA", 0) != 0 {
            return Err(Stop::new("a transposed activation", "networks multiply vectors with matrices"));
        }
        let weights = self.constant(node, 1)?;
        let &[rows, columns] = &weights.shape[..] else { return Err(inconsistent()) };
        let outputs = if node.int("transB", 0) != 0 { rows } else { columns };
        let beta = node.float("beta", 1.0);
        let bias = self.bias(node, 2, outputs)?.into_iter().map(|b| b * beta).collect();
        self.dense(node, &weights, node.int("transB", 0) != 0, node.float("alpha", 1.0), bias)
    }

    pub(super) fn matmul(&mut self, node: Node<'m>) -> Result<(), Stop> {
        let weights = self.constant(node, 1)?;
        let &[_, columns] = &weights.shape[..] else {
            return Err(Stop::new("a product with other than a matrix", "networks multiply vectors with matrices"));
        };
        self.dense(node, &weights, false, 1.0, vec![0.0; columns])
    }

    fn dense(
        &mut self,
        node: Node<'m>,
        weights: &Constant,
        transposed: bool,
        factor: f32,
        bias: Vec<f32>,
    ) -> Result<(), Stop> {
        let input = self.tensor(node, 0)?.clone();
        if input.rank != 2 {
            return Err(Stop::new("a matrix on other than a vector", "flatten it before"));
        }
        let &[rows, columns] = &weights.shape[..] else { return Err(inconsistent()) };
        let (outputs, inputs) = if transposed { (rows, columns) } else { (columns, rows) };
        if inputs != self.shape(&input)[0] || outputs == 0 {
            return Err(inconsistent());
        }
        let values = finite(weights)?;
        let at = |(o, i, _, _): (usize, usize, usize, usize)| {
            factor * values[if transposed { o * inputs + i } else { i * outputs + o }]
        };
        let weights = Array4::from_shape_fn((outputs, inputs, 1, 1), at);
        let term = RealTerm::Weights { input: input.id, window: Window::POINT, groups: 1, weights, dense: true };
        self.push(node, RealOp::Linear { terms: vec![term], bias }, 2)
    }

    /// One number for each channel; zeros where the input is left out.
    fn bias(&self, node: Node<'m>, index: usize, channels: usize) -> Result<Vec<f32>, Stop> {
        let Some(bias) = self.optional(node, index)? else { return Ok(vec![0.0; channels]) };
        let values = finite(&bias)?;
        match values.len() {
            1 => Ok(vec![values[0]; channels]),
            count if count == channels => Ok(values),
            _ => Err(inconsistent()),
        }
    }

    /// (x - mean) / sqrt(variance + epsilon) * gamma + beta.
    pub(super) fn batch_norm(&mut self, node: Node<'m>) -> Result<(), Stop> {
        if node.int("training_mode", 0) != 0 {
            return Err(Stop::new("a normalisation that is still trained", "export the network for inference"));
        }
        let input = self.tensor(node, 0)?.clone();
        let channels = self.shape(&input)[0];
        let lists = (1..5).map(|index| finite(&self.constant(node, index)?)).collect::<Result<Vec<_>, _>>()?;
        if lists.iter().any(|list| list.len() != channels) {
            return Err(inconsistent());
        }
        let epsilon = node.float("epsilon", 1e-5);
        let scale: Vec<f32> = (0..channels).map(|c| lists[0][c] / (lists[3][c] + epsilon).sqrt()).collect();
        let bias = (0..channels).map(|c| lists[1][c] - lists[2][c] * scale[c]).collect();
        self.affine(node, &input, scale, bias)
    }

    /// factor * x + bias by channel.
    fn affine(&mut self, node: Node<'m>, input: &Tensor, factor: Vec<f32>, bias: Vec<f32>) -> Result<(), Stop> {
        if !factor.iter().chain(&bias).all(|v| v.is_finite()) {
            return Err(Stop::new("numbers that are not finite", "the file is damaged"));
        }
        let channels = self.shape(input)[0];
        let bias = if bias.len() == 1 { vec![bias[0]; channels] } else { bias };
        let terms = vec![RealTerm::Identity { input: input.id, factor }];
        self.push(node, RealOp::Linear { terms, bias }, input.rank)
    }

    /// Numbers for all channels, or one for each.
    fn numbers(&self, tensor: &Tensor, constant: &Constant) -> Result<Vec<f32>, Stop> {
        let [channels, height, width] = self.shape(tensor);
        if !by_channel(&constant.shape, &self.dims(tensor), false, channels, height * width) {
            let hint = "use one number, or one for each channel";
            return Err(Stop::new("numbers for other than each channel", hint));
        }
        let numbers = finite(constant)?;
        if numbers.is_empty() { Err(inconsistent()) } else { Ok(numbers) }
    }

    /// `Add`, `Sub` and `Sum`, of activations and constants.
    pub(super) fn sum(&mut self, node: Node<'m>) -> Result<(), Stop> {
        let count = node.proto.input.len();
        let sign = |index: usize| if node.op() == "Sub" && index == 1 { -1.0 } else { 1.0 };
        let is_tensor = |index: &usize| node.input(*index).is_some_and(|name| self.tensors.contains_key(name));
        let parts: Vec<usize> = (0..count).filter(is_tensor).collect();
        let first = self.tensor(node, *parts.first().ok_or_else(inconsistent)?)?.clone();
        let mut bias = vec![0.0; self.shape(&first)[0]];
        let mut terms: Vec<RealTerm> = Vec::new();
        for index in 0..count {
            if parts.contains(&index) {
                let tensor = self.tensor(node, index)?;
                if self.shape(tensor) != self.shape(&first) {
                    let hint = "networks add tensors of one shape";
                    return Err(Stop::new("it adds tensors of different shapes", hint));
                }
                terms.push(RealTerm::Identity { input: tensor.id, factor: vec![sign(index)] });
            } else {
                let numbers = self.numbers(&first, &self.constant(node, index)?)?;
                let more = numbers.iter().cycle();
                bias.iter_mut().zip(more).for_each(|(bias, more)| *bias += sign(index) * more);
            }
        }
        self.push(node, RealOp::Linear { terms, bias }, first.rank)
    }

    /// `Mul` and `Div` by constants.
    pub(super) fn multiple(&mut self, node: Node<'m>) -> Result<(), Stop> {
        let is_tensor = |index: usize| node.input(index).is_some_and(|name| self.tensors.contains_key(name));
        let at = match (is_tensor(0), is_tensor(1)) {
            (true, true) => {
                let hint =
                    "networks have no products of activations: no attention, no gates, no squeeze and excitation";
                return Err(Stop::new("a product of two activations", hint));
            }
            (false, _) if node.op() == "Div" => {
                return Err(Stop::new("a division by an activation", "multiply instead"));
            }
            (first, _) => usize::from(!first),
        };
        let tensor = self.tensor(node, at)?.clone();
        let mut numbers = self.numbers(&tensor, &self.constant(node, 1 - at)?)?;
        if node.op() == "Div" {
            numbers.iter_mut().for_each(|v| *v = 1.0 / *v);
        }
        self.affine(node, &tensor, numbers, vec![0.0])
    }

    pub(super) fn negative(&mut self, node: Node<'m>) -> Result<(), Stop> {
        let tensor = self.tensor(node, 0)?.clone();
        self.affine(node, &tensor, vec![-1.0], vec![0.0])
    }

    /// Bounds that are given, or those of the node.
    pub(super) fn clip(&mut self, node: Node<'m>, bounds: Option<[f32; 2]>) -> Result<(), Stop> {
        let tensor = self.tensor(node, 0)?.clone();
        let bound = |index: usize, name: &str, none: f32| match self.optional(node, index)? {
            Some(number) => number.scalar().ok_or_else(inconsistent),
            None => Ok(node.float(name, none)),
        };
        let [lo, hi] = match bounds {
            Some(bounds) => bounds,
            None => [bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?],
        };
        if !(lo <= 0.0 && hi > 0.0) {
            return Err(Stop::new(format!("a clip to {lo}..{hi}"), "clips here have 0 in their range"));
        }
        self.push(node, RealOp::Clip { input: tensor.id, lo, hi }, tensor.rank)
    }

    pub(super) fn max_pool(&mut self, node: Node<'m>) -> Result<(), Stop> {
        let tensor = self.image(node)?;
        let window = match node.op() {
            "GlobalMaxPool" => self.whole(&tensor),
            _ => Walk::pool_window_of(node, self.shape(&tensor))?,
        };
        self.push(node, RealOp::MaxPool { input: tensor.id, window }, tensor.rank)
    }

    fn image(&self, node: Node<'m>) -> Result<Tensor, Stop> {
        let tensor = self.tensor(node, 0)?;
        if tensor.rank >= 3 {
            return Ok(tensor.clone());
        }
        Err(Stop::new("a pool of what is no image", "networks have one or two spatial dimensions"))
    }

    fn whole(&self, tensor: &Tensor) -> Window {
        let [_, height, width] = self.shape(tensor);
        Window { kernel: [height, width], ..Window::POINT }
    }

    /// `AveragePool`, `GlobalAveragePool`, and `ReduceMean` over height and width.
    pub(super) fn average_pool(&mut self, node: Node<'m>) -> Result<(), Stop> {
        let tensor = self.image(node)?;
        let mut rank = tensor.rank;
        let window = match node.op() {
            "GlobalAveragePool" => self.whole(&tensor),
            "ReduceMean" => {
                let list = axes(node, self.optional(node, 1)?)?.unwrap_or_default();
                let mut list: Vec<i64> = list.iter().map(|&a| if a < 0 { a + rank as i64 } else { a }).collect();
                list.sort_unstable();
                if !(list == [2, 3] && rank == 4 || list == [2] && rank == 3) {
                    let hint = "networks average over both";
                    return Err(Stop::new("a mean over other axes than height and width", hint));
                }
                if node.int("keepdims", 1) == 0 {
                    rank = 2;
                }
                self.whole(&tensor)
            }
            _ => {
                let window = Walk::pool_window_of(node, self.shape(&tensor))?;
                let even = window.padding == [0; 4] || node.int("count_include_pad", 0) != 0;
                if !even || node.int("ceil_mode", 0) != 0 && window.padding != [0; 4] {
                    let hint = "let padding count (count_include_pad), or pool without padding";
                    return Err(Stop::new("an average of windows with different numbers of values", hint));
                }
                if window.dilation != [1, 1] {
                    return Err(Stop::new("an average over a dilated window", "networks average over dense windows"));
                }
                window
            }
        };
        let divisor = (window.kernel[0] * window.kernel[1]) as f32;
        self.push(node, RealOp::AveragePool { input: tensor.id, window, divisor }, rank)
    }
}

/// The numbers, which are finite.
fn finite(constant: &Constant) -> Result<Vec<f32>, Stop> {
    let list = constant.to_floats().to_vec();
    if list.iter().all(|v| v.is_finite()) {
        return Ok(list);
    }
    Err(Stop::new("numbers that are not finite", "the file is damaged"))
}
