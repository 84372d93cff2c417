//! Convolution of an image: tiles of output channels times flat pixels, read directly from padded planes.

use std::ops::Range;

use rayon::prelude::*;

use super::backend::Backend;
use super::geometry::{ConvShape, Layout, Span};
use super::image::Image;
use super::pack::Digit;
use super::tile::{BLOCK, TILE, Tile};
use super::word::{Sum, Word};

/// CellSource of the image that one band may have, so that it stays in the second-level cache: 1 MiB.
const BAND_CELLS: usize = 1 << 18;

/// The most output channels in a panel, for any backend.
const HEIGHT: usize = 8;

/// A packed convolution.
pub(super) struct Direct {
    backend: Backend,
    layout: Layout,
    /// Those of one group.
    panels: Vec<Panel>,
    /// Pairs of weights of one digit of one group.
    group_len: usize,
    digits: Vec<PackedDigit>,
    /// Of the whole image.
    spans: Vec<Span>,
}

/// Consecutive output channels of one group, which are computed together.
#[derive(Clone, Copy)]
struct Panel {
    /// First output channel within the group.
    first: usize,
    height: usize,
}

struct PackedDigit {
    place: u32,
    ranges: Vec<Range<usize>>,
    /// `[groups][panels][terms][height]` pairs.
    weights: Vec<u32>,
}

/// One panel in one band of output rows.
struct Task<'a, W> {
    group: usize,
    panel: Panel,
    /// First output row.
    row: usize,
    spans: &'a [Span],
    /// For every channel of the panel, its rows of the band.
    outputs: [&'a mut [W]; HEIGHT],
}

/// Sums of a tile.
struct Sums<S> {
    all: [S; TILE],
    narrow: [i32; TILE],
}

impl Direct {
    pub(super) fn new<W: Word>(backend: Backend, shape: &ConvShape, weights: &[i32]) -> Self {
        let layout = Layout::new(shape);
        let outputs = shape.out_channels / shape.groups;
        let mut panels = Vec::new();
        let mut first = 0;
        for height in backend.panels(outputs) {
            panels.push(Panel { first, height });
            first += height;
        }
        let pack = |digit: Digit| {
            let mut packed = Vec::with_capacity(shape.groups * outputs * layout.terms.len());
            for group in 0..shape.groups {
                for panel in &panels {
                    let first = group * outputs + panel.first;
                    digit.pack(&layout.terms, first..first + panel.height, panel.height, &mut packed);
                }
            }
            PackedDigit { place: digit.place, ranges: digit.ranges, weights: packed }
        };
        let digits = Digit::split::<W>(weights, &layout.terms, shape.fan_in()).into_iter().map(pack).collect();
        let spans = layout.spans(layout.axes[0].output);
        Self { backend, group_len: outputs * layout.terms.len(), layout, panels, digits, spans }
    }

    /// output = weights * input, or output += weights * input where `add`; on all threads where `parallel`.
    pub(super) fn apply<W: Word>(&self, input: &[W], output: &mut [W], add: bool, parallel: bool) {
        let [rows, columns] = self.layout.axes.map(|axis| axis.output);
        let outputs: usize = self.panels.iter().map(|panel| panel.height).sum();
        let output_len = outputs * rows * columns;
        let input_len = input.len() / (output.len() / output_len);
        let image = || Image::new::<W>(&self.layout);
        let run = |image: &mut Image, (group, (input, output)): (usize, (&[W], &mut [W])), parallel: bool| {
            image.fill(&self.layout, self.backend, input, parallel);
            self.group(image, group, output, add, parallel);
        };
        if parallel && output.len() / output_len >= rayon::current_num_threads() {
            let groups = input.par_chunks_exact(input_len).zip(output.par_chunks_exact_mut(output_len)).enumerate();
            groups.for_each_init(image, |image, group| run(image, group, false));
        } else {
            let mut image = image();
            let groups = input.chunks_exact(input_len).zip(output.chunks_exact_mut(output_len)).enumerate();
            groups.for_each(|group| run(&mut image, group, parallel));
        }
    }

    /// The output of one group from its image.
    fn group<W: Word>(&self, image: &Image, group: usize, output: &mut [W], add: bool, parallel: bool) {
        let [rows, columns] = self.layout.axes.map(|axis| axis.output);
        let mut bands = (W::LIMBS * self.layout.group_len()).div_ceil(BAND_CELLS);
        if parallel {
            bands = bands.max((4 * rayon::current_num_threads()).div_ceil(self.panels.len()));
        }
        let band = rows.div_ceil(bands.min(rows));
        // A band has the spans of the whole image, cut where it ends; so has the last one, which may be lower.
        let cut = if band < rows {
            [self.layout.spans(band), self.layout.spans((rows - 1) % band + 1)]
        } else {
            [vec![], vec![]]
        };
        let spans = |row: usize| match rows - row {
            _ if band == rows => &self.spans,
            left if left >= band => &cut[0],
            _ => &cut[1],
        };

        let mut channels: Vec<_> =
            output.chunks_exact_mut(rows * columns).map(|channel| channel.chunks_mut(band * columns)).collect();
        let mut tasks = Vec::with_capacity(self.panels.len() * rows.div_ceil(band));
        for row in (0..rows).step_by(band) {
            for &panel in &self.panels {
                let mut outputs: [&mut [W]; HEIGHT] = Default::default();
                for (out, channel) in outputs.iter_mut().zip(&mut channels[panel.first..][..panel.height]) {
                    *out = channel.next().expect("every channel has all bands");
                }
                tasks.push(Task { group, panel, row, spans: spans(row), outputs });
            }
        }
        let sums = || Sums { all: [W::Sum::default(); TILE], narrow: [0; TILE] };
        if parallel {
            tasks.into_par_iter().for_each_init(sums, |sums, task| self.run(image, task, sums, add));
        } else {
            let mut sums = sums();
            tasks.into_iter().for_each(|task| self.run(image, task, &mut sums, add));
        }
    }

    /// Computes one panel in one band, tile by tile.
    fn run<W: Word>(&self, image: &Image, mut task: Task<'_, W>, sums: &mut Sums<W::Sum>, add: bool) {
        let height = task.panel.height;
        let mut at = 0;
        while at < task.spans.len() {
            let blocks = self.backend.blocks(height, task.spans.len() - at);
            self.tile(image, &task, at, blocks, sums);
            let sums = &sums.all[..height * blocks * BLOCK];
            self.backend.store(sums, &task.spans[at..at + blocks], &mut task.outputs[..height], add);
            at += blocks;
        }
    }

    /// The sums of one tile, from block `at` of the band: those of all limbs of the input and all digits of the weights.
    fn tile<W: Word>(&self, image: &Image, task: &Task<'_, W>, at: usize, blocks: usize, sums: &mut Sums<W::Sum>) {
        let Panel { first, height } = task.panel;
        let terms = self.layout.terms.len();
        let pixel = task.row * self.layout.pitch + at * BLOCK;
        let len = height * blocks * BLOCK;
        let (all, narrow) = (&mut sums.all[..len], &mut sums.narrow[..len]);
        let mut begun = false;
        for digit in &self.digits {
            let weights = &digit.weights[task.group * self.group_len + first * terms..];
            for range in &digit.ranges {
                for limb in 0..W::LIMBS {
                    let place = digit.place + 16 * limb as u32;
                    if place >= W::BITS {
                        break;
                    }
                    let compute = |sums: &mut [i32]| {
                        self.backend.tile(Tile {
                            rows: height,
                            blocks,
                            weights: &weights[range.start * height..range.end * height],
                            taps: self.layout.taps.slice(range.clone()),
                            image: &image.limb(limb)[pixel..],
                            sums,
                        });
                    };
                    match W::Sum::as_narrow(all) {
                        Some(all) if !begun => compute(all),
                        _ => {
                            compute(narrow);
                            self.backend.fold(all, narrow, place, !begun);
                        }
                    }
                    begun = true;
                }
            }
        }
    }
}
