//! Convolutions and matrices: `Conv`, `Gemm`, `MatMul` on quantised values, and their integer forms.

use std::rc::Rc;

use ndarray::Array4;

use super::constants::{dequantise, whole_weights};
use super::graph::Node;
use super::moves::Move;
use super::real::{Float, HALF_ULP, Post, Scales, at, finite, odd_factor, power_of_two};
use super::stop::Stop;
use super::tensor::{Constant, Element};
use super::value::{Fused, FusedKind, Ints, Layout, Origin, Real, Scale, Scaled, Value};
use super::walk::Walk;
use crate::check::MAX_ACCUMULATOR;
use crate::import::builder::{Sum, weight_width};
use crate::import::same;
use crate::network::{Range, Term, Window};

impl<'m> Walk<'m> {
    /// `Conv`.
    pub(super) fn conv(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let real = self.real(node, 0)?;
        let weights = self.weights(node, 1)?;
        let (input, layout) = (self.plain(&real, node)?, real.layout);
        let (sum, layout) = self.conv_sum(node, input.id, layout, &weights)?;
        self.sum(node, FusedKind::Conv, input, &weights, 1.0, sum, layout)
    }

    /// `Gemm`: alpha A B + beta C.
    pub(super) fn gemm(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let real = self.real(node, 0)?;
        let weights = self.weights(node, 1)?;
        if node.int("transA", 0) != 0 || (node.float("beta", 1.0) != 1.0 && node.input(2).is_some()) {
            return Err(Stop::new("transA or beta", "export a plain linear layer: transA = 0, beta = 1"));
        }
        let weights = if node.int("transB", 0) == 0 { Rc::new(weights.transposed()?) } else { weights };
        let input = self.plain(&real, node)?;
        let (sum, layout, back) = self.rows_sum(node, input.id, real.layout, &weights)?;
        self.bias_of_columns(node, 2)?;
        let alpha = node.float("alpha", 1.0);
        self.quantised_again(node, input, &weights, &sum)?;
        let value = self.sum(node, FusedKind::Gemm, input, &weights, alpha, sum, layout)?;
        self.moved_back(node, value, back)
    }

    /// `MatMul` of an activation and constant weights.
    pub(super) fn matmul(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let real = self.real(node, 0)?;
        let weights = Rc::new(self.weights(node, 1)?.transposed()?);
        let input = self.plain(&real, node)?;
        let (sum, layout, back) = self.rows_sum(node, input.id, real.layout, &weights)?;
        self.quantised_again(node, input, &weights, &sum)?;
        let value = self.sum(node, FusedKind::MatMul, input, &weights, 1.0, sum, layout)?;
        self.moved_back(node, value, back)
    }

    /// `QLinearConv`, `QLinearMatMul` and `QGemm`.
    pub(super) fn qlinear(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let gemm = node.op() == "QGemm";
        let (kind, alpha) = match node.op() {
            "QLinearConv" => (FusedKind::Conv, 1.0),
            "QLinearMatMul" => (FusedKind::MatMul, 1.0),
            _ => (FusedKind::Gemm, node.float("alpha", 1.0)),
        };
        let (x_scale, x_zero) = (self.scalar(node, 1)?, self.zero(node, 2)?);
        let x = self.ints(node, 0, x_zero)?;
        let columns = kind != FusedKind::Conv && !(gemm && node.int("transB", 0) != 0);
        let weights = self.int_weights(node, 3, 4, 5, if columns { 1 } else { 0 })?;
        let weights = if columns { weights.transposed()? } else { weights };
        let (sum, layout, back) = match kind {
            FusedKind::Conv => {
                let (sum, layout) = self.conv_sum(node, x.id, x.layout, &weights)?;
                (sum, layout, None)
            }
            FusedKind::MatMul | FusedKind::Gemm => self.rows_sum(node, x.id, x.layout, &weights)?,
        };
        let bias = match kind {
            FusedKind::Conv => node.input(8).map(|_| 8),
            FusedKind::MatMul => None,
            FusedKind::Gemm => node.input(6).map(|_| 6),
        };
        let mut sum = sum;
        if let Some(index) = bias {
            if gemm {
                self.bias_of_columns(node, index)?;
            }
            let bias = self.constant(node, index)?.to_ints().filter(|bias| bias.len() == sum.bias.len());
            let bias = bias.ok_or_else(|| Stop::new("a bias that is not one integer per channel", "export it so"))?;
            sum.bias = bounded(&bias)?;
        }
        let (y_scale, y_zero) = if gemm { (7, 8) } else { (6, 7) };
        if node.input(y_scale).is_none() {
            let input = Scale { id: x.id, unit: x_scale, error: 0.0, quantised: Some((x_zero, x.element)) };
            let value = self.sum(node, kind, input, &weights, alpha, sum, layout)?;
            return self.moved_back(node, value, back);
        }
        let quantiser = self.onnx_quantiser(node, y_scale, y_zero)?;
        let element = self.element(node, y_zero)?;
        let scale: Vec<f32> =
            weights.scale.iter().map(|&w| alpha_times(alpha, x_scale) * w / quantiser.scale).collect();
        let id = self.requantise_ints(node, sum, &scale, &quantiser)?;
        let value = Value::Ints(Ints { id, zero: quantiser.zero as i64, element, layout });
        self.moved_back(node, value, back)
    }

    /// `ConvInteger` and `MatMulInteger`: the accumulators, as numbers with unit 1.
    pub(super) fn integer(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let x_zero = self.zero(node, 2)?;
        let x = self.with_zero(node, x_zero)?;
        let conv = node.op() == "ConvInteger";
        let ints = self.constant(node, 1)?;
        let zero = self.optional(node, 3)?;
        let one = Constant::floats(vec![], vec![1.0]);
        let weights = dequantise(&ints, &one, zero.as_ref(), usize::from(!conv))?;
        let weights = if conv { weights } else { weights.transposed()? };
        let (sum, layout, back) = if conv {
            let (sum, layout) = self.conv_sum(node, x.id, x.layout, &weights)?;
            (sum, layout, None)
        } else {
            self.rows_sum(node, x.id, x.layout, &weights)?
        };
        let channels = sum.bias.len();
        // The accumulator is an integer: making a float of it rounds once.
        let unit = Rc::new(vec![1.0; channels]);
        let source = Origin::Sum { unit, float: Rc::new(Float::exact(channels)), sum: Rc::new(sum) };
        let value = Value::Real(Rc::new(Real { source, post: vec![], later: vec![], channels, layout, fused: None }));
        self.moved_back(node, value, back)
    }

    /// The integers of input 0 with the zero point that the node declares, whatever they were made with.
    fn with_zero(&mut self, node: Node<'m>, zero: i64) -> Result<Ints, Stop> {
        match *self.value(node, 0)? {
            Value::Ints(ints) if ints.zero != zero => {
                let by = ints.zero - zero;
                let id = self.builder.apply(&format!("{}/zero", node.name()), ints.id, |x| x + by)?;
                Ok(Ints { id, zero, ..ints })
            }
            _ => self.ints(node, 0, zero),
        }
    }

    /// Scaled weights; float constants are refused.
    fn weights(&self, node: Node<'m>, index: usize) -> Result<Rc<Scaled>, Stop> {
        match self.value(node, index)? {
            Value::Scaled(scaled) => Ok(Rc::clone(scaled)),
            Value::Constant(constant) => {
                if let Some(whole) = whole_weights(constant) {
                    return Ok(Rc::new(whole));
                }
                Err(Stop::new("the weights are floats", "quantise them: QuantizeLinear, Quant or BipolarQuant"))
            }
            _ => Err(Stop::new("the weights are not constant", "only products with constants are linear layers")),
        }
    }

    fn int_weights(&self, node: Node<'m>, ints: usize, scale: usize, zero: usize, axis: usize) -> Result<Scaled, Stop> {
        let (ints, scale) = (self.constant(node, ints)?, self.constant(node, scale)?);
        let zero = self.constant(node, zero)?;
        dequantise(&ints, &scale, Some(&zero), axis)
    }

    fn conv_sum(
        &mut self,
        node: Node<'m>,
        input: usize,
        layout: Layout,
        weights: &Scaled,
    ) -> Result<(Sum, Layout), Stop> {
        let shape = self.builder.tensor(input).shape;
        let (out_channels, per_group, rows, columns) = match weights.shape[..] {
            [out_channels, per_group, rows, columns] if layout.rank == 4 => (out_channels, per_group, rows, columns),
            [out_channels, per_group, columns] if layout.rank == 3 => (out_channels, per_group, 1, columns),
            _ => {
                return Err(Stop::new(
                    "neither one- nor two-dimensional",
                    "networks have one or two spatial dimensions",
                ));
            }
        };
        if weights.scale.len() > 1 && weights.axis != 0 {
            return Err(Stop::new("units of the weights along another axis than the output channels", "use axis 0"));
        }
        let groups = usize::try_from(node.int("group", 1)).unwrap_or(0);
        if groups == 0 || per_group.checked_mul(groups) != Some(shape[0]) {
            let reason = format!("weights for {per_group} times {groups} channels on a tensor of shape {shape:?}");
            return Err(Stop::new(reason, "the file is not consistent, or the layout is not channels first"));
        }
        let window = self.window(node, [rows, columns], shape, layout.pad)?;
        let array = weights.array([out_channels, per_group, rows, columns])?;
        let weight_bits = weight_width(&array);
        let term = Term::Conv { input, out_channels, groups, window, weight_bits };
        let sum = Sum { terms: vec![(term, Some(array))], bias: vec![0; out_channels] };
        Ok((self.limited(sum)?, Layout::of_rank(layout.rank)))
    }

    /// A matrix on each row of the last dimension: a convolution of one pixel, of which rows are the places. Its results are
    /// `[1, outputs, rows]` until they are moved back. Weights are `[outputs, inputs]`.
    fn rows_sum(
        &mut self,
        node: Node<'m>,
        input: usize,
        layout: Layout,
        weights: &Scaled,
    ) -> Result<(Sum, Layout, Option<Move>), Stop> {
        let dims = layout.dims(self.builder.tensor(input).shape);
        let (outputs, inputs, before) = match (&weights.shape[..], &dims[..]) {
            (&[outputs, inputs], [before @ .., last])
                if layout.rank != 2 && layout.pad == [0; 4] && *last == inputs =>
            {
                (outputs, inputs, before)
            }
            _ => return Ok((self.dense_sum(input, layout, weights)?, Layout::of_rank(2), None)),
        };
        let rows: usize = before.iter().product();
        let turned = Move::turned(vec![1, inputs, rows], rows, inputs);
        let input = self.select(node, input, [inputs, 1, rows], &turned.axes)?;
        let shape = vec![outputs, inputs, 1];
        let (sum, layout) = self.conv_sum(node, input, Layout::of_rank(3), &Scaled { shape, ..weights.clone() })?;
        Ok((sum, layout, Some(Move::turned([before, &[outputs]].concat(), outputs, rows))))
    }

    /// Refuses the bias of a matrix that has a number for each row.
    fn bias_of_columns(&self, node: Node<'m>, index: usize) -> Result<(), Stop> {
        let shape = self.optional(node, index)?.map(|bias| bias.shape).unwrap_or_default();
        let leading = shape.split_last().map_or(&[][..], |(_, leading)| leading);
        if leading.iter().any(|&size| size != 1) {
            return Err(Stop::new("a bias with a number for each row", "give it one for each output"));
        }
        Ok(())
    }

    /// Results of rows that were turned, moved back.
    fn moved_back(&mut self, node: Node<'m>, value: Value<'m>, back: Option<Move>) -> Result<Value<'m>, Stop> {
        match back {
            Some(back) => self.moved(node, &value, &back),
            None => Ok(value),
        }
    }

    /// Weights are `[outputs, inputs]`.
    fn dense_sum(&mut self, input: usize, layout: Layout, weights: &Scaled) -> Result<Sum, Stop> {
        let shape = self.builder.tensor(input).shape;
        let &[outputs, inputs] = &weights.shape[..] else {
            return Err(Stop::new("weights that are no matrix", "flatten the input first"));
        };
        if weights.scale.len() > 1 && weights.axis != 0 {
            return Err(Stop::new(
                "units of the weights along another axis than the outputs",
                "use one unit per output",
            ));
        }
        if layout.rank != 2 || layout.pad != [0; 4] || shape != [inputs, 1, 1] {
            let reason = format!("a matrix for {inputs} inputs on a tensor of shape {shape:?}");
            return Err(Stop::new(reason, "flatten the input to a vector first"));
        }
        let array = weights.array([outputs, inputs, 1, 1])?;
        let weight_bits = weight_width(&array);
        let term = Term::Dense { input, outputs, weight_bits };
        self.limited(Sum { terms: vec![(term, Some(array))], bias: vec![0; outputs] })
    }

    /// Real values: a sum of products of `input` and `weights`, and the node's bias (input 2).
    #[expect(clippy::too_many_arguments, reason = "what a linear node of the file consists of")]
    fn sum(
        &mut self,
        node: Node<'m>,
        kind: FusedKind,
        input: Scale,
        weights: &Scaled,
        alpha: f32,
        mut sum: Sum,
        layout: Layout,
    ) -> Result<Value<'m>, Stop> {
        let channels = sum.bias.len();
        let quantised_form = node.op().starts_with('Q');
        let apart = if quantised_form { None } else { self.layer_apart(node, kind == FusedKind::Gemm) };
        let whole = self.is_whole(node, kind, input, weights, alpha)?;
        let unit = |c: usize| match at(&weights.scale, c) {
            w if whole => f64::from(alpha_times(alpha, input.unit) * w),
            w => f64::from(input.unit) * f64::from(w) * f64::from(alpha),
        };
        let integers = input.quantised.is_some() && weights.element.is_some();
        let merges = |walk: &Self| whole || integers && apart.is_none() && walk.graph.leads_to_quantiser(node.output());
        let magnitude = self.magnitudes(&sum);
        let products = weights.ints.len() / channels;
        let scales = Scales { unit: input.unit * alpha, error: self.relative_error(input) };
        let float = |magnitude: &[f64]| Float::of(products, magnitude, scales, |c| at(&weights.scale, c));
        let mut post = Vec::new();
        if !quantised_form && kind != FusedKind::MatMul && node.input(2).is_some() {
            match self.bias(node, channels, merges(self), &unit)? {
                Bias::Integers(bias) => sum.bias = bias,
                Bias::Rounded(bias) => {
                    self.round_bias(&mut sum, &bias, alpha_times(alpha, input.unit), &weights.scale);
                }
                Bias::Reals(bias) => match whole_units(&bias, &unit, &float(&magnitude), &magnitude) {
                    Some(whole) => sum.bias = whole,
                    None => post.push(Post::Add(bias)),
                },
            }
        }
        let mut float = if whole { Float::whole(channels) } else { float(&self.magnitudes(&sum)) };
        if weights.element.is_none() && matches!(self.value(node, 1)?, Value::Constant(_)) {
            self.refuse_quantised_weights(node, kind)?;
            self.merged_factors(node, &sum, &mut float);
        }
        let elements = input.quantised.map(|(_, element)| element).zip(weights.element).filter(|_| !whole);
        let fused = elements.map(|elements| Fused {
            kind,
            input: alpha_times(alpha, input.unit),
            weights: weights.scale.clone(),
            elements,
            apart,
            output: node.output(),
        });
        if whole {
            self.in_32_bits(&sum)?;
        }
        let unit = Rc::new((0..channels).map(unit).collect());
        let source = Origin::Sum { unit, float: Rc::new(float), sum: Rc::new(sum) };
        Ok(Value::Real(Rc::new(Real { source, post, later: vec![], channels, layout, fused })))
    }

    /// True if the accumulator is multiplied with one number.
    fn is_whole(
        &self,
        node: Node<'m>,
        kind: FusedKind,
        input: Scale,
        weights: &Scaled,
        alpha: f32,
    ) -> Result<bool, Stop> {
        let whole = node.op().starts_with('Q') || self.has_integers(node, kind, input, weights);
        if !whole && alpha != 1.0 && !power_of_two(alpha) {
            return Err(Stop::new(format!("alpha = {alpha}"), "fold it into the weights' scale"));
        }
        Ok(whole)
    }

    /// The bias of a layer's products, input 2, whose units are `unit`. `merges`: ONNX Runtime has integers for the layer.
    fn bias(
        &mut self,
        node: Node<'m>,
        channels: usize,
        merges: bool,
        unit: &impl Fn(usize) -> f64,
    ) -> Result<Bias, Stop> {
        if merges && self.has_zero_point(node, 2)? {
            let reason = "a bias with a zero point, which ONNX Runtime takes for 0";
            return Err(Stop::new(reason, "quantise it with a zero point of 0"));
        }
        let value = match self.value(node, 2)? {
            Value::Scaled(bias) if bias.ints.len() == channels && bias.is_in_units(unit) => {
                return Ok(Bias::Integers(bounded(&bias.ints)?));
            }
            Value::Scaled(bias) if bias.is_of_integers() && merges => {
                let reason = "a bias whose unit is not that of the products, of which ONNX Runtime takes the integers all the same";
                return Err(Stop::new(reason, "quantise it by the product of the units of input and weights"));
            }
            value => value,
        };
        let number = matches!(value, Value::Constant(_));
        let bias = value.constant().ok_or_else(|| Stop::new("a bias that is not constant", "fold it"))?;
        let bias = super::quantiser::per_channel(&bias.to_floats(), channels)
            .ok_or_else(|| Stop::new("a bias that is not one number per channel", "export it so"))?;
        finite(&bias)?;
        Ok(if number && merges { Bias::Rounded(bias) } else { Bias::Reals(bias) })
    }

    /// Whether ONNX Runtime has integers for a matrix behind which no quantiser stands: the accumulator, its bias in it, times one
    /// number (`QGemm`, `MatMulIntegerToFloat`).
    fn has_integers(&self, node: Node<'m>, kind: FusedKind, input: Scale, weights: &Scaled) -> bool {
        let (Some((_, x)), Some(w)) = (input.quantised, weights.element) else { return false };
        let types = w.is_byte() && kind != FusedKind::Conv && self.kernels.merge(kind, (x, w), x);
        let bias = node.input(2).filter(|_| kind == FusedKind::Gemm);
        let dequantised = |name| {
            let integers = matches!(self.values.get(name), Some(Value::Scaled(bias)) if bias.is_of_integers());
            integers && self.graph.maker(name).is_some_and(|made| made.op() == "DequantizeLinear")
        };
        let readers = self.graph.consumers(node.output());
        let follows = |op: &str| readers.iter().any(|&index| self.graph.nodes[index].op() == op);
        let alone = self.graph.reader(node.output()).map(|(_, next)| next);
        // An activation, unless it ends the graph or several nodes read it, is looked for a quantiser behind.
        let activation = readers.len() == 1
            && (follows("Relu") || follows("Clip"))
            && self.graph.reader(self.graph.nodes[readers[0]].output()).is_some();
        // What is added becomes the bias of a matrix, a transposition part of the node.
        let taken = alone.is_some_and(|next| match kind {
            FusedKind::MatMul => next.op() == "Add",
            _ => bias.is_none() && matches!(next.op(), "Sum" | "Transpose"),
        });
        types
            && bias.is_none_or(dequantised)
            && !(follows("QuantizeLinear") || activation || taken || self.graph.leads_to_quantiser(node.output()))
            && self.layer_apart(node, true).is_none()
    }

    /// Whether a `DequantizeLinear` makes an input whose zero point is other than 0.
    fn has_zero_point(&self, node: Node<'m>, index: usize) -> Result<bool, Stop> {
        let made = node.input(index).and_then(|name| self.graph.maker(name));
        let Some(made) = made.filter(|made| made.op() == "DequantizeLinear") else { return Ok(false) };
        let zeros = self.optional(made, 2)?.and_then(|zeros| zeros.to_ints().map(|ints| ints.to_vec()));
        Ok(zeros.is_some_and(|zeros| zeros.iter().any(|&zero| zero != 0)))
    }

    /// Refuses float weights that ONNX Runtime makes integers of itself: those of a layer between quantisers.
    fn refuse_quantised_weights(&self, node: Node<'m>, kind: FusedKind) -> Result<(), Stop> {
        // A sum behind a product of matrices becomes its bias.
        let sum = self.graph.reader(node.output()).map(|(_, next)| next).filter(|next| next.op() == "Add");
        let made = if kind == FusedKind::MatMul { sum } else { Some(node) };
        let floats = matches!(self.value(node, 1)?, Value::Constant(_));
        let between = node.input(0).is_some_and(|x| self.apart(x).is_none())
            && made.is_some_and(|made| self.graph.leads_to_quantiser(made.output()));
        if floats && between {
            let reason = "its weights are floats between quantisers: ONNX Runtime rounds them to 8 bits itself";
            return Err(Stop::new(reason, "quantise the weights: QuantizeLinear and DequantizeLinear, or integers"));
        }
        Ok(())
    }

    /// Factors behind a layer of float weights become part of the weights in ONNX Runtime: sums that are exact without them may not be.
    fn merged_factors(&self, node: Node<'m>, sum: &Sum, float: &mut Float) {
        let channels = sum.bias.len();
        let products = sum.weights().map(|array| array.len()).sum::<usize>() / channels;
        let magnitudes = self.magnitudes(sum);
        let mut before = node;
        // Nodes are in order, so this ends.
        while let Some((_, next)) = self.graph.reader(before.output()).filter(|(_, next)| next.index > before.index) {
            let first = next.input(0) == Some(before.output());
            let number = self.constant(next, usize::from(first)).map(|constant| constant.to_floats());
            let list = match (next.op(), number) {
                ("Add" | "Sub", Ok(_)) => vec![1.0],
                ("Mul", Ok(list)) => list.to_vec(),
                ("Div", Ok(list)) if first => list.iter().map(|c| 1.0 / c).collect(),
                ("BatchNormalization", _) => vec![f32::NAN],
                _ => return,
            };
            for (channel, &most) in magnitudes.iter().enumerate() {
                let factor = match list.len() {
                    1 => list[0],
                    n if n == channels => list[channel],
                    _ => f32::NAN,
                };
                if most * odd_factor(factor) >= (1 << 24) as f64 {
                    float.error[channel] = float.error[channel].max((products as f64 + 5.0) * HALF_ULP * most);
                }
            }
            before = next;
        }
    }

    /// Refuses sums that leave the network's limits.
    pub(super) fn limited(&self, sum: Sum) -> Result<Sum, Stop> {
        if self.magnitudes(&sum).iter().any(|&most| most > MAX_ACCUMULATOR as f64) {
            return Err(Stop::new("accumulators of more than 50 bits", "use fewer bits, or smaller layers"));
        }
        Ok(sum)
    }

    /// What the absolute values of the summands can add up to, by channel.
    pub(super) fn magnitudes(&self, sum: &Sum) -> Vec<f64> {
        let mut all: Vec<f64> = sum.bias.iter().map(|&b| b.unsigned_abs() as f64).collect();
        for (term, array) in &sum.terms {
            let Range { lo, hi } = self.builder.tensor(term.input()).range;
            let most = lo.unsigned_abs().max(hi.unsigned_abs()) as f64;
            for (channel, sum) in all.iter_mut().enumerate() {
                *sum += match (term, array) {
                    (_, Some(array)) => {
                        let row = array.index_axis(ndarray::Axis(0), channel);
                        row.iter().map(|&w| f64::from(w).abs()).sum::<f64>() * most
                    }
                    (Term::Identity { multiplier, .. }, None) => multiplier.unsigned_abs() as f64 * most,
                    (_, None) => 0.0,
                };
            }
        }
        all
    }

    /// Kernel geometry: strides, dilations and padding of the node, and zeros around the input besides.
    pub(super) fn window(
        &self,
        node: Node<'m>,
        kernel: [usize; 2],
        shape: [usize; 3],
        extra: [usize; 4],
    ) -> Result<Window, Stop> {
        Self::window_of(node, kernel, shape, extra)
    }

    /// The same of any graph.
    pub(super) fn window_of(
        node: Node<'m>,
        kernel: [usize; 2],
        shape: [usize; 3],
        extra: [usize; 4],
    ) -> Result<Window, Stop> {
        let (stride, dilation) = (node.pair("strides", 1)?, node.pair("dilations", 1)?);
        if stride.contains(&0) || dilation.contains(&0) || kernel.contains(&0) {
            return Err(Stop::new("a kernel, stride or dilation of 0", "the file is not consistent"));
        }
        let mut window = Window { kernel, stride, dilation, padding: [0; 4] };
        let mode = node.text("auto_pad", "notset");
        match mode.as_str() {
            "valid" => {}
            "notset" => {
                let wrong =
                    || Stop::new("pads that are not four small numbers", "networks have two spatial dimensions");
                if let Some(pads) = node.ints("pads") {
                    let pads = match *pads {
                        [left, right] => [0, left, 0, right],
                        [top, left, bottom, right] => [top, left, bottom, right],
                        _ => return Err(wrong()),
                    };
                    for (padding, pad) in window.padding.iter_mut().zip(pads) {
                        *padding = usize::try_from(pad).ok().filter(|&pad| pad <= 1 << 16).ok_or_else(wrong)?;
                    }
                }
            }
            _ => {
                for axis in 0..2 {
                    let size = shape[1 + axis] + extra[axis] + extra[axis + 2];
                    let total = same::padding(size, stride[axis], window.extent()[axis]);
                    let less = total / 2;
                    let before = if mode == "same_lower" { total - less } else { less };
                    (window.padding[axis], window.padding[axis + 2]) = (before, total - before);
                }
            }
        }
        window.padding.iter_mut().zip(extra).for_each(|(padding, extra)| *padding += extra);
        Ok(window)
    }

    /// Where the constant bias of an `Add` behind a `MatMul` makes a `Gemm` of both, as ONNX Runtime does it, and a quantiser follows.
    pub(super) fn with_bias(&mut self, real: &Real<'m>, node: Node<'m>, bias: &[f32]) -> Option<Value<'m>> {
        let (Some(fused), Origin::Sum { sum, unit, .. }) = (&real.fused, &real.source) else { return None };
        let merges = node.op() == "Add"
            && fused.kind == FusedKind::MatMul
            && fused.apart.is_none()
            && self.graph.maker(fused.output).is_some_and(|made| self.layer_apart(made, true).is_none())
            && real.post.is_empty()
            && real.later.is_empty()
            && self.graph.reader(fused.output).is_some()
            && self.graph.leads_to_quantiser(node.output());
        if !merges {
            return None;
        }
        let mut sum = (**sum).clone();
        self.round_bias(&mut sum, bias, fused.input, &fused.weights);
        let magnitude = self.magnitudes(&sum);
        let products = sum.weights().map(|array| array.len()).sum::<usize>();
        let scales = Scales { unit: fused.input, error: 0.0 };
        let float = Float::of(products / sum.bias.len(), &magnitude, scales, |c| at(&fused.weights, c));
        let fused = Some(Fused { kind: FusedKind::Gemm, output: node.output(), ..fused.clone() });
        let source = Origin::Sum { sum: Rc::new(sum), unit: Rc::clone(unit), float: Rc::new(float) };
        Some(Value::Real(Rc::new(Real { source, fused, ..real.clone() })))
    }

    /// Adds a bias of real numbers, rounded to whole units of the products, as ONNX Runtime does it before a quantiser.
    fn round_bias(&mut self, sum: &mut Sum, bias: &[f32], input: f32, weights: &[f32]) {
        for (channel, z) in sum.bias.iter_mut().enumerate() {
            let units = (at(bias, channel) / (input * at(weights, channel))).round_ties_even() as i64;
            *z += units.clamp(-MAX_ACCUMULATOR, MAX_ACCUMULATOR);
        }
        let note = "biases of real numbers are rounded to whole units, as ONNX Runtime since 1.21 does it";
        self.builder.report.note(note);
    }
}

/// The bias of a layer.
enum Bias {
    /// In units of the products.
    Integers(Vec<i64>),
    /// Real numbers that ONNX Runtime rounds to units of the products.
    Rounded(Vec<f32>),
    /// Real numbers that it adds.
    Reals(Vec<f32>),
}

/// A bias within the network's limits.
fn bounded(bias: &[i64]) -> Result<Vec<i64>, Stop> {
    if bias.iter().any(|b| b.unsigned_abs() > MAX_ACCUMULATOR as u64) {
        return Err(Stop::new("a bias of more than 50 bits", "the file is not consistent"));
    }
    Ok(bias.to_vec())
}

/// A bias in units of the products, if the products of every channel and their sum with it are exact in floats.
fn whole_units(bias: &[f32], unit: &impl Fn(usize) -> f64, float: &Float, magnitude: &[f64]) -> Option<Vec<i64>> {
    let channel = |(c, most): (usize, &f64)| {
        let (bias, unit) = (f64::from(at(bias, c)), unit(c));
        let units = (bias / unit).round();
        let whole = units * unit == bias && unit == f64::from(unit as f32);
        let exact = float.error[c] == 0.0 && whole && (most + units.abs()) * odd_factor(unit as f32) < (1 << 24) as f64;
        exact.then_some(units as i64)
    };
    magnitude.iter().enumerate().map(channel).collect()
}

/// The factor of a `Gemm` goes into the input's unit.
fn alpha_times(alpha: f32, scale: f32) -> f32 {
    if alpha == 1.0 { scale } else { alpha * scale }
}

impl Scaled {
    /// A matrix with its axes exchanged.
    fn transposed(&self) -> Result<Scaled, Stop> {
        let &[rows, columns] = &self.shape[..] else {
            return Err(Stop::new("weights that are no matrix", "flatten the input first"));
        };
        let ints = (0..columns).flat_map(|c| (0..rows).map(move |r| self.ints[r * columns + c])).collect();
        let axis = 1 - self.axis.min(1);
        Ok(Scaled { shape: vec![columns, rows], ints, axis, ..self.clone() })
    }

    fn array(&self, shape: [usize; 4]) -> Result<Array4<i32>, Stop> {
        let small = |&w: &i64| i32::try_from(w).ok().filter(|w| w.unsigned_abs() < 1 << 15);
        let ints: Option<Vec<i32>> = self.ints.iter().map(small).collect();
        if self.ints.is_empty() {
            return Err(Stop::new("weights without elements", "the file is not consistent"));
        }
        let array = ints.and_then(|ints| Array4::from_shape_vec(shape, ints).ok());
        array.ok_or_else(|| Stop::new("weights of more than 16 bits", "quantise them to at most 8"))
    }

    /// True if the integers are in these units, but for the rounding of the units' products.
    fn is_in_units(&self, unit: &impl Fn(usize) -> f64) -> bool {
        let near = |c: usize| {
            let (own, wanted) = (f64::from(self.unit(c)), unit(c));
            (own - wanted).abs() <= 1e-6 * wanted.abs()
        };
        (0..self.ints.len()).all(near) && self.is_of_integers()
    }

    /// True of 32-bit integers, as biases are.
    fn is_of_integers(&self) -> bool {
        self.element == Some(Element::Int { bits: 32, signed: true })
    }
}
