//! The interpreter against a second, independent evaluation, and the fast path against the interpreter.

mod common;

use std::collections::HashSet;

use lowkey_models::random;
use lowkey_models::{
    Architecture, Input, InputError, LinearWeights, Network, Node, Op, Range, Tensor, Term, Weights, Window, argmax,
};
use ndarray::{Array3, Array4, s};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// x in the middle of an array filled with `fill`.
fn padded(x: &Array3<i128>, [top, left, bottom, right]: [usize; 4], fill: i128) -> Array3<i128> {
    let (c, h, w) = x.dim();
    let mut all = Array3::from_elem((c, h + top + bottom, w + left + right), fill);
    all.slice_mut(s![.., top..top + h, left..left + w]).assign(x);
    all
}

/// One result per window, over slices of the padded array.
fn windows(x: &Array3<i128>, window: &Window, fill: i128, f: impl Fn(Vec<i128>) -> i128) -> Array3<i128> {
    let x = padded(x, window.padding, fill);
    let span = |a: usize| (window.kernel[a] - 1) * window.dilation[a] + 1;
    let starts =
        |a: usize| (0..).map(|i| i * window.stride[a]).take_while(|&i| i + span(a) <= x.shape()[a + 1]).collect();
    let (rows, columns): (Vec<usize>, Vec<usize>) = (starts(0), starts(1));
    Array3::from_shape_fn((x.shape()[0], rows.len(), columns.len()), |(c, i, j)| {
        let (r, l) = (rows[i], columns[j]);
        let [down, right] = window.dilation;
        let patch = x.slice(s![c, r..r + span(0); down, l..l + span(1); right]);
        f(patch.iter().copied().collect())
    })
}

fn convolution(x: &Array3<i128>, w: &Array4<i32>, groups: usize, window: &Window) -> Array3<i128> {
    let (outputs, inputs, _, _) = w.dim();
    let planes: Vec<Array3<i128>> = (0..outputs)
        .map(|o| {
            let group = o * groups / outputs;
            let mut sum: Option<Array3<i128>> = None;
            for i in 0..inputs {
                let channel = group * inputs + i;
                let one = x.slice(s![channel..channel + 1, .., ..]).to_owned();
                let kernel: Vec<i128> = w.slice(s![o, i, .., ..]).iter().map(|&w| w.into()).collect();
                let part = windows(&one, window, 0, |patch| patch.iter().zip(&kernel).map(|(x, w)| x * w).sum());
                sum = Some(sum.map_or(part.clone(), |sum| sum + part));
            }
            sum.unwrap()
        })
        .collect();
    let views: Vec<_> = planes.iter().map(|plane| plane.view()).collect();
    ndarray::concatenate(ndarray::Axis(0), &views).unwrap()
}

fn brute_force(network: &Network, input: &Tensor) -> Vec<Array3<i128>> {
    let mut tensors = vec![input.mapv(i128::from)];
    for (index, node) in network.architecture().nodes.iter().enumerate() {
        let x = |tensor: usize| &tensors[tensor];
        let result = match &node.op {
            Op::Linear { terms } => {
                let (_, weights) = network.linear(index).unwrap();
                let parts = terms.iter().zip(&weights.terms).map(|(term, w)| match term {
                    Term::Conv { input, groups, window, .. } => {
                        convolution(x(*input), w.as_ref().unwrap(), *groups, window)
                    }
                    Term::Dense { input, .. } => convolution(x(*input), w.as_ref().unwrap(), 1, &Window::POINT),
                    Term::Identity { input, multiplier } => x(*input) * i128::from(*multiplier),
                });
                let mut z = parts.reduce(|sum, part| sum + part).unwrap();
                for (mut plane, &bias) in z.outer_iter_mut().zip(&weights.bias) {
                    plane += i128::from(bias);
                }
                z
            }
            Op::Scale { input, multiplier } => {
                let bias = &network.weights().linear[index].as_ref().unwrap().bias;
                Array3::from_shape_fn(x(*input).dim(), |at @ (channel, _, _)| {
                    i128::from(multiplier[channel % multiplier.len()]) * x(*input)[at] + i128::from(bias[channel])
                })
            }
            Op::Requantise { input, bits, shift, top, zero_point } => {
                let top = top.map_or((1 << bits) - 1, i128::from);
                Array3::from_shape_fn(x(*input).dim(), |at @ (channel, _, _)| {
                    let step = 1i128 << shift[channel % shift.len()];
                    x(*input)[at].div_euclid(step).max(0).min(top) - i128::from(*zero_point)
                })
            }
            Op::Block { input, shift, patch, .. } => {
                let t = x(*input).mapv(|z| z.div_euclid(1 << shift));
                let Some([rows, columns]) = patch else {
                    tensors.push(t);
                    continue;
                };
                Array3::from_shape_fn(t.dim(), |(channel, row, column)| {
                    let same = |&((c, r, k), _): &((usize, usize, usize), &i128)| {
                        c == channel && r / rows == row / rows && k / columns == column / columns
                    };
                    let sum: i128 = t.indexed_iter().filter(same).map(|(_, t)| t).sum();
                    if sum > 0 { t[(channel, row, column)] } else { 0 }
                })
            }
            Op::MaxPool { input, window } => {
                windows(x(*input), window, i128::MIN, |patch| patch.into_iter().max().unwrap())
            }
            Op::SumPool { input, window } => windows(x(*input), window, 0, |patch| patch.iter().sum()),
            Op::AvgPool { input, window, multiplier, offset, shift, floats } => {
                windows(x(*input), window, 0, |patch| {
                    let sum: i128 = patch.iter().sum();
                    let average = (i128::from(*multiplier) * sum + i128::from(*offset)).div_euclid(1 << shift);
                    let lowered = floats.as_ref().is_some_and(|floats| {
                        let v = patch.iter().fold(0.0f32, |v, &x| v + floats.unit as f32 * x as f32);
                        let error = v as i128 - i128::from(floats.unit) * sum;
                        floats.least.iter().any(|&[at, least]| i128::from(at) == sum && error < i128::from(least))
                    });
                    average - i128::from(lowered)
                })
            }
            Op::Flatten { input } => {
                let length = x(*input).len();
                x(*input).clone().into_shape_with_order((length, 1, 1)).unwrap()
            }
            Op::Concat { inputs } => {
                let (_, height, width) = x(inputs[0]).dim();
                let values: Vec<i128> = inputs.iter().flat_map(|&input| x(input).iter().copied()).collect();
                Array3::from_shape_vec((values.len() / (height * width), height, width), values).unwrap()
            }
            Op::Select { input, shape: [channels, height, width], axes } => {
                let values: Vec<i128> = x(*input).iter().copied().collect();
                let element = |number: usize| {
                    let (mut rest, mut at, mut zero) = (number, 0, false);
                    for axis in axes.iter().rev() {
                        let by = axis[rest % axis.len()];
                        (rest, at, zero) = (rest / axis.len(), at + by, zero || by < 0);
                    }
                    if zero { 0 } else { values[usize::try_from(at).unwrap()] }
                };
                let all = (0..channels * height * width).map(element).collect();
                Array3::from_shape_vec((*channels, *height, *width), all).unwrap()
            }
            Op::Table { input, table } => {
                let Range { lo, .. } = network.tensors()[*input].range;
                x(*input).mapv(|x| table[usize::try_from(x - i128::from(lo)).unwrap()].into())
            }
        };
        tensors.push(result);
    }
    tensors
}

#[test]
fn interpreter_equals_brute_force_on_every_tensor() {
    common::for_random_networks(400, |network, inputs| {
        for input in inputs {
            let tensors = network.run_all(input).unwrap();
            for (tensor, (found, wanted)) in tensors.iter().zip(brute_force(network, input)).enumerate() {
                assert_eq!(found.mapv(i128::from), wanted, "tensor {tensor}");
            }
            assert_eq!(network.run(input).unwrap(), tensors[network.architecture().output]);
        }
    });
}

#[test]
fn tensors_have_the_shapes_and_ranges_that_the_checker_promises() {
    common::for_random_networks(400, |network, inputs| {
        let bounds = network.bounds();
        for input in inputs {
            for (tensor, (values, info)) in network.run_all(input).unwrap().iter().zip(network.tensors()).enumerate() {
                assert_eq!(values.shape(), info.shape, "tensor {tensor}");
                match tensor.checked_sub(1).and_then(|node| bounds[node].as_ref()) {
                    None => assert!(values.iter().all(|&v| info.range.contains(v)), "tensor {tensor}"),
                    Some(bounds) => {
                        for (plane, range) in values.outer_iter().zip(&bounds.channels) {
                            assert!(plane.iter().all(|&v| range.contains(v)), "tensor {tensor}");
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn fast_path_equals_interpreter() {
    common::for_random_networks(400, |network, inputs| {
        let answers = network.run_batch(inputs).unwrap();
        for (input, answer) in inputs.iter().zip(answers) {
            assert_eq!(network.run(input).unwrap(), answer);
        }
    });
}

/// Activations wider than 16 bits, and sums wider than 32: the fast path leaves these terms to the simple one.
#[test]
fn fast_path_leaves_wide_terms_alone() {
    let window = Window { kernel: [16, 16], stride: [16, 16], ..Window::POINT };
    let dense = |input, outputs| Op::Linear { terms: vec![Term::Dense { input, outputs, weight_bits: 16 }] };
    let nodes = vec![
        Node { name: "sum".into(), op: Op::SumPool { input: 0, window } },
        Node { name: "flat".into(), op: Op::Flatten { input: 1 } },
        Node { name: "wide".into(), op: dense(2, 3) },
    ];
    let input = Input { shape: [2, 32, 32], bits: 8, zero_point: 0, pixels: None, coding: None };
    let architecture = Architecture {
        name: "wide".into(),
        input,
        nodes,
        output: 3,
        rounding: None,
        output_scale: None,
        output_coding: None,
        classes: Vec::new(),
        declared: Default::default(),
    };
    let array = Array4::from_shape_fn([3, 8, 1, 1], |(o, i, _, _)| 32767 - (o * 1000 + i) as i32);
    let linear = LinearWeights { terms: vec![Some(array)], bias: vec![-1, 0, 1] };
    let network = Network::new(architecture, Weights { linear: vec![None, None, Some(linear)] }).unwrap();
    let input = Tensor::from_elem([2, 32, 32], 255);
    let answer = network.run(&input).unwrap();
    assert_eq!(
        answer.iter().map(|&z| i128::from(z)).collect::<Vec<_>>(),
        brute_force(&network, &input)[3].as_slice().unwrap()
    );
    assert!(answer[(0, 0, 0)] > 1 << 32);
    assert_eq!(network.run_batch(&[input]).unwrap(), [answer]);
}

/// Random networks are of no use if everything is clamped away.
#[test]
fn random_networks_compute_something() {
    let mut varied = 0;
    for seed in 0..200 {
        let (network, _) = common::network_and_inputs(seed);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let answer = |_| network.run(&random::input(&mut rng, &network.architecture().input)).unwrap();
        let answers: Vec<Tensor> = (0..20).map(answer).collect();
        varied += usize::from(answers.iter().any(|answer| *answer != answers[0]));
    }
    assert!(varied >= 160, "{varied} of 200 networks depend on their input");
}

#[test]
fn random_networks_have_every_feature() {
    let mut seen = HashSet::new();
    for seed in 0..400 {
        let (network, _) = common::network_and_inputs(seed);
        let architecture = network.architecture();
        for node in &architecture.nodes {
            match &node.op {
                Op::Linear { terms } => {
                    for term in terms {
                        match term {
                            Term::Conv { groups, out_channels, window, weight_bits, .. } => {
                                seen.insert(match *groups {
                                    1 => "dense convolution",
                                    g if g == *out_channels => "depthwise convolution",
                                    _ => "grouped convolution",
                                });
                                if window.padding != [0; 4] {
                                    seen.insert("padding");
                                }
                                if window.dilation != [1, 1] {
                                    seen.insert("dilation");
                                }
                                if window.stride != [1, 1] {
                                    seen.insert("stride");
                                }
                                if *weight_bits == 1 {
                                    seen.insert("binary weights");
                                }
                            }
                            Term::Dense { .. } => drop(seen.insert("matrix")),
                            Term::Identity { .. } => drop(seen.insert("residual")),
                        }
                    }
                }
                Op::Scale { .. } => drop(seen.insert("scale")),
                Op::Concat { .. } => drop(seen.insert("concatenation")),
                Op::Requantise { input, shift, zero_point, bits, top } => {
                    if top.is_some() {
                        seen.insert("clip");
                    }
                    if architecture.consumers(*input).count() > 1 {
                        seen.insert("shared accumulator");
                    }
                    if shift.iter().any(|s| s != &shift[0]) {
                        seen.insert("per-channel shift");
                    }
                    if *zero_point != 0 {
                        seen.insert("zero point");
                    }
                    if *bits == 1 {
                        seen.insert("binary activation");
                    }
                }
                Op::Block { .. } => drop(seen.insert("block")),
                Op::MaxPool { .. } => drop(seen.insert("max pool")),
                Op::AvgPool { floats, .. } => {
                    seen.insert("average pool");
                    if floats.is_some() {
                        seen.insert("average of floats");
                    }
                }
                Op::SumPool { .. } => drop(seen.insert("sum pool")),
                Op::Flatten { .. } => drop(seen.insert("flatten")),
                Op::Select { .. } => drop(seen.insert("select")),
                Op::Table { .. } => drop(seen.insert("table")),
            }
        }
        let shared = (0..architecture.tensor_count()).any(|tensor| architecture.consumers(tensor).count() > 1);
        if shared {
            seen.insert("two consumers");
        }
    }
    assert_eq!(seen.len(), 24, "{seen:?}");
}

fn identity_network(bits: u32, zero_point: i64) -> Network {
    let input = Input { shape: [2, 1, 1], bits, zero_point, pixels: None, coding: None };
    let terms = vec![Term::Identity { input: 0, multiplier: 1 }];
    let nodes = vec![Node { name: "same".into(), op: Op::Linear { terms } }];
    let architecture = Architecture {
        name: "same".into(),
        input,
        nodes,
        output: 1,
        rounding: None,
        output_scale: None,
        output_coding: None,
        classes: Vec::new(),
        declared: Default::default(),
    };
    let linear = vec![Some(LinearWeights { terms: vec![None], bias: vec![0, 0] })];
    Network::new(architecture, Weights { linear }).unwrap()
}

#[test]
fn inputs_of_another_shape_or_range_are_refused() {
    let network = identity_network(4, 3);
    let run = |shape: [usize; 3], value| network.run(&Tensor::from_elem(shape, value));
    assert!(run([2, 1, 1], -3).is_ok());
    assert!(run([2, 1, 1], 12).is_ok());
    assert_eq!(run([2, 1, 1], -4), Err(InputError::Value { value: -4, lo: -3, hi: 12 }));
    assert_eq!(run([2, 1, 1], 13), Err(InputError::Value { value: 13, lo: -3, hi: 12 }));
    assert_eq!(run([1, 2, 1], 0), Err(InputError::Shape { found: [1, 2, 1], wanted: [2, 1, 1] }));
    assert!(network.run_batch(&[Tensor::from_elem([2, 1, 1], 13)]).is_err());
}

#[test]
fn argmax_takes_the_lowest_index_of_ties() {
    let of = |values: &[i64]| argmax(&Tensor::from_shape_vec([values.len(), 1, 1], values.to_vec()).unwrap());
    assert_eq!(of(&[3]), 0);
    assert_eq!(of(&[-5, -2, -2]), 1);
    assert_eq!(of(&[7, 9, 9, 8]), 1);
    assert_eq!(of(&[i64::MIN, i64::MIN]), 0);
}
