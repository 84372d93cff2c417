//! Where quantisers stand once ONNX Runtime has moved them.
//!
//! It merges a node with the `DequantizeLinear` of its inputs and the `QuantizeLinear` behind it, if these stand right beside the node.
//! Before, it moves pairs of them over operations that change neither values nor their range (`QDQPropagation`): dequantised values
//! forward, what is to be quantised back. It moves them over nothing else: behind a `Flatten`, a `Gather` or a `Relu` a layer reads floats.
//! What is said here was seen in the graphs that version 1.32 optimises.

use std::iter::once;

use super::dims::pads;
use super::graph::{Graph, Node};
use super::walk::Walk;

/// Most zeros in a row that are looked at.
const MAX_PADS: usize = 16;

impl<'m> Graph<'m> {
    /// True if the runtime moves quantisers over the node.
    fn is_passed(&self, node: Node<'m>) -> bool {
        match node.op() {
            "MaxPool" => self.opset >= 12,
            "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" | "Slice" => true,
            _ => false,
        }
    }

    /// The node that the runtime may merge with a quantiser: that which makes what it quantises, but for operations over which it moves
    /// the quantiser, and activations before those. Nothing else reads what lies between. A `Gemm` without bias takes a transposition as its own,
    /// and stays one of floats.
    pub fn merged_with(&self, quantiser: Node<'m>) -> Option<Node<'m>> {
        let (mut name, mut behind, mut clipped) = (quantiser.input(0)?, quantiser, false);
        loop {
            self.reader(name)?;
            let node = self.maker(name).filter(|node| node.index < behind.index)?;
            match node.op() {
                // A quantiser stays behind an activation.
                "Relu" | "Clip" => clipped = true,
                _ if !clipped && self.is_passed(node) => {}
                op => {
                    let turned = op == "Gemm" && node.input(2).is_none() && behind.op() == "Transpose";
                    return Some(node).filter(|_| !turned);
                }
            }
            (name, behind) = (node.input(0)?, node);
        }
    }

    /// True if the runtime has a quantiser right behind a tensor, but for activations; only it reads the tensor.
    pub fn leads_to_quantiser(&self, tensor: &'m str) -> bool {
        let (mut name, mut moved, mut last) = (tensor, false, None);
        while let Some((index, node)) = self.reader(name).filter(|(index, _)| Some(*index) > last) {
            last = Some(index);
            match node.op() {
                "QuantizeLinear" => return true,
                "Relu" | "Clip" if !moved => {}
                _ if self.is_passed(node) && node.input(0) == Some(name) => moved = true,
                _ => return false,
            }
            name = node.output();
        }
        false
    }
}

impl<'m> Walk<'m> {
    /// The `DequantizeLinear` that makes a tensor, but for nodes that are `taken` along; what is none, or why there is none.
    fn dequantiser(&self, tensor: &'m str, taken: impl Fn(Node<'m>) -> bool) -> Result<Node<'m>, String> {
        let (mut name, mut last) = (tensor, usize::MAX);
        while let Some(node) = self.graph.maker(name).filter(|node| node.index < last) {
            if node.op() == "DequantizeLinear" {
                return Ok(node);
            }
            let Some(before) = node.input(0).filter(|_| is_copy(node) || taken(node)) else {
                return Err(format!(
                    "{} \"{}\" stands between the layer and DequantizeLinear, and ONNX Runtime moves no quantisers over it",
                    node.op(),
                    node.name()
                ));
            };
            (name, last) = (before, node.index);
        }
        Err("no DequantizeLinear makes what the layer reads".to_owned())
    }

    /// Why the runtime merges nothing that reads a tensor: what stands between it and its `DequantizeLinear`; `None` if nothing does.
    pub(super) fn apart(&self, tensor: &'m str) -> Option<String> {
        self.dequantiser(tensor, |node| self.graph.is_passed(node) || self.joins(node)).err()
    }

    /// Why the runtime merges no layer, whose inputs are values and weights; a `gemm` needs their zero points.
    pub(super) fn layer_apart(&self, node: Node<'m>, gemm: bool) -> Option<String> {
        let (x, w) = (node.input(0)?, node.input(1)?);
        let of_values = self.dequantiser(x, |node| self.graph.is_passed(node) || self.joins(node));
        // Transpositions become part of weights.
        let of_weights = self.dequantiser(w, |node| node.op() == "Transpose");
        match (of_values, of_weights) {
            (Err(text), _) | (_, Err(text)) => Some(text),
            (Ok(a), Ok(b)) => {
                let bare = [a, b].into_iter().find(|pair| gemm && pair.input(2).is_none())?;
                let name = bare.name();
                Some(format!(
                    "DequantizeLinear \"{name}\" has no zero point, without which ONNX Runtime merges no Gemm"
                ))
            }
        }
    }

    /// True for zeros around an image that become part of the convolution or the average that alone reads them.
    fn joins(&self, node: Node<'m>) -> bool {
        let is_pad = |node: &Node<'m>| node.op() == "Pad";
        let behind = || self.graph.forth(node.output()).take(MAX_PADS);
        is_pad(&node)
            && behind().find(|next| !is_pad(next)).is_some_and(|next| matches!(next.op(), "Conv" | "AveragePool"))
            && once(node).chain(behind().take_while(is_pad)).all(|pad| self.has_zeros(pad) == Some(true))
    }

    /// Whether a `Pad` puts zeros around an image; `None` where nothing says so.
    fn has_zeros(&self, node: Node<'m>) -> Option<bool> {
        let value = self.optional(node, 2).ok()?.map_or(Some(node.float("value", 0.0)), |value| value.scalar())?;
        let rank = self.dims_of(self.value(node, 0).ok()?).ok()?.len();
        let (before, after) = pads(node, rank, |index| self.optional(node, index)).ok()?;
        let spatial = [&before, &after].iter().all(|pads| pads.iter().take(2).all(|&pad| pad == 0));
        let none_cut = before.iter().chain(&after).all(|&pad| pad >= 0);
        let plain = node.input(3).is_none() && node.text("mode", "constant") == "constant";
        Some(plain && value == 0.0 && spatial && none_cut)
    }
}

/// True for a node without effect: the runtime takes such nodes out.
fn is_copy(node: Node<'_>) -> bool {
    matches!(node.op(), "Identity" | "Dropout" | "Cast")
}
