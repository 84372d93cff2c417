//! The input of one group as padded planes of cells, the form that the tiles read.

use rayon::prelude::*;

use super::backend::Backend;
use super::geometry::Layout;
use super::plane::CellSource;
use super::tile::BLOCK;
use super::word::Word;

/// All planes of one group of input channels: `[limbs][planes][plane_len]` cells and some beyond the last.
pub(super) struct Image {
    cells: Vec<u32>,
    group_len: usize,
}

impl Image {
    /// An image of zeros.
    pub(super) fn new<W: Word>(layout: &Layout) -> Self {
        let group_len = layout.group_len();
        // The last block of a band may lie beyond the last plane.
        Self { cells: vec![0; W::LIMBS * group_len + BLOCK + layout.pitch], group_len }
    }

    /// Lays out `input`, `[channels][rows][columns]`, on all threads where `parallel`. Whatever the image held before of
    /// the same layout is overwritten.
    pub(super) fn fill<W: Word>(&mut self, layout: &Layout, backend: Backend, input: &[W], parallel: bool) {
        let fill = |(i, cells): (usize, &mut [u32])| {
            let (limb, plane) = (i / layout.planes.len(), layout.planes[i % layout.planes.len()]);
            let input = &input[plane.channel * layout.channel_len()..];
            backend.fill(cells, &CellSource { layout, plane, limb, input });
        };
        let (all, _) = self.cells.split_at_mut(W::LIMBS * self.group_len);
        if parallel {
            all.par_chunks_exact_mut(layout.plane_len).enumerate().for_each(fill);
        } else {
            all.chunks_exact_mut(layout.plane_len).enumerate().for_each(fill);
        }
    }

    /// The cells of one limb, and all that follow.
    #[inline]
    pub(super) fn limb(&self, limb: usize) -> &[u32] {
        &self.cells[limb * self.group_len..]
    }
}
