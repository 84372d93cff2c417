//! The geometry of a convolution, and the padded planes in which every tap is a constant offset.
//!
//! A direct convolution wants the input of tap (i, j) at output pixel (y, x) at address base + offset(tap) + y P + x,
//! whatever the stride and dilation. So one group of input channels is laid out as planes of *cells* with a common
//! pitch P: rows and columns are split by their residue modulo the stride, and a tap reads the plane of its residue.
//! Output pixels are then counted *flat*, f = y P + x; cells with x >= width of the output are computed for nothing
//! and dropped. At stride 1 the zeros right of a row are those left of the next one.
//!
//! A cell holds two words (of one limb): channels 2c and 2c+1 at the same place, or, for the channel that remains when
//! the number of channels per group is odd, rows y and y + dilation. Two taps are so served by one cell.

/// A convolution on one image, channels first, row-major.
///
/// The input is `[channels, height, width]`, the output `[out_channels, out_height, out_width]`, the weights
/// `[out_channels, channels / groups, kernel[0], kernel[1]]`. A dense layer is a convolution with height = width = 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Input channels.
    pub channels: usize,
    /// Input rows.
    pub height: usize,
    /// Input columns.
    pub width: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Down and right.
    pub stride: [usize; 2],
    /// Zeros added at the top, left, bottom, right.
    pub padding: [usize; 4],
    /// Distance of neighbouring taps, down and right; 1 for an ordinary kernel.
    pub dilation: [usize; 2],
    /// Groups of channels that do not mix; 1 for an ordinary convolution, `channels` for a depthwise one.
    pub groups: usize,
}

impl ConvShape {
    /// A dense layer: `outputs` inner products of `inputs` words.
    pub fn dense(inputs: usize, outputs: usize) -> Self {
        Self {
            channels: inputs,
            height: 1,
            width: 1,
            out_channels: outputs,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0; 4],
            dilation: [1, 1],
            groups: 1,
        }
    }

    /// A convolution of square images with a square kernel, stride 1 and the same padding on all sides.
    pub fn square(channels: usize, out_channels: usize, kernel: usize, size: usize, padding: usize) -> Self {
        Self {
            channels,
            height: size,
            width: size,
            out_channels,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [padding; 4],
            dilation: [1; 2],
            groups: 1,
        }
    }

    /// Rows and columns of the output.
    ///
    /// # Panics
    /// If a size is zero or the kernel is larger than the padded image.
    pub fn output(&self) -> (usize, usize) {
        let [rows, columns] = self.axes();
        (rows.output, columns.output)
    }

    /// Words of the input.
    pub fn input_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Words of the output.
    ///
    /// # Panics
    /// As [`output`](Self::output).
    pub fn output_len(&self) -> usize {
        let (height, width) = self.output();
        self.out_channels * height * width
    }

    /// Weights of one output channel: `channels / groups * kernel[0] * kernel[1]`.
    ///
    /// # Panics
    /// If `groups` is zero.
    pub fn fan_in(&self) -> usize {
        self.channels / self.groups * self.kernel[0] * self.kernel[1]
    }

    /// Multiplications of one application, those with padding included.
    ///
    /// # Panics
    /// As [`output`](Self::output).
    pub fn products(&self) -> usize {
        self.output_len() * self.fan_in()
    }

    /// Rows, then columns.
    pub(super) fn axes(&self) -> [Axis; 2] {
        [
            Axis::new(self.height, [self.padding[0], self.padding[2]], self, 0),
            Axis::new(self.width, [self.padding[1], self.padding[3]], self, 1),
        ]
    }

    /// Panics unless the shape is one that has an output.
    pub(super) fn check(&self) {
        assert!(self.groups > 0, "a convolution has at least one group: {self:?}");
        assert!(self.channels > 0 && self.out_channels > 0, "a convolution has channels: {self:?}");
        assert!(
            self.channels.is_multiple_of(self.groups) && self.out_channels.is_multiple_of(self.groups),
            "the groups of a convolution are equal: {self:?}"
        );
        self.axes();
    }
}

/// One direction of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) size: usize,
    pub(super) before: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    pub(super) output: usize,
}

impl Axis {
    fn new(size: usize, [before, after]: [usize; 2], shape: &ConvShape, axis: usize) -> Self {
        let (kernel, stride, dilation) = (shape.kernel[axis], shape.stride[axis], shape.dilation[axis]);
        assert!(size > 0 && kernel > 0 && stride > 0 && dilation > 0, "a convolution has positive sizes: {shape:?}");
        let span = (kernel - 1) * dilation + 1;
        let padded = before + size + after;
        assert!(span <= padded, "a kernel fits in the padded image: {shape:?}");
        Self { size, before, kernel, stride, dilation, output: (padded - span) / stride + 1 }
    }

    /// The residue and the step of tap `t`: at output pixel x it reads position stride * (x + step) + residue.
    fn split(&self, tap: usize) -> (usize, usize) {
        let position = tap * self.dilation;
        (position % self.stride, position / self.stride)
    }

    /// Steps from the first position of a plane to the last that a tap reads, plus one.
    fn extent(&self) -> usize {
        self.output + self.split(self.kernel - 1).1
    }

    /// The input index at `step` of the plane with `residue`, if it is not padding.
    pub(super) fn source(&self, residue: usize, step: usize) -> Option<usize> {
        (self.stride * step + residue).checked_sub(self.before).filter(|&x| x < self.size)
    }

    /// The steps below `limit` of the plane with `residue` that are not padding, and the input index of the first.
    #[inline]
    pub(super) fn inside(&self, residue: usize, limit: usize) -> (std::ops::Range<usize>, usize) {
        let first = self.before.saturating_sub(residue).div_ceil(self.stride);
        let end = (self.size + self.before).saturating_sub(residue).div_ceil(self.stride).min(limit);
        if first >= end { (0..0, 0) } else { (first..end, self.stride * first + residue - self.before) }
    }
}

/// What the two halves of a plane's cells are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CellHalves {
    /// This channel and the next.
    Channels,
    /// This channel and the same one `dilation` rows further down.
    Rows,
}

/// One plane of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plane {
    /// Channel within the group.
    pub(super) channel: usize,
    pub(super) halves: CellHalves,
    /// Row and column modulo the stride.
    pub(super) residue: [usize; 2],
}

/// The weights that meet one cell: indices into the `fan_in` weights of an output channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) low: usize,
    pub(super) high: Option<usize>,
}

/// The cells of one group, and where each term finds its cell.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) axes: [Axis; 2],
    /// CellSource from one row of a plane to the next.
    pub(super) pitch: usize,
    /// Rows of a plane.
    pub(super) rows: usize,
    /// CellSource of a row that a tap may read before the next row begins.
    pub(super) columns: usize,
    /// CellSource from one plane to the next.
    pub(super) plane_len: usize,
    pub(super) planes: Vec<Plane>,
    pub(super) terms: Vec<Term>,
    pub(super) taps: Taps,
}

impl Layout {
    pub(super) fn new(shape: &ConvShape) -> Self {
        let axes = shape.axes();
        let [down, right] = axes;
        let (rows, wide) = (down.extent(), right.extent());
        let (pitch, columns) = if right.stride == 1 {
            // Padding before the row, the row, and the longer padding: the zeros are shared by neighbouring rows.
            let after = wide.saturating_sub(right.before + right.size);
            let pitch = (right.size + right.before.max(after)).min(wide).max(right.output);
            (pitch, wide.min(pitch))
        } else {
            (wide, wide)
        };
        // An odd number of cache lines (of 16 cells), so that the planes spread over all sets of a cache.
        let plane_len = ((rows * pitch + wide - pitch).div_ceil(16) | 1) * 16;

        let mut layout = Self {
            axes,
            pitch,
            rows,
            columns,
            plane_len,
            planes: Vec::new(),
            terms: Vec::with_capacity(shape.fan_in().div_ceil(2)),
            taps: Taps::default(),
        };
        let channels = shape.channels / shape.groups;
        for channel in (0..channels).step_by(2) {
            layout.add(channel, if channel + 1 < channels { CellHalves::Channels } else { CellHalves::Rows });
        }
        layout
    }

    /// Lays out one channel or one pair of channels.
    fn add(&mut self, channel: usize, halves: CellHalves) {
        let [down, right] = self.axes;
        let first = self.planes.len();
        let index = |c, i, j| (c * down.kernel + i) * right.kernel + j;
        for i in (0..down.kernel).step_by(if halves == CellHalves::Rows { 2 } else { 1 }) {
            for j in 0..right.kernel {
                let ((a, y), (b, x)) = (down.split(i), right.split(j));
                let plane = Plane { channel, halves, residue: [a, b] };
                let at = match self.planes[first..].iter().position(|p| *p == plane) {
                    Some(at) => first + at,
                    None => {
                        self.planes.push(plane);
                        self.planes.len() - 1
                    }
                };
                self.taps.push(at * self.plane_len + y * self.pitch + x);
                self.terms.push(Term {
                    low: index(channel, i, j),
                    high: match halves {
                        CellHalves::Channels => Some(index(channel + 1, i, j)),
                        CellHalves::Rows => (i + 1 < down.kernel).then(|| index(channel, i + 1, j)),
                    },
                });
            }
        }
    }

    /// Words of one input channel.
    #[inline]
    pub(super) fn channel_len(&self) -> usize {
        self.axes[0].size * self.axes[1].size
    }

    /// CellSource of one group.
    pub(super) fn group_len(&self) -> usize {
        self.planes.len() * self.plane_len
    }

    /// Flat pixels of `rows` output rows: from the first pixel of the first to the last pixel of the last.
    pub(super) fn flat(&self, rows: usize) -> usize {
        (rows - 1) * self.pitch + self.axes[1].output
    }

    /// Which flat pixels of `rows` output rows are pixels of the output, 16 by 16.
    pub(super) fn spans(&self, rows: usize) -> Vec<Span> {
        let mut spans = vec![Span { at: 0, lanes: 0 }; self.flat(rows).div_ceil(16)];
        for row in 0..rows {
            let (mut first, end) = (row * self.pitch, row * self.pitch + self.axes[1].output);
            while first < end {
                let (block, lane) = (first / 16, first % 16);
                let count = (end - first).min(16 - lane);
                spans[block].lanes |= (((1u32 << count) - 1) << lane) as u16;
                first += count;
            }
        }
        let mut at = 0;
        for span in &mut spans {
            span.at = at;
            at += span.lanes.count_ones() as usize;
        }
        spans
    }
}

/// Of 16 sums, those with their bit set in `lanes` go, in order, to the output from index `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) at: usize,
    pub(super) lanes: u16,
}

/// Offsets of the cells of consecutive terms, in cells.
#[derive(Clone, Debug, Default)]
pub(super) struct Taps {
    // Invariant: every offset is below `reach`.
    offsets: Vec<u32>,
    reach: usize,
}

impl Taps {
    fn push(&mut self, offset: usize) {
        self.offsets.push(u32::try_from(offset).expect("the cells of one group are fewer than 2^32"));
        self.reach = self.reach.max(offset + 1);
    }

    /// The taps of some of the terms.
    #[inline]
    pub(super) fn slice(&self, terms: std::ops::Range<usize>) -> TapSlice<'_> {
        TapSlice { offsets: &self.offsets[terms], reach: self.reach }
    }
}

/// Some consecutive taps.
#[derive(Clone, Copy, Debug)]
pub(super) struct TapSlice<'a> {
    // Invariant: every offset is below `reach`.
    offsets: &'a [u32],
    reach: usize,
}

impl<'a> TapSlice<'a> {
    /// The offsets; each is below [`reach`](Self::reach).
    #[inline]
    pub(super) fn offsets(&self) -> &'a [u32] {
        self.offsets
    }

    /// A bound that all offsets are below.
    #[inline]
    pub(super) fn reach(&self) -> usize {
        self.reach
    }
}
