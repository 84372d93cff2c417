//! Integer convolution on one thread against f32: column matrix (im2col) and `ndarray`'s matrix product, whose inner loop
//! is that of `matrixmultiply`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lowkey_bridge::conv::{ConvShape, Kernel, Word};
use ndarray::linalg::{general_mat_mul, general_mat_vec_mul};
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

fn shapes() -> Vec<(&'static str, ConvShape)> {
    vec![
        ("1-16 5x5 on 28x28", ConvShape::square(1, 16, 5, 28, 2)),
        ("16-16 5x5 on 12x12", ConvShape::square(16, 16, 5, 12, 0)),
        ("3-16 3x3 on 32x32", ConvShape::square(3, 16, 3, 32, 1)),
        ("16-16 3x3 on 32x32", ConvShape::square(16, 16, 3, 32, 1)),
        ("64-64 3x3 on 16x16", ConvShape::square(64, 64, 3, 16, 1)),
        ("64-64 3x3 on 56x56", ConvShape::square(64, 64, 3, 56, 1)),
        ("128-128 3x3 stride 2 on 28x28", ConvShape { stride: [2; 2], ..ConvShape::square(128, 128, 3, 28, 1) }),
        ("256-256 3x3 on 14x14", ConvShape::square(256, 256, 3, 14, 1)),
        ("512-512 3x3 on 7x7", ConvShape::square(512, 512, 3, 7, 1)),
        ("64-64 1x1 on 32x32", ConvShape::square(64, 64, 1, 32, 0)),
        ("depthwise 64 3x3 on 32x32", ConvShape { groups: 64, ..ConvShape::square(64, 64, 3, 32, 1) }),
        ("dense 256-100", ConvShape::dense(256, 100)),
        ("dense 1024-1000", ConvShape::dense(1024, 1000)),
    ]
}

/// The same convolution in f32, its buffers allocated once.
struct Baseline {
    shape: ConvShape,
    weights: Array2<f32>,
    columns: Vec<f32>,
}

impl Baseline {
    fn new(shape: &ConvShape, weights: &[i32]) -> Self {
        let (rows, columns) = shape.output();
        let weights = weights.iter().map(|&w| w as f32).collect();
        Self {
            shape: shape.clone(),
            weights: Array2::from_shape_vec((shape.out_channels, shape.fan_in()), weights).expect("one row per output"),
            columns: vec![0.0; shape.fan_in() * rows * columns],
        }
    }

    fn apply(&mut self, input: &[f32], output: &mut [f32]) {
        let shape = &self.shape;
        let pixels = shape.output_len() / shape.out_channels;
        let (inputs, outputs) = (shape.channels / shape.groups, shape.out_channels / shape.groups);
        if pixels == 1 && shape.groups == 1 {
            let mut output = ArrayViewMut1::from(output);
            return general_mat_vec_mul(1.0, &self.weights, &ArrayView1::from(input), 0.0, &mut output);
        }
        let plain = shape.kernel == [1, 1] && shape.stride == [1, 1] && shape.padding == [0; 4];
        for group in 0..shape.groups {
            let input = &input[group * inputs * shape.height * shape.width..];
            if !plain {
                im2col(shape, input, &mut self.columns);
            }
            let columns = if plain { &input[..inputs * pixels] } else { &self.columns };
            let columns = ArrayView2::from_shape((shape.fan_in(), pixels), columns).expect("one row per weight");
            let weights = self.weights.slice(ndarray::s![group * outputs..(group + 1) * outputs, ..]);
            let output = &mut output[group * outputs * pixels..][..outputs * pixels];
            let mut output = ArrayViewMut2::from_shape((outputs, pixels), output).expect("one row per output");
            general_mat_mul(1.0, &weights, &columns, 0.0, &mut output);
        }
    }
}

/// The column matrix of one group, `[fan_in][pixels]`.
fn im2col(shape: &ConvShape, input: &[f32], columns: &mut [f32]) {
    let (rows, width) = shape.output();
    let [top, left, ..] = shape.padding;
    let [kernel_rows, kernel_columns] = shape.kernel;
    let stride = shape.stride[1];
    for (k, column) in columns.chunks_exact_mut(rows * width).enumerate() {
        let (c, i, j) = (k / kernel_columns / kernel_rows, k / kernel_columns % kernel_rows, k % kernel_columns);
        let (down, right) = (i * shape.dilation[0], j * shape.dilation[1]);
        // Output columns whose input is inside the image.
        let first = left.saturating_sub(right).div_ceil(stride).min(width);
        let end = (shape.width + left).saturating_sub(right).div_ceil(stride).clamp(first, width);
        for (y, out) in column.chunks_exact_mut(width).enumerate() {
            let row = (y * shape.stride[0] + down).checked_sub(top).filter(|&row| row < shape.height);
            let Some(row) = row.filter(|_| first < end) else {
                out.fill(0.0);
                continue;
            };
            out[..first].fill(0.0);
            out[end..].fill(0.0);
            let source = &input[(c * shape.height + row) * shape.width + first * stride + right - left..];
            if stride == 1 {
                out[first..end].copy_from_slice(&source[..end - first]);
            } else {
                for (out, &x) in out[first..end].iter_mut().zip(source.iter().step_by(stride)) {
                    *out = x;
                }
            }
        }
    }
}

fn bench_word<W: Word + From<u16>>(c: &mut Criterion, name: &str, shape: &ConvShape, weights: &[i32]) {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let input: Vec<W> = (0..shape.input_len()).map(|_| W::from(rng.next_u32() as u16)).collect();
    let mut output = vec![W::default(); shape.output_len()];
    let kernel = Kernel::<W>::new(shape, weights);
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(shape.products() as u64));
    group.bench_function(BenchmarkId::from_parameter(format_args!("u{}", W::BITS)), |b| {
        b.iter(|| kernel.apply(black_box(&input), black_box(&mut output)));
    });
}

fn bench(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    pool.build_global().expect("the pool is this thread");
    for (name, shape) in shapes() {
        let mut rng = ChaCha20Rng::seed_from_u64(0);
        let count = shape.out_channels * shape.fan_in();
        let weights: Vec<i32> = (0..count).map(|_| rng.next_u32() as i32 >> 25).collect();
        bench_word::<u16>(c, name, &shape, &weights);
        bench_word::<u32>(c, name, &shape, &weights);
        bench_word::<u64>(c, name, &shape, &weights);

        let input: Vec<f32> = (0..shape.input_len()).map(|_| f32::from(rng.next_u32() as u16)).collect();
        let mut output = vec![0.0; shape.output_len()];
        let mut baseline = Baseline::new(&shape, &weights);
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(shape.products() as u64));
        group.bench_function("f32", |b| b.iter(|| baseline.apply(black_box(&input), black_box(&mut output))));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1200))
        .sample_size(30)
        .without_plots();
    targets = bench
}
criterion_main!(benches);
