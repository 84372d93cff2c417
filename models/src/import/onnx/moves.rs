//! Operations that only move elements: nothing of them needs more than another order.

use std::rc::Rc;

use super::dims::{axis, cuts, reshaped};
use super::graph::Node;
use super::real::{MAX_STEPS, Post};
use super::stop::Stop;
use super::tensor::Constant;
use super::value::{Ints, Later, Layout, Origin, Real, Scale, Value};
use super::walk::Walk;
use crate::check::{MAX_DIMENSION, MAX_ELEMENTS};
use crate::network::{Op, Shape};

/// Where elements come from: the dimensions of the result, and for each of some axes of it what each index adds to the number of
/// the element (row-major) that is read; negative where the result is 0.
#[derive(Clone)]
pub(super) struct Move {
    pub dims: Vec<usize>,
    pub axes: Vec<Vec<i64>>,
}

/// Numbers of elements from one index of an axis to the next, row-major.
fn strides(dims: &[usize]) -> Vec<i64> {
    (0..dims.len()).map(|at| dims[at + 1..].iter().product::<usize>() as i64).collect()
}

/// `count` indices of an axis.
fn steps(count: usize, stride: i64) -> Vec<i64> {
    (0..count as i64).map(|index| index * stride).collect()
}

/// True if the axes name the elements in order, from the first.
pub(super) fn whole(axes: &[Vec<i64>]) -> bool {
    let next =
        |stride: i64, axis: &Vec<i64>| (*axis == steps(axis.len(), stride)).then_some(stride * axis.len() as i64);
    axes.iter().rev().try_fold(1, next).is_some()
}

/// True if some elements are none of what is read, and 0.
pub(super) fn has_zeros(later: &[Later]) -> bool {
    later.iter().any(|later| matches!(later, Later::Select { axes, .. } if axes.iter().flatten().any(|&at| at < 0)))
}

impl Move {
    /// All elements in order, with other dimensions.
    fn reshape(old: &[usize], dims: Vec<usize>) -> Move {
        Move { dims, axes: Move::all(old) }
    }

    fn all(dims: &[usize]) -> Vec<Vec<i64>> {
        dims.iter().zip(strides(dims)).map(|(&count, stride)| steps(count, stride)).collect()
    }

    /// Elements that are missing before and after each axis.
    pub fn padded(old: &[usize], before: &[i64], after: &[i64]) -> Move {
        let (mut dims, mut axes) = (Vec::new(), Vec::new());
        for ((&count, stride), (&before, &after)) in old.iter().zip(strides(old)).zip(before.iter().zip(after)) {
            let indices: Vec<i64> = (-before..count as i64 + after).collect();
            dims.push(indices.len());
            let inside = |&i: &i64| if (0..count as i64).contains(&i) { i * stride } else { -1 };
            axes.push(indices.iter().map(inside).collect());
        }
        Move { dims, axes }
    }

    /// The number of each element that is read, row-major; negative where it is missing.
    pub fn elements(&self) -> Vec<i64> {
        let next = |all: Vec<i64>, axis: &Vec<i64>| {
            all.iter()
                .flat_map(|&first| axis.iter().map(move |&at| if first < 0 || at < 0 { -1 } else { first + at }))
                .collect()
        };
        self.axes.iter().fold(vec![0], next)
    }

    /// Other indices on one axis.
    pub fn along(old: &[usize], axis: usize, indices: &[i64]) -> Move {
        let mut dims = old.to_vec();
        dims[axis] = indices.len();
        let stride = strides(old)[axis];
        let mut axes = Move::all(old);
        axes[axis] = indices.iter().map(|&index| if index < 0 { -1 } else { index * stride }).collect();
        Move { dims, axes }
    }

    /// The elements of `[rows, columns]` column by column, with these dimensions.
    pub fn turned(dims: Vec<usize>, rows: usize, columns: usize) -> Move {
        Move { dims, axes: vec![steps(columns, 1), steps(rows, columns as i64)] }
    }

    fn transpose(old: &[usize], order: &[usize]) -> Move {
        let all = Move::all(old);
        Move { dims: order.iter().map(|&o| old[o]).collect(), axes: order.iter().map(|&o| all[o].clone()).collect() }
    }
}

/// The shape and layout that dimensions of the graph have in the network.
pub(super) fn placed(dims: &[usize]) -> Result<(Shape, Layout), Stop> {
    Ok(match *dims {
        [1, n] => ([n, 1, 1], Layout::of_rank(2)),
        [1, c, l] => ([c, 1, l], Layout::of_rank(3)),
        [1, c, h, w] => ([c, h, w], Layout::of_rank(4)),
        _ => {
            let last = |from_end: usize| dims.iter().rev().nth(from_end).copied().unwrap_or(1);
            let before = dims.iter().rev().skip(2).product::<usize>();
            let layout = Layout::free(dims).ok_or_else(|| {
                Stop::new(format!("a tensor of {} dimensions", dims.len()), "tensors have at most 6 dimensions")
            })?;
            ([before, last(1), last(0)], layout)
        }
    })
}

impl<'m> Walk<'m> {
    /// Dimensions of an input in the graph.
    pub(super) fn dims_of(&self, value: &Value<'m>) -> Result<Vec<usize>, Stop> {
        Ok(match value {
            Value::Ints(ints) => ints.layout.dims(self.builder.tensor(ints.id).shape),
            Value::Real(real) => real.layout.dims(self.shape(real)?),
            Value::Input { flat } => {
                let layout = if *flat { Layout::of_rank(2) } else { self.input.layout };
                layout.dims(self.input.shape)
            }
            Value::Constant(constant) => constant.shape.clone(),
            Value::Scaled(scaled) => scaled.shape.clone(),
            Value::Class(_) => return Err(Stop::new("the shape of a class", "end the network at the argmax")),
        })
    }

    /// The value with its elements moved.
    pub(super) fn moved(&mut self, node: Node<'m>, value: &Value<'m>, by: &Move) -> Result<Value<'m>, Stop> {
        let count = by.axes.iter().fold(1usize, |count, axis| count.saturating_mul(axis.len()));
        if count > MAX_ELEMENTS || by.dims.iter().fold(1usize, |all, &size| all.saturating_mul(size)) != count {
            return Err(Stop::new(format!("a tensor of {:?}", by.dims), "tensors have at most 2^24 elements"));
        }
        let (shape, layout) = placed(&by.dims)?;
        match value {
            Value::Ints(ints) => {
                let id = self.select(node, ints.id, shape, &by.axes)?;
                Ok(Value::Ints(Ints { id, layout, ..*ints }))
            }
            Value::Real(real) => {
                let same = self.shape(real)? == shape && whole(&by.axes);
                let mut real = (**real).clone();
                real.layout = layout;
                let alike = real.later.is_empty() && !real.post.iter().any(Post::differs);
                let later = || Later::Select { shape, axes: Rc::new(by.axes.clone()) };
                match real.source {
                    // What is done to all elements alike can be done behind, unless these are more then.
                    Origin::Tensor(scale)
                        if real.plain().is_some()
                            || alike && count <= self.builder.tensor(scale.id).elements() && !has_zeros(&[later()]) =>
                    {
                        let id = self.select(node, scale.id, shape, &by.axes)?;
                        real.source = Origin::Tensor(Scale { id, ..scale });
                    }
                    _ if same => {}
                    _ if real.later.len() >= MAX_STEPS => {
                        return Err(Stop::new("values that are moved many times", "quantise them in between"));
                    }
                    _ => real.later.push(later()),
                }
                if real.later.is_empty() {
                    real.channels = shape[0];
                }
                Ok(Value::Real(Rc::new(real)))
            }
            _ => Err(Stop::new("it moves what nothing has quantised", "quantise the input before")),
        }
    }

    /// Elements in another order; vectors and what stays as it is need no operation of their own.
    pub(super) fn select(
        &mut self,
        node: Node<'m>,
        input: usize,
        shape: Shape,
        axes: &[Vec<i64>],
    ) -> Result<usize, Stop> {
        let old = self.builder.tensor(input);
        if old.elements() == shape.iter().product::<usize>() && whole(axes) && shape[1..] == [1, 1] {
            return Ok(self.builder.flatten(node.name(), input)?);
        }
        Ok(self.builder.select(node.name(), input, shape, axes.to_vec())?)
    }

    /// `Flatten`, `Reshape`, `Squeeze`, `Unsqueeze`, `Transpose`.
    pub(super) fn reshape(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let value = self.value(node, 0)?.clone();
        if let Value::Class(_) = value {
            return Ok(value);
        }
        let old = self.dims_of(&value)?;
        let by = match node.op() {
            "Transpose" => Move::transpose(&old, &order_of(node, old.len())?),
            _ => Move::reshape(&old, reshaped(node, &old, 0, |index| self.optional(node, index))?),
        };
        if by.dims == old && by.axes == Move::all(&old) {
            return Ok(value);
        }
        if let Value::Input { .. } = value {
            let whole = by.axes == Move::all(&old) || node.op() != "Transpose";
            if whole && by.dims == [1, self.input.shape.iter().product::<usize>()] {
                return Ok(Value::Input { flat: true });
            }
            self.quantised_ahead(node)?;
            let value = self.value(node, 0)?.clone();
            return self.moved(node, &value, &by);
        }
        self.moved(node, &value, &by)
    }

    /// Axes: an attribute, or input 1.
    pub(super) fn axes_of(&self, node: Node<'m>) -> Result<Option<Vec<i64>>, Stop> {
        super::dims::axes(node, self.optional(node, 1)?)
    }

    /// Whole numbers that a constant input has, or an attribute of older versions.
    fn numbers(&self, node: Node<'m>, index: usize, name: &str) -> Result<Option<Vec<i64>>, Stop> {
        let whole = |constant: Constant| {
            let wrong = || Stop::new(format!("{name} are no whole numbers"), "the file is not consistent");
            constant.to_ints().map(|ints| ints.to_vec()).ok_or_else(wrong)
        };
        match node.ints(name) {
            Some(numbers) => Ok(Some(numbers.to_vec())),
            None => self.optional(node, index)?.map(whole).transpose(),
        }
    }

    /// `Split`: one value for each output.
    pub(super) fn split(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let value = self.value(node, 0)?.clone();
        let old = self.dims_of(&value)?;
        let along = axis(node.int("axis", 0), old.len())?;
        let parts = node.proto.output.len().max(1);
        let sizes = match self.numbers(node, 1, "split")? {
            Some(sizes) => sizes.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect(),
            None => {
                let size = old[along].div_ceil(parts);
                (0..parts).map(|part| size.min(old[along].saturating_sub(part * size))).collect::<Vec<_>>()
            }
        };
        if sizes.len() != parts
            || sizes.contains(&0)
            || sizes.iter().copied().fold(0, usize::saturating_add) != old[along]
        {
            return Err(Stop::new(format!("parts of {sizes:?} of {}", old[along]), "the file is not consistent"));
        }
        let (mut first, mut result) = (0, None);
        for (name, size) in node.proto.output.iter().zip(sizes) {
            let indices: Vec<i64> = (first as i64..(first + size) as i64).collect();
            first += size;
            if self.graph.is_read(name) {
                let part = self.moved(node, &value, &Move::along(&old, along, &indices))?;
                self.values.insert(name, part.clone());
                result.get_or_insert(part);
            }
        }
        // What is inserted for the first output is its own value.
        let first = node.proto.output.first().and_then(|name| self.values.get(name.as_str()).cloned());
        first.or(result).ok_or_else(|| Stop::new("no part of it is read", "leave it out"))
    }

    /// `Slice` by constant starts, ends, axes and steps.
    pub(super) fn slice(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let value = self.value(node, 0)?.clone();
        let old = self.dims_of(&value)?;
        let (mut value, mut dims) = (value, old);
        for cut in cuts(node, dims.len(), |index| self.optional(node, index))? {
            let indices = cut.of(dims[cut.axis]);
            if indices.is_empty() {
                return Err(Stop::new("a slice of nothing", "the file is not consistent"));
            }
            value = self.moved(node, &value, &Move::along(&dims, cut.axis, &indices))?;
            dims[cut.axis] = indices.len();
        }
        Ok(value)
    }

    /// `Gather` of constant indices.
    pub(super) fn gather(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let value = self.value(node, 0)?.clone();
        let old = self.dims_of(&value)?;
        let along = axis(node.int("axis", 0), old.len())?;
        let chosen = self.constant(node, 1)?;
        let size = old[along] as i64;
        let indices: Option<Vec<i64>> = chosen.to_ints().and_then(|ints| {
            ints.iter().map(|&i| Some(if i < 0 { i + size } else { i }).filter(|i| (0..size).contains(i))).collect()
        });
        let indices =
            indices.ok_or_else(|| Stop::new("an index that is out of range", "the file is not consistent"))?;
        let mut by = Move::along(&old, along, &indices);
        by.dims.splice(along..=along, chosen.shape.iter().copied());
        self.moved(node, &value, &by)
    }

    /// `Expand` and `Tile`: elements that stand in several places.
    pub(super) fn repeat(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let mut value = self.value(node, 0)?.clone();
        let mut dims = self.dims_of(&value)?;
        let wrong = || Stop::new("sizes that do not fit its shape", "the file is not consistent");
        let sizes = self.numbers(node, 1, "repeats")?.ok_or_else(wrong)?;
        let sizes: Vec<usize> = sizes.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
        let tile = node.op() == "Tile";
        if sizes.contains(&0) || tile && sizes.len() != dims.len() {
            return Err(wrong());
        }
        if dims.len() < sizes.len() {
            let more = [vec![1; sizes.len() - dims.len()], dims.clone()].concat();
            value = self.moved(node, &value, &Move::reshape(&dims, more.clone()))?;
            dims = more;
        }
        let first = dims.len() - sizes.len();
        for (at, size) in sizes.into_iter().enumerate() {
            let (at, old) = (first + at, dims[first + at]);
            let count = match (tile, old, size) {
                (true, ..) => old.saturating_mul(size),
                (false, old, 1) => old,
                (false, 1, size) => size,
                (false, old, size) if old == size => old,
                _ => return Err(wrong()),
            };
            if count == old {
                continue;
            }
            if count > MAX_ELEMENTS {
                return Err(Stop::new(format!("a tensor of {count} elements"), "tensors have at most 2^24 elements"));
            }
            let indices: Vec<i64> = (0..count).map(|index| (index % old) as i64).collect();
            value = self.moved(node, &value, &Move::along(&dims, at, &indices))?;
            dims[at] = count;
        }
        Ok(value)
    }

    /// `GatherND` of constant indices.
    pub(super) fn gather_nd(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let value = self.value(node, 0)?.clone();
        let old = self.dims_of(&value)?;
        let chosen = self.constant(node, 1)?;
        let wrong = || Stop::new("an index that is out of range", "the file is not consistent");
        let depth = chosen.shape.last().copied().filter(|&depth| (1..=old.len()).contains(&depth)).ok_or_else(wrong)?;
        if node.int("batch_dims", 0) != 0 {
            return Err(Stop::new("indices of each part of a batch", "gather with batch_dims = 0"));
        }
        let strides = strides(&old);
        let element = |tuple: &[i64]| {
            let each = tuple.iter().zip(&old).map(|(&i, &size)| if i < 0 { i + size as i64 } else { i });
            let known = each.clone().zip(&old).all(|(i, &size)| (0..size as i64).contains(&i));
            known.then(|| each.zip(&strides).map(|(i, stride)| i * stride).sum())
        };
        let elements: Option<Vec<i64>> =
            chosen.to_ints().and_then(|ints| ints.chunks_exact(depth).map(element).collect());
        let mut by =
            Move { dims: chosen.shape[..chosen.shape.len() - 1].to_vec(), axes: vec![elements.ok_or_else(wrong)?] };
        by.dims.extend(&old[depth..]);
        by.axes.extend(Move::all(&old).split_off(depth));
        self.moved(node, &value, &by)
    }

    /// A mean over axes of one element, which changes the shape only; `None` if it is another one.
    pub(super) fn mean_of_one(&mut self, node: Node<'m>) -> Result<Option<Value<'m>>, Stop> {
        let value = self.value(node, 0)?.clone();
        let old = self.dims_of(&value)?;
        let axes = self.axes_of(node)?.unwrap_or_default();
        let axes: Vec<usize> = axes.iter().map(|&a| axis(a, old.len())).collect::<Result<_, _>>()?;
        if axes.is_empty() || axes.iter().any(|&at| old.get(at) != Some(&1)) {
            return Ok(None);
        }
        let keep = node.int("keepdims", 1) != 0;
        let dims = (0..old.len()).filter(|at| keep || !axes.contains(at)).map(|at| old[at]).collect();
        self.moved(node, &value, &Move::reshape(&old, dims)).map(Some)
    }

    /// What a reduction reads with the axes that it is over as the last of three, and how its result is moved back; `None` where they are
    /// those of an image already.
    pub(super) fn reduced_last(&mut self, node: Node<'m>) -> Result<Option<(Value<'m>, Move)>, Stop> {
        let value = self.value(node, 0)?.clone();
        let old = self.dims_of(&value)?;
        let given = self.axes_of(node)?.filter(|axes| !axes.is_empty());
        let given = given.unwrap_or_else(|| (0..old.len() as i64).collect());
        let mut axes: Vec<usize> = given.iter().map(|&a| axis(a, old.len())).collect::<Result<_, _>>()?;
        axes.sort_unstable();
        axes.dedup();
        let image = axes == (2..old.len()).collect::<Vec<_>>() && (3..=4).contains(&old.len()) && old[0] == 1;
        if image || node.int("noop_with_empty_axes", 0) != 0 {
            return Ok(None);
        }
        let rest: Vec<usize> = (0..old.len()).filter(|at| !axes.contains(at)).collect();
        let count = |axes: &[usize]| axes.iter().map(|&at| old[at]).product::<usize>();
        let mut by = Move::transpose(&old, &[&rest[..], &axes[..]].concat());
        by.dims = vec![1, count(&rest), count(&axes)];
        let keep = node.int("keepdims", 1) != 0;
        let size = |at: usize| if axes.contains(&at) { 1 } else { old[at] };
        let dims = (0..old.len()).filter(|at| keep || !axes.contains(at)).map(size).collect();
        let back = Move::reshape(&[1, count(&rest), 1], dims);
        Ok(Some((self.moved(node, &value, &by)?, back)))
    }

    /// `DepthToSpace` and `SpaceToDepth`.
    pub(super) fn depth_space(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let value = self.value(node, 0)?.clone();
        let &[1, c, h, w] = &self.dims_of(&value)?[..] else {
            return Err(Stop::new("it reads what is no image", "images are [1, c, h, w]"));
        };
        let b = usize::try_from(node.int("blocksize", 0)).ok().filter(|&b| b <= MAX_DIMENSION).unwrap_or(0);
        let deep = node.op() == "DepthToSpace";
        let fits = b > 0 && if deep { c.is_multiple_of(b * b) } else { h.is_multiple_of(b) && w.is_multiple_of(b) };
        if !fits {
            return Err(Stop::new(format!("blocks of {b}"), "the file is not consistent"));
        }
        let (split, order, dims) = if !deep {
            (vec![1, c, h / b, b, w / b, b], vec![0, 3, 5, 1, 2, 4], vec![1, c * b * b, h / b, w / b])
        } else {
            let dims = vec![1, c / (b * b), h * b, w * b];
            match node.text("mode", "dcr").as_str() {
                "crd" => (vec![1, c / (b * b), b, b, h, w], vec![0, 1, 4, 2, 5, 3], dims),
                _ => (vec![1, b, b, c / (b * b), h, w], vec![0, 3, 4, 1, 5, 2], dims),
            }
        };
        let by = Move { dims, ..Move::transpose(&split, &order) };
        self.moved(node, &value, &by)
    }

    /// `Resize` and `Upsample` to the nearest element.
    pub(super) fn resize(&mut self, node: Node<'m>) -> Result<Value<'m>, Stop> {
        let value = self.value(node, 0)?.clone();
        let mut dims = self.dims_of(&value)?;
        let default = if node.op() == "Upsample" { "asymmetric" } else { "half_pixel" };
        let place = node.text("coordinate_transformation_mode", default);
        let nearest = if node.op() == "Upsample" { "floor" } else { "round_prefer_floor" };
        let nearest = node.text("nearest_mode", nearest);
        if node.text("mode", "nearest") != "nearest" || node.has("axes") {
            return Err(Stop::new("it interpolates", "only the nearest element may be taken"));
        }
        let last = if node.op() == "Upsample" || self.graph.opset < 11 { 1 } else { 2 };
        let scales = match node.input(last) {
            Some(_) => Some(self.constant(node, last)?.to_floats().to_vec()).filter(|scales| !scales.is_empty()),
            None => node.floats("scales").map(<[f32]>::to_vec),
        };
        let sizes = if node.input(3).is_some() { self.numbers(node, 3, "sizes")? } else { None };
        let count = scales.as_ref().map_or_else(|| sizes.as_ref().map_or(0, Vec::len), Vec::len);
        if count != dims.len() {
            return Err(Stop::new("sizes that are not constant", "export with fixed sizes"));
        }
        let mut value = value;
        for along in 0..dims.len() {
            let old = dims[along];
            let (new, scale) = match (&scales, &sizes) {
                (Some(scales), _) => ((old as f32 * scales[along]).floor() as usize, scales[along]),
                (None, Some(sizes)) => (sizes[along].max(0) as usize, sizes[along] as f32 / old as f32),
                (None, None) => (old, 1.0),
            };
            if new == old && scale == 1.0 {
                continue;
            }
            if new == 0 || new > 1 << 16 {
                return Err(Stop::new(format!("an axis of {new} elements"), "the file is not consistent"));
            }
            let index = |to: usize| nearest_index(to, [old, new], scale, &place, &nearest);
            let indices: Option<Vec<i64>> = (0..new).map(index).collect();
            let unknown = || Stop::new(format!("coordinates by {place}, {nearest}"), "use asymmetric and floor");
            value = self.moved(node, &value, &Move::along(&dims, along, &indices.ok_or_else(unknown)?))?;
            dims[along] = new;
        }
        Ok(value)
    }

    /// Zeros around a tensor, as elements of it.
    pub(super) fn padded(
        &mut self,
        node: Node<'m>,
        value: &Value<'m>,
        before: &[i64],
        after: &[i64],
    ) -> Result<Value<'m>, Stop> {
        let old = self.dims_of(value)?;
        self.moved(node, value, &Move::padded(&old, before, after))
    }

    /// Padding that was left for a convolution, as elements of the tensor.
    pub(super) fn filled(&mut self, node: Node<'m>, value: &Value<'m>) -> Result<Value<'m>, Stop> {
        let (mut bare, pad) = (value.clone(), value.padding());
        match &mut bare {
            Value::Ints(ints) => ints.layout.pad = [0; 4],
            Value::Real(real) => Rc::make_mut(real).layout.pad = [0; 4],
            _ => {}
        }
        let [top, left, bottom, right] = pad.map(|pad| pad as i64);
        let (before, after) = match self.dims_of(&bare)?.len() {
            3 => (vec![0, 0, left], vec![0, 0, right]),
            _ => (vec![0, 0, top, left], vec![0, 0, bottom, right]),
        };
        self.padded(node, &bare, &before, &after)
    }

    /// Parts joined along an axis that is not that of the channels: that axis goes first, and back.
    pub(super) fn joined(&mut self, node: Node<'m>, parts: &[Value<'m>], along: usize) -> Result<Value<'m>, Stop> {
        let (mut ids, mut dims, mut total) = (Vec::new(), Vec::new(), 0);
        for part in parts {
            let own = self.dims_of(part)?;
            if along >= own.len() {
                return Err(Stop::new("an axis that a part does not have", "the file is not consistent"));
            }
            let order: Vec<usize> = std::iter::once(along).chain((0..own.len()).filter(|&o| o != along)).collect();
            let moved = Move::transpose(&own, &order);
            let rest = own.iter().product::<usize>() / own[along].max(1);
            let by = Move { dims: vec![1, own[along], 1, rest], axes: moved.axes };
            let id = match self.moved(node, part, &by)? {
                Value::Ints(ints) => ints.id,
                Value::Real(real) => self.plain(&real, node)?.id,
                _ => unreachable!("moved values stay what they are"),
            };
            total += own[along];
            ids.push(id);
            dims = own;
        }
        let id = self.builder.node(&format!("{}/join", node.name()), Op::Concat { inputs: ids }, None)?;
        dims[along] = total;
        // Element (i, rest) of the joined one becomes (.., i, ..).
        let order: Vec<usize> = std::iter::once(along).chain((0..dims.len()).filter(|&o| o != along)).collect();
        let first: Vec<usize> = order.iter().map(|&o| dims[o]).collect();
        let back: Vec<usize> = (0..dims.len()).map(|o| order.iter().position(|&p| p == o).unwrap_or(0)).collect();
        let by = Move::transpose(&first, &back);
        let layout = Layout::of_rank(4);
        let whole = match &parts[0] {
            Value::Ints(ints) => Value::Ints(Ints { id, layout, ..*ints }),
            Value::Real(real) => {
                let scale = self.plain(real, node)?;
                let scale = Scale { id, ..scale };
                Value::Real(Rc::new(Real::tensor(scale, total, layout)))
            }
            _ => unreachable!("moved values stay what they are"),
        };
        self.moved(node, &whole, &by)
    }
}

fn order_of(node: Node<'_>, rank: usize) -> Result<Vec<usize>, Stop> {
    let order: Vec<usize> = match node.ints("perm") {
        Some(perm) => perm.iter().map(|&p| axis(p, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut seen = order.clone();
    seen.sort_unstable();
    if seen == (0..rank).collect::<Vec<_>>() {
        Ok(order)
    } else {
        Err(Stop::new("an order that is none of the dimensions", "the file is not consistent"))
    }
}

/// The index that element `to` of a resized axis reads; `None` for what is not known.
fn nearest_index(to: usize, [old, new]: [usize; 2], scale: f32, place: &str, nearest: &str) -> Option<i64> {
    let x = to as f32;
    let x = match place {
        "asymmetric" => x / scale,
        "half_pixel" => (x + 0.5) / scale - 0.5,
        "pytorch_half_pixel" => {
            if new > 1 {
                (x + 0.5) / scale - 0.5
            } else {
                0.0
            }
        }
        "align_corners" if new == 1 => 0.0,
        "align_corners" => x * (old - 1) as f32 / (new - 1) as f32,
        _ => return None,
    };
    let index = match nearest {
        "floor" => x.floor(),
        "ceil" => x.ceil(),
        "round_prefer_floor" => (x - 0.5).ceil(),
        "round_prefer_ceil" => (x + 0.5).floor(),
        _ => return None,
    };
    Some((index as i64).clamp(0, old as i64 - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_elements_are_found() {
        let all = |place: &str, nearest: &str, new: usize, scale: f32| -> Vec<i64> {
            (0..new).map(|to| nearest_index(to, [3, new], scale, place, nearest).expect("a known mode")).collect()
        };
        assert_eq!(all("asymmetric", "floor", 6, 2.0), [0, 0, 1, 1, 2, 2]);
        assert_eq!(all("half_pixel", "round_prefer_floor", 6, 2.0), [0, 0, 1, 1, 2, 2]);
        assert_eq!(all("align_corners", "floor", 2, 0.5), [0, 2]);
        assert_eq!(nearest_index(0, [3, 6], 2.0, "tf_crop_and_resize", "floor"), None);
    }
}
