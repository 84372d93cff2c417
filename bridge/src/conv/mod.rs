//! Exact integer convolution modulo 2^16, 2^32 or 2^64: output = weights * input, in wrapping machine words.
//!
//! This is the whole of the server's arithmetic online. The input is masked, hence uniformly random words: there is no
//! sparsity and no range to exploit. The weights are small. A [`Kernel`] packs them once for the machine at hand and is
//! then applied to any number of inputs.
//!
//! # Method
//!
//! Words are cut into signed 16-bit limbs (`word`), weights are 16-bit digits, almost always one (`pack`). A product
//! of two pairs of these, summed into 32 bits, is one lane of the processor's multiply-add instruction. The input is laid
//! out once as padded planes of pairs (`image`, `plane`), in which each tap of the kernel is a constant offset for any stride,
//! dilation and padding (`geometry`); tiles of output channels times pixels read it there, with all sums in registers
//! (`direct`, `tile`). No column matrix is formed. A convolution to one pixel is a matrix times a vector and has its own loop
//! (`dense`). The inner loops exist in plain Rust, for AVX2, AVX-512 and AVX-512 VNNI (`backend`), all with the same
//! result.
//!
//! The time depends on the shape and on the sizes of the weights, never on the input.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod backend;
mod dense;
mod direct;
mod geometry;
mod image;
mod pack;
mod plane;
mod scalar;
#[cfg(test)]
mod tests;
mod tile;
mod word;

use std::marker::PhantomData;

pub use geometry::ConvShape;
pub use word::Word;

use backend::Backend;
use dense::Dense;
use direct::Direct;

/// Products, times limbs of a word, from which on a convolution is worth more than one thread.
const PARALLEL: usize = 1 << 22;

/// The weights of a convolution, packed for the machine at hand. Prints redacted.
pub struct Kernel<W: Word> {
    shape: ConvShape,
    method: Method,
    parallel: bool,
    word: PhantomData<fn(&[W]) -> W>,
}

impl<W: Word> std::fmt::Debug for Kernel<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").field("shape", &self.shape).field("bits", &W::BITS).finish_non_exhaustive()
    }
}

enum Method {
    Direct(Direct),
    Dense(Dense),
}

impl<W: Word> Kernel<W> {
    /// Packs `weights`, `[out_channels, channels / groups, kernel[0], kernel[1]]` row-major.
    ///
    /// # Panics
    /// If the shape has no output (a size is zero, the groups are unequal, the kernel is larger than the padded image) or
    /// the number of weights is not that of the shape.
    pub fn new(shape: &ConvShape, weights: &[i32]) -> Self {
        Self::with_backend(Backend::detect(), shape, weights)
    }

    fn with_backend(backend: Backend, shape: &ConvShape, weights: &[i32]) -> Self {
        shape.check();
        assert_eq!(
            weights.len(),
            shape.out_channels * shape.fan_in(),
            "a kernel has the weights of its shape: {shape:?}"
        );
        let method = if shape.output() == (1, 1) {
            Method::Dense(Dense::new::<W>(backend, shape, weights))
        } else {
            Method::Direct(Direct::new::<W>(backend, shape, weights))
        };
        let parallel = shape.products() * W::LIMBS >= PARALLEL;
        Self { shape: shape.clone(), method, parallel, word: PhantomData }
    }

    /// The shape that the weights were packed for.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// output = weights * input modulo 2^BITS. `input` is `[channels, height, width]`, `output` is `[out_channels,
    /// out_height, out_width]`; padding counts as 0. Large convolutions run on the threads of the current rayon pool.
    ///
    /// # Panics
    /// If a length is not that of the shape.
    pub fn apply(&self, input: &[W], output: &mut [W]) {
        self.run(input, output, false);
    }

    /// output += weights * input modulo 2^BITS; otherwise as [`apply`](Self::apply).
    ///
    /// # Panics
    /// If a length is not that of the shape.
    pub fn apply_add(&self, input: &[W], output: &mut [W]) {
        self.run(input, output, true);
    }

    fn run(&self, input: &[W], output: &mut [W], add: bool) {
        assert_eq!(input.len(), self.shape.input_len(), "the input has the shape of the kernel: {:?}", self.shape);
        assert_eq!(output.len(), self.shape.output_len(), "the output has the shape of the kernel: {:?}", self.shape);
        match &self.method {
            Method::Direct(direct) => direct.apply(input, output, add, self.parallel),
            Method::Dense(dense) => dense.apply(input, output, add, self.parallel),
        }
    }
}
