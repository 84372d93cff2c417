//! What the tests of layers share: random shapes, and the definition of a convolution.

#![allow(dead_code)]

use lowkey_bridge::conv::ConvShape;
use proptest::prelude::*;

/// Small convolutions of all kinds: groups, strides, dilation, uneven padding.
pub fn shapes() -> impl Strategy<Value = ConvShape> {
    let small = 1..=3usize;
    (
        (small.clone(), small.clone(), 1..=3usize),
        (1..=14usize, 1..=14usize),
        (1..=4usize, 1..=4usize),
        (small.clone(), small.clone()),
        (small.clone(), small),
        [0..=2usize, 0..=2usize, 0..=2usize, 0..=2usize],
    )
        .prop_map(|((inputs, outputs, groups), (height, width), kernel, stride, dilation, padding)| ConvShape {
            channels: inputs * groups,
            height,
            width,
            out_channels: outputs * groups,
            kernel: kernel.into(),
            stride: stride.into(),
            padding,
            dilation: dilation.into(),
            groups,
        })
        .prop_filter("the kernel fits the padded input", |s| {
            s.height + s.padding[0] + s.padding[2] > (s.kernel[0] - 1) * s.dilation[0]
                && s.width + s.padding[1] + s.padding[3] > (s.kernel[1] - 1) * s.dilation[1]
        })
}

/// The convolution by its definition, modulo 2^64.
pub fn convolve(s: &ConvShape, weights: &[i32], input: &[i64]) -> Vec<i64> {
    let (height, width) = s.output();
    let mut out = Vec::with_capacity(s.out_channels * height * width);
    for o in 0..s.out_channels {
        for i in 0..height {
            for j in 0..width {
                out.push(inner_product(s, &weights[o * s.fan_in()..], input, [o, i, j]));
            }
        }
    }
    out
}

/// One output: the sum over input channels and taps, where padding counts as 0.
fn inner_product(s: &ConvShape, weights: &[i32], input: &[i64], [o, i, j]: [usize; 3]) -> i64 {
    let (inputs, outputs) = (s.channels / s.groups, s.out_channels / s.groups);
    let mut sum = 0i64;
    for c in 0..inputs {
        for r in 0..s.kernel[0] {
            for t in 0..s.kernel[1] {
                let y = (i * s.stride[0] + r * s.dilation[0]).wrapping_sub(s.padding[0]);
                let x = (j * s.stride[1] + t * s.dilation[1]).wrapping_sub(s.padding[1]);
                if y < s.height && x < s.width {
                    let weight = weights[(c * s.kernel[0] + r) * s.kernel[1] + t];
                    let channel = o / outputs * inputs + c;
                    sum =
                        sum.wrapping_add(i64::from(weight).wrapping_mul(input[(channel * s.height + y) * s.width + x]));
                }
            }
        }
    }
    sum
}
