//! The bundled networks: accuracy, widths, and the same logits as the numpy evaluation of `models/train`.

use std::path::{Path, PathBuf};

use lowkey_models::{Inputs, Kind, LinearBounds, Network, Op, Tensor, Term, argmax, read_labels, zoo};

fn right(network: &Network, inputs: &Inputs, labels: &[u8]) -> usize {
    assert_eq!(inputs.len(), labels.len());
    let inputs: Vec<Tensor> = inputs.iter().collect();
    let answers = network.run_batch(&inputs).unwrap();
    answers.iter().zip(labels).filter(|(answer, label)| argmax(answer) == usize::from(**label)).count()
}

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
        let logits: Vec<i64> = inputs.iter().flat_map(|x| network.run(x).unwrap()).collect();
        assert_eq!(logits, golden(bundled.name), "{}", bundled.name);
        let fast: Vec<i64> = network.run_batch(&inputs).unwrap().into_iter().flatten().collect();
        assert_eq!(fast, logits, "{}", bundled.name);
    }
}

#[test]
fn bundled_networks_have_four_bits_one_shift_per_layer_and_small_accumulators() {
    for (name, accumulator_bits) in [("digits", &[9, 10, 10][..]), ("mnist-minionn-w4a4", &[10, 12, 12, 12])] {
        let network = zoo::find(name).unwrap().network();
        let architecture = network.architecture();
        assert_eq!(architecture.name, name);
        assert_eq!(architecture.input.bits, 4);
        assert_eq!(architecture.classes.len(), 10);
        assert_eq!(network.tensors()[architecture.output].kind, Kind::Accumulator);
        assert!(architecture.output_scale.is_some_and(|scale| scale > 0.0));
        for (index, node) in architecture.nodes.iter().enumerate() {
            match &node.op {
                Op::Requantise { bits, shift, .. } => assert_eq!((*bits, shift.len()), (4, 1)),
                Op::Linear { terms } => {
                    assert!(terms.iter().all(|term| term.weight_bits() == Some(4)));
                    let (_, weights) = network.linear(index).unwrap();
                    assert!(weights.terms[0].as_ref().unwrap().iter().all(|w| w.abs() <= 7));
                }
                _ => {}
            }
        }
        let bits: Vec<u32> = network.bounds().iter().flatten().map(|bounds| bounds.accumulator_bits()).collect();
        assert_eq!(bits, accumulator_bits, "{name}");
        // Folding has no shifts to fold; at most it removes constant channels.
        let folded = network.folded().unwrap();
        for (folded, bounds) in folded.bounds().iter().zip(network.bounds()) {
            let bits = |b: &Option<LinearBounds>| b.as_ref().map(LinearBounds::accumulator_bits);
            assert!(bits(folded) <= bits(&bounds), "{name}");
        }
    }
    assert!(zoo::find("nothing").is_none());
}

#[test]
fn mnist_network_has_the_architecture_of_minionn() {
    let network = zoo::find("mnist-minionn-w4a4").unwrap().network();
    let linear: Vec<(usize, usize)> = network
        .architecture()
        .nodes
        .iter()
        .filter_map(|node| match &node.op {
            Op::Linear { terms } => Some(match &terms[0] {
                Term::Conv { out_channels, window, .. } => (*out_channels, window.kernel[0]),
                Term::Dense { outputs, .. } => (*outputs, 1),
                Term::Identity { .. } => unreachable!("no residuals"),
            }),
            _ => None,
        })
        .collect();
    assert_eq!(linear, [(16, 5), (16, 5), (100, 1), (10, 1)]);
}

#[test]
fn digits_reaches_its_accuracy() {
    let bundled = zoo::find("digits").unwrap();
    let demo = bundled.demo().unwrap();
    assert_eq!(demo.inputs.len(), 360);
    let right = right(&bundled.network(), &demo.inputs, &demo.labels);
    // models/zoo/digits.md says how many.
    assert_eq!(right, 351);
}

#[test]
fn mnist_reaches_its_accuracy() {
    let Some(data) = std::env::var_os("LOWKEY_DATA").map(PathBuf::from) else {
        eprintln!(
            "skipped: LOWKEY_DATA does not name the folder that holds mnist/ (the images are not part of this repository)"
        );
        return;
    };
    let network = zoo::find("mnist-minionn-w4a4").unwrap().network();
    let images = data.join("mnist/t10k-images-idx3-ubyte.gz");
    let inputs = Inputs::read(images, &network.architecture().input).unwrap();
    let labels = read_labels(data.join("mnist/t10k-labels-idx1-ubyte.gz")).unwrap();
    let start = std::time::Instant::now();
    let right = right(&network, &inputs, &labels);
    eprintln!("{right} of {} right, {:.1} s", labels.len(), start.elapsed().as_secs_f64());
    // models/zoo/mnist-minionn-w4a4.md says how many.
    assert_eq!(right, 9954);
}
