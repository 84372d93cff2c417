//! Every backend against the definition of a convolution, over random and edge shapes, words and weights.

#[path = "../../tests/common/mod.rs"]
mod common;

use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::backend::Backend;
use super::{ConvShape, Kernel, Word};

/// Conversions that only the tests need.
trait TestWord: Word {
    fn from_bits(bits: u64) -> Self;
    fn to_bits(self) -> u64;
}

macro_rules! test_word {
    ($($word:ty),*) => {$(
        impl TestWord for $word {
            fn from_bits(bits: u64) -> Self {
                bits as Self
            }
            fn to_bits(self) -> u64 {
                self.into()
            }
        }
    )*};
}

test_word!(u16, u32, u64);

/// The definition, added to `start`.
fn reference<W: TestWord>(shape: &ConvShape, weights: &[i32], input: &[W], start: &[W]) -> Vec<W> {
    let input: Vec<i64> = input.iter().map(|x| x.to_bits() as i64).collect();
    let sums = common::convolve(shape, weights, &input);
    start.iter().zip(sums).map(|(x, sum)| W::from_bits(x.to_bits().wrapping_add(sum as u64))).collect()
}

/// What words or weights look like.
#[derive(Clone, Copy, Debug)]
enum Fill {
    /// Uniform in -2^bits .. 2^bits.
    Small(u32),
    /// Uniform over all values.
    Uniform,
    /// Everywhere the same.
    Constant(i64),
    /// One of a few values around the ends of limbs and digits.
    Edges,
}

impl Fill {
    fn draw(self, rng: &mut ChaCha20Rng) -> i64 {
        const EDGES: [i64; 14] = [
            0,
            1,
            -1,
            127,
            -128,
            0x3fff,
            -0x4000,
            0x7fff,
            0x8000,
            -0x8000,
            -0x8001,
            i32::MAX as i64,
            i32::MIN as i64,
            i64::MIN,
        ];
        match self {
            Self::Small(bits) => rng.random_range(-(1i64 << bits)..1 << bits),
            Self::Uniform => rng.next_u64() as i64,
            Self::Constant(value) => value,
            Self::Edges => EDGES[rng.random_range(0..EDGES.len())],
        }
    }
}

fn words<W: TestWord>(len: usize, fill: Fill, rng: &mut ChaCha20Rng) -> Vec<W> {
    (0..len).map(|_| W::from_bits(fill.draw(rng) as u64)).collect()
}

/// Checks `apply` and `apply_add` of every backend of this machine for one type of word.
fn check_word<W: TestWord>(shape: &ConvShape, weights: Fill, inputs: Fill, seed: u64) {
    let rng = &mut ChaCha20Rng::seed_from_u64(seed);
    let weights: Vec<i32> = (0..shape.out_channels * shape.fan_in()).map(|_| weights.draw(rng) as i32).collect();
    let input: Vec<W> = words(shape.input_len(), inputs, rng);
    let start: Vec<W> = words(shape.output_len(), Fill::Uniform, rng);
    let product = reference(shape, &weights, &input, &vec![W::default(); start.len()]);
    let sum = reference(shape, &weights, &input, &start);
    for backend in Backend::available() {
        let mut kernel = Kernel::with_backend(backend, shape, &weights);
        for parallel in [false, true] {
            kernel.parallel = parallel;
            let mut output = start.clone();
            kernel.apply(&input, &mut output);
            assert_eq!(
                output,
                product,
                "apply, {backend:?}, u{}, parallel {parallel}, seed {seed}, {shape:?}",
                W::BITS
            );
            output.clone_from(&start);
            kernel.apply_add(&input, &mut output);
            assert_eq!(
                output,
                sum,
                "apply_add, {backend:?}, u{}, parallel {parallel}, seed {seed}, {shape:?}",
                W::BITS
            );
        }
    }
}

fn check(shape: &ConvShape, weights: Fill, inputs: Fill, seed: u64) {
    check_word::<u16>(shape, weights, inputs, seed);
    check_word::<u32>(shape, weights, inputs, seed);
    check_word::<u64>(shape, weights, inputs, seed);
}

fn fills() -> impl Strategy<Value = Fill> {
    prop_oneof![
        4 => (0u32..8).prop_map(Fill::Small),
        2 => (8u32..32).prop_map(Fill::Small),
        1 => Just(Fill::Uniform),
        1 => Just(Fill::Edges),
        1 => prop_oneof![Just(-128i64), Just(127), Just(-32768), Just(32767), Just(-16384), Just(1 << 31)].prop_map(Fill::Constant),
    ]
}

fn input_fills() -> impl Strategy<Value = Fill> {
    prop_oneof![
        4 => Just(Fill::Uniform),
        1 => Just(Fill::Edges),
        1 => prop_oneof![Just(-1i64), Just(0x8000), Just(0x8000_8000_8000_8000u64 as i64), Just(i64::MIN)]
            .prop_map(Fill::Constant),
    ]
}

prop_compose! {
    /// Shapes of all kinds; the image is at least as large as the kernel needs.
    fn shapes()(
        groups in prop_oneof![3 => Just(1usize), 1 => 2usize..5],
        inputs in prop_oneof![2 => Just(1usize), 3 => 2usize..8],
        outputs in prop_oneof![1 => Just(1usize), 3 => 1usize..22],
        kernel in [1usize..6, 1usize..6],
        stride in prop_oneof![2 => Just([1usize, 1]), 1 => [1usize..5, 1usize..5]],
        dilation in prop_oneof![3 => Just([1usize, 1]), 1 => [1usize..4, 1usize..4]],
        padding in prop_oneof![1 => Just([0usize; 4]), 1 => Just([1; 4]), 1 => Just([2; 4]), 2 => [0usize..5, 0usize..5, 0usize..5, 0usize..5]],
        more in [0usize..12, 0usize..40],
    ) -> ConvShape {
        let size = |axis: usize, padding: usize| {
            ((kernel[axis] - 1) * dilation[axis] + 1).saturating_sub(padding).max(1) + more[axis]
        };
        ConvShape {
            channels: groups * inputs,
            height: size(0, padding[0] + padding[2]),
            width: size(1, padding[1] + padding[3]),
            out_channels: groups * outputs,
            kernel,
            stride,
            padding,
            dilation,
            groups,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_shapes(shape in shapes(), weights in fills(), inputs in input_fills(), seed: u64) {
        check(&shape, weights, inputs, seed);
    }

    #[test]
    fn dense_layers(inputs in 1usize..700, outputs in 1usize..70, weights in fills(), values in input_fills(), seed: u64) {
        check(&ConvShape::dense(inputs, outputs), weights, values, seed);
    }
}

/// Layers of real networks.
#[test]
fn common_layers() {
    let small = Fill::Small(7);
    check(&ConvShape::square(1, 16, 5, 28, 0), small, Fill::Uniform, 1);
    check(&ConvShape::square(1, 16, 5, 28, 2), small, Fill::Uniform, 2);
    check(&ConvShape::square(16, 16, 5, 12, 0), small, Fill::Uniform, 3);
    check(&ConvShape::square(3, 16, 3, 32, 1), small, Fill::Uniform, 4);
    check(&ConvShape::square(32, 24, 1, 16, 0), small, Fill::Uniform, 5);
    check(&ConvShape { stride: [2, 2], ..ConvShape::square(16, 32, 1, 15, 0) }, small, Fill::Uniform, 6);
    check(&ConvShape { stride: [2, 2], ..ConvShape::square(3, 8, 7, 33, 3) }, small, Fill::Uniform, 7);
    check(&ConvShape { groups: 32, ..ConvShape::square(32, 32, 3, 14, 1) }, small, Fill::Uniform, 8);
    check(
        &ConvShape { groups: 32, stride: [2, 2], padding: [0, 0, 1, 1], ..ConvShape::square(32, 64, 3, 14, 0) },
        small,
        Fill::Uniform,
        9,
    );
    check(&ConvShape::square(64, 20, 4, 4, 0), small, Fill::Uniform, 10);
    check(&ConvShape { groups: 4, ..ConvShape::square(24, 20, 4, 4, 0) }, small, Fill::Uniform, 11);
}

/// The sums of a 64-bit word do not wrap in 32 bits, whatever the weights and limbs.
#[test]
fn extreme_sums() {
    let shape = ConvShape::square(40, 9, 3, 6, 1);
    for weight in [127, -128, 16383, -16384, 32767, -32768, i64::from(i32::MAX), i64::from(i32::MIN)] {
        for input in [-1, 1 << 15, 1 << 31, 1 << 47, i64::MIN, 0x8000_8000_8000_8000u64 as i64, 0x7fff_7fff_7fff_7fff] {
            check(&shape, Fill::Constant(weight), Fill::Constant(input), 0);
            check(&ConvShape::dense(300, 17), Fill::Constant(weight), Fill::Constant(input), 0);
        }
    }
}

/// An image larger than a band, so that one thread too computes it in bands.
#[test]
fn several_bands() {
    let shape = ConvShape { kernel: [1, 2], ..ConvShape::square(32, 2, 1, 140, 0) };
    check(&shape, Fill::Small(4), Fill::Uniform, 12);
}

/// A machine has the scalar backend at least, and uses its best.
#[test]
fn backends() {
    let available = Backend::available();
    assert_eq!(available[0], Backend::Scalar);
    assert_eq!(available.last(), Some(&Backend::detect()));
    println!("backends: {available:?}");
}

#[test]
fn shapes_that_have_no_output_are_refused() {
    let good = ConvShape::square(4, 4, 3, 5, 0);
    let bad = [
        ConvShape { groups: 0, ..good.clone() },
        ConvShape { groups: 3, ..good.clone() },
        ConvShape { height: 2, ..good.clone() },
        ConvShape { width: 0, ..good.clone() },
        ConvShape { stride: [0, 1], ..good.clone() },
        ConvShape { dilation: [1, 3], ..good.clone() },
        ConvShape { kernel: [3, 0], ..good.clone() },
        ConvShape { out_channels: 0, ..good.clone() },
    ];
    for shape in bad {
        assert!(std::panic::catch_unwind(|| Kernel::<u16>::new(&shape, &[1; 144])).is_err(), "{shape:?}");
    }
    assert!(std::panic::catch_unwind(|| Kernel::<u16>::new(&good, &[1; 143])).is_err());
    assert_eq!(Kernel::<u16>::new(&good, &[1; 144]).shape(), &good);
}
