//! The bodies of one tile: which coefficients are sent, what each encrypts, and where the server finds them.

use std::ops::Range;

use super::Packing;

/// Marks a position of the padded input that no body fills.
pub const UNFILLED: u32 = u32::MAX;

/// One coefficient that is sent encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// Which ciphertext (and mask) of the layer.
    pub ciphertext: u32,
    /// Which coefficient.
    pub coefficient: u32,
    /// The input element (row-major channels, height, width), or `None` for padding, whose value is publicly 0.
    pub element: Option<u32>,
}

/// The bodies of one tile in the order in which they travel, and what the server does with them.
#[derive(Clone, Debug)]
pub struct Tile {
    /// In order of ciphertext, then coefficient.
    pub bodies: Vec<Body>,
    /// For each band, and each position of the tile's padded input (channels, [`Packing::padded_shape`], row-major), the index in `bodies` of
    /// the word that belongs there, or [`UNFILLED`] where no useful output looks.
    pub gather: Vec<u32>,
    /// Useful output rows of the layer.
    pub rows: Range<usize>,
    /// Useful output columns of the layer.
    pub columns: Range<usize>,
}

/// A padded pixel that some useful output reads.
#[derive(Clone, Copy)]
struct Pixel {
    /// ciphertext * N + coefficient, in the first band.
    place: usize,
    element: Option<u32>,
}

/// The pixels of every subgrid that the useful outputs of a tile read, row-major.
struct Needed {
    subgrids: Vec<Vec<bool>>,
    pitch: usize,
}

impl Packing {
    /// The bodies of tile `index` (row-major over the grid).
    pub fn tile(&self, index: usize) -> Tile {
        let [rows, columns] = self.useful_outputs(index);
        let pixels = self.pixels(&rows, &columns);
        // Pixels at one place are padding that neighbours share.
        let mut elements = vec![None; self.ciphertexts() * self.degree];
        for pixel in pixels.iter().flatten() {
            for band in 0..self.bands {
                let element = pixel.element.filter(|_| band == 0);
                let old = elements[self.place(pixel, band)].replace(element);
                assert!(old.is_none_or(|old| old == element), "two inputs at one coefficient");
            }
        }
        // The places that are taken, in order, are the bodies.
        let mut bodies = Vec::new();
        let mut numbers = vec![UNFILLED; elements.len()];
        for (place, element) in elements.iter().enumerate() {
            if let Some(element) = *element {
                numbers[place] = bodies.len() as u32;
                let (ciphertext, coefficient) = ((place / self.degree) as u32, (place % self.degree) as u32);
                bodies.push(Body { ciphertext, coefficient, element });
            }
        }
        let of_band = |band| pixels.iter().map(move |pixel| (pixel, band));
        let number =
            |(pixel, band): (&Option<Pixel>, usize)| pixel.map_or(UNFILLED, |pixel| numbers[self.place(&pixel, band)]);
        let gather = (0..self.bands).flat_map(of_band).map(number).collect();
        Tile { bodies, gather, rows, columns }
    }

    /// Where a pixel's word of a band is.
    fn place(&self, pixel: &Pixel, band: usize) -> usize {
        pixel.place + band * self.band()
    }

    /// The layer's output rows and columns that tile `index` computes. The last tiles have fewer than their size.
    fn useful_outputs(&self, index: usize) -> [Range<usize>; 2] {
        let at = [index / self.grid[1], index % self.grid[1]];
        [0, 1].map(|axis| {
            let first = at[axis] * self.tile[axis];
            first..(first + self.tile[axis]).min(self.output[axis])
        })
    }

    /// The padded input of a tile with these outputs, row-major: `None` where no useful output looks.
    fn pixels(&self, rows: &Range<usize>, columns: &Range<usize>) -> Vec<Option<Pixel>> {
        let stride = self.shape.stride;
        let [height, width] = self.padded_shape();
        let needed = self.needed(rows.len(), columns.len());
        let (row_numbers, column_numbers) = (self.subgrids.along(0, height), self.subgrids.along(1, width));
        let (top, left) = (rows.start * stride[0], columns.start * stride[1]);
        let pixel = |channel: usize, y: usize, x: usize| {
            let subgrid = self.subgrids.number(row_numbers[y], column_numbers[x])?;
            let (row, column) = (y / stride[0], x / stride[1]);
            if !needed.subgrids[subgrid][row * needed.pitch + column] {
                return None;
            }
            let stretch = self.stretch(channel, subgrid);
            let place = stretch.ciphertext * self.degree + self.pos(stretch.index, row, column);
            Some(Pixel { place, element: self.element(channel, top + y, left + x) })
        };
        let mut pixels = Vec::with_capacity(self.shape.channels * height * width);
        for channel in 0..self.shape.channels {
            for y in 0..height {
                pixels.extend((0..width).map(|x| pixel(channel, y, x)));
            }
        }
        pixels
    }

    /// The input element at row y and column x of the layer's padded input; `None` for padding.
    fn element(&self, channel: usize, y: usize, x: usize) -> Option<u32> {
        let s = &self.shape;
        let y = y.checked_sub(s.padding[0]).filter(|&y| y < s.height)?;
        let x = x.checked_sub(s.padding[1]).filter(|&x| x < s.width)?;
        Some(((channel * s.height + y) * s.width + x) as u32)
    }

    /// What the first `rows` x `columns` outputs of a tile read.
    fn needed(&self, rows: usize, columns: usize) -> Needed {
        let [height, pitch] = [0, 1].map(|axis| self.tile[axis] + self.reach[axis]);
        let mut subgrids = vec![vec![false; height * pitch]; self.subgrids.count()];
        for tap in &self.taps {
            for i in 0..rows {
                subgrids[tap.subgrid][(i + tap.dy) * pitch + tap.dx..][..columns].fill(true);
            }
        }
        Needed { subgrids, pitch }
    }
}
