//! Functions of single elements, and sums of two tensors.

use std::rc::Rc;

use super::graph::Node;
use super::quantiser::{Quantiser, Rule, per_channel};
use super::real::{Float, Function, Post, power_of_two};
use super::requantise::Doubts;
use super::tensor::Element;
use super::value::{Ints, Layout, Real, Scale, Source, Stop, Value};
use super::walk::{Walk, then};
use crate::import::builder::{Obstacle, Sum};
use crate::network::{Range, TensorId, Term};
use crate::rescale::Steps;

impl<'m> Walk<'m> {
    /// `Relu` and `Clip`.
    pub(super) fn clip(&mut self, node: Node<'m>, lo: Option<f32>, hi: Option<f32>) -> Result<Value<'m>, Stop> {
        if let Value::Ints(ints) = *self.value(node, 0)? {
            if node.input(0).is_some_and(|name| self.clips.contains_key(name)) {
                return Ok(Value::Ints(ints));
            }
            let lo = lo.map_or(i64::MIN / 2, |lo| lo as i64);
            let hi = hi.map_or(i64::MAX / 2, |hi| hi as i64);
            if lo > hi {
                return Err(Stop::new("a clip to nothing", "the file is not consistent"));
            }
            let id = self.builder.apply(node.name(), ints.id, |x| (x + ints.zero).clamp(lo, hi) - ints.zero)?;
            return Ok(Value::Ints(Ints { id, ..ints }));
        }
        let real = self.real(node, 0)?;
        let (lo, hi) = (lo.unwrap_or(f32::MIN), hi.unwrap_or(f32::MAX));
        if lo.is_nan() || hi.is_nan() || lo > hi {
            return Err(Stop::new("a clip to nothing", "the file is not consistent"));
        }
        self.after(&real, Post::Clip(lo, hi))
    }

    pub(super) fn clip_node(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let (lo, hi) = self.clip_bounds(node)?;
        self.clip(node, lo, hi)
    }

    /// Bounds of a `Clip`: attributes up to version 6 of the operator, inputs since.
    pub(super) fn clip_bounds(&self, node: Node<'m>) -> Result<(Option<f32>, Option<f32>), Stop> {
        let bound = |name: &str, index: usize| -> Result<Option<f32>, Stop> {
            if node.has(name) {
                return Ok(Some(node.float(name, 0.0)));
            }
            node.input(index).map(|_| self.scalar(node, index)).transpose()
        };
        Ok((bound("min", 1)?, bound("max", 2)?))
    }

    /// A step behind everything that is done to `real`.
    pub(super) fn after(&self, real: &Real<'m>, post: Post) -> Result<Value<'m>, Stop> {
        if !real.later.is_empty() && (!post.rises() || post.differs()) {
            let hint = "quantise the values before the pool or the reshape";
            return Err(Stop::new("it follows a pool or a reshape of values that nothing has quantised", hint));
        }
        if real.layout.pad != [0; 4] {
            return Err(Stop::new("it follows padding", "only convolutions may follow padding"));
        }
        Ok(then(real, post))
    }

    /// A constant operand with one number for each channel, or one.
    fn channel_list(&self, node: Node<'m>, index: usize, real: &Real<'m>) -> Result<Vec<f32>, Stop> {
        let constant = self.constant(node, index)?;
        let shape = &constant.shape;
        // Trailing dimensions are spatial on images.
        let spatial = if real.layout.rank == 4 { 2 } else { 0 };
        let flat = shape.iter().rev().take(spatial).all(|&size| size == 1);
        let channel = shape.iter().rev().nth(spatial).copied().unwrap_or(1);
        let list = per_channel(&constant.to_floats(), real.channels);
        match list {
            Some(list) if list.len() == 1 || (flat && channel == real.channels) => Ok(list),
            _ => Err(Stop::new("a constant that is not one number per channel", "export per-channel constants")),
        }
    }

    /// `Mul`, `Div` and `Sub` with a constant.
    pub(super) fn arithmetic(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let right = matches!(self.value(node, 1)?, Value::Constant(_) | Value::Scaled(_));
        let left = matches!(self.value(node, 0)?, Value::Constant(_) | Value::Scaled(_));
        if !right && (!left || node.op() == "Div") {
            let hint = "one operand must be constant; gates and attention are no part of networks";
            return Err(Stop::new("both operands depend on the input", hint));
        }
        let real = self.real(node, if right { 0 } else { 1 })?;
        let list = self.channel_list(node, if right { 1 } else { 0 }, &real)?;
        let post = match (node.op(), right) {
            ("Mul", _) => Post::Mul(list),
            ("Div", _) => Post::Div(list),
            (_, true) => Post::Add(list.iter().map(|v| -v).collect()),
            (_, false) => Post::From(list),
        };
        self.after(&real, post)
    }

    /// `Add`: of a constant, or of two tensors.
    pub(super) fn add(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        if node.proto.input.len() != 2 {
            return Err(Stop::new("a sum of other than two tensors", "add two at a time"));
        }
        for (constant, other) in [(1, 0), (0, 1)] {
            if matches!(self.value(node, constant)?, Value::Constant(_) | Value::Scaled(_)) {
                let real = self.real(node, other)?;
                let list = self.channel_list(node, constant, &real)?;
                if let Some(merged) = self.with_bias(&real, node, &list) {
                    return Ok(merged);
                }
                return self.after(&real, Post::Add(list));
            }
        }
        let (a, b) = (self.real(node, 0)?, self.real(node, 1)?);
        if a.layout != b.layout || a.channels != b.channels || self.shape(&a)? != self.shape(&b)? {
            return Err(Stop::new("tensors of different shapes", "broadcasts are for constants only"));
        }
        let real =
            |source| Real { source, post: vec![], later: vec![], channels: a.channels, layout: a.layout, fused: None };
        if let (Some(x), Some(y)) = (a.plain(), b.plain()) {
            return Ok(Value::Real(Rc::new(real(Source::Pair(x, y)))));
        }
        let merged = self.merged(&a, &b).or_else(|| self.merged(&b, &a));
        let source = merged.ok_or_else(|| {
            let hint = "quantise both summands, or give them units that are multiples of each other";
            Stop::new("a sum of values that nothing has quantised", hint)
        })?;
        Ok(Value::Real(Rc::new(real(source))))
    }

    /// A sum of products and a tensor whose unit is a multiple of the products' unit, as one sum.
    fn merged(&self, a: &Real<'m>, b: &Real<'m>) -> Option<Source<'m>> {
        let (Source::Sum { sum, unit, .. }, true) = (&a.source, a.post.is_empty() && a.later.is_empty()) else {
            return None;
        };
        let mut sum = sum.clone();
        let (terms, bias) = match (&b.source, b.plain()) {
            (_, Some(scale)) => {
                let ratio = f64::from(scale.unit) / unit[0];
                let whole = ratio.fract() == 0.0 && (1.0..=(1 << 20) as f64).contains(&ratio);
                if !whole || unit.iter().any(|&u| u * ratio != f64::from(scale.unit)) || !scale.exact {
                    return None;
                }
                let term = Term::Identity { input: scale.id, multiplier: ratio as i64 };
                (vec![(term, None)], vec![0; a.channels])
            }
            (Source::Sum { sum: other, unit: units, .. }, None) if b.post.is_empty() && b.later.is_empty() => {
                if unit != units {
                    return None;
                }
                (other.terms.clone(), other.bias.clone())
            }
            _ => return None,
        };
        sum.terms.extend(terms);
        sum.bias.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
        let magnitude = self.magnitudes(&sum);
        let exact = unit.iter().all(|&u| power_of_two(u as f32) && u == f64::from(u as f32));
        let error = |(channel, &magnitude): (usize, &f64)| {
            if exact && magnitude < (1 << 24) as f64 {
                0.0
            } else {
                // As many roundings as products at most, and a few.
                let products = sum.terms.iter().filter_map(|(_, array)| array.as_ref()).map(|array| array.len());
                let products = products.sum::<usize>() / sum.bias.len() + 8;
                products as f64 / (1 << 24) as f64 * magnitude * unit[channel].abs()
            }
        };
        let float = Float { error: magnitude.iter().enumerate().map(error).collect() };
        Some(Source::Sum { unit: unit.clone(), float, sum })
    }

    pub(super) fn function(&mut self, node: Node<'m>, function: Function) -> Result<Value<'m>, Stop> {
        let real = self.real(node, 0)?;
        self.after(&real, Post::Function(function))
    }

    /// `QLinearSigmoid` and `QLinearLeakyRelu`: x, its scale and zero point, those of y.
    pub(super) fn qlinear_function(&mut self, node: Node<'m>, function: Function) -> Result<Value<'m>, Stop> {
        let (unit, zero) = (self.scalar(node, 1)?, self.zero(node, 2)?);
        let x = self.ints(node, 0, zero)?;
        let quantiser = self.onnx_quantiser(node, 3, 4)?;
        let element = self.element(node, 4)?;
        let scale = Scale { id: x.id, unit, exact: true, quantised: Some((zero, x.element)) };
        let mut real = Real::tensor(scale, self.builder.tensor(x.id).shape[0], x.layout);
        real.post.push(Post::Function(function));
        let id = self.quantise(node, &real, &quantiser)?;
        Ok(Value::Ints(Ints { id, zero: quantiser.zero as i64, element, layout: x.layout }))
    }

    /// `QLinearAdd`: a, its scale and zero point, b and its, those of the sum.
    pub(super) fn qlinear_add(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let operand = |walk: &Self, at: usize| -> Result<(Scale, Layout), Stop> {
            let (unit, zero) = (walk.scalar(node, at + 1)?, walk.zero(node, at + 2)?);
            let ints = walk.ints(node, at, zero)?;
            let scale = Scale { id: ints.id, unit, exact: true, quantised: Some((zero, ints.element)) };
            Ok((scale, ints.layout))
        };
        let ((a, layout), (b, other)) = (operand(self, 0)?, operand(self, 3)?);
        if layout != other || self.builder.tensor(a.id).shape != self.builder.tensor(b.id).shape {
            return Err(Stop::new("tensors of different shapes", "broadcasts are for constants only"));
        }
        let quantiser = self.onnx_quantiser(node, 6, 7)?;
        let element = self.element(node, 7)?;
        let id = self.integer_add(node, a, b, &quantiser, 0)?;
        Ok(Value::Ints(Ints { id, zero: quantiser.zero as i64, element, layout }))
    }

    /// ONNX Runtime's `QLinearAdd` on x86 processors with AVX2: two fused multiply-adds, half to even. The result's zero point is
    /// larger by `by`.
    fn integer_add(
        &mut self,
        node: Node<'m>,
        a: Scale,
        b: Scale,
        quantiser: &Quantiser,
        by: i64,
    ) -> Result<TensorId, Stop> {
        let rule_name = "ONNX Runtime QLinearAdd on x86 with AVX2: float32 fused multiply-adds, half to even";
        self.builder.report.rule(rule_name);
        let zero = |scale: &Scale| scale.quantised.map_or(0, |(zero, _)| zero);
        let (za, zb) = (zero(&a), zero(&b));
        let (ra, rb) = (a.unit / quantiser.scale, b.unit / quantiser.scale);
        let fixed = (quantiser.zero as i64 + by) as f32 - (ra * za as f32 + rb * zb as f32);
        let (lo, hi) = (quantiser.lo, quantiser.hi);
        let rule = |xa: i64, xb: i64| {
            let (qa, qb) = ((xa + za) as f32, (xb + zb) as f32);
            let v = qa.mul_add(ra, qb.mul_add(rb, fixed));
            ((v.round_ties_even() as i64 - by).clamp(lo, hi), true)
        };
        self.pair(node, a, b, quantiser, &Doubts::default(), rule)
    }

    /// ONNX Runtime's integer operations for a sum or an average between two quantised tensors of one type.
    pub(super) fn fused_other(
        &mut self,
        node: Node<'m>,
        real: &Real<'m>,
        quantiser: &Quantiser,
        element: Element,
    ) -> Result<Option<TensorId>, Stop> {
        let becomes = self.becomes_unsigned(node.output(), element);
        let own = if becomes { Element::UINT8 } else { element };
        let typed = |scale: &Scale| own.small().is_some() && scale.quantised.is_some_and(|(_, other)| other == own);
        let implied = match &real.post[..] {
            [] => true,
            [Post::Clip(lo, hi)] => super::requantise::clip_is_implied(*lo, *hi, quantiser, element),
            _ => false,
        };
        let alone = node.input(0).is_some_and(|name| self.graph.reader(name).is_some());
        if !implied || !alone || !real.later.is_empty() {
            return Ok(None);
        }
        match &real.source {
            Source::Pair(a, b) if typed(a) && typed(b) => {
                let by = if becomes { 128 } else { 0 };
                self.integer_add(node, *a, *b, quantiser, by).map(Some)
            }
            Source::Average { input, window, global } if typed(input) => {
                self.integer_average(node, *input, window, *global, quantiser).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// rule(xa, xb), for every pair: z = M_a xa + M_b xb + bias, shifted.
    pub(super) fn pair(
        &mut self,
        node: Node<'m>,
        a: Scale,
        b: Scale,
        quantiser: &Quantiser,
        doubts: &Doubts,
        rule: impl Fn(i64, i64) -> (i64, bool),
    ) -> Result<TensorId, Stop> {
        let (ra, rb) = (self.builder.tensor(a.id).range, self.builder.tensor(b.id).range);
        // Ranges of joined tensors are a little larger than 8 bits.
        if ra.count() > 1024 || rb.count() > 1024 {
            return Err(Stop::new("a sum of values of more than 8 bits", "quantise both summands to at most 8 bits"));
        }
        let channels = self.builder.tensor(a.id).shape[0];
        let table = Pairs::of(ra, rb, |xa, xb| doubts.note(rule(xa, xb)));
        let slopes = [a.unit, b.unit].map(|unit| f64::from(unit) / f64::from(quantiser.scale));
        let name = node.name();
        let sum = |ma: i64, mb: i64, bias: i64| Sum {
            terms: vec![
                (Term::Identity { input: a.id, multiplier: ma }, None),
                (Term::Identity { input: b.id, multiplier: mb }, None),
            ],
            bias: vec![bias; channels],
        };
        // z >> shift is the value, for the smallest shift that has such multipliers.
        if let Some(line) = table.line(slopes) {
            let (shift, least) = (line.shift, table.lo);
            let rule = |_: usize, z: i64| (z >> shift).clamp(least, table.hi);
            let id = self.requantise_sum(name, sum(line.ma, line.mb, line.bias), quantiser, rule)?;
            return Ok(id);
        }
        // Halves that are rounded to even: a function of the multiplied sum, but no line.
        if let Some((ma, mb, steps)) = table.steps(slopes) {
            let wanted = |_: usize, z: i64| steps.value(z.clamp(steps.domain.lo, steps.domain.hi)) + table.lo;
            match self.requantise_sum(name, sum(ma, mb, 0), quantiser, wanted) {
                Err(Stop::Obstacle(Obstacle::NoFit { .. })) => {}
                done => return done,
            }
        }
        // Even and odd steps, with multipliers of their own.
        let halves = table.halves();
        if let [Some(even), Some(odd)] = halves.each_ref().map(|half| half.line(slopes.map(|slope| slope / 2.0))) {
            let mut terms = Vec::new();
            for (line, half) in [even, odd].into_iter().zip(&halves) {
                let (shift, top) = (line.shift, half.hi);
                let rule = |_: usize, z: i64| (z >> shift).clamp(0, top);
                let id = self.builder.requantise(&format!("{name}/half"), sum(line.ma, line.mb, line.bias), 0, rule)?;
                terms.push((Term::Identity { input: id, multiplier: 1 }, None));
            }
            let sum = Sum { terms, bias: vec![0; channels] };
            return self.requantise_sum(name, sum, quantiser, |_, z| (z + table.lo).min(table.hi));
        }
        if !self.options.approximate {
            let reason = "no multipliers, offset and shift equal its rounding for all pairs of values";
            return Err(Stop::new(reason, "accept sums that differ by one for a few pairs (approximate)"));
        }
        let (line, wrong) = table.nearest(slopes);
        let pairs = ra.count() * rb.count();
        self.builder.report.note(format!("@: {wrong} of {pairs} pairs of summands give a sum that differs from the runtime's: results may differ by one"));
        let (shift, least, hi) = (line.shift, table.lo, table.hi);
        let rule = |_: usize, z: i64| (z >> shift).clamp(least, hi);
        self.requantise_sum(name, sum(line.ma, line.mb, line.bias), quantiser, rule)
    }
}

/// (ma xa + mb xb + bias) >> shift.
#[derive(Clone, Copy, Debug)]
struct Line {
    ma: i64,
    mb: i64,
    bias: i64,
    shift: u32,
}

/// A function of two integers.
struct Pairs {
    a: Range,
    b: Range,
    /// By xa, then xb.
    values: Vec<i64>,
    lo: i64,
    hi: i64,
}

impl Pairs {
    fn of(a: Range, b: Range, rule: impl Fn(i64, i64) -> i64) -> Pairs {
        let values: Vec<i64> =
            (a.lo..=a.hi).flat_map(|xa| (b.lo..=b.hi).map(move |xb| (xa, xb))).map(|(x, y)| rule(x, y)).collect();
        let (lo, hi) = (values.iter().min().copied().unwrap_or(0), values.iter().max().copied().unwrap_or(0));
        Pairs { a, b, values, lo, hi }
    }

    /// Two functions whose sum is this one less its least value: the steps in turn.
    fn halves(&self) -> [Pairs; 2] {
        [1, 0].map(|by| {
            let values: Vec<i64> = self.values.iter().map(|value| (value - self.lo + by) / 2).collect();
            Pairs { a: self.a, b: self.b, values, lo: 0, hi: (self.hi - self.lo + by) / 2 }
        })
    }

    /// Least and largest ma xa + mb xb among the pairs with each value.
    fn extremes(&self, ma: i64, mb: i64) -> Vec<(i64, i64)> {
        let mut ends = vec![(i64::MAX, i64::MIN); (self.hi - self.lo + 1) as usize];
        let mut values = self.values.iter();
        for xa in self.a.lo..=self.a.hi {
            let mut sum = ma * xa + mb * self.b.lo;
            for value in values.by_ref().take(self.b.count() as usize) {
                let end = &mut ends[(value - self.lo) as usize];
                *end = (end.0.min(sum), end.1.max(sum));
                sum += mb;
            }
        }
        ends
    }

    /// For each k above the least value: the largest sum below it, and the least sum that reaches it.
    fn gaps(&self, ma: i64, mb: i64) -> Vec<(i64, i64)> {
        let ends = self.extremes(ma, mb);
        let below = ends.iter().scan(i64::MIN, |most, end| {
            *most = (*most).max(end.1);
            Some(*most)
        });
        let mut above: Vec<i64> = ends
            .iter()
            .rev()
            .scan(i64::MAX, |least, end| {
                *least = (*least).min(end.0);
                Some(*least)
            })
            .collect();
        above.reverse();
        below.zip(above.into_iter().skip(1)).collect()
    }

    /// Multipliers near slope * 2^shift, the nearest first; not 0.
    fn candidates(slopes: [f64; 2], shift: u32) -> Vec<(i64, i64)> {
        let near = |slope: f64| {
            let m = (slope * f64::from(shift).exp2()).round() as i64;
            [m, m - 1, m + 1]
        };
        let (all_a, all_b) = (near(slopes[0]), near(slopes[1]));
        let pairs = all_a.iter().flat_map(|&ma| all_b.iter().map(move |&mb| (ma, mb)));
        pairs.filter(|&(ma, mb)| ma > 0 && mb > 0 && ma < 1 << 30 && mb < 1 << 30).collect()
    }

    /// A line that equals the function everywhere, but for clamping.
    fn line(&self, slopes: [f64; 2]) -> Option<Line> {
        (0..=22).find_map(|shift| {
            Pairs::candidates(slopes, shift).into_iter().find_map(|(ma, mb)| {
                let gaps = self.gaps(ma, mb);
                let bound = |k: usize| (self.lo + 1 + k as i64) << shift;
                let least = gaps.iter().enumerate().map(|(k, gap)| bound(k) - gap.1).max().unwrap_or(0);
                let most = gaps.iter().enumerate().map(|(k, gap)| bound(k) - gap.0 - 1).min().unwrap_or(0);
                (least <= most).then(|| Line { ma, mb, bias: least + (most - least) / 2, shift })
            })
        })
    }

    /// Multipliers such that the function is one of the multiplied sum, and its steps above the least value.
    fn steps(&self, slopes: [f64; 2]) -> Option<(i64, i64, Steps)> {
        (0..=22).find_map(|shift| {
            Pairs::candidates(slopes, shift).into_iter().find_map(|(ma, mb)| {
                let gaps = self.gaps(ma, mb);
                let domain = Range { lo: ma * self.a.lo + mb * self.b.lo, hi: ma * self.a.hi + mb * self.b.hi };
                let rises = gaps.iter().all(|gap| gap.0 < gap.1);
                let thresholds = gaps.iter().map(|gap| gap.1).collect();
                rises.then_some((ma, mb, Steps { domain, first: 0, thresholds }))
            })
        })
    }

    /// The line of the largest shift, with the offset in the middle, and how many pairs it gets wrong.
    fn nearest(&self, slopes: [f64; 2]) -> (Line, usize) {
        let shift = 20;
        let [ma, mb] = slopes.map(|slope| ((slope * f64::from(shift).exp2()).round() as i64).clamp(1, 1 << 29));
        let gaps = self.gaps(ma, mb);
        let middle =
            |(k, gap): (usize, &(i64, i64))| ((self.lo + 1 + k as i64) << shift) - (gap.0.saturating_add(gap.1)) / 2;
        let mut middles: Vec<i64> = gaps.iter().enumerate().map(middle).collect();
        middles.sort_unstable();
        let line = Line { ma, mb, bias: middles.get(middles.len() / 2).copied().unwrap_or(0), shift };
        let pairs = (self.a.lo..=self.a.hi).flat_map(|xa| (self.b.lo..=self.b.hi).map(move |xb| (xa, xb)));
        let value = |(xa, xb): (i64, i64)| ((ma * xa + mb * xb + line.bias) >> shift).clamp(self.lo, self.hi);
        let wrong = pairs.zip(&self.values).filter(|(pair, wanted)| value(*pair) != **wanted).count();
        (line, wrong)
    }
}

/// The rule of an average that ONNX Runtime has in integers: half to even of v / scale + zero, not of v / scale.
pub(super) fn offset_rule(quantiser: &Quantiser) -> Quantiser {
    Quantiser { rule: Rule::Qonnx(super::quantiser::Mode::HalfEven), ..quantiser.clone() }
}
