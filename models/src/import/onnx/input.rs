//! The network's input: how the graph's input becomes integers.

use std::collections::{HashMap, HashSet};

use super::ahead::Ahead;
use super::client::Chain;
use super::constants::{quant_rule, target_element, whole_weights};
use super::graph::{Graph, Node};
use super::quantiser::{Quantiser, Rule};
use super::stop::Stop;
use super::tensor::Element;
use super::value::{Layout, Value};
use crate::coding::{self, Coding, Dtype, InputStep, Order};
use crate::import::{ImportProblem, Preprocessing, advice};
use crate::network;

/// The input of the graph and what quantises it.
pub(super) struct Input<'m> {
    /// The rule; for an input of integers that of the unit that the first layer declares.
    pub quantiser: Quantiser,
    /// The type of the graph's input if it has integers.
    pub element: Option<Element>,
    pub layout: Layout,
    pub shape: [usize; 3],
    /// Dimensions in the file, the batch left out.
    pub dims: Vec<usize>,
    /// Their order.
    pub order: Order,
    /// Type of the quantised tensor.
    pub dtype: Dtype,
    /// Whether the quantiser's scale is the file's.
    pub scaled: bool,
    /// Whether the file reads floats that are integers, and does not say which.
    pub whole: bool,
    /// What the file does with real numbers before it quantises them.
    pub steps: Vec<InputStep>,
    /// The tensors that these steps make, and whether they are flattened.
    pub passed: Vec<(&'m str, bool)>,
    /// What is moved before it is quantised.
    pub ahead: Ahead<'m>,
}

impl<'m> Input<'m> {
    /// Finds it. The node is that which reads the input.
    pub fn find(
        graph: &Graph<'m>,
        values: &HashMap<&'m str, Value<'m>>,
    ) -> Result<Input<'m>, (Option<Node<'m>>, Stop)> {
        let (element, dims) = graph.input_type().map_err(|problem| (None, problem.into()))?;
        let Chain { steps, passed, dims: last, order, stop } = Chain::follow(graph, values, element, &dims);
        let (rank, shape) = match last[..] {
            [_, c, h, w] => (4, [c, h, w]),
            [_, c, l] => (3, [c, 1, l]),
            [_, n] => (2, [n, 1, 1]),
            _ => {
                let reason = format!("the input has {} dimensions", last.len());
                let hint =
                    "an input is [batch, channels, height, width], [batch, channels, length] or [batch, features]";
                return Err((None, ImportProblem::File { reason, hint }.into()));
            }
        };
        if shape.contains(&0) {
            let reason = "the input's shape is not known".to_owned();
            let hint = "export with fixed sizes; only the batch may be open";
            return Err((None, ImportProblem::File { reason, hint }.into()));
        }
        if let Some((node, stop)) = stop {
            return Err((Some(node), stop));
        }
        let cast = matches!(steps.first(), Some(InputStep::Cast(_)));
        let element = if cast { Element::Float } else { element };
        let start = passed.last().map_or(graph.input.name.as_str(), |&(name, _)| name);
        let Some((node, at)) = reader(graph, start) else {
            let reason = "nothing quantises the input".to_owned();
            let hint = "put QuantizeLinear or Quant on the graph's input, or give it 8-bit integers";
            return Err((None, ImportProblem::File { reason, hint }.into()));
        };
        let ahead = if element == Element::Float { Ahead::of(graph, start) } else { Ahead::default() };
        let first = ahead.quantisers.first().filter(|_| !node.is_quantiser());
        let (node, at) = first.map_or((node, at), |&quantiser| (quantiser, 0));
        let known = Known { graph, node, values };
        let mut whole = false;
        let quantiser = if element == Element::Float {
            if at == 0 && reads_whole(graph, node, values) {
                whole = true;
                Quantiser::onnx(1.0, 0, (0, 255)).map(|quantiser| (quantiser, Dtype::Uint(8)))
            } else if at != 0 || !node.is_quantiser() {
                let hint = "quantise the input: QuantizeLinear, Quant, or an input of 8-bit integers";
                return Err((Some(node), Stop::new("it reads the graph's input, which nothing has quantised", hint)));
            } else {
                known.quantiser()
            }
        } else {
            known.declared(at, element)
        };
        let (quantiser, dtype) = quantiser.map_err(|stop| (Some(node), stop))?;
        let element = Some(element).filter(|&element| element != Element::Float);
        let scaled = element.is_none() || !matches!(node.op(), "ConvInteger" | "MatMulInteger");
        let dims = dims[1..].to_vec();
        let layout = Layout::of_rank(rank);
        Ok(Input { quantiser, element, layout, shape, dims, order, dtype, scaled, whole, steps, passed, ahead })
    }

    /// The network's input: y = q - lo.
    pub fn network(&self, preprocessing: Option<&Preprocessing>) -> Result<network::Input, Stop> {
        let Quantiser { lo, hi, zero, .. } = self.quantiser;
        let levels = hi.saturating_sub(lo);
        if !(1..=255).contains(&levels) {
            return Err(Stop::new(format!("an input of values {lo}..={hi}"), "quantise the input to at most 8 bits"));
        }
        let bits = levels.ilog2() + 1;
        let bipolar = self.quantiser.rule == Rule::Bipolar;
        let zero_point = if bipolar { 0 } else { zero as i64 - lo };
        if !(0..1 << bits).contains(&zero_point) || (!bipolar && zero.fract() != 0.0) {
            return Err(Stop::new(format!("a zero point of {zero} of the input"), "use one that is a possible value"));
        }
        let coding = self.coding()?;
        // Pixels are the file's own input where that is bytes.
        let bytes = Preprocessing { scale: 1.0, over: 1.0, mean: vec![0.0], std: vec![1.0] };
        let preprocessing = match (coding.cast(), preprocessing) {
            (Some(_), Some(_)) => {
                let reason = "the file's input are integers, which it normalises itself";
                return Err(Stop::new(reason, advice::PIXELS_AS_THEY_ARE));
            }
            (Some(Dtype::Uint(_)), None) => Some(&bytes),
            (_, preprocessing) => preprocessing,
        };
        let pixels = preprocessing.map(|preprocessing| preprocessing.tables(&coding, self.shape[0]));
        let pixels = pixels.transpose()?;
        Ok(network::Input { shape: self.shape, bits, zero_point, pixels, coding: Some(coding) })
    }

    fn coding(&self) -> Result<Coding, Stop> {
        let Quantiser { ref rule, scale, zero, lo, hi } = self.quantiser;
        let rule = match rule {
            Rule::Onnx => coding::Rule::Onnx,
            Rule::Qonnx(mode) => coding::Rule::Qonnx(*mode),
            Rule::Bipolar => coding::Rule::Sign,
            Rule::Thresholds(_) | Rule::Trunc { .. } => {
                return Err(Stop::new("a quantiser of the input that is none of real numbers", "put Quant before"));
            }
        };
        let (lowest, highest) = if rule == coding::Rule::Sign { (-1, 1) } else { (lo, hi) };
        Ok(Coding {
            dims: self.dims.clone(),
            order: self.order,
            dtype: self.dtype,
            lowest,
            highest,
            scale: self.scaled.then_some(scale),
            zero_point: zero as i64,
            steps: self.steps.clone(),
            rule,
            integers: self.element.is_some(),
        })
    }
}

/// The type of integers lo..=hi.
pub(super) fn dtype((lo, hi): (i64, i64)) -> Dtype {
    let types = (1..=8).map(|bits| if lo < 0 { Dtype::Int(bits.max(2)) } else { Dtype::Uint(bits) });
    let holds = |dtype: &Dtype| dtype.range().contains(lo) && dtype.range().contains(hi);
    types.clone().find(holds).unwrap_or(Dtype::Int(8))
}

/// True for a layer of whole weights in a graph that rounds: what it reads are integers.
fn reads_whole<'m>(graph: &Graph<'m>, node: Node<'m>, values: &HashMap<&'m str, Value<'m>>) -> bool {
    let weights = node.input(1).and_then(|name| values.get(name));
    matches!(node.op(), "Conv" | "Gemm" | "MatMul")
        && matches!(weights, Some(Value::Constant(constant)) if whole_weights(constant).is_some())
        && graph.nodes.iter().any(|node| matches!(node.op(), "Floor" | "Round" | "Ceil"))
}

/// The first node that does something with a tensor, and which of its inputs that is.
fn reader<'m>(graph: &Graph<'m>, tensor: &'m str) -> Option<(Node<'m>, usize)> {
    let mut open = vec![tensor];
    let mut seen = HashSet::from([tensor]);
    while let Some(tensor) = open.pop() {
        for &index in graph.consumers(tensor) {
            let node = graph.nodes[index];
            let at = node.proto.input.iter().position(|name| name == tensor)?;
            match node.op() {
                "Identity" | "Dropout" | "Cast" | "Flatten" | "Reshape" | "Pad" | "MaxPool" if at == 0 => {
                    if seen.insert(node.output()) {
                        open.push(node.output());
                    }
                }
                "Shape" => {}
                _ => return Some((node, at)),
            }
        }
    }
    None
}

/// A node whose inputs may be known.
struct Known<'v, 'm> {
    graph: &'v Graph<'m>,
    node: Node<'m>,
    values: &'v HashMap<&'m str, Value<'m>>,
}

impl Known<'_, '_> {
    fn scalar(&self, index: usize) -> Result<f32, Stop> {
        let value = self.node.input(index).and_then(|name| self.values.get(name)).and_then(Value::constant);
        let many = || Stop::new(format!("input {index} is not one constant number"), "quantise the input by tensor");
        value.and_then(|constant| constant.scalar()).ok_or_else(many)
    }

    fn zero(&self, index: usize) -> Result<f32, Stop> {
        if self.node.input(index).is_none() { Ok(0.0) } else { self.scalar(index) }
    }

    fn quantiser(&self) -> Result<(Quantiser, Dtype), Stop> {
        let node = self.node;
        match node.op() {
            "QuantizeLinear" => {
                let zero = node.input(2).and_then(|name| self.values.get(name)).and_then(Value::constant);
                let small = target_element(node, zero.as_ref()).small();
                let small = small.ok_or_else(|| Stop::new("more than 8 bits", "quantise to at most 8 bits"))?;
                let mut quantiser = Quantiser::onnx(self.scalar(1)?, self.zero(2)? as i64, small)?;
                if let Some((lo, hi)) = self.clip(quantiser.lo, quantiser.hi) {
                    (quantiser.lo, quantiser.hi) = (lo, hi);
                }
                Ok((quantiser, dtype(small)))
            }
            "MultiThreshold" => Err(Stop::new("thresholds on the graph's input", "put Quant before")),
            _ => {
                let bipolar = node.op() == "BipolarQuant";
                let bits = if bipolar { 1.0 } else { self.scalar(3)? };
                let zero = if bipolar { 0.0 } else { f64::from(self.zero(2)?) };
                let (rule, lo, hi) = quant_rule(node, bits)?;
                let dtype = if bipolar { Dtype::Bipolar } else { dtype((lo, hi)) };
                Ok((Quantiser { rule, scale: self.scalar(1)?, zero, lo, hi }.checked()?, dtype))
            }
        }
    }

    /// Bounds of a `Clip` behind the quantiser, whose values lie in lo..=hi, if they leave 2^bits values.
    fn clip(&self, lo: i64, hi: i64) -> Option<(i64, i64)> {
        let (_, clip) = self.graph.reader(self.node.output()).filter(|(_, clip)| clip.op() == "Clip")?;
        let bound = |index: usize, name: &str, all: i64| -> Option<i64> {
            match clip.input(index) {
                Some(name) => Some(self.values.get(name)?.constant()?.scalar()? as i64),
                None => Some(if clip.has(name) { clip.float(name, 0.0) as i64 } else { all }),
            }
        };
        let (lo, hi) = (bound(1, "min", lo)?.max(lo), bound(2, "max", hi)?.min(hi));
        (lo < hi && ((hi - lo + 1) as u64).is_power_of_two()).then_some((lo, hi))
    }

    /// Unit and zero point that a node declares for its input `at`.
    fn declared(&self, at: usize, element: Element) -> Result<(Quantiser, Dtype), Stop> {
        let small = element.small().ok_or_else(|| Stop::new("an input of more than 8 bits", "use 8-bit integers"))?;
        let (scale, zero) = match self.node.op() {
            "ConvInteger" | "MatMulInteger" => (1.0, self.zero(2)?),
            "DequantizeLinear"
            | "QLinearConv"
            | "QLinearMatMul"
            | "QGemm"
            | "QLinearAdd"
            | "QLinearMul"
            | "QLinearAveragePool"
            | "QLinearGlobalAveragePool"
            | "QLinearSigmoid"
            | "QLinearLeakyRelu"
            | "QLinearConcat" => (self.scalar(at + 1)?, self.zero(at + 2)?),
            op => return Err(Stop::new(format!("{op} on integers"), "put DequantizeLinear before")),
        };
        Ok((Quantiser::onnx(scale, zero as i64, small)?, dtype(small)))
    }
}
