//! Operations that ONNX Runtime merges with the quantiser behind them into one on integers, and what it computes then.

use super::graph::Node;
use super::quantiser::Quantiser;
use super::real::{Post, at};
use super::stop::Stop;
use super::tensor::Element;
use super::value::{Origin, Real, Scale, Scaled};
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
        let (Some(fused), Origin::Sum { sum, .. }) = (&real.fused, &real.source) else {
            return self.fused_other(node, real, quantiser, element);
        };
        let (x, w) = fused.elements;
        let implied = clips_are_implied(&real.post, quantiser, element);
        let beside =
            fused.apart.is_none() && self.graph.merged_with(node).is_some_and(|made| made.output() == fused.output);
        if !(x.is_byte() && w.is_byte() && element.is_byte() && implied && beside) {
            return Ok(None);
        }
        let result = if self.becomes_unsigned(node.output(), element) { Element::UINT8 } else { element };
        if !self.kernels.merge(fused.kind, (x, w), result) {
            return Ok(None);
        }
        let sum = (**sum).clone();
        let scale: Vec<f32> = fused.weights.iter().map(|w| fused.input * w / quantiser.scale).collect();
        let id = self.requantise_ints(node, sum, &scale, quantiser)?;
        self.later(node, real, id).map(Some)
    }

    /// Refuses a matrix whose input ONNX Runtime rounds to 8 bits of its own, 32 numbers at a time (`MatMulNBits`), unless results may be
    /// approximate.
    pub(super) fn quantised_again(
        &mut self,
        node: Node<'m>,
        input: Scale,
        weights: &Scaled,
        sum: &Sum,
    ) -> Result<(), Stop> {
        if !self.is_quantised_again(node) {
            return Ok(());
        }
        if !self.near {
            let reason =
                "ONNX Runtime rounds this layer's input to 8 bits once more, 32 numbers at a time (MatMulNBits)";
            let hint = "put DequantizeLinear right before it, or QuantizeLinear right behind it";
            return Err(Stop::near(reason, hint));
        }
        // Half a step of 127 up to the largest number, times each weight.
        let x = self.builder.tensor(input.id).range.magnitude() as f64;
        let largest = |(channel, magnitude): (usize, f64)| {
            let step = f64::from(input.unit) * x / 254.0;
            step * magnitude / x.max(1.0) * f64::from(at(&weights.scale, channel))
        };
        let error = self.magnitudes(sum).into_iter().enumerate().map(largest).fold(0.0, f64::max);
        let text = format!(
            "ONNX Runtime rounds its input to 8 bits once more; its results are off by {error:.2e} at most, not these"
        );
        self.note(node, &text);
        self.builder.twin.near_floats();
        Ok(())
    }

    /// The runtime's rule: 8-bit weights with one scale, or one for each output, that only this node reads; an input that comes from no
    /// `DequantizeLinear`, and no quantiser behind.
    fn is_quantised_again(&self, node: Node<'m>) -> bool {
        let maker = |index: usize| node.input(index).and_then(|name| self.graph.maker(name));
        let plain = node.op() == "MatMul"
            || node.int("transB", 0) == 0 && node.float("alpha", 1.0) == 1.0 && node.float("beta", 1.0) == 1.0;
        let Some(w) = maker(1).filter(|w| w.op() == "DequantizeLinear" && w.int("block_size", 0) == 0) else {
            return false;
        };
        let shape = |index: usize| self.constant(w, index).map(|constant| constant.shape).unwrap_or_default();
        let (matrix, units) = (shape(0), shape(1));
        let by_output = matrix.len() == 2 && units == matrix[1..] && matches!(w.int("axis", 1), 1 | -1);
        let zeros = w.input(2).is_none() || shape(2) == units;
        // A constant that is added goes into the matrix.
        let added = self.graph.reader(node.output()).map(|(_, next)| next).filter(|next| {
            let other = next.input(usize::from(next.input(0) == Some(node.output())));
            next.op() == "Add"
                && other.is_some_and(|name| self.graph.maker(name).is_none_or(|made| made.op() == "Constant"))
        });
        let result = added.filter(|_| node.op() == "MatMul").map_or(node.output(), |added| added.output());
        plain
            && node.input(0).is_some_and(|x| self.apart(x).is_some())
            && matrix.len() == 2
            && (units.is_empty() || by_output)
            && zeros
            && self.graph.reader(w.output()).is_some()
            && self.graph.consumers(result).iter().all(|&at| self.graph.nodes[at].op() != "QuantizeLinear")
    }

    /// Refuses sums that the runtime's 32-bit integers do not hold.
    pub(super) fn in_32_bits(&self, sum: &Sum) -> Result<(), Stop> {
        match self.builder.bounds(sum).iter().position(|range| range.signed_bits() > 32) {
            None => Ok(()),
            Some(channel) => {
                let reason = format!("the accumulator of channel {channel} can leave 32 bits");
                Err(Stop::new(reason, "the runtime would overflow: use fewer bits"))
            }
        }
    }

    /// clamp(half_to_even(float(z) * scale) + zero), ONNX Runtime's rule for integers.
    pub(super) fn requantise_ints(
        &mut self,
        node: Node<'m>,
        sum: Sum,
        scale: &[f32],
        quantiser: &Quantiser,
    ) -> Result<TensorId, Stop> {
        self.in_32_bits(&sum)?;
        self.builder.report.rule(FUSED);
        let (lo, zero) = (quantiser.lo, quantiser.zero as i64);
        let rule = |channel: usize, z: i64| integer_rule(quantiser, at(scale, channel), z) - lo;
        if (lo..=quantiser.hi).contains(&zero) {
            return Ok(self.builder.requantise(node.name(), sum, zero - lo, rule)?);
        }
        // A clip has left it out.
        let id = self.builder.requantise(node.name(), sum, 0, rule)?;
        Ok(self.builder.apply(&format!("{}/values", node.name()), id, |y| y + lo - zero)?)
    }
}

/// clamp(half_to_even(float(z) * scale) + zero).
fn integer_rule(quantiser: &Quantiser, scale: f32, z: i64) -> i64 {
    let v = (z as f32 * scale).round_ties_even() as i64;
    v.saturating_add(quantiser.zero as i64).clamp(quantiser.lo, quantiser.hi)
}

/// True for clips that what a quantiser's type can hold lies within: they change nothing.
pub(super) fn clips_are_implied(post: &[Post], quantiser: &Quantiser, element: Element) -> bool {
    let end = |q: i64| (q - quantiser.zero as i64) as f32 * quantiser.scale;
    let small = element.small();
    post.iter().all(|step| match step {
        Post::Clip(lo, hi) => small.is_some_and(|(least, most)| end(least) >= *lo && end(most) <= *hi),
        _ => false,
    })
}
