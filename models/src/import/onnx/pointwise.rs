//! Functions of single elements, and sums of two tensors.

use std::rc::Rc;

use ndarray::Array4;

use super::doubts::Doubts;
use super::graph::Node;
use super::integers::Whole;
use super::joint::Join;
use super::moves::{Move, has_zeros};
use super::operators::Import;
use super::pairs::PairRule;
use super::quantiser::{Quantiser, Rule};
use super::real::{Float, Function, HALF_ULP, MAX_STEPS, Post, at, finite, odd_factor};
use super::stop::{Stop, behind_later};
use super::tensor::{Element, Values};
use super::value::{Ints, Later, Layout, Mean, Origin, Real, Scale, Value};
use super::walk::{Walk, then};
use crate::check::MAX_TERMS;
use crate::coding::End;
use crate::import::builder::{Sum, weight_width};
use crate::network::{TensorId, Term, Window};

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
        if let Some(value) = self.clip_at_end(node, &real, lo, hi) {
            return Ok(value);
        }
        let (lo, hi) = (lo.unwrap_or(f32::MIN), hi.unwrap_or(f32::MAX));
        if lo.is_nan() || hi.is_nan() || lo > hi {
            return Err(Stop::new("a clip to nothing", "the file is not consistent"));
        }
        let value = self.after(&real, Post::Clip(lo, hi))?;
        self.narrowed_by_steps(node, value)
    }

    /// Bounds of the file's only output: the client has them, unless they are zero for a quantised tensor, which the network clips.
    fn clip_at_end(
        &mut self,
        node: Node<'m>,
        real: &Rc<Real<'m>>,
        lo: Option<f32>,
        hi: Option<f32>,
    ) -> Option<Value<'m>> {
        let others = || self.graph.forth(node.output()).any(|next| matches!(next.op(), "ArgMax" | "TopK" | "Cast"));
        let affine = |step: &Post| {
            matches!(step, Post::Add(_) | Post::From(_) | Post::Mul(_) | Post::Div(_) | Post::Norm { .. })
        };
        let relu = lo == Some(0.0) && hi.is_none() && self.tensor(real).is_some();
        let finite = lo.is_none_or(f32::is_finite) && hi.is_none_or(f32::is_finite);
        let ordered = lo.zip(hi).is_none_or(|(lo, hi)| lo <= hi);
        let only = self.graph.outputs.len() == 1 && self.ends(node.output()) && !others();
        if relu || !(finite && ordered && only && real.post.iter().all(affine)) {
            return None;
        }
        self.behind.push(End::Clip { low: lo, high: hi });
        self.note(node, "the client clips: it gets the values before");
        Some(Value::Real(Rc::clone(real)))
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
        // Another order alone commutes with all that is alike on all elements.
        let pools = real.later.iter().any(|later| matches!(later, Later::MaxPool(_)));
        if pools && !post.rises() || !real.later.is_empty() && post.differs() || has_zeros(&real.later) {
            return Err(behind_later());
        }
        if real.layout.pad != [0; 4] {
            return Err(Stop::new("it follows padding", "only convolutions may follow padding"));
        }
        let many = |post: &Post| matches!(post, Post::Whole(steps) if steps.len() > MAX_STEPS);
        if real.post.len() >= MAX_STEPS || many(&post) {
            let reason = format!("more than {MAX_STEPS} functions in a row");
            return Err(Stop::new(reason, "quantise the values in between"));
        }
        Ok(then(real, post))
    }

    /// A constant operand with one number for each channel, or one.
    pub(super) fn channel_list(&self, node: Node<'m>, index: usize, real: &Real<'m>) -> Result<Vec<f32>, Stop> {
        let constant = self.constant(node, index)?;
        finite(&constant.to_floats())?;
        self.by_channel(&constant.to_floats(), &constant.shape, real).ok_or_else(|| match real.later[..] {
            [] => Stop::new("a constant that is not one number per channel", "export per-channel constants"),
            _ => behind_later(),
        })
    }

    /// The numbers of a constant operand that has integers, which its list has as floats.
    pub(super) fn integers(&self, node: Node<'m>, index: usize, list: &[f32]) -> Result<Option<Vec<i64>>, Stop> {
        let constant = self.constant(node, index)?;
        let Values::Int(values) = &constant.values else { return Ok(None) };
        Ok(Some(values.iter().copied().take(list.len()).collect()))
    }

    /// `Mul`, `Div` and `Sub` with a constant.
    pub(super) fn arithmetic(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let right = matches!(self.value(node, 1)?, Value::Constant(_) | Value::Scaled(_));
        let left = matches!(self.value(node, 0)?, Value::Constant(_) | Value::Scaled(_));
        if !right
            && !left
            && let Some(joined) = self.join_functions(node)?
        {
            return Ok(joined);
        }
        if !right && (!left || node.op() == "Div") {
            if node.op() == "Sub"
                && let Some(value) = self.difference(node)?
            {
                return Ok(value);
            }
            return Err(two_activations());
        }
        let real = self.real(node, if right { 0 } else { 1 })?;
        if let Some(value) = self.with_quantised(node, usize::from(right), &real) {
            return Ok(value);
        }
        let list = self.channel_list(node, usize::from(right), &real)?;
        if let Some(list) = self.integers(node, usize::from(right), &list)? {
            let step = match (node.op(), right) {
                ("Mul", _) => Whole::Mul(list),
                ("Div", _) => Whole::Div(list),
                (_, true) => Whole::Add(list.iter().map(|v| -v).collect()),
                (_, false) => Whole::From(list),
            };
            let value = self.after_whole(&real, step)?;
            // Differences and products of short or unsigned integers may be others.
            return match (self.constant(node, usize::from(right))?.element.wraps(), value) {
                (Some(bounds), Value::Real(real)) => self.within(&real, bounds),
                (_, value) => Ok(value),
            };
        }
        let post = match (node.op(), right) {
            ("Mul", _) => Post::Mul(list),
            ("Div", _) => Post::Div(list),
            (_, true) => Post::Add(list.iter().map(|v| -v).collect()),
            (_, false) => Post::From(list),
        };
        self.after(&real, post)
    }

    /// A difference of two quantised tensors: the sum of one and of the other with a negative unit, which ONNX Runtime has in floats.
    fn difference(&mut self, node: Node<'m>) -> Result<Option<Value<'m>>, Stop> {
        let (a, b) = (self.summand(node, 0)?, self.summand(node, 1)?);
        let alike = a.layout == b.layout && a.channels == b.channels && self.shape(&a)? == self.shape(&b)?;
        let (Some(x), Some(y), true) = (self.tensor(&a), self.tensor(&b), alike) else { return Ok(None) };
        let source = Origin::Pair(x, Scale { unit: -y.unit, quantised: None, ..y });
        let (channels, layout) = (a.channels, a.layout);
        Ok(Some(Value::Real(Rc::new(Real { source, post: vec![], later: vec![], channels, layout, fused: None }))))
    }

    /// Two functions of one tensor: a function of it.
    fn join_functions(&self, node: Node<'m>) -> Result<Option<Value<'m>>, Stop> {
        let (a, b) = (self.real(node, 0)?, self.real(node, 1)?);
        let by = match node.op() {
            "Mul" => Join::Mul,
            "Div" => Join::Div,
            "Sub" => Join::Sub,
            _ => Join::Add,
        };
        let plain = a.later.is_empty() && b.later.is_empty() && a.layout.pad == [0; 4];
        if a.layout != b.layout || !plain || depth(&a.post) + depth(&b.post) > MAX_STEPS {
            return Ok(None);
        }
        if let (Origin::Sum { sum: x, .. }, Origin::Sum { sum: y, .. }) = (&a.source, &b.source)
            && Rc::ptr_eq(x, y)
        {
            let post = vec![Post::Join { by, left: a.post.clone(), right: b.post.clone() }];
            return Ok(Some(Value::Real(Rc::new(Real { post, ..(*a).clone() }))));
        }
        let (&Origin::Tensor(x), &Origin::Tensor(y)) = (&a.source, &b.source) else { return Ok(None) };
        let function = |root: Scale, post: Post| {
            let real = Real { source: Origin::Tensor(root), post: vec![post], fused: None, ..(*a).clone() };
            Ok(Some(Value::Real(Rc::new(real))))
        };
        let bare = a.post.is_empty() && b.post.is_empty() && self.graph.leads_to_quantiser(node.output());
        if let Some((root, post)) = self.product_of_one(x, y).filter(|_| by == Join::Mul && bare) {
            return function(root, post);
        }
        if x == y {
            return function(x, Post::Join { by, left: a.post.clone(), right: b.post.clone() });
        }
        let Some((root, [left, right])) = self.functions_of_one(x, y) else { return Ok(None) };
        let behind = |first: Post, rest: &[Post]| [&[first], rest].concat();
        function(root, Post::Join { by, left: behind(left, &a.post), right: behind(right, &b.post) })
    }

    /// A constant along the last dimension of rows: these are turned, so that it has a number for each channel, and turned back.
    /// `None` where there is none.
    pub(super) fn along_rows(&mut self, node: Node<'m>, import: Import) -> Result<Option<Value<'m>>, Stop> {
        let second = match node.op() {
            "Add" | "Mul" | "Sub" | "Div" | "PRelu" => 1,
            "QLinearAdd" | "QLinearMul" => 3,
            _ => return Ok(None),
        };
        for (constant, other) in [(second, 0), (0, second)] {
            let Ok(numbers) = self.constant(node, constant) else { continue };
            let Some(name) = node.input(other) else { continue };
            let Some(value @ (Value::Real(_) | Value::Ints(_))) = self.values.get(name).cloned() else { continue };
            let dims = self.dims_of(&value)?;
            let Some((&channels, leading)) = numbers.shape.split_last() else { continue };
            let along = channels > 1 && leading.iter().all(|&size| size == 1) && leading.len() < dims.len();
            if !along || dims.len() < 3 || dims.last() != Some(&channels) {
                continue;
            }
            let rows = dims.iter().product::<usize>() / channels;
            let (turned, back) =
                (Move::turned(vec![1, channels, rows], rows, channels), Move::turned(dims, channels, rows));
            let by_rows = |real: &Real<'m>| match &real.later[..] {
                // What a matrix makes of rows is turned already; only a plain list becomes its bias.
                [Later::Select { axes, .. }] => **axes == back.axes && real.channels == channels && leading.is_empty(),
                _ => false,
            };
            // ONNX Runtime has a reshape behind the bias then: only a quantiser right behind is merged with them.
            let next = self.graph.reader(node.output()).map(|(_, next)| next.op());
            let merges = |real: &Real<'m>| real.fused.clone().filter(|_| next == Some("QuantizeLinear"));
            let mut bare = match &value {
                Value::Real(real) if by_rows(real) => {
                    Value::Real(Rc::new(Real { later: vec![], fused: merges(real), ..(**real).clone() }))
                }
                Value::Real(real) if real.plain().is_none() => continue,
                value => self.moved(node, value, &turned)?,
            };
            // As in a vector, there is a number for each element of a row.
            match &mut bare {
                Value::Real(real) => Rc::make_mut(real).layout = Layout::of_rank(2),
                Value::Ints(ints) => ints.layout = Layout::of_rank(2),
                _ => continue,
            }
            self.values.insert(name, bare);
            let made = import(self, node);
            self.values.insert(name, value);
            return self.moved(node, &made?, &back).map(Some);
        }
        Ok(None)
    }

    /// `Add`: of a constant, or of two tensors.
    pub(super) fn add(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        if node.proto.input.len() != 2 {
            return Err(Stop::new("a sum of other than two tensors", "add two at a time"));
        }
        for (constant, other) in [(1, 0), (0, 1)] {
            if matches!(self.value(node, constant)?, Value::Constant(_) | Value::Scaled(_)) {
                let real = self.real(node, other)?;
                if let Some(value) = self.with_quantised(node, constant, &real) {
                    return Ok(value);
                }
                let list = self.channel_list(node, constant, &real)?;
                if let Some(list) = self.integers(node, constant, &list)? {
                    return self.after_whole(&real, Whole::Add(list));
                }
                if let Some(merged) = self.with_bias(&real, node, &list) {
                    return Ok(merged);
                }
                return self.after(&real, Post::Add(list));
            }
        }
        let (a, b) = (self.summand(node, 0)?, self.summand(node, 1)?);
        if a.layout != b.layout || a.channels != b.channels || self.shape(&a)? != self.shape(&b)? {
            return Err(Stop::new("tensors of different shapes", "broadcasts are for constants only"));
        }
        if !(a.post.is_empty() && b.post.is_empty())
            && let Some(joined) = self.join_functions(node)?
        {
            return Ok(joined);
        }
        let real = |source, post| {
            let (channels, layout) = (a.channels, a.layout);
            Value::Real(Rc::new(Real { source, post, later: vec![], channels, layout, fused: None }))
        };
        if let (Some(x), Some(y)) = (self.tensor(&a), self.tensor(&b)) {
            return Ok(real(Origin::Pair(x, y), vec![]));
        }
        let fine = self.summands_of_functions(node, [&a, &b])?;
        let [a, b] = fine.map_or([a.clone(), b.clone()], |fine| fine.map(Rc::new));
        let either = |walk: &Self, near| walk.merged(&a, &b, near).or_else(|| walk.merged(&b, &a, near));
        let mut merged = either(self, false);
        if merged.is_none() && self.near {
            merged = either(self, true);
            if merged.is_some() {
                self.builder.twin.near_floats();
            }
        }
        let (source, post) = merged.ok_or_else(|| {
            let hint = "quantise both summands, or give them units that are multiples of each other";
            Stop::near("a sum of values that nothing has quantised", hint)
        })?;
        Ok(real(source, post))
    }

    /// A summand; max(unit x, 0) is a tensor times a unit.
    fn summand(&mut self, node: Node<'m>, index: usize) -> Result<Rc<Real<'m>>, Stop> {
        let real = self.real(node, index)?;
        match (&real.source, &real.post[..]) {
            (Origin::Tensor(_), [Post::Clip(0.0, hi)]) if *hi == f32::MAX && real.later.is_empty() => {
                let scale = self.plain(&real, node)?;
                Ok(Rc::new(Real { source: Origin::Tensor(scale), post: vec![], ..(*real).clone() }))
            }
            _ => Ok(real),
        }
    }

    /// A sum of products and a tensor, or two sums of products of one unit, as one sum; constants are added behind it. The tensor's unit
    /// is a multiple of the products' unit, or the sum is `near`.
    fn merged(&self, a: &Real<'m>, b: &Real<'m>, near: bool) -> Option<(Origin<'m>, Vec<Post>)> {
        let offsets = |real: &Real<'m>| real.later.is_empty() && real.post.iter().all(|p| matches!(p, Post::Add(_)));
        let Origin::Sum { sum, unit, float } = &a.source else { return None };
        if !offsets(a) {
            return None;
        }
        let (mut sum, mut unit, mut post) = ((**sum).clone(), (**unit).clone(), a.post.clone());
        let mut off = float.error.clone();
        match (&b.source, self.tensor(b)) {
            (_, Some(scale)) => match self.identity(scale, &unit) {
                Some(term) => sum.terms.push((term, None)),
                None if near => self.add_nearly(scale, &mut sum, &mut unit, &mut off)?,
                None => return None,
            },
            (Origin::Sum { sum: other, unit: units, float }, None) if offsets(b) && unit == **units => {
                sum.terms.extend(other.terms.clone());
                sum.bias.iter_mut().zip(&other.bias).for_each(|(sum, bias)| *sum = sum.saturating_add(*bias));
                off.iter_mut().zip(&float.error).for_each(|(off, error)| *off += error);
                post.extend(b.post.iter().cloned());
            }
            _ => return None,
        }
        // Sums of sums may double what there is.
        if sum.terms.len() > MAX_TERMS || post.len() > MAX_STEPS {
            return None;
        }
        let sum = self.limited(sum).ok()?;
        let odd = |u: f64| if u == f64::from(u as f32) { odd_factor(u as f32) } else { f64::INFINITY };
        // As many roundings as products at most, and a few.
        let products: usize = sum.weights().map(|array| array.len()).sum();
        let roundings = (products / sum.bias.len() + 8 + 2 * post.len()) as f64 * HALF_ULP;
        let error = |(channel, &magnitude): (usize, &f64)| {
            if post.is_empty() && off[channel] == 0.0 && magnitude * odd(unit[channel]) < (1 << 24) as f64 {
                return 0.0;
            }
            let offset =
                |step: &Post| if let Post::Add(list) = step { f64::from(at(list, channel)).abs() } else { 0.0 };
            let most = magnitude * unit[channel].abs() + post.iter().map(offset).sum::<f64>();
            roundings * most + off[channel]
        };
        let float = Float { error: self.magnitudes(&sum).iter().enumerate().map(error).collect(), whole: false };
        Some((Origin::Sum { unit: Rc::new(unit), float: Rc::new(float), sum: Rc::new(sum) }, post))
    }

    /// A tensor as a whole multiple of the same unit on all channels.
    fn identity(&self, scale: Scale, unit: &[f64]) -> Option<Term> {
        let ratio = f64::from(scale.unit) / unit[0];
        let whole = ratio.fract() == 0.0 && (1.0..=f64::from(1 << 20)).contains(&ratio);
        let same = unit.iter().all(|&u| u * ratio == f64::from(scale.unit));
        (whole && same && scale.error == 0.0).then_some(Term::Identity { input: scale.id, multiplier: ratio as i64 })
    }

    /// Adds a tensor of any unit: times one factor within 0.01 % where nothing has weights, else times one for each channel within 0.1 %
    /// where weights of 16 bits allow it. The unit becomes smaller; `off` is what the result may be off by.
    fn add_nearly(&self, scale: Scale, sum: &mut Sum, unit: &mut [f64], off: &mut [f64]) -> Option<()> {
        let ratios: Vec<f64> = unit.iter().map(|u| f64::from(scale.unit) / u).collect();
        let (least, most) = ratios.iter().fold((f64::INFINITY, 0.0f64), |(lo, hi), &r| (lo.min(r), hi.max(r)));
        if !(least > 0.0 && most < 32_000.0) {
            return None;
        }
        let alike = least == most && sum.weights().next().is_none();
        let (enough, bound) = if alike { (8192.0, f64::INFINITY) } else { (512.0, 32_000.0) };
        let largest = sum.weights().flatten().map(|&w| f64::from(w).abs()).fold(most, f64::max);
        let factor = (0..=if alike { 13 } else { 9 })
            .map(|k| 1 << k)
            .find(|&f| least * f64::from(f) >= enough || largest * f64::from(2 * f) >= bound)?;
        sum.multiply(&vec![factor.into(); unit.len()]).ok()?;
        let x = self.builder.tensor(scale.id);
        let mut row = Vec::with_capacity(unit.len());
        for ((unit, off), ratio) in unit.iter_mut().zip(off).zip(&ratios) {
            *unit /= f64::from(factor);
            let wanted = ratio * f64::from(factor);
            *off += scale.error + (wanted - wanted.round()).abs() * *unit * x.range.magnitude() as f64;
            row.push(wanted.round() as i32);
        }
        let input = scale.id;
        if alike {
            sum.terms.push((Term::Identity { input, multiplier: row[0].into() }, None));
            return Some(());
        }
        let channels = row.len();
        let array = Array4::from_shape_vec([channels, 1, 1, 1], row).ok()?;
        let weight_bits = weight_width(&array);
        let term = Term::Conv { input, out_channels: channels, groups: channels, window: Window::POINT, weight_bits };
        sum.terms.push((term, Some(array)));
        Some(())
    }

    pub(super) fn function(&mut self, node: Node<'m>, function: Function) -> Result<Value<'m>, Stop> {
        let real = self.real(node, 0)?;
        self.after(&real, Post::Function(function))
    }

    /// `PRelu` with constant slopes.
    pub(super) fn slopes(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let real = self.real(node, 0)?;
        let list = self.channel_list(node, 1, &real)?;
        self.after(&real, Post::Slopes(list))
    }

    /// `Pow` of 2, 3 or a half, which the runtime multiplies out.
    pub(super) fn power(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let real = self.real(node, 0)?;
        let square = Post::Join { by: Join::Mul, left: vec![], right: vec![] };
        let post = match self.scalar(node, 1)? {
            2.0 => square,
            3.0 => Post::Join { by: Join::Mul, left: vec![square], right: vec![] },
            0.5 => Post::Function(Function::Sqrt),
            power => return Err(Stop::new(format!("a power of {power}"), "use 2, 3 or a half")),
        };
        self.after(&real, post)
    }

    /// `QLinearSigmoid` and `QLinearLeakyRelu`: x, its scale and zero point, those of y.
    pub(super) fn qlinear_function(&mut self, node: Node<'m>, function: Function) -> Result<Value<'m>, Stop> {
        let (unit, zero) = (self.scalar(node, 1)?, self.zero(node, 2)?);
        let x = self.ints(node, 0, zero)?;
        let quantiser = self.onnx_quantiser(node, 3, 4)?;
        let element = self.element(node, 4)?;
        let scale = Scale { id: x.id, unit, error: 0.0, quantised: Some((zero, x.element)) };
        let mut real = Real::tensor(scale, self.builder.tensor(x.id).shape[0], x.layout);
        real.post.push(Post::Function(function));
        let id = self.quantise(node, &real, &quantiser)?;
        Ok(Value::Ints(Ints { id, zero: quantiser.zero as i64, element, layout: x.layout }))
    }

    /// `QLinearAdd`: a, its scale and zero point, b and its, those of the sum.
    pub(super) fn qlinear_add(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let constant = |index: usize| matches!(self.value(node, index), Ok(Value::Constant(_)));
        if (constant(0) || constant(3))
            && let Some(sum) = self.qlinear_both(node, Join::Add)?
        {
            return Ok(sum);
        }
        let operand = |walk: &Self, at: usize| -> Result<(Scale, Layout), Stop> {
            let (unit, zero) = (walk.scalar(node, at + 1)?, walk.zero(node, at + 2)?);
            let ints = walk.ints(node, at, zero)?;
            let scale = Scale { id: ints.id, unit, error: 0.0, quantised: Some((zero, ints.element)) };
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

    /// `QLinearMul`: a, its scale and zero point, b and its, those of the product.
    pub(super) fn qlinear_mul(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        self.qlinear_both(node, Join::Mul)?.ok_or_else(two_activations)
    }

    /// ONNX Runtime's `QLinearAdd` on x86 processors with AVX2: two fused multiply-adds, and one for the zero points, half to even. The
    /// result's zero point is larger by `by`.
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
        // The compiler has contracted one of these two products and their sum.
        let fixed = (quantiser.zero as i64 + by) as f32 - ra.mul_add(za as f32, rb * zb as f32);
        let (lo, hi) = (quantiser.lo, quantiser.hi);
        let inner = |xb: i64| ((xb + zb) as f32).mul_add(rb, fixed);
        let value = |_: usize, xa: i64, xb: i64| {
            let v = ((xa + za) as f32).mul_add(ra, inner(xb));
            ((v.round_ties_even() as i64 - by).clamp(lo, hi), 0)
        };
        let summands: [&dyn Fn(i64) -> f64; 2] = [&|x| (x + za) as f64 * f64::from(ra), &|x| inner(x).into()];
        let rule = PairRule { value: &value, channels: 1, summands, step: 1.0 };
        self.pair(node, a, b, quantiser, &Doubts::default(), &rule)
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
        let clips = match &real.post[..] {
            [Post::Both(_), clips @ ..] => clips,
            clips => clips,
        };
        let implied = super::fused::clips_are_implied(clips, quantiser, element);
        let beside = self.graph.merged_with(node).is_some_and(|made| {
            let operands = if made.op() == "AveragePool" { 1 } else { 2 };
            made.proto.input.iter().take(operands).all(|name| self.apart(name).is_none())
        });
        if !implied || !beside {
            return Ok(None);
        }
        let more = if becomes { 128 } else { 0 };
        let both = self.fused_both(node, real, quantiser, (own, more))?;
        let id = match &real.source {
            _ if both.is_some() => both,
            Origin::Pair(a, b) if typed(a) && typed(b) => Some(self.integer_add(node, *a, *b, quantiser, more)?),
            Origin::Average { input, window, mean } if typed(input) && *mean != Mean::Reduced => {
                Some(self.integer_average(node, *input, window, *mean == Mean::Global, quantiser, more)?)
            }
            source @ Origin::Pieces { .. } => self.integer_pieces(node, source, (quantiser, more), typed)?,
            _ => None,
        };
        id.map(|id| self.later(node, real, id)).transpose()
    }
}

/// Products of two activations are out of reach.
fn two_activations() -> Stop {
    let hint = "one operand must be constant, or a function of the other; gates and attention are no part of networks";
    Stop::new("both operands depend on the input", hint)
}

/// How many functions there are in a list, inner ones included.
fn depth(post: &[Post]) -> usize {
    let own = |step: &Post| if let Post::Join { left, right, .. } = step { depth(left) + depth(right) } else { 0 };
    post.iter().map(|step| 1 + own(step)).sum()
}

/// The rule of an average that ONNX Runtime has in integers: half to even of v / scale + zero, not of v / scale.
pub(super) fn offset_rule(quantiser: &Quantiser) -> Quantiser {
    Quantiser { rule: Rule::Qonnx(super::quantiser::Mode::HalfEven), ..quantiser.clone() }
}
