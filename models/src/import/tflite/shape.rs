//! What only moves elements: reshapes, pads, concatenations, slices, transpositions; and the arithmetic of shapes.

use super::model::{self, Element, Operator};
use super::movement::{element, positions};
use super::slice::Slice;
use super::trouble::{Trouble, refuse};
use super::value::{Quantisation, Value, quantisation};
use super::walk::Walk;
use crate::import::report::Verdict;

/// What becomes of data movement.
const MOVED: Verdict = Verdict::Imported("elements in another order");

impl<'m, 'f> Walk<'m, 'f> {
    /// New dimensions for the same elements.
    pub fn reshape(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let input = self.operand(operator, 0)?;
        if self.is_numbers(input) {
            return self.shape_arithmetic(operator);
        }
        let x = self.value(operator, 0)?;
        let x = self.without_padding(name, &x)?;
        let elements: usize = x.grid.iter().product();
        let given = match operator.code {
            model::RESHAPE if operator.inputs.get(1).is_some_and(Option::is_some) => self.whole(operator, 1).ok(),
            model::RESHAPE => Some(operator.i32s(0)?.into_iter().map(i64::from).collect()),
            _ => None,
        };
        let dims =
            given.and_then(|dims| complete(&dims, elements)).unwrap_or_else(|| self.result(operator).dims.clone());
        if dims.iter().try_fold(1usize, |product, &size| product.checked_mul(size)) != Some(elements) {
            return refuse(format!("it makes {dims:?} of {:?}", x.dims), "the file is damaged");
        }
        self.define(operator, Value { dims, ..x });
        Ok(Verdict::Dropped("elements stay where they are"))
    }

    /// A value around a tensor: around an image it becomes padding of what reads it.
    pub fn pad(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.value(operator, 0)?;
        let pads = self.pads(operator, &x)?;
        self.same_scale(operator, &x)?;
        let fill = match operator.inputs.get(2) {
            Some(&Some(value)) => match (self.model.tensors[value].data, x.clamp.lo) {
                (&[byte], 0) => i64::from(byte) - x.clamp.zero_point,
                (&[byte], _) => i64::from(byte as i8) - x.clamp.zero_point,
                _ => return refuse("its value is no constant", "pad with zeros"),
            },
            _ => 0,
        };
        if let [[0, 0], [top, bottom], [left, right], [0, 0]] = pads[..]
            && x.dims[0] == 1
        {
            let [height, width] = x.padded();
            let raw = x.fill == fill && x.dims == [1, height, width, x.grid[0]];
            let mut x = if raw { x } else { self.image(operator, 0, name)? };
            if x.padding != [0; 4] && x.fill != fill {
                x = self.without_padding(name, &x)?;
            }
            for (padding, more) in x.padding.iter_mut().zip([top, left, bottom, right]) {
                *padding += more;
            }
            let [height, width] = x.padded();
            bounded(&[height, width, x.grid[0]])?;
            x.dims = vec![1, height, width, x.grid[0]];
            x.fill = if x.padding == [0; 4] { 0 } else { fill };
            self.define(operator, x);
            return Ok(Verdict::Imported("padding of the next operation"));
        }
        let x = self.whole_value(operator, 0, name)?;
        let dims: Vec<usize> = x.dims.iter().zip(&pads).map(|(size, [before, after])| before + size + after).collect();
        let list = positions(&bounded(&dims)?, |at| {
            let inside = |((at, [before, _]), size): ((&usize, &[usize; 2]), &usize)| {
                at.checked_sub(*before).filter(|at| at < size)
            };
            let place: Option<Vec<usize>> = at.iter().zip(&pads).zip(&x.dims).map(inside).collect();
            Some(element(&x.dims, &place?))
        });
        let made = self.moved_filled(name, &Value { fill, ..x }, &dims, &list)?;
        self.define(operator, made);
        Ok(MOVED)
    }

    /// Elements around a tensor that are those of its borders.
    pub fn mirror(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.whole_value(operator, 0, name)?;
        let pads = self.pads(operator, &x)?;
        self.same_scale(operator, &x)?;
        // The border itself is repeated, or not.
        let less = usize::from(operator.i8(0)? == 0);
        if x.dims.iter().zip(&pads).any(|(size, pair)| pair.iter().any(|&more| more + less > *size)) {
            return refuse(format!("it pads {:?} by {pads:?}", x.dims), "the file is damaged");
        }
        let dims: Vec<usize> = x.dims.iter().zip(&pads).map(|(size, [before, after])| before + size + after).collect();
        let list = positions(&bounded(&dims)?, |at| {
            let inside = |((&at, [before, _]), &size): ((&usize, &[usize; 2]), &usize)| match at.checked_sub(*before) {
                None => before - at - 1 + less,
                Some(at) if at < size => at,
                Some(at) => 2 * size - 1 - less - at,
            };
            Some(element(&x.dims, &at.iter().zip(&pads).zip(&x.dims).map(inside).collect::<Vec<_>>()))
        });
        self.move_to(operator, name, &x, dims, &list)
    }

    /// How many elements are put before and behind, along each axis.
    fn pads(&self, operator: &Operator<'f>, x: &Value) -> Result<Vec<[usize; 2]>, Trouble> {
        let given = self.whole(operator, 1)?;
        let pads: Option<Vec<[usize; 2]>> = given
            .chunks(2)
            .map(|pair| match *pair {
                [before, after] => Some([usize::try_from(before).ok()?, usize::try_from(after).ok()?]),
                _ => None,
            })
            .collect();
        let small = |pads: &Vec<[usize; 2]>| pads.iter().flatten().all(|&more| more <= 1 << 16);
        match pads.filter(|pads| pads.len() == x.dims.len() && small(pads)) {
            Some(pads) => Ok(pads),
            None => refuse(format!("it pads {:?} by {given:?}", x.dims), "paddings must not be negative"),
        }
    }

    /// Other axes first.
    pub fn transpose(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.whole_value(operator, 0, name)?;
        self.same_scale(operator, &x)?;
        let order: Option<Vec<usize>> =
            self.whole(operator, 1)?.into_iter().map(|axis| self::axis(axis as i32, x.dims.len()).ok()).collect();
        let mut seen = vec![false; x.dims.len()];
        order.iter().flatten().for_each(|&axis| seen[axis] = true);
        let Some(order) = order.filter(|order| order.len() == x.dims.len() && seen.iter().all(|&seen| seen)) else {
            return refuse("its order of axes is none", "the file is damaged");
        };
        let dims: Vec<usize> = order.iter().map(|&axis| x.dims[axis]).collect();
        let list = positions(&dims, |at| {
            let mut place = vec![0; at.len()];
            order.iter().zip(at).for_each(|(&axis, &at)| place[axis] = at);
            Some(element(&x.dims, &place))
        });
        self.move_to(operator, name, &x, dims, &list)
    }

    /// Blocks of rows and columns as channels (`deep`), or back.
    pub fn blocks(&mut self, operator: &Operator<'f>, name: &str, deep: bool) -> Result<Verdict, Trouble> {
        let x = self.image(operator, 0, name)?;
        let x = self.settled(name, &x)?;
        self.same_scale(operator, &x)?;
        let block = usize::try_from(operator.i32(0, 0)?).ok().filter(|block| (1..=1 << 10).contains(block));
        let [channels, height, width] = x.grid;
        let fits = |block: &usize| {
            if deep { height % block == 0 && width % block == 0 } else { channels.is_multiple_of(block * block) }
        };
        let Some(block) = block.filter(fits) else {
            return refuse(format!("its blocks do not fit {:?}", x.dims), "the file is damaged");
        };
        let dims = if deep {
            vec![1, height / block, width / block, channels * block * block]
        } else {
            vec![1, height * block, width * block, channels / (block * block)]
        };
        let fewer = dims[3];
        let list = positions(&dims, |at| {
            let place = if deep {
                let (part, channel) = (at[3] / channels, at[3] % channels);
                [0, at[1] * block + part / block, at[2] * block + part % block, channel]
            } else {
                let part = at[1] % block * block + at[2] % block;
                [0, at[1] / block, at[2] / block, part * fewer + at[3]]
            };
            Some(element(&x.dims, &place))
        });
        self.move_to(operator, name, &x, dims, &list)
    }

    /// Each result is the nearest element, by the rule of the runtime in 32-bit floats.
    pub fn nearest(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.image(operator, 0, name)?;
        let x = self.settled(name, &x)?;
        self.same_scale(operator, &x)?;
        let sizes: Option<Vec<usize>> =
            self.whole(operator, 1)?.into_iter().map(|size| usize::try_from(size).ok()).collect();
        let Some([height, width]) = sizes.as_deref().and_then(|sizes| <[usize; 2]>::try_from(sizes).ok()) else {
            return refuse("its size is none", "the file is damaged");
        };
        let (corners, centers) = (operator.i8(0)? != 0, operator.i8(1)? != 0);
        let along = |from: usize, to: usize| {
            let scale =
                if corners && to > 1 { (from as f32 - 1.0) / (to as f32 - 1.0) } else { from as f32 / to as f32 };
            move |at: usize| {
                let place = (at as f32 + if centers { 0.5 } else { 0.0 }) * scale;
                let place = if corners { place.round() } else { place.floor() };
                (place.max(0.0) as usize).min(from - 1)
            }
        };
        let dims = vec![1, height, width, x.grid[0]];
        let (row, column) = (along(x.grid[1], height), along(x.grid[2], width));
        let list = positions(&bounded(&dims)?, |at| Some(element(&x.dims, &[0, row(at[1]), column(at[2]), at[3]])));
        self.move_to(operator, name, &x, dims, &list)
    }

    /// A part of a tensor, or of the numbers of a shape.
    pub fn slice(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        if self.is_numbers(self.operand(operator, 0)?) {
            return self.shape_arithmetic(operator);
        }
        let x = self.whole_value(operator, 0, name)?;
        self.same_scale(operator, &x)?;
        let slice = self.slice_of(operator, &x.dims)?;
        let list = slice.list(&x.dims);
        self.move_to(operator, name, &x, slice.dims(), &list)
    }

    /// Parts along an axis, of one size or of given ones.
    pub fn split(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let given = operator.code == model::SPLIT_V;
        let [data, along] = if given { [0, 2] } else { [1, 0] };
        let x = self.whole_value(operator, data, name)?;
        let [along] = self.whole(operator, along)?[..] else {
            return refuse("its axis is none", "the file is damaged");
        };
        let axis = axis(along as i32, x.dims.len())?;
        let (size, count) = (x.dims[axis], operator.outputs.len());
        let sizes = if given {
            let mut sizes = self.whole(operator, 1)?;
            let known: i64 = sizes.iter().filter(|&&part| part >= 0).sum();
            sizes.iter_mut().filter(|part| **part < 0).for_each(|part| *part = size as i64 - known);
            sizes
        } else {
            vec![(size / count) as i64; count]
        };
        let sizes: Vec<usize> = sizes.into_iter().filter_map(|part| usize::try_from(part).ok()).collect();
        if sizes.len() != count || sizes.contains(&0) || sizes.iter().sum::<usize>() != size {
            return refuse(format!("it splits {size} into {sizes:?}"), "the file is damaged");
        }
        let mut start = 0;
        for (part, &output) in sizes.into_iter().zip(&operator.outputs) {
            self.same_as(output, &x)?;
            let slice = Slice::along(&x.dims, axis, start, part);
            let y = self.moved(name, &x, &slice.dims(), &slice.list(&x.dims))?;
            self.values.insert(output, y);
            start += part;
        }
        Ok(MOVED)
    }

    /// Parts of size 1 along an axis, without it.
    pub fn unpack(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.whole_value(operator, 0, name)?;
        let axis = axis(operator.i32(1, 0)?, x.dims.len())?;
        if x.dims[axis] != operator.outputs.len() {
            return refuse(
                format!("it makes {} tensors of {:?}", operator.outputs.len(), x.dims),
                "the file is damaged",
            );
        }
        for (at, &output) in operator.outputs.iter().enumerate() {
            self.same_as(output, &x)?;
            let slice = Slice::along(&x.dims, axis, at, 1);
            let mut dims = slice.dims();
            dims.remove(axis);
            let y = self.moved(name, &x, &dims, &slice.list(&x.dims))?;
            self.values.insert(output, y);
        }
        Ok(MOVED)
    }

    /// Elements along an axis, by constant numbers.
    pub fn gather(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        if self.is_numbers(self.operand(operator, 0)?) {
            return self.shape_arithmetic(operator);
        }
        let x = self.whole_value(operator, 0, name)?;
        self.same_scale(operator, &x)?;
        if operator.i32(1, 0)? != 0 {
            return refuse("it has dimensions of batches", "gather along one axis");
        }
        let axis = axis(operator.i32(0, 0)?, x.dims.len())?;
        let which = self.whole(operator, 1)?;
        let which: Vec<usize> = which.iter().filter_map(|&at| usize::try_from(at).ok()).collect();
        let shape = &self.model.tensors[self.operand(operator, 1)?].dims;
        if which.len() != shape.iter().product::<usize>() || which.iter().any(|&at| at >= x.dims[axis]) {
            return refuse(format!("it gathers {which:?} of {:?}", x.dims), "the file is damaged");
        }
        let mut flat = x.dims.clone();
        flat[axis] = which.len();
        let list = positions(&bounded(&flat)?, |at| {
            let mut place = at.to_vec();
            place[axis] = which[at[axis]];
            Some(element(&x.dims, &place))
        });
        let dims = [&x.dims[..axis], shape, &x.dims[axis + 1..]].concat();
        self.move_to(operator, name, &x, dims, &list)
    }

    /// The tensor several times along each axis.
    pub fn tile(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.whole_value(operator, 0, name)?;
        self.same_scale(operator, &x)?;
        let times: Vec<usize> =
            self.whole(operator, 1)?.into_iter().filter_map(|times| usize::try_from(times).ok()).collect();
        if times.len() != x.dims.len() {
            return refuse(format!("it repeats {:?} {times:?} times", x.dims), "the file is damaged");
        }
        let dims: Vec<usize> = x.dims.iter().zip(&times).map(|(size, times)| size.saturating_mul(*times)).collect();
        let list = positions(&bounded(&dims)?, |at| {
            let place: Vec<usize> = at.iter().zip(&x.dims).map(|(at, size)| at % size).collect();
            Some(element(&x.dims, &place))
        });
        self.move_to(operator, name, &x, dims, &list)
    }

    /// The tensor backwards along some axes.
    pub fn reverse(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.whole_value(operator, 0, name)?;
        self.same_scale(operator, &x)?;
        let mut backwards = vec![false; x.dims.len()];
        for along in self.whole(operator, 1)? {
            backwards[axis(along as i32, x.dims.len())?] = true;
        }
        let list = positions(&x.dims, |at| {
            let place = |((&at, size), &back): ((&usize, &usize), &bool)| if back { size - 1 - at } else { at };
            Some(element(&x.dims, &at.iter().zip(&x.dims).zip(&backwards).map(place).collect::<Vec<_>>()))
        });
        self.move_to(operator, name, &x, x.dims.clone(), &list)
    }

    /// The tensor as often as larger dimensions need, with new dimensions before its own.
    pub fn broadcast(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let x = self.whole_value(operator, 0, name)?;
        self.same_scale(operator, &x)?;
        let dims: Vec<usize> =
            self.whole(operator, 1)?.into_iter().filter_map(|size| usize::try_from(size).ok()).collect();
        let new = dims.len().saturating_sub(x.dims.len());
        let fits = |(&size, &from): (&usize, &usize)| from == 1 || from == size;
        if dims.len() < x.dims.len() || !dims[new..].iter().zip(&x.dims).all(fits) {
            return refuse(format!("it makes {dims:?} of {:?}", x.dims), "the file is damaged");
        }
        let list = positions(&bounded(&dims)?, |at| {
            let place: Vec<usize> = at[new..].iter().zip(&x.dims).map(|(at, size)| at % size).collect();
            Some(element(&x.dims, &place))
        });
        self.move_to(operator, name, &x, dims, &list)
    }

    /// Names the result of a movement.
    fn move_to(
        &mut self,
        operator: &Operator<'f>,
        name: &str,
        x: &Value,
        dims: Vec<usize>,
        list: &[i64],
    ) -> Result<Verdict, Trouble> {
        if dims.contains(&0) {
            return refuse(format!("it makes {dims:?}"), "tensors must have elements");
        }
        let y = self.moved(name, x, &dims, list)?;
        self.define(operator, y);
        Ok(MOVED)
    }

    /// Refuses results of another scale than the operand's.
    pub fn same_scale(&self, operator: &Operator<'f>, x: &Value) -> Result<(), Trouble> {
        self.same_as(operator.outputs[0], x)
    }

    pub fn same_as(&self, output: usize, x: &Value) -> Result<(), Trouble> {
        if self.moves_reals && self.model.tensors[output].element == Element::Float32 {
            return Ok(());
        }
        let Quantisation { scale, clamp } = quantisation(&self.model.tensors[output])?;
        if (scale, clamp) == (x.scale, x.clamp) {
            return Ok(());
        }
        refuse("its input and its output have different scales", "an operation that moves elements keeps the scale")
    }

    /// SHAPE, STRIDED_SLICE, PACK, GATHER of shapes, which are known.
    pub fn shape_arithmetic(&mut self, operator: &Operator<'f>) -> Result<Verdict, Trouble> {
        let numbers = match operator.code {
            model::SHAPE => self.value(operator, 0)?.dims.iter().map(|&size| size as i64).collect(),
            model::PACK => {
                let mut packed = Vec::new();
                for position in 0..operator.inputs.len() {
                    let [one] = self.whole(operator, position)?[..] else {
                        return refuse("it packs vectors", "export with fixed shapes");
                    };
                    packed.push(one);
                }
                packed
            }
            model::STRIDED_SLICE | model::SLICE => {
                let numbers = self.whole(operator, 0)?;
                let slice = self.slice_of(operator, &[numbers.len()])?;
                slice.list(&[numbers.len()]).into_iter().map(|at| numbers[at as usize]).collect()
            }
            model::GATHER => {
                let (numbers, which) = (self.whole(operator, 0)?, self.whole(operator, 1)?);
                let chosen = which.iter().map(|&at| numbers.get(usize::try_from(at).ok()?).copied());
                match chosen.collect() {
                    Some(chosen) => chosen,
                    None => return refuse(format!("it gathers {which:?} of {numbers:?}"), "the file is damaged"),
                }
            }
            _ => self.whole(operator, 0)?,
        };
        self.numbers.insert(operator.outputs[0], numbers);
        Ok(Verdict::Dropped("shapes are known"))
    }
}

/// Refuses tensors of more elements than a network may have.
pub(super) fn bounded(dims: &[usize]) -> Result<Vec<usize>, Trouble> {
    let count = dims.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    match count.filter(|&count| count <= crate::check::MAX_ELEMENTS) {
        Some(_) => Ok(dims.to_vec()),
        None => refuse(format!("it makes {dims:?}"), "the layer is larger than networks may be"),
    }
}

/// An axis, perhaps counted from behind.
pub(super) fn axis(axis: i32, rank: usize) -> Result<usize, Trouble> {
    let at = if axis < 0 { i64::from(axis) + rank as i64 } else { axis.into() };
    match usize::try_from(at).ok().filter(|&at| at < rank) {
        Some(at) => Ok(at),
        None => refuse(format!("it runs along axis {axis} of {rank}"), "the file is damaged"),
    }
}

/// Dimensions of which one may be -1; `None` if they do not have that many elements.
fn complete(dims: &[i64], elements: usize) -> Option<Vec<usize>> {
    let known = dims.iter().filter(|&&size| size != -1).try_fold(1i64, |product, &size| product.checked_mul(size))?;
    let known = usize::try_from(known).ok().filter(|&known| known > 0 && elements.is_multiple_of(known))?;
    let free = dims.iter().filter(|&&size| size == -1).count();
    (free == 1 || free == 0 && known == elements && !dims.is_empty())
        .then(|| dims.iter().map(|&size| if size == -1 { elements / known } else { size as usize }).collect())
}
