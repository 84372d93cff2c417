//! Sums of two quantised values: multipliers, an offset and a shift that give the runtime's result for every pair.
//!
//! f(xa, xb) is known for all pairs, 2^16 at most. With z = M_a xa + M_b xb + b the value is z >> s if, for every k, all pairs with
//! f >= k have z >= k 2^s and all others have z < k 2^s. Multipliers near the ratios of the units are tried, for growing s. Sums whose
//! halves are rounded to even have no such line; but f may be a function of M_a xa + M_b xb all the same, or a sum of two lines. Where
//! both follow from one tensor, f is a function of that.
//!
//! What is left are units with many ties. There the runtime's own sum helps: it is a rising function of u(xa) + v(xb), where u and v
//! are floats, products with their rounding. In units of a small power of two that is M_a xa + M_b xb + r_a(xa) + r_b(xb), where the
//! rests r are tables of 8 bits, and f is a function of it on each channel, whatever rising or falling steps follow the sum.

use super::doubts::Doubts;
use super::graph::Node;
use super::quantiser::Quantiser;
use super::stop::Stop;
use super::value::Scale;
use super::walk::Walk;
use crate::import::builder::{Obstacle, Sum};
use crate::network::{Op, Range, TensorId, Term};
use crate::rescale::{NotMonotone, Steps};

/// What is known of a sum of two.
pub(super) struct PairRule<'r> {
    /// The value for a channel and a pair, and by how much it may be off.
    pub value: &'r dyn Fn(usize, i64, i64) -> (i64, i64),
    /// The channels whose functions are looked at: one if all have the same.
    pub channels: usize,
    /// The floats whose sum decides.
    pub summands: [&'r dyn Fn(i64) -> f64; 2],
    /// Their size for one step of the result, roughly.
    pub step: f64,
}

impl PairRule<'_> {
    /// The different functions of channels, and which of them each channel has; what is doubtful is noted.
    fn tables(&self, [a, b]: [Range; 2], sign: i64, channels: usize, doubts: &Doubts) -> (Vec<Pairs>, Vec<usize>) {
        let doubtful = std::cell::Cell::new((0i64, 0u64));
        let table = |channel: usize| {
            Pairs::of(a, b, |xa, xb| {
                let (q, off) = (self.value)(channel, xa, sign * xb);
                let (sum, count) = doubtful.get();
                doubtful.set((sum + off, count + 1));
                doubts.note((q, off))
            })
        };
        let mut tables: Vec<Pairs> = vec![table(0)];
        let mut of: Vec<usize> = vec![0; channels];
        for (channel, of) in of.iter_mut().enumerate().take(self.channels).skip(1) {
            let next = table(channel);
            *of = tables.iter().position(|known| *known == next).unwrap_or_else(|| {
                tables.push(next);
                tables.len() - 1
            });
        }
        let (sum, count) = doubtful.get();
        doubts.counted(sum as f64 / count.max(1) as f64);
        (tables, of)
    }
}

impl<'m> Walk<'m> {
    /// A sum of `a` and `b` by its rule, for every pair; a difference where the unit of `b` is negative.
    pub(super) fn pair(
        &mut self,
        node: Node<'m>,
        a: Scale,
        b: Scale,
        quantiser: &Quantiser,
        doubts: &Doubts,
        rule: &PairRule<'_>,
    ) -> Result<TensorId, Stop> {
        // Of a difference the negative of the second is looked at, whose unit is positive.
        let sign = if b.unit < 0.0 { -1 } else { 1 };
        let (ra, rb) = (self.builder.tensor(a.id).range, self.builder.tensor(b.id).range);
        let rb = if sign < 0 { Range { lo: -rb.hi, hi: -rb.lo } } else { rb };
        // Ranges of joined tensors are a little larger than 8 bits.
        if ra.count() > 1024 || rb.count() > 1024 {
            return Err(Stop::new("a sum of values of more than 8 bits", "quantise both summands to at most 8 bits"));
        }
        let channels = self.builder.tensor(a.id).shape[0];
        let root = self.common(a.id, b.id);
        // Of pairs that no root gives nothing is in doubt.
        let all = Doubts::default();
        let (tables, of) = rule.tables([ra, rb], sign, channels, if root.is_some() { &all } else { doubts });
        let (lo, hi) = tables.iter().fold((i64::MAX, i64::MIN), |(lo, hi), t| (lo.min(t.lo), hi.max(t.hi)));
        if hi - lo > 255 {
            return Err(Obstacle::TooWide { lo, hi }.into());
        }
        let slopes = [a.unit, b.unit].map(|unit| f64::from(unit.abs()) / f64::from(quantiser.scale));
        let inputs = [(a.id, 1), (b.id, sign)];
        if let [table] = &tables[..]
            && !all.any()
            && let Some(id) = self.simple_pair(node, inputs, quantiser, table, slopes)?
        {
            return Ok(id);
        }
        let second = |x: i64| rule.summands[1](sign * x);
        let by_grids = |walk: &mut Self| {
            let grids = Grid::all([rule.summands[0], &second], ra, rb, rule.step);
            walk.grids_pair(node, inputs, quantiser, (&tables, &of), grids)
        };
        let Some((root, [xa, xb])) = root else { return by_grids(self) };
        let lo = self.builder.tensor(root).range.lo;
        let value = |channel: usize, x: i64| {
            let at = (x - lo) as usize;
            doubts.note((rule.value)(channel, xa[at], xb[at]))
        };
        let by_channel = rule.channels > 1;
        match self.function_of_one(node.name(), root, by_channel, quantiser, value) {
            // A table has one row for all channels.
            Err(no) if by_channel && !all.any() => by_grids(self).map_err(|_| no),
            done => done,
        }
    }

    /// By the first grid that tells all pairs apart that differ.
    fn grids_pair(
        &mut self,
        node: Node<'m>,
        inputs: [(TensorId, i64); 2],
        quantiser: &Quantiser,
        tables: (&[Pairs], &[usize]),
        grids: impl Iterator<Item = Grid>,
    ) -> Result<TensorId, Stop> {
        let mut obstacle = None;
        for grid in grids {
            match self.grid_pair(node, inputs, quantiser, tables, &grid) {
                Ok(Some(id)) => return Ok(id),
                Ok(None) => {}
                Err(Stop::Obstacle(no @ (Obstacle::NoFit { .. } | Obstacle::TooLong { .. } | Obstacle::Model(_)))) => {
                    obstacle = Some(no)
                }
                Err(stop) => return Err(stop),
            }
        }
        match obstacle {
            Some(obstacle) => Err(obstacle.into()),
            None => Err(Stop::new(
                "what follows the sum of two tensors rises and falls, or joins pairs that the sum tells apart",
                "quantise the sum before the function, so that it becomes a table",
            )),
        }
    }

    /// One line, a function of a sum with small multipliers, or two lines: small accumulators.
    fn simple_pair(
        &mut self,
        node: Node<'m>,
        [(a, _), (b, sign)]: [(TensorId, i64); 2],
        quantiser: &Quantiser,
        table: &Pairs,
        slopes: [f64; 2],
    ) -> Result<Option<TensorId>, Stop> {
        let name = node.name();
        let channels = self.builder.tensor(a).shape[0];
        let sum = |ma: i64, mb: i64, bias: i64| Sum {
            terms: vec![
                (Term::Identity { input: a, multiplier: ma }, None),
                (Term::Identity { input: b, multiplier: sign * mb }, None),
            ],
            bias: vec![bias; channels],
        };
        // z >> shift is the value, for the smallest shift that has such multipliers.
        if let Some(line) = table.line(slopes) {
            let (shift, least) = (line.shift, table.lo);
            let rule = |_: usize, z: i64| (z >> shift).clamp(least, table.hi);
            let id = self.requantise_sum(name, sum(line.ma, line.mb, line.bias), quantiser, rule)?;
            return Ok(Some(id));
        }
        // Halves that are rounded to even: a function of the multiplied sum, but no line.
        if let Some((ma, mb, steps)) = table.steps(slopes) {
            let steps = vec![steps; channels];
            match self.requantise_by(name, sum(ma, mb, 0), quantiser, table.lo, &vec![1; channels], steps) {
                Err(Stop::Obstacle(Obstacle::NoFit { .. } | Obstacle::TooLong { .. })) => {}
                done => return done.map(Some),
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
            return self.requantise_sum(name, sum, quantiser, |_, z| (z + table.lo).min(table.hi)).map(Some);
        }
        Ok(None)
    }

    /// By the floats that the runtime adds up, in units of a power of two; `None` if these do not tell all pairs apart that differ.
    fn grid_pair(
        &mut self,
        node: Node<'m>,
        inputs: [(TensorId, i64); 2],
        quantiser: &Quantiser,
        (tables, of): (&[Pairs], &[usize]),
        grid: &Grid,
    ) -> Result<Option<TensorId>, Stop> {
        let lo = tables.iter().map(|table| table.lo).min().expect("a table");
        let each = tables.iter().map(|table| {
            let rising = table.sparse(&grid.summands, 1, lo);
            rising.map(|steps| (1, steps)).or_else(|_| Ok((-1, table.sparse(&grid.summands, -1, lo)?)))
        });
        let Ok(each) = each.collect::<Result<Vec<(i64, Steps)>, NotMonotone>>() else { return Ok(None) };
        let name = node.name();
        let mut terms = Vec::new();
        for (summand, (input, sign)) in grid.summands.iter().zip(inputs) {
            terms.push((Term::Identity { input, multiplier: sign * summand.multiplier }, None));
            if summand.rest.iter().any(|&rest| rest != 0) {
                let mut table = summand.rest.clone();
                if sign < 0 {
                    table.reverse();
                }
                let op = Op::Table { input, table };
                let input = self.builder.node(&format!("{name}/rest"), op, None)?;
                terms.push((Term::Identity { input, multiplier: 1 }, None));
            }
        }
        let sum = Sum { terms, bias: vec![0; of.len()] };
        let (signs, steps): (Vec<i64>, Vec<Steps>) = of.iter().map(|&at| each[at].clone()).unzip();
        self.requantise_by(name, sum, quantiser, lo, &signs, steps).map(Some)
    }
}

/// One of the floats of a sum, as multiplier * x + rest(x) in units of a power of two.
struct Summand {
    x: Range,
    multiplier: i64,
    /// One entry for each x; zeros if it is linear.
    rest: Vec<i64>,
}

impl Summand {
    fn value(&self, x: i64) -> i64 {
        self.multiplier * x + self.rest[(x - self.x.lo) as usize]
    }

    /// In units of 1 / `per`, without a constant; `None` if the numbers are too large or too far from a line. Rests that are only
    /// rounding are left out unless `rests`.
    fn of(float: &dyn Fn(i64) -> f64, x: Range, per: f64, rests: bool) -> Option<Summand> {
        let run = (x.hi - x.lo).max(1) as f64;
        let multiplier = ((float(x.hi) - float(x.lo)) * per / run).round();
        if !(1.0..2f64.powi(42)).contains(&multiplier) || (rests && x.count() > 256) {
            return None;
        }
        let multiplier = multiplier as i64;
        let rest = |x: i64| (float(x) * per).round() as i64 - multiplier * x;
        let all: Vec<i64> = (x.lo..=x.hi).map(rest).collect();
        let least = *all.iter().min()?;
        let rest = if rests { all.iter().map(|rest| rest - least).collect() } else { vec![0; all.len()] };
        (rest.iter().max()? < &256).then_some(Summand { x, multiplier, rest })
    }
}

/// Both floats in one unit.
struct Grid {
    summands: [Summand; 2],
}

impl Grid {
    /// From coarse to fine, without and with rests.
    fn all<'r>(
        floats: [&'r dyn Fn(i64) -> f64; 2],
        a: Range,
        b: Range,
        step: f64,
    ) -> impl Iterator<Item = Grid> + use<'r> {
        [false, true].into_iter().flat_map(move |rests| {
            (8..=32).step_by(if rests { 1 } else { 4 }).filter_map(move |bits: i32| {
                let per = 2f64.powi(bits) / 2f64.powi(step.log2().floor() as i32);
                let summand = |at: usize, x: Range| Summand::of(floats[at], x, per, rests);
                Some(Grid { summands: [summand(0, a)?, summand(1, b)?] })
            })
        })
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
#[derive(PartialEq)]
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
        Pairs::between(&self.extremes(ma, mb))
    }

    /// The same, of the least and largest sums of each value.
    fn between(ends: &[(i64, i64)]) -> Vec<(i64, i64)> {
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
            let m = ((slope * f64::from(shift).exp2()).round() as i64).clamp(0, 1 << 30);
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
                Some((ma, mb, Steps::sparse(domain, 0, &gaps).ok()?))
            })
        })
    }

    /// The steps above `lo` in the sum of both summands times a sign.
    fn sparse(&self, summands: &[Summand; 2], sign: i64, lo: i64) -> Result<Steps, NotMonotone> {
        let (a, b) = (&summands[0], &summands[1]);
        let mut ends = vec![(i64::MAX, i64::MIN); (self.hi - self.lo + 1) as usize];
        let bs: Vec<i64> = (self.b.lo..=self.b.hi).map(|x| sign * b.value(x)).collect();
        for (xa, row) in (self.a.lo..=self.a.hi).zip(self.values.chunks_exact(bs.len())) {
            let own = sign * a.value(xa);
            for (value, b) in row.iter().zip(&bs) {
                let end = &mut ends[(value - self.lo) as usize];
                *end = (end.0.min(own + b), end.1.max(own + b));
            }
        }
        let domain = Range {
            lo: ends.iter().map(|end| end.0).min().expect("there are pairs"),
            hi: ends.iter().map(|end| end.1).max().expect("there are pairs"),
        };
        Steps::sparse(domain, self.lo - lo, &Pairs::between(&ends))
    }
}
