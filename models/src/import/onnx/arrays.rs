//! Arithmetic on constant arrays: numbers that are chosen, repeated, joined, compared. What exporters compute of shapes, and of masks.

use super::dims::{axes, axis, cuts, inconsistent, sliced};
use super::graph::Node;
use super::stop::Stop;
use super::tensor::{Constant, Element, Values, is_small};

/// Most elements of what is made of other arrays.
const MOST: usize = 1 << 24;

const INT64: Element = Element::Int { bits: 64, signed: true };
const BOOL: Element = Element::Int { bits: 1, signed: false };

/// The result of a node on constants; `None` for what is computed elsewhere, or nowhere.
pub(super) fn fold(node: Node<'_>, inputs: &[Option<Constant>]) -> Result<Option<Constant>, Stop> {
    let input = |index: usize| inputs.get(index).and_then(Option::as_ref);
    let missing = || Stop::new("an input is missing", "the file is damaged");
    let needed = |index: usize| input(index).ok_or_else(missing);
    let x = needed(0)?;
    Ok(Some(match node.op() {
        "Shape" => {
            let sizes = shape_part(node, &x.shape);
            Constant::ints(vec![sizes.len()], INT64, sizes)
        }
        "Size" => Constant::ints(vec![], INT64, vec![x.len() as i64]),
        "Gather" => gather(x, needed(1)?, node.int("axis", 0))?,
        "Concat" => concat(&(0..inputs.len()).map(needed).collect::<Result<Vec<_>, _>>()?, node.int("axis", 0))?,
        "Slice" => slice(node, x, inputs)?,
        "Expand" => {
            let wanted = sizes(needed(1)?)?;
            let shape = broadcast(&x.shape, &wanted).ok_or_else(inconsistent)?;
            spread(x, &shape)?
        }
        "Tile" => tiled(x, needed(1)?)?,
        "Range" => range(x, needed(1)?, needed(2)?)?,
        "ConstantOfShape" => {
            let value = if node.has("value") { node.value()? } else { Constant::floats(vec![1], vec![0.0]) };
            filled(x, &value)?
        }
        "Where" => chosen(x, needed(1)?, needed(2)?)?,
        "Not" => each(x, |v| i64::from(v == 0), |v| v)?,
        "Neg" => each(x, i64::saturating_neg, |v| -v)?,
        "Abs" => each(x, i64::saturating_abs, f32::abs)?,
        "Sign" => each(x, i64::signum, |v| if v == 0.0 { v } else { v.signum() })?,
        "Floor" => each(x, |v| v, f32::floor)?,
        "Ceil" => each(x, |v| v, f32::ceil)?,
        "Round" => each(x, |v| v, f32::round_ties_even)?,
        "Sqrt" => Constant::floats(x.shape.clone(), x.to_floats().iter().map(|v| v.sqrt()).collect()),
        "Reciprocal" => Constant::floats(x.shape.clone(), x.to_floats().iter().map(|v| 1.0 / v).collect()),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "Min" | "Max" | "Equal" | "Greater" | "Less"
        | "GreaterOrEqual" | "LessOrEqual" | "And" | "Or" | "Sum" => {
            let rest = (1..inputs.len()).map(needed).collect::<Result<Vec<_>, _>>()?;
            rest.into_iter().try_fold(x.clone(), |x, y| pairwise(node, &x, y))?
        }
        "ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin" => reduce(node, x, axes(node, input(1).cloned())?)?,
        _ => return Ok(None),
    }))
}

/// The sizes that `Shape` gives: all, or those from `start` to `end`.
pub(super) fn shape_part(node: Node<'_>, dims: &[usize]) -> Vec<i64> {
    let rank = dims.len() as i64;
    sliced(rank, node.int("start", 0), node.int("end", rank), 1).iter().map(|&at| dims[at as usize] as i64).collect()
}

fn small(count: usize) -> Result<usize, Stop> {
    if count <= MOST {
        Ok(count)
    } else {
        Err(Stop::new(format!("a constant of {count} elements"), "store it, or leave it out"))
    }
}

fn sizes(constant: &Constant) -> Result<Vec<usize>, Stop> {
    let ints = constant.to_ints().ok_or_else(inconsistent)?;
    let sizes =
        ints.iter().map(|&size| usize::try_from(size).map_err(|_| inconsistent())).collect::<Result<Vec<_>, _>>()?;
    if is_small(&sizes) { Ok(sizes) } else { Err(inconsistent()) }
}

/// The shape that two become; `None` if they do not fit.
fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], at: usize| (at + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    let both = |at| match (size(a, at), size(b, at)) {
        (1, size) | (size, 1) => Some(size),
        (a, b) => (a == b).then_some(a),
    };
    (0..rank).map(both).collect::<Option<Vec<usize>>>().filter(|shape| is_small(shape))
}

/// Numbers of elements, row-major, where each axis takes the indices of a list.
fn numbers(shape: &[usize], axes: &[Vec<usize>]) -> Result<Vec<usize>, Stop> {
    small(axes.iter().fold(1usize, |count, axis| count.saturating_mul(axis.len())))?;
    let stride = |at: usize| shape[at + 1..].iter().product::<usize>();
    let along = |from: Vec<usize>, (at, axis): (usize, &Vec<usize>)| {
        let stride = stride(at);
        from.iter().flat_map(|&base| axis.iter().map(move |&index| base + index * stride)).collect()
    };
    Ok(axes.iter().enumerate().fold(vec![0], along))
}

/// The elements with these numbers as an array of this shape.
fn taken(constant: &Constant, shape: Vec<usize>, from: &[usize]) -> Constant {
    match &constant.values {
        Values::Float(values) => Constant::floats(shape, from.iter().map(|&at| values[at]).collect()),
        Values::Int(values) => Constant::ints(shape, constant.element, from.iter().map(|&at| values[at]).collect()),
    }
}

/// The array broadcast to a shape that it fits.
fn spread(constant: &Constant, shape: &[usize]) -> Result<Constant, Stop> {
    if constant.shape == shape {
        return Ok(constant.clone());
    }
    let own = [&vec![1; shape.len() - constant.shape.len()][..], &constant.shape].concat();
    let indices = |(&own, &size): (&usize, &usize)| {
        small(size).map(|_| (0..size).map(|i| if own == 1 { 0 } else { i }).collect())
    };
    let axes: Vec<Vec<usize>> = own.iter().zip(shape).map(indices).collect::<Result<_, _>>()?;
    Ok(taken(constant, shape.to_vec(), &numbers(&own, &axes)?))
}

/// The array repeated along each axis.
fn tiled(x: &Constant, repeats: &Constant) -> Result<Constant, Stop> {
    let repeats = sizes(repeats)?;
    if repeats.len() != x.shape.len() {
        return Err(inconsistent());
    }
    let repeated = |(&size, &times): (&usize, &usize)| {
        small(size.saturating_mul(times)).map(|count| (0..count).map(|i| i % size).collect())
    };
    let axes: Vec<Vec<usize>> = x.shape.iter().zip(&repeats).map(repeated).collect::<Result<_, _>>()?;
    Ok(taken(x, axes.iter().map(Vec::len).collect(), &numbers(&x.shape, &axes)?))
}

/// An array of this shape, whose elements are all the one of `value`.
fn filled(shape: &Constant, value: &Constant) -> Result<Constant, Stop> {
    let shape = sizes(shape)?;
    let count = small(shape.iter().fold(1usize, |count, &size| count.saturating_mul(size)))?;
    if value.len() != 1 {
        return Err(inconsistent());
    }
    Ok(taken(value, shape, &vec![0; count]))
}

/// The elements of `a` where the condition holds, else those of `b`; all broadcast.
fn chosen(condition: &Constant, a: &Constant, b: &Constant) -> Result<Constant, Stop> {
    let shape = broadcast(&a.shape, &b.shape).and_then(|shape| broadcast(&shape, &condition.shape));
    let shape = shape.ok_or_else(inconsistent)?;
    let holds = spread(condition, &shape)?.to_ints().ok_or_else(inconsistent)?;
    let (a, b) = (spread(a, &shape)?, spread(b, &shape)?);
    fn pick<T: Copy>(holds: &[i64], a: &[T], b: &[T]) -> Vec<T> {
        holds.iter().zip(a.iter().zip(b)).map(|(&holds, (&a, &b))| if holds != 0 { a } else { b }).collect()
    }
    Ok(match (&a.values, &b.values) {
        (Values::Int(of_a), Values::Int(of_b)) => Constant::ints(shape, a.element, pick(&holds, of_a, of_b)),
        _ => Constant::floats(shape, pick(&holds, &a.to_floats(), &b.to_floats())),
    })
}

fn all(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().map(|&size| (0..size).collect()).collect()
}

fn gather(x: &Constant, indices: &Constant, along: i64) -> Result<Constant, Stop> {
    let along = axis(along, x.shape.len())?;
    let size = x.shape[along] as i64;
    let index = |&i: &i64| {
        let i = if i < 0 { i + size } else { i };
        (0..size).contains(&i).then_some(i as usize)
    };
    let wanted = indices.to_ints().ok_or_else(inconsistent)?;
    let mut axes = all(&x.shape);
    axes[along] = wanted.iter().map(index).collect::<Option<_>>().ok_or_else(inconsistent)?;
    let mut shape = x.shape.clone();
    shape.splice(along..=along, indices.shape.iter().copied());
    Ok(taken(x, shape, &numbers(&x.shape, &axes)?))
}

fn slice(node: Node<'_>, x: &Constant, inputs: &[Option<Constant>]) -> Result<Constant, Stop> {
    let mut axes = all(&x.shape);
    for cut in cuts(node, x.shape.len(), |index| Ok(inputs.get(index).cloned().flatten()))? {
        axes[cut.axis] = cut.of(x.shape[cut.axis]).into_iter().map(|index| index as usize).collect();
    }
    Ok(taken(x, axes.iter().map(Vec::len).collect(), &numbers(&x.shape, &axes)?))
}

fn concat(parts: &[&Constant], along: i64) -> Result<Constant, Stop> {
    let first = parts[0];
    let along = axis(along, first.shape.len())?;
    let others = |shape: &[usize]| [&shape[..along], &shape[along + 1..]].concat();
    let alike = |part: &&Constant| {
        part.element == first.element
            && part.shape.len() == first.shape.len()
            && others(&part.shape) == others(&first.shape)
    };
    if !parts.iter().all(alike) {
        return Err(inconsistent());
    }
    let mut shape = first.shape.clone();
    shape[along] = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.shape[along]));
    small(shape.iter().fold(1usize, |count, &size| count.saturating_mul(size)))?;
    let outer: usize = shape[..along].iter().product();
    let chunk = |part: &Constant, at: usize| {
        let size = part.len() / outer;
        at * size..(at + 1) * size
    };
    let rows = || (0..outer).flat_map(|at| parts.iter().map(move |part| (*part, at)));
    Ok(match first.element {
        Element::Float => {
            Constant::floats(shape, rows().flat_map(|(part, at)| part.to_floats()[chunk(part, at)].to_vec()).collect())
        }
        element => {
            let row = |(part, at): (&Constant, usize)| part.to_ints().map(|ints| ints[chunk(part, at)].to_vec());
            let values = rows().map(row).collect::<Option<Vec<_>>>().ok_or_else(inconsistent)?;
            Constant::ints(shape, element, values.concat())
        }
    })
}

/// start, start + delta, .. below the limit, or above it.
fn range(start: &Constant, limit: &Constant, delta: &Constant) -> Result<Constant, Stop> {
    let one = |constant: &Constant| match (&constant.values, constant.len()) {
        (Values::Int(values), 1) => Ok(values[0]),
        (Values::Float(_), 1) => Err(Stop::new("a range of floats", "make a range of integers, and cast it")),
        _ => Err(inconsistent()),
    };
    let (start_at, limit, delta) = (one(start)?, one(limit)?, one(delta)?);
    if delta == 0 {
        return Err(inconsistent());
    }
    let (whole, step) = (i128::from(limit) - i128::from(start_at), i128::from(delta));
    let count = if whole.signum() == step.signum() { (whole.abs() + step.abs() - 1) / step.abs() } else { 0 };
    let count = small(usize::try_from(count).map_err(|_| inconsistent())?)?;
    let values = (0..count as i128).map(|i| (i128::from(start_at) + i * step) as i64).collect();
    Ok(Constant::ints(vec![count], start.element, values))
}

/// A function of each element.
fn each(x: &Constant, int: impl Fn(i64) -> i64, float: impl Fn(f32) -> f32) -> Result<Constant, Stop> {
    Ok(match &x.values {
        Values::Float(values) => Constant::floats(x.shape.clone(), values.iter().map(|&v| float(v)).collect()),
        Values::Int(values) => {
            let values = values.iter().map(|&v| held(int(v), x.element)).collect::<Option<_>>();
            Constant::ints(x.shape.clone(), x.element, values.ok_or_else(inconsistent)?)
        }
    })
}

/// An integer that its type holds: others wrap.
fn held(v: i64, element: Element) -> Option<i64> {
    let (lo, hi) = match element {
        Element::Int { bits: 64, signed: true } => (i64::MIN, i64::MAX),
        Element::Int { bits, signed: true } => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        Element::Int { bits, signed: false } => (0, if bits < 63 { (1 << bits) - 1 } else { i64::MAX }),
        Element::Float => (i64::MIN, i64::MAX),
    };
    (lo..=hi).contains(&v).then_some(v)
}

/// Sums, products, comparisons and the like of two arrays, broadcast.
fn pairwise(node: Node<'_>, a: &Constant, b: &Constant) -> Result<Constant, Stop> {
    let shape = broadcast(&a.shape, &b.shape).ok_or_else(inconsistent)?;
    let spread = |x: &Constant| if x.len() == 1 { Ok(x.clone()) } else { spread(x, &shape) };
    let (a, b) = (spread(a)?, spread(b)?);
    let count = shape.iter().product::<usize>();
    let op = node.op();
    if let (Values::Int(x), Values::Int(y)) = (&a.values, &b.values) {
        let compares = matches!(op, "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual");
        let element = if compares { BOOL } else { a.element };
        let value = |i: usize| held(whole(node, x[i % x.len()], y[i % y.len()])?, element);
        let values: Option<Vec<i64>> = (0..count).map(value).collect();
        return Ok(Constant::ints(shape, element, values.ok_or_else(inconsistent)?));
    }
    let (x, y) = (a.to_floats(), b.to_floats());
    let pairs = (0..count).map(|i| (x[i % x.len()], y[i % y.len()]));
    let compared = |holds: fn(&f32, &f32) -> bool| {
        Constant::ints(shape.clone(), BOOL, pairs.clone().map(|(x, y)| i64::from(holds(&x, &y))).collect())
    };
    let of =
        |value: fn(f32, f32) -> f32| Constant::floats(shape.clone(), pairs.clone().map(|(x, y)| value(x, y)).collect());
    Ok(match op {
        "Add" | "Sum" => of(|x, y| x + y),
        "Sub" => of(|x, y| x - y),
        "Mul" => of(|x, y| x * y),
        "Div" => of(|x, y| x / y),
        "Pow" => of(f32::powf),
        "Min" => of(f32::min),
        "Max" => of(f32::max),
        "Equal" => compared(f32::eq),
        "Greater" => compared(|x, y| x > y),
        "Less" => compared(|x, y| x < y),
        "GreaterOrEqual" => compared(|x, y| x >= y),
        "LessOrEqual" => compared(|x, y| x <= y),
        _ => return Err(Stop::new(format!("{op} of floats"), "fold constants before the export")),
    })
}

/// The same of two integers; `None` where there is no result.
fn whole(node: Node<'_>, x: i64, y: i64) -> Option<i64> {
    match node.op() {
        "Add" | "Sum" => x.checked_add(y),
        "Sub" => x.checked_sub(y),
        "Mul" => x.checked_mul(y),
        "Div" => x.checked_div(y),
        "Mod" if node.int("fmod", 0) != 0 => x.checked_rem(y),
        // The sign is that of the divisor.
        "Mod" => x.checked_rem(y).map(|rest| if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest }),
        "Pow" => u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
        "Min" => Some(x.min(y)),
        "Max" => Some(x.max(y)),
        "Equal" => Some((x == y).into()),
        "Greater" => Some((x > y).into()),
        "Less" => Some((x < y).into()),
        "GreaterOrEqual" => Some((x >= y).into()),
        "LessOrEqual" => Some((x <= y).into()),
        "And" => Some((x != 0 && y != 0).into()),
        "Or" => Some((x != 0 || y != 0).into()),
        _ => None,
    }
}

/// Products, sums and extremes of integers over axes; sums of floats depend on their order.
fn reduce(node: Node<'_>, x: &Constant, over: Option<Vec<i64>>) -> Result<Constant, Stop> {
    let Values::Int(values) = &x.values else {
        return Err(Stop::new(format!("{} of constant floats", node.op()), "fold constants before the export"));
    };
    let rank = x.shape.len();
    let over = over.filter(|axes| !axes.is_empty());
    if over.is_none() && node.int("noop_with_empty_axes", 0) != 0 {
        return Ok(x.clone());
    }
    let over: Vec<usize> = match over {
        Some(axes) => axes.iter().map(|&at| axis(at, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).collect(),
    };
    let rest: Vec<Vec<usize>> = x
        .shape
        .iter()
        .enumerate()
        .map(|(at, &size)| (0..if over.contains(&at) { 1 } else { size }).collect())
        .collect();
    let window: Vec<Vec<usize>> = x
        .shape
        .iter()
        .enumerate()
        .map(|(at, &size)| (0..if over.contains(&at) { size } else { 1 }).collect())
        .collect();
    let (starts, window) = (numbers(&x.shape, &rest)?, numbers(&x.shape, &window)?);
    let value = |start: &usize| {
        let mut parts = window.iter().map(|by| values[start + by]);
        let first = parts.next()?;
        parts.try_fold(first, |sum, v| match node.op() {
            "ReduceProd" => sum.checked_mul(v),
            "ReduceSum" => sum.checked_add(v),
            "ReduceMax" => Some(sum.max(v)),
            _ => Some(sum.min(v)),
        })
    };
    let value = |start| value(start).and_then(|v| held(v, x.element));
    let values: Vec<i64> = starts.iter().map(value).collect::<Option<_>>().ok_or_else(inconsistent)?;
    let keep = node.int("keepdims", 1) != 0;
    let shape = (0..rank).filter(|at| keep || !over.contains(at));
    let shape = shape.map(|at| if over.contains(&at) { 1 } else { x.shape[at] }).collect();
    Ok(Constant::ints(shape, x.element, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::onnx::schema::{AttributeProto, NodeProto};

    fn ints(shape: &[usize], values: &[i64]) -> Option<Constant> {
        Some(Constant::ints(shape.to_vec(), INT64, values.to_vec()))
    }

    fn folded(op: &str, settings: &[(&str, i64)], inputs: &[Option<Constant>]) -> Option<(Vec<usize>, Vec<i64>)> {
        let attribute = |&(name, i): &(&str, i64)| AttributeProto { name: name.into(), i, ..AttributeProto::default() };
        let attribute = settings.iter().map(attribute).collect();
        let proto = NodeProto { op_type: op.into(), attribute, ..NodeProto::default() };
        let found = fold(Node { index: 0, proto: &proto }, inputs).ok()??;
        Some((found.shape.clone(), found.to_ints()?.to_vec()))
    }

    #[test]
    fn arrays_are_those_of_numpy() {
        let matrix = ints(&[2, 3], &[1, 2, 3, 4, 5, 6]);
        let cases = [
            ("Gather", vec![("axis", 1)], vec![matrix.clone(), ints(&[2], &[-1, 0])], vec![2, 2], vec![3, 1, 6, 4]),
            ("Gather", vec![], vec![matrix.clone(), ints(&[], &[1])], vec![3], vec![4, 5, 6]),
            (
                "Concat",
                vec![("axis", -1)],
                vec![matrix.clone(), ints(&[2, 1], &[7, 8])],
                vec![2, 4],
                vec![1, 2, 3, 7, 4, 5, 6, 8],
            ),
            (
                "Tile",
                vec![],
                vec![ints(&[1, 2], &[1, 2]), ints(&[2], &[2, 2])],
                vec![2, 4],
                vec![1, 2, 1, 2, 1, 2, 1, 2],
            ),
            ("Expand", vec![], vec![ints(&[2, 1], &[1, 2]), ints(&[1], &[2])], vec![2, 2], vec![1, 1, 2, 2]),
            ("Range", vec![], vec![ints(&[], &[5]), ints(&[], &[-2]), ints(&[], &[-3])], vec![3], vec![5, 2, -1]),
            (
                "Range",
                vec![],
                vec![ints(&[], &[i64::MIN]), ints(&[], &[i64::MAX]), ints(&[], &[i64::MAX])],
                vec![3],
                vec![i64::MIN, -1, i64::MAX - 1],
            ),
            ("Mod", vec![], vec![ints(&[2], &[-5, 5]), ints(&[], &[3])], vec![2], vec![1, 2]),
            ("Mod", vec![("fmod", 1)], vec![ints(&[2], &[-5, 5]), ints(&[], &[3])], vec![2], vec![-2, 2]),
            ("Less", vec![], vec![matrix.clone(), ints(&[3], &[2, 2, 9])], vec![2, 3], vec![1, 0, 1, 0, 0, 1]),
            ("ReduceProd", vec![("keepdims", 0)], vec![matrix.clone(), ints(&[1], &[1])], vec![2], vec![6, 120]),
            ("ReduceMax", vec![], vec![matrix.clone()], vec![1, 1], vec![6]),
            (
                "Slice",
                vec![],
                vec![matrix.clone(), ints(&[1], &[-1]), ints(&[1], &[i64::MIN]), ints(&[1], &[1]), ints(&[1], &[-2])],
                vec![2, 2],
                vec![3, 1, 6, 4],
            ),
            ("Shape", vec![("start", -1)], vec![matrix.clone()], vec![1], vec![3]),
        ];
        for (op, settings, inputs, shape, values) in cases {
            assert_eq!(folded(op, &settings, &inputs), Some((shape, values)), "{op} {settings:?}");
        }
    }

    #[test]
    fn what_has_no_result_is_refused() {
        let (one, list) = (ints(&[], &[1]), ints(&[2], &[1, 2]));
        for (op, inputs) in [
            ("Expand", vec![one.clone(), ints(&[3], &[1 << 20, 1 << 20, 1 << 20])]),
            ("ConstantOfShape", vec![ints(&[2], &[1 << 40, 1 << 40])]),
            ("Tile", vec![list.clone(), ints(&[1], &[1 << 60])]),
            ("Range", vec![ints(&[], &[0]), ints(&[], &[i64::MAX]), one.clone()]),
            ("Range", vec![one.clone(), one.clone(), ints(&[], &[0])]),
            ("Gather", vec![list.clone(), ints(&[], &[2])]),
            ("Gather", vec![one.clone(), ints(&[], &[0])]),
            ("Concat", vec![one.clone(), one.clone()]),
            ("Add", vec![ints(&[1 << 30, 1, 0], &[]), ints(&[1, 1 << 30, 0], &[])]),
            ("Concat", vec![list.clone(), ints(&[1, 1], &[1])]),
            ("Add", vec![list.clone(), ints(&[3], &[1, 2, 3])]),
            ("Mul", vec![list.clone(), ints(&[], &[i64::MAX])]),
            ("Div", vec![list, ints(&[], &[0])]),
            ("Mod", vec![ints(&[], &[i64::MIN]), ints(&[], &[-1])]),
        ] {
            assert_eq!(folded(op, &[], &inputs), None, "{op}");
        }
        assert_eq!(folded("Concat", &[], &[ints(&[0, 2], &[]), ints(&[0, 3], &[])]), None);
        assert_eq!(
            folded("Concat", &[("axis", 1)], &[ints(&[0, 2], &[]), ints(&[0, 3], &[])]),
            Some((vec![0, 5], vec![]))
        );
    }
}
