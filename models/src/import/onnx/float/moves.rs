//! Shapes, padding, slices, concatenations, and what the client does at the end.

use super::{Reader, Tensor};
use crate::coding::{ArgMax, End};
use crate::import::onnx::dims::{axis, cuts, pads, reshaped};
use crate::import::onnx::graph::Node;
use crate::import::onnx::stop::Stop;
use crate::import::onnx::tensor::{Constant, Element};
use crate::import::onnx::value::Value;
use crate::network::Shape;
use crate::ptq::real::RealOp;

impl<'m> Reader<'_, 'm> {
    pub(super) fn identity(&mut self, node: Node<'m>) -> Result<(), Stop> {
        let name = node.input(0).unwrap_or_default();
        let tensor = self.tensors.get(name).cloned();
        let tensor = tensor.ok_or_else(|| Stop::new("its input is missing", "the file is damaged"))?;
        let to = i32::try_from(node.int("to", 1)).ok().and_then(Element::of);
        if node.op() == "Cast" && to != Some(Element::Float) && tensor.class.is_none() {
            return Err(Stop::new("real numbers become integers", "quantise a network without casts"));
        }
        self.same(node, tensor);
        Ok(())
    }

    pub(super) fn shape_of(&mut self, node: Node<'m>) -> Result<(), Stop> {
        let dims: Vec<i64> = self.dims(self.tensor(node, 0)?).iter().map(|&size| size as i64).collect();
        let int64 = Element::Int { bits: 64, signed: true };
        self.constants.insert(node.output(), Value::Constant(Constant::ints(vec![dims.len()], int64, dims)));
        Ok(())
    }

    /// `Flatten`, `Reshape`, `Squeeze` and `Unsqueeze`: the same elements as an image, a row or a vector.
    pub(super) fn reshape(&mut self, node: Node<'m>) -> Result<(), Stop> {
        let name = node.input(0).unwrap_or_default();
        let tensor = self.tensors.get(name).cloned();
        let tensor = tensor.ok_or_else(|| Stop::new("its input is missing", "the file is damaged"))?;
        let dims = self.dims(&tensor);
        let new = reshaped(node, &dims, 1, |index| self.optional(node, index))?;
        let other =
            || Stop::new(format!("a shape of {new:?}"), "networks have vectors and images, one input at a time");
        let shape: Shape = match new[..] {
            [1, n] => [n, 1, 1],
            [1, c, l] => [c, 1, l],
            [1, c, h, w] => [c, h, w],
            _ => return Err(other()),
        };
        if shape == self.shape(&tensor) {
            self.same(node, Tensor { rank: new.len(), ..tensor });
            return Ok(());
        }
        if !tensor.ends.is_empty() || tensor.class.is_some() {
            return Err(other());
        }
        let elements: usize = shape.iter().product();
        let (input, rank) = (tensor.id, new.len());
        if rank == 2 {
            return self.push(node, RealOp::Flatten { input }, rank);
        }
        let axes = vec![(0..elements as i64).collect()];
        self.push(node, RealOp::Select { input, shape, axes }, rank)
    }

    /// Zeros around an image.
    pub(super) fn pad(&mut self, node: Node<'m>) -> Result<(), Stop> {
        if node.text("mode", "constant") != "constant" {
            return Err(Stop::new("padding with other than zeros", "pad with zeros"));
        }
        let value = match self.optional(node, 2)? {
            Some(value) => value.scalar().unwrap_or(f32::NAN),
            None => node.float("value", 0.0),
        };
        if value != 0.0 {
            return Err(Stop::new("padding with other than zeros", "pad with zeros"));
        }
        let tensor = self.tensor(node, 0)?.clone();
        let dims = self.dims(&tensor);
        let (before, behind) = pads(node, dims.len(), |index| self.optional(node, index))?;
        if before.iter().chain(&behind).any(|&pad| pad < 0) {
            return Err(Stop::new("padding that cuts elements off", "use Slice"));
        }
        if before[0] != 0 || behind[0] != 0 {
            return Err(Stop::new("padding of the batch", "networks take one input at a time"));
        }
        let sizes = self.shape(&tensor);
        let around = |axis: usize| match (dims.len(), axis) {
            (4, axis) => [before[axis + 1], behind[axis + 1]],
            (3, 0) => [before[1], behind[1]],
            (3, 2) => [before[2], behind[2]],
            (2, 0) => [before[1], behind[1]],
            _ => [0, 0],
        };
        let entries = |axis: usize| -> Vec<i64> {
            let [first, last] = around(axis);
            let zeros = |count: i64| std::iter::repeat_n(-1, count as usize);
            zeros(first).chain(0..sizes[axis] as i64).chain(zeros(last)).collect()
        };
        self.chosen(node, &tensor, std::array::from_fn(entries))
    }

    /// `Slice` with constant bounds.
    pub(super) fn slice(&mut self, node: Node<'m>) -> Result<(), Stop> {
        let tensor = self.tensor(node, 0)?.clone();
        let (rank, sizes) = (tensor.rank, self.shape(&tensor));
        let mut lists: [Vec<i64>; 3] = sizes.map(|size| (0..size as i64).collect());
        for cut in cuts(node, rank, |index| self.optional(node, index))? {
            // Behind the batch: a row is [1, c, l], held as [c, 1, l].
            let along = match (cut.axis, rank) {
                (0, _) => {
                    if cut.of(1) == [0] {
                        continue;
                    }
                    return Err(Stop::new("a slice of the batch", "networks take one input at a time"));
                }
                (2, 3) => 2,
                (axis, _) => axis - 1,
            };
            lists[along] = cut.of(sizes[along]);
            if lists[along].is_empty() {
                return Err(Stop::new("a slice of nothing", "the file is not consistent"));
            }
        }
        self.chosen(node, &tensor, lists)
    }

    /// The elements at the indices of each list, channels first; -1 stands for zeros.
    fn chosen(&mut self, node: Node<'m>, tensor: &Tensor, lists: [Vec<i64>; 3]) -> Result<(), Stop> {
        let sizes = self.shape(tensor);
        let strides = [sizes[1] * sizes[2], sizes[2], 1];
        let shape = [lists[0].len(), lists[1].len(), lists[2].len()];
        let at = |(list, stride): (Vec<i64>, usize)| {
            list.into_iter().map(|index| if index < 0 { -1 } else { index * stride as i64 }).collect()
        };
        let axes = lists.into_iter().zip(strides).map(at).collect();
        self.push(node, RealOp::Select { input: tensor.id, shape, axes }, tensor.rank)
    }

    pub(super) fn concat(&mut self, node: Node<'m>) -> Result<(), Stop> {
        let count = node.proto.input.len();
        let parts = (0..count).map(|index| self.tensor(node, index).cloned()).collect::<Result<Vec<_>, _>>()?;
        let first = parts[0].clone();
        if axis(node.int("axis", 1), first.rank)? != 1 || parts.iter().any(|part| part.rank != first.rank) {
            return Err(Stop::new("joined along another axis than the channels", "join along axis 1"));
        }
        if count == 1 {
            self.same(node, first);
            return Ok(());
        }
        self.push(node, RealOp::Concat { inputs: parts.iter().map(|part| part.id).collect() }, first.rank)
    }

    /// A function of the last values that the client applies.
    pub(super) fn end(&mut self, node: Node<'m>, end: End) -> Result<(), Stop> {
        let mut tensor = self.tensor(node, 0)?.clone();
        let last = |output: &str| self.graph.is_output(output) || self.leads_out(output);
        if !last(node.output()) {
            let hint = "between layers networks have ReLU and clips: train with them";
            return Err(Stop::new("a function that is left to the client, but not at the end", hint));
        }
        if matches!(end, End::Softmax | End::LogSoftmax) {
            let at = axis(node.int("axis", if self.graph.opset < 13 { 1 } else { -1 }), tensor.rank)?;
            if at != 1 || (self.graph.opset < 13 && self.shape(&tensor)[1..] != [1, 1]) {
                return Err(Stop::new("a softmax over other than the channels", "use axis 1"));
            }
        }
        tensor.ends.push(end);
        self.same(node, tensor);
        Ok(())
    }

    /// Whether nothing but shapes and classes follow.
    fn leads_out(&self, output: &str) -> bool {
        let calm = ["Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "ArgMax"];
        let mut behind = self.graph.forth(output).take_while(|next| calm.contains(&next.op()));
        behind.any(|next| self.graph.is_output(next.output()))
    }

    pub(super) fn arg_max(&mut self, node: Node<'m>) -> Result<(), Stop> {
        let name = node.input(0).unwrap_or_default();
        let tensor = self.tensors.get(name).cloned().filter(|tensor| tensor.class.is_none());
        let mut tensor = tensor.ok_or_else(|| Stop::new("its input is missing", "the file is damaged"))?;
        if axis(node.int("axis", 0), tensor.rank)? != 1 {
            return Err(Stop::new("an arg max over other than the channels", "use axis 1"));
        }
        tensor.class = Some(ArgMax { last: node.int("select_last_index", 0) != 0 });
        self.same(node, tensor);
        Ok(())
    }
}
