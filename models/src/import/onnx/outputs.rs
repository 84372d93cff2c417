//! Several outputs, joined as one vector: each in the file's order, one behind the other.

use ndarray::{Array4, Axis, Slice};

use super::graph::Node;
use super::input::dtype;
use super::stop::Stop;
use super::tensor::Element;
use super::value::{Real, Value};
use super::walk::Walk;
use crate::check::MAX_TERMS;
use crate::coding::{self, End, Order, OutputCoding, OutputPart};
use crate::import::builder::{Sum, weight_width};
use crate::network::{Op, TensorId, Term};

/// Most outputs that are multiplied by one to be added to sums.
const MAX_COPIED: usize = 1024;

/// An output.
struct Part<'m> {
    name: &'m str,
    node: Node<'m>,
    dims: Vec<usize>,
    unit: Option<f64>,
    made: Made<'m>,
}

enum Made<'m> {
    /// A tensor, with zero point and type where it is quantised, and whether the file's output are its integers.
    Tensor { id: TensorId, quantised: Option<(i64, Element)>, integers: bool },
    /// Sums that nothing has quantised, and what they are made of.
    Sum(Box<Sum>, Box<Real<'m>>),
}

/// What can't be an output, and its node.
type Refused<'m> = (Option<Node<'m>>, Stop);

impl<'m> Walk<'m> {
    /// The network's output and its unit, if all outputs have one. The builder learns how the file codes it.
    pub(super) fn outputs(&mut self) -> Result<(TensorId, Option<f64>), Refused<'m>> {
        let parts = self.distinct()?;
        if let [part] = &parts[..] {
            let (name, node) = (part.name, part.node);
            if !self.is_end(name) {
                self.behind.clear();
            }
            let value = self.values.get(name).cloned().ok_or_else(|| (Some(node), independent()))?;
            return self.output(&value, node).map_err(|stop| (Some(node), stop));
        }
        let node = parts[0].node;
        let (first, same) = (parts[0].unit, parts.iter().all(|part| part.unit == parts[0].unit));
        let coding = |quantised: Option<(i64, Element)>, integers: bool, count: usize| OutputCoding {
            dims: vec![count],
            order: Order::ChannelsFirst,
            dtype: quantised.and_then(|(_, element)| Some(dtype(element.small()?))),
            zero_point: quantised.map_or(0, |(zero, _)| zero),
            integers,
            ends: Vec::new(),
            probability: false,
            class: None,
            parts: Vec::new(),
            units: Vec::new(),
        };
        let tensors: Vec<_> = parts
            .iter()
            .filter_map(|part| match part.made {
                Made::Tensor { id, quantised, integers } => Some((id, quantised, integers)),
                Made::Sum(..) => None,
            })
            .collect();
        let (id, code) = if tensors.len() == parts.len() {
            let id =
                self.one_vector(&tensors.iter().map(|t| t.0).collect::<Vec<_>>()).map_err(|stop| (Some(node), stop))?;
            let quantised = tensors[0].1.filter(|_| same && tensors.iter().all(|t| t.1 == tensors[0].1));
            let integers = quantised.is_some() && tensors.iter().all(|t| t.2);
            (id, coding(quantised, integers, self.builder.tensor(id).elements()))
        } else {
            let sum = self.one_sum(&parts)?;
            let count = sum.bias.len();
            let id = self.builder.linear("outputs", sum).map_err(|obstacle| (Some(node), obstacle.into()))?;
            (id, coding(None, false, count))
        };
        let told: Vec<OutputPart> = parts.iter().map(|part| self.told(part)).collect();
        let lines: Vec<String> = told.iter().map(OutputPart::to_string).collect();
        self.builder.report.note(format!("the output is one vector: {}", lines.join("; ")));
        self.builder.output_coding = Some(OutputCoding { parts: coding::told(told), ..code });
        // It has the factors of one output only.
        self.builder.twin.outputs(Vec::new());
        Ok((id, first.filter(|_| same)))
    }

    /// All outputs, those of the same values once.
    fn distinct(&mut self) -> Result<Vec<Part<'m>>, Refused<'m>> {
        let mut parts: Vec<Part<'m>> = Vec::new();
        for name in self.graph.outputs.clone() {
            let part = self.part(name)?;
            match parts.iter().find(|known| same(&known.made, &part.made)) {
                Some(known) => {
                    let note =
                        format!("the output {name} is of the values of {}: the network answers these once", known.name);
                    self.builder.report.note(note);
                }
                None => parts.push(part),
            }
        }
        Ok(parts)
    }

    /// One output, by its name.
    fn part(&mut self, name: &'m str) -> Result<Part<'m>, Refused<'m>> {
        let node = self.graph.maker(name);
        let (Some(node), Some(value)) = (node, self.values.get(name).cloned()) else {
            let hint = "export the whole network";
            return Err((node, Stop::new(format!("the output {name:?} is no tensor that the network makes"), hint)));
        };
        let refused = |stop| (Some(node), stop);
        let value = match value {
            Value::Class(value) => *value,
            value => value,
        };
        let padded = value.padding() != [0; 4];
        let value = if padded { self.filled(node, &value).map_err(refused)? } else { value };
        let dims = self.dims_of(&value).map_err(refused)?;
        let integers = !self.is_end(name);
        let (unit, made) = match &value {
            Value::Ints(ints) => {
                let quantised = Some((ints.zero, ints.element));
                (self.declared_unit(name).map(f64::from), Made::Tensor { id: ints.id, quantised, integers })
            }
            Value::Real(real) => match self.last_sum(real) {
                Some((sum, unit)) => {
                    let (sum, units) = self.output_sum(real, &sum, &unit, node, false).map_err(refused)?;
                    (units.first().copied(), Made::Sum(Box::new(sum), Box::new((**real).clone())))
                }
                None => {
                    let scale = self.plain(real, node).map_err(refused)?;
                    let quantised = scale.quantised;
                    (Some(scale.unit.into()), Made::Tensor { id: scale.id, quantised, integers: false })
                }
            },
            _ => return Err((Some(node), independent())),
        };
        Ok(Part { name, node, dims, unit, made })
    }

    /// What the client does at the end to have an output, which is of the values before.
    fn end_of(&self, name: &str) -> Option<&'m str> {
        let passed = |node: &Node<'m>| match node.op() {
            "Cast" | "Identity" | "Squeeze" | "Unsqueeze" | "Reshape" | "Flatten" => true,
            "QuantizeLinear" | "DequantizeLinear" => self.done.contains(node.output()),
            _ => false,
        };
        match self.graph.back(name).find(|node| !passed(node))?.op() {
            op @ ("Softmax" | "LogSoftmax" | "QLinearSoftmax" | "ArgMax" | "TopK" | "Sigmoid" | "Tanh") => {
                Some(op).filter(|_| !self.behind.is_empty() || self.class.is_some())
            }
            _ => None,
        }
    }

    fn is_end(&self, name: &str) -> bool {
        self.end_of(name).is_some()
    }

    fn told(&self, part: &Part<'m>) -> OutputPart {
        let zero = match part.made {
            Made::Tensor { quantised: Some((zero, _)), .. } => zero,
            _ => 0,
        };
        let dims = match &part.dims[..] {
            [1, rest @ ..] if !rest.is_empty() => rest.to_vec(),
            dims => dims.to_vec(),
        };
        // The client has these along the last dimension: of vectors, that of the channels.
        let end = self.end_of(part.name);
        let ends: Vec<End> = match end {
            Some("Softmax" | "QLinearSoftmax") if dims.len() == 1 => vec![End::Softmax],
            Some("LogSoftmax") if dims.len() == 1 => vec![End::LogSoftmax],
            Some("Sigmoid") => vec![End::Sigmoid],
            Some("Tanh") => vec![End::Tanh],
            _ => Vec::new(),
        };
        let before = end.filter(|_| ends.is_empty()).map(str::to_owned);
        OutputPart { ends, before, ..OutputPart::new(part.name, dims, part.unit, zero) }
    }

    /// Tensors one behind the other, row by row.
    fn one_vector(&mut self, ids: &[TensorId]) -> Result<TensorId, Stop> {
        let sizes: Vec<usize> = ids.iter().map(|&id| self.builder.tensor(id).elements()).collect();
        // As many columns as all have in common.
        let columns = sizes.iter().copied().fold(0, divisor).max(1);
        let mut inputs = Vec::new();
        for (&id, size) in ids.iter().zip(sizes) {
            let order = vec![(0..size as i64).collect()];
            inputs.push(self.builder.select("outputs/order", id, [size / columns, 1, columns], order)?);
        }
        while inputs.len() > 1 {
            let chunks: Vec<Vec<TensorId>> = inputs.chunks(MAX_TERMS).map(<[TensorId]>::to_vec).collect();
            inputs.clear();
            for chunk in chunks {
                inputs.push(if chunk.len() == 1 {
                    chunk[0]
                } else {
                    self.builder.node("outputs", Op::Concat { inputs: chunk }, None)?
                });
            }
        }
        Ok(inputs[0])
    }

    /// Vectors of sums as one sum: weights of 0 where an output does not depend on a tensor.
    fn one_sum(&self, parts: &[Part<'m>]) -> Result<Sum, Refused<'m>> {
        let mut sums = Vec::new();
        for part in parts {
            let refused = |reason: &str| Err((Some(part.node), Stop::new(reason, "quantise all outputs")));
            let sum = match &part.made {
                Made::Sum(sum, _) => (**sum).clone(),
                &Made::Tensor { id, .. } => {
                    let [channels, height, width] = self.builder.tensor(id).shape;
                    if [height, width] != [1, 1] || channels > MAX_COPIED {
                        return refused("an image among several outputs, of which others are not quantised");
                    }
                    Sum::identity(id, channels)
                }
            };
            let vector = |(term, _): &(Term, _)| {
                let one = matches!(term, Term::Dense { .. } | Term::Identity { .. } | Term::Conv { groups: 1, .. });
                one && self.builder.shape_of(term) == Some([sum.bias.len(), 1, 1])
            };
            if !sum.terms.iter().all(vector) || (sum.has_identity() && sum.bias.len() > MAX_COPIED) {
                return refused("an image among several outputs, which nothing has quantised");
            }
            sums.push(sum);
        }
        let total = sums.iter().map(|sum| sum.bias.len()).sum();
        let mut all = Sum { terms: Vec::new(), bias: sums.iter().flat_map(|sum| sum.bias.clone()).collect() };
        let mut first = 0;
        for sum in sums {
            let count = sum.bias.len();
            for (term, array) in sum.terms {
                let array = array.unwrap_or_else(|| one(count, &term));
                let (_, inputs, height, width) = array.dim();
                let mut rows = Array4::zeros([total, inputs, height, width]);
                rows.slice_axis_mut(Axis(0), Slice::from(first..first + count)).assign(&array);
                let term = padded(&term, total, weight_width(&rows));
                let alike =
                    |(known, _): &&mut (Term, Option<Array4<i32>>)| padded(known, total, 0) == padded(&term, total, 0);
                match all.terms.iter_mut().find(alike) {
                    Some((known, Some(rows_of))) => {
                        *rows_of += &rows;
                        *known = padded(known, total, weight_width(rows_of));
                    }
                    _ => all.terms.push((term, Some(rows))),
                }
            }
            first += count;
        }
        Ok(all)
    }
}

/// A multiple of the vector itself, as a matrix.
fn one(count: usize, term: &Term) -> Array4<i32> {
    let multiplier = if let Term::Identity { multiplier, .. } = term { *multiplier } else { 1 };
    let weight = i32::try_from(multiplier).unwrap_or(i32::MAX);
    Array4::from_shape_fn([count, count, 1, 1], |(row, column, ..)| if row == column { weight } else { 0 })
}

/// The term with other outputs and weights; a matrix in place of the vector itself.
fn padded(term: &Term, total: usize, weight_bits: u32) -> Term {
    match term {
        &Term::Conv { input, groups, window, .. } => {
            Term::Conv { input, out_channels: total, groups, window, weight_bits }
        }
        &Term::Dense { input, .. } | &Term::Identity { input, .. } => {
            Term::Dense { input, outputs: total, weight_bits }
        }
    }
}

/// Whether two outputs are the same values.
fn same(a: &Made<'_>, b: &Made<'_>) -> bool {
    match (a, b) {
        (Made::Tensor { id, .. }, Made::Tensor { id: other, .. }) => id == other,
        (Made::Sum(sum, real), Made::Sum(other, other_real)) => sum == other && real.post == other_real.post,
        _ => false,
    }
}

fn independent() -> Stop {
    Stop::new("an output that does not depend on the input", "export the whole network")
}

/// The greatest common divisor.
fn divisor(one: usize, other: usize) -> usize {
    if other == 0 { one } else { divisor(other, one % other) }
}
