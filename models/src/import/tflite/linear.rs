//! Convolutions and matrices: sums of products, and their requantisation by the rule of the runtime.

use ndarray::Array4;

use super::model::{Element, Operator, Tensor};
use super::round::{Activation, Kernels, Multiplier, Rule};
use super::trouble::{Trouble, refuse};
use super::value::{Quantisation, Value, integers32, positive, quantisation};
use super::walk::Walk;
use crate::import::builder::{Obstacle, Sum, weight_width};
use crate::import::report::Verdict;
use crate::import::same;
use crate::network::{Range, Shape, TensorId, Term, Window};
use crate::rescale::Steps;
use crate::shape::of_channel;

/// Numbers of the options' fields.
struct Fields {
    activation: usize,
    dilation: [usize; 2],
}

const CONVOLUTION: Fields = Fields { activation: 3, dilation: [5, 4] };
const DEPTHWISE: Fields = Fields { activation: 4, dilation: [6, 5] };

/// Weights of a layer, 8-bit numbers less their zero point, with their scales.
pub(super) struct Filter {
    pub values: Vec<i32>,
    pub dims: Vec<usize>,
    /// One, or one for each output channel.
    pub scales: Vec<f32>,
}

impl<'m, 'f> Walk<'m, 'f> {
    /// `[out, height, width, in / groups]` weights.
    pub fn convolution(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.image(operator, 0, name)?;
        let filter = self.filter(operator, 0)?;
        let [outputs, height, width, inputs] = filter.dims[..] else {
            return refuse(format!("its weights have shape {:?}", filter.dims), "four dimensions are needed");
        };
        if inputs == 0 || x.grid[0] % inputs != 0 || outputs % (x.grid[0] / inputs).max(1) != 0 {
            return refuse(format!("its weights read {inputs} of {} channels", x.grid[0]), "the file is damaged");
        }
        let window = self.window(operator, &x, [height, width], &CONVOLUTION)?;
        let at = |[o, i, r, c]: [usize; 4]| ((o * height + r) * width + c) * inputs + i;
        let weights = arrange(&filter, [outputs, inputs, height, width], at)?;
        let groups = x.grid[0] / inputs;
        let term =
            Term::Conv { input: x.id, out_channels: outputs, groups, window, weight_bits: weight_width(&weights) };
        self.layer(operator, name, &x, (term, weights), &filter, CONVOLUTION.activation)?;
        Ok(Verdict::Imported("a convolution"))
    }

    /// `[1, height, width, channels * multiplier]` weights.
    pub fn depthwise(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.image(operator, 0, name)?;
        let filter = self.filter(operator, 3)?;
        let [1, height, width, outputs] = filter.dims[..] else {
            return refuse(
                format!("its weights have shape {:?}", filter.dims),
                "[1, height, width, channels] is needed",
            );
        };
        if outputs == 0 || outputs % x.grid[0] != 0 {
            return refuse(format!("it makes {outputs} channels of {}", x.grid[0]), "the file is damaged");
        }
        let window = self.window(operator, &x, [height, width], &DEPTHWISE)?;
        let weights = arrange(&filter, [outputs, 1, height, width], |[o, _, r, c]| (r * width + c) * outputs + o)?;
        let groups = x.grid[0];
        let term =
            Term::Conv { input: x.id, out_channels: outputs, groups, window, weight_bits: weight_width(&weights) };
        self.layer(operator, name, &x, (term, weights), &filter, DEPTHWISE.activation)?;
        Ok(Verdict::Imported("a depthwise convolution"))
    }

    /// `[outputs, inputs]` weights, on a vector or at each position of an image.
    pub fn dense(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let mut x = self.value(operator, 0)?;
        x = self.without_padding(name, &x)?;
        let filter = self.filter(operator, 0)?;
        let [outputs, inputs] = filter.dims[..] else {
            return refuse(format!("its weights have shape {:?}", filter.dims), "two dimensions are needed");
        };
        if operator.i8(1)? != 0 {
            return refuse("its weights are shuffled", "export with the default format of weights");
        }
        let elements: usize = x.dims.iter().product();
        if inputs == 0 || !elements.is_multiple_of(inputs) {
            return refuse(format!("a matrix with {inputs} columns on {:?}", x.dims), "the file is damaged");
        }
        if inputs != elements && inputs != x.grid[0] {
            x = self.settled(name, &Value { dims: vec![elements / inputs, inputs], ..x.clone() })?;
        }
        let [channels, height, width] = x.grid;
        let (term, weights) = if inputs == channels * height * width {
            let input = self.builder.flatten(name, x.id)?;
            // The network's vector has the channels outside, the file's inside.
            let column = |i: usize| i % (height * width) * channels + i / (height * width);
            let weights = arrange(&filter, [outputs, inputs, 1, 1], |[o, i, ..]| o * inputs + column(i))?;
            (Term::Dense { input, outputs, weight_bits: weight_width(&weights) }, weights)
        } else {
            let weights = arrange(&filter, [outputs, inputs, 1, 1], |[o, i, ..]| o * inputs + i)?;
            let (window, weight_bits) = (Window::POINT, weight_width(&weights));
            (Term::Conv { input: x.id, out_channels: outputs, groups: 1, window, weight_bits }, weights)
        };
        self.layer(operator, name, &x, (term, weights), &filter, 0)?;
        Ok(Verdict::Imported("a matrix"))
    }

    /// Weights with one scale, or one for each index along `axis`.
    pub fn filter(&self, operator: &Operator<'f>, axis: usize) -> Result<Filter, Trouble> {
        let tensor = &self.model.tensors[self.operand(operator, 1)?];
        constant(tensor)?;
        let channels = *tensor.dims.get(axis).unwrap_or(&0);
        let each = tensor.scale.len() > 1;
        if tensor.scale.is_empty() || each && (tensor.scale.len() != channels || tensor.axis != axis) {
            let (count, axis) = (tensor.scale.len(), tensor.axis);
            let reason = format!("its weights of shape {:?} have {count} scales along axis {axis}", tensor.dims);
            return refuse(reason, "one scale, or one for each output channel, is needed");
        }
        tensor.scale.iter().try_for_each(|&scale| positive(scale, tensor))?;
        let values: Vec<i32> = match tensor.element {
            Element::Int8 if tensor.zero_point.iter().all(|&zero| zero == 0) => {
                tensor.data.iter().map(|&byte| i32::from(byte as i8)).collect()
            }
            Element::Int8 => return refuse("its weights have a zero point", "signed weights need zero point 0"),
            Element::UInt8 if !each && (0..=255).contains(&tensor.zero_point[0]) => {
                let zero_point = tensor.zero_point[0] as i32;
                tensor.data.iter().map(|&byte| i32::from(byte) - zero_point).collect()
            }
            other => return refuse(format!("its weights are of type {other}"), "export with 8-bit weights"),
        };
        if values.len() != tensor.elements() {
            return refuse(format!("{} weights for shape {:?}", values.len(), tensor.dims), "the file is damaged");
        }
        Ok(Filter { values, dims: tensor.dims.clone(), scales: tensor.scale.clone() })
    }

    /// Biases, one for each output channel; zeros where they are left out.
    pub fn bias(&self, operator: &Operator<'f>, position: usize, channels: usize) -> Result<Vec<i64>, Trouble> {
        let Some(&Some(index)) = operator.inputs.get(position) else { return Ok(vec![0; channels]) };
        let tensor = &self.model.tensors[index];
        constant(tensor)?;
        if tensor.element != Element::Int32 || tensor.zero_point.iter().any(|&zero| zero != 0) {
            return refuse("its biases are no 32-bit integers with zero point 0", "export with 8-bit activations");
        }
        let bias = integers32(tensor.data);
        if bias.len() != channels {
            return refuse(format!("{} biases for {channels} channels", bias.len()), "the file is damaged");
        }
        Ok(bias)
    }

    /// Stride, dilation and padding of a convolution.
    fn window(
        &self,
        operator: &Operator<'f>,
        x: &Value,
        kernel: [usize; 2],
        fields: &Fields,
    ) -> Result<Window, Trouble> {
        let stride = [operator.i32(2, 0)?, operator.i32(1, 0)?];
        let dilation = [operator.i32(fields.dilation[0], 1)?, operator.i32(fields.dilation[1], 1)?];
        let mut window = window(x, kernel, stride, dilation, operator.i8(0)?)?;
        if self.block != [1, 1] {
            if window.stride != [1, 1] {
                return refuse("it steps over rows of batches", "use stride 1 after SPACE_TO_BATCH_ND");
            }
            // In rows and columns of the image.
            for axis in 0..2 {
                window.dilation[axis] *= self.block[axis];
                for side in [axis, axis + 2] {
                    window.padding[side] =
                        x.padding[side] + (window.padding[side] - x.padding[side]) * self.block[axis];
                }
            }
        }
        Ok(window)
    }

    /// Adds a sum of products, its biases and its requantisation, and names the result.
    fn layer(
        &mut self,
        operator: &Operator<'f>,
        name: &str,
        x: &Value,
        (term, weights): (Term, Array4<i32>),
        filter: &Filter,
        activation: usize,
    ) -> Result<(), Trouble> {
        let Some(grid) = self.builder.shape_of(&term) else {
            return refuse("its window is larger than its input", "the file is damaged");
        };
        let matrix = filter.dims.len() == 2;
        let bias = self.bias(operator, 2, grid[0])?;
        let sum = Sum { terms: vec![(term, Some(weights))], bias };
        let rounded = Rounded { scales: &filter.scales, matrix, activation, kernels: self.kernels };
        let (id, y) = self.rescaled(operator, name, x, sum, &rounded)?;
        let dims = layer_dims(x, grid, matrix, self.result(operator));
        self.define(operator, Value { id, grid, dims, padding: [0; 4], fill: 0, scale: y.scale, clamp: y.clamp });
        Ok(())
    }

    /// Adds a sum of products and its requantisation.
    pub fn rescaled(
        &mut self,
        operator: &Operator<'f>,
        name: &str,
        x: &Value,
        sum: Sum,
        &Rounded { scales, matrix, activation, kernels }: &Rounded<'_>,
    ) -> Result<(TensorId, Quantisation), Trouble> {
        let y = quantisation(self.result(operator))?;
        let Some(activation) = Activation::of(operator.i8(activation)?) else {
            return refuse("its activation function is unknown", "use none, RELU, RELU6 or RELU_N1_TO_1");
        };
        let clamp = activation.clamp(kernels, y.scale, y.clamp.zero_point, Range { lo: y.clamp.lo, hi: y.clamp.hi });
        let rules: Vec<Rule> = scales.iter().map(|&weight| rule_of(kernels, matrix, x, weight, y.scale)).collect();
        let pick = |channel: usize| of_channel(&rules, channel);
        for (channel, domain) in self.builder.bounds(&sum).into_iter().enumerate() {
            if !pick(channel).holds(domain) {
                let Range { lo, hi } = domain;
                let reason =
                    format!("channel {channel} reaches {lo}..={hi}, which the runtime does not rescale by its scales");
                return refuse(reason, "use other scales, or fewer inputs");
            }
        }
        let zero_point = clamp.zero_point - y.clamp.lo;
        let stored = |rule: Rule, z: i64| clamp.apply(rule.apply(z)) - y.clamp.lo;
        let found = self.builder.requantise(name, sum.clone(), zero_point, |channel, z| stored(pick(channel), z));
        let id = match found {
            Err(Obstacle::NoFit { .. }) if self.approximate && kernels == Kernels::Single => {
                let nearest = |channel: usize| match pick(channel) {
                    Rule::Single(scale) => Rule::Nearest(scale),
                    other => other,
                };
                let steps = |domain, rule: Rule| Steps::of(domain, |z| stored(rule, z)).map(|steps| steps.thresholds);
                let (mut all, mut moved) = (0, 0);
                for (channel, domain) in self.builder.bounds(&sum).into_iter().enumerate() {
                    let (Ok(exact), Ok(near)) = (steps(domain, pick(channel)), steps(domain, nearest(channel))) else {
                        continue;
                    };
                    all += exact.len();
                    moved += exact.iter().zip(&near).filter(|(one, other)| one != other).count();
                }
                let note = format!("{moved} of {all} steps in {name} are not those of the 32-bit floats of XNNPACK");
                let id = self.builder.requantise(name, sum, zero_point, |channel, z| stored(nearest(channel), z))?;
                self.builder.report.note(note);
                id
            }
            found => found?,
        };
        Ok((id, y))
    }
}

/// By which rule the kernels bring products with weights of a scale to the scale `result`.
fn rule_of(kernels: Kernels, matrix: bool, x: &Value, weight: f32, result: f32) -> Rule {
    let unsigned = x.clamp.lo == 0;
    if kernels == Kernels::Single {
        Rule::Single(x.scale * weight / result)
    } else if unsigned && !matrix {
        // Convolutions of unsigned numbers take the product of scales in 32 bits.
        Rule::Double(Multiplier::of(f64::from(x.scale * weight) / f64::from(result)))
    } else {
        let real = f64::from(x.scale) * f64::from(weight) / f64::from(result);
        if matrix { Rule::Wide(real) } else { Rule::Double(Multiplier::of(real)) }
    }
}

/// How the sums of a layer are rounded.
pub(super) struct Rounded<'s> {
    /// Of its weights: one, or one for each channel.
    pub scales: &'s [f32],
    /// Not a convolution.
    pub matrix: bool,
    /// The number of the option.
    pub activation: usize,
    /// Of the kernel that runs it.
    pub kernels: Kernels,
}

/// Dimensions of a result in the file.
fn layer_dims(x: &Value, grid: Shape, matrix: bool, result: &Tensor<'_>) -> Vec<usize> {
    match (matrix, grid) {
        (true, [outputs, 1, 1]) if result.dims.iter().product::<usize>() == outputs => result.dims.clone(),
        (true, [outputs, 1, 1]) => vec![1, outputs],
        (true, [outputs, ..]) => x.dims.iter().copied().take(x.dims.len() - 1).chain([outputs]).collect(),
        (false, [channels, height, width]) => vec![1, height, width, channels],
    }
}

/// The geometry of a window; `same` is 0 for SAME padding, 1 for VALID.
pub(super) fn window(
    x: &Value,
    kernel: [usize; 2],
    stride: [i32; 2],
    dilation: [i32; 2],
    same: i8,
) -> Result<Window, Trouble> {
    let size = |value: i32| usize::try_from(value).ok().filter(|value| (1..=1 << 16).contains(value));
    let sizes = [stride[0], stride[1], dilation[0], dilation[1]].map(size);
    let [Some(down), Some(right), Some(rows), Some(columns)] = sizes else {
        return refuse(format!("strides {stride:?}, dilations {dilation:?}"), "the file is damaged");
    };
    if kernel.iter().any(|size| !(1..=1 << 16).contains(size)) {
        return refuse(format!("a window of {kernel:?}"), "the file is damaged");
    }
    let mut window = Window { kernel, stride: [down, right], padding: x.padding, dilation: [rows, columns] };
    if same == 0 {
        let (input, extent) = (x.padded(), window.extent());
        for axis in 0..2 {
            let total = same::padding(input[axis], window.stride[axis], extent[axis]);
            window.padding[axis] += total / 2;
            window.padding[axis + 2] += total - total / 2;
        }
    } else if same != 1 {
        return refuse("its padding is neither SAME nor VALID", "the file is damaged");
    }
    Ok(window)
}

/// Weights in the order of networks, where `at` is the place of one in the file.
fn arrange(filter: &Filter, shape: Shape4, at: impl Fn(Shape4) -> usize) -> Result<Array4<i32>, Trouble> {
    if filter.values.is_empty() || shape.iter().product::<usize>() != filter.values.len() {
        return refuse(format!("its weights have shape {:?}", filter.dims), "the file is damaged");
    }
    Ok(Array4::from_shape_fn(shape, |(o, i, r, c)| filter.values[at([o, i, r, c])]))
}

type Shape4 = [usize; 4];

/// Refuses tensors that are no constants of this file.
fn constant(tensor: &Tensor<'_>) -> Result<(), Trouble> {
    if tensor.indirect {
        return refuse(
            format!("tensor {} is sparse or lies in another file", tensor.name),
            "export it dense, in one file",
        );
    }
    if tensor.data.is_empty() {
        return refuse(format!("tensor {} is no constant", tensor.name), "weights and biases must be constants");
    }
    Ok(())
}
