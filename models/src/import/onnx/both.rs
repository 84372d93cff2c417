//! Products and sums of two quantised tensors that follow from one, or of one and a constant: functions of that tensor.
//!
//! x sigmoid(x) with a quantised sigmoid is such a product: all of it is a function of x, one table. ONNX Runtime has both operations in
//! integers between operands and a result of one type, with a rounding of its own; elsewhere it multiplies and adds floats.

use std::rc::Rc;

use super::graph::Node;
use super::joint::{Both, Integers, Join, Operand, Reals};
use super::quantiser::{Quantiser, per_channel};
use super::real::Post;
use super::stop::Stop;
use super::tensor::Element;
use super::value::{Derived, Ints, Origin, Real, Scale, Value};
use super::walk::Walk;
use crate::import::builder::Sum;
use crate::network::TensorId;

impl<'m> Walk<'m> {
    /// Keeps what a tensor follows from, by its values from the least on.
    pub(super) fn follows(&mut self, id: TensorId, from: TensorId, values: Vec<i64>) {
        if id != from {
            self.derived.entry(id).or_insert(Derived { from, values: Rc::new(values) });
        }
    }

    /// The tensors that one follows from, itself first, and its values by theirs.
    fn ancestors(&self, id: TensorId) -> Vec<(TensorId, Rc<Vec<i64>>)> {
        let range = self.builder.tensor(id).range;
        let mut all = vec![(id, Rc::new((range.lo..=range.hi).collect::<Vec<_>>()))];
        let mut last = id;
        while let Some(Derived { from, values }) = self.derived.get(&last) {
            let (lo, of) = (self.builder.tensor(last).range.lo, Rc::clone(&all[all.len() - 1].1));
            let through: Option<Vec<i64>> =
                values.iter().map(|x| of.get(usize::try_from(x - lo).ok()?).copied()).collect();
            let Some(through) = through else { break };
            all.push((*from, Rc::new(through)));
            last = *from;
        }
        all
    }

    /// The nearest tensor that both follow from, and their values by its.
    pub(super) fn common(&self, a: TensorId, b: TensorId) -> Option<(TensorId, [Rc<Vec<i64>>; 2])> {
        if [a, b].iter().any(|&id| self.builder.tensor(id).range.count() > 1024) {
            return None;
        }
        let of_b = self.ancestors(b);
        self.ancestors(a).into_iter().find_map(|(id, values)| {
            let (_, others) = of_b.iter().find(|(other, _)| *other == id)?;
            Some((id, [values, Rc::clone(others)]))
        })
    }

    /// Two quantised tensors that follow from one as real functions of it: that, and what makes each of them. `None` if they do not.
    pub(super) fn functions_of_one(&self, a: Scale, b: Scale) -> Option<(Scale, [Post; 2])> {
        if a.error != 0.0 || b.error != 0.0 || a.id == b.id {
            return None;
        }
        let (id, values) = self.common(a.id, b.id)?;
        let root = Scale { id, unit: 1.0, error: 0.0, quantised: None };
        let lo = self.builder.tensor(id).range.lo;
        let reals = |values: &[i64], unit: f32| {
            let values = values.iter().map(|&x| x as f32 * unit).collect();
            Post::Reals(Rc::new(Reals { lo, values }))
        };
        Some((root, [reals(&values[0], a.unit), reals(&values[1], b.unit)]))
    }

    /// A product of two quantised tensors that follow from one, in front of a quantiser: integers may decide it.
    pub(super) fn product_of_one(&self, a: Scale, b: Scale) -> Option<(Scale, Post)> {
        let ((za, ea), (zb, eb)) = (a.quantised?, b.quantised?);
        let (id, [va, vb]) = self.common(a.id, b.id)?;
        let operand = |x, unit, zero, element| Operand { x: Integers::Values(x), unit, zero, element };
        let operands = [operand(va, a.unit, za, ea), operand(vb, b.unit, zb, eb)];
        let lo = self.builder.tensor(id).range.lo;
        let root = Scale { id, unit: 1.0, error: 0.0, quantised: None };
        (a.error == 0.0 && b.error == 0.0)
            .then(|| (root, Post::Both(Rc::new(Both { by: Join::Mul, operands, unit: 1.0, lo }))))
    }

    /// A product or a sum of a quantised tensor and a quantised constant, input `constant` of the node, in front of a quantiser.
    pub(super) fn with_quantised(&self, node: Node<'m>, constant: usize, real: &Real<'m>) -> Option<Value<'m>> {
        let by = match node.op() {
            "Mul" => Join::Mul,
            "Add" => Join::Add,
            _ => return None,
        };
        let scale = real.plain().filter(|scale| scale.error == 0.0 && self.graph.leads_to_quantiser(node.output()))?;
        let Value::Scaled(scaled) = self.value(node, constant).ok()? else { return None };
        let maker = self.graph.maker(node.input(constant)?).filter(|maker| maker.op() == "DequantizeLinear")?;
        let ((zero, element), range) = (scale.quantised?, self.builder.tensor(scale.id).range);
        let list = self.by_channel(&scaled.ints, &scaled.shape, real)?;
        let &[unit] = &scaled.scale[..] else { return None };
        let number =
            Operand { x: Integers::Channels(list), unit, zero: self.zero(maker, 2).ok()?, element: scaled.element? };
        let x = Integers::Values(Rc::new((range.lo..=range.hi).collect()));
        let x = Operand { x, unit: scale.unit, zero, element };
        let operands = if constant == 0 { [number, x] } else { [x, number] };
        let both = Both { by, operands, unit: scale.unit, lo: range.lo }.ordered(real.layout.rank);
        let real = Real { post: vec![Post::Both(Rc::new(both))], ..real.clone() };
        Some(Value::Real(Rc::new(real)))
    }

    /// A constant that has one number, or one for each channel of `real`.
    pub(super) fn by_channel<T: Copy + PartialEq>(
        &self,
        values: &[T],
        shape: &[usize],
        real: &Real<'m>,
    ) -> Option<Vec<T>> {
        // Trailing dimensions are spatial on images.
        let spatial = real.layout.rank.saturating_sub(2);
        let flat = shape.iter().rev().take(spatial).all(|&size| size == 1);
        let channel = shape.iter().rev().nth(spatial).copied().unwrap_or(1);
        let list = per_channel(values, real.channels)?;
        (list.len() == 1 || flat && channel == real.channels).then_some(list)
    }

    /// `QLinearMul`, and `QLinearAdd` of a constant: a, its scale and zero point, b and its, those of the result. `None` where the operands
    /// have nothing to do with each other.
    pub(super) fn qlinear_both(&mut self, node: Node<'m>, by: Join) -> Result<Option<Value<'m>>, Stop> {
        let constants = [0, 3].map(|index| self.value(node, index).ok().and_then(Value::constant));
        let side =
            |walk: &Self, index: usize| Ok::<_, Stop>((walk.scalar(node, index + 1)?, walk.zero(node, index + 2)?));
        let ((ua, za), (ub, zb)) = (side(self, 0)?, side(self, 3)?);
        let quantiser = self.onnx_quantiser(node, 6, 7)?;
        let element = self.element(node, 7)?;
        let (ints, x, fixed) = match &constants {
            [None, None] => {
                let (a, b) = (self.ints(node, 0, za)?, self.ints(node, 3, zb)?);
                let Some((id, values)) = self.common(a.id, b.id).filter(|_| a.layout == b.layout) else {
                    return Ok(None);
                };
                (Ints { id, ..a }, values.map(Integers::Values), false)
            }
            [constant, None] | [None, constant] => {
                let first = constants[0].is_some();
                let ints = self.ints(node, if first { 3 } else { 0 }, if first { zb } else { za })?;
                let range = self.builder.tensor(ints.id).range;
                let real = Real::tensor(
                    Scale { id: ints.id, unit: 1.0, error: 0.0, quantised: None },
                    self.builder.tensor(ints.id).shape[0],
                    ints.layout,
                );
                let zero = if first { za } else { zb };
                let list = constant.as_ref().and_then(|constant| {
                    let whole: Vec<i64> = constant.to_ints()?.iter().map(|q| q - zero).collect();
                    self.by_channel(&whole, &constant.shape, &real)
                });
                let wrong =
                    || Stop::new("a constant that is not one number per channel", "export per-channel constants");
                let list = Integers::Channels(list.ok_or_else(wrong)?);
                let values = Integers::Values(Rc::new((range.lo..=range.hi).collect()));
                (ints, if first { [list, values] } else { [values, list] }, true)
            }
            _ => return Err(Stop::new("all its inputs are constant", "fold constants before the export")),
        };
        let [xa, xb] = x;
        let operands = [Operand { x: xa, unit: ua, zero: za, element }, Operand { x: xb, unit: ub, zero: zb, element }];
        let both = Both { by, operands, unit: 1.0, lo: self.builder.tensor(ints.id).range.lo };
        let both = if fixed { both.ordered(ints.layout.rank) } else { both };
        let id = self.integer_both(node, ints.id, &both, &quantiser, 0)?;
        Ok(Some(Value::Ints(Ints { id, zero: quantiser.zero as i64, element, layout: ints.layout })))
    }

    /// What the runtime has in integers for an operation on two operands and the quantiser behind it; `None` where it has floats.
    pub(super) fn fused_both(
        &mut self,
        node: Node<'m>,
        real: &Real<'m>,
        quantiser: &Quantiser,
        (own, more): (Element, i64),
    ) -> Result<Option<TensorId>, Stop> {
        let (Origin::Tensor(root), [Post::Both(both), ..]) = (&real.source, &real.post[..]) else { return Ok(None) };
        let typed = own.is_byte() && both.operands.iter().all(|operand| operand.element == own);
        if typed { self.integer_both(node, root.id, both, quantiser, more).map(Some) } else { Ok(None) }
    }

    fn integer_both(
        &mut self,
        node: Node<'m>,
        from: TensorId,
        both: &Both,
        quantiser: &Quantiser,
        more: i64,
    ) -> Result<TensorId, Stop> {
        let name = if both.by == Join::Mul { "QLinearMul" } else { "QLinearAdd" };
        self.builder.report.rule(&format!("ONNX Runtime {name} on x86 with AVX2: float32, half to even"));
        let range = self.builder.tensor(from).range;
        let rule = |channel: usize, x: i64| both.integer(quantiser, more, channel, (x - range.lo) as usize);
        if both.differs() || range.count() > 256 {
            let sum = Sum::identity(from, self.builder.tensor(from).shape[0]);
            return self.requantise_sum(node.name(), sum, quantiser, rule);
        }
        let zero = quantiser.zero as i64;
        let values = (range.lo..=range.hi).map(|x| rule(0, x) - zero).collect();
        let id = self.builder.apply(node.name(), from, |x| rule(0, x) - zero)?;
        self.follows(id, from, values);
        Ok(id)
    }
}
