//! Pools and means.

use super::linear::window;
use super::model::{self, Operator};
use super::movement::{element, positions};
use super::round::{Activation, Clamp, Kernels, Multiplier};
use super::shape::bounded;
use super::trouble::{Trouble, refuse};
use super::value::{Quantisation, Value, quantisation};
use super::walk::Walk;
use crate::import::advice;
use crate::import::report::Verdict;
use crate::network::{Op, Range, Window};

/// How averages are stored.
#[derive(Clone, Copy)]
struct Average {
    clamp: Clamp,
    /// The least stored value.
    lo: i64,
}

impl Average {
    /// What stands for zero.
    fn zero(self) -> i64 {
        self.clamp.zero_point - self.lo
    }

    /// From the sum of so many elements, half away from 0.
    fn of(self, count: usize) -> impl Fn(i64) -> i64 {
        let (Average { clamp, lo }, count) = (self, count as i64);
        move |sum: i64| {
            let sum = sum + count * clamp.zero_point;
            let half = if sum > 0 { count / 2 } else { -(count / 2) };
            ((sum + half) / count).clamp(clamp.lo, clamp.hi) - lo
        }
    }
}

impl<'m, 'f> Walk<'m, 'f> {
    /// The average of each window, half away from 0, of stored values; padding of its own does not count.
    pub fn average_pool(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.image(operator, 0, name)?;
        let (window, clamp) = self.pool(operator, &x)?;
        let rule = Average { clamp, lo: x.clamp.lo };
        if window.padding == x.padding {
            let count = window.kernel[0] * window.kernel[1];
            let id = self.builder.average(name, x.id, window, rule.zero(), rule.of(count))?;
            self.pooled(operator, &x, id);
            return Ok(Verdict::Imported("an average pool"));
        }
        let own: [usize; 4] = std::array::from_fn(|side| window.padding[side] - x.padding[side]);
        let x = self.without_padding(name, &x)?;
        let window = Window { padding: own, ..window };
        let Some([height, width]) = window.output([x.grid[1], x.grid[2]]) else {
            return refuse("its window is larger than its input", "the file is damaged");
        };
        let dims = bounded(&[1, height, width, x.grid[0]])?;
        let windows: Vec<Vec<usize>> =
            (0..height * width).map(|at| inside(&window, [x.grid[1], x.grid[2]], [at / width, at % width])).collect();
        let made = self.averages(name, &x, &dims, &windows, rule)?;
        self.define(operator, made);
        Ok(Verdict::Imported("average pools"))
    }

    /// The averages of an image's windows, given the places of each: of one size at a time, their elements below each other,
    /// a window a column.
    fn averages(
        &mut self,
        name: &str,
        x: &Value,
        dims: &[usize],
        windows: &[Vec<usize>],
        rule: Average,
    ) -> Result<Value, Trouble> {
        let mut sizes: Vec<usize> = windows.iter().map(Vec::len).collect();
        sizes.sort_unstable();
        sizes.dedup();
        if sizes[0] == 0 {
            return refuse("it has windows without elements", "use less padding");
        }
        let channels = x.grid[0];
        let (mut parts, mut place) = (Vec::new(), vec![0; windows.len()]);
        let mut done = 0;
        for &size in &sizes {
            let some: Vec<usize> = (0..windows.len()).filter(|&at| windows[at].len() == size).collect();
            bounded(&[size, some.len(), channels])?;
            let list =
                positions(&[size, some.len(), channels], |at| Some(windows[some[at[1]]][at[0]] * channels + at[2]));
            let grid = [channels, size, some.len()];
            let columns = self.moved_to(&format!("{name}/windows"), x, &[size, some.len(), channels], grid, &list)?;
            let window = Window { kernel: [size, 1], ..Window::POINT };
            let id =
                self.builder.average(&format!("{name}/average"), columns.id, window, rule.zero(), rule.of(size))?;
            // Each window a channel of its own, for a concatenation of all.
            let part = Value { id, grid: [channels, 1, some.len()], ..x.clone() };
            let list = positions(&[channels, some.len()], |at| Some(at[1] * channels + at[0]));
            let grid = [some.len(), channels, 1];
            parts.push(self.moved_to(&format!("{name}/part"), &part, &[channels, some.len()], grid, &list)?.id);
            some.iter().enumerate().for_each(|(at, &window)| place[window] = done + at);
            done += some.len();
        }
        let id = self.concat(name, &parts)?;
        let whole = Value { id, grid: [done, channels, 1], ..x.clone() };
        let list = positions(dims, |at| Some(at[3] * done + place[at[1] * dims[2] + at[2]]));
        self.moved(&format!("{name}/order"), &whole, dims, &list)
    }

    /// The largest value of each window.
    pub fn max_pool(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let given = self.value(operator, 0)?;
        let least = given.clamp.lo - given.clamp.zero_point;
        let [height, width] = given.padded();
        // The least value never wins, as padding of pools never does.
        let lost = given.padding != [0; 4] && given.fill == least && given.dims == [1, height, width, given.grid[0]];
        let mut x = if lost { given } else { self.image(operator, 0, name)? };
        let (mut window, clamp) = self.pool(operator, &x)?;
        let alone = |window: &Window| {
            let Some([height, width]) = window.output([x.grid[1], x.grid[2]]) else { return true };
            let size = [x.grid[1], x.grid[2]];
            (0..height * width).any(|at| inside(window, size, [at / width, at % width]).is_empty())
        };
        let wins = if lost { alone(&window) } else { self.builder.tensor(x.id).range.lo < 0 };
        if x.padding != [0; 4] && wins {
            // Zeros win over negative values.
            window.padding = std::array::from_fn(|side| window.padding[side] - x.padding[side]);
            x = self.without_padding(name, &x)?;
        }
        let id = self.builder.node(name, Op::MaxPool { input: x.id, window }, None)?;
        let id = self.narrow(name, &Value { id, padding: [0; 4], ..x.clone() })?.id;
        let id =
            self.builder.apply(&format!("{name}/activation"), id, |value| clamp.apply(value) - clamp.zero_point)?;
        self.pooled(operator, &x, id);
        Ok(Verdict::Imported("a max pool"))
    }

    /// Geometry and clamp of a pool. Its output has the input's scale.
    fn pool(&mut self, operator: &Operator<'f>, x: &Value) -> Result<(Window, Clamp), Trouble> {
        let y = quantisation(self.result(operator))?;
        if y.scale != x.scale || y.clamp != x.clamp {
            return refuse("its input and its output have different scales", "a pool keeps the scale");
        }
        let kernel = [operator.i32(4, 0)?, operator.i32(3, 0)?].map(|size| usize::try_from(size).unwrap_or(0));
        let window = window(x, kernel, [operator.i32(2, 0)?, operator.i32(1, 0)?], [1, 1], operator.i8(0)?)?;
        let Some(activation) = Activation::of(operator.i8(5)?) else {
            return refuse("its activation function is unknown", "use none, RELU, RELU6 or RELU_N1_TO_1");
        };
        let Clamp { zero_point, lo, hi } = y.clamp;
        Ok((window, activation.clamp(self.kernels, y.scale, zero_point, Range { lo, hi })))
    }

    fn pooled(&mut self, operator: &Operator<'f>, x: &Value, id: usize) {
        let grid = self.builder.tensor(id).shape;
        let [channels, height, width] = grid;
        let dims = vec![1, height, width, channels];
        self.define(operator, Value { id, grid, dims, padding: [0; 4], fill: 0, ..x.clone() });
    }

    /// The mean or the sum along axes, with a rescaling.
    pub fn mean(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let (x, kernel, dims) = self.reduced(operator, name)?;
        let count = kernel[0] * kernel[1];
        let Quantisation { scale, clamp } = quantisation(self.result(operator))?;
        let over = if operator.code == model::SUM { 1 } else { count };
        if operator.code == model::SUM && self.kernels == Kernels::Double && x.clamp.lo < 0 {
            let reason =
                "the reference kernel reads signed numbers as unsigned ones and adds up others than the file's";
            return refuse(reason, advice::AS_XNNPACK);
        }
        let mean = Mean::of(self.kernels, &x, Quantisation { scale, clamp }, [count, over]);
        let window = Window { kernel, ..Window::POINT };
        let range = self.builder.tensor(x.id).range;
        let count = count as i64;
        if !mean.holds(Range { lo: range.lo.saturating_mul(count), hi: range.hi.saturating_mul(count) }) {
            return refuse("its sum overflows in the runtime", "use another output scale");
        }
        let id = self
            .builder
            .average(name, x.id, window, clamp.zero_point - clamp.lo, |sum| mean.stored(sum, clamp) - clamp.lo)?;
        let grid = self.builder.tensor(id).shape;
        self.define(operator, Value { id, grid, dims, padding: [0; 4], fill: 0, scale, clamp });
        Ok(Verdict::Imported(if over == 1 { "a sum" } else { "an average pool" }))
    }

    /// The largest or the smallest value along axes.
    pub fn reduce_extreme(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let (x, kernel, dims) = self.reduced(operator, name)?;
        self.same_scale(operator, &x)?;
        let window = Window { kernel, ..Window::POINT };
        let mut id = x.id;
        let smallest = operator.code == model::REDUCE_MIN;
        if smallest {
            id = self.narrow(name, &x)?.id;
            id = self.builder.apply(&format!("{name}/negative"), id, |x| -x)?;
        }
        id = self.builder.node(name, Op::MaxPool { input: id, window }, None)?;
        if smallest {
            id = self.builder.apply(&format!("{name}/smallest"), id, |x| -x)?;
        }
        let grid = self.builder.tensor(id).shape;
        self.define(operator, Value { id, grid, dims, padding: [0; 4], ..x });
        Ok(Verdict::Imported("a max pool"))
    }

    /// The operand of a reduction as images over whose height and width it runs, the window, and the dimensions of the result.
    fn reduced(&mut self, operator: &Operator<'f>, name: &str) -> Result<(Value, [usize; 2], Vec<usize>), Trouble> {
        let x = self.whole_value(operator, 0, name)?;
        let rank = x.dims.len();
        let mut over = vec![false; rank];
        for axis in self.whole(operator, 1)? {
            let axis = if axis < 0 { axis + rank as i64 } else { axis };
            match usize::try_from(axis).ok().and_then(|axis| over.get_mut(axis)) {
                Some(over) => *over = true,
                None => return refuse(format!("it runs over axis {axis}"), "the file is damaged"),
            }
        }
        let keep = operator.i8(0)? != 0;
        let sizes = || x.dims.iter().copied().zip(over.iter().copied());
        let left = |(size, over): (usize, bool)| if over { keep.then_some(1) } else { Some(size) };
        let dims: Vec<usize> = sizes().filter_map(left).collect();
        if let ([1, height, width, _], [_, rows, columns, false]) = (&x.dims[..], &over[..])
            && (*rows || *columns)
        {
            let kernel = [if *rows { *height } else { 1 }, if *columns { *width } else { 1 }];
            return Ok((x.clone(), kernel, dims));
        }
        // What stays are the channels, what is reduced is the height.
        let [kept, reduced] =
            [false, true].map(|side| sizes().filter(|part| part.1 == side).map(|part| part.0).collect::<Vec<_>>());
        let [outer, inner] = [&kept, &reduced].map(|sizes| sizes.iter().product::<usize>());
        let inside = reduced.len();
        let list = positions(&[reduced, kept].concat(), |at| {
            let (mut inside, mut outside) = (at[..inside].iter(), at[inside..].iter());
            let next = |over: &bool| *(if *over { inside.next() } else { outside.next() }).expect("one for each axis");
            Some(element(&x.dims, &over.iter().map(next).collect::<Vec<_>>()))
        });
        let moved = self.moved_to(&format!("{name}/order"), &x, &[inner, outer], [outer, inner, 1], &list)?;
        Ok((moved, [inner, 1], dims))
    }
}

/// How a runtime rescales the sum of n values: m = input / (output * n).
#[derive(Clone, Copy, Debug)]
enum Mean {
    /// QuantizedMeanOrSum shortens the significand of m by the division by n.
    Double(Multiplier),
    /// XNNPACK adds up stored values and corrects the zero point, in 32-bit floats: round(fl(S m) + fl(zero_point - n zero m)), half to
    /// even (`reduce-nd.c`, `unary-elementwise.cc`).
    Single { scale: f32, shift: f32, count_of_zero: i64 },
}

impl Mean {
    /// Of the sum of `count` values over `over`.
    fn of(kernels: Kernels, x: &Value, y: Quantisation, [count, over]: [usize; 2]) -> Mean {
        match kernels {
            Kernels::Double => {
                let Multiplier { significand, exponent } = Multiplier::of(f64::from(x.scale) / f64::from(y.scale));
                let shift = (over as u64).ilog2().min(32).min((31 + exponent).max(0) as u32);
                let significand = ((i64::from(significand) << shift) / over as i64) as i32;
                Mean::Double(Multiplier { significand, exponent: exponent - shift as i32 })
            }
            Kernels::Single => {
                let scale = x.scale / y.scale * (1.0 / over as f32);
                let count_of_zero = count as i64 * x.clamp.zero_point;
                let shift = y.clamp.zero_point as f32 - (count as f32 * x.clamp.zero_point as f32) * scale;
                Mean::Single { scale, shift, count_of_zero }
            }
        }
    }

    /// The stored value of a sum of values less their zero points.
    fn stored(self, sum: i64, clamp: Clamp) -> i64 {
        match self {
            Mean::Double(multiplier) => clamp.apply(multiplier.apply(sum)),
            Mean::Single { scale, shift, count_of_zero } => {
                let stored = (sum + count_of_zero) as f32 * scale + shift;
                (stored.round_ties_even() as i64).clamp(clamp.lo, clamp.hi)
            }
        }
    }

    /// True if the runtime computes it without overflow on the whole interval.
    fn holds(self, domain: Range) -> bool {
        match self {
            Mean::Double(multiplier) => multiplier.holds(domain),
            Mean::Single { count_of_zero, .. } => {
                domain.magnitude().saturating_add(count_of_zero.unsigned_abs()) <= i32::MAX as u64
            }
        }
    }
}

/// The elements of an image that a window takes, by their place row by row.
fn inside(window: &Window, size: [usize; 2], at: [usize; 2]) -> Vec<usize> {
    let along = |axis: usize| -> Vec<usize> {
        let from = at[axis] * window.stride[axis];
        let place = |tap: usize| (from + tap * window.dilation[axis]).checked_sub(window.padding[axis]);
        (0..window.kernel[axis]).filter_map(place).filter(|&place| place < size[axis]).collect()
    };
    let columns = along(1);
    along(0).into_iter().flat_map(|row| columns.iter().map(move |column| row * size[1] + column)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XNNPACK does not centre the sum: three of all sums over 42 x 42 tell.
    #[test]
    fn sums_are_rounded_with_their_zero_point() {
        let clamp = Clamp { zero_point: -128, lo: -128, hi: 127 };
        let (x, y) = (f32::from_bits(1_017_536_140), Quantisation { scale: f32::from_bits(995_828_466), clamp });
        let x = Value { id: 0, grid: [1, 42, 42], dims: vec![1, 42, 42, 1], padding: [0; 4], fill: 0, scale: x, clamp };
        let mean = Mean::of(Kernels::Single, &x, y, [42 * 42; 2]);
        for (sum, stored) in [(-222_452, -116), (-188_471, 0), (-159_137, 102)] {
            assert_eq!(mean.stored(sum + 42 * 42 * 128, clamp), stored, "{sum}");
        }
    }
}
