//! Blocks: what the interpreter makes of patches, what is refused, and what files say.

use lowkey_models::blocks::{Patch, patches};
use lowkey_models::check::MAX_PATCH;
use lowkey_models::random;
use lowkey_models::{
    Architecture, Declared, FileProblem, Input, LinearWeights, ModelError, Network, Node, Op, Problem, Range, Tensor,
    Term, Weights, Window,
};
use ndarray::Array4;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// 5 x - 30 of each pixel x of 5 bits, by a shift of 2: from -8 to 31. The answer is a sum of two of them.
fn small(shape: [usize; 3]) -> Network {
    let conv =
        |input| Term::Conv { input, out_channels: shape[0], groups: shape[0], window: Window::POINT, weight_bits: 5 };
    let relu = Op::Requantise { input: 1, bits: 4, shift: vec![2], top: None, zero_point: 0 };
    let nodes = [
        ("first", Op::Linear { terms: vec![conv(0)] }),
        ("relu", relu),
        ("last", Op::Linear { terms: vec![conv(2), Term::Identity { input: 2, multiplier: 1 }] }),
    ];
    let architecture = Architecture {
        name: "small".into(),
        input: Input { shape, bits: 5, zero_point: 0, pixels: None, coding: None },
        nodes: nodes.map(|(name, op)| Node { name: name.into(), op }).into(),
        output: 3,
        rounding: None,
        output_scale: None,
        output_coding: None,
        classes: vec![],
        declared: Default::default(),
    };
    let weights = |w, terms: Vec<Option<Array4<i32>>>, b| {
        let array = Array4::from_elem((shape[0], 1, 1, 1), w);
        Some(LinearWeights { terms: [vec![Some(array)], terms].concat(), bias: vec![b; shape[0]] })
    };
    let linear = vec![weights(5, vec![], -30), None, weights(0, vec![None], 0)];
    Network::new(architecture, Weights { linear }).unwrap()
}

fn blocked(network: &Network, patch: Patch) -> Result<Network, ModelError> {
    network.with_blocks(&[("relu".to_owned(), patch)].into())
}

/// All patches of small maps, against sums taken pixel by pixel.
#[test]
fn every_patch_by_hand() {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let (mut let_through, mut negative, mut stopped) = (0, 0, 0);
    for shape @ [channels, height, width] in [[2, 5, 4], [1, 3, 3], [1, 1, 7]] {
        let network = small(shape);
        for (h, w) in (1..=height).flat_map(|h| (1..=width).map(move |w| (h, w))) {
            let block = blocked(&network, Some([h, w])).unwrap();
            let input = Tensor::from_shape_simple_fn(shape, || rng.random_range(0..12));
            let found = block.run_all(&input).unwrap().swap_remove(2);
            assert_eq!(block.run_batch(std::slice::from_ref(&input)).unwrap()[0], found, "the answer is what it reads");
            let t = |c: usize, y: usize, x: usize| (5 * input[(c, y, x)] - 30).div_euclid(4);
            for (c, y, x) in
                (0..channels).flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| (c, y, x))))
            {
                let mut sum = 0;
                for (i, j) in (0..h).flat_map(|i| (0..w).map(move |j| (i, j))) {
                    let (row, column) = (y / h * h + i, x / w * w + j);
                    sum += if row < height && column < width { t(c, row, column) } else { 0 };
                }
                let wanted = if sum > 0 { t(c, y, x) } else { 0 };
                assert_eq!(found[(c, y, x)], wanted, "{shape:?} {h} x {w} at {c} {y} {x}");
                let_through += usize::from(wanted > 0);
                negative += usize::from(wanted < 0);
                stopped += usize::from(sum <= 0 && t(c, y, x) > 0);
            }
            let window = patches([h, w], [height, width]);
            assert_eq!(window.output([height, width]), Some([height.div_ceil(h), width.div_ceil(w)]));
        }
        let input = Tensor::from_shape_simple_fn(shape, || rng.random_range(0..12));
        let identity = blocked(&network, None).unwrap().run(&input).unwrap();
        assert_eq!(identity, input.mapv(|x| (5 * x - 30).div_euclid(4)));
    }
    assert!(let_through.min(negative).min(stopped) > 50, "{let_through} {negative} {stopped}");
}

#[test]
fn values_are_as_wide_as_the_weights_need_it() {
    // From -8 to 31.
    let block = blocked(&small([1, 4, 4]), Some([2, 2])).unwrap();
    assert!(matches!(block.architecture().nodes[1].op, Op::Block { input: 1, bits: 6, shift: 2, patch: Some([2, 2]) }));
    assert_eq!((block.tensors()[2].range, block.blocked()), (Range { lo: -31, hi: 31 }, 16));
    let narrower = |bits| {
        let (mut architecture, weights) = block.clone().into_parts();
        architecture.nodes[1].op = Op::Block { input: 1, bits, shift: 2, patch: None };
        Network::new(architecture, weights).map_err(|error| *error.problem)
    };
    assert!(narrower(6).is_ok() && narrower(7).is_ok());
    let problem = narrower(5).unwrap_err();
    assert!(matches!(problem, Problem::OutOfRange { value: 31, lo: -15, hi: 15, .. }), "{problem}");
    for bits in [0, 1, 25] {
        assert!(matches!(narrower(bits), Err(Problem::OutOfRange { .. })), "{bits}");
    }
}

/// The rings and coins of what becomes a block go, and none can be declared again.
#[test]
fn blocks_need_room() {
    let plain = small([1, 4, 4]);
    let ringed = plain.with_rings([("first".to_owned(), vec![6])].into()).unwrap();
    let tossed = ringed.with_coin_bits([("relu".to_owned(), 1)].into()).unwrap();
    let block = blocked(&tossed, Some([2, 2])).unwrap();
    assert_eq!(block, blocked(&plain, Some([2, 2])).unwrap());
    let refused = block.with_rings([("first".to_owned(), vec![8])].into()).unwrap_err();
    assert!(refused.to_string().contains("a block reads it"), "{refused}");
    let (mut architecture, weights) = block.into_parts();
    architecture.declared.insert("relu".into(), Declared { ring: vec![], coin: 1 });
    assert!(matches!(*Network::new(architecture, weights).unwrap_err().problem, Problem::Coin { .. }));
}

#[test]
fn refusals() {
    let plain = small([1, 40, 40]);
    let refused = |network: &Network, name: &str, patch: Patch| {
        *network.with_blocks(&[(name.to_owned(), patch)].into()).unwrap_err().problem
    };
    assert!(matches!(refused(&plain, "relux", None), Problem::Undeclared { .. }));
    assert!(matches!(refused(&plain, "first", None), Problem::Block { .. }));
    for patch in [[0, 1], [1, 0], [41, 1], [1, 41]] {
        assert!(matches!(refused(&plain, "relu", Some(patch)), Problem::OutOfRange { .. }), "{patch:?}");
    }
    assert!(
        matches!(refused(&plain, "relu", Some([40, 40])), Problem::TooLarge { limit, .. } if limit == MAX_PATCH as u128)
    );
    let changed = |change: fn(&mut Op)| {
        let (mut architecture, weights) = small([2, 4, 4]).into_parts();
        change(&mut architecture.nodes[1].op);
        refused(&Network::new(architecture, weights).unwrap(), "relu", None)
    };
    let shifts = changed(|op| *op = Op::Requantise { input: 1, bits: 4, shift: vec![2, 3], top: None, zero_point: 0 });
    assert!(matches!(shifts, Problem::Block { .. }));
    let zero = changed(|op| *op = Op::Requantise { input: 1, bits: 4, shift: vec![2], top: None, zero_point: 1 });
    assert!(matches!(zero, Problem::Block { .. }));
}

#[test]
fn a_file_says_that_it_has_blocks() {
    let format = |bytes: &[u8]| {
        let (_, header) = safetensors::SafeTensors::read_metadata(bytes).unwrap();
        header.metadata().as_ref().unwrap()["lowkey.format"].clone()
    };
    for patch in [Some([2, 2]), None] {
        let block = blocked(&small([1, 4, 4]), patch).unwrap();
        let bytes = block.to_bytes().unwrap();
        assert_eq!(
            (format(&bytes), Network::from_bytes(&bytes).unwrap()),
            ("2: blocks, digest".to_owned(), block.clone())
        );
        // What does not say so is refused.
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let json = block.architecture().to_json();
        let metadata = [("lowkey.format", "1"), ("lowkey.architecture", &json[..])];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let wrong = Network::from_bytes(&safetensors::serialize(file.tensors(), Some(metadata)).unwrap());
        assert!(matches!(wrong.unwrap_err().problem, FileProblem::WrongFormat { wanted, .. } if wanted == "2: blocks"));
    }
}

/// Random networks with blocks keep the checker's promises, folded or not.
#[test]
fn random_blocks_keep_their_ranges() {
    let mut blocks = 0;
    for seed in 0..60 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let plain = random::network(&mut rng, &random::Size::default());
        let network = random::blocks(&mut rng, &plain);
        let folded = network.folded().ok();
        for _ in 0..3 {
            let input = random::input(&mut rng, &network.architecture().input);
            let tensors = network.run_all(&input).unwrap();
            for (index, node) in network.architecture().nodes.iter().enumerate() {
                let Op::Block { .. } = node.op else { continue };
                let Range { lo, hi } = network.tensors()[index + 1].range;
                assert!(tensors[index + 1].iter().all(|y| (lo..=hi).contains(y)), "seed {seed}");
                blocks += 1;
            }
            let answer = &tensors[network.architecture().output];
            assert_eq!(&network.run_batch(std::slice::from_ref(&input)).unwrap()[0], answer, "seed {seed}");
            if let Some(folded) = &folded {
                assert_eq!(&folded.run(&input).unwrap(), answer, "seed {seed}");
            }
        }
    }
    assert!(blocks > 60, "{blocks}");
}
