//! Results that integers do not determine, and how far exact arithmetic is from the runtime's floats.
//!
//! The bound on what the order of additions can change grows with their number, and real errors stay far below it. Where results may be
//! approximate, sums of products are measured too: on random inputs, exactly and as one chain of 32-bit floats.

use std::borrow::Cow;
use std::cell::Cell;

use ndarray::Axis;

use super::graph::Node;
use super::kernels::Kernels;
use super::quantiser::Quantiser;
use super::real::{Near, Post, apply, at, quantised};
use super::stop::Stop;
use super::tensor::Element;
use super::value::{Fused, Real};
use super::walk::Walk;
use crate::import::builder::Sum;
use crate::network::Range;
use crate::rescale::Steps;

/// Most random inputs of a sum, and most products of all of them together.
const SAMPLES: usize = 64;
const PRODUCTS: usize = 1 << 28;

/// Results that float arithmetic does not determine: by how many steps they may be off at most, and on average over all that is
/// reachable, where that is known.
#[derive(Default)]
pub(super) struct Doubts {
    most: Cell<i64>,
    mean: Cell<Option<f64>>,
    expected: Cell<Option<f64>>,
}

impl Doubts {
    /// The result; a doubt is kept.
    pub fn note(&self, (q, off): (i64, i64)) -> i64 {
        self.most.set(self.most.get().max(off));
        q
    }

    /// True if there are some.
    pub fn any(&self) -> bool {
        self.most.get() > 0
    }

    pub fn are_of_one_step(&self) -> bool {
        self.most.get() == 1
    }

    /// Keeps how many results of an inference are in doubt on average.
    pub fn come(&self, expected: f64) {
        self.expected.set(Some(expected));
    }

    /// How often that is, for people.
    fn often(&self) -> String {
        match self.expected.get().map(|expected| 1.0 / expected) {
            None => String::new(),
            Some(rare) if rare >= 1e6 => " (in fewer than one of a million inferences)".into(),
            Some(rare) if rare >= 1.5 => format!(" (in about one of {rare:.0} inferences)"),
            Some(_) => " (in nearly every inference)".into(),
        }
    }

    /// Keeps the mean over the integers of `domains`, one for each channel, where `ends` are the least and the largest result that an
    /// integer may have. Nothing is kept where they rise and fall.
    pub fn average(&self, domains: impl IntoIterator<Item = Range>, ends: impl Fn(usize, i64) -> [i64; 2]) {
        let (mut sum, mut channels) = (0.0, 0);
        for (channel, domain) in domains.into_iter().enumerate() {
            let Some(mean) = mean_width(domain, |z| ends(channel, z)) else { return };
            (sum, channels) = (sum + mean, channels + 1);
        }
        self.mean.set(Some(sum / f64::from(channels.max(1))));
    }

    /// Keeps a mean that was counted.
    pub fn counted(&self, mean: f64) {
        self.mean.set(Some(mean));
    }
}

/// The mean of the differences of two monotone functions.
fn mean_width(domain: Range, ends: impl Fn(i64) -> [i64; 2]) -> Option<f64> {
    let sign = if ends(domain.lo)[1] > ends(domain.hi)[1] { -1 } else { 1 };
    let turned = if sign < 0 { Range { lo: -domain.hi, hi: -domain.lo } } else { domain };
    let least = ends(domain.lo)[0].min(ends(domain.hi)[0]);
    let total = |end: usize| -> Option<f64> {
        let steps = Steps::of(turned, |z| ends(sign * z)[end] - least).ok()?;
        let above: f64 = steps.thresholds.iter().map(|t| (turned.hi - t + 1) as f64).sum();
        Some(steps.first as f64 * turned.count() as f64 + above)
    };
    Some((total(1)? - total(0)?) / domain.count() as f64)
}

/// A part of one as a percentage, with two figures.
fn percent(part: f64) -> String {
    let percent = 100.0 * part;
    let digits = if percent >= 1.0 { 1 } else { (1.0 - percent.max(1e-9).log10()).ceil() as usize };
    format!("{percent:.digits$} %")
}

/// Why integers do not determine a result, and what helps.
#[derive(Clone)]
pub(super) struct Why {
    pub reason: Cow<'static, str>,
    pub hint: &'static str,
}

impl Why {
    const fn new(reason: &'static str, hint: &'static str) -> Why {
        Why { reason: Cow::Borrowed(reason), hint }
    }
}

const AS_INT8: &str = "quantise activations as unsigned bytes (activation_type=QuantType.QUInt8), or set ONNX Runtime's option \
                       session.qdqisint8allowed to 1 and compute signed bytes as integers";

pub(super) const FLOATS: Why = Why::new(
    "float32 arithmetic decides results: a value lies nearer to a boundary than its error",
    "use scales that are powers of two",
);

pub(super) const MEANS: Why = Why::new(
    "ONNX Runtime computes this mean (ReduceMean) in float32, and one lies nearer to a boundary than its error",
    "use GlobalAveragePool, which it computes in integers (torch.onnx.export writes that with dynamo=False)",
);

/// How far results by exact arithmetic are from those by floats, in steps.
pub(super) struct Measured {
    largest: i64,
    mean: f64,
    samples: usize,
}

impl<'m> Walk<'m> {
    /// Refuses doubts unless results may be approximate, and in any case where they are of more than one step.
    pub(super) fn settle(
        &mut self,
        node: Node<'m>,
        doubts: &Doubts,
        why: Why,
        measured: Option<Measured>,
    ) -> Result<(), Stop> {
        let (off, hint) = (doubts.most.get(), why.hint);
        if off == 0 {
            return Ok(());
        }
        let reason = format!("{}{}", why.reason, doubts.often());
        let found = measured.as_ref().map_or(off, |measured| measured.largest);
        if found > 1 {
            return Err(Stop::new(format!("{reason}: results may be off by {found} steps"), hint));
        }
        if !self.near {
            return Err(Stop::near(reason, hint));
        }
        let mut errors = match doubts.mean.get() {
            _ if off > 1 => format!("{off} steps are the most that any order of additions gives"),
            Some(mean) => {
                format!("results may differ by one, the largest error; the mean is {} of a step at most", percent(mean))
            }
            None => "results may differ by one, the largest error".to_owned(),
        };
        if let Some(Measured { largest, mean, samples }) = measured {
            errors += &format!(
                "; on {samples} random inputs of each channel the largest was {largest}, the mean {mean:.1e} steps"
            );
        }
        self.builder.twin.near_floats();
        self.note(node, &format!("exact arithmetic takes the place of float32: {errors}; {reason}"));
        Ok(())
    }

    /// The same for averages of `count` values in steps of `input`, which become steps of `output`.
    pub(super) fn settle_average(
        &mut self,
        node: Node<'m>,
        doubts: &Doubts,
        count: usize,
        [input, output]: [f32; 2],
    ) -> Result<(), Stop> {
        let reason = format!(
            "an average of {count} values can lie halfway between two steps, where the rounding of ONNX Runtime's floats decides"
        );
        let hint = if input == output {
            "give it an output scale of its own (AveragePool left out of op_types_to_quantize), or use a max pool or strides"
        } else {
            "choose another output scale, whose ratio to the input's is no fraction of small numbers, or use a max pool or strides"
        };
        self.settle(node, doubts, Why { reason: reason.into(), hint }, None)
    }

    /// Why floats decide the results of a quantiser, and what to do about it.
    pub(super) fn floats_decide(&self, node: Node<'m>, real: &Real<'m>) -> Why {
        let Some(fused) = real.fused.as_ref().filter(|_| node.op() == "QuantizeLinear") else {
            return FLOATS;
        };
        let made = self.element(node, 2).ok();
        let unsigned = |element: Element| element == Element::UINT8;
        let result = made.map(|made| if self.becomes_unsigned(node.output(), made) { Element::UINT8 } else { made });
        let alone = |name: &'m str| self.graph.reader(name).is_some();
        if !alone(fused.output) || !node.input(0).is_some_and(alone) {
            let reason = "what the layer makes is read by several nodes: ONNX Runtime computes it in floats, whose order of summation \
                          decides results";
            let hint = "quantise each tensor once, before anything else reads it (no DedicatedQDQPair)";
            return Why::new(reason, hint);
        }
        if let Some(apart) = &fused.apart {
            let reason = format!("{apart}: it computes the layer in floats, whose order of summation decides results");
            let hint = "put QuantizeLinear and DequantizeLinear with zero points right before the layer, or use scales that are powers of two";
            return Why { reason: reason.into(), hint };
        }
        let (x, w) = fused.elements;
        if ![x, w].into_iter().chain(result).all(Element::is_byte) {
            let reason = "it has integers of other than 8 bits: ONNX Runtime computes this in floats, whose order of summation decides results";
            return Why::new(
                reason,
                "quantise activations and weights to 8 bits, or use scales that are powers of two",
            );
        }
        if !unsigned(fused.elements.0) || result.is_some_and(|result| !unsigned(result)) {
            if self.kernels == Kernels::Int8 {
                let hint = "quantise activations as unsigned bytes (activation_type=QuantType.QUInt8), or all of the layer as signed ones";
                let reason = "its signed 8-bit activations have unsigned weights or unsigned results: ONNX Runtime computes this in \
                              floats, whose order of summation decides results";
                return Why::new(reason, hint);
            }
            let reason = if self.clips.is_empty() {
                "its signed 8-bit activations are the file's input or output, or read by several nodes: ONNX Runtime on x86 computes \
                 this in floats, whose order of summation decides results"
            } else {
                "its signed 8-bit activations are clipped or read by several nodes: ONNX Runtime on x86 computes this in floats, whose \
                 order of summation decides results"
            };
            return Why::new(reason, AS_INT8);
        }
        let reason = "an operation stands between the layer and its quantiser: ONNX Runtime computes this in floats, whose order of \
                      summation decides results";
        Why::new(reason, "quantise right behind the layer, or use scales that are powers of two")
    }

    /// A sum of products, exactly and in floats, on random inputs; `None` unless it is of one product of integers. `near` is the value
    /// of an accumulator.
    pub(super) fn measured(
        &self,
        sum: &Sum,
        fused: Option<&Fused<'m>>,
        near: impl Fn(usize, i64) -> Near,
        steps: &[Post],
        quantiser: &Quantiser,
    ) -> Option<Measured> {
        let [(term, Some(array))] = &sum.terms[..] else { return None };
        let fused = fused?;
        let range = self.builder.tensor(term.input()).range;
        let samples = (PRODUCTS / array.len().max(1)).clamp(2, SAMPLES);
        let mut draw = Draw(1);
        let (mut largest, mut total) = (0, 0);
        for sample in 0..samples {
            // All sizes of inputs: large ones are clipped.
            let x: Vec<i64> = (0..array.len() / sum.bias.len()).map(|_| draw.within(range, sample % 4)).collect();
            let floats: Vec<f32> = x.iter().map(|&x| x as f32 * fused.input).collect();
            for (channel, row) in array.axis_iter(Axis(0)).enumerate() {
                let unit = at(&fused.weights, channel);
                let (mut z, mut v) = (sum.bias[channel], 0.0f32);
                for (w, (x, float)) in row.iter().zip(x.iter().zip(&floats)) {
                    z += i64::from(*w) * x;
                    v += *w as f32 * unit * float;
                }
                v += sum.bias[channel] as f32 * (fused.input * unit);
                let of =
                    |value: Near| quantised(quantiser, channel, apply(steps, channel, Near { error: 0.0, ..value })).0;
                let off = (of(near(channel, z)) - of(Near { v, error: 0.0 })).abs();
                largest = largest.max(off);
                total += off;
            }
        }
        let mean = total as f64 / (samples * sum.bias.len()) as f64;
        Some(Measured { largest, mean, samples })
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): inputs to measure on, the same at every import.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A value of a range; less than a 4^by-th of it on either side of 0.
    fn within(&mut self, range: Range, by: usize) -> i64 {
        let (lo, hi) = (range.lo >> (2 * by), range.hi >> (2 * by));
        lo + (self.next() % (hi - lo + 1) as u64) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_drawn_from_all_of_a_range() {
        let (range, mut draw) = (Range { lo: -3, hi: 4 }, Draw(1));
        let mut seen: Vec<i64> = (0..200).map(|_| draw.within(range, 0)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, (-3..=4).collect::<Vec<i64>>());
        assert!((0..200).all(|_| (-1..=1).contains(&draw.within(range, 1))));
    }
}
