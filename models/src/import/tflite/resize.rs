//! Bilinear resizing where the weights of neighbours are short: a sum of public multiples of elements in another order, rounded once.
//!
//! Each result is a sum of four elements with weights wy wx of a sum S. Sorted by weight, the four are the same few weights
//! everywhere (9, 3, 3 and 1 of 16 for a factor of 2), so each term is a movement times one of them, with zeros where the weight is
//! another; where there are many weights, their binary digits take the place of the weights.

use super::model::Operator;
use super::movement::{element, positions};
use super::round::Kernels;
use super::trouble::{Trouble, refuse};
use super::value::{Value, quantisation};
use super::walk::Walk;
use crate::check::MAX_TERMS;
use crate::import::builder::Sum;
use crate::import::report::Verdict;
use crate::network::Term;

/// Two neighbours along an axis, the heavier one first, and their weights.
#[derive(Clone, Copy, Debug)]
struct Pair {
    at: [usize; 2],
    weights: [i64; 2],
}

/// How a kernel finds neighbours and rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    /// `ResizeBilinearInteger`: ten bits, half away from 0.
    Integer,
    /// `ResizeBilinear` of unsigned numbers: 32-bit floats, half up.
    Float,
    /// XNNPACK: eleven bits, half up.
    Xnnpack,
}

impl Kernel {
    /// raw / whole.
    fn rounded(self, raw: i64, whole: i64) -> i64 {
        match self {
            Kernel::Integer if raw > 0 => (raw + whole / 2) / whole,
            Kernel::Integer => (raw - whole / 2) / whole,
            Kernel::Float | Kernel::Xnnpack => (raw + whole / 2).div_euclid(whole),
        }
    }
}

impl<'m, 'f> Walk<'m, 'f> {
    /// Interpolation between neighbours.
    pub fn bilinear(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.image(operator, 0, name)?;
        let x = self.settled(name, &x)?;
        let x = self.narrow(name, &x)?;
        // The reference kernels interpolate stored values, whatever the result says that they stand for.
        if self.kernels == Kernels::Single {
            self.same_scale(operator, &x)?;
        }
        let y = quantisation(self.result(operator))?;
        if y.clamp.lo != x.clamp.lo {
            return refuse(
                "its input and its output have different types",
                "an operation that moves elements keeps the type",
            );
        }
        let [height, width] = self.sizes(operator)?;
        // Numbers of the fields: the size was there once.
        let (corners, centers) = (operator.i8(2)? != 0, operator.i8(3)? != 0);
        let kernel = match self.kernels {
            Kernels::Single => Kernel::Xnnpack,
            Kernels::Double if x.clamp.lo == 0 => Kernel::Float,
            Kernels::Double => Kernel::Integer,
        };
        let axis = |from: usize, to: usize| pairs(kernel, from, to, corners, centers);
        let (Some((rows, down)), Some((columns, across))) = (axis(x.grid[1], height), axis(x.grid[2], width)) else {
            return refuse("its weights are no short numbers", "resize by a power of 2, or take the nearest neighbour");
        };
        let dims = vec![1, height, width, x.grid[0]];
        let whole = down * across;
        let slots = slots(&rows, &columns);
        let masks = masks(&slots, whole);
        if masks.len() > MAX_TERMS {
            return refuse("its weights are no short numbers", "resize by a power of 2, or take the nearest neighbour");
        }
        let mut terms = Vec::new();
        for mask in &masks {
            let list = positions(&dims, |at| {
                let place = mask.chosen(&slots[at[1] * width + at[2]])?;
                Some(element(&x.dims, &[0, place[0], place[1], at[3]]))
            });
            let moved = self.moved(&format!("{name}/neighbour"), &x, &dims, &list)?;
            if mask.kind.multiplier() == whole && masks.len() == 1 {
                let zero = x.clamp.zero_point;
                let made = self.pointwise(&format!("{name}/stored"), &moved, y, |x| x + zero)?;
                self.define(operator, made);
                return Ok(Verdict::Imported("elements in another order"));
            }
            terms.push((Term::Identity { input: moved.id, multiplier: mask.kind.multiplier() }, None));
        }
        let lo = x.clamp.lo;
        let stored = |z: i64| kernel.rounded(z + whole * x.clamp.zero_point, whole).clamp(lo, x.clamp.hi) - lo;
        let sum = Sum { terms, bias: vec![0; x.grid[0]] };
        let id = self.builder.requantise(name, sum, y.clamp.zero_point - lo, |_, z| stored(z))?;
        let grid = self.builder.tensor(id).shape;
        self.define(operator, Value { id, grid, dims, scale: y.scale, clamp: y.clamp, ..x });
        Ok(Verdict::Imported("a sum of neighbours"))
    }

    /// Height and width of the result, input 1.
    fn sizes(&self, operator: &Operator<'f>) -> Result<[usize; 2], Trouble> {
        let sizes: Option<Vec<usize>> =
            self.whole(operator, 1)?.into_iter().map(|size| usize::try_from(size).ok()).collect();
        let sizes = sizes.as_deref().and_then(|sizes| <[usize; 2]>::try_from(sizes).ok());
        match sizes.filter(|sizes| sizes.iter().all(|size| (1..=1 << 16).contains(size))) {
            Some(sizes) => Ok(sizes),
            None => refuse("its size is none", "the file is damaged"),
        }
    }
}

/// Neighbours and weights along an axis, and the sum of the weights; `None` where the kernel's weights are no exact fractions.
fn pairs(kernel: Kernel, from: usize, to: usize, corners: bool, centers: bool) -> Option<(Vec<Pair>, i64)> {
    let unit: i64 = if kernel == Kernel::Xnnpack { 1 << 11 } else { 1 << 10 };
    let last = from as i64 - 1;
    let aligned = corners && to > 1;
    let less = usize::from(aligned);
    let neighbours = |at: usize| -> Option<(i64, i64, i64)> {
        match kernel {
            Kernel::Integer => {
                let [from, to] = [from - less, to - less].map(|size| size as i64);
                let step = (unit * from + to / 2) / to;
                let place = at as i64 * step + if centers { step / 2 - unit / 2 } else { 0 };
                let lower = (place / unit).max(0);
                Some((lower, ((place + unit - 1) / unit).min(last), place - unit * lower))
            }
            Kernel::Float | Kernel::Xnnpack => {
                let step = (from - less) as f32 / (to - less) as f32;
                let place = match kernel {
                    Kernel::Float if centers => (at as f32 + 0.5) * step - 0.5,
                    Kernel::Xnnpack if centers && !corners => at as f32 * step + (0.5 * step - 0.5),
                    _ => at as f32 * step,
                };
                let place = if kernel == Kernel::Xnnpack { place.max(0.0).min(last as f32) } else { place };
                let lower = (place.floor() as i64).max(0);
                let upper = if kernel == Kernel::Xnnpack { lower + 1 } else { place.ceil() as i64 };
                let weight = (place - lower as f32) * unit as f32;
                (weight.fract() == 0.0).then_some((lower, upper.min(last), weight as i64))
            }
        }
    };
    let found: Vec<(i64, i64, i64)> = (0..to).map(neighbours).collect::<Option<_>>()?;
    if found.iter().any(|&(lower, upper, _)| !(0..=last).contains(&lower) || !(0..=last).contains(&upper)) {
        return None;
    }
    let alone = |&(lower, upper, weight): &(i64, i64, i64)| lower == upper || weight == 0;
    let between = found.iter().filter(|pair| !alone(pair));
    let common = between.clone().fold(unit, |common, &(_, _, weight)| divisor(common, weight));
    let whole = unit / common;
    // One element alone may have its weight in any two parts: those that another place has.
    let parts = |weight: i64| [whole - weight / common, weight / common];
    let any = between.clone().next().map_or([whole, 0], |&(_, _, weight)| parts(weight));
    let pair = |found: &(i64, i64, i64)| {
        let &(lower, upper, weight) = found;
        let (at, weights) = if alone(found) { ([lower, lower], any) } else { ([lower, upper], parts(weight)) };
        let at = at.map(|at| at as usize);
        if weights[0] >= weights[1] {
            Pair { at, weights }
        } else {
            Pair { at: [at[1], at[0]], weights: [weights[1], weights[0]] }
        }
    };
    Some((found.iter().map(pair).collect(), whole))
}

fn divisor(one: i64, other: i64) -> i64 {
    if other == 0 { one.abs() } else { divisor(other, one % other) }
}

/// An element and its weight.
type Weighted = ([usize; 2], i64);

/// For each place of the result its four elements, by falling weight.
fn slots(rows: &[Pair], columns: &[Pair]) -> Vec<[Weighted; 4]> {
    let place = |row: &Pair, column: &Pair| {
        let of = |y: usize, x: usize| ([row.at[y], column.at[x]], row.weights[y] * column.weights[x]);
        let mut all = [of(0, 0), of(0, 1), of(1, 0), of(1, 1)];
        all.sort_by_key(|&(_, weight)| -weight);
        all
    };
    rows.iter().flat_map(|row| columns.iter().map(move |column| place(row, column))).collect()
}

/// Which elements a term takes: those of one weight, or those with a binary digit in theirs.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Weight(i64),
    Digit(u32),
}

impl Kind {
    fn takes(self, weight: i64) -> bool {
        match self {
            Kind::Weight(wanted) => weight == wanted,
            Kind::Digit(digit) => weight >> digit & 1 == 1,
        }
    }

    fn multiplier(self) -> i64 {
        match self {
            Kind::Weight(weight) => weight,
            Kind::Digit(digit) => 1 << digit,
        }
    }
}

/// A term: of each place the element of number `rank` of those of a kind.
#[derive(Clone, Copy, Debug)]
struct Mask {
    kind: Kind,
    rank: usize,
}

impl Mask {
    fn chosen(self, four: &[Weighted; 4]) -> Option<[usize; 2]> {
        four.iter().filter(|(_, weight)| self.kind.takes(*weight)).nth(self.rank).map(|&(place, _)| place)
    }
}

/// The fewer of one kind of terms for each weight and one for each binary digit.
fn masks(slots: &[[Weighted; 4]], whole: i64) -> Vec<Mask> {
    let mut weights: Vec<i64> = slots.iter().flatten().map(|&(_, weight)| weight).filter(|&w| w != 0).collect();
    weights.sort_unstable();
    weights.dedup();
    let most = |kind: Kind| {
        let count = |four: &[Weighted; 4]| four.iter().filter(|(_, weight)| kind.takes(*weight)).count();
        slots.iter().map(count).max().unwrap_or(0)
    };
    let terms = |kind: Kind| (0..most(kind)).map(move |rank| Mask { kind, rank });
    let by_weight: Vec<Mask> = weights.into_iter().map(Kind::Weight).flat_map(terms).collect();
    let by_digit: Vec<Mask> = (0..=whole.ilog2()).map(Kind::Digit).flat_map(terms).collect();
    if by_weight.len() <= by_digit.len() { by_weight } else { by_digit }
}
