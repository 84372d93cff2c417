//! Dilated convolutions as some converters write them: SPACE_TO_BATCH_ND takes an image apart into batches, one of every b-th row and
//! column each, plain convolutions run over these, and BATCH_TO_SPACE_ND puts them together. Here the image stays whole and the
//! convolutions between are dilated by b: row r of batch p is row r b + p of the image.

use super::model::{self, Operator};
use super::movement::{element, positions};
use super::names::number;
use super::shape::bounded;
use super::trouble::{Trouble, refuse};
use super::value::{Apart, Value};
use super::walk::{Import, Walk};
use crate::import::report::Verdict;

/// What may read batches: convolutions without stride, and functions of single values.
const BETWEEN: [i32; 10] = [
    number("CONV_2D"),
    number("DEPTHWISE_CONV_2D"),
    number("QUANTIZE"),
    number("RELU"),
    number("RELU6"),
    number("LOGISTIC"),
    number("TANH"),
    number("HARD_SWISH"),
    number("LEAKY_RELU"),
    number("GELU"),
];

impl<'m, 'f> Walk<'m, 'f> {
    /// Takes an image, or the row that a tensor of three dimensions is, apart.
    pub fn space_to_batch(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let mut x = self.value(operator, 0)?;
        self.same_scale(operator, &x)?;
        if let [1, width, channels] = x.dims[..] {
            x = self.settled(name, &Value { dims: vec![1, 1, width, channels], ..x })?;
        }
        let [1, _, _, channels] = x.dims[..] else {
            return refuse(format!("it takes {:?} apart", x.dims), "export it for a batch of one image");
        };
        if x.fill != 0 || x.dims[1..3] != x.padded() || x.grid[0] != channels {
            x = self.settled(name, &x)?;
        }
        let (block, pads) = self.blocks_and_pairs(operator)?;
        let ([top, bottom], [left, right]) = (pads[0], pads[1]);
        for (padding, more) in x.padding.iter_mut().zip([top, left, bottom, right]) {
            *padding += more;
        }
        let [height, width] = x.padded();
        if height % block[0] != 0 || width % block[1] != 0 {
            return refuse(format!("its blocks {block:?} do not fit {height} x {width}"), "the file is damaged");
        }
        x.dims = bounded(&[1, height, width, channels])?;
        self.apart.insert(operator.outputs[0], Apart { block, whole: x });
        Ok(Verdict::Imported("the dilation of the convolution behind it"))
    }

    /// Puts batches together, and leaves borders out.
    pub fn batch_to_space(&mut self, operator: &Operator<'f>, name: &str) -> Result<Verdict, Trouble> {
        let Some(Apart { block, whole }) = self.apart.get(&self.operand(operator, 0)?).cloned() else {
            return refuse("it puts together what no SPACE_TO_BATCH_ND took apart", "export without it");
        };
        self.same_scale(operator, &whole)?;
        let (back, crops) = self.blocks_and_pairs(operator)?;
        if back != block {
            return refuse(format!("it puts blocks of {back:?} together, of {block:?}"), "use one dilation");
        }
        let rank = self.whole(operator, 1)?.len() + 2;
        let kept = [0, 1].map(|axis| whole.dims[axis + 1].saturating_sub(crops[axis][0] + crops[axis][1]));
        if kept.contains(&0) || rank == 3 && kept[0] != 1 {
            return refuse(format!("it crops {:?} by {crops:?}", whole.dims), "the file is damaged");
        }
        let channels = whole.grid[0];
        let mut y = whole;
        if crops != [[0; 2]; 2] {
            y = self.settled(name, &y)?;
            let dims = [1, kept[0], kept[1], channels];
            let list =
                positions(&dims, |at| Some(element(&y.dims, &[0, at[1] + crops[0][0], at[2] + crops[1][0], at[3]])));
            y = self.moved(name, &y, &dims, &list)?;
        }
        if rank == 3 {
            y = Value { dims: vec![1, kept[1], channels], ..self.without_padding(name, &y)? };
        }
        self.define(operator, y);
        Ok(Verdict::Imported("the dilation of the convolution before it"))
    }

    /// Rows and columns of batches, and what is put around the image or cut off, of rows and of columns.
    fn blocks_and_pairs(&self, operator: &Operator<'f>) -> Result<([usize; 2], [[usize; 2]; 2]), Trouble> {
        let small = |n: &i64| usize::try_from(*n).ok().filter(|&n| n <= 1 << 16);
        let list = |position: usize| -> Result<Vec<usize>, Trouble> {
            let given = self.whole(operator, position)?;
            match given.iter().map(small).collect() {
                Some(list) => Ok(list),
                None => refuse(format!("its blocks or borders are {given:?}"), "the file is damaged"),
            }
        };
        let (block, pairs) = (list(1)?, list(2)?);
        match (&block[..], &pairs[..]) {
            (&[columns], &[before, after]) if columns > 0 => Ok(([1, columns], [[0, 0], [before, after]])),
            (&[rows, columns], &[top, bottom, left, right]) if rows * columns > 0 => {
                Ok(([rows, columns], [[top, bottom], [left, right]]))
            }
            _ => refuse(format!("its blocks {block:?} and borders {pairs:?} are none"), "the file is damaged"),
        }
    }

    /// True if an operator reads batches.
    pub fn reads_batches(&self, operator: &Operator<'_>) -> bool {
        operator.inputs.iter().flatten().any(|input| self.apart.contains_key(input))
    }

    /// Imports an operator that reads batches.
    pub fn on_batches(&mut self, operator: &Operator<'f>, name: &str, import: Import) -> Result<Verdict, Trouble> {
        let first = self.operand(operator, 0)?;
        let alone = operator.inputs[1..].iter().flatten().all(|input| !self.apart.contains_key(input));
        let Some(apart) = self.apart.get(&first).cloned().filter(|_| alone) else { return none() };
        match operator.code {
            code if code == number("BATCH_TO_SPACE_ND") => import(self, operator, name),
            code if code == model::RESHAPE || code == model::SQUEEZE || code == number("EXPAND_DIMS") => {
                let whole = self.turned(operator, name, &apart)?;
                self.apart.insert(operator.outputs[0], whole);
                Ok(Verdict::Dropped("elements stay where they are"))
            }
            code if BETWEEN.contains(&code) => {
                self.values.insert(first, apart.whole);
                self.block = apart.block;
                let made = import(self, operator, name);
                self.block = [1, 1];
                self.values.remove(&first);
                if let Some(whole) = self.values.remove(&operator.outputs[0]) {
                    self.apart.insert(operator.outputs[0], Apart { block: apart.block, whole });
                }
                made
            }
            _ => none(),
        }
    }

    /// Batches of rows as images of one row or of one column, and back: what a convolution along one axis needs.
    fn turned(&mut self, operator: &Operator<'f>, name: &str, apart: &Apart) -> Result<Apart, Trouble> {
        let [rows, columns] = apart.block;
        let [_, height, width, channels] = apart.whole.dims[..] else { return none() };
        let (height, width) = (height / rows, width / columns);
        let batches = rows * columns;
        match self.result(operator).dims[..] {
            [n, w, c] if (n, w, c, height * rows) == (batches, width, channels, 1) => Ok(apart.clone()),
            [n, h, w, c] if (n, h, w, c) == (batches, height, width, channels) => Ok(apart.clone()),
            // A row as a column, or the other way round.
            [n, h, w, c]
                if (n, h, w, c) == (batches, width, height, channels)
                    && (height * rows == 1 || width * columns == 1) =>
            {
                self.upended(name, apart)
            }
            [n, h, c] if (n, h, c) == (batches, height, channels) && width * columns == 1 => self.upended(name, apart),
            _ => none(),
        }
    }

    /// The same with rows and columns exchanged, of which one is the only one.
    fn upended(&mut self, name: &str, Apart { block: [rows, columns], whole }: &Apart) -> Result<Apart, Trouble> {
        let ([channels, height, width], [top, left, bottom, right]) = (whole.grid, whole.padding);
        let inner = Value { padding: [0; 4], dims: vec![1, width, height, channels], ..whole.clone() };
        let mut whole = self.settled(name, &inner)?;
        whole.padding = [left, top, right, bottom];
        let [height, width] = whole.padded();
        whole.dims = vec![1, height, width, channels];
        Ok(Apart { block: [*columns, *rows], whole })
    }
}

fn none<T>() -> Result<T, Trouble> {
    refuse(
        "it reads the batches of a SPACE_TO_BATCH_ND",
        "convolutions of stride 1 and functions of single values may stand between it and BATCH_TO_SPACE_ND",
    )
}
