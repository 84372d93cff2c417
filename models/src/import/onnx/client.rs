//! What a file does with its input before it quantises it: the client's part.
//!
//! Functions of each element, with one number or one for each channel, and dimensions in another order. The network's shape is that
//! of the quantised tensor; its coding says how the file's own input becomes it.

use std::collections::HashMap;

use super::dims::reshaped;
use super::graph::{Graph, Node};
use super::stop::Stop;
use super::tensor::{Constant, Element};
use super::value::Value;
use crate::coding::{self, Dtype, InputStep, Order};

/// The nodes behind the graph's input that the client has.
pub(super) struct Chain<'m> {
    pub steps: Vec<InputStep>,
    /// The tensors that they make, and whether they are flattened.
    pub passed: Vec<(&'m str, bool)>,
    /// Dimensions of the last one, a batch of one included.
    pub dims: Vec<usize>,
    /// Of the file's input.
    pub order: Order,
    /// A node that can't be the client's: why.
    pub stop: Option<(Node<'m>, Stop)>,
}

/// A step with its numbers as the file has them.
struct Found {
    step: InputStep,
    /// Their shape, and the dimensions of the tensor that they meet.
    shape: Vec<usize>,
    dims: Vec<usize>,
    /// Channels come last there.
    last: bool,
}

/// What a node does.
enum Part {
    Step(Vec<Found>),
    Dims(Vec<usize>),
    /// One vector, of the tensor in the order of the network.
    Flat,
    /// Channels, which came last, come first.
    ChannelsFirst,
    Nothing,
}

impl<'m> Chain<'m> {
    /// As many nodes as there are before something else.
    pub fn follow(
        graph: &Graph<'m>,
        values: &HashMap<&'m str, Value<'m>>,
        element: Element,
        dims: &[usize],
    ) -> Chain<'m> {
        let mut dims = dims.to_vec();
        if let Some(batch) = dims.first_mut() {
            *batch = 1;
        }
        let none =
            || Chain { steps: vec![], passed: vec![], dims: dims.clone(), order: Order::ChannelsFirst, stop: None };
        let (mut chain, mut found, mut does) = (none(), Vec::<Found>::new(), false);
        let (mut name, mut real, mut flat): (&'m str, _, _) = (&graph.input.name, element == Element::Float, false);
        // A step may be two.
        let known =
            |dims: &[usize]| !dims.contains(&0) && dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_some();
        let open = |steps: usize, dims: &[usize]| steps + 1 < coding::MAX_STEPS && known(dims);
        while let Some((_, node)) = graph.reader(name).filter(|_| open(found.len(), &chain.dims)) {
            let cast = cast(node, element).filter(|_| !real);
            let vector = [1, chain.dims.iter().product()];
            let now = if flat { &vector[..] } else { &chain.dims };
            let part = match cast {
                Some(dtype) => {
                    real = true;
                    Ok(Some(Part::Step(vec![Found::of_all(InputStep::Cast(dtype))])))
                }
                None if real => part(node, name, values, now),
                None => Ok(None),
            };
            let first = chain.order == Order::ChannelsFirst && !flat;
            match part {
                Ok(Some(Part::Step(steps))) => found.extend(steps),
                Ok(Some(Part::Dims(dims))) if first => chain.dims = dims,
                Ok(Some(Part::Flat)) if !flat => flat = true,
                Ok(Some(Part::ChannelsFirst)) if first => chain.turn(&mut found),
                Ok(Some(Part::Nothing)) => {}
                Ok(Some(Part::ChannelsFirst | Part::Dims(_) | Part::Flat) | None) => break,
                Err(stop) => {
                    chain.stop = Some((node, stop));
                    break;
                }
            }
            does |= chain.order == Order::ChannelsLast || chain.dims != dims || !found.is_empty();
            name = node.output();
            chain.passed.push((name, flat));
        }
        // A flattening alone is the network's. So are casts and other shapes, if something else than a quantiser reads them.
        let quantised = graph.reader(name).is_some_and(|(_, node)| node.is_quantiser());
        let cast = matches!(found.first(), Some(Found { step: InputStep::Cast(_), .. }));
        if !quantised && cast || chain.stop.is_none() && (!does || !quantised && found.is_empty()) {
            return none();
        }
        chain.take(graph, found);
        chain
    }

    /// Takes these steps, and stops where numbers are for other than each channel.
    fn take(&mut self, graph: &Graph<'m>, found: Vec<Found>) {
        let channels = self.dims.get(1).copied().unwrap_or(1);
        let places = self.dims.iter().skip(2).product();
        for Found { step, shape, dims, last } in found {
            if self.stop.is_none() && !by_channel(&shape, &dims, last, channels, places) {
                let node = graph.reader(&graph.input.name).map(|(_, node)| node);
                let reason = "it has numbers for other than each channel before the quantiser";
                self.stop = node.map(|node| (node, Stop::new(reason, "use one number, or one for each channel")));
            }
            self.steps.push(step);
        }
    }

    /// Channels, which came last, come first.
    fn turn(&mut self, found: &mut [Found]) {
        self.order = Order::ChannelsLast;
        found.iter_mut().for_each(|found| found.last = true);
        let channels = self.dims.remove(self.dims.len() - 1);
        self.dims.insert(1, channels);
    }
}

impl Found {
    /// A step without numbers.
    fn of_all(step: InputStep) -> Found {
        Found { step, shape: vec![], dims: vec![], last: false }
    }
}

/// The type of the graph's input, where a node makes real numbers of it.
fn cast(node: Node<'_>, element: Element) -> Option<Dtype> {
    let to = i32::try_from(node.int("to", 1)).ok().and_then(Element::of);
    match element.small() {
        _ if node.op() != "Cast" || to != Some(Element::Float) => None,
        Some((0, 255)) => Some(Dtype::Uint(8)),
        Some((-128, 127)) => Some(Dtype::Int(8)),
        _ => None,
    }
}

/// Whether numbers of a shape are one for each channel of a tensor, whose channels may come last, or one for all.
pub(super) fn by_channel(shape: &[usize], dims: &[usize], last: bool, channels: usize, places: usize) -> bool {
    if shape.len() > dims.len() {
        // The result would have more dimensions.
        return shape.is_empty();
    }
    if shape.iter().all(|&size| size == 1) {
        return true;
    }
    let along: Vec<usize> = (0..shape.len()).filter(|&at| shape[at] > 1).collect();
    let &[at] = &along[..] else { return false };
    let size = shape[at];
    let at = dims.len() + at - shape.len();
    let (before, behind): (usize, usize) = (dims[..at].iter().product(), dims[at + 1..].iter().product());
    [dims[at], size] == [channels; 2] && [before, behind] == if last { [places, 1] } else { [1, places] }
}

/// What a node does with the real numbers `name`; `None` if it is no part of the client's.
fn part<'m>(
    node: Node<'m>,
    name: &str,
    values: &HashMap<&'m str, Value<'m>>,
    dims: &[usize],
) -> Result<Option<Part>, Stop> {
    let constant = |index: usize| node.input(index).and_then(|name| values.get(name)).and_then(Value::constant);
    let first = node.input(0) == Some(name);
    let found = |step: InputStep, shape: Vec<usize>| Found { step, shape, dims: dims.to_vec(), last: false };
    Ok(Some(match node.op() {
        "Identity" | "Dropout" => Part::Nothing,
        "Cast" if i32::try_from(node.int("to", 1)).ok().and_then(Element::of) == Some(Element::Float) => Part::Nothing,
        "Add" | "Sub" | "Mul" | "Div" => {
            let Some(numbers) = constant(usize::from(first)) else { return Ok(None) };
            Part::Step(vec![found(arithmetic(node, first, finite(&numbers)?)?, numbers.shape)])
        }
        "Pow" if first => match constant(1).and_then(|power| power.scalar()) {
            Some(1.0) => Part::Nothing,
            Some(power @ (2.0 | 3.0)) => Part::Step(vec![Found::of_all(InputStep::Pow(power as u32))]),
            _ => return Err(other("a power that is neither 2 nor 3")),
        },
        "Relu" => Part::Step(vec![Found::of_all(InputStep::Clip { low: Some(0.0), high: None })]),
        "Clip" if first => match bounds(node, constant)? {
            Some((low, high)) => Part::Step(vec![Found::of_all(InputStep::Clip { low, high })]),
            None => return Ok(None),
        },
        "BatchNormalization" if first && node.int("training_mode", 0) == 0 => {
            let numbers: Option<Vec<Constant>> = (1..5).map(constant).collect();
            let Some(numbers) = numbers else { return Ok(None) };
            let lists = numbers.iter().map(finite).collect::<Result<Vec<_>, _>>()?;
            let [gamma, beta, mean, variance] = &lists[..] else { return Ok(None) };
            let channels = dims.get(1).copied().unwrap_or(0);
            let steps = normalisation([gamma, beta, mean, variance], node.float("epsilon", 1e-5), channels)?;
            let shape = [vec![channels], vec![1; dims.len().saturating_sub(2)]].concat();
            Part::Step(steps.map(|step| found(step, shape.clone())).into())
        }
        "Transpose" => {
            let perm: Vec<i64> = node.ints("perm").map_or((0..dims.len() as i64).rev().collect(), <[i64]>::to_vec);
            match (&perm[..], dims) {
                ([0, 3, 1, 2], [_, _, _, _]) | ([0, 2, 1], [_, _, _]) => Part::ChannelsFirst,
                _ => return Ok(None),
            }
        }
        "Flatten" if node.int("axis", 1) == 1 && dims.len() > 2 => Part::Flat,
        "Unsqueeze" | "Squeeze" | "Reshape" if first => {
            let new = reshaped(node, dims, 0, |index| Ok(constant(index)))?;
            // A vector keeps its image, for whoever hands over a picture.
            if node.op() == "Reshape" && dims.len() > 2 && new == [1, dims.iter().product()] {
                return Ok(Some(Part::Flat));
            }
            if new.first() != Some(&1) || !(3..=4).contains(&new.len()) {
                return Ok(None);
            }
            Part::Dims(new)
        }
        _ => return Ok(None),
    }))
}

/// The least and the largest; none where it is absent.
type Bounds = (Option<f32>, Option<f32>);

/// The bounds of a clip, each of which may be absent; `None` if one is no constant.
fn bounds(node: Node<'_>, constant: impl Fn(usize) -> Option<Constant>) -> Result<Option<Bounds>, Stop> {
    // Attributes up to version 6 of the operator, inputs since.
    let bound = |name: &str, index: usize| match node.input(index) {
        _ if node.has(name) => Some(Some(node.float(name, 0.0))),
        Some(_) => constant(index)?.scalar().map(Some),
        None => Some(None),
    };
    let Some((low, high)) = bound("min", 1).zip(bound("max", 2)) else { return Ok(None) };
    if coding::are_bounds(low, high) {
        Ok(Some((low, high)))
    } else {
        Err(other("a clip whose bounds are no interval"))
    }
}

/// A sum, difference, product or quotient with these numbers; `first` if the input comes before them.
fn arithmetic(node: Node<'_>, first: bool, list: Vec<f32>) -> Result<InputStep, Stop> {
    Ok(match (node.op(), first) {
        ("Add", _) => InputStep::Add(list),
        ("Mul", _) => InputStep::Mul(list),
        ("Sub", true) => InputStep::Sub(list),
        ("Sub", false) => InputStep::From(list),
        ("Div", true) => InputStep::Div(list),
        _ => return Err(other("a division by the input")),
    })
}

/// A normalisation by the numbers of each channel, as ONNX Runtime has it.
fn normalisation(
    [gamma, beta, mean, variance]: [&Vec<f32>; 4],
    epsilon: f32,
    channels: usize,
) -> Result<[InputStep; 2], Stop> {
    if [gamma, beta, mean, variance].iter().any(|list| list.len() != channels) {
        return Err(other("not one number per channel"));
    }
    let scale: Vec<f32> = gamma.iter().zip(variance).map(|(g, v)| 1.0 / (v + epsilon).sqrt() * g).collect();
    let bias = (0..channels).map(|c| beta[c] - mean[c] * scale[c]).collect();
    Ok([InputStep::Mul(scale), InputStep::Add(bias)])
}

fn finite(constant: &Constant) -> Result<Vec<f32>, Stop> {
    let list = constant.to_floats().to_vec();
    if list.iter().all(|a| a.is_finite()) { Ok(list) } else { Err(other("numbers that are not finite")) }
}

fn other(what: &str) -> Stop {
    let hint = "quantise the input before it, or do it before the network's input";
    Stop::new(format!("{what} between the input and its quantiser, which is not done for the client"), hint)
}
