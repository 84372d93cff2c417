//! The bundled networks: what their cards say, and the same logits as the numpy evaluation of `models/train`.

mod common;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use lowkey_models::zoo::{self, Bundled};
use lowkey_models::{
    Architecture, FileProblem, Inputs, Kind, Labelled, LinearBounds, Network, Op, Tensor, Term, argmax, read_labels,
};

/// The integers of an NPY file of `<i8`.
fn golden(name: &str) -> Vec<i64> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}-logits.npy"));
    let file = std::fs::read(path).unwrap();
    // numpy pads the header to 128 bytes here.
    assert!(file[..128].windows(3).any(|text| text == b"<i8"));
    file[128..].as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect()
}

#[test]
fn logits_are_those_of_the_second_evaluation() {
    for bundled in zoo::ALL {
        let network = bundled.network();
        let input = &network.architecture().input;
        let elements: usize = input.shape.iter().product();
        let value = |k: usize| i64::from(((k as u32).wrapping_mul(2_654_435_761) >> 16) % (1 << input.bits));
        let inputs: Vec<Tensor> = (0..8)
            .map(|n| (0..elements).map(|k| value(n * elements + k)).collect())
            .map(|values| Tensor::from_shape_vec(input.shape, values).unwrap())
            .collect();
        let golden = golden(bundled.name);
        let fast: Vec<i64> = network.run_batch(&inputs).unwrap().into_iter().flatten().collect();
        assert_eq!(fast, golden, "{}", bundled.name);
        // The definition is slow on large pictures.
        let slow = network.run(&inputs[0]).unwrap();
        assert_eq!(slow.as_slice().unwrap(), &golden[..slow.len()], "{}", bundled.name);
    }
}

/// So that a copy of one that is damaged is refused.
#[test]
fn every_bundled_network_has_a_digest() {
    for file in zoo::ALL.iter().map(Bundled::file) {
        let changed = [&file[..file.len() - 1], &[file[file.len() - 1] ^ 1]].concat();
        let problem = Network::from_bytes(&changed).unwrap_err().problem;
        assert!(matches!(problem, FileProblem::Damaged { .. }), "{problem}");
    }
}

/// A card: `models/zoo/<name>.md`.
struct Card(Vec<Vec<String>>);

impl Card {
    fn of(name: &str) -> Card {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo").join(format!("{name}.md"));
        let text = std::fs::read_to_string(path).unwrap();
        let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        Card(text.lines().filter(|line| line.starts_with('|')).map(cells).collect())
    }

    /// The cells of the row that starts with `label`.
    fn row(&self, label: &str) -> Option<&[String]> {
        self.0.iter().find(|row| row[0] == label).map(|row| &row[1..])
    }

    /// "97.50 % (351 of 360)": 351 and 360.
    fn right(&self) -> [usize; 2] {
        let text = &self.row("accuracy, integer network").unwrap()[0];
        let (_, counts) = text.split_once('(').unwrap();
        let (right, all) = counts.trim_end_matches(')').split_once(" of ").unwrap();
        [number(right), number(all)]
    }

    /// The count over every tenth image.
    fn right_of_some(&self) -> usize {
        number(self.row("right of every 10th image, from the first").unwrap()[0].strip_suffix(" of 1000").unwrap())
    }
}

fn number<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// The 2 of "mnist-hcnn-w2a2"; `digits` has four bits.
fn width(name: &str) -> u32 {
    if name == "digits" { 4 } else { number(name.rsplit_once('a').unwrap().1) }
}

#[test]
fn cards_have_the_widths_and_accumulators_of_the_files() {
    for bundled in zoo::ALL {
        let name = bundled.name;
        let (network, card, width) = (bundled.network(), Card::of(name), width(name));
        let architecture = network.architecture();
        assert_eq!(architecture.name, name);
        let [channels, height, columns] = architecture.input.shape;
        let input = format!("{channels} x {height} x {columns}, {} bits", architecture.input.bits);
        assert_eq!(card.row("input").unwrap(), [input], "{name}");
        assert_eq!(architecture.classes.len(), 10);
        assert_eq!(network.tensors()[architecture.output].kind, Kind::Accumulator);
        assert!(architecture.output_scale.is_some_and(|scale| scale > 0.0));
        let bounds = network.bounds();
        for (index, node) in architecture.nodes.iter().enumerate() {
            let Op::Linear { terms } = &node.op else { continue };
            let row = card.row(&node.name).unwrap_or_else(|| panic!("{name}: {} has a row", node.name));
            assert_eq!(row[1], width.to_string(), "{name}");
            let (_, weights) = network.linear(index).unwrap();
            for (term, weights) in terms.iter().zip(&weights.terms) {
                let Some(weights) = weights else { continue };
                assert_eq!(term.weight_bits(), Some(width), "{name}");
                let top = if width == 1 { 1 } else { (1 << (width - 1)) - 1 };
                assert!(weights.iter().all(|w| w.abs() <= top), "{name}");
            }
            let requantise = architecture.nodes.get(index + 1).map(|node| &node.op);
            if let Some(Op::Requantise { bits, shift, zero_point: 0, .. }) = requantise {
                assert_eq!((&row[2], &row[3]), (&shift[0].to_string(), &bits.to_string()), "{name}");
                assert!(shift.len() == 1 && *bits <= width, "{name}");
            } else {
                assert_eq!(architecture.output, index + 1);
            }
            let bits = bounds[index].as_ref().unwrap().accumulator_bits();
            assert_eq!(row[4], bits.to_string(), "{name}: {}", node.name);
        }
        // Folding has no shifts to fold; at most it removes constant channels.
        let folded = network.folded().unwrap();
        for (folded, bounds) in folded.bounds().iter().zip(&bounds) {
            let bits = |b: &Option<LinearBounds>| b.as_ref().map(LinearBounds::accumulator_bits);
            assert!(bits(folded) <= bits(bounds), "{name}");
        }
    }
    assert!(zoo::find("nothing").is_none());
}

#[test]
fn accumulators_at_four_bits_are_small() {
    let widest = |name: &str| {
        let network = zoo::find(name).unwrap().network();
        network.bounds().iter().flatten().map(LinearBounds::accumulator_bits).max().unwrap()
    };
    assert!(widest("digits") <= 10);
    assert!(widest("mnist-minionn-w4a4") <= 12);
    assert!(widest("cifar10-minionn-w4a4") <= 14);
    assert!(widest("cifar10-resnet20-w4a4") <= 14);
}

/// Output channels and kernel of each linear node, without skips.
fn linear(name: &str) -> Vec<(usize, usize)> {
    let network = zoo::find(name).unwrap().network();
    let terms = network.architecture().nodes.iter().filter_map(|node| match &node.op {
        Op::Linear { terms } => Some(&terms[0]),
        _ => None,
    });
    terms
        .map(|term| match term {
            Term::Conv { out_channels, window, .. } => (*out_channels, window.kernel[0]),
            Term::Dense { outputs, .. } => (*outputs, 1),
            Term::Identity { .. } => panic!("{name}: a node without weights"),
        })
        .collect()
}

#[test]
fn networks_have_the_architectures_of_their_names() {
    assert_eq!(linear("mnist-minionn-w4a4"), [(16, 5), (16, 5), (100, 1), (10, 1)]);
    assert_eq!(linear("mnist-hcnn-w4a4"), [(5, 5), (50, 5), (10, 1)]);
    assert_eq!(linear("mnist-cryptonets-w4a4"), [(5, 5), (100, 1), (10, 1)]);
    let minionn = [(64, 3), (64, 3), (64, 3), (64, 3), (64, 3), (64, 1), (16, 1), (10, 1)];
    assert_eq!(linear("cifar10-minionn-w4a4"), minionn);
    let stages = [16, 32, 64].into_iter().flat_map(|width| [(width, 3); 6]);
    let resnet: Vec<_> = [(16, 3)].into_iter().chain(stages).chain([(10, 1)]).collect();
    assert_eq!(linear("cifar10-resnet20-w4a4"), resnet);
}

/// How many of the inputs the network gets right, on all cores.
fn right(network: &Network, inputs: &[Tensor], labels: &[u8]) -> usize {
    assert_eq!(inputs.len(), labels.len());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = inputs.len().div_ceil(threads);
    let count = |inputs: &[Tensor], labels: &[u8]| {
        let answers = network.run_batch(inputs).unwrap();
        answers.iter().zip(labels).filter(|(answer, label)| argmax(answer) == usize::from(**label)).count()
    };
    std::thread::scope(|scope| {
        let parts = inputs.chunks(part).zip(labels.chunks(part));
        let running: Vec<_> = parts.map(|(inputs, labels)| scope.spawn(move || count(inputs, labels))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

#[test]
fn digits_reaches_its_accuracy() {
    let bundled = zoo::find("digits").unwrap();
    let demo = bundled.demo().unwrap();
    let inputs: Vec<Tensor> = demo.inputs.iter().collect();
    assert_eq!([right(&bundled.network(), &inputs, &demo.labels), inputs.len()], Card::of("digits").right());
}

fn data() -> Option<PathBuf> {
    let data = std::env::var_os("LOWKEY_DATA").map(PathBuf::from);
    if data.is_none() {
        eprintln!("skipped: LOWKEY_DATA does not name the folder that holds mnist/ and cifar10/");
    }
    data
}

fn family(prefix: &str) -> impl Iterator<Item = &'static Bundled> {
    zoo::ALL.iter().filter(move |bundled| bundled.name.starts_with(prefix))
}

#[test]
fn mnist_networks_reach_their_accuracies() {
    let Some(data) = data() else { return };
    let labels = read_labels(data.join("mnist/t10k-labels-idx1-ubyte.gz")).unwrap();
    for bundled in family("mnist-") {
        let network = bundled.network();
        let images = data.join("mnist/t10k-images-idx3-ubyte.gz");
        let inputs: Vec<Tensor> = Inputs::read(images, &network.architecture().input).unwrap().iter().collect();
        let found = [right(&network, &inputs, &labels), labels.len()];
        assert_eq!(found, Card::of(bundled.name).right(), "{}", bundled.name);
    }
}

/// Every tenth image, or all with LOWKEY_SLOW=1 (minutes).
#[test]
fn cifar10_networks_reach_their_accuracies() {
    let Some(data) = data() else { return };
    let all = common::oracle::slow();
    let archive = data.join("cifar10/test.zip");
    for bundled in family("cifar10-") {
        let (network, card) = (bundled.network(), Card::of(bundled.name));
        let Architecture { input, classes, .. } = network.architecture();
        let set = Labelled::read(&archive, input, classes).unwrap();
        assert_eq!(set.labels.len(), 10_000);
        let step = if all { 1 } else { 10 };
        let inputs: Vec<Tensor> = set.inputs.iter().step_by(step).collect();
        let labels: Vec<u8> = set.labels.iter().step_by(step).map(|&label| label as u8).collect();
        let found = right(&network, &inputs, &labels);
        if all {
            assert_eq!([found, labels.len()], card.right(), "{}", bundled.name);
        } else {
            assert_eq!(found, card.right_of_some(), "{}", bundled.name);
        }
    }
}
