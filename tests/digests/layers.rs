//! What a linear layer publishes, what its keys and inputs take, and both parties' shares of its result: in every parameter set, and in
//! both schedules one after the other.

#[path = "../../bridge/tests/common/layer.rs"]
mod layer;

use layer::Layer;
use lowkey_bridge::budget::{self, Norms};
use lowkey_bridge::conv::ConvShape;
use lowkey_bridge::{LayerParameters, Schedule};
use lowkey_he::params::{self, ParameterSet};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::{Row, Sum};

/// The hint, b*_0, the bodies, and c and v after the input's masks.
fn sums(set: &'static ParameterSet, shapes: &[ConvShape]) -> [Sum; 4] {
    let ell = 9;
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let weights: Vec<Vec<i32>> =
        shapes.iter().map(|s| (0..s.out_channels * s.fan_in()).map(|_| rng.random_range(-2..=2)).collect()).collect();
    let largest =
        |(s, w): (&ConvShape, &Vec<i32>)| budget::norms_per_output(s, w).into_iter().fold(Norms::default(), Norms::max);
    let norms: Vec<Norms> = shapes.iter().zip(&weights).map(largest).collect();
    let rounding = budget::largest_rounding(set, ell, &norms, 4).expect("small layers fit");
    let layer = Layer::publish(LayerParameters { set, ell, rounding }, shapes, &weights);

    let [mut keys, mut bodies, mut shares] = [const { Vec::new() }; 3];
    for schedule in [Schedule::Prepared, Schedule::Direct] {
        let (mut secrets, b0) = layer.keys(&mut rng);
        let mut values: Vec<u64> = (0..shapes[0].input_len()).map(|_| rng.next_u64() & 0xfff).collect();
        let messages = layer.encrypt(schedule, &mut secrets, &mut values, &mut rng);
        let result = layer.shares(schedule, &secrets, &b0, &messages, &values);
        keys.extend(b0);
        bodies.extend(messages.concat());
        shares.extend([values, result.c, result.v].concat().iter().flat_map(|word| word.to_le_bytes()));
    }
    [layer.hint, keys, bodies, shares].map(|bytes| Sum::of(&bytes))
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

pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, shapes) in layers() {
        for set in params::ALL {
            let columns = ["hint", "keys", "bodies", "shares"];
            rows.push(Row::new(format!("layer {name} {}", set.name), columns, sums(set, &shapes)));
        }
    }
    rows
}
