//! What an answer means: real outputs, the integers of the file's own tensor, the class.

use crate::check::MAX_ELEMENTS;
use crate::coding::{End, Order, OutputCoding, OutputPart, short};
use crate::network::{Architecture, Shape};

/// Advice of [`Architecture::picture_warning`]: give preprocessing to the import. A program with words of its own puts them in its place.
pub const PIXELS_BECOME: &str = "say how where the file is imported";

/// Most outputs whose largest one is a class.
pub const MAX_CLASSES: usize = 1 << 16;

/// Which class an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassRule {
    /// The index of the largest output, the first or the last of equals.
    Largest {
        /// The last one.
        last: bool,
    },
    /// The index of the largest output, each times the unit of its own.
    Scaled {
        /// The last one of equals.
        last: bool,
    },
    /// 1 where the only output is above this, else 0: a probability of more than a half.
    Above(i64),
    /// At each position of an image the channel of the largest value.
    Each {
        /// The last one of equals.
        last: bool,
    },
    /// The network computes no class; why.
    None(&'static str),
}

impl ClassRule {
    /// Why `--reveal class`, which opens the index of the largest output and the first of equals, would not be what the network
    /// computes; `None` if it is.
    pub fn not_revealed(self) -> Option<&'static str> {
        match self {
            ClassRule::Largest { last: false } => None,
            ClassRule::Largest { last: true } => Some("of equal outputs its class is the last one"),
            ClassRule::Scaled { .. } => Some("its outputs have different units, by which they are multiplied first"),
            ClassRule::Above(_) => Some("its class is whether its only output is above a half"),
            ClassRule::Each { .. } => Some("it has a class for each position of an image"),
            ClassRule::None(why) => Some(why),
        }
    }
}

impl OutputCoding {
    /// Channels, height, width.
    fn shape(&self) -> Shape {
        match (&self.dims[..], self.order) {
            (&[c, h, w], Order::ChannelsFirst) | (&[h, w, c], Order::ChannelsLast) => [c, h, w],
            (dims, _) => [dims.iter().product(), 1, 1],
        }
    }

    /// The sole output of a network with a sigmoid at its end.
    fn above(&self, scale: Option<f64>) -> Option<i64> {
        match self.ends[..] {
            [End::Sigmoid] => Some(0),
            // p > 1/2 for p = scale z.
            [] if self.probability => scale.map(|scale| (0.5 / scale).floor() as i64),
            _ => None,
        }
    }
}

impl Architecture {
    /// Which class an answer of `outputs` integers has.
    pub fn class_rule(&self, outputs: usize) -> ClassRule {
        let many = "it has more outputs than classes are told apart";
        let Some(coding) = &self.output_coding else {
            return match outputs {
                1 => ClassRule::None("it has one output, and nothing says what that means"),
                _ if outputs > MAX_CLASSES => ClassRule::None(many),
                _ => ClassRule::Largest { last: false },
            };
        };
        if !coding.parts.is_empty() {
            return ClassRule::None("it has several outputs");
        }
        if coding.ends.iter().any(|end| matches!(end, End::Clip { .. })) {
            return ClassRule::None("its outputs are clipped at the end, so that several may be the largest");
        }
        let image = coding.shape()[1..] != [1, 1];
        let scaled = !coding.units.is_empty();
        match (coding.class, coding.above(self.output_scale)) {
            _ if image && scaled => ClassRule::None("its output is an image, whose channels have different units"),
            (Some(class), _) if image => ClassRule::Each { last: class.last },
            (None, _) if image => ClassRule::None("its output is an image, without an arg max in the file"),
            _ if outputs > MAX_CLASSES => ClassRule::None(many),
            (class, _) if scaled && outputs > 1 => ClassRule::Scaled { last: class.is_some_and(|class| class.last) },
            (Some(class), _) => ClassRule::Largest { last: class.last },
            (None, Some(bound)) if outputs == 1 => ClassRule::Above(bound),
            (None, None) if outputs == 1 => ClassRule::None("it has one output, without a sigmoid in the file"),
            _ => ClassRule::Largest { last: false },
        }
    }

    /// The class of an answer; `None` if the network computes none, or one for each position.
    pub fn class_of(&self, logits: &[i64]) -> Option<usize> {
        match self.class_rule(logits.len()) {
            ClassRule::Largest { last } => largest(logits, last),
            ClassRule::Scaled { last } => largest(&self.reals(logits)?, last),
            ClassRule::Above(bound) => Some(usize::from(logits[0] > bound)),
            ClassRule::Each { .. } | ClassRule::None(_) => None,
        }
    }

    /// How many names the classes of `outputs` integers have.
    pub fn named_classes(&self, outputs: usize) -> usize {
        match self.class_rule(outputs) {
            ClassRule::Above(_) => 2,
            ClassRule::Each { .. } => self.output_coding.as_ref().map_or(outputs, |coding| coding.shape()[0]),
            ClassRule::Largest { .. } | ClassRule::Scaled { .. } | ClassRule::None(_) => outputs,
        }
    }

    /// The integers in the order of the file's output.
    pub fn ordered(&self, logits: &[i64]) -> Vec<i64> {
        match &self.output_coding {
            Some(coding) if coding.shape().iter().product::<usize>() == logits.len() => {
                coding.order.to_file(logits, coding.shape())
            }
            _ => logits.to_vec(),
        }
    }

    /// The values of the quantised tensor that is the file's own output, in its order; `None` if its output is none.
    pub fn quantised(&self, logits: &[i64]) -> Option<Vec<i64>> {
        let coding = self.output_coding.as_ref().filter(|coding| coding.integers && coding.dtype.is_some())?;
        Some(self.ordered(logits).iter().map(|z| z + coding.zero_point).collect())
    }

    /// The file's real outputs in its order: each integer times the unit, in 32-bit floats where a quantised tensor is dequantised, and
    /// behind it what the file has behind. The classes of an image that ends in an arg max. `None` where the unit is not known.
    pub fn outputs(&self, logits: &[i64]) -> Option<Vec<f64>> {
        let shape = self.output_coding.as_ref().map_or([logits.len(), 1, 1], OutputCoding::shape);
        let [channels, height, width] = shape;
        let places = height * width;
        if channels.saturating_mul(places) != logits.len() || logits.len() > MAX_ELEMENTS {
            return None;
        }
        if let ClassRule::Each { last } = self.class_rule(logits.len()) {
            let column = |place: usize| (0..channels).map(|c| logits[c * places + place]).collect::<Vec<i64>>();
            return (0..places).map(|place| largest(&column(place), last).map(|class| class as f64)).collect();
        }
        if let Some(coding) = self.output_coding.as_ref().filter(|coding| !coding.parts.is_empty()) {
            return outputs_of_parts(&coding.parts, logits);
        }
        let mut values = self.reals(logits)?;
        let Some(coding) = &self.output_coding else { return Some(values) };
        for end in &coding.ends {
            apply(*end, &mut values, channels, places);
        }
        Some(coding.order.to_file(&values, shape))
    }

    /// Integers, by channel, times what a unit of each stands for; `None` where that is not known.
    fn reals(&self, logits: &[i64]) -> Option<Vec<f64>> {
        if let Some(coding) = self.output_coding.as_ref().filter(|coding| !coding.units.is_empty()) {
            let places = (logits.len() / coding.units.len()).max(1);
            let unit = |index: usize| coding.units.get(index / places);
            return logits.iter().enumerate().map(|(index, &z)| Some(z as f64 * unit(index)?)).collect();
        }
        let scale = self.output_scale?;
        let quantised = self.output_coding.as_ref().is_some_and(|coding| coding.dtype.is_some());
        let of = |&z: &i64| if quantised { real(z, scale) } else { z as f64 * scale };
        Some(logits.iter().map(of).collect())
    }

    /// One line about the input: shape, order, type, scale, zero point.
    pub fn input_line(&self) -> String {
        match &self.input.coding {
            Some(coding) => coding.to_string(),
            None => {
                let [c, h, w] = self.input.shape;
                format!("integers [N,{c},{h},{w}] NCHW, 0..={}", (1u64 << self.input.bits.min(32)) - 1)
            }
        }
    }

    /// One line about the output.
    pub fn output_line(&self) -> String {
        match (&self.output_coding, self.output_scale) {
            (Some(coding), scale) => coding.line(scale),
            // A product of units, which is no number of a file.
            (None, Some(scale)) => format!("integers, scale {}", short((scale as f32).into())),
            (None, None) => "integers, no scale".to_owned(),
        }
    }

    /// Whether the input may be a picture.
    pub fn reads_pictures(&self) -> bool {
        let [channels, height, width] = self.input.shape;
        channels <= 4 && height * width > 1
    }

    /// What a user should know who hands over pictures; `None` if they are what the network reads.
    pub fn picture_warning(&self) -> Option<String> {
        let coding = self.input.coding.as_ref().filter(|_| self.input.pixels.is_none())?;
        let [lo, hi] = coding.reals().filter(|_| !coding.takes_pixels())?;
        Some(format!(
            "the network reads real numbers {lo:.3}..{hi:.3}, and nothing says how pixels become them: pixel p goes in as {}; \
             {PIXELS_BECOME}",
            match (self.input.bits, coding.lowest) {
                (8, 0) => "q = p".to_owned(),
                (8, lowest) => format!("q = p {} {}", if lowest < 0 { '-' } else { '+' }, lowest.abs()),
                (bits, lowest) => format!("q = p / {} + {lowest}, rounded down", 1u32 << (8 - bits.min(8))),
            }
        ))
    }
}

/// The real values of several outputs, one behind the other; `None` unless the unit of each is known.
fn outputs_of_parts(parts: &[OutputPart], logits: &[i64]) -> Option<Vec<f64>> {
    let mut all = Vec::with_capacity(logits.len());
    let mut rest = logits;
    for part in parts {
        let (own, behind) = rest.split_at_checked(part.count())?;
        rest = behind;
        let scale = part.scale?;
        let start = all.len();
        all.extend(own.iter().map(|&z| real(z, scale)));
        let channels = part.dims.last().copied().unwrap_or(1);
        for end in &part.ends {
            all[start..].chunks_mut(channels).for_each(|row| apply(*end, row, row.len(), 1));
        }
    }
    Some(all)
}

/// An integer times the unit: in 32-bit floats where the unit is one, as runtimes dequantise.
fn real(z: i64, scale: f64) -> f64 {
    if f64::from(scale as f32) == scale { f64::from(z as f32 * scale as f32) } else { z as f64 * scale }
}

fn largest<T: PartialOrd>(values: &[T], last: bool) -> Option<usize> {
    let better = |best: usize, index: usize| {
        let (best_value, value) = (&values[best], &values[index]);
        if value > best_value || last && value == best_value { index } else { best }
    };
    (0..values.len()).reduce(better)
}

/// `values` is `[channels, places]`.
fn apply(end: End, values: &mut [f64], channels: usize, places: usize) {
    match end {
        End::Sigmoid => values.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp())),
        End::Tanh => values.iter_mut().for_each(|v| *v = v.tanh()),
        End::Clip { low, high } => values.iter_mut().for_each(|v| {
            *v = v.max(low.map_or(f64::NEG_INFINITY, f64::from)).min(high.map_or(f64::INFINITY, f64::from));
        }),
        End::Softmax | End::LogSoftmax => {
            for place in 0..places {
                let at = |c: usize| c * places + place;
                let most = (0..channels).map(|c| values[at(c)]).fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = (0..channels).map(|c| (values[at(c)] - most).exp()).sum();
                for c in 0..channels {
                    let log = values[at(c)] - most - sum.ln();
                    values[at(c)] = if end == End::Softmax { log.exp() } else { log };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo;

    /// Two boxes and a distribution, in units of their own.
    fn parts() -> Vec<OutputPart> {
        let scores = OutputPart::new("scores\n", vec![1, 3], Some(0.5), 7);
        vec![
            OutputPart::new("boxes", vec![2, 2], Some(f64::from(0.1f32)), 0),
            OutputPart { ends: vec![End::Softmax], ..scores },
        ]
    }

    fn detector(parts: Vec<OutputPart>) -> Architecture {
        let mut architecture = zoo::find("digits").unwrap().network().architecture().clone();
        let coding = OutputCoding {
            dims: vec![7],
            order: Order::ChannelsFirst,
            dtype: None,
            zero_point: 0,
            integers: false,
            ends: vec![],
            probability: false,
            class: None,
            parts,
            units: vec![],
        };
        assert!(coding.fits([7, 1, 1]) && !coding.fits([8, 1, 1]));
        architecture.output_coding = Some(coding);
        architecture
    }

    #[test]
    fn several_outputs_have_units_of_their_own_and_no_class() {
        let architecture = detector(parts());
        let logits = [3, -4, 0, 10, 2, 2, 2];
        let outputs = architecture.outputs(&logits).expect("all units are known");
        assert_eq!(outputs[..4], [3.0f32, -4.0, 0.0, 10.0].map(|z| f64::from(z * 0.1f32)));
        assert!(outputs[4..].iter().all(|p| (p - 1.0 / 3.0).abs() < 1e-12), "{outputs:?}");
        assert_eq!((architecture.class_of(&logits), architecture.quantised(&logits)), (None, None));
        let line = architecture.output_line();
        assert_eq!(
            line,
            "2 outputs as one vector: boxes [2, 2] of scale 0.1; scores [1, 3] of scale 0.5 (zero point 7 taken off), softmax"
        );
        let mut unknown = parts();
        unknown[0].scale = None;
        assert_eq!(detector(unknown).outputs(&logits), None);
    }

    #[test]
    fn channels_of_different_units_are_multiplied_before_they_are_compared() {
        let mut architecture = detector(vec![]);
        let coding = architecture.output_coding.as_mut().unwrap();
        coding.units = vec![1.0, 0.25, 1.0, 1.0, 1.0, 1.0, 3.0];
        assert!(coding.fits([7, 1, 1]) && !coding.fits([1, 7, 1]));
        let bad = |units: Vec<f64>| !OutputCoding { units, ..coding.clone() }.fits([7, 1, 1]);
        assert!(bad(vec![1.0; 6]) && bad(vec![0.0; 7]) && bad(vec![f64::NAN; 7]));
        let logits = [5, 16, 3, 2, 1, 0, 2];
        assert_eq!(architecture.outputs(&logits), Some(vec![5.0, 4.0, 3.0, 2.0, 1.0, 0.0, 6.0]));
        assert_eq!(architecture.class_of(&logits), Some(6));
        // Of equals the first, unless the file says the last.
        assert_eq!(architecture.class_of(&[6, 24, 0, 0, 0, 0, 2]), Some(0));
        architecture.output_coding.as_mut().unwrap().class = Some(crate::coding::ArgMax { last: true });
        assert_eq!(architecture.class_of(&[6, 24, 0, 0, 0, 0, 2]), Some(6));
        assert!(architecture.class_rule(7).not_revealed().is_some());
        assert!(architecture.output_line().contains("a scale for each channel"), "{}", architecture.output_line());
    }

    #[test]
    fn the_largest_of_very_many_is_no_class() {
        let architecture = Architecture { output_coding: None, ..detector(parts()) };
        assert_eq!(architecture.class_rule(MAX_CLASSES), ClassRule::Largest { last: false });
        assert!(matches!(architecture.class_rule(MAX_CLASSES + 1), ClassRule::None(_)));
    }
}
