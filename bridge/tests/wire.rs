//! Every byte that a linear layer publishes or sends, and both parties' shares, as digests: a row per layer. A changed byte
//! shows here. What changes one on purpose changes the protocol's version, and LOWKEY_BLESS=1 writes it.

#[path = "common/layer.rs"]
mod layer;

use layer::Layer;
use lowkey_bridge::budget::{self, Norms};
use lowkey_bridge::conv::ConvShape;
use lowkey_bridge::{LayerParameters, Schedule};
use lowkey_he::params::{self, ParameterSet};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};

/// Length and digest of the hint, of b*_0, of the bodies and of both shares, in the two schedules.
fn digests(set: &'static ParameterSet, shapes: &[ConvShape]) -> [String; 4] {
    let ell = 9;
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let weights: Vec<Vec<i32>> =
        shapes.iter().map(|s| (0..s.out_channels * s.fan_in()).map(|_| rng.random_range(-2..=2)).collect()).collect();
    let largest =
        |(s, w): (&ConvShape, &Vec<i32>)| budget::norms_per_output(s, w).into_iter().fold(Norms::default(), Norms::max);
    let norms: Vec<Norms> = shapes.iter().zip(&weights).map(largest).collect();
    let rounding = budget::largest_rounding(set, ell, &norms, 4).expect("small layers fit");
    let layer = Layer::publish(LayerParameters { set, ell, rounding }, shapes, &weights);

    let [mut keys, mut bodies, mut results] = [const { Vec::new() }; 3];
    for schedule in [Schedule::Prepared, Schedule::Direct] {
        let (mut secrets, b0) = layer.keys(&mut rng);
        let mut values: Vec<u64> = (0..shapes[0].input_len()).map(|_| rng.next_u64() & 0xfff).collect();
        let messages = layer.encrypt(schedule, &mut secrets, &mut values, &mut rng);
        let shares = layer.shares(schedule, &secrets, &b0, &messages, &values);
        keys.extend(b0);
        bodies.extend(messages.concat());
        results.extend([values, shares.c, shares.v].concat().iter().flat_map(|word| word.to_le_bytes()));
    }
    [layer.hint, keys, bodies, results].map(|bytes| {
        let digest = Sha256::digest(&bytes);
        format!("{}:{}", bytes.len(), digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    })
}

fn layers() -> [(&'static str, Vec<ConvShape>); 5] {
    let square = ConvShape::square;
    let strided = ConvShape {
        kernel: [3, 2],
        stride: [2, 3],
        padding: [1, 0, 2, 1],
        dilation: [1, 2],
        groups: 2,
        ..square(4, 6, 1, 11, 0)
    };
    [
        ("convolution", vec![square(3, 4, 3, 12, 1)]),
        ("tiles", vec![square(2, 2, 3, 70, 1)]),
        ("dense", vec![ConvShape::dense(300, 5)]),
        ("branches", vec![square(2, 3, 3, 10, 1), square(2, 3, 1, 10, 0), square(2, 3, 5, 10, 2)]),
        ("strides", vec![strided]),
    ]
}

#[test]
fn every_byte_is_pinned() {
    let mut table = String::new();
    for (name, shapes) in layers() {
        for set in params::ALL {
            table += &format!("{name} {} {}\n", set.name, digests(set, &shapes).join(" "));
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire.txt");
    if std::env::var_os("LOWKEY_BLESS").is_some() {
        std::fs::write(path, &table).expect("the source tree");
    }
    assert!(std::fs::read_to_string(path).expect("a table") == table, "found:\n{table}");
}
