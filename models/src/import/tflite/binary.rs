//! Operations with a constant operand, function by function of each channel, and the larger of two activations.
//!
//! A constant makes of a sum, difference, product, PRELU, maximum or minimum a function of single values, one for each channel (or for
//! each element). It is asked for all values, so whatever the kernel does is what the network does.

use ndarray::Array4;

use super::add::Rule;
use super::model::{self, Element, Operator};
use super::movement::{element, positions};
use super::quotient::Quotient;
use super::round::{Activation, Clamp, Kernels, Multiplier, Rule as Rescale};
use super::shape::bounded;
use super::trouble::{Trouble, refuse};
use super::value::{Quantisation, Value, positive, quantisation};
use super::walk::Walk;
use crate::import::builder::{Obstacle, Sum};
use crate::import::report::Verdict;
use crate::network::{Op, Range, TensorId, Term, Window};
use crate::shape::of_channel;

/// A function of two values.
type Pair = Box<dyn Fn([i64; 2]) -> i64>;

/// A constant operand.
pub(super) struct Constant {
    /// Values less their zero point.
    values: Vec<i64>,
    dims: Vec<usize>,
    scale: f32,
    clamp: Clamp,
}

impl<'m, 'f> Walk<'m, 'f> {
    /// ADD, SUB, MUL, DIV, PRELU, MAXIMUM and MINIMUM: with a constant, or of two activations.
    pub fn binary(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let operands = [self.operand(operator, 0)?, self.operand(operator, 1)?];
        match operands.map(|tensor| self.values.contains_key(&tensor)) {
            [true, true] if self.of_one_tensor(operator, name)? => Ok(Verdict::Imported("a function of single values")),
            [true, true] => match operator.code {
                model::ADD | model::SUB => self.add(operator, name),
                model::MAXIMUM | model::MINIMUM => self.extreme(operator, name),
                model::DIV => refuse("it divides activations", "quotients of two activations are out of reach"),
                _ => refuse("it multiplies activations", "products of two activations are out of reach"),
            },
            [false, false] => refuse("it does not depend on the input", "fold constants before the export"),
            [first, _] => {
                let x = self.value(operator, usize::from(!first))?;
                let constant = self.constant_operand(operands[usize::from(first)])?;
                self.with_constant(operator, name, &x, &constant, first)
            }
        }
    }

    /// A sum, difference or product of two tensors that were made value by value of one, as x sigmoid(x) is: a function of single values
    /// of that one. False if they are no such.
    fn of_one_tensor(&mut self, operator: &Operator<'f>, name: &str) -> Result<bool, Trouble> {
        let known = [self.value(operator, 0)?, self.value(operator, 1)?];
        let alike = known[0].grid == known[1].grid && known[0].dims == known[1].dims;
        // Functions of a clamped tensor are functions of what was clamped.
        let wide = |x: &Value| x.padding == [0; 4] && (known[0].id == known[1].id || self.narrowed.contains_key(&x.id));
        let wide = known.each_ref().map(wide);
        let mut known = known;
        for (x, wide) in known.iter_mut().zip(wide) {
            *x = if wide { self.narrow(name, x)? } else { x.clone() };
        }
        let [one, other] = known.each_ref().map(|x| self.function(x.id));
        let sum = [model::ADD, model::SUB, model::MUL].contains(&operator.code);
        let root = Value { id: one.root, ..known[0].clone() };
        let short = self.builder.tensor(root.id).range.count() <= 256;
        if !sum || !alike || one.root != other.root || !short || known.iter().any(|x| x.padding != [0; 4]) {
            return Ok(false);
        }
        let y = quantisation(self.result(operator))?;
        let rule = self.pair(operator, known.each_ref().map(|x| x.scale), y)?;
        let lo = self.builder.tensor(root.id).range.lo;
        let of = |x: i64| rule([one.table[(x - lo) as usize], other.table[(x - lo) as usize]]);
        let made = self.pointwise(name, &root, y, of)?;
        self.define(operator, made);
        Ok(true)
    }

    /// What the kernel makes of two values, as a stored value: of ADD, SUB and MUL.
    fn pair(&self, operator: &Operator<'f>, scales: [f32; 2], y: Quantisation) -> Result<Pair, Trouble> {
        let clamp = self.fused(operator, y)?;
        let [one, other] = scales;
        let far = |what: &str| {
            refuse(format!("it {what} the scales {one} and {other} to {}", y.scale), "use scales that are closer")
        };
        if operator.code != model::MUL {
            return match Rule::of(self.kernels, scales, y.scale, operator.code == model::SUB) {
                Some(rule) => Ok(Box::new(move |pair| clamp.apply(rule.apply(pair)))),
                None => far("brings"),
            };
        }
        let scale = one * other / y.scale;
        let single = self.kernels == Kernels::Single && (2f32.powi(-16)..256.0).contains(&scale);
        let rule = if single { Rescale::Single(scale) } else { Rescale::Double(Multiplier::of(scale.into())) };
        if !rule.holds(Range { lo: -(1 << 16), hi: 1 << 16 }) {
            return far("multiplies");
        }
        Ok(Box::new(move |[x, c]| clamp.apply(rule.apply(x * c))))
    }

    /// The clamp of a fused activation.
    fn fused(&self, operator: &Operator<'f>, y: Quantisation) -> Result<Clamp, Trouble> {
        let Some(activation) = Activation::of(operator.i8(0)?) else {
            return refuse("its activation function is unknown", "use none, RELU, RELU6 or RELU_N1_TO_1");
        };
        let stored = Range { lo: y.clamp.lo, hi: y.clamp.hi };
        // Quotients are never XNNPACK's.
        let kernels = if operator.code == model::DIV { Kernels::Double } else { self.kernels };
        Ok(activation.clamp(kernels, y.scale, y.clamp.zero_point, stored))
    }

    fn constant_operand(&self, tensor: usize) -> Result<Constant, Trouble> {
        let tensor = &self.model.tensors[tensor];
        let Quantisation { scale, clamp } = quantisation(tensor)?;
        if tensor.data.is_empty() || tensor.data.len() != tensor.elements() || tensor.indirect {
            return refuse(format!("tensor {} is no constant", tensor.name), "fold constants before the export");
        }
        let stored = |&byte: &u8| if tensor.element == Element::UInt8 { byte.into() } else { i64::from(byte as i8) };
        let values = tensor.data.iter().map(|byte| stored(byte) - clamp.zero_point).collect();
        Ok(Constant { values, dims: tensor.dims.clone(), scale, clamp })
    }

    /// `first`: x is the first operand.
    fn with_constant(
        &mut self,
        operator: &Operator<'f>,
        name: &str,
        x: &Value,
        constant: &Constant,
        first: bool,
    ) -> Result<Verdict, Trouble> {
        let y = quantisation(self.result(operator))?;
        match operator.code {
            model::ADD | model::SUB | model::MUL => {
                let scales = if first { [x.scale, constant.scale] } else { [constant.scale, x.scale] };
                let rule = self.pair(operator, scales, y)?;
                self.each(operator, name, x, constant, y, |x, c| rule(if first { [x, c] } else { [c, x] }))?;
                let product = operator.code == model::MUL;
                Ok(Verdict::Imported(if product { "a product with a constant" } else { "a sum with a constant" }))
            }
            model::DIV if first => {
                let divisors: Vec<i64> = constant.values.clone();
                let far = Quotient::of(x.scale / (constant.scale * y.scale)).filter(|_| !divisors.contains(&0));
                let Some(quotient) = far.filter(|quotient| divisors.iter().all(|&c| quotient.holds(c))) else {
                    return too_far("divides", x, constant, y);
                };
                let rule = self.fused(operator, y)?;
                self.each(operator, name, x, constant, y, |x, c| rule.apply(quotient.apply(x, c)))?;
                Ok(Verdict::Imported("a product with a constant"))
            }
            model::PRELU if first => self.prelu(operator, name, x, constant, y),
            model::MAXIMUM | model::MINIMUM => self.compared(operator, name, x, constant, y),
            _ => refuse("its first operand is a constant", "fold constants before the export"),
        }
    }

    /// x, or below zero x times the constant.
    fn prelu(
        &mut self,
        operator: &Operator<'f>,
        name: &str,
        x: &Value,
        constant: &Constant,
        y: Quantisation,
    ) -> Result<Verdict, Trouble> {
        let rule = |scale: f32| Rescale::Double(Multiplier::of(scale.into()));
        let (above, below) = (rule(x.scale / y.scale), rule(x.scale * constant.scale / y.scale));
        if ![above, below].iter().all(|rule| rule.holds(Range { lo: -(1 << 16), hi: 1 << 16 })) {
            return too_far("multiplies", x, constant, y);
        }
        let value = |x: i64, c: i64| if x >= 0 { above.apply(x) } else { below.apply(x * c) };
        match self.each(operator, name, x, constant, y, |x, c| y.clamp.apply(value(x, c))) {
            Err(Trouble::Builder(Obstacle::NotMonotone { .. })) => {
                self.halves(operator, name, x, constant, y, &value)?;
            }
            made => made?,
        }
        Ok(Verdict::Imported("a function of single values"))
    }

    /// The larger or the smaller of x and the constant. Stored values are compared, whatever they stand for.
    fn compared(
        &mut self,
        operator: &Operator<'f>,
        name: &str,
        x: &Value,
        constant: &Constant,
        y: Quantisation,
    ) -> Result<Verdict, Trouble> {
        let larger = operator.code == model::MAXIMUM;
        let (x, constants) = self.aligned(name, x, constant)?;
        if constants.len() > 1 {
            let by = constant.clamp.zero_point - y.clamp.zero_point;
            let constants: Vec<i64> = constants.iter().map(|c| c + by).collect();
            self.extreme_of(operator, name, (&x, &constants), y, larger)?;
            return Ok(Verdict::Imported("two requantisations"));
        }
        let zero = [x.clamp.zero_point, constant.clamp.zero_point];
        let of = |x: i64, c: i64| {
            let [x, c] = [x + zero[0], c + zero[1]];
            (if larger { x.max(c) } else { x.min(c) }).clamp(y.clamp.lo, y.clamp.hi)
        };
        self.each(operator, name, &x, constant, y, of)?;
        Ok(Verdict::Imported("a function of single values"))
    }

    /// The stored values `of(x, constant)`, element by element; the shorter shape is repeated.
    fn each(
        &mut self,
        operator: &Operator<'f>,
        name: &str,
        x: &Value,
        constant: &Constant,
        y: Quantisation,
        of: impl Fn(i64, i64) -> i64,
    ) -> Result<(), Trouble> {
        let (x, constants) = self.aligned(name, x, constant)?;
        let zero_point = y.clamp.zero_point - y.clamp.lo;
        let id = if let [value] = constants[..] {
            let made = self.pointwise(name, &x, y, |x| of(x, value))?;
            self.define(operator, made);
            return Ok(());
        } else {
            let rule = |channel: usize, x: i64| of(x, constants[channel]) - y.clamp.lo;
            match self.builder.requantise(name, Sum::identity(x.id, constants.len()), zero_point, rule) {
                Err(Obstacle::Falling { .. }) => {
                    let sum = Sum { terms: vec![ones(x.id, constants.len())], bias: vec![0; constants.len()] };
                    self.builder.requantise(name, sum, zero_point, rule)?
                }
                made => made?,
            }
        };
        self.define(operator, Value { id, scale: y.scale, clamp: y.clamp, ..x });
        Ok(())
    }

    /// Both operands repeated to the shape of the result.
    pub fn same_shape(&mut self, name: &str, operands: [Value; 2]) -> Result<[Value; 2], Trouble> {
        let [one, other] = &operands;
        let Some(dims) = broadcast(&one.dims, &other.dims) else {
            let reason = format!("it joins tensors of shapes {:?} and {:?}", one.dims, other.dims);
            return refuse(reason, "use shapes that fit");
        };
        bounded(&dims)?;
        let mut whole = |x: &Value| {
            if dims.iter().product::<usize>() == x.dims.iter().product::<usize>() {
                return self.settled(name, &Value { dims: dims.clone(), ..x.clone() });
            }
            self.moved(&format!("{name}/repeated"), x, &dims, &repeated(&x.dims, &dims))
        };
        Ok([whole(one)?, whole(other)?])
    }

    /// The operand repeated to the shape of the result and in a shape in which each channel has one constant: one for all if they
    /// are the same, the last dimension as channels, or each element as one.
    fn aligned(&mut self, name: &str, x: &Value, constant: &Constant) -> Result<(Value, Vec<i64>), Trouble> {
        let mut x = self.narrow(name, x)?;
        let Some(dims) = broadcast(&x.dims, &constant.dims) else {
            let reason = format!("it joins tensors of shapes {:?} and {:?}", x.dims, constant.dims);
            return refuse(reason, "use shapes that fit");
        };
        if dims.iter().product::<usize>() != x.dims.iter().product::<usize>() {
            let list = repeated(&x.dims, &dims);
            x = self.moved(&format!("{name}/repeated"), &x, &dims, &list)?;
        }
        x.dims.clone_from(&dims);
        if constant.values.iter().all(|value| *value == constant.values[0]) {
            return Ok((x, vec![constant.values[0]]));
        }
        let last = *dims.last().unwrap_or(&1);
        if constant.values.len() == last && constant.dims.last() == Some(&last) {
            return Ok((self.settled(name, &x)?, constant.values.clone()));
        }
        let all: Vec<i64> = repeated(&constant.dims, &dims).iter().map(|&at| constant.values[at as usize]).collect();
        let list: Vec<i64> = (0..all.len() as i64).collect();
        let x = self.moved_to(&format!("{name}/elements"), &x, &dims, [all.len(), 1, 1], &list)?;
        Ok((x, all))
    }

    /// The sum of what is made of the values above their zero point and of those below, each of which rises or falls: `of` is 0 at 0.
    fn halves(
        &mut self,
        operator: &Operator<'f>,
        name: &str,
        x: &Value,
        constant: &Constant,
        y: Quantisation,
        of: &dyn Fn(i64, i64) -> i64,
    ) -> Result<(), Trouble> {
        let (x, constants) = self.aligned(name, x, constant)?;
        let channels = self.builder.tensor(x.id).shape[0];
        let constant = |channel: usize| of_channel(&constants, channel);
        let Clamp { zero_point, lo, hi } = y.clamp;
        let mut terms = Vec::new();
        for (part, below) in [("above", false), ("below", true)] {
            let rule = |channel: usize, x: i64| {
                let half = if below { x.min(0) } else { x.max(0) };
                of(half, constant(channel)).clamp(lo - zero_point, hi - zero_point) - (lo - zero_point)
            };
            let sum = Sum { terms: vec![ones(x.id, channels)], bias: vec![0; channels] };
            let input = self.builder.requantise(&format!("{name}/{part}"), sum, zero_point - lo, rule)?;
            terms.push((Term::Identity { input, multiplier: 1 }, None));
        }
        let bias = vec![zero_point - lo; channels];
        let input = self.builder.linear(name, Sum { terms, bias })?;
        let op = Op::Requantise { input, bits: 8, shift: vec![0], top: None, zero_point: zero_point - lo };
        let id = self.builder.node(&format!("{name}/requantise"), op, None)?;
        self.define(operator, Value { id, scale: y.scale, clamp: y.clamp, ..x });
        Ok(())
    }

    /// The larger (smaller) one of a value and a constant of each channel, as the same of two activations.
    fn extreme_of(
        &mut self,
        operator: &Operator<'f>,
        name: &str,
        (x, constants): (&Value, &[i64]),
        y: Quantisation,
        larger: bool,
    ) -> Result<(), Trouble> {
        // Values less the zero point of the result; constants too.
        let sign = if larger { 1 } else { -1 };
        let shift = x.clamp.zero_point - y.clamp.zero_point;
        let term = |multiplier: i64, input: TensorId| vec![(Term::Identity { input, multiplier }, None)];
        let difference = constants.iter().map(|c| sign * (shift - c)).collect();
        let sum = Sum { terms: term(sign, x.id), bias: difference };
        let input = self.builder.linear(&format!("{name}/difference"), sum)?;
        let op = Op::Requantise { input, bits: 8, shift: vec![0], top: None, zero_point: 0 };
        let above = self.builder.node(&format!("{name}/above"), op, None)?;
        let zero_point = y.clamp.zero_point - y.clamp.lo;
        let bias = constants.iter().map(|c| c + zero_point).collect();
        let input = self.builder.linear(name, Sum { terms: term(sign, above), bias })?;
        let op = Op::Requantise { input, bits: 8, shift: vec![0], top: None, zero_point };
        let id = self.builder.node(&format!("{name}/requantise"), op, None)?;
        self.define(operator, Value { id, scale: y.scale, clamp: y.clamp, ..x.clone() });
        Ok(())
    }

    /// max(a, b) = b + max(a - b, 0), min(a, b) = b - max(b - a, 0), of stored values.
    fn extreme(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let operands = [self.whole_value(operator, 0, name)?, self.whole_value(operator, 1, name)?];
        let operands = [self.narrow(name, &operands[0])?, self.narrow(name, &operands[1])?];
        let [a, b] = self.same_shape(name, operands)?;
        let y = quantisation(self.result(operator))?;
        if a.clamp != b.clamp || a.clamp != y.clamp {
            return refuse("its tensors have different zero points", "use one scale and one zero point");
        }
        let channels = a.grid[0];
        let larger = operator.code == model::MAXIMUM;
        let term = |input: TensorId, multiplier: i64| (Term::Identity { input, multiplier }, None);
        let signs = if larger { [1, -1] } else { [-1, 1] };
        let terms = vec![term(a.id, signs[0]), term(b.id, signs[1])];
        let input = self.builder.linear(&format!("{name}/difference"), Sum { terms, bias: vec![0; channels] })?;
        let op = Op::Requantise { input, bits: 8, shift: vec![0], top: None, zero_point: 0 };
        let above = self.builder.node(&format!("{name}/above"), op, None)?;
        let zero_point = y.clamp.zero_point - y.clamp.lo;
        let terms = vec![term(b.id, 1), term(above, signs[0])];
        let input = self.builder.linear(name, Sum { terms, bias: vec![zero_point; channels] })?;
        let op = Op::Requantise { input, bits: 8, shift: vec![0], top: None, zero_point };
        let id = self.builder.node(&format!("{name}/requantise"), op, None)?;
        self.define(operator, Value { id, scale: y.scale, clamp: y.clamp, ..b });
        Ok(Verdict::Imported("two requantisations"))
    }

    /// Two slopes, one below the zero point.
    pub fn leaky(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.value(operator, 0)?;
        let x = self.narrow(name, &x)?;
        let y = quantisation(self.result(operator))?;
        let alpha = operator.f32(0)?;
        let (above, below) = (x.scale / y.scale, x.scale * alpha / y.scale);
        positive(above, self.result(operator))?;
        let negative = x.scale / y.scale * alpha;
        let short = self.kernels == Kernels::Single
            && alpha.is_normal()
            && (2f32.powi(-8)..=128.0).contains(&above)
            && (-127.996_09..=128.0).contains(&negative)
            && negative.abs() >= 2f32.powi(-8);
        let rules = if short {
            // Eight bits of both ratios, half up.
            [above, negative].map(|scale| Rescale::Short((256.0 * scale).round_ties_even() as i64))
        } else {
            let of = |scale: f32| {
                let Multiplier { significand, exponent } = Multiplier::of(f64::from(scale).abs());
                let significand = if scale < 0.0 { -significand } else { significand };
                Rescale::Double(Multiplier { significand, exponent })
            };
            [of(above), of(below)]
        };
        let range = self.builder.tensor(x.id).range;
        if range.count() > 256 || !rules.iter().all(|rule| rule.holds(range)) {
            return refuse(format!("it rescales from {} to {}", x.scale, y.scale), "use scales that are closer");
        }
        let made = self.pointwise(name, &x, y, |x| y.clamp.apply(rules[usize::from(x < 0)].apply(x)))?;
        self.define(operator, made);
        Ok(Verdict::Imported("a function of single values"))
    }
}

/// Each channel as it is, with weights that may change their sign.
fn ones(input: TensorId, channels: usize) -> (Term, Option<Array4<i32>>) {
    let (out_channels, groups, window) = (channels, channels, Window::POINT);
    (
        Term::Conv { input, out_channels, groups, window, weight_bits: 1 },
        Some(Array4::from_elem((channels, 1, 1, 1), 1)),
    )
}

/// The shape of both repeated where they have 1; `None` if they do not fit.
fn broadcast(one: &[usize], other: &[usize]) -> Option<Vec<usize>> {
    let rank = one.len().max(other.len());
    let size = |dims: &[usize], at: usize| (at + dims.len()).checked_sub(rank).map_or(1, |at| dims[at]);
    let fits = |at: usize| match (size(one, at), size(other, at)) {
        (1, size) | (size, 1) => Some(size),
        (size, same) if size == same => Some(size),
        _ => None,
    };
    (0..rank).map(fits).collect()
}

/// The elements of a tensor of dimensions `dims` where it is repeated to `whole`.
fn repeated(dims: &[usize], whole: &[usize]) -> Vec<i64> {
    positions(whole, |at| {
        let at = &at[at.len() - dims.len()..];
        let place: Vec<usize> = at.iter().zip(dims).map(|(&at, &size)| if size == 1 { 0 } else { at }).collect();
        Some(element(dims, &place))
    })
}
/// Refuses scales that no rule of the runtime takes together.
fn too_far<T>(does: &str, x: &Value, constant: &Constant, y: Quantisation) -> Result<T, Trouble> {
    let reason = format!("it {does} the scales {} and {} to {}", x.scale, constant.scale, y.scale);
    refuse(reason, "use scales that are closer")
}
