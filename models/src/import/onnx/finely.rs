//! Functions of a quantised tensor that nothing quantises before an average or a sum.
//!
//! Their values are kept in steps of a 2^16th of their range, f(x) = unit (256 high(x) + low(x)), two tables of 8 bits. What follows
//! is a sum of products, off by half a unit: an approximation, and near enough that only values next to a boundary may differ.

use std::rc::Rc;

use super::graph::Node;
use super::real::{Float, HALF_ULP, Near, Post, apply};
use super::stop::Stop;
use super::value::{Origin, Real};
use super::walk::Walk;
use crate::import::builder::Sum;
use crate::network::{Op, TensorId, Term, Window};

/// Values in steps of a unit: 256 high + low.
struct Fine {
    high: TensorId,
    low: TensorId,
    unit: f64,
    /// How far off they may be, and the largest one.
    error: f64,
    most: f64,
}

impl Fine {
    fn sum(&self, [high, low]: [TensorId; 2], channels: usize) -> Sum {
        let term = |input, multiplier| (Term::Identity { input, multiplier }, None);
        Sum { terms: vec![term(high, 256), term(low, 1)], bias: vec![0; channels] }
    }
}

/// The values of a function of one tensor of 8 bits, alike on all channels; `None` if `real` is none, or nothing but a multiple.
fn values(real: &Real<'_>, range: crate::network::Range) -> Option<Vec<Near>> {
    let Origin::Tensor(scale) = &real.source else { return None };
    let function = !real.post.iter().all(|step| step.factor().is_some()) && !real.post.iter().any(Post::differs);
    if !function || !real.later.is_empty() || real.layout.pad != [0; 4] || range.count() > 256 {
        return None;
    }
    let all: Vec<Near> = (range.lo..=range.hi).map(|x| apply(&real.post, 0, scale.near(x))).collect();
    all.iter().all(|near| near.v.is_finite() && near.error.is_finite()).then_some(all)
}

impl<'m> Walk<'m> {
    fn function_values(&self, real: &Real<'m>) -> Option<Vec<Near>> {
        let Origin::Tensor(scale) = &real.source else { return None };
        values(real, self.builder.tensor(scale.id).range)
    }

    /// The largest value of a function of one tensor; `None` if `real` is none.
    fn largest_value(&self, real: &Real<'m>) -> Option<f64> {
        let all = self.function_values(real)?;
        let most = all.iter().map(|near| f64::from(near.v).abs()).fold(0.0, f64::max);
        (most > f64::from(f32::MIN_POSITIVE)).then_some(most)
    }

    /// Two tables of a function of one tensor, in steps of a 2^15th of `most`.
    fn fine(&mut self, node: Node<'m>, real: &Real<'m>, most: f64) -> Result<Option<Fine>, Stop> {
        let (Origin::Tensor(scale), Some(values)) = (&real.source, self.function_values(real)) else { return Ok(None) };
        let unit = most / 32_767.0;
        let whole: Vec<i64> = values.iter().map(|near| (f64::from(near.v) / unit).round() as i64).collect();
        let mut table = |part: &str, table: Vec<i64>| {
            self.builder.node(&format!("{}/{part}", node.name()), Op::Table { input: scale.id, table }, None)
        };
        let high = table("high", whole.iter().map(|v| v >> 8).collect())?;
        let low = table("low", whole.iter().map(|v| v & 255).collect())?;
        let error = unit / 2.0 + values.iter().map(|near| near.error).fold(0.0, f64::max);
        Ok(Some(Fine { high, low, unit, error, most }))
    }

    /// The averages of a function over each window; `None` if `real` is none.
    pub(super) fn average_of_function(
        &mut self,
        node: Node<'m>,
        real: &Real<'m>,
        window: Window,
    ) -> Result<Option<Origin<'m>>, Stop> {
        let Some(most) = self.largest_value(real) else { return Ok(None) };
        self.wants_approximate("the averages of a function's values that nothing has quantised")?;
        let Some(fine) = self.fine(node, real, most)? else { return Ok(None) };
        let mut pool = |part: &str, input: TensorId| {
            self.builder.node(&format!("{}/{part}", node.name()), Op::SumPool { input, window }, None)
        };
        let ids = [pool("high/sum", fine.high)?, pool("low/sum", fine.low)?];
        let count = (window.kernel[0] * window.kernel[1]) as f64;
        let error = fine.error + (count + 3.0) * HALF_ULP * fine.most;
        Ok(Some(source(fine.sum(ids, real.channels), fine.unit / count, error)))
    }

    /// Summands, functions of one tensor each as sums of products of one unit.
    pub(super) fn summands_of_functions(
        &mut self,
        node: Node<'m>,
        summands: [&Real<'m>; 2],
    ) -> Result<Option<[Real<'m>; 2]>, Stop> {
        let most = summands.map(|real| self.largest_value(real));
        let Some(larger) = most.iter().flatten().copied().reduce(f64::max) else { return Ok(None) };
        self.wants_approximate("a sum of a function's values that nothing has quantised")?;
        let mut fine = |real: &Real<'m>, most: Option<f64>| -> Result<Real<'m>, Stop> {
            let Some(fine) = most.map(|_| self.fine(node, real, larger)).transpose()?.flatten() else {
                return Ok(real.clone());
            };
            let source = source(fine.sum([fine.high, fine.low], real.channels), fine.unit, fine.error);
            Ok(Real { source, post: vec![], fused: None, ..real.clone() })
        };
        Ok(Some([fine(summands[0], most[0])?, fine(summands[1], most[1])?]))
    }

    fn wants_approximate(&self, what: &str) -> Result<(), Stop> {
        if self.near {
            return Ok(());
        }
        let hint = "put QuantizeLinear and DequantizeLinear, or Quant, behind the function";
        Err(Stop::near(format!("{what}: ONNX Runtime adds them up as floats"), hint))
    }
}

fn source<'m>(sum: Sum, unit: f64, error: f64) -> Origin<'m> {
    let channels = sum.bias.len();
    let float = Float { error: vec![error; channels], whole: false };
    Origin::Sum { sum: Rc::new(sum), unit: Rc::new(vec![unit; channels]), float: Rc::new(float) }
}
