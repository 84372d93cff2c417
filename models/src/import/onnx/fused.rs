//! Operations that ONNX Runtime merges with the quantiser behind them into one on integers, and what it computes then.

use super::graph::Node;
use super::quantiser::Quantiser;
use super::real::{Post, at};
use super::tensor::Element;
use super::value::{FusedKind, Real, Source, Stop};
use super::walk::Walk;
use crate::import::builder::Sum;
use crate::network::TensorId;

pub(super) const FUSED: &str = "ONNX Runtime: float32 product of accumulator and scale, half to even";

impl<'m> Walk<'m> {
    /// ONNX Runtime's integer operation for a linear node, an activation that the quantiser implies, and the quantiser; `None` if the
    /// runtime computes in floats.
    pub(super) fn fused(
        &mut self,
        node: Node<'m>,
        real: &Real<'m>,
        quantiser: &Quantiser,
        element: Element,
    ) -> Result<Option<TensorId>, Stop> {
        let (Some(fused), Source::Sum { sum, .. }) = (&real.fused, &real.source) else {
            return self.fused_other(node, real, quantiser, element);
        };
        let (x, w) = fused.elements;
        let byte = |element: Element| matches!(element, Element::Int { bits: 8, .. });
        let implied = match &real.post[..] {
            [] => true,
            [Post::Clip(lo, hi)] => clip_is_implied(*lo, *hi, quantiser, element),
            _ => false,
        };
        if !(byte(x) && byte(w) && byte(element) && implied && self.leads_to(fused.output, node.index)) {
            return Ok(None);
        }
        let result = if self.becomes_unsigned(node.output(), element) { Element::UINT8 } else { element };
        if !merges_on_x86(fused.kind, (x, w), result) {
            return Ok(None);
        }
        let sum = (**sum).clone();
        let scale: Vec<f32> = fused.weights.iter().map(|w| fused.input * w / quantiser.scale).collect();
        let id = self.requantise_ints(node, sum, &scale, quantiser)?;
        self.later(node, real, id).map(Some)
    }

    /// True if only node `index` reads the tensor, perhaps through operations that the runtime moves behind the quantiser.
    pub(super) fn leads_to(&self, tensor: &'m str, index: usize) -> bool {
        let mut name = tensor;
        while let Some((reader, node)) = self.graph.reader(name) {
            if reader == index {
                return true;
            }
            if !matches!(node.op(), "Relu" | "Clip" | "MaxPool" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze") {
                return false;
            }
            name = node.output();
        }
        false
    }

    /// clamp(half_to_even(float(z) * scale) + zero), ONNX Runtime's rule for integers.
    pub(super) fn requantise_ints(
        &mut self,
        node: Node<'m>,
        sum: Sum,
        scale: &[f32],
        quantiser: &Quantiser,
    ) -> Result<TensorId, Stop> {
        if let Some(channel) = self.builder.bounds(&sum).iter().position(|range| range.signed_bits() > 32) {
            let reason = format!("the accumulator of channel {channel} can leave 32 bits");
            return Err(Stop::new(reason, "the runtime would overflow: use fewer bits"));
        }
        self.builder.report.rule(FUSED);
        let (lo, zero) = (quantiser.lo, quantiser.zero as i64);
        let rule = |channel: usize, z: i64| integer_rule(quantiser, at(scale, channel), z) - lo;
        Ok(self.builder.requantise(node.name(), sum, zero - lo, rule)?)
    }
}

/// Whether ONNX Runtime on x86 merges a linear node on `x` and weights `w` with a quantiser to `y`: all activations unsigned, or a
/// `Gemm` with signed ones and signed weights. Signed convolutions stay floats there.
fn merges_on_x86(kind: FusedKind, (x, w): (Element, Element), y: Element) -> bool {
    let signed_gemm = kind == FusedKind::Gemm && [x, w, y] == [Element::INT8; 3];
    x == Element::UINT8 && y == Element::UINT8 || signed_gemm
}

/// clamp(half_to_even(float(z) * scale) + zero).
fn integer_rule(quantiser: &Quantiser, scale: f32, z: i64) -> i64 {
    let v = (z as f32 * scale).round_ties_even() as i64;
    v.saturating_add(quantiser.zero as i64).clamp(quantiser.lo, quantiser.hi)
}

/// True if what a quantiser's type can hold lies within the clip: the clip changes nothing.
pub(super) fn clip_is_implied(lo: f32, hi: f32, quantiser: &Quantiser, element: Element) -> bool {
    let end = |q: i64| (q - quantiser.zero as i64) as f32 * quantiser.scale;
    element.small().is_some_and(|(least, most)| end(least) >= lo && end(most) <= hi)
}
