//! Where real numbers become integers: the rule from accumulator to value, and what of it could not be proved.

use std::rc::Rc;

use super::doubts::{Doubts, MEANS, Measured};
use super::graph::Node;
use super::integers::{Whole, whole};
use super::moves::has_zeros;
use super::pairs::PairRule;
use super::quantiser::{Quantiser, Rule};
use super::real::{Float, Near, Post, apply, quantised};
use super::stop::{Stop, behind_later};
use super::value::{Later, Mean, Origin, Real, Scale};
use super::walk::Walk;
use crate::import::builder::{Obstacle, Sum};
use crate::network::{Op, Range, TensorId, Term, Window};
use crate::rescale::Steps;

/// Most parts of a rule from one turn to the next.
const MAX_PARTS: usize = 4;

/// What to do about functions that rise and fall.
pub(super) const BEFORE_FUNCTIONS: &str = "quantise the values before the function, so that it becomes a table";

pub(super) const FLOAT: &str = "float32 in the graph's order, half to even";

impl<'m> Walk<'m> {
    /// Real numbers, quantised: a tensor of the network whose values are x = factor * q - offset.
    pub(super) fn quantise(
        &mut self,
        node: Node<'m>,
        real: &Real<'m>,
        quantiser: &Quantiser,
    ) -> Result<TensorId, Stop> {
        let (doubts, mut measured) = (Doubts::default(), None);
        let steps = &real.post;
        if quantiser.differs() && real.later.iter().any(|later| matches!(later, Later::Select { .. })) {
            return Err(behind_later());
        }
        // What padding adds is 0 as a value of the network.
        let (factor, offset, _) = quantiser.means()?;
        if has_zeros(&real.later) && factor * quantiser.index(0, 0.0) != offset {
            return Err(Stop::new("padding of values that are not quantised", "quantise them before"));
        }
        let id = match &real.source {
            Origin::Tensor(scale) => self.quantise_tensor(node, real, *scale, quantiser, &doubts)?,
            Origin::Sum { sum, unit, float } => {
                match self.quantise_sum(node, real, (sum, unit, float), quantiser, &doubts) {
                    Ok((id, found)) => {
                        measured = found;
                        id
                    }
                    // That floats decide is the better reason.
                    Err(no) => {
                        self.measure(real, quantiser, &doubts);
                        let decided = self.settle(node, &doubts, self.floats_decide(node, real), None);
                        let turns = matches!(no, Stop::Obstacle(Obstacle::NotMonotone { .. }));
                        return Err(match decided {
                            // Approximate results would not help then.
                            Err(Stop::Refused { reason, .. }) if turns => Stop::new(reason, BEFORE_FUNCTIONS),
                            Err(stop) => stop,
                            Ok(()) => no,
                        });
                    }
                }
            }
            Origin::Average { input, window, .. } => {
                self.quantise_average(node, real, (*input, window), quantiser, &doubts)?
            }
            Origin::Pair(a, b) => self.quantise_pair(node, real, [*a, *b], quantiser, &doubts)?,
            Origin::Pieces { parts, shape, places } => self.pieces(node, (parts, *shape, places), |walk, part| {
                let post = steps.clone();
                walk.quantise(node, &Real { post, ..part.clone() }, quantiser)
            })?,
            Origin::Concat(parts) => self.quantise_joined(node, parts, steps, quantiser)?,
        };
        self.measure(real, quantiser, &doubts);
        match (&real.source, &steps[..]) {
            (Origin::Average { mean: Mean::Reduced, .. }, _) => self.settle(node, &doubts, MEANS, None)?,
            (Origin::Average { input, window, .. }, []) => {
                let count = window.kernel[0] * window.kernel[1];
                self.settle_average(node, &doubts, count, [input.unit, quantiser.scale])?
            }
            _ => self.settle(node, &doubts, self.floats_decide(node, real), measured)?,
        }
        self.later(node, real, id)
    }

    /// Functions of one tensor: a table of at most 256 values, or a requantisation.
    fn quantise_tensor(
        &mut self,
        node: Node<'m>,
        real: &Real<'m>,
        scale: Scale,
        quantiser: &Quantiser,
        doubts: &Doubts,
    ) -> Result<TensorId, Stop> {
        let (name, steps) = (node.name(), &real.post);
        let rule =
            |channel: usize, x: i64| doubts.note(quantised(quantiser, channel, apply(steps, channel, scale.near(x))));
        let by_channel = steps.iter().any(Post::differs) || quantiser.differs();
        let wide = self.builder.tensor(scale.id).range.count() > 256;
        // A table needs a tensor of 8 bits.
        let table = wide && !by_channel && !steps.iter().all(Post::rises);
        let narrow = if table { self.narrowed(node, &scale)? } else { None };
        self.function_of_one(name, narrow.unwrap_or(scale.id), by_channel, quantiser, rule)
    }

    /// A function of one tensor, which is that of channel 0 on all channels unless `by_channel`: a table where it is one of at most 256
    /// values, else a requantisation.
    pub(super) fn function_of_one(
        &mut self,
        name: &str,
        input: TensorId,
        by_channel: bool,
        quantiser: &Quantiser,
        rule: impl Fn(usize, i64) -> i64,
    ) -> Result<TensorId, Stop> {
        let (factor, offset, _) = quantiser.means()?;
        let (range, channels) = (self.builder.tensor(input).range, self.builder.tensor(input).shape[0]);
        let wide = range.count() > 256;
        if by_channel || wide {
            let done = self.requantise_sum(name, Sum::identity(input, channels), quantiser, &rule);
            return match done {
                Err(Stop::Obstacle(Obstacle::NotMonotone { .. })) if !wide => {
                    Ok(self.turning(name, (input, channels), quantiser, rule)?.map_or(done, Ok)?)
                }
                done => done,
            };
        }
        let value = |x: i64| factor * rule(0, x) - offset;
        let id = self.builder.apply(name, input, value)?;
        self.follows(id, input, (range.lo..=range.hi).map(value).collect());
        Ok(id)
    }

    /// A rule that rises and falls on some channels: what it makes of each part between two turns, its ends beyond it, is added up.
    /// `None` where there are many turns.
    fn turning(
        &mut self,
        name: &str,
        (input, channels): (TensorId, usize),
        quantiser: &Quantiser,
        rule: impl Fn(usize, i64) -> i64,
    ) -> Result<Option<TensorId>, Stop> {
        let (factor, offset, _) = quantiser.means()?;
        let Range { lo, hi } = self.builder.tensor(input).range;
        let rows: Vec<Vec<i64>> = (0..channels).map(|c| (lo..=hi).map(|x| rule(c, x)).collect()).collect();
        let mut turns: Vec<Vec<usize>> = rows.iter().map(|row| turns(row)).collect();
        let parts = turns.iter().map(Vec::len).max().unwrap_or(0) + 1;
        if parts > MAX_PARTS {
            return Ok(None);
        }
        let all = || rows.iter().flatten().copied();
        let (least, most) = (all().min().unwrap_or(0), all().max().unwrap_or(0));
        if most - least > 255 {
            return Err(Obstacle::TooWide { lo: least, hi: most }.into());
        }
        let last = (hi - lo) as usize;
        // Channels that turn less often are cut where others turn.
        let common: Vec<usize> =
            (0..parts - 1).map(|p| turns.iter().find_map(|own| own.get(p).copied()).unwrap_or(0)).collect();
        for own in &mut turns {
            for &at in &common[own.len()..] {
                own.push(at.max(own.last().copied().unwrap_or(0)));
            }
            own.push(last);
        }
        let mut sum = Sum { terms: vec![], bias: vec![0; channels] };
        for part in 0..parts {
            let value = |channel: usize, x: i64| {
                let start = if part == 0 { 0 } else { turns[channel][part - 1] };
                rows[channel][((x - lo) as usize).clamp(start, turns[channel][part])] - least
            };
            let id = self.builder.requantise(&format!("{name}/part"), Sum::identity(input, channels), 0, value)?;
            sum.terms.push((Term::Identity { input: id, multiplier: 1 }, None));
            if part > 0 {
                let start =
                    |(channel, bias): (usize, &mut i64)| *bias -= rows[channel][turns[channel][part - 1]] - least;
                sum.bias.iter_mut().enumerate().for_each(start);
            }
        }
        let input = self.builder.linear(&format!("{name}/parts"), sum)?;
        let (bits, own) = ((most - least).max(1).ilog2() + 1, factor == 1 && (least..=least + 255).contains(&offset));
        let zero_point = if own { offset - least } else { 0 };
        let bits = bits.max(zero_point.max(1).ilog2() + 1);
        let op = Op::Requantise { input, bits, shift: vec![0], top: None, zero_point };
        let id = self.builder.node(name, op, None)?;
        if own {
            return Ok(Some(id));
        }
        Ok(Some(self.builder.apply(&format!("{name}/values"), id, |y| factor * (y + least) - offset)?))
    }

    /// Functions of a sum of products, and how far they are from floats where these decide.
    fn quantise_sum(
        &mut self,
        node: Node<'m>,
        real: &Real<'m>,
        (sum, unit, float): (&Sum, &[f64], &Float),
        quantiser: &Quantiser,
        doubts: &Doubts,
    ) -> Result<(TensorId, Option<Measured>), Stop> {
        let steps = &real.post;
        let near = |channel: usize, z: i64| float.near(channel, z, unit[channel]);
        // Steps on integers come first; the accumulator is one.
        let (first, rest) = match &steps[..] {
            [Post::Whole(first), rest @ ..] if unit.iter().all(|&u| u == 1.0) => (&first[..], rest),
            all => (&[][..], all),
        };
        let values = |channel, z| {
            let after = whole(first, channel, z);
            let near = near(channel, after.unwrap_or(z));
            let near = if after.is_none() { Near { error: f64::INFINITY, ..near } } else { near };
            doubts.note(quantised(quantiser, channel, apply(rest, channel, near)))
        };
        let id = self.requantise_sum(node.name(), sum.clone(), quantiser, values)?;
        if !doubts.any() || !first.is_empty() {
            return Ok((id, None));
        }
        self.weigh(id, (sum, unit), steps, quantiser, doubts);
        Ok((id, self.measured(sum, real.fused.as_ref(), near, steps, quantiser)))
    }

    /// Functions of averages.
    fn quantise_average(
        &mut self,
        node: Node<'m>,
        real: &Real<'m>,
        (input, window): (Scale, &Window),
        quantiser: &Quantiser,
        doubts: &Doubts,
    ) -> Result<TensorId, Stop> {
        let (name, steps) = (node.name(), &real.post);
        let average = self.average_value(input, window);
        let rule =
            |channel: usize, sum: i64| doubts.note(quantised(quantiser, channel, apply(steps, channel, average(sum))));
        if steps.iter().any(Post::differs) || quantiser.differs() {
            let op = Op::SumPool { input: input.id, window: *window };
            let sum = self.builder.node(&format!("{name}/sum"), op, None)?;
            return self.requantise_sum(name, Sum::identity(sum, real.channels), quantiser, rule);
        }
        let plain = self.average_rule(input, window, quantiser.clone(), doubts);
        let rule = |sum: i64| if steps.is_empty() { plain(sum) } else { rule(0, sum) };
        let (factor, offset, _) = quantiser.means()?;
        if factor == 1 {
            return Ok(self.builder.average(name, input.id, *window, offset, rule)?);
        }
        let id = self.builder.average(name, input.id, *window, 0, rule)?;
        Ok(self.builder.apply(name, id, |q| factor * q - offset)?)
    }

    /// Functions of a sum of two tensors.
    fn quantise_pair(
        &mut self,
        node: Node<'m>,
        real: &Real<'m>,
        [a, b]: [Scale; 2],
        quantiser: &Quantiser,
        doubts: &Doubts,
    ) -> Result<TensorId, Stop> {
        let steps = &real.post;
        let value = |channel: usize, xa: i64, xb: i64| {
            let (a, b) = (a.near(xa), b.near(xb));
            let sum = Near { v: a.v + b.v, error: a.error + b.error };
            quantised(quantiser, channel, apply(steps, channel, sum))
        };
        let by_channel = steps.iter().any(Post::differs) || quantiser.differs();
        let summands: [&dyn Fn(i64) -> f64; 2] = [&|x| a.near(x).v.into(), &|x| b.near(x).v.into()];
        let channels = if by_channel { real.channels } else { 1 };
        let rule = PairRule { value: &value, channels, summands, step: quantiser.scale.into() };
        self.pair(node, a, b, quantiser, doubts, &rule)
    }

    /// Functions of channels one behind the other, part by part.
    fn quantise_joined(
        &mut self,
        node: Node<'m>,
        parts: &[Rc<Real<'m>>],
        steps: &[Post],
        quantiser: &Quantiser,
    ) -> Result<TensorId, Stop> {
        let (mut inputs, mut first) = (Vec::new(), 0);
        for part in parts {
            let mut part = (**part).clone();
            let channels = first..first + self.shape(&part)?[0];
            first = channels.end;
            let own: Vec<Post> = steps.iter().map(|step| step.of_channels(&channels)).collect();
            let after = part.later.iter().any(|_| own.iter().any(|step| step.differs() || !step.rises()))
                || !own.is_empty() && has_zeros(&part.later);
            if after || (!part.later.is_empty() && quantiser.differs()) {
                return Err(behind_later());
            }
            part.post.extend(own);
            inputs.push(self.quantise(node, &part, &quantiser.of_channels(&channels))?);
        }
        Ok(self.builder.node(node.name(), Op::Concat { inputs }, None)?)
    }

    /// Measures doubts, if there are any, over all that is reachable.
    pub(super) fn measure(&self, real: &Real<'m>, quantiser: &Quantiser, doubts: &Doubts) {
        if !doubts.any() {
            return;
        }
        let ends = |channel: usize, near: Near| quantiser.between(channel, apply(&real.post, channel, near));
        match &real.source {
            Origin::Tensor(scale) => {
                let by_channel = real.post.iter().any(Post::differs) || quantiser.differs();
                let channels = if by_channel { real.channels } else { 1 };
                let range = self.builder.tensor(scale.id).range;
                doubts.average(vec![range; channels], |channel, x| ends(channel, scale.near(x)));
            }
            Origin::Sum { sum, unit, float } => doubts
                .average(self.builder.bounds(sum), |channel, z| ends(channel, float.near(channel, z, unit[channel]))),
            Origin::Average { input, window, .. } => {
                let average = self.average_value(*input, window);
                doubts
                    .average([self.builder.window_sums(input.id, window)], |channel, sum| ends(channel, average(sum)));
            }
            Origin::Pair(..) | Origin::Concat(_) | Origin::Pieces { .. } => {}
        }
    }

    /// A tensor whose declared range is wider than the type of its values, clipped to that; `None` if nothing says the type.
    fn narrowed(&mut self, node: Node<'m>, scale: &Scale) -> Result<Option<TensorId>, Stop> {
        let Some((zero, (lo, hi))) = scale.quantised.and_then(|(zero, element)| Some((zero, element.small()?))) else {
            return Ok(None);
        };
        let sum = Sum::identity(scale.id, self.builder.tensor(scale.id).shape[0]);
        let name = format!("{}/clip", node.name());
        Ok(Some(self.builder.requantise(&name, sum, zero - lo, |_, x| (x + zero).clamp(lo, hi) - lo)?))
    }

    /// What was put off until the values are integers.
    pub(super) fn later(&mut self, node: Node<'m>, real: &Real<'m>, mut id: TensorId) -> Result<TensorId, Stop> {
        for later in &real.later {
            id = match later {
                Later::MaxPool(window) => {
                    let op = Op::MaxPool { input: id, window: *window };
                    self.builder.node(&format!("{}/pool", node.name()), op, None)?
                }
                Later::Select { shape, axes } => {
                    self.builder.select(&format!("{}/select", node.name()), id, *shape, axes.to_vec())?
                }
            };
        }
        Ok(id)
    }

    /// A requantisation by any monotone rule whose values q mean x = factor * q - offset.
    pub(super) fn requantise_sum(
        &mut self,
        name: &str,
        sum: Sum,
        quantiser: &Quantiser,
        rule: impl Fn(usize, i64) -> i64,
    ) -> Result<TensorId, Stop> {
        let (factor, offset, _) = quantiser.means()?;
        let bounds = self.builder.bounds(&sum);
        let ends = || bounds.iter().enumerate().flat_map(|(c, &Range { lo, hi })| [rule(c, lo), rule(c, hi)]);
        let (least, most) = (ends().min().expect("at least one channel"), ends().max().expect("at least one channel"));
        if most - least > 255 {
            return Err(Obstacle::TooWide { lo: least, hi: most }.into());
        }
        if factor == 1 && offset >= least && offset - least <= 255 {
            return Ok(self.builder.requantise(name, sum, offset - least, |c, z| rule(c, z) - least)?);
        }
        let id = self.builder.requantise(name, sum, 0, |c, z| rule(c, z) - least)?;
        Ok(self.builder.apply(&format!("{name}/values"), id, |y| factor * (y + least) - offset)?)
    }

    /// The same by the steps of each channel's sum times its sign; these count from `least`.
    pub(super) fn requantise_by(
        &mut self,
        name: &str,
        sum: Sum,
        quantiser: &Quantiser,
        least: i64,
        signs: &[i64],
        steps: Vec<Steps>,
    ) -> Result<TensorId, Stop> {
        let (factor, offset, _) = quantiser.means()?;
        if factor == 1 && offset >= least && offset - least <= 255 {
            return Ok(self.builder.requantise_signed(name, sum, offset - least, signs, steps)?);
        }
        let id = self.builder.requantise_signed(name, sum, 0, signs, steps)?;
        Ok(self.builder.apply(&format!("{name}/values"), id, |y| factor * (y + least) - offset)?)
    }
}

/// Where numbers stop to rise or to fall.
fn turns(numbers: &[i64]) -> Vec<usize> {
    let (mut turns, mut rises) = (Vec::new(), None);
    for (at, pair) in numbers.windows(2).enumerate().filter(|(_, pair)| pair[0] != pair[1]) {
        let now = pair[1] > pair[0];
        if rises.is_some_and(|before: bool| before != now) {
            turns.push(at);
        }
        rises = Some(now);
    }
    turns
}

impl Scale {
    /// The real value of x, as the runtime has it.
    pub fn near(&self, x: i64) -> Near {
        Near { v: x as f32 * self.unit, error: self.error }
    }
}

impl Quantiser {
    /// Its rule for some channels.
    fn of_channels(&self, channels: &std::ops::Range<usize>) -> Quantiser {
        match &self.rule {
            Rule::Thresholds(rows) if rows.len() > 1 => {
                Quantiser { rule: Rule::Thresholds(rows[channels.clone()].to_vec()), ..self.clone() }
            }
            _ => self.clone(),
        }
    }

    /// True if the rule is not the same for all channels.
    pub fn differs(&self) -> bool {
        matches!(&self.rule, Rule::Thresholds(rows) if rows.len() > 1)
    }
}

impl Post {
    /// The number that the step multiplies everything by, if it does nothing else.
    pub fn factor(&self) -> Option<f64> {
        match self {
            Post::Mul(list) if list.len() == 1 => Some(list[0].into()),
            Post::Div(list) if list.len() == 1 => Some(1.0 / f64::from(list[0])),
            _ => None,
        }
    }

    /// Its numbers for some channels.
    fn of_channels(&self, channels: &std::ops::Range<usize>) -> Post {
        let of = |list: &[f32]| if list.len() == 1 { list.to_vec() } else { list[channels.clone()].to_vec() };
        match self {
            Post::Add(list) => Post::Add(of(list)),
            Post::Slopes(list) => Post::Slopes(of(list)),
            Post::From(list) => Post::From(of(list)),
            Post::Mul(list) => Post::Mul(of(list)),
            Post::Div(list) => Post::Div(of(list)),
            Post::Norm { scale, bias } => Post::Norm { scale: of(scale), bias: of(bias) },
            Post::Join { by, left, right } => {
                let of = |list: &[Post]| list.iter().map(|step| step.of_channels(channels)).collect();
                Post::Join { by: *by, left: of(left), right: of(right) }
            }
            Post::Whole(steps) => Post::Whole(steps.iter().map(|step| step.of_channels(channels)).collect()),
            Post::Both(both) => Post::Both(Rc::new(both.of_channels(channels))),
            Post::Clip(..) | Post::Round(_) | Post::Function(_) | Post::Reals(_) => self.clone(),
        }
    }

    /// True if the step is not the same for all channels.
    pub fn differs(&self) -> bool {
        match self {
            Post::Add(list) | Post::From(list) | Post::Mul(list) | Post::Div(list) | Post::Slopes(list) => {
                list.len() > 1
            }
            Post::Norm { scale, bias } => scale.len() > 1 || bias.len() > 1,
            Post::Join { left, right, .. } => left.iter().chain(right).any(Post::differs),
            Post::Whole(steps) => steps.iter().any(Whole::differs),
            Post::Both(both) => both.differs(),
            Post::Clip(..) | Post::Round(_) | Post::Function(_) | Post::Reals(_) => false,
        }
    }
}
