//! The rules of an architecture, checked in one pass: order, kinds, shapes, widths and limits of every tensor.
//!
//! An architecture may come from the other party, so nothing here allocates more than a few words per node or panics,
//! whatever the numbers are.

use std::collections::HashMap;

use crate::error::{Kind, ModelError, Place, Problem};
use crate::network::{Architecture, Input, Node, Op, Range, Shape, TensorId, Term, Window};
use crate::patch::{self, Patch};

pub use crate::limits::{
    MAX_ACCUMULATOR, MAX_ACTIVATION, MAX_ACTIVATION_BITS, MAX_BLOCK_BITS, MAX_DIMENSION, MAX_ELEMENTS, MAX_MULTIPLIER,
    MAX_NAME, MAX_NODES, MAX_PATCH, MAX_REACHED, MAX_RING, MAX_SHIFT, MAX_TERMS, MAX_TOTAL_ELEMENTS, MAX_WEIGHT_BITS,
    MAX_WEIGHTS,
};

/// What is known of a tensor without the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Channels, height, width.
    pub shape: Shape,
    /// Activation or accumulator.
    pub kind: Kind,
    /// The values of an activation. Of an accumulator: the values of the sum of the terms *without* the bias, by the widths
    /// of the weights alone; see [`Network::bounds`](crate::Network::bounds) for the reachable ones.
    pub range: Range,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Architecture {
    /// Checks every rule and returns what is known of each tensor, in order: tensor 0 is the input, tensor `i + 1` the output
    /// of node `i`.
    ///
    /// # Errors
    /// The first rule broken, with the node and the numbers.
    pub fn check(&self) -> Result<Vec<TensorInfo>, ModelError> {
        let whole = Place::Network;
        at_most("the length of its name", self.name.len(), MAX_NAME).map_err(|p| p.at(&whole))?;
        if self.nodes.is_empty() {
            return Err(Problem::NoNodes.at(&whole));
        }
        let rounding = self.rounding.as_deref().unwrap_or("none");
        at_most("the length of the rounding rule's name", rounding.len(), MAX_NAME).map_err(|p| p.at(&whole))?;
        check_name(rounding).map_err(|p| p.at(&whole))?;
        at_most("the number of nodes", self.nodes.len(), MAX_NODES).map_err(|p| p.at(&whole))?;

        let tensors = self.check_nodes()?;
        self.check_output(&tensors)?;
        self.check_blocks()?;
        self.check_declared(&tensors)?;
        Ok(tensors)
    }

    /// The input and the nodes, in order, without the rules about what is read at the end.
    pub(crate) fn check_nodes(&self) -> Result<Vec<TensorInfo>, ModelError> {
        let mut tensors = Vec::with_capacity(self.tensor_count());
        tensors.push(check_input(&self.input).map_err(|p| p.at(&Place::Input))?);
        let mut names: HashMap<&str, usize> = HashMap::new();
        let (mut weights, mut elements) = (0, tensors[0].elements());
        for (index, node) in self.nodes.iter().enumerate() {
            let place = Place::Node { index, name: node.name.clone() };
            check_name(&node.name).map_err(|p| p.at(&place))?;
            if let Some(first) = names.insert(&node.name, index) {
                return Err(Problem::DuplicateName { first }.at(&place));
            }
            tensors.push(check_node(index, node, &tensors, &mut weights)?);
            elements += tensors[index + 1].elements();
            at_most("the number of elements of all tensors", elements, MAX_TOTAL_ELEMENTS).map_err(|p| p.at(&place))?;
        }
        Ok(tensors)
    }

    fn check_output(&self, tensors: &[TensorInfo]) -> Result<(), ModelError> {
        let last = self.nodes.len();
        let Some(output) = tensors.get(self.output) else {
            return Err(Problem::UnknownTensor { tensor: self.output, last }.at(&Place::Network));
        };
        if matches!(self.output.checked_sub(1).map(|node| &self.nodes[node].op), Some(Op::Scale { .. })) {
            return Err(Problem::ScaledOutput.at(&Place::Network));
        }
        if self.output_scale.is_some_and(|scale| !(scale.is_finite() && scale > 0.0)) {
            return Err(Problem::OutputScale.at(&Place::Network));
        }
        if self.output_coding.as_ref().is_some_and(|coding| !coding.fits(output.shape)) {
            return Err(Problem::Coding("output").at(&Place::Network));
        }
        let wanted = self.named_classes(output.elements());
        if !self.classes.is_empty() && self.classes.len() != wanted {
            return Err(Problem::Classes { found: self.classes.len(), wanted }.at(&Place::Network));
        }
        let mut used = vec![false; tensors.len()];
        used[self.output] = true;
        self.nodes.iter().flat_map(|node| node.op.inputs()).for_each(|tensor| used[tensor] = true);
        match used.iter().position(|&used| !used) {
            None => Ok(()),
            Some(0) => Err(Problem::Unused { tensor: 0 }.at(&Place::Input)),
            Some(tensor) => {
                let place = Place::Node { index: tensor - 1, name: self.nodes[tensor - 1].name.clone() };
                Err(Problem::Unused { tensor }.at(&place))
            }
        }
    }
}

fn check_name(name: &str) -> Result<(), Problem> {
    at_most("the length of its name", name.len(), MAX_NAME)?;
    if name.is_empty() || name.chars().any(char::is_control) { Err(Problem::BadName) } else { Ok(()) }
}

fn check_input(input: &Input) -> Result<TensorInfo, Problem> {
    check_shape(input.shape)?;
    check_quantiser(input.bits, input.zero_point)?;
    if let Some(tables) = &input.pixels {
        let (found, wanted) = (tables.len(), input.shape[0]);
        if found != wanted || tables.iter().any(|table| table.len() != 256) {
            return Err(Problem::PixelTables { found, wanted });
        }
        let largest = tables.iter().flatten().max().copied().unwrap_or(0);
        within("a pixel's value", largest.into(), 0, (1 << input.bits) - 1)?;
    }
    if input.coding.as_ref().is_some_and(|coding| !coding.fits(input.shape, input.bits, input.zero_point)) {
        return Err(Problem::Coding("input"));
    }
    Ok(TensorInfo { shape: input.shape, kind: Kind::Activation, range: input.range() })
}

fn check_node(index: usize, node: &Node, tensors: &[TensorInfo], weights: &mut u128) -> Result<TensorInfo, ModelError> {
    let place = Place::Node { index, name: node.name.clone() };
    let activation = |tensor| read(tensors, tensor, Kind::Activation);
    let info =
        match &node.op {
            Op::Linear { terms } => return check_linear(index, &node.name, terms, tensors, weights),
            Op::Scale { input, multiplier } => {
                read(tensors, *input, Kind::Accumulator).and_then(|x| check_scale(x, multiplier))
            }
            Op::Requantise { input, bits, shift, top, zero_point } => read(tensors, *input, Kind::Accumulator)
                .and_then(|x| check_requantise(x, *bits, shift, *top, *zero_point)),
            Op::Block { input, bits, shift, patch } => {
                read(tensors, *input, Kind::Accumulator).and_then(|x| check_block(x, *bits, *shift, *patch))
            }
            Op::MaxPool { input, window } => activation(*input)
                .and_then(|x| check_pool(x.shape, window, true).map(|shape| TensorInfo { shape, ..x })),
            Op::AvgPool { input, window, multiplier, offset, shift, floats } => activation(*input).and_then(|x| {
                let shape = check_pool(x.shape, window, false)?;
                let mut range = average_range(x.range, window, *multiplier, *offset, *shift)?;
                if let Some(floats) = floats {
                    let (count, sums) = (window.kernel[0] * window.kernel[1], sum_range(x.range, window)?);
                    floats.check(window.values(x.range), count, sums)?;
                    let lowered = |&[sum, _]: &[i64; 2]| ((multiplier * sum + offset) >> shift) - 1;
                    range.lo = floats.least.iter().map(lowered).fold(range.lo, i64::min);
                    within("an average", range.lo.into(), -i128::from(MAX_ACTIVATION), range.hi.into())?;
                }
                Ok(TensorInfo { shape, range, ..x })
            }),
            Op::SumPool { input, window } => activation(*input).and_then(|x| {
                let shape = check_pool(x.shape, window, false)?;
                Ok(TensorInfo { shape, range: sum_range(x.range, window)?, ..x })
            }),
            Op::Flatten { input } => activation(*input).and_then(|x| {
                at_most("the length of the flattened tensor", x.elements(), MAX_DIMENSION)?;
                Ok(TensorInfo { shape: [x.elements(), 1, 1], ..x })
            }),
            Op::Concat { inputs } => check_concat(tensors, inputs),
            Op::Select { input, shape, axes } => activation(*input).and_then(|x| check_select(x, *shape, axes)),
            Op::Table { input, table } => {
                activation(*input).and_then(|x| Ok(TensorInfo { range: table_range(x.range, table)?, ..x }))
            }
        };
    info.map_err(|problem| problem.at(&place))
}

/// All terms on existing activations, of one shape, with a sum that an `i64` holds.
fn check_linear(
    index: usize,
    name: &str,
    terms: &[Term],
    tensors: &[TensorInfo],
    weights: &mut u128,
) -> Result<TensorInfo, ModelError> {
    let node = Place::Node { index, name: name.to_owned() };
    if terms.is_empty() {
        return Err(Problem::NoTerms.at(&node));
    }
    at_most("the number of terms", terms.len(), MAX_TERMS).map_err(|p| p.at(&node))?;
    let mut shape: Option<Shape> = None;
    let (mut lo, mut hi) = (0i128, 0i128);
    for (position, term) in terms.iter().enumerate() {
        let place = || Place::Term { index, name: name.to_owned(), term: position };
        let x = read(tensors, term.input(), Kind::Activation).map_err(|p| p.at(&place()))?;
        let (result, range) = check_term(term, x, weights).map_err(|p| p.at(&place()))?;
        let wanted = *shape.get_or_insert(result);
        if result != wanted {
            return Err(Problem::Shape { what: "the term's result", found: result, wanted }.at(&place()));
        }
        lo += range.0;
        hi += range.1;
    }
    let limit = i128::from(MAX_ACCUMULATOR);
    for value in [lo, hi] {
        within("the largest possible sum of the terms", value, -limit, limit).map_err(|p| p.at(&node))?;
    }
    let shape = shape.expect("there is at least one term");
    Ok(TensorInfo { shape, kind: Kind::Accumulator, range: Range { lo: lo as i64, hi: hi as i64 } })
}

/// The shape of a term's result and the interval of its values, by the width of its weights.
fn check_term(term: &Term, x: TensorInfo, weights: &mut u128) -> Result<(Shape, (i128, i128)), Problem> {
    let shape = match term {
        Term::Conv { out_channels, groups, window, .. } => {
            within("the number of output channels", *out_channels as i128, 1, MAX_DIMENSION as i128)?;
            let [channels, height, width] = x.shape;
            if *groups == 0 || channels % groups != 0 || out_channels % groups != 0 {
                return Err(Problem::Groups { groups: *groups, input: channels, output: *out_channels });
            }
            let [height, width] = check_window(channels, [height, width], window)?;
            check_shape([*out_channels, height, width])?
        }
        Term::Dense { outputs, .. } => {
            let wanted = [x.shape[0], 1, 1];
            if x.shape != wanted {
                return Err(Problem::Shape { what: "the input of a dense term", found: x.shape, wanted });
            }
            check_shape([*outputs, 1, 1])?
        }
        Term::Identity { multiplier, .. } => {
            if *multiplier == 0 {
                return Err(Problem::ZeroMultiplier);
            }
            let ends = [x.range.lo, x.range.hi].map(|v| i128::from(v) * i128::from(*multiplier));
            return Ok((x.shape, (ends[0].min(ends[1]), ends[0].max(ends[1]))));
        }
    };
    let bits = term.weight_bits().expect("a convolution or a matrix");
    within("the width of the weights", bits.into(), 1, MAX_WEIGHT_BITS.into())?;
    let [outputs, inputs, height, width] = term.weight_shape(x.shape).expect("a convolution or a matrix");
    // Each factor is at most 2^16.
    let taps = inputs as u128 * height as u128 * width as u128;
    *weights += outputs as u128 * taps;
    if *weights > MAX_WEIGHTS as u128 {
        return Err(Problem::TooLarge { what: "the number of weights", value: *weights, limit: MAX_WEIGHTS as u128 });
    }
    let padded = matches!(term, Term::Conv { window, .. } if window.padding != [0; 4]);
    let range = if padded { x.range.with_zero() } else { x.range };
    let (least, most) = (i128::from(weight_range(bits).lo), i128::from(weight_range(bits).hi));
    let ends = [least, most].map(|w| [range.lo, range.hi].map(|v| w * i128::from(v)));
    let (lo, hi) = (ends.iter().flatten().min(), ends.iter().flatten().max());
    let taps = taps as i128;
    Ok((shape, (lo.expect("four products") * taps, hi.expect("four products") * taps)))
}

/// The values of a weight of `bits` bits: {-1, +1} (as the interval -1..=1) for one bit, two's complement for more.
pub fn weight_range(bits: u32) -> Range {
    if bits == 1 { Range { lo: -1, hi: 1 } } else { Range { lo: -(1 << (bits - 1)), hi: (1 << (bits - 1)) - 1 } }
}

/// An accumulator times positive multipliers. The range is that of the products by the widths of the weights, up to [`MAX_REACHED`]; reachable
/// ones are checked with the weights.
fn check_scale(x: TensorInfo, multiplier: &[i64]) -> Result<TensorInfo, Problem> {
    let channels = x.shape[0];
    if multiplier.len() != 1 && multiplier.len() != channels {
        return Err(Problem::MultiplierCount { found: multiplier.len(), channels });
    }
    let mut most = 1;
    for &m in multiplier {
        within("a multiplier", m.into(), 1, i128::from(MAX_MULTIPLIER))?;
        most = most.max(m);
    }
    let product = |value: i64| value.saturating_mul(most).clamp(-MAX_REACHED, MAX_REACHED);
    let ends = [x.range.lo.min(0), x.range.hi.max(0)].map(product);
    Ok(TensorInfo { range: Range { lo: ends[0], hi: ends[1] }, ..x })
}

/// Activations one behind the other: all of one height and width.
fn check_concat(tensors: &[TensorInfo], inputs: &[TensorId]) -> Result<TensorInfo, Problem> {
    within("the number of inputs", inputs.len() as i128, 2, MAX_TERMS as i128)?;
    let mut result: Option<TensorInfo> = None;
    for &input in inputs {
        let x = read(tensors, input, Kind::Activation)?;
        result = Some(match result {
            None => x,
            Some(sum) => {
                let wanted = [x.shape[0], sum.shape[1], sum.shape[2]];
                if x.shape != wanted {
                    return Err(Problem::Shape { what: "an input", found: x.shape, wanted });
                }
                let shape = check_shape([sum.shape[0] + x.shape[0], x.shape[1], x.shape[2]])?;
                let range = Range { lo: sum.range.lo.min(x.range.lo), hi: sum.range.hi.max(x.range.hi) };
                TensorInfo { shape, range, ..x }
            }
        });
    }
    Ok(result.expect("two inputs at least"))
}

/// Entries of the axes whose sums name elements of the input, as many as the result has.
fn check_select(x: TensorInfo, shape: Shape, axes: &[Vec<i64>]) -> Result<TensorInfo, Problem> {
    check_shape(shape)?;
    at_most("the number of axes", axes.len(), MAX_TERMS)?;
    let (mut count, mut last, mut zeros) = (1usize, 0i128, false);
    for axis in axes {
        within("the length of an axis", axis.len() as i128, 1, MAX_ELEMENTS as i128)?;
        count = count.saturating_mul(axis.len());
        at_most("the number of selected elements", count, MAX_ELEMENTS)?;
        last += i128::from(axis.iter().copied().max().unwrap_or(0).max(0));
        zeros |= axis.iter().any(|&by| by < 0);
    }
    let wanted = shape.iter().product::<usize>() as i128;
    within("the number of selected elements", count as i128, wanted, wanted)?;
    within("the last element", last, 0, x.elements() as i128 - 1)?;
    Ok(TensorInfo { shape, range: if zeros { x.range.with_zero() } else { x.range }, ..x })
}

fn check_requantise(
    x: TensorInfo,
    bits: u32,
    shift: &[u32],
    top: Option<i64>,
    zero_point: i64,
) -> Result<TensorInfo, Problem> {
    check_quantiser(bits, zero_point)?;
    let largest = (1 << bits) - 1;
    within("the largest value", top.unwrap_or(largest).into(), 1, largest.into())?;
    let channels = x.shape[0];
    if shift.len() != 1 && shift.len() != channels {
        return Err(Problem::ShiftCount { found: shift.len(), channels });
    }
    for &s in shift {
        within("a shift", s.into(), 0, MAX_SHIFT.into())?;
    }
    let range = Range { lo: -zero_point, hi: top.unwrap_or(largest) - zero_point };
    Ok(TensorInfo { shape: x.shape, kind: Kind::Activation, range })
}

fn check_block(x: TensorInfo, bits: u32, shift: u32, patch: Patch) -> Result<TensorInfo, Problem> {
    within("the width of a block's values", bits.into(), 2, MAX_BLOCK_BITS.into())?;
    // One bit more, which its protocol needs.
    within("the shift of a block", shift.into(), 0, i128::from(MAX_RING - 1 - bits))?;
    if let Some([height, width]) = patch {
        let [_, rows, columns] = x.shape;
        within("the height of a patch", height as i128, 1, rows as i128)?;
        within("the width of a patch", width as i128, 1, columns as i128)?;
        at_most("the number of pixels of a patch", height * width, MAX_PATCH)?;
    }
    Ok(TensorInfo { shape: x.shape, kind: Kind::Activation, range: patch::values_of(bits) })
}

fn check_quantiser(bits: u32, zero_point: i64) -> Result<(), Problem> {
    within("the width of the activation", bits.into(), 1, MAX_ACTIVATION_BITS.into())?;
    within("the zero point", zero_point.into(), 0, (1 << bits) - 1)
}

/// The output shape of a pool. A max pool needs a value in every window.
fn check_pool([channels, height, width]: Shape, window: &Window, values: bool) -> Result<Shape, Problem> {
    let input = [height, width];
    let output = check_window(channels, input, window)?;
    if values {
        for (axis, name) in ["vertical", "horizontal"].into_iter().enumerate() {
            let empty = |&at: &usize| {
                let start = at * window.stride[axis];
                // The first tap at or after the first element, by number; it must exist and lie before the end.
                let tap = window.padding[axis].saturating_sub(start).div_ceil(window.dilation[axis]);
                tap >= window.kernel[axis] || start + tap * window.dilation[axis] - window.padding[axis] >= input[axis]
            };
            if let Some(at) = (0..output[axis]).find(empty) {
                return Err(Problem::WindowOfPadding { axis: name, at });
            }
        }
    }
    check_shape([channels, output[0], output[1]])
}

fn check_window(channels: usize, input: [usize; 2], window: &Window) -> Result<[usize; 2], Problem> {
    let limit = MAX_DIMENSION as i128;
    for axis in 0..2 {
        within("a kernel size", window.kernel[axis] as i128, 1, limit)?;
        within("a stride", window.stride[axis] as i128, 1, limit)?;
        within("a dilation", window.dilation[axis] as i128, 1, limit)?;
    }
    for padding in window.padding {
        within("a padding", padding as i128, 0, limit)?;
    }
    let padded = window.padded(input);
    check_elements("the number of elements with padding", [channels, padded[0], padded[1]])?;
    window.output(input).ok_or(Problem::WindowTooLarge { extent: window.extent(), padded })
}

/// The values of (multiplier * S + offset) >> shift.
fn average_range(range: Range, window: &Window, multiplier: i64, offset: i64, shift: u32) -> Result<Range, Problem> {
    let limit = i128::from(MAX_ACCUMULATOR);
    within("the multiplier of an average", multiplier.into(), 1, limit)?;
    within("the offset of an average", offset.into(), -limit, limit)?;
    within("a shift", shift.into(), 0, MAX_SHIFT.into())?;
    let sum = sum_range(range, window)?;
    let mut ends = [0; 2];
    for (end, sum) in ends.iter_mut().zip([sum.lo, sum.hi]) {
        let product = i128::from(multiplier) * i128::from(sum) + i128::from(offset);
        within("the multiplied sum of an average", product, -limit, limit)?;
        *end = (product >> shift) as i64;
        within("an average", (*end).into(), -i128::from(MAX_ACTIVATION), i128::from(MAX_ACTIVATION))?;
    }
    Ok(Range { lo: ends[0], hi: ends[1] })
}

fn sum_range(range: Range, window: &Window) -> Result<Range, Problem> {
    let count = window.kernel[0] as i128 * window.kernel[1] as i128;
    let range = window.values(range);
    let limit = i128::from(MAX_ACTIVATION);
    let mut ends = [0; 2];
    for (end, value) in ends.iter_mut().zip([range.lo, range.hi]) {
        within("a sum over the window", count * i128::from(value), -limit, limit)?;
        *end = count as i64 * value;
    }
    Ok(Range { lo: ends[0], hi: ends[1] })
}

fn table_range(input: Range, table: &[i64]) -> Result<Range, Problem> {
    let wanted = input.count();
    if table.len() as u128 != wanted || wanted > 256 {
        return Err(Problem::TableLength { found: table.len(), lo: input.lo, hi: input.hi, wanted });
    }
    let lo = *table.iter().min().expect("a range has values");
    let hi = *table.iter().max().expect("a range has values");
    let limit = i128::from(MAX_ACTIVATION);
    for value in [lo, hi] {
        within("a result of the table", value.into(), -limit, limit)?;
    }
    if hi - lo > 255 { Err(Problem::TableRange { lo, hi }) } else { Ok(Range { lo, hi }) }
}

fn read(tensors: &[TensorInfo], tensor: TensorId, wanted: Kind) -> Result<TensorInfo, Problem> {
    let last = tensors.len() - 1;
    let info = *tensors.get(tensor).ok_or(Problem::UnknownTensor { tensor, last })?;
    if info.kind == wanted { Ok(info) } else { Err(Problem::WrongKind { tensor, found: info.kind, wanted }) }
}

fn check_shape(shape: Shape) -> Result<Shape, Problem> {
    for size in shape {
        within("a dimension", size as i128, 1, MAX_DIMENSION as i128)?;
    }
    check_elements("the number of elements", shape)?;
    Ok(shape)
}

/// Sizes whose product is a number of elements. Three of 2^16 fit no usize of 32 bits.
fn check_elements(what: &'static str, sizes: [usize; 3]) -> Result<(), Problem> {
    let value = sizes.iter().map(|&size| size as u128).product();
    let limit = MAX_ELEMENTS as u128;
    if value > limit { Err(Problem::TooLarge { what, value, limit }) } else { Ok(()) }
}

fn at_most(what: &'static str, value: usize, limit: usize) -> Result<(), Problem> {
    if value > limit {
        return Err(Problem::TooLarge { what, value: value as u128, limit: limit as u128 });
    }
    Ok(())
}

fn within(what: &'static str, value: i128, lo: i128, hi: i128) -> Result<(), Problem> {
    if (lo..=hi).contains(&value) { Ok(()) } else { Err(Problem::OutOfRange { what, value, lo, hi }) }
}
