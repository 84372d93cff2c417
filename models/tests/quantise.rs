//! Post-training quantisation: float ONNX files made here, before and after.

#[path = "common/float_onnx.rs"]
mod float_onnx;

use float_onnx::{FloatOnnx, Setting, chain};
use lowkey_models::import::Preprocessing;
use lowkey_models::import::onnx::float::{self, Reads};
use lowkey_models::ptq::real::RealNetwork;
use lowkey_models::ptq::{self, Quantised, Sample, Settings};
use lowkey_models::{Op, Tensor, argmax, zoo};
use ndarray::Array3;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// Pixels over 255.
fn pictures() -> Reads {
    Reads::Pictures(Preprocessing { scale: 1.0, over: 255.0, mean: vec![0.0], std: vec![1.0] })
}

fn read(bytes: &[u8]) -> RealNetwork {
    float::read(bytes, None, "float", &pictures()).unwrap_or_else(|error| panic!("{error}"))
}

/// Smooth random pictures, as what the network of real numbers and the integer network read.
fn samples(network: &RealNetwork, seed: u64, count: usize) -> Vec<Sample> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let input = &network.input;
    let one = || {
        let waves: Vec<f32> = (0..16).map(|_| rng.random_range(-1.0..1.0)).collect();
        let pixel = |(c, h, w): (usize, usize, usize)| {
            let at = |k: usize| {
                waves[4 * k] * h as f32 + waves[4 * k + 1] * w as f32 + 7.0 * waves[4 * k + 2] * (c + 1) as f32
            };
            (128.0 + 60.0 * (0..4).map(|k| waves[4 * k + 3] * at(k).sin()).sum::<f32>()).clamp(0.0, 255.0).round()
        };
        let pixels = Array3::from_shape_fn(input.shape, pixel);
        let real = pixels.mapv(|p| p / 255.0);
        Sample { real, stored: pixels.mapv(|p| lowkey_models::quantise(p as u8, 0, input) as f32) }
    };
    std::iter::repeat_with(one).take(count).collect()
}

fn settings(bits: u32) -> Settings {
    Settings { bits, channel_shifts: false }
}

/// How many samples have the same class, and the mean square of what is off over the mean square of the answers.
fn compare(real: &RealNetwork, quantised: &Quantised, samples: &[Sample]) -> (usize, f64) {
    let inputs: Vec<Array3<f32>> = samples.iter().map(|sample| sample.real.clone()).collect();
    let wanted = ptq::run::run(real, &inputs);
    let unit = quantised.network.architecture().output_scale.expect("the answer has a unit");
    let (mut same, mut off, mut all) = (0, 0.0, 0.0);
    for (sample, wanted) in samples.iter().zip(wanted) {
        let input: Tensor = sample.stored.mapv(|x| x as i64);
        let found = quantised.network.run(&input).expect("an input of its range");
        let best = wanted.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("answers").0;
        same += usize::from(argmax(&found) == best);
        for (wanted, found) in wanted.iter().zip(found.iter()) {
            let wanted = f64::from(*wanted);
            off += (wanted - *found as f64 * unit).powi(2);
            all += wanted.powi(2);
        }
    }
    (same, off / all)
}

/// Quantises on 60 samples and compares on 100 others: at least `same` have the same class, at most `off` is off.
fn near(bytes: &[u8], settings: Settings, same: usize, off: f64) -> Quantised {
    let real = read(bytes);
    let quantised = ptq::quantise(real.clone(), &samples(&real, 1, 60), &settings).unwrap_or_else(|e| panic!("{e}"));
    let (found, error) = compare(&real, &quantised, &samples(&real, 2, 100));
    eprintln!("{found} of 100, {error:.6} off; {:#?}", quantised.layers);
    assert!(found >= same && error <= off, "{found} of 100, {error} off");
    quantised
}

#[test]
fn a_chain_keeps_its_classes() {
    for seed in 0..3 {
        near(&chain(seed), settings(8), 95, 0.001);
        near(&chain(seed), settings(6), 75, 0.01);
        near(&chain(seed), settings(4), 35, 0.15);
    }
}

/// Whatever is quantised has shifts alone, with the widths asked for.
#[test]
fn a_quantised_network_has_shifts_and_narrow_weights() {
    for bits in [8, 6, 4] {
        let quantised = near(&chain(5), settings(bits), 0, 10.0);
        let network = quantised.network;
        for node in &network.architecture().nodes {
            match &node.op {
                Op::Scale { .. } | Op::Table { .. } => panic!("{} has a scale", node.name),
                Op::Requantise { bits: found, shift, .. } => assert!(*found == bits && shift.len() == 1),
                Op::AvgPool { multiplier, .. } => assert_eq!(*multiplier, 1),
                Op::Linear { terms } => {
                    assert!(terms.iter().all(|term| term.weight_bits().is_none_or(|found| found == bits)));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn all_obstacles_are_said_at_once() {
    let mut graph = FloatOnnx::new(1, &[1, 1, 12, 12]);
    graph.conv(4, 3, 1, 1);
    graph.then("LeakyRelu", &[]);
    graph.conv(4, 3, 1, 1);
    graph.then("HardSwish", &[]);
    graph.then("Flatten", &[Setting::Int("axis", 1)]);
    graph.dense(576, 10);
    let error = float::read(&graph.bytes(), None, "float", &pictures()).unwrap_err().to_string();
    assert!(error.contains("LeakyRelu") && error.contains("HardSwish") && error.contains("ReLU6"), "{error}");
}

/// The table for people is what files are read by. LOWKEY_BLESS=1 writes it.
#[test]
fn the_table_of_float_operators_is_in_the_docs() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/quantise.md");
    let text = std::fs::read_to_string(&path).expect("a page");
    let (before, rest) = text.split_once("## What is read\n\n").expect("its heading");
    let (_, behind) = rest.split_once("\n\nEverything else").expect("what follows it");
    let wanted = format!("{before}## What is read\n\n{}\n\nEverything else{behind}", float::markdown().trim_end());
    if std::env::var_os("LOWKEY_BLESS").is_some() {
        std::fs::write(&path, &wanted).expect("it is written");
        return;
    }
    assert_eq!(text, wanted, "LOWKEY_BLESS=1 writes it");
}

/// A bundled network as real numbers, quantised again: its own integers are near, at 8 bits and at fewer.
#[test]
fn an_integer_network_is_quantised_again() {
    let digits = zoo::find("digits").expect("it is bundled");
    let (network, demo) = (digits.network(), digits.demo().expect("it has demo inputs"));
    let real = ptq::from_network(&network).expect("it has clips alone");
    let sample = |x: Tensor| Sample { real: x.mapv(|x| x as f32), stored: x.mapv(|x| x as f32) };
    let samples: Vec<Sample> = demo.inputs.iter().map(sample).collect();
    let (calibration, test) = samples.split_at(100);
    let classes: Vec<usize> =
        test.iter().map(|one| argmax(&network.run(&one.stored.mapv(|x| x as i64)).expect("an input"))).collect();
    for (bits, most_apart) in [(8, 6), (6, 6), (4, 20)] {
        let quantised = ptq::quantise(real.clone(), calibration, &settings(bits)).expect("a network");
        let class = |one: &Sample| argmax(&quantised.network.run(&one.stored.mapv(|x| x as i64)).expect("an input"));
        let apart = test.iter().zip(&classes).filter(|(one, wanted)| class(one) != **wanted).count();
        eprintln!("{bits} bits: {apart} of {} apart", test.len());
        assert!(apart <= most_apart, "{bits} bits: {apart} of {} apart", test.len());
    }
}

/// Two residual blocks, one with a layer in its skip, and an average of the whole image.
fn residual(seed: u64) -> Vec<u8> {
    let mut graph = FloatOnnx::new(seed, &[0, 3, 12, 12]);
    graph.conv(8, 3, 1, 1);
    graph.norm();
    let first = graph.relu();
    graph.conv(8, 3, 1, 1);
    graph.norm();
    graph.relu();
    graph.conv(8, 3, 1, 1);
    let main = graph.norm();
    graph.node("Add", &[&main, &first], &[]);
    let second = graph.relu();
    graph.conv(12, 3, 2, 1);
    graph.norm();
    graph.relu();
    graph.conv(12, 3, 1, 1);
    let main = graph.norm();
    graph.set_last(&second, 8);
    let skip = graph.conv(12, 1, 2, 1);
    graph.node("Add", &[&main, &skip], &[]);
    graph.relu();
    graph.then("GlobalAveragePool", &[]);
    graph.then("Flatten", &[]);
    graph.dense(12, 10);
    graph.bytes()
}

#[test]
fn skips_get_integer_multipliers() {
    for (seed, bits, same, off) in [(0, 8, 93, 0.002), (1, 8, 93, 0.002), (2, 6, 75, 0.02)] {
        let quantised = near(&residual(seed), settings(bits), same, off);
        let skips: Vec<&ptq::Layer> = quantised.layers.iter().filter(|layer| !layer.multipliers.is_empty()).collect();
        // The other block's skip has weights, which are a part of its last layer.
        assert!(skips.len() == 1 && skips[0].multipliers[0] > 2 && skips[0].shifts.len() == 1, "{skips:?}");
        let linear = |node: &&lowkey_models::Node| matches!(&node.op, Op::Linear { .. });
        assert_eq!(quantised.network.architecture().nodes.iter().filter(linear).count(), 6);
    }
}

/// A skip without weights into a smaller image of more channels: every other pixel, and channels of zeros.
#[test]
fn skips_may_leave_pixels_out() {
    let mut graph = FloatOnnx::new(5, &[0, 3, 12, 12]);
    graph.conv(8, 3, 1, 1);
    let first = graph.relu();
    graph.conv(12, 3, 2, 1);
    graph.norm();
    graph.relu();
    graph.conv(12, 3, 1, 1);
    let main = graph.norm();
    let bounds = [&[0, 0], &[i64::MAX, i64::MAX], &[2, 3], &[2, 2]].map(|list| graph.ints(list));
    let [starts, ends, axes, steps] = &bounds;
    let thinned = graph.node("Slice", &[&first, starts, ends, axes, steps], &[]);
    let skip = graph.node("Pad", &[&thinned], &[Setting::Ints("pads", &[0, 2, 0, 0, 0, 2, 0, 0])]);
    graph.node("Add", &[&main, &skip], &[]);
    graph.set_channels(12);
    graph.relu();
    graph.then("GlobalAveragePool", &[]);
    graph.then("Flatten", &[]);
    graph.dense(12, 10);
    let bytes = graph.bytes();
    let quantised = near(&bytes, settings(8), 90, 0.003);
    let selects = |op: &Op| match op {
        Op::Select { axes, .. } => Some(axes.clone()),
        _ => None,
    };
    let nodes = &quantised.network.architecture().nodes;
    let found: Vec<Vec<Vec<i64>>> = nodes.iter().filter_map(|node| selects(&node.op)).collect();
    let every_other: Vec<i64> = (0..6).map(|at| 2 * at).collect();
    let rows: Vec<i64> = every_other.iter().map(|at| 12 * at).collect();
    assert_eq!(found[0], [(0..8).map(|at| 144 * at).collect(), rows, every_other]);
    assert_eq!(found[1][0], [-1, -1, 0, 36, 72, 108, 144, 180, 216, 252, -1, -1]);
}

/// A depthwise layer of which one channel has weights thirty times as large.
fn depthwise(seed: u64, largest: f32) -> Vec<u8> {
    let mut graph = FloatOnnx::new(seed, &[0, 1, 12, 12]);
    graph.conv(8, 3, 1, 1);
    graph.relu();
    graph.conv(8, 3, 1, 8);
    let last = graph.last();
    let factors: Vec<f32> = (0..8).map(|channel| if channel == 3 { largest } else { 1.0 }).collect();
    let factors = graph.constant(&[1, 8, 1, 1], &factors);
    graph.node("Mul", &[&last, &factors], &[]);
    graph.relu();
    graph.conv(12, 1, 1, 1);
    graph.relu();
    graph.pool("MaxPool");
    graph.then("Flatten", &[]);
    graph.dense(432, 10);
    graph.bytes()
}

#[test]
fn uneven_depthwise_layers_get_shifts_for_each_channel() {
    let even = near(&depthwise(1, 1.0), settings(8), 90, 0.003);
    assert!(even.warnings.is_empty() && even.layers.iter().all(|layer| layer.shifts.len() <= 1), "{:?}", even.warnings);
    let uneven = near(&depthwise(1, 30.0), settings(8), 90, 0.003);
    assert!(uneven.warnings.len() == 1 && uneven.warnings[0].contains("shift for each"), "{:?}", uneven.warnings);
    let by_channel: Vec<usize> = uneven.layers.iter().map(|layer| layer.shifts.len()).collect();
    assert_eq!(by_channel, [1, 8, 1, 0]);
}

/// What is joined has one unit; padding before a convolution, averages that keep their unit, softmax and clips.
#[test]
fn joined_tensors_have_one_unit() {
    let mut graph = FloatOnnx::new(4, &[0, 1, 12, 12]);
    graph.conv(6, 3, 1, 1);
    let first = graph.relu();
    graph.conv(6, 3, 1, 1);
    let second = graph.then("Clip", &[Setting::Float("min", 0.0), Setting::Float("max", 6.0)]);
    graph.set_last(&first, 6);
    let third = graph.then(
        "AveragePool",
        &[
            Setting::Ints("kernel_shape", &[3, 3]),
            Setting::Ints("pads", &[1, 1, 1, 1]),
            Setting::Int("count_include_pad", 1),
        ],
    );
    graph.node("Concat", &[&first, &second, &third], &[Setting::Int("axis", 1)]);
    graph.set_channels(18);
    graph.conv(8, 3, 2, 1);
    graph.relu();
    graph.then("Flatten", &[]);
    graph.dense(288, 10);
    graph.then("Softmax", &[Setting::Int("axis", 1)]);
    let quantised = near(&graph.bytes(), settings(8), 90, 0.003);
    let coding = quantised.network.architecture().output_coding.clone().expect("a coding");
    assert_eq!(coding.ends, [lowkey_models::coding::End::Softmax]);
}
