//! Pools.

use std::rc::Rc;

use super::chain::Chain;
use super::doubts::Doubts;
use super::fused::FUSED;
use super::graph::Node;
use super::pointwise::offset_rule;
use super::quantiser::Quantiser;
use super::real::{HALF_ULP, MAX_STEPS, Near, odd_factor, power_of_two, quantised};
use super::stop::Stop;
use super::value::{Ints, Later, Layout, Mean, Origin, Real, Scale, Value};
use super::walk::Walk;
use crate::network::{Op, Shape, TensorId, Window};

impl<'m> Walk<'m> {
    /// The shape of real values, after what is done later.
    pub(super) fn shape(&self, real: &Real<'m>) -> Result<Shape, Stop> {
        let wrong = || Stop::new("a window that does not fit", "the file is not consistent");
        let pooled = |[channels, height, width]: Shape, window: &Window| {
            window.output([height, width]).map(|[height, width]| [channels, height, width]).ok_or_else(wrong)
        };
        let mut shape = match &real.source {
            Origin::Tensor(scale) | Origin::Pair(scale, _) => self.builder.tensor(scale.id).shape,
            Origin::Sum { sum, .. } => self.builder.shape_of(&sum.terms[0].0).ok_or_else(wrong)?,
            Origin::Average { input, window, .. } => pooled(self.builder.tensor(input.id).shape, window)?,
            Origin::Pieces { shape, .. } => *shape,
            Origin::Concat(parts) => {
                let mut all = self.shape(&parts[0])?;
                all[0] = real.channels;
                all
            }
        };
        for later in &real.later {
            shape = match later {
                Later::MaxPool(window) => pooled(shape, window)?,
                Later::Select { shape, .. } => *shape,
            };
        }
        Ok(shape)
    }

    /// `MaxPool`, `GlobalMaxPool`, and `ReduceMax` over both spatial axes.
    pub(super) fn max_pool(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        if node.op() == "ReduceMax"
            && let Some((value, back)) = self.reduced_last(node)?
        {
            let value = self.largest_of_last(node, value)?;
            return self.moved(node, &value, &back);
        }
        if let Value::Ints(ints) = *self.value(node, 0)? {
            let window = self.max_window(node, self.builder.tensor(ints.id).shape, ints.layout)?;
            let id = self.builder.node(node.name(), Op::MaxPool { input: ints.id, window }, None)?;
            let layout = self.behind_max(node, ints.layout)?;
            return Ok(Value::Ints(Ints { id, layout, ..ints }));
        }
        let real = self.real(node, 0)?;
        let window = self.max_window(node, self.shape(&real)?, real.layout)?;
        let mut real = (*real).clone();
        real.layout = self.behind_max(node, real.layout)?;
        match real.plain() {
            Some(scale) => {
                let id = self.builder.node(node.name(), Op::MaxPool { input: scale.id, window }, None)?;
                real.source = Origin::Tensor(Scale { id, ..scale });
            }
            None if real.later.len() >= MAX_STEPS => {
                return Err(Stop::new("more pools in a row than are put off", "quantise the values in between"));
            }
            None => real.later.push(Later::MaxPool(window)),
        }
        Ok(Value::Real(Rc::new(real)))
    }

    /// The largest of the last axis of three.
    fn largest_of_last(&mut self, node: Node<'m>, value: Value<'m>) -> Result<Value<'m>, Stop> {
        let count = self.dims_of(&value)?.last().copied().unwrap_or(1);
        let window = Window { kernel: [1, count], ..Window::POINT };
        match value {
            Value::Ints(ints) => {
                let id = self.builder.node(node.name(), Op::MaxPool { input: ints.id, window }, None)?;
                Ok(Value::Ints(Ints { id, ..ints }))
            }
            Value::Real(real) => {
                let scale = self.plain(&real, node)?;
                let id = self.builder.node(node.name(), Op::MaxPool { input: scale.id, window }, None)?;
                let channels = self.builder.tensor(id).shape[0];
                Ok(Value::Real(Rc::new(Real::tensor(Scale { id, ..scale }, channels, real.layout))))
            }
            _ => Err(Stop::new("it reads what is no activation", "the file is not consistent")),
        }
    }

    /// The layout behind a reduction, which is over height and width.
    fn reduced(&self, node: Node<'m>, layout: Layout) -> Result<Layout, Stop> {
        let axes = self.axes_of(node)?.unwrap_or_default();
        let mut axes: Vec<i64> = axes.iter().map(|&a| if a < 0 { a + layout.rank as i64 } else { a }).collect();
        axes.sort_unstable();
        if !(axes == [2, 3] && layout.rank == 4 || axes == [2] && layout.rank == 3) {
            return Err(Stop::new("a reduction over other axes than height and width", "networks reduce over both"));
        }
        Ok(if node.int("keepdims", 1) == 0 { Layout { rank: 2, ..layout } } else { layout })
    }

    /// `AveragePool`, `GlobalAveragePool`, and `ReduceMean` over both spatial axes.
    pub(super) fn average_pool(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        if node.op() == "ReduceMean"
            && let Some(same) = self.mean_of_one(node)?
        {
            return Ok(same);
        }
        if node.op() == "ReduceMean"
            && let Some((value, back)) = self.reduced_last(node)?
        {
            let Value::Real(real) = value else {
                return Err(Stop::new("integers where real numbers are expected", "put DequantizeLinear before"));
            };
            let (input, [_, _, count]) = (self.plain(&real, node)?, self.shape(&real)?);
            let window = Window { kernel: [1, count], ..Window::POINT };
            let source = Origin::Average { input, window, mean: Mean::Reduced };
            let value =
                Value::Real(Rc::new(Real { source, post: vec![], later: vec![], fused: None, ..(*real).clone() }));
            return self.moved(node, &value, &back);
        }
        let real = self.real(node, 0)?;
        let shape = self.shape(&real)?;
        let mean = match node.op() {
            "AveragePool" => Mean::Windows,
            "GlobalAveragePool" => Mean::Global,
            _ => Mean::Reduced,
        };
        let global = mean != Mean::Windows;
        let mut layout = real.layout;
        let window = if global {
            if node.op() == "ReduceMean" {
                layout = self.reduced(node, layout)?;
            }
            if real.layout.rank < 3 || real.layout.pad != [0; 4] {
                return Err(Stop::new("an average of what is no image", "networks average over height and width"));
            }
            Window { kernel: [shape[1], shape[2]], ..Window::POINT }
        } else {
            self.average_window(node, shape, real.layout)?
        };
        let even = global || window.padding == [0; 4] && node.int("ceil_mode", 0) == 0 || self.counts_padding(node);
        let channels = real.channels;
        let source = match self.plain(&real, node) {
            Ok(input) if even => Origin::Average { input, window, mean },
            Ok(input) => self.uneven_average(node, input, window, &real)?,
            Err(stop) if even => self.average_of_function(node, &real, window)?.ok_or(stop)?,
            Err(stop) => return Err(stop),
        };
        Ok(Value::Real(Rc::new(Real { source, post: vec![], later: vec![], channels, layout, fused: None })))
    }

    /// `QLinearAveragePool` and `QLinearGlobalAveragePool`: x, its scale and zero point, those of y.
    pub(super) fn qlinear_average_pool(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let (unit, zero) = (self.scalar(node, 1)?, self.zero(node, 2)?);
        let x = self.ints(node, 0, zero)?;
        if node.int("channels_last", 0) != 0 {
            return Err(Stop::new("channels come last", "export with channels first"));
        }
        let shape = self.builder.tensor(x.id).shape;
        let global = node.op() == "QLinearGlobalAveragePool";
        let window = if global {
            Window { kernel: [shape[1], shape[2]], ..Window::POINT }
        } else {
            self.average_window(node, shape, x.layout)?
        };
        let quantiser = self.onnx_quantiser(node, 3, 4)?;
        let element = self.element(node, 4)?;
        let input = Scale { id: x.id, unit, error: 0.0, quantised: Some((zero, x.element)) };
        let even = global || (window.padding == [0; 4] && node.int("ceil_mode", 0) == 0) || self.counts_padding(node);
        let id = if even {
            self.integer_average(node, input, &window, global, &quantiser, 0)?
        } else {
            let real = Real::tensor(input, shape[0], x.layout);
            match self.uneven_average(node, input, window, &real)? {
                Origin::Average { input, window, .. } => {
                    self.integer_average(node, input, &window, false, &quantiser, 0)?
                }
                source => self.integer_pieces(node, &source, (&quantiser, 0), |_| true)?.expect("pieces of averages"),
            }
        };
        Ok(Value::Ints(Ints { id, zero: quantiser.zero as i64, element, layout: x.layout }))
    }

    /// ONNX Runtime's averages of integers: of a whole image in integers, of windows in floats. Its integers are those of the file and `more`.
    pub(super) fn integer_average(
        &mut self,
        node: Node<'m>,
        input: Scale,
        window: &Window,
        global: bool,
        quantiser: &Quantiser,
        more: i64,
    ) -> Result<TensorId, Stop> {
        let zero = quantiser.zero as i64;
        if global {
            self.builder.report.rule(FUSED);
            let count = (window.kernel[0] * window.kernel[1]) as f32;
            let scale = input.unit / (quantiser.scale * count);
            let (lo, hi) = (quantiser.lo, quantiser.hi);
            let rule = |sum: i64| {
                let v = (sum as f32 * scale).round_ties_even() as i64;
                v.saturating_add(zero).clamp(lo, hi)
            };
            return Ok(self.builder.average(node.name(), input.id, *window, zero, rule)?);
        }
        self.builder.report.rule("ONNX Runtime: float32 average, half to even");
        let doubts = Doubts::default();
        let (count, unit) = ((window.kernel[0] * window.kernel[1]) as f32, input.unit);
        let most = f64::from(count) * self.builder.tensor(input.id).range.magnitude() as f64;
        let offset = offset_rule(quantiser);
        let rule = self.average_rule(input, window, offset.clone(), &doubts);
        // Sums that are floats are divided once.
        let whole = input.error == 0.0 && most * odd_factor(unit) < (1 << 24) as f64;
        // The zero point is added in floats too.
        let moved = offset_rule(&quantiser.moved(more));
        let unsure = quantiser.lo < 0 && self.becomes_one_quantiser(node);
        if !whole
            && !unsure
            && let Some(id) = self.average_of_chain(node, input, window, zero + more, &moved)?
        {
            return Ok(id);
        }
        let rule = |sum: i64| if whole { moved.index(0, sum as f32 * unit / count) - more } else { rule(sum) };
        let id = self.builder.average(node.name(), input.id, *window, zero, rule)?;
        let source = Origin::Average { input, window: *window, mean: Mean::Windows };
        self.measure(&Real { source, ..Real::tensor(input, 1, Layout::of_rank(4)) }, &offset, &doubts);
        self.settle_average(node, &doubts, count as usize, [unit, quantiser.scale])?;
        Ok(id)
    }

    /// ONNX Runtime's average of a window, as its chain of floats decides; `None` where that is not known, or no line has its rule.
    fn average_of_chain(
        &mut self,
        node: Node<'m>,
        input: Scale,
        window: &Window,
        zero: i64,
        quantiser: &Quantiser,
    ) -> Result<Option<TensorId>, Stop> {
        let (values, count) = (self.builder.window_values(input.id, window), window.kernel[0] * window.kernel[1]);
        let Some(chain) = Chain::of(input.unit, values, count, quantiser).filter(|_| input.error == 0.0) else {
            return Ok(None);
        };
        let rule = |sum: i64| chain.result(sum);
        let (name, place) = (node.name(), (input.id, *window));
        match chain.floats.clone() {
            None => Ok(Some(self.builder.average(name, input.id, *window, zero, rule)?)),
            Some(floats) => Ok(self.builder.average_by_floats(name, place, zero, rule, floats)?),
        }
    }

    /// True if what a quantiser makes is quantised again, with nothing in between but clips. Where these are left out, the runtime has one
    /// quantiser of the two, and what it makes may be of another type than this import finds, which decides whether the average is of integers.
    fn becomes_one_quantiser(&self, node: Node<'m>) -> bool {
        let mut after = self.graph.forth(node.output());
        after.next().is_some_and(|node| node.op() == "DequantizeLinear")
            && after.find(|node| !matches!(node.op(), "Relu" | "Clip")).is_some_and(|node| node.is_quantiser())
    }

    /// The average of values with this sum, quantised; in exact arithmetic where floats do not determine it.
    pub(super) fn average_rule<'d>(
        &self,
        input: Scale,
        window: &Window,
        quantiser: Quantiser,
        doubts: &'d Doubts,
    ) -> impl Fn(i64) -> i64 + use<'m, 'd> {
        let average = self.average_value(input, window);
        let ratio = f64::from(input.unit) / f64::from(quantiser.scale) / (window.kernel[0] * window.kernel[1]) as f64;
        move |sum| {
            let (q, off) = quantised(&quantiser, 0, average(sum));
            let exact = if off == 0 { None } else { quantiser.exactly(sum as f64 * ratio) };
            doubts.note((exact.unwrap_or(q), off))
        }
    }

    /// The average of values with this sum, as the runtime has it.
    pub(super) fn average_value(&self, input: Scale, window: &Window) -> impl Fn(i64) -> Near + use<'m> {
        let count = (window.kernel[0] * window.kernel[1]) as f64;
        let range = self.builder.tensor(input.id).range.with_zero();
        let most = count * range.magnitude() as f64;
        let unit = f64::from(input.unit);
        let whole = input.error == 0.0 && most * odd_factor(input.unit) < (1 << 24) as f64;
        let exact = whole && power_of_two(count as f32);
        // Each value is rounded once and each addition once, unless all sums are floats, and the division. Partial sums are at most
        // the sum where signs are equal.
        let roundings = if whole { 2.0 } else { count + 3.0 };
        let rounded = roundings * HALF_ULP * unit / count;
        let one_sign = range.lo == 0 || range.hi == 0;
        move |sum| {
            let sum = sum as f64;
            let largest = if one_sign { sum.abs() } else { most };
            let error = if exact { 0.0 } else { rounded * largest + input.error };
            Near { error, ..Near::rounded(sum * unit / count) }
        }
    }

    fn behind_max(&self, node: Node<'m>, layout: Layout) -> Result<Layout, Stop> {
        if node.op() == "ReduceMax" { self.reduced(node, layout) } else { Ok(layout) }
    }

    fn max_window(&self, node: Node<'m>, shape: Shape, layout: Layout) -> Result<Window, Stop> {
        if node.op() == "MaxPool" {
            return self.pool_window(node, shape, layout);
        }
        if layout.rank < 3 {
            return Err(Stop::new("a pool of what is no image", "networks have one or two spatial dimensions"));
        }
        Ok(Window { kernel: [shape[1], shape[2]], ..Window::POINT })
    }

    /// True if padding is part of an average.
    fn counts_padding(&self, node: Node<'m>) -> bool {
        node.int("count_include_pad", 0) != 0
    }

    fn average_window(&self, node: Node<'m>, shape: Shape, layout: Layout) -> Result<Window, Stop> {
        let window = self.pool_window(node, shape, layout)?;
        if self.counts_padding(node) && node.int("ceil_mode", 0) != 0 {
            return Err(Stop::new(
                "padding counts in windows that leave it",
                "do without ceil_mode or count_include_pad",
            ));
        }
        if window.dilation != [1, 1] {
            return Err(Stop::new("an average over a dilated window", "networks average over dense windows"));
        }
        Ok(window)
    }

    /// A pool's window. What `ceil_mode` adds is padding, where padding does not count.
    fn pool_window(&self, node: Node<'m>, shape: Shape, layout: Layout) -> Result<Window, Stop> {
        if layout.rank < 3 {
            return Err(Stop::new("a pool of what is no image", "networks have one or two spatial dimensions"));
        }
        if layout.pad != [0; 4] {
            return Err(Stop::new("it follows padding", "give the pool its own padding"));
        }
        Self::pool_window_of(node, shape)
    }

    /// The same of any graph.
    pub(super) fn pool_window_of(node: Node<'m>, shape: Shape) -> Result<Window, Stop> {
        let mut window = Self::window_of(node, node.pair("kernel_shape", 0)?, shape, [0; 4])?;
        if node.int("ceil_mode", 0) != 0 {
            for axis in 0..2 {
                let (extent, stride) = (window.extent()[axis], window.stride[axis]);
                let free = window.padded([shape[1], shape[2]])[axis].saturating_sub(extent);
                let missing = free.div_ceil(stride) * stride - free;
                // A window that begins in the padding at the end is left out.
                let start = free.div_ceil(stride) * stride;
                if missing > 0 && start < shape[1 + axis] + window.padding[axis] {
                    window.padding[axis + 2] += missing;
                }
            }
        }
        Ok(window)
    }
}
