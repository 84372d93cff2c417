//! What a planner chooses, and what it refuses.

mod common;

use lowkey::cost::{Prediction, predict};
use lowkey::plan::{MAX_HINT_COEFFICIENTS, MAX_LAYER_OTS, Plan, PlanError};
use lowkey::planner;
use lowkey::{Link, Reveal, Schedule};
use lowkey_bridge::budget::{self, Norms};
use lowkey_bridge::{Kept, client_layer, keys};
use lowkey_he::{EpochSeed, Mask, MaskId, Ring, noise, pack, round_to};
use lowkey_models::answer::MAX_CLASSES;
use lowkey_models::{Architecture, Input, LinearWeights, Network, Node, Op, Term, Weights, Window, random, zoo};
use lowkey_mpc::party::{Party, Stage};
use ndarray::Array4;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// One dense layer with equal weights, requantised and read by another.
fn dense(inputs: usize, weight: i32, weight_bits: u32, bits: u32, shift: u32) -> Network {
    dense_to(inputs, weight, weight_bits, bits, shift, [1, 8])
}

/// The same with another number of outputs, each the sum of some equal terms.
fn dense_to(
    inputs: usize,
    weight: i32,
    weight_bits: u32,
    bits: u32,
    shift: u32,
    [terms, outputs]: [usize; 2],
) -> Network {
    let layer = |name: &str, input, outputs, terms| Node {
        name: name.into(),
        op: Op::Linear { terms: vec![Term::Dense { input, outputs, weight_bits }; terms] },
    };
    let requantise = Op::Requantise { input: 1, bits, shift: vec![shift], top: None, zero_point: 0 };
    let nodes =
        vec![layer("wide", 0, outputs, terms), Node { name: "relu".into(), op: requantise }, layer("last", 2, 2, 1)];
    let architecture = Architecture {
        name: "dense".into(),
        input: Input { shape: [inputs, 1, 1], bits, zero_point: 0, pixels: None, coding: None },
        nodes,
        output: 3,
        rounding: None,
        output_scale: None,
        output_coding: None,
        classes: vec![],
        declared: Default::default(),
    };
    let weights = |outputs: usize, inputs: usize, weight: i32, terms: usize| {
        let terms = vec![Some(Array4::from_elem((outputs, inputs, 1, 1), weight)); terms];
        Some(LinearWeights { terms, bias: vec![0; outputs] })
    };
    let linear = vec![weights(outputs, inputs, weight, terms), None, weights(2, outputs, 1, 1)];
    Network::new(architecture, Weights { linear }).expect("valid")
}

#[test]
fn a_layer_that_fits_nowhere_is_named_with_the_numbers() {
    let network = dense(60_000, 30_000, 16, 8, 30);
    let error = planner::plan(&network, Link::Lan).expect_err("the noise is beyond every torus");
    let PlanError::NothingFits { node, ell, tried } = &error else { panic!("{error}") };
    assert_eq!((node.as_str(), *ell), ("wide", 40));
    assert_eq!(tried.len(), 4);
    let text = error.to_string();
    for part in ["\"wide\"", "40 bits", "T32N2048: the torus has 32 bits", "T64N4096: its noise is", "bits too large"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn wide_layers_take_the_wide_torus_and_narrow_ones_the_narrow() {
    let torus = |network: &Network| {
        let plan = planner::plan(network, Link::Lan).expect("fits");
        let layer = plan.linear[0].encrypted.as_ref().expect("encrypted");
        (layer.parameters.ell, layer.parameters.set.torus_bits)
    };
    assert_eq!(torus(&dense(64, 1, 1, 1, 2)), (8, 32));
    assert_eq!(torus(&dense(64, 7, 4, 4, 6)), (14, 32));
    assert_eq!(torus(&dense(1024, 127, 8, 8, 14)), (26, 64));
}

/// 2048 weights of 16 bits: a 1-norm beyond what one exact product of polynomials holds.
#[test]
fn a_heavy_layer_is_planned_published_and_exact() {
    let network = dense(2048, 30_000, 16, 4, 20);
    let model = common::try_publish(&network).expect("it fits");
    let network = network.folded().unwrap();
    let input = random::input(&mut ChaCha20Rng::seed_from_u64(1), &network.architecture().input);
    let answers = common::infer(&model, std::slice::from_ref(&input), Schedule::Prepared, Reveal::Logits);
    assert_eq!(answers[0].output, common::expected(&network, &input, Reveal::Logits));
}

/// A detector's outputs, or an image's classes at each position: they are opened, and the index of the largest is no class.
#[test]
fn more_outputs_than_an_arg_max_takes_are_opened() {
    let window = Window { kernel: [1, 1], stride: [1; 2], padding: [0; 4], dilation: [1, 1] };
    let conv = Term::Conv { input: 0, out_channels: 1, groups: 1, window, weight_bits: 4 };
    let architecture = Architecture {
        name: "image".into(),
        input: Input { shape: [1, 256, 257], bits: 4, zero_point: 0, pixels: None, coding: None },
        nodes: vec![Node { name: "last".into(), op: Op::Linear { terms: vec![conv] } }],
        output: 1,
        rounding: None,
        output_scale: None,
        output_coding: None,
        classes: vec![],
        declared: Default::default(),
    };
    let own = LinearWeights { terms: vec![Some(Array4::from_elem((1, 1, 1, 1), -3))], bias: vec![5] };
    let network = Network::new(architecture, Weights { linear: vec![Some(own)] }).expect("valid");
    let model = common::try_publish(&network).expect("it needs no arg max");
    let outputs = model.plan.answer.lanes;
    assert!(outputs > MAX_CLASSES && model.plan.answer.class.is_none());
    assert!(network.architecture().class_rule(outputs).not_revealed().is_some());
    let input = random::input(&mut ChaCha20Rng::seed_from_u64(1), &network.architecture().input);
    let answers = common::infer(&model, std::slice::from_ref(&input), Schedule::Prepared, Reveal::Logits);
    assert_eq!(answers[0].output, common::expected(&network, &input, Reveal::Logits));
}

/// 3 x 65,536 output channels at N = 1024: few bytes if a stranger rounds most of the hint off, and more than a client expands.
#[test]
fn hints_that_expand_too_far_are_refused() {
    let network = dense_to(1, 1, 1, 1, 0, [3, 1 << 16]);
    // A server packs several of them into a ciphertext; a stranger need not.
    let plan = planner::plan(&network, Link::Lan).expect("64 channels share a ciphertext");
    let mut choices = plan.choices.clone();
    choices.linear[0].bands = 1;
    let refused = Plan::derive(plan.architecture.clone(), choices).map(drop).expect_err("beyond the limit");
    let PlanError::TooLarge { what, value, limit } = refused else { panic!("{refused}") };
    assert!(what.contains("hint") && value > limit, "{what}: {value}");
    assert_eq!(limit, MAX_HINT_COEFFICIENTS);
    // ResNet-50 fits, at the largest degree: stem, blocks, the convolutions beside them, 1000 classes.
    let stages = [(3, 64), (4, 128), (6, 256), (3, 512)];
    let channels: u64 = 64 + 1000 + stages.map(|(blocks, width)| blocks * 6 * width + 4 * width).iter().sum::<u64>();
    assert_eq!(channels, 27_560);
    assert!(channels * 4096 <= MAX_HINT_COEFFICIENTS);
}

/// 2^24 activations of 8 bits in one layer, which a hint of a few megabytes publishes: a client would hold the keys of all their OTs
/// at once, more than 4 GiB.
#[test]
fn a_layer_with_more_ots_than_a_client_holds_is_refused() {
    let conv = |input, out_channels, stride| {
        let window = Window { kernel: [1, 1], stride: [stride; 2], padding: [0; 4], dilation: [1, 1] };
        Op::Linear { terms: vec![Term::Conv { input, out_channels, groups: 1, window, weight_bits: 8 }] }
    };
    let network = |channels: usize| {
        let requantise = Op::Requantise { input: 1, bits: 8, shift: vec![6], top: None, zero_point: 0 };
        let nodes = [("wide", conv(0, channels, 1)), ("relu", requantise), ("last", conv(2, 2, 64))];
        let architecture = Architecture {
            name: "wide".into(),
            input: Input { shape: [1, 64, 64], bits: 8, zero_point: 0, pixels: None, coding: None },
            nodes: nodes.map(|(name, op)| Node { name: name.into(), op }).into(),
            output: 3,
            rounding: None,
            output_scale: None,
            output_coding: None,
            classes: vec![],
            declared: Default::default(),
        };
        let weights = |outputs, inputs| {
            let terms = vec![Some(Array4::from_elem((outputs, inputs, 1, 1), 100))];
            Some(LinearWeights { terms, bias: vec![0; outputs] })
        };
        Network::new(architecture, Weights { linear: vec![weights(channels, 1), None, weights(2, channels)] }).unwrap()
    };
    let plan = planner::plan(&network(1 << 9), Link::Lan).expect("a layer of a VGG-16, or so");
    let each = plan.demand(Reveal::Logits).ots.total() / (1 << 21);
    let refused = planner::plan(&network(1 << 12), Link::Lan).expect_err("beyond the limit");
    let PlanError::TooLarge { what, value, limit } = refused else { panic!("{refused}") };
    assert!(what.contains("OTs") && value > limit && limit == MAX_LAYER_OTS, "{what}: {value}");
    println!("{each} OTs for an activation, {value} in the layer that is refused");
}

/// Inverts the published roundings of every layer of every bundled network: all |w|^2 on a fine grid that would have been planned
/// alike, everything else being known. They span a factor of two or more: a plan tells a power of two at most.
#[test]
fn a_plan_tells_norms_up_to_a_power_of_two() {
    let (mut narrowest, mut layers) = (f64::INFINITY, 0);
    for bundled in zoo::ALL {
        let network = bundled.network().folded().unwrap();
        let plan = planner::plan(&network, Link::Lan).expect("it fits");
        let failure = noise::failure_log2(plan.encrypted_outputs());
        println!(
            "{}: {} encrypted outputs, 2^{failure:.1} over a key's lifetime",
            bundled.name,
            plan.encrypted_outputs()
        );
        assert!(failure <= -40.0, "{}: {failure}", bundled.name);
        for node in &plan.linear {
            let Some(layer) = &node.encrypted else { continue };
            let parameters = &layer.parameters;
            let set = plan.sets.iter().find(|set| set.set == parameters.set).unwrap();
            let (_, own) = network.linear(node.node.index()).unwrap();
            let largest = layer.terms.iter().zip(own.terms.iter().flatten()).map(|(term, weights)| {
                let weights = weights.as_standard_layout();
                let norms = budget::norms_per_output(term.packing.shape(), weights.as_slice().unwrap());
                norms.into_iter().fold(Norms::default(), Norms::max)
            });
            let largest: Vec<Norms> = largest.collect();
            let choice = |norms: &[Norms]| {
                let classes = norms.iter().zip(&layer.terms).map(|(n, term)| n.class(term.packing.shape().fan_in()));
                let classes: Vec<Norms> = classes.map(|class| budget::banded(class, layer.bands())).collect();
                let rounding = budget::largest_rounding(parameters.set, parameters.ell, &classes, set.b0_rounding);
                rounding.map(|rounding| (rounding.body, rounding.hint))
            };
            let published = Some((parameters.rounding.body, parameters.rounding.hint));
            assert_eq!(choice(&largest), published, "{}: the plan of another function", bundled.name);
            for index in 0..largest.len() {
                let mut norms = largest.clone();
                let alike = (0..2500).map(|step| 2f64.powf(f64::from(step) / 50.0)).filter(|&norm2| {
                    norms[index].norm2 = norm2;
                    choice(&norms) == published
                });
                let alike: Vec<f64> = alike.collect();
                let span = alike[alike.len() - 1] / alike[0];
                assert!(span > 1.95, "{}, {}: {span}", bundled.name, plan.name(node.node));
                narrowest = span.min(narrowest);
                layers += 1;
            }
        }
    }
    println!("{layers} layers, the narrowest span is a factor of {narrowest:.2}");
}

/// Two networks whose weights differ, and nothing that a plan may tell of them: equal architectures as published, equal choices.
fn assert_planned_alike(what: &str, networks: [&Network; 2], link: Link) {
    let [one, other] = networks.map(|network| planner::plan(&network.folded().unwrap(), link).expect("it fits"));
    assert_eq!(one.choices, other.choices, "{what}");
    assert_eq!(one.architecture, other.architecture, "{what}");
}

/// A channel of {-1, +1} that never changes is folded to zeros, which are wider than its weights were.
#[test]
fn a_plan_does_not_tell_that_channels_are_constant() {
    let network = |bias: i64| {
        let network = dense(64, 1, 1, 1, 2);
        let (architecture, mut weights) = (network.architecture().clone(), network.weights().clone());
        weights.linear[0].as_mut().unwrap().bias[3] = bias;
        Network::new(architecture, weights).unwrap()
    };
    let (live, constant) = (network(-60), network(-64));
    let zeros = |network: &Network| {
        let folded = network.folded().unwrap();
        folded.weights().linear[0].as_ref().unwrap().terms[0].as_ref().unwrap().iter().filter(|w| **w == 0).count()
    };
    assert_eq!([zeros(&live), zeros(&constant)], [0, 64]);
    assert_planned_alike("a constant channel", [&live, &constant], Link::Lan);
}

/// Other weights with the same accumulators at their ends and the same classes of norms. In every output channel weights change
/// places, and units move between weights of one sign.
fn altered(network: &Network, rng: &mut ChaCha20Rng) -> (Network, usize) {
    let (architecture, mut weights) = (network.architecture().clone(), network.weights().clone());
    let mut changed = 0;
    for (node, own) in architecture.nodes.iter().zip(&mut weights.linear) {
        let (Op::Linear { terms }, Some(own)) = (&node.op, own) else { continue };
        for (term, array) in terms.iter().zip(&mut own.terms) {
            let (Some(bits), Some(array)) = (term.weight_bits(), array) else { continue };
            let most = (1 << (bits - 1)) - 1;
            let fan_in = array.len() / array.shape()[0];
            let norm2 = |row: &[i32]| row.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>();
            let class = |row: &[i32]| Norms { norm2: norm2(row), norm1: 0.0 }.class(fan_in).norm2;
            for mut row in array.outer_iter_mut() {
                let before: Vec<i32> = row.iter().copied().collect();
                let mut after = before.clone();
                after.shuffle(rng);
                for _ in 0..fan_in {
                    let [from, to] = [(); 2].map(|()| rng.random_range(0..fan_in));
                    let unit = after[from].signum();
                    if from != to && unit * after[to].signum() >= 0 && after[to].abs() < most && bits > 1 {
                        (after[from], after[to]) = (after[from] - unit, after[to] + unit);
                    }
                }
                if class(&after) == class(&before) {
                    changed += usize::from(norm2(&after) != norm2(&before));
                    row.iter_mut().zip(after).for_each(|(w, new)| *w = new);
                }
            }
        }
    }
    (Network::new(architecture, weights).expect("the same ranges"), changed)
}

/// A plan is a function of architecture, ends of accumulators and classes of norms.
#[test]
fn weights_of_the_same_classes_have_the_same_plan() {
    let rng = &mut ChaCha20Rng::seed_from_u64(7);
    let mut networks: Vec<(String, Network)> =
        zoo::ALL.iter().map(|bundled| (bundled.name.to_owned(), bundled.network())).collect();
    let size = random::Size { clips: true, ..random::Size::default() };
    networks.extend((0..20).map(|n| (format!("random {n}"), random::network(rng, &size))));
    let mut changed = 0;
    for (name, network) in &networks {
        let (other, count) = altered(network, rng);
        changed += count;
        for link in [Link::Lan, Link::Metered] {
            assert_planned_alike(&format!("{name}, {link}"), [network, &other], link);
        }
    }
    assert!(changed > 100, "{changed} channels of another norm");
}

#[test]
fn bytes_fall_with_the_widths() {
    let bytes = |bits: u32| {
        let weight = ((1 << (bits - 1)) - 1).max(1);
        let network = dense(256, weight, bits, bits, 2 * bits);
        let plan = planner::plan(&network, Link::Lan).expect("fits");
        let all = predict(&plan, Schedule::Prepared, Reveal::Logits);
        all.frames.iter().map(|frame| frame.bytes).sum::<u64>() + all.demand.ots.total() as u64
    };
    let sizes: Vec<u64> = [1, 2, 3, 4, 6, 8].into_iter().map(bytes).collect();
    assert!(sizes.is_sorted() && sizes[0] * 2 < sizes[5], "{sizes:?}");
}

#[test]
fn slow_links_get_fewer_flights_and_fast_ones_fewer_bytes() {
    let network = zoo::find("mnist-minionn-w4a4").unwrap().network().folded().unwrap();
    let of = |link: Link| {
        let plan = planner::plan(&network, link).expect("fits");
        let all: Prediction = predict(&plan, Schedule::Prepared, Reveal::Logits);
        let bytes = [Party::Client, Party::Server].map(|party| all.bytes(Stage::Online, party)).iter().sum::<u64>();
        (all.flights(Stage::Online, &[]), bytes)
    };
    let (wan, loopback) = (of(Link::Wan), of(Link::Loopback));
    assert!(wan.0 < loopback.0, "{wan:?} {loopback:?}");
    assert!(wan.1 > loopback.1, "{wan:?} {loopback:?}");
}

#[test]
fn a_published_model_depends_on_key_and_weights_only() {
    let network = zoo::find("digits").unwrap().network();
    let publish = |key: u8, link| lowkey::ServerModel::publish(&network, link, &[key; 32].into(), &|_, _| {}).unwrap();
    let (first, again) = (publish(1, Link::Lan), publish(1, Link::Lan));
    assert_eq!(first.digest, again.digest);
    let other = publish(2, Link::Lan);
    assert_ne!(first.digest, other.digest);
    assert_ne!(first.package.epoch, other.package.epoch);
    // Another plan of the same weights has its own masks too.
    assert_ne!(first.package.epoch, publish(1, Link::Wan).package.epoch);
}

/// The two pools of the MNIST model come before their clip where bytes count and after it where flights do; a convolution whose
/// accumulators leave too little room gets a bit more.
#[test]
fn max_pools_come_before_their_clip_where_that_saves() {
    let network = zoo::find("mnist-minionn-w4a4").unwrap().network();
    let [few_flights, few_bytes] = [Link::Wan, Link::Metered].map(|link| common::publish_for(&network, link));
    assert_eq!([&few_flights, &few_bytes].map(|model| common::pooled(model)), [0, 2]);
    let ell = |model: &lowkey::ServerModel| model.plan.linear[0].ell;
    assert_eq!(ell(&few_bytes), ell(&few_flights) + 1);
}

/// A server can publish any hint, so a client's share of a layer's result may be any linear function of the layer's secrets: here,
/// with the mask of the next layer as the hint, that of the pads of its inputs, as far as both layers are under one secret. Then
/// what masks the result on its way to the server would be a function of the result: from x + pad the pad is taken, and x is plain.
#[test]
fn a_hint_does_not_reach_the_pads_of_the_next_layer() {
    const OUTPUTS: usize = 64;
    let network = dense_to(64, 1, 4, 4, 4, [1, OUTPUTS]).folded().unwrap();
    let plan = planner::plan(&network, Link::Lan).expect("it fits");
    let [wide, last] = [0, 1].map(|linear| plan.linear[linear].encrypted.clone().expect("encrypted"));
    let (set, epoch) = (wide.parameters.set, EpochSeed([5; 32]));
    assert_eq!((set.torus_bits, set), (32, last.parameters.set), "both under one parameter set");
    let (degree, tile) = (set.degree, &last.terms[0].tiles[0]);

    // -hint s at the coefficient of output o is -(a s) at the coefficient of element o.
    let ring = Ring::<u32>::shared(set).unwrap();
    let places = || tile.bodies.iter().map(|body| body.place());
    let place = |element: usize| places().find(|place| place.element == Some(element as u32)).expect("sent");
    let from = wide.terms[0].packing.output_coefficient(0, 0);
    let mut hint = Vec::new();
    for output in 0..OUTPUTS {
        let id = MaskId { layer: last.terms[0].layer, ciphertext: place(output).ciphertext };
        let mask = Mask::expand(ring, &epoch, id);
        let shift = (2 * degree + from - place(output).coefficient as usize) % (2 * degree);
        let mut turned = vec![0u32; degree];
        for (index, word) in mask.coefficients().iter().enumerate() {
            let at = (index + shift) % (2 * degree);
            turned[at % degree] = if at < degree { *word } else { word.wrapping_neg() };
        }
        let width = 32 - wide.parameters.rounding.hint;
        let rounded: Vec<u32> =
            turned.iter().map(|word| round_to(*word, wide.parameters.rounding.hint) >> (32 - width)).collect();
        pack::append(&mut hint, &rounded, width);
    }

    let masks = keys::rerandomiser_masks(&plan.sets, &epoch).unwrap();
    let rng = &mut ChaCha20Rng::seed_from_u64(3);
    let (mut secrets, _) = keys::generate(&plan.sets, &masks, rng).unwrap();
    let honest = vec![0; last.hint_len()];
    let (wide_half, last_half) = (
        client_layer(wide.clone(), &epoch, &hint, Kept::Ready).unwrap(),
        client_layer(last.clone(), &epoch, &honest, Kept::Ready).unwrap(),
    );
    let mut pads = vec![0; OUTPUTS];
    last_half.encrypt_pads(0, &mut secrets, &mut pads, rng).unwrap();
    let shares = wide_half.share(&secrets).unwrap();
    let near = |(share, pad): (&u64, &u64)| {
        let difference =
            ((share << wide.parameters.log_unit()) as u32).wrapping_sub((pad << last.parameters.log_scaling()) as u32);
        (difference as i32).unsigned_abs() < 1 << 28
    };
    let count = shares.words().iter().zip(&pads).filter(|pair| near(*pair)).count();
    println!("{count} of {OUTPUTS} shares of a layer are near the pads of the next");
    // An eighth are by chance.
    assert!(count < OUTPUTS / 3, "{count} of {OUTPUTS}");
}
