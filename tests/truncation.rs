//! Scales whose products are truncated: planned where they may be, exact, refused where they may not.

mod common;

use lowkey::plan::{Plan, PlanError, ScaleChoice};
use lowkey::planner;
use lowkey::{Link, Reveal, Schedule};
use lowkey_models::rescale::{Affine, Steps, fit, widest};
use lowkey_models::{Architecture, Input, LinearWeights, Network, Node, Op, Tensor, Term, Weights, random};
use ndarray::Array4;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

const INPUTS: usize = 24;

/// A dense layer that is rescaled by `lines`, and a dense layer behind it.
fn network(weights: &Array4<i32>, bias: Vec<i64>, lines: &[Affine], top: i64, bits: u32) -> Network {
    let outputs = bias.len();
    let multiplier = lines.iter().map(|line| line.multiplier).collect();
    let clip = (top + 1 < 1 << bits).then_some(top);
    let nodes = [
        ("wide", Op::Linear { terms: vec![Term::Dense { input: 0, outputs, weight_bits: 8 }] }),
        ("scale", Op::Scale { input: 1, multiplier }),
        ("requantise", Op::Requantise { input: 2, bits, shift: vec![lines[0].shift], top: clip, zero_point: top / 3 }),
        ("last", Op::Linear { terms: vec![Term::Dense { input: 3, outputs, weight_bits: 2 }] }),
    ];
    let architecture = Architecture {
        name: "rescaled".into(),
        input: Input { shape: [INPUTS, 1, 1], bits: 8, zero_point: 11, pixels: None, coding: None },
        nodes: nodes.map(|(name, op)| Node { name: name.into(), op }).into(),
        output: 4,
        rounding: None,
        output_scale: None,
        output_coding: None,
        classes: vec![],
        declared: Default::default(),
    };
    let identity = Array4::from_shape_fn((outputs, outputs, 1, 1), |(o, i, _, _)| i32::from(o == i));
    let own = |array: Array4<i32>, bias| Some(LinearWeights { terms: vec![Some(array)], bias });
    let offsets = LinearWeights { terms: vec![], bias: lines.iter().map(|line| line.offset).collect() };
    let linear = vec![own(weights.clone(), bias), Some(offsets), None, own(identity, vec![0; outputs])];
    Network::new(architecture, Weights { linear }).expect("valid")
}

/// Random weights, a float rule for each channel, its steps on the reachable accumulators, and the rule's top.
fn steps(rng: &mut ChaCha20Rng, outputs: usize, bits: u32) -> (Array4<i32>, Vec<i64>, Vec<Steps>, i64) {
    let weights = random::weights(rng, [outputs, INPUTS, 1, 1], 8);
    let bias: Vec<i64> = (0..outputs).map(|_| rng.random_range(-3000..=3000)).collect();
    let top = if rng.random::<bool>() { (1 << bits) - 1 } else { rng.random_range(1 << (bits - 1)..1 << bits) };
    let zero = rng.random_range(0..=top);
    let line = Affine { multiplier: 1, offset: 0, shift: 0 };
    let bounds = network(&weights, bias.clone(), &vec![line; outputs], top, bits).bounds();
    let of = |range: &lowkey_models::Range| {
        let reach = rng.random_range(0.05..1.5) * (range.hi - range.lo) as f32;
        let scale = top as f32 / reach;
        Steps::of(*range, |z| ((z as f32 * scale).round_ties_even() as i64 + zero).clamp(0, top)).expect("monotone")
    };
    let steps = bounds[0].as_ref().unwrap().channels.iter().map(of).collect();
    (weights, bias, steps, top)
}

/// Inputs at random, and such that an accumulator is at a threshold of its channel or one below, if that is possible.
fn inputs(rng: &mut ChaCha20Rng, network: &Network, steps: &[Steps], weights: &Array4<i32>) -> Vec<Tensor> {
    let coding = &network.architecture().input;
    let mut all: Vec<Tensor> = (0..3).map(|_| random::input(rng, coding)).collect();
    for _ in 0..8 {
        let channel = rng.random_range(0..steps.len());
        let thresholds = &steps[channel].thresholds;
        if thresholds.is_empty() {
            continue;
        }
        let wanted = thresholds[rng.random_range(0..thresholds.len())] - rng.random_range(0..=1);
        let mut x = random::input(rng, coding);
        for i in (0..INPUTS).cycle().take(6 * INPUTS) {
            let z = network.run_all(&x).expect("a valid input")[1][[channel, 0, 0]];
            let w = i64::from(weights[[channel, i, 0, 0]]);
            if z != wanted && w != 0 {
                let range = coding.range();
                x[[i, 0, 0]] = (x[[i, 0, 0]] + (wanted - z) / w).clamp(range.lo, range.hi);
            }
        }
        all.push(x);
    }
    all
}

fn dropped(plan: &Plan) -> Option<u32> {
    plan.choices.scales[0].dropped()
}

/// Secret output equals the interpreter's in both schedules, for every link; and most plans truncate, whatever the width.
#[test]
fn truncated_products_are_exact() {
    let (mut truncated, mut plans, mut met) = (0, 0, 0);
    for seed in 1..=24 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let bits = rng.random_range(1..=8);
        let (weights, bias, steps, top) = steps(&mut rng, 5, bits);
        let lines = widest(&steps, top).or_else(|| fit(&steps, top));
        let Some(lines) = lines.filter(|lines| lines.iter().all(|line| line.shift == lines[0].shift)) else { continue };
        let network = network(&weights, bias, &lines, top, bits);
        let link = [Link::Lan, Link::Metered, Link::Wan][seed as usize % 3];
        let model = common::publish_for(&network, link);
        plans += 1;
        truncated += u32::from(dropped(&model.plan).is_some());
        let inputs = inputs(&mut rng, &network, &steps, &weights);
        for x in &inputs {
            let z = &network.run_all(x).expect("valid")[1];
            met += steps.iter().zip(z).filter(|(s, z)| s.thresholds.contains(z) || s.below.contains(z)).count();
        }
        for schedule in [Schedule::Prepared, Schedule::Direct] {
            let answers = common::infer(&model, &inputs, schedule, Reveal::Logits);
            for (index, (input, answer)) in inputs.iter().zip(answers).enumerate() {
                let expected = common::expected(&network, input, Reveal::Logits);
                assert_eq!(
                    answer.output, expected,
                    "seed {seed}, {schedule:?}, input {index}: {:?}",
                    model.plan.choices
                );
            }
        }
    }
    assert!(plans >= 12 && truncated * 3 > plans * 2, "{truncated} of {plans} plans truncate");
    assert!(met > 40, "{met} accumulators beside a threshold");
}

/// Lines with the smallest shift leave less room, so fewer bits are dropped; none of them more than the proof allows.
#[test]
fn narrow_lines_keep_more_bits() {
    let mut saved = 0;
    for seed in 40..=60 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let (weights, bias, steps, top) = steps(&mut rng, 3, 6);
        let (Some(narrow), Some(wide)) = (fit(&steps, top), widest(&steps, top)) else { continue };
        if narrow.iter().any(|line| line.shift != narrow[0].shift) {
            continue;
        }
        let kept = |lines: &[Affine]| {
            let network = network(&weights, bias.clone(), lines, top, 6);
            let plan = planner::plan(&network, Link::Metered).expect("it fits");
            lines[0].shift - dropped(&plan).unwrap_or(0)
        };
        let [narrow, wide] = [kept(&narrow), kept(&wide)];
        assert!(wide <= narrow + 1, "seed {seed}: {wide} bits kept of the widest lines, {narrow} of the shortest");
        saved += narrow.saturating_sub(wide);
    }
    assert!(saved > 20, "{saved} bits");
}

/// A client derives nothing from choices that fit no network, whatever the weights.
#[test]
fn impossible_truncations_are_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let (weights, bias, steps, top) = steps(&mut rng, 3, 8);
    let lines = widest(&steps, top).expect("lines");
    let network = network(&weights, bias, &lines, top, 8);
    let plan = planner::plan(&network, Link::Lan).expect("it fits");
    let ScaleChoice::Truncated { ell, dropped } = plan.choices.scales[0] else { panic!("{:?}", plan.choices.scales) };
    let derive = |architecture: &Architecture, choice| {
        let mut choices = plan.choices.clone();
        choices.scales[0] = choice;
        Plan::derive(architecture.clone(), choices)
    };
    let own = &plan.architecture;
    assert!(derive(own, plan.choices.scales[0]).is_ok());
    let impossible =
        [(ell, lines[0].shift + 1), (ell, u32::MAX), (u32::MAX, dropped), (57, dropped), (ell, 0), (1, dropped)];
    for (ell, dropped) in impossible {
        let refused = derive(own, ScaleChoice::Truncated { ell, dropped }).map(drop).expect_err("impossible");
        assert!(matches!(refused, PlanError::Choice { .. } | PlanError::Layout { .. }), "{ell}, {dropped}: {refused}");
    }
    // Two readers.
    let mut twice = own.clone();
    let again = Op::Requantise { input: 2, bits: 8, shift: vec![lines[0].shift], top: None, zero_point: 0 };
    twice.nodes[3].op = Op::Linear {
        terms: vec![Term::Identity { input: 3, multiplier: 1 }, Term::Identity { input: 4, multiplier: 1 }],
    };
    twice.nodes.insert(3, Node { name: "again".into(), op: again });
    twice.output = 5;
    let mut choices = plan.choices.clone();
    choices.layouts.insert(0, choices.layouts[0].clone());
    choices.linear[1].set = None;
    let refused = Plan::derive(twice, choices).map(drop).expect_err("two readers");
    assert!(matches!(refused, PlanError::Choice { .. }), "{refused}");
}

/// A scale of a scale has no program; it is not run as if it were one of a linear node.
#[test]
fn scales_of_scales_are_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let (weights, bias, steps, top) = steps(&mut rng, 3, 8);
    let lines = widest(&steps, top).expect("lines");
    let (mut architecture, mut weights) = network(&weights, bias, &lines, top, 8).into_parts();
    let twice = Node { name: "twice".into(), op: Op::Scale { input: 2, multiplier: vec![2] } };
    architecture.nodes.insert(2, twice);
    weights.linear.insert(2, Some(LinearWeights { terms: vec![], bias: vec![0; 3] }));
    architecture.nodes[3].op = Op::Requantise { input: 3, bits: 8, shift: vec![30], top: None, zero_point: 0 };
    architecture.nodes[4].op = Op::Linear { terms: vec![Term::Dense { input: 4, outputs: 3, weight_bits: 2 }] };
    architecture.output = 5;
    let network = Network::new(architecture, weights).expect("valid");
    let refused = planner::plan(&network, Link::Lan).map(drop).expect_err("no protocol");
    assert!(matches!(refused, PlanError::Choice { .. }), "{refused}");
}
