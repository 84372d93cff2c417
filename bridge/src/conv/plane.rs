//! The cells of one plane, from the words of its channels.

use super::geometry::{CellHalves, Layout, Plane};
use super::tile::pair;
use super::word::Word;

/// Where the cells of a plane come from.
pub(super) struct CellSource<'a, W> {
    pub(super) layout: &'a Layout,
    pub(super) plane: Plane,
    pub(super) limb: usize,
    /// The input from the plane's channel on.
    pub(super) input: &'a [W],
}

/// Fills the cells of one plane. CellSource that are padding in both halves are not written.
#[inline(always)]
pub(super) fn fill<W: Word>(cells: &mut [u32], source: &CellSource<'_, W>) {
    match source.layout.axes[1].stride {
        1 => fill_strided::<W, 1>(cells, source),
        2 => fill_strided::<W, 2>(cells, source),
        _ => fill_strided::<W, 0>(cells, source),
    }
}

/// The same for columns of stride S, or of any stride if S is 0.
#[inline(always)]
fn fill_strided<W: Word, const S: usize>(cells: &mut [u32], source: &CellSource<'_, W>) {
    let CellSource { layout, plane, limb, input } = *source;
    let [down, right] = layout.axes;
    let (columns, first) = right.inside(plane.residue[1], layout.columns);
    if columns.is_empty() {
        return;
    }
    // The second half of a cell is a place further on: a channel or some rows.
    let (channel, more) = match plane.halves {
        CellHalves::Channels => (layout.channel_len(), 0),
        CellHalves::Rows => (0, down.dilation),
    };
    let (low_rows, low_first) = down.inside(plane.residue[0], layout.rows);
    let (high_rows, high_first) = down.inside(plane.residue[0] + more, layout.rows);
    let words = |start: usize, y: usize| &input[start + y * right.size + first..];
    if S == 1 && plane.halves == CellHalves::Channels && down.stride == 1 && columns.len() == layout.pitch {
        // No padding beside the rows: all of them are one.
        let cells = &mut cells[low_rows.start * layout.pitch..low_rows.end * layout.pitch];
        return fill_both::<W, 1>(cells, words(0, low_first), words(channel, low_first), 1, limb);
    }
    for row in low_rows.start.min(high_rows.start)..low_rows.end.max(high_rows.end) {
        let cells = &mut cells[row * layout.pitch..][columns.clone()];
        let low = low_rows.contains(&row).then(|| words(0, low_first + (row - low_rows.start) * down.stride));
        let high = high_rows.contains(&row).then(|| words(channel, high_first + (row - high_rows.start) * down.stride));
        match (low, high) {
            (Some(low), Some(high)) => fill_both::<W, S>(cells, low, high, right.stride, limb),
            (Some(words), None) | (None, Some(words)) => {
                let place = if low.is_some() { 0 } else { 16 };
                for (cell, word) in cells.iter_mut().zip(words.iter().step_by(right.stride)) {
                    *cell = u32::from(word.limb(limb)) << place;
                }
            }
            (None, None) => {}
        }
    }
}

/// cells[i] = (low[i * stride], high[i * stride]), the stride S unless that is 0.
#[inline(always)]
fn fill_both<W: Word, const S: usize>(cells: &mut [u32], low: &[W], high: &[W], stride: usize, limb: usize) {
    let set = |cell: &mut u32, low: W, high: W| *cell = pair(low.limb(limb), high.limb(limb));
    if S == 0 {
        for ((cell, &low), &high) in cells.iter_mut().zip(low.iter().step_by(stride)).zip(high.iter().step_by(stride)) {
            set(cell, low, high);
        }
        return;
    }
    let Some((last, cells)) = cells.split_last_mut() else { return };
    set(last, low[cells.len() * S], high[cells.len() * S]);
    for ((cell, low), high) in cells.iter_mut().zip(low.chunks_exact(S)).zip(high.chunks_exact(S)) {
        set(cell, low[0], high[0]);
    }
}
