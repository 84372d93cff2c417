//! Every byte that a linear layer publishes or sends, and both parties' shares, as digests: a row per layer. A changed byte
//! shows here. What changes one on purpose changes the protocol's version.

use std::sync::Arc;

use lowkey_bridge::budget::{self, Norms};
use lowkey_bridge::conv::ConvShape;
use lowkey_bridge::keys::{self, SetPlan};
use lowkey_bridge::{LayerParameters, LayerPlan, Packing, Publisher, Schedule, TermPlan, client_layer, publish_layer};
use lowkey_he::mask::EpochSeed;
use lowkey_he::params::{self, ParameterSet};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};

const SETS: [&ParameterSet; 4] = [&params::T32N1024, &params::T32N2048, &params::T64N2048, &params::T64N4096];

/// Digests of the hint, of b*_0, of the bodies and of both shares, in the two schedules.
fn digests(set: &'static ParameterSet, shapes: &[ConvShape]) -> [String; 4] {
    let ell = 9;
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let weights: Vec<Vec<i32>> =
        shapes.iter().map(|s| (0..s.out_channels * s.fan_in()).map(|_| rng.random_range(-2..=2)).collect()).collect();
    let weights: Vec<&[i32]> = weights.iter().map(Vec::as_slice).collect();
    let norms: Vec<Norms> = shapes
        .iter()
        .zip(&weights)
        .map(|(s, w)| budget::norms_per_output(s, w).into_iter().fold(Norms::default(), Norms::max))
        .collect();
    let rounding = budget::largest_rounding(set, ell, &norms, 4).expect("small layers fit");
    let parameters = LayerParameters { set, ell, rounding };
    let mut claimed = vec![false; shapes[0].input_len()];
    let terms = shapes.iter().enumerate().map(|(index, shape)| {
        let packing = Packing::new(shape, set.degree).expect("small layers fit");
        TermPlan::new(7 + index as u32, packing, |e| !std::mem::replace(&mut claimed[e as usize], true))
    });
    let terms: Vec<TermPlan> = terms.collect();
    let (height, width) = shapes[0].output();
    let output = [shapes[0].out_channels, height, width];
    let plan = Arc::new(LayerPlan { first_secret: 1, parameters, output, terms });
    let sets = [SetPlan { set, secrets: 1 + plan.secrets(), b0_rounding: rounding.b0 }];
    let epoch = EpochSeed([3; 32]);
    let masks = keys::rerandomiser_masks(&sets, &epoch).unwrap();
    let publisher = Publisher { epoch: &epoch, masks: &masks, server_key: &[1; 32], context: &[2; 32] };
    let (server, hint) = publish_layer(plan.clone(), &weights, &publisher).unwrap();
    let client = client_layer(plan.clone(), &epoch, &hint).unwrap();

    let [mut sent_keys, mut bodies, mut shares] = [const { Vec::new() }; 3];
    for schedule in [Schedule::Prepared, Schedule::Direct] {
        let (mut secrets, b0) = keys::generate(&sets, &masks, &mut rng).unwrap();
        let mut values: Vec<u64> = (0..shapes[0].input_len()).map(|_| rng.next_u64() & 0xfff).collect();
        let mut messages = Vec::new();
        for term in 0..shapes.len() {
            messages.push(match schedule {
                Schedule::Prepared => client.encrypt_pads(term, &mut secrets, &mut values, &mut rng).unwrap(),
                Schedule::Direct => client.encrypt_shares(term, &mut secrets, &values, &mut rng).unwrap(),
            });
        }
        let offline = server.offline(&messages, &keys::receive(&sets, &b0).unwrap(), schedule).unwrap();
        let c = client.share(&secrets).unwrap();
        let v = server.online(offline, &vec![values.as_slice(); messages.len()]);
        sent_keys.extend(b0);
        bodies.extend(messages.concat());
        shares.extend(values.iter().chain(c.iter()).chain(&v).flat_map(|word| word.to_le_bytes()));
    }
    [hint, sent_keys, bodies, shares].map(|bytes| {
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
        for set in SETS {
            table += &format!("{name} {} {}\n", set.name, digests(set, &shapes).join(" "));
        }
    }
    assert!(table == include_str!("wire.txt"), "found:\n{table}");
}
