//! How the file that a network was imported from codes its input and its output: shapes, types, scales, zero points.
//!
//! The network itself knows integers only. A client needs more to hand over what the file's own runtime would be handed over, and to
//! read the answer as the runtime gives it. All of it is public.
//!
//! | array | becomes |
//! |---|---|
//! | bytes, of the file's quantised type | q, the file's own quantised input |
//! | wider integers | the same, counted from the smallest value as 0 |
//! | floats | q by the file's rule ([`Rule`]), in 32-bit floats as its runtime computes it |
//! | integers, where the file's input are integers that it casts | real numbers, then the same |
//! | pixels | real numbers by a [`Preprocessing`](crate::import::Preprocessing), then the same |
//!
//! The network reads y = q - lowest.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_ELEMENTS, MAX_NAME};
use crate::shape::{Range, Shape, of_channel};

/// Most dimensions of a tensor of a file.
pub const MAX_RANK: usize = 8;
/// Most outputs of a file that are told apart.
pub const MAX_PARTS: usize = 256;
/// Most steps before the quantiser.
pub const MAX_STEPS: usize = 16;

/// Type of the elements of a quantised tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Dtype {
    /// Signed, of 2 to 8 bits.
    Int(u32),
    /// Unsigned, of 1 to 8 bits.
    Uint(u32),
    /// -1 and +1.
    Bipolar,
}

impl Dtype {
    /// The values of the type.
    pub fn range(self) -> Range {
        match self {
            Dtype::Int(bits) => Range { lo: -(1 << (bits - 1)), hi: (1 << (bits - 1)) - 1 },
            Dtype::Uint(bits) => Range { lo: 0, hi: (1 << bits) - 1 },
            Dtype::Bipolar => Range { lo: -1, hi: 1 },
        }
    }

    fn possible(self) -> bool {
        match self {
            Dtype::Int(bits) => (2..=8).contains(&bits),
            Dtype::Uint(bits) => (1..=8).contains(&bits),
            Dtype::Bipolar => true,
        }
    }
}

impl From<Dtype> for String {
    fn from(dtype: Dtype) -> String {
        dtype.to_string()
    }
}

impl TryFrom<String> for Dtype {
    type Error = String;

    fn try_from(name: String) -> Result<Dtype, String> {
        let all = (1..=8).flat_map(|bits| [Dtype::Int(bits), Dtype::Uint(bits)]).chain([Dtype::Bipolar]);
        all.filter(|dtype| dtype.possible())
            .find(|dtype| dtype.to_string() == name)
            .ok_or_else(|| "a type of integers of 1 to 8 bits is expected, like int8".to_owned())
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dtype::Int(bits) => write!(f, "int{bits}"),
            Dtype::Uint(bits) => write!(f, "uint{bits}"),
            Dtype::Bipolar => write!(f, "bipolar"),
        }
    }
}

/// Where the channels stand in a file's tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Channels, height, width, as in ONNX and here.
    ChannelsFirst,
    /// Height, width, channels, as in TFLite.
    ChannelsLast,
}

impl Order {
    /// Values of one tensor of shape `[channels, height, width]` from this order into the network's.
    pub fn to_network<T: Copy>(self, values: &[T], shape: Shape) -> Vec<T> {
        let [channels, height, width] = shape;
        let at = |c: usize, place: usize| values[place * channels + c];
        match self {
            Order::ChannelsFirst => values.to_vec(),
            Order::ChannelsLast => {
                (0..channels).flat_map(|c| (0..height * width).map(move |place| at(c, place))).collect()
            }
        }
    }

    /// Values of one tensor of shape `[channels, height, width]` from the network's order into this one.
    pub fn to_file<T: Copy>(self, values: &[T], shape: Shape) -> Vec<T> {
        let [channels, height, width] = shape;
        let at = |c: usize, place: usize| values[c * height * width + place];
        match self {
            Order::ChannelsFirst => values.to_vec(),
            Order::ChannelsLast => {
                (0..height * width).flat_map(|place| (0..channels).map(move |c| at(c, place))).collect()
            }
        }
    }
}

/// A rounding of QONNX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundingMode {
    /// Halves to even.
    HalfEven,
    /// Up.
    Ceil,
    /// Down.
    Floor,
    /// Away from zero.
    Up,
    /// Towards zero.
    Down,
    /// Halves away from zero.
    HalfUp,
    /// Halves towards zero.
    HalfDown,
}

impl RoundingMode {
    /// v rounded.
    pub fn round(self, v: f32) -> f32 {
        match self {
            RoundingMode::HalfEven => v.round_ties_even(),
            RoundingMode::Ceil => v.ceil(),
            RoundingMode::Floor => v.floor(),
            RoundingMode::Up => v.signum() * v.abs().ceil(),
            RoundingMode::Down => v.trunc(),
            RoundingMode::HalfUp => v.signum() * (v.abs() + 0.5).floor(),
            RoundingMode::HalfDown => v.signum() * (v.abs() - 0.5).ceil(),
        }
    }
}

/// How a real number v becomes q, in 32-bit floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// clamp(half_to_even(v / scale) + zero_point): `QuantizeLinear` of ONNX.
    Onnx,
    /// clamp(half_away(v / scale) + zero_point): LiteRT's reference kernels.
    Litert,
    /// clamp(half_to_even(v * (1 / scale)) + zero_point): XNNPACK.
    Xnnpack,
    /// round(clamp(v / scale + zero_point)): `Quant` of QONNX.
    Qonnx(RoundingMode),
    /// 1 for v >= 0, else -1: `BipolarQuant`.
    Sign,
}

/// What a file does with its real input before it quantises it, in 32-bit floats: one number for all channels, or one for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputStep {
    /// Integers of this type as real numbers: the file's input; the first step.
    Cast(Dtype),
    /// v * v, or v * v * v: 2 and 3.
    Pow(u32),
    /// v + a.
    Add(Vec<f32>),
    /// v - a.
    Sub(Vec<f32>),
    /// a - v.
    From(Vec<f32>),
    /// v * a.
    Mul(Vec<f32>),
    /// v / a.
    Div(Vec<f32>),
    /// The nearest number between two bounds.
    Clip {
        /// The least; none where it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        low: Option<f32>,
        /// The largest; none where it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        high: Option<f32>,
    },
}

/// Whether bounds of a clip are numbers, the lower one first.
pub(crate) fn are_bounds(low: Option<f32>, high: Option<f32>) -> bool {
    let finite = [low, high].into_iter().flatten().all(f32::is_finite);
    finite && low.zip(high).is_none_or(|(low, high)| low <= high)
}

impl InputStep {
    fn numbers(&self) -> &[f32] {
        match self {
            InputStep::Add(list)
            | InputStep::Sub(list)
            | InputStep::From(list)
            | InputStep::Mul(list)
            | InputStep::Div(list) => list,
            InputStep::Cast(_) | InputStep::Pow(_) | InputStep::Clip { .. } => &[0.0],
        }
    }

    fn apply(&self, v: f32, channel: usize) -> f32 {
        let list = self.numbers();
        let a = of_channel(list, channel);
        match self {
            InputStep::Add(_) => v + a,
            InputStep::Sub(_) => v - a,
            InputStep::From(_) => a - v,
            InputStep::Mul(_) => v * a,
            InputStep::Div(_) => v / a,
            InputStep::Cast(_) => v,
            InputStep::Pow(2) => v * v,
            InputStep::Pow(_) => v * v * v,
            // What is no number stays none.
            InputStep::Clip { low: Some(low), .. } if v < *low => *low,
            InputStep::Clip { high: Some(high), .. } if v > *high => *high,
            InputStep::Clip { .. } => v,
        }
    }
}

/// How a file codes its input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coding {
    /// Dimensions of the file's input, the batch left out.
    pub dims: Vec<usize>,
    /// Their order.
    pub order: Order,
    /// Type of the quantised tensor.
    pub dtype: Dtype,
    /// The smallest q, for which y = 0.
    pub lowest: i64,
    /// The largest q: less than the type's largest if the file clips.
    pub highest: i64,
    /// Real value of one unit, where the file says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f32>,
    /// The q of the real value 0.
    pub zero_point: i64,
    /// What the file does with real numbers first, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<InputStep>,
    /// From real numbers to q.
    pub rule: Rule,
    /// True if the file's input are the integers themselves, false if it has real numbers and quantises them.
    pub integers: bool,
}

impl Coding {
    /// What the network reads for q; `None` if that is no value of the file's quantised tensor. A clip behind it is applied.
    pub fn stored(&self, q: i64) -> Option<u8> {
        if self.dtype == Dtype::Bipolar {
            return matches!(q, -1 | 1).then_some((q + 1) as u8 / 2);
        }
        self.values().contains(q).then(|| (q.clamp(self.lowest, self.highest) - self.lowest) as u8)
    }

    /// The values of the file's quantised tensor, before any clip behind it.
    pub fn values(&self) -> Range {
        match self.rule {
            // The quantiser itself may leave the smallest one out.
            Rule::Qonnx(_) => Range { lo: self.lowest, hi: self.highest },
            _ => self.dtype.range(),
        }
    }

    /// The type of the file's input, where that are integers which it casts.
    pub fn cast(&self) -> Option<Dtype> {
        match self.steps.first() {
            Some(InputStep::Cast(dtype)) => Some(*dtype),
            _ => None,
        }
    }

    /// What the network reads for a real number on a channel; `None` if nothing says how that is quantised, or if it is no number.
    pub fn quantised(&self, v: f32, channel: usize) -> Option<u8> {
        let v = self.steps.iter().fold(v, |v, step| step.apply(v, channel));
        let scale = self.scale.filter(|_| !v.is_nan())?;
        let (lo, hi) = (self.lowest, self.highest);
        // A cast of a float saturates.
        let moved = |rounded: f32| (rounded as i64).saturating_add(self.zero_point).clamp(lo, hi);
        let q = match self.rule {
            Rule::Onnx => moved((v / scale).round_ties_even()),
            Rule::Litert => moved((v / scale).round()),
            Rule::Xnnpack => moved((v * (1.0 / scale)).round_ties_even()),
            Rule::Qonnx(mode) => mode.round((v / scale + self.zero_point as f32).max(lo as f32).min(hi as f32)) as i64,
            Rule::Sign => return Some(u8::from(v >= 0.0)),
        };
        Some((q.clamp(lo, hi) - lo) as u8)
    }

    /// The channel of each element in the file's order.
    pub fn channels(&self, [channels, height, width]: Shape) -> Vec<usize> {
        let places = height * width;
        (0..channels * places)
            .map(|at| if self.order == Order::ChannelsLast { at % channels } else { at / places })
            .collect()
    }

    /// The real values that the network can be given, where the file says a scale.
    pub fn reals(&self) -> Option<[f64; 2]> {
        let scale = f64::from(self.scale?);
        if self.dtype == Dtype::Bipolar {
            return Some([-scale, scale]);
        }
        Some([self.lowest, self.highest].map(|q| scale * (q - self.zero_point) as f64))
    }

    /// True if pixels that are taken as they are, p = y, are what the file makes of p or of p / 255.
    pub fn takes_pixels(&self) -> bool {
        let all = |over: f32| (0..=255u8).all(|p| self.quantised(f32::from(p) / over, 0) == Some(p));
        self.scale.is_none() || self.steps.is_empty() && (all(1.0) || all(255.0))
    }

    /// Whether everything fits together and an input of `shape`, `bits` and `zero_point`. It may come from the other party.
    pub(crate) fn fits(&self, shape: Shape, bits: u32, zero_point: i64) -> bool {
        let finite = |list: &[f32]| [1, shape[0]].contains(&list.len()) && list.iter().all(|a| a.is_finite());
        let possible = |(at, step): (usize, &InputStep)| match step {
            InputStep::Cast(dtype) => at == 0 && matches!(dtype, Dtype::Int(8) | Dtype::Uint(8)),
            InputStep::Pow(power) => [2, 3].contains(power),
            InputStep::Clip { low, high } => are_bounds(*low, *high),
            _ => true,
        };
        if !self.steps.iter().enumerate().all(possible) {
            return false;
        }
        if self.steps.len() > MAX_STEPS || !self.steps.iter().all(|step| finite(step.numbers())) {
            return false;
        }
        let scale = self.scale.is_none_or(|scale| scale.is_normal() && scale > 0.0);
        let range = match self.dtype {
            _ if !self.dtype.possible() => return false,
            Dtype::Bipolar => {
                let ends = (self.lowest, self.highest, self.rule) == (-1, 1, Rule::Sign);
                return fits(&self.dims, shape) && scale && ends && (self.zero_point, bits, zero_point) == (0, 1, 0);
            }
            _ => self.dtype.range(),
        };
        let ordered = range.lo <= self.lowest && self.lowest < self.highest && self.highest <= range.hi;
        fits(&self.dims, shape)
            && scale
            && ordered
            && self.highest - self.lowest < 1 << bits
            && self.rule != Rule::Sign
            && self.zero_point == self.lowest + zero_point
    }
}

/// Whether dimensions are those of a tensor of `shape`.
fn fits(dims: &[usize], shape: Shape) -> bool {
    let elements = dims.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
    dims.len() < MAX_RANK && elements == Some(shape.iter().product())
}

/// What a file does with its last values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Over the channels of each position.
    Softmax,
    /// Its logarithm.
    LogSoftmax,
    /// Of each value.
    Sigmoid,
    /// Of each value.
    Tanh,
    /// Of each value, whose bounds these are.
    Clip {
        /// The least; none where it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        low: Option<f32>,
        /// The largest; none where it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        high: Option<f32>,
    },
}

/// A class that a file computes: the channel with the largest value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgMax {
    /// The last one of equals instead of the first.
    #[serde(default)]
    pub last: bool,
}

/// How a file codes its output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputCoding {
    /// Dimensions of the file's last values, the batch left out; before the arg max, if it has one.
    pub dims: Vec<usize>,
    /// Their order.
    pub order: Order,
    /// Type of the quantised tensor that they are; absent for accumulators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
    /// The network's output is q - zero_point.
    #[serde(default)]
    pub zero_point: i64,
    /// True if the file's output are the integers q, false if they are real numbers.
    #[serde(default)]
    pub integers: bool,
    /// What the file does behind, and the client in its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<End>,
    /// True if the last values are probabilities already: the results of a sigmoid.
    #[serde(default)]
    pub probability: bool,
    /// The file's output is a class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ArgMax>,
    /// The file's outputs where it has several: the network's are all of them, one behind the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<OutputPart>,
    /// What a unit of each channel stands for, where channels have different ones: there is no scale of all then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<f64>,
}

/// What is told of so many outputs: nothing, if they are too many.
pub(crate) fn told(parts: Vec<OutputPart>) -> Vec<OutputPart> {
    if parts.len() > MAX_PARTS { Vec::new() } else { parts }
}

/// One of several outputs of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputPart {
    /// Its name in the file.
    pub name: String,
    /// Its dimensions in the file, the batch left out; its values are in the file's order.
    pub dims: Vec<usize>,
    /// What one unit of its integers stands for, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// The network's integers are q - zero_point.
    #[serde(default)]
    pub zero_point: i64,
    /// What the client does behind, along the last dimension.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<End>,
    /// What the file has behind and nobody does: the values are those that this operator reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

impl OutputPart {
    /// A part; its name is what a file says.
    pub(crate) fn new(name: &str, dims: Vec<usize>, scale: Option<f64>, zero_point: i64) -> OutputPart {
        let name: String = name
            .chars()
            .filter(|c| !c.is_control())
            .scan(0, |length, c| {
                *length += c.len_utf8();
                (*length <= MAX_NAME).then_some(c)
            })
            .collect();
        let scale = scale.filter(|scale| scale.is_normal() && *scale > 0.0);
        OutputPart { name, dims, scale, zero_point, ends: Vec::new(), before: None }
    }

    /// The number of its values.
    pub fn count(&self) -> usize {
        self.dims.iter().product()
    }

    fn possible(&self) -> bool {
        let count = self.dims.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
        count.is_some_and(|count| (1..=MAX_ELEMENTS).contains(&count))
            && self.dims.len() < MAX_RANK
            && [&self.name].into_iter().chain(&self.before).all(|name| plain(name))
            && self.scale.is_none_or(|scale| scale.is_normal() && scale > 0.0)
            && self.zero_point.unsigned_abs() < 1 << 16
            && self.ends.len() <= 4
            && self.ends.iter().all(|end| end.possible())
    }
}

fn plain(name: &str) -> bool {
    name.len() <= MAX_NAME && !name.chars().any(char::is_control)
}

impl fmt::Display for OutputPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.name, self.dims)?;
        if let Some(scale) = self.scale {
            write!(f, " of scale {}", short((scale as f32).into()))?;
        }
        if self.zero_point != 0 {
            write!(f, " (zero point {} taken off)", self.zero_point)?;
        }
        self.ends.iter().try_for_each(|end| write!(f, ", {}", end.name()))?;
        self.before.iter().try_for_each(|operator| write!(f, ", before its {operator}"))
    }
}

impl End {
    fn possible(&self) -> bool {
        match *self {
            End::Clip { low, high } => are_bounds(low, high),
            End::Softmax | End::LogSoftmax | End::Sigmoid | End::Tanh => true,
        }
    }

    fn name(self) -> &'static str {
        match self {
            End::Softmax => "softmax",
            End::LogSoftmax => "log softmax",
            End::Sigmoid => "sigmoid",
            End::Tanh => "tanh",
            End::Clip { .. } => "clip",
        }
    }
}

impl OutputCoding {
    /// Whether everything fits together and an output of `shape`. It may come from the other party.
    pub(crate) fn fits(&self, shape: Shape) -> bool {
        fits(&self.dims, shape)
            && self.dtype.is_none_or(Dtype::possible)
            && self.zero_point.unsigned_abs() < 1 << 16
            && self.ends.len() <= 4
            && self.ends.iter().all(|end| end.possible())
            && (self.units.is_empty() || self.units.len() == shape[0] && self.parts.is_empty())
            && self.units.iter().all(|unit| unit.is_normal() && *unit > 0.0)
            && self.parts.len() <= MAX_PARTS
            && self.parts.iter().all(OutputPart::possible)
            && (self.parts.is_empty()
                || self.parts.iter().map(OutputPart::count).sum::<usize>() == shape.iter().product::<usize>())
    }
}

/// `float32 [N,224,224,3] NHWC`.
fn tensor(dtype: &str, dims: &[usize], order: Order) -> String {
    let sizes: Vec<String> = dims.iter().map(usize::to_string).collect();
    let order = match (dims.len(), order) {
        (3, Order::ChannelsFirst) => " NCHW",
        (3, Order::ChannelsLast) => " NHWC",
        _ => "",
    };
    format!("{dtype} [N,{}]{order}", sizes.join(","))
}

impl fmt::Display for Coding {
    /// One line: shape, order, type, scale and zero point.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.integers {
            write!(f, "{}", tensor(&self.dtype.to_string(), &self.dims, self.order))?;
        } else {
            let own = self.cast().map_or("float32".to_owned(), |dtype| dtype.to_string());
            write!(f, "{} as {}", tensor(&own, &self.dims, self.order), self.dtype)?;
        }
        match self.scale {
            Some(scale) => write!(f, ", scale {}", short(scale.into()))?,
            None => write!(f, ", no scale")?,
        }
        write!(f, ", zero point {}", self.zero_point)
    }
}

/// A number that is said exactly, with an exponent where that is much shorter.
pub(crate) fn short(value: f64) -> String {
    let single = value as f32;
    let [plain, exponent] = if f64::from(single) == value {
        [single.to_string(), format!("{single:e}")]
    } else {
        [value.to_string(), format!("{value:e}")]
    };
    if exponent.len() + 3 < plain.len() { exponent } else { plain }
}

impl OutputCoding {
    /// One line: shape, order, type, scale, zero point, and what the client does in the file's place.
    pub fn line(&self, scale: Option<f64>) -> String {
        let mut line = match self.dtype {
            Some(dtype) if self.integers => tensor(&dtype.to_string(), &self.dims, self.order),
            Some(dtype) => format!("{} from {dtype}", tensor("float32", &self.dims, self.order)),
            None => format!("{} from sums", tensor("float32", &self.dims, self.order)),
        };
        // The unit of sums is a product, and no number of the file.
        let shown = |scale: f64| short(if self.dtype.is_some() { scale } else { (scale as f32).into() });
        line += &match scale {
            _ if !self.units.is_empty() => ", a scale for each channel".to_owned(),
            Some(scale) => format!(", scale {}", shown(scale)),
            None => ", no scale".to_owned(),
        };
        if self.dtype.is_some() {
            line += &format!(", zero point {}", self.zero_point);
        }
        for end in &self.ends {
            line += &format!(", {}", end.name());
        }
        if !self.parts.is_empty() {
            let parts: Vec<String> = self.parts.iter().map(OutputPart::to_string).collect();
            return format!("{} outputs as one vector: {}", parts.len(), parts.join("; "));
        }
        line + if self.class.is_some() { ", arg max" } else { "" }
    }
}
