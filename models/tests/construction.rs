//! Every rule of the checker is broken once, and the error names the place and the numbers.

use lowkey_models::check::{MAX_ACCUMULATOR, MAX_WEIGHT_BITS};
use lowkey_models::floats::Floats;
use lowkey_models::{
    Architecture, Input, Kind, LinearWeights, ModelError, Network, Node, Op, Place, Problem, Range, Term, Weights,
    Window,
};
use ndarray::Array4;

fn window(kernel: usize, stride: usize, padding: usize) -> Window {
    Window { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 4], dilation: [1, 1] }
}

fn node(name: &str, op: Op) -> Node {
    Node { name: name.into(), op }
}

fn conv(input: usize, out_channels: usize, groups: usize, window: Window) -> Term {
    Term::Conv { input, out_channels, groups, window, weight_bits: 4 }
}

/// 0: input [2, 6, 6]; 1: conv + identity [2, 6, 6]; 2: requantise; 3: max pool [2, 3, 3]; 4: average pool [2, 2, 2];
/// 5: flatten [8]; 6: table; 7: dense [3].
fn valid() -> Architecture {
    let residual = vec![conv(0, 2, 1, window(3, 1, 1)), Term::Identity { input: 0, multiplier: 3 }];
    let average = Op::AvgPool { input: 3, window: window(2, 1, 0), multiplier: 1, offset: 2, shift: 2, floats: None };
    Architecture {
        name: "valid".into(),
        input: Input { shape: [2, 6, 6], bits: 4, zero_point: 0, pixels: None, coding: None },
        nodes: vec![
            node("conv", Op::Linear { terms: residual }),
            node("relu", Op::Requantise { input: 1, bits: 4, shift: vec![5], top: None, zero_point: 0 }),
            node("pool", Op::MaxPool { input: 2, window: window(2, 2, 0) }),
            node("mean", average),
            node("flat", Op::Flatten { input: 4 }),
            node("table", Op::Table { input: 5, table: (0..16).collect() }),
            node("dense", Op::Linear { terms: vec![Term::Dense { input: 6, outputs: 3, weight_bits: 2 }] }),
        ],
        output: 7,
        rounding: None,
        output_scale: Some(0.5),
        output_coding: None,
        classes: vec!["a".into(), "b".into(), "c".into()],
        declared: Default::default(),
    }
}

fn valid_weights() -> Weights {
    let conv = LinearWeights { terms: vec![Some(Array4::ones([2, 2, 3, 3])), None], bias: vec![0; 2] };
    let dense = LinearWeights { terms: vec![Some(Array4::ones([3, 8, 1, 1]))], bias: vec![0; 3] };
    Weights { linear: vec![Some(conv), None, None, None, None, None, Some(dense)] }
}

/// The error of the valid architecture after a change.
fn broken(change: impl FnOnce(&mut Architecture)) -> ModelError {
    let mut architecture = valid();
    change(&mut architecture);
    architecture.check().expect_err("the change breaks a rule")
}

/// The error of the valid weights after a change.
fn broken_weights(change: impl FnOnce(&mut Weights)) -> ModelError {
    let mut weights = valid_weights();
    change(&mut weights);
    Network::new(valid(), weights).expect_err("the change breaks a rule")
}

fn at_node(index: usize) -> Place {
    Place::Node { index, name: valid().nodes[index].name.clone() }
}

fn at_term(index: usize, term: usize) -> Place {
    Place::Term { index, name: valid().nodes[index].name.clone(), term }
}

#[track_caller]
fn assert_broken(error: ModelError, place: Place, problem: Problem) {
    assert_eq!(error, ModelError { place, problem: Box::new(problem) });
}

#[track_caller]
fn assert_out_of_range(error: ModelError, place: Place, what: &str, value: i128) {
    assert_eq!(error.place, place);
    let Problem::OutOfRange { what: found, value: number, .. } = *error.problem else { panic!("{error}") };
    assert_eq!((found, number), (what, value));
}

#[track_caller]
fn assert_too_large(error: ModelError, place: Place, what: &str) {
    assert_eq!(error.place, place);
    let Problem::TooLarge { what: found, value, limit } = *error.problem else { panic!("{error}") };
    assert_eq!(found, what);
    assert!(value > limit);
}

#[test]
fn the_valid_network_is_valid_and_its_tensors_are_known() {
    let network = Network::new(valid(), valid_weights()).unwrap();
    let shapes: Vec<_> = network.tensors().iter().map(|t| t.shape).collect();
    assert_eq!(
        shapes,
        [[2, 6, 6], [2, 6, 6], [2, 6, 6], [2, 3, 3], [2, 2, 2], [8, 1, 1], [8, 1, 1], [3, 1, 1]].to_vec()
    );
    let kinds: Vec<_> = network.tensors().iter().map(|t| t.kind == Kind::Accumulator).collect();
    assert_eq!(kinds, [false, true, false, false, false, false, false, true]);
    // Weights of 4 bits reach -8: 18 taps of -8 * 15, plus the identity 3 * 15.
    assert_eq!(network.tensors()[1].range, Range { lo: -18 * 8 * 15, hi: 18 * 7 * 15 + 45 });
    assert_eq!(network.tensors()[4].range, Range { lo: 0, hi: 15 });
    // All weights are 1: z in 0..=18 * 15 + 45.
    let bounds = network.bounds();
    assert_eq!(bounds[0].as_ref().unwrap().channels, vec![Range { lo: 0, hi: 315 }; 2]);
    assert_eq!(bounds[0].as_ref().unwrap().accumulator_bits(), 10);
    assert!(bounds[1].is_none());
}

#[test]
fn shape_rule_is_that_of_the_field() {
    // floor((H + pt + pb - dil * (k - 1) - 1) / stride) + 1
    let cases = [
        (window(3, 1, 1), [6, 6], [6, 6]),
        (window(3, 2, 1), [6, 6], [3, 3]),
        (window(2, 2, 0), [7, 7], [3, 3]),
        (Window { dilation: [2, 3], ..window(3, 1, 0) }, [7, 7], [3, 1]),
        (Window { padding: [1, 2, 3, 4], ..window(2, 1, 0) }, [5, 5], [8, 10]),
    ];
    for (window, input, output) in cases {
        assert_eq!(window.output(input), Some(output), "{window:?}");
    }
    assert_eq!(window(4, 1, 0).output([3, 5]), None);
}

#[test]
fn counts_and_names() {
    assert_broken(broken(|a| a.nodes.clear()), Place::Network, Problem::NoNodes);
    let many = |a: &mut Architecture| {
        a.nodes = (0..5000).map(|i| node(&i.to_string(), Op::Flatten { input: 0 })).collect();
    };
    assert_too_large(broken(many), Place::Network, "the number of nodes");
    assert_too_large(broken(|a| a.name = "x".repeat(200)), Place::Network, "the length of its name");
    assert_too_large(
        broken(|a| a.nodes[1].name = "x".repeat(200)),
        Place::Node { index: 1, name: "x".repeat(200) },
        "the length of its name",
    );
    let unnamed = Place::Node { index: 1, name: String::new() };
    assert_broken(broken(|a| a.nodes[1].name.clear()), unnamed, Problem::BadName);
    let control = Place::Node { index: 1, name: "\u{1b}[2J".into() };
    let error = broken(|a| a.nodes[1].name = "\u{1b}[2J".into());
    assert!(!error.to_string().contains('\u{1b}'), "{error}");
    assert_broken(error, control, Problem::BadName);
    let again = Place::Node { index: 2, name: "conv".into() };
    assert_broken(broken(|a| a.nodes[2].name = "conv".into()), again, Problem::DuplicateName { first: 0 });
}

#[test]
fn order_kinds_and_use() {
    let forward = broken(|a| a.nodes[1].op = Op::Flatten { input: 2 });
    assert_broken(forward, at_node(1), Problem::UnknownTensor { tensor: 2, last: 1 });
    let huge = broken(|a| a.nodes[6].op = Op::Flatten { input: usize::MAX });
    assert_broken(huge, at_node(6), Problem::UnknownTensor { tensor: usize::MAX, last: 6 });
    assert_broken(broken(|a| a.output = 8), Place::Network, Problem::UnknownTensor { tensor: 8, last: 7 });
    let (found, wanted) = (Kind::Accumulator, Kind::Activation);
    let accumulator = Problem::WrongKind { tensor: 1, found, wanted };
    for op in [
        Op::Flatten { input: 1 },
        Op::MaxPool { input: 1, window: Window::POINT },
        Op::SumPool { input: 1, window: Window::POINT },
        Op::AvgPool { input: 1, window: Window::POINT, multiplier: 1, offset: 0, shift: 0, floats: None },
        Op::Table { input: 1, table: vec![0] },
    ] {
        assert_broken(broken(|a| a.nodes[1].op = op), at_node(1), accumulator.clone());
    }
    let linear = broken(|a| a.nodes[1].op = Op::Linear { terms: vec![Term::Identity { input: 1, multiplier: 1 }] });
    assert_broken(linear, at_term(1, 0), accumulator);
    let again =
        broken(|a| a.nodes[2].op = Op::Requantise { input: 2, bits: 4, shift: vec![0], top: None, zero_point: 0 });
    assert_broken(again, at_node(2), Problem::WrongKind { tensor: 2, found: wanted, wanted: found });
    let skipped = broken(|a| a.nodes[5].op = Op::Flatten { input: 4 });
    assert_broken(skipped, at_node(4), Problem::Unused { tensor: 5 });
    let input_unused =
        Architecture { nodes: vec![node("a", Op::Flatten { input: 0 })], output: 0, classes: Vec::new(), ..valid() };
    assert_broken(
        input_unused.check().unwrap_err(),
        Place::Node { index: 0, name: "a".into() },
        Problem::Unused { tensor: 1 },
    );
    assert_broken(broken(|a| a.nodes[0].op = Op::Linear { terms: vec![] }), at_node(0), Problem::NoTerms);
    let crowd = vec![Term::Identity { input: 0, multiplier: 1 }; 65];
    assert_too_large(broken(|a| a.nodes[0].op = Op::Linear { terms: crowd }), at_node(0), "the number of terms");
}

#[test]
fn widths_and_zero_points() {
    assert_out_of_range(broken(|a| a.input.bits = 0), Place::Input, "the width of the activation", 0);
    assert_out_of_range(broken(|a| a.input.bits = 9), Place::Input, "the width of the activation", 9);
    assert_out_of_range(broken(|a| a.input.zero_point = -1), Place::Input, "the zero point", -1);
    assert_out_of_range(broken(|a| a.input.zero_point = 16), Place::Input, "the zero point", 16);
    let requantise = |bits, shift: &[u32], zero_point| {
        let shift = shift.to_vec();
        broken(|a| a.nodes[1].op = Op::Requantise { input: 1, bits, shift, top: None, zero_point })
    };
    assert_out_of_range(requantise(0, &[5], 0), at_node(1), "the width of the activation", 0);
    assert_out_of_range(requantise(u32::MAX, &[5], 0), at_node(1), "the width of the activation", u32::MAX.into());
    assert_out_of_range(requantise(4, &[5], i64::MIN), at_node(1), "the zero point", i64::MIN.into());
    assert_out_of_range(requantise(4, &[57], 0), at_node(1), "a shift", 57);
    assert_out_of_range(requantise(4, &[3, 99], 0), at_node(1), "a shift", 99);
    assert_broken(requantise(4, &[], 0), at_node(1), Problem::ShiftCount { found: 0, channels: 2 });
    for top in [0, 16] {
        let clip = broken(|a| {
            a.nodes[1].op = Op::Requantise { input: 1, bits: 4, shift: vec![5], top: Some(top), zero_point: 0 };
        });
        assert_out_of_range(clip, at_node(1), "the largest value", top.into());
    }
    assert_broken(requantise(4, &[1, 2, 3], 0), at_node(1), Problem::ShiftCount { found: 3, channels: 2 });
    for weight_bits in [0, MAX_WEIGHT_BITS + 1, u32::MAX] {
        let term = Term::Dense { input: 6, outputs: 3, weight_bits };
        let error = broken(|a| a.nodes[6].op = Op::Linear { terms: vec![term] });
        assert_out_of_range(error, at_term(6, 0), "the width of the weights", weight_bits.into());
    }
}

#[test]
fn shapes_groups_and_windows() {
    assert_out_of_range(broken(|a| a.input.shape = [0, 6, 6]), Place::Input, "a dimension", 0);
    assert_out_of_range(broken(|a| a.input.shape = [2, 1 << 17, 6]), Place::Input, "a dimension", 1 << 17);
    assert_too_large(broken(|a| a.input.shape = [1 << 16; 3]), Place::Input, "the number of elements");
    let conv_with = |term| broken(|a| a.nodes[0].op = Op::Linear { terms: vec![term] });
    let groups =
        |groups, output| (conv(0, output, groups, Window::POINT), Problem::Groups { groups, input: 2, output });
    for (term, problem) in [groups(0, 2), groups(3, 3), groups(2, 3), groups(usize::MAX, 2)] {
        assert_broken(conv_with(term), at_term(0, 0), problem);
    }
    let none = conv_with(conv(0, 0, 1, Window::POINT));
    assert_out_of_range(none, at_term(0, 0), "the number of output channels", 0);
    let big = conv_with(conv(0, 2, 1, window(7, 1, 0)));
    assert_broken(big, at_term(0, 0), Problem::WindowTooLarge { extent: [7, 7], padded: [6, 6] });
    let limits = [
        (Window { kernel: [0, 1], ..Window::POINT }, "a kernel size", 0),
        (Window { stride: [1, 0], ..Window::POINT }, "a stride", 0),
        (Window { dilation: [usize::MAX, 1], ..Window::POINT }, "a dilation", usize::MAX as i128),
        (Window { padding: [0, 0, 0, usize::MAX], ..Window::POINT }, "a padding", usize::MAX as i128),
    ];
    for (window, what, value) in limits {
        assert_out_of_range(conv_with(conv(0, 2, 1, window)), at_term(0, 0), what, value);
        let pool = broken(|a| a.nodes[2].op = Op::MaxPool { input: 2, window });
        assert_out_of_range(pool, at_node(2), what, value);
    }
    let wide = Window { padding: [1 << 16; 4], ..Window::POINT };
    assert_too_large(conv_with(conv(0, 2, 1, wide)), at_term(0, 0), "the number of elements with padding");
    let heavy = conv_with(conv(0, 1 << 16, 1, window(2, 1, 50)));
    assert_too_large(heavy, at_term(0, 0), "the number of elements");
    let many =
        broken(|a| a.nodes[6].op = Op::Linear { terms: vec![Term::Dense { input: 5, outputs: 0, weight_bits: 2 }] });
    assert_out_of_range(many, at_term(6, 0), "a dimension", 0);
    let unflat =
        broken(|a| a.nodes[6].op = Op::Linear { terms: vec![Term::Dense { input: 4, outputs: 3, weight_bits: 2 }] });
    let (found, wanted) = ([2, 2, 2], [2, 1, 1]);
    assert_broken(unflat, at_term(6, 0), Problem::Shape { what: "the input of a dense term", found, wanted });
    let residual = broken(|a| {
        let terms = vec![conv(0, 2, 1, window(3, 2, 1)), Term::Identity { input: 0, multiplier: 3 }];
        a.nodes[0].op = Op::Linear { terms };
    });
    let (found, wanted) = ([2, 6, 6], [2, 3, 3]);
    assert_broken(residual, at_term(0, 1), Problem::Shape { what: "the term's result", found, wanted });
}

#[test]
fn number_of_weights() {
    // 2^13 inputs to 2^15 + 1 outputs are a few more than 2^28 weights; neither tensor is large.
    let mut architecture = valid();
    architecture.input.shape = [1 << 13, 1, 1];
    let outputs = (1 << 15) + 1;
    let terms = vec![Term::Dense { input: 0, outputs, weight_bits: 2 }];
    architecture.nodes = vec![node("dense", Op::Linear { terms })];
    architecture.classes.clear();
    architecture.output = 1;
    let place = Place::Term { index: 0, name: "dense".into(), term: 0 };
    assert_too_large(architecture.check().unwrap_err(), place, "the number of weights");
}

#[test]
fn elements_of_all_tensors() {
    let mut architecture = valid();
    architecture.input.shape = [1 << 8, 1 << 8, 1 << 8];
    let same = |i: usize| node(&i.to_string(), Op::MaxPool { input: i, window: Window::POINT });
    architecture.nodes = (0..16).map(same).collect();
    architecture.classes.clear();
    architecture.output = 16;
    let place = Place::Node { index: 15, name: "15".into() };
    assert_too_large(architecture.check().unwrap_err(), place, "the number of elements of all tensors");
    architecture.nodes.pop();
    architecture.output = 15;
    architecture.check().unwrap();
}

#[test]
fn pools_and_tables() {
    let max = |window| broken(|a| a.nodes[2].op = Op::MaxPool { input: 2, window });
    let far = Window { padding: [2, 0, 0, 0], ..window(2, 1, 0) };
    assert_broken(max(far), at_node(2), Problem::WindowOfPadding { axis: "vertical", at: 0 });
    let behind = Window { padding: [0, 0, 0, 2], ..window(2, 1, 0) };
    assert_broken(max(behind), at_node(2), Problem::WindowOfPadding { axis: "horizontal", at: 6 });
    // Taps at -1 and 7 of a row of six: both in the padding, though the padding is smaller than the window.
    let sparse = Window { kernel: [2, 1], dilation: [8, 1], padding: [1, 0, 2, 0], ..Window::POINT };
    assert_broken(max(sparse), at_node(2), Problem::WindowOfPadding { axis: "vertical", at: 0 });

    let mean = |multiplier, offset, shift| {
        let window = window(2, 1, 0);
        broken(|a| a.nodes[3].op = Op::AvgPool { input: 3, window, multiplier, offset, shift, floats: None })
    };
    assert_out_of_range(mean(0, 0, 2), at_node(3), "the multiplier of an average", 0);
    let offset = mean(1, -MAX_ACCUMULATOR - 1, 2);
    assert_out_of_range(offset, at_node(3), "the offset of an average", -i128::from(MAX_ACCUMULATOR) - 1);
    assert_out_of_range(mean(1, 0, 57), at_node(3), "a shift", 57);
    let huge = mean(MAX_ACCUMULATOR, 0, 40);
    assert_out_of_range(huge, at_node(3), "the multiplied sum of an average", i128::from(MAX_ACCUMULATOR) * 60);
    assert_out_of_range(mean(1, 1 << 40, 2), at_node(3), "an average", 1 << 38);
    let floats = |unit: i64, least: &[[i64; 2]]| {
        let (window, least) = (window(2, 1, 0), least.to_vec());
        let floats = Some(Floats { unit, least });
        broken(|a| a.nodes[3].op = Op::AvgPool { input: 3, window, multiplier: 1, offset: 2, shift: 2, floats })
    };
    assert_out_of_range(floats(1 << 24, &[]), at_node(3), "the significand of a scale", 1 << 24);
    assert_out_of_range(floats(i64::MIN, &[]), at_node(3), "the significand of a scale", i64::MIN.into());
    assert_out_of_range(floats(1 << 23, &[[61, 0]]), at_node(3), "a sum of floats", 61);
    assert_out_of_range(floats(1 << 23, &[[3, 0], [3, 1]]), at_node(3), "a sum of floats", 3);
    // Values lose up to 3 bits, sums up to 4, 5 and 5.
    assert_out_of_range(floats(1 << 23, &[[3, 58]]), at_node(3), "the error of a sum of floats", 58);
    assert_out_of_range(floats(1 << 23, &[[3, -57]]), at_node(3), "the error of a sum of floats", -57);
    let many = broken(|a| {
        let floats = Some(Floats { unit: 1 << 23, least: vec![] });
        a.input.shape = [1, 90, 90];
        a.nodes[0].op = Op::AvgPool { input: 0, window: window(9, 1, 0), multiplier: 1, offset: 0, shift: 7, floats };
    });
    assert_out_of_range(many, at_node(0), "the number of values of a sum of floats", 81);
    let sums = broken(|a| {
        a.input.shape = [1, 2048, 2048];
        a.nodes[0].op = Op::SumPool { input: 0, window: window(2000, 1, 0) };
    });
    assert_out_of_range(sums, at_node(0), "a sum over the window", 4_000_000 * 15);

    let table = |table: Vec<i64>| broken(|a| a.nodes[5].op = Op::Table { input: 5, table });
    assert_broken(table(vec![0; 15]), at_node(5), Problem::TableLength { found: 15, lo: 0, hi: 15, wanted: 16 });
    let wide = (0..16).map(|i| 20 * i).collect();
    assert_broken(table(wide), at_node(5), Problem::TableRange { lo: 0, hi: 300 });
    let mut far = vec![0; 16];
    far[3] = i64::MAX;
    assert_out_of_range(table(far), at_node(5), "a result of the table", i64::MAX.into());
    let sum = broken(|a| {
        a.nodes[3].op = Op::SumPool { input: 3, window: window(3, 1, 0) };
        a.nodes[4].op = Op::SumPool { input: 4, window: Window { padding: [1, 1, 1, 1], ..window(3, 1, 0) } };
        a.nodes[5].op = Op::Table { input: 5, table: vec![0; 256] };
    });
    assert_broken(sum, at_node(5), Problem::TableLength { found: 256, lo: 0, hi: 1215, wanted: 1216 });
}

#[test]
fn sums_fit() {
    assert_broken(
        broken(|a| a.nodes[0].op = Op::Linear { terms: vec![Term::Identity { input: 0, multiplier: 0 }] }),
        at_term(0, 0),
        Problem::ZeroMultiplier,
    );
    for multiplier in [i64::MAX, i64::MIN] {
        let terms = vec![Term::Identity { input: 0, multiplier }];
        let error = broken(|a| a.nodes[0].op = Op::Linear { terms });
        let what = "the largest possible sum of the terms";
        assert_out_of_range(error, at_node(0), what, i128::from(multiplier) * 15);
    }
}

#[test]
fn output() {
    let classes = broken(|a| drop(a.classes.pop()));
    assert_broken(classes, Place::Network, Problem::Classes { found: 2, wanted: 3 });
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_broken(broken(|a| a.output_scale = Some(scale)), Place::Network, Problem::OutputScale);
    }
}

#[test]
fn weights() {
    let nodes = broken_weights(|w| drop(w.linear.pop()));
    assert_broken(nodes, Place::Network, Problem::WeightNodes { found: 6, wanted: 7 });
    let missing = broken_weights(|w| w.linear[6] = None);
    assert_broken(missing, at_node(6), Problem::WeightPresence { found: false });
    let extra = broken_weights(|w| w.linear[1] = w.linear[0].clone());
    assert_broken(extra, at_node(1), Problem::WeightPresence { found: true });
    fn first(w: &mut Weights) -> &mut LinearWeights {
        w.linear[0].as_mut().unwrap()
    }
    let terms = broken_weights(|w| drop(first(w).terms.pop()));
    assert_broken(terms, at_node(0), Problem::WeightTerms { found: 1, wanted: 2 });
    let absent = broken_weights(|w| first(w).terms[0] = None);
    assert_broken(absent, at_term(0, 0), Problem::WeightPresence { found: false });
    let identity = broken_weights(|w| first(w).terms[1] = Some(Array4::ones([2, 1, 1, 1])));
    assert_broken(identity, at_term(0, 1), Problem::WeightPresence { found: true });
    let shape = broken_weights(|w| first(w).terms[0] = Some(Array4::ones([2, 3, 3, 2])));
    assert_broken(shape, at_term(0, 0), Problem::WeightShape { found: vec![2, 3, 3, 2], wanted: [2, 2, 3, 3] });
    for (value, fits) in [(7, true), (-8, true), (8, false), (-9, false), (i32::MIN, false)] {
        let mut weights = valid_weights();
        weights.linear[0].as_mut().unwrap().terms[0].as_mut().unwrap()[[1, 0, 2, 1]] = value;
        let result = Network::new(valid(), weights);
        if fits {
            assert!(result.is_ok());
        } else {
            assert_broken(result.unwrap_err(), at_term(0, 0), Problem::WeightValue { value: value.into(), bits: 4 });
        }
    }
    let bias = broken_weights(|w| first(w).bias.truncate(1));
    assert_broken(bias, at_node(0), Problem::BiasCount { found: 1, wanted: 2 });
    let large = broken_weights(|w| first(w).bias[1] = i64::MIN);
    assert_out_of_range(large, at_node(0), "a bias", i64::MIN.into());
}

#[test]
fn a_binary_weight_is_never_zero() {
    let mut architecture = valid();
    let terms = vec![Term::Dense { input: 6, outputs: 3, weight_bits: 1 }];
    architecture.nodes[6].op = Op::Linear { terms };
    let mut weights = valid_weights();
    Network::new(architecture.clone(), weights.clone()).unwrap();
    weights.linear[6].as_mut().unwrap().terms[0].as_mut().unwrap()[[0, 0, 0, 0]] = 0;
    let error = Network::new(architecture, weights).unwrap_err();
    assert_broken(error, at_term(6, 0), Problem::WeightValue { value: 0, bits: 1 });
}

#[test]
fn errors_read_well_and_weights_print_redacted() {
    let error =
        broken(|a| a.nodes[1].op = Op::Requantise { input: 1, bits: 4, shift: vec![1; 3], top: None, zero_point: 0 });
    let text = "node \"relu\" (number 1): it has 3 shifts; one, or one for each of 2 channels, is needed";
    assert_eq!(error.to_string(), text);
    let network = Network::new(valid(), valid_weights()).unwrap();
    let printed = format!("{:?} {:?}", network.weights(), network.linear(0).unwrap().1);
    assert_eq!(printed, "Weights { 7 nodes, redacted } LinearWeights { 2 terms, 2 channels, redacted }");
    assert!(format!("{network:?}").contains("redacted"));
}

#[test]
fn signed_bits_of_a_range() {
    let bits = |lo, hi| Range { lo, hi }.signed_bits();
    assert_eq!([bits(0, 0), bits(-1, 0), bits(0, 1), bits(-2, 1), bits(-3, 1), bits(-8, 7)], [1, 1, 2, 2, 3, 4]);
    assert_eq!([bits(-9, 7), bits(-8, 8), bits(0, 2047), bits(-2049, 0), bits(i64::MIN, i64::MAX)], [5, 5, 12, 13, 64]);
    assert_eq!(bits(5, 7), 4);
}

#[test]
fn scales_and_concatenations() {
    let scale = |multiplier: Vec<i64>| broken(|a| a.nodes[1].op = Op::Scale { input: 1, multiplier });
    assert_broken(scale(vec![]), at_node(1), Problem::MultiplierCount { found: 0, channels: 2 });
    assert_broken(scale(vec![1; 3]), at_node(1), Problem::MultiplierCount { found: 3, channels: 2 });
    assert_out_of_range(scale(vec![1, 0]), at_node(1), "a multiplier", 0);
    assert_out_of_range(scale(vec![1 << 47]), at_node(1), "a multiplier", 1 << 47);
    let of_an_activation = broken(|a| a.nodes[2].op = Op::Scale { input: 2, multiplier: vec![1] });
    let (found, wanted) = (Kind::Activation, Kind::Accumulator);
    assert_broken(of_an_activation, at_node(2), Problem::WrongKind { tensor: 2, found, wanted });

    let concat = |inputs: Vec<usize>| broken(|a| a.nodes[2].op = Op::Concat { inputs });
    assert_out_of_range(concat(vec![2]), at_node(2), "the number of inputs", 1);
    let (found, wanted) = (Kind::Accumulator, Kind::Activation);
    assert_broken(concat(vec![2, 1]), at_node(2), Problem::WrongKind { tensor: 1, found, wanted });
    let error = broken(|a| a.nodes[3].op = Op::Concat { inputs: vec![2, 3] });
    assert!(matches!(*error.problem, Problem::Shape { what: "an input", .. }), "{error}");
}

/// A coding may come from the other party.
#[test]
fn codings_fit_their_tensors() {
    use lowkey_models::coding::{Coding, Dtype, InputStep, Order, OutputCoding, Rule};
    let good = Coding {
        dims: vec![6, 6, 2],
        order: Order::ChannelsLast,
        dtype: Dtype::Uint(4),
        lowest: 0,
        highest: 15,
        scale: Some(0.5),
        zero_point: 0,
        steps: vec![InputStep::Sub(vec![0.5, 0.25])],
        rule: Rule::Onnx,
        integers: false,
    };
    let with = |change: &dyn Fn(&mut Coding)| {
        let mut architecture = valid();
        let mut coding = good.clone();
        change(&mut coding);
        architecture.input.coding = Some(coding);
        (architecture.check().map(|_| ()), architecture)
    };
    let (valid_one, architecture) = with(&|_| ());
    assert_eq!(valid_one, Ok(()));
    assert_eq!(Architecture::from_json(&architecture.to_json()).unwrap(), architecture);
    let wrong: [&dyn Fn(&mut Coding); 16] = [
        &|coding| coding.dims = vec![6, 6, 3],
        &|coding| coding.dims = vec![usize::MAX, usize::MAX],
        &|coding| coding.dims = [vec![72], vec![1; 8]].concat(),
        &|coding| coding.dtype = Dtype::Uint(3),
        &|coding| coding.dtype = Dtype::Int(64),
        &|coding| coding.dtype = Dtype::Bipolar,
        &|coding| (coding.lowest, coding.highest) = (15, 0),
        &|coding| coding.lowest = i64::MIN,
        &|coding| coding.scale = Some(0.0),
        &|coding| coding.scale = Some(f32::NAN),
        &|coding| coding.zero_point = 1,
        &|coding| coding.steps = vec![InputStep::Mul(vec![1.0; 3])],
        &|coding| coding.steps = vec![InputStep::Mul(vec![f32::INFINITY])],
        &|coding| coding.steps = vec![InputStep::Clip { low: Some(2.0), high: Some(1.0) }],
        &|coding| coding.steps = vec![InputStep::Clip { low: Some(f32::NAN), high: None }],
        &|coding| coding.rule = Rule::Sign,
    ];
    for (number, change) in wrong.iter().enumerate() {
        let error = with(change).0.expect_err(&format!("change {number}"));
        assert_broken(error, Place::Input, Problem::Coding("input"));
    }
    let output = OutputCoding {
        dims: vec![usize::MAX, 2],
        order: Order::ChannelsFirst,
        dtype: None,
        zero_point: 0,
        integers: false,
        ends: Vec::new(),
        probability: false,
        class: None,
        parts: Vec::new(),
        units: vec![],
    };
    assert_broken(broken(|a| a.output_coding = Some(output.clone())), Place::Network, Problem::Coding("output"));
}

#[test]
fn tables_for_pixels() {
    let tables = |tables: Vec<Vec<u8>>| broken(|a| a.input.pixels = Some(tables));
    assert_broken(tables(vec![vec![0; 256]]), Place::Input, Problem::PixelTables { found: 1, wanted: 2 });
    assert_broken(tables(vec![vec![0; 255]; 2]), Place::Input, Problem::PixelTables { found: 2, wanted: 2 });
    assert_out_of_range(tables(vec![vec![16; 256]; 2]), Place::Input, "a pixel's value", 16);
}
