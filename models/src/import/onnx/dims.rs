//! Dimensions and axes, by the rules of the operators.

use super::graph::Node;
use super::stop::Stop;
use super::tensor::{Constant, is_small};

/// Most elements that are put on one side of an axis.
const MAX_PAD: u64 = 1 << 12;

/// Why shapes that the file states for itself are refused.
pub(super) fn inconsistent() -> Stop {
    Stop::new("shapes that do not fit each other", "the file is not consistent")
}

/// An axis, counted from the end if it is negative; a number has none.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, Stop> {
    let rank = rank as i64;
    let axis = if axis < 0 { axis + rank } else { axis };
    if (0..rank).contains(&axis) { Ok(axis as usize) } else { Err(inconsistent()) }
}

/// Several axes in order, each once.
fn axes_in_order(axes: &[i64], rank: usize) -> Result<Vec<usize>, Stop> {
    let mut axes = axes.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<usize>, _>>()?;
    axes.sort_unstable();
    if axes.is_sorted_by(|a, b| a < b) { Ok(axes) } else { Err(inconsistent()) }
}

/// Axes: an attribute up to version 12 of the operators, an input since.
pub(super) fn axes(node: Node<'_>, input: Option<Constant>) -> Result<Option<Vec<i64>>, Stop> {
    match (node.ints("axes"), input) {
        (Some(axes), _) => Ok(Some(axes.to_vec())),
        (None, Some(axes)) => Ok(Some(axes.to_ints().ok_or_else(inconsistent)?.to_vec())),
        (None, None) => Ok(None),
    }
}

/// Dimensions behind `Reshape`, `Flatten`, `Squeeze` and `Unsqueeze`. Where nothing says which of one a squeeze takes away, it is those
/// from axis `first` on.
pub(super) fn reshaped(
    node: Node<'_>,
    dims: &[usize],
    first: usize,
    input: impl Fn(usize) -> Result<Option<Constant>, Stop>,
) -> Result<Vec<usize>, Stop> {
    match node.op() {
        "Reshape" => {
            let missing = || Stop::new("a shape that is not constant", "fold constants before the export");
            target(dims, &input(1)?.ok_or_else(missing)?, node)
        }
        "Flatten" => {
            let (before, after) = dims.split_at(axis(node.int("axis", 1), dims.len() + 1)?);
            Ok(vec![before.iter().product(), after.iter().product()])
        }
        op => with_axes(node, input(1)?, dims, op == "Unsqueeze", first),
    }
}

/// The shape that `Reshape` asks for: 0 keeps a dimension, one -1 is what is left.
fn target(shape: &[usize], wanted: &Constant, node: Node<'_>) -> Result<Vec<usize>, Stop> {
    let wanted = wanted.to_ints().ok_or_else(inconsistent)?;
    let total: usize = shape.iter().product();
    let keep = node.int("allowzero", 0) == 0;
    let mut new = Vec::new();
    for (at, &size) in wanted.iter().enumerate() {
        new.push(match size {
            -1 => usize::MAX,
            0 if keep => *shape.get(at).ok_or_else(inconsistent)?,
            size => usize::try_from(size).ok().filter(|&size| size as u64 <= 1 << 32).ok_or_else(inconsistent)?,
        });
    }
    let known = new.iter().filter(|&&size| size != usize::MAX).try_fold(1usize, |all, &size| all.checked_mul(size));
    let known = known.ok_or_else(inconsistent)?;
    let open = new.iter().filter(|&&size| size == usize::MAX).count();
    if open > 1 || (open == 1 && (known == 0 || !total.is_multiple_of(known))) || (open == 0 && known != total) {
        return Err(inconsistent());
    }
    new.iter_mut().filter(|size| **size == usize::MAX).for_each(|size| *size = total / known.max(1));
    if is_small(&new) { Ok(new) } else { Err(inconsistent()) }
}

/// Dimensions of one that are added (`more`) or taken away; where the node does not say which, those from `first` on.
fn with_axes(
    node: Node<'_>,
    constant: Option<Constant>,
    dims: &[usize],
    more: bool,
    first: usize,
) -> Result<Vec<usize>, Stop> {
    let all = || (first as i64..dims.len() as i64).filter(|&at| dims[at as usize] == 1).collect();
    let axes = axes(node, constant)?.or_else(|| (!more).then(all)).ok_or_else(inconsistent)?;
    let rank = if more { dims.len() + axes.len() } else { dims.len() };
    let axes = axes_in_order(&axes, rank)?;
    if !more && axes.iter().any(|&at| dims[at] != 1) {
        return Err(inconsistent());
    }
    let mut old = dims.iter().copied();
    let new = (0..rank).filter_map(|at| match (axes.binary_search(&at).is_ok(), more) {
        (true, true) => Some(1),
        (true, false) => old.next().and(None),
        (false, _) => old.next(),
    });
    Ok(new.collect())
}

/// What a `Pad` puts before and after each axis: an attribute up to version 10 of the operators, an input since; negative where elements
/// are cut off.
pub(super) fn pads(
    node: Node<'_>,
    rank: usize,
    input: impl Fn(usize) -> Result<Option<Constant>, Stop>,
) -> Result<(Vec<i64>, Vec<i64>), Stop> {
    let wrong = || Stop::new("padding that is no small number for each side", "the file is not consistent");
    let whole = |constant: Constant| constant.to_ints().map(|ints| ints.to_vec()).ok_or_else(wrong);
    let pads = match node.ints("pads").or_else(|| node.ints("paddings")) {
        Some(pads) => pads.to_vec(),
        None => whole(input(1)?.ok_or_else(wrong)?)?,
    };
    let along = match input(3)? {
        Some(axes) => whole(axes)?.into_iter().map(|at| axis(at, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * along.len() || pads.iter().any(|pad| pad.unsigned_abs() > MAX_PAD) {
        return Err(wrong());
    }
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (index, &at) in along.iter().enumerate() {
        (before[at], after[at]) = (pads[index], pads[along.len() + index]);
    }
    Ok((before, after))
}

/// What `Slice` leaves of an axis.
pub(super) struct Cut {
    pub axis: usize,
    start: i64,
    end: i64,
    step: i64,
}

impl Cut {
    /// The indices that are left of so many.
    pub fn of(&self, size: usize) -> Vec<i64> {
        sliced(size as i64, self.start, self.end, self.step)
    }
}

/// The cuts of a `Slice` by constant starts, ends, axes and steps: attributes up to version 9 of the operators, inputs since.
pub(super) fn cuts(
    node: Node<'_>,
    rank: usize,
    input: impl Fn(usize) -> Result<Option<Constant>, Stop>,
) -> Result<Vec<Cut>, Stop> {
    let whole = |list: Constant| list.to_ints().map(|ints| ints.to_vec()).ok_or_else(inconsistent);
    let list = |index: usize, name: &str| match node.ints(name) {
        Some(list) => Ok(Some(list.to_vec())),
        None => input(index)?.map(whole).transpose(),
    };
    let missing = || Stop::new("starts or ends that are not constant", "fold constants before the export");
    let (starts, ends) = (list(1, "starts")?.ok_or_else(missing)?, list(2, "ends")?.ok_or_else(missing)?);
    let along = list(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), along.len(), steps.len()].iter().any(|&count| count != starts.len()) {
        return Err(inconsistent());
    }
    axes_in_order(&along, rank)?;
    let cut = |at: usize| Ok(Cut { axis: axis(along[at], rank)?, start: starts[at], end: ends[at], step: steps[at] });
    (0..starts.len()).map(cut).collect()
}

/// The indices of start..end in steps, as NumPy has them.
pub(super) fn sliced(size: i64, start: i64, end: i64, step: i64) -> Vec<i64> {
    let from_end = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
    match step {
        1.. => {
            let (start, end) = (from_end(start).clamp(0, size), from_end(end).clamp(0, size));
            (start..end).step_by(step as usize).collect()
        }
        0 => vec![],
        _ => {
            let (start, end) = (from_end(start).clamp(-1, size - 1), from_end(end).clamp(-1, size - 1));
            (end + 1..=start).rev().step_by(step.unsigned_abs() as usize).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::{AttributeProto, NodeProto};
    use super::*;

    /// Dimensions behind a node with this operation and these axes.
    fn changed(op: &str, dims: &[usize], axes: Option<&[i64]>) -> Option<Vec<usize>> {
        let axes = axes.map(|ints| AttributeProto { name: "axes".into(), ints: ints.to_vec(), ..Default::default() });
        let proto = NodeProto { op_type: op.into(), attribute: axes.into_iter().collect(), ..NodeProto::default() };
        reshaped(Node { index: 0, proto: &proto }, dims, 0, |_| Ok(None)).ok()
    }

    #[test]
    fn dimensions_go_once_and_come_once() {
        assert_eq!(changed("Squeeze", &[1, 3, 1, 2], Some(&[0, -2])), Some(vec![3, 2]));
        assert_eq!(changed("Squeeze", &[1, 3, 1, 2], None), Some(vec![3, 2]));
        assert_eq!(changed("Squeeze", &[], None), Some(vec![]));
        assert_eq!(changed("Unsqueeze", &[3, 2], Some(&[-1, 0])), Some(vec![1, 3, 2, 1]));
        assert_eq!(changed("Unsqueeze", &[], Some(&[0])), Some(vec![1]));
        // A number has no axes, an axis goes once, only ones go.
        let wrong: [(&str, &[usize], &[i64]); 10] = [
            ("Squeeze", &[], &[0]),
            ("Squeeze", &[], &[-1]),
            ("Squeeze", &[1, 1], &[1, 1]),
            ("Squeeze", &[1, 1], &[1, -1]),
            ("Squeeze", &[1, 2], &[1]),
            ("Squeeze", &[1, 2], &[2]),
            ("Unsqueeze", &[1, 2], &[0, 0]),
            ("Unsqueeze", &[1, 2], &[0, -4]),
            ("Unsqueeze", &[], &[1]),
            ("Unsqueeze", &[2], &[i64::MIN]),
        ];
        for (op, dims, axes) in wrong {
            assert_eq!(changed(op, dims, Some(axes)), None, "{op} {dims:?} {axes:?}");
        }
        assert_eq!(changed("Unsqueeze", &[2], None), None);
    }

    #[test]
    fn slices_are_those_of_numpy() {
        assert_eq!(sliced(5, 1, 4, 1), [1, 2, 3]);
        assert_eq!(sliced(5, -2, i64::MAX, 1), [3, 4]);
        assert_eq!(sliced(5, 0, 5, 2), [0, 2, 4]);
        assert_eq!(sliced(5, -1, i64::MIN, -1), [4, 3, 2, 1, 0]);
        assert_eq!(sliced(5, 3, 0, -2), [3, 1]);
        assert_eq!(sliced(5, 4, 2, 1), [0i64; 0]);
    }
}
