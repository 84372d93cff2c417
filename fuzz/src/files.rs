//! Files and texts: architectures, plans, layouts, models, inputs.

use std::sync::{Arc, OnceLock};

use lowkey::plan::{Choices, LayoutChoice, LinearChoice, SetChoice};
use lowkey::planner;
use lowkey::publication::{Package, read_plan};
use lowkey::store::{Offences, Records};
use lowkey::{Fault, Link, ServerModel};
use lowkey_models::data::labels_from_bytes;
use lowkey_models::import::{Options, tflite};
use lowkey_models::{Architecture, Input, Inputs, Network, zoo};
use lowkey_mpc::carry::Part;
use lowkey_mpc::extend::Finish;
use lowkey_mpc::layout::{Layout, Search};
use lowkey_mpc::requantise::{self, Spec};
use lowkey_mpc::wire;
use serde_json::{Value, json};

fn digits() -> Network {
    zoo::find("digits").expect("bundled").network()
}

/// With coins, and rings in which sums wrap.
fn choosing() -> Network {
    let inputs = zoo::find("digits").and_then(|bundled| bundled.demo()).expect("bundled").inputs;
    let inputs: Vec<_> = inputs.iter().take(20).collect();
    digits()
        .with_coin_bits([("relu1".into(), 3), ("relu2".into(), 3)].into())
        .expect("valid")
        .calibrated(&inputs, -1)
        .expect("inputs of it")
}

/// With a block and an identity.
fn blocked() -> Network {
    digits().with_blocks(&[("relu1".into(), Some([3, 2])), ("relu2".into(), None)].into()).expect("valid")
}

/// A published model.
pub fn model() -> &'static Arc<ServerModel> {
    static MODEL: OnceLock<Arc<ServerModel>> = OnceLock::new();
    MODEL.get_or_init(|| ServerModel::publish(&digits(), Link::Lan, &[7; 32].into(), &|_, _| {}).expect("it fits"))
}

pub fn architecture(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(architecture) = Architecture::from_json(text) {
        let again = Architecture::from_json(&architecture.to_json()).expect("what was read can be written");
        assert!(again == architecture);
    }
}

pub fn architectures() -> Vec<Vec<u8>> {
    let all = zoo::ALL.iter().map(|bundled| bundled.network());
    all.chain([choosing(), blocked()]).map(|network| network.architecture().to_json().into_bytes()).collect()
}

/// The file in which a server counts the uses of its keys.
pub fn records(bytes: &[u8]) {
    if let Ok(records) = Records::from_bytes(bytes) {
        assert!(Records::from_bytes(&records.to_bytes()).as_ref() == Ok(&records));
    }
    if let Ok(offences) = Offences::from_bytes(bytes) {
        assert!(Offences::from_bytes(&offences.to_bytes()).as_ref() == Ok(&offences));
    }
}

pub fn record_files() -> Vec<Vec<u8>> {
    let key = r#"{"fingerprint":"00112233445566778899aabbccddeeff","created":1,"counted_since":2,"inferences":3}"#;
    let keys = [vec![], vec![key], vec![key; 5]].map(|keys| format!(r#"{{"version":1,"keys":[{}]}}"#, keys.join(",")));
    let differs = r#""bob":{"shut":{"since":2,"offence":{"differs":{"bodies":{"node":"conv","term":1}}}},"pardons":3}"#;
    let names = [
        r#""alice":{"shut":{"since":1,"offence":"unanswered"},"pardons":0}"#,
        differs,
        r#""carol":{"shut":null,"pardons":1}"#,
    ];
    let names = [0, 1, 3].map(|count| format!(r#"{{"version":1,"names":{{{}}}}}"#, names[..count].join(",")));
    keys.into_iter().chain(names).map(String::into_bytes).collect()
}

/// The text of a plan, for a hint of the right length.
pub fn plan(bytes: &[u8]) {
    match read_plan(bytes, model().package.hint.len()) {
        Ok(plan) => assert_eq!(plan.hint_bytes(), model().package.hint.len()),
        Err(error) => assert!(error.fault() != Fault::Internal, "{error}"),
    }
}

/// Of a classifier, of networks with residuals, tables and pools of every kind, of one with coins; and some that are too large.
pub fn plans() -> Vec<Vec<u8>> {
    use lowkey_models::random::{self, Size};
    use rand::SeedableRng;
    let mut plans = vec![model().package.plan.clone()];
    let random = |seed| random::network(&mut rand_chacha::ChaCha20Rng::seed_from_u64(seed), &Size::default());
    for network in (1..=6).map(random).chain([choosing(), blocked()]) {
        if let Ok(model) = ServerModel::publish(&network, Link::Lan, &[7; 32].into(), &|_, _| {}) {
            plans.push(model.package.plan.clone());
        }
    }
    plans.extend(large_plans());
    plans
}

/// Short texts of plans that would take any amount of memory.
pub fn large_plans() -> Vec<Vec<u8>> {
    let conv = |kernel: usize| {
        let kernel = [kernel, kernel];
        json!({ "term": "conv", "input": 0, "out_channels": 1, "groups": 1, "kernel": kernel, "stride": [1, 1], "weight_bits": 1 })
    };
    let text = |shape: [usize; 3], layouts: usize, node: Value| {
        let linear = node["op"] == "linear";
        let choice = LinearChoice { ell: 40, set: Some(4), body_rounding: 0, hint_rounding: 0, bands: 1 };
        let choices = Choices {
            link: Link::Lan,
            linear: vec![choice; usize::from(linear)],
            scales: vec![],
            sets: vec![SetChoice { set: 4, b0_rounding: 0 }; usize::from(linear)],
            layouts: vec![LayoutChoice::Chain(vec![Part::Digit(3); 13]); layouts],
        };
        let input = json!({ "shape": shape, "bits": 1 });
        let architecture = json!({ "name": "large", "input": input, "nodes": [node], "output": 1 });
        json!({ "architecture": architecture, "choices": choices }).to_string().into_bytes()
    };
    let layer = |terms: Vec<Value>| json!({ "name": "only", "op": "linear", "terms": terms });
    let pool = |op: &str| json!({ "name": "only", "op": op, "input": 0, "kernel": [2048, 2048], "stride": [1, 1] });
    vec![
        // Tiles of a few outputs each, nearly all of which is overlap.
        text([1, 4096, 4096], 0, layer(vec![conv(45)])),
        text([1, 4096, 4096], 0, layer(vec![conv(1); 64])),
        // A mask polynomial for every sixteen channels.
        text([65536, 16, 16], 0, layer(vec![conv(16); 16])),
        text([1, 4096, 4096], 0, pool("sum_pool")),
        text([1, 4096, 4096], 1, pool("max_pool")),
    ]
}

pub fn package(bytes: &[u8]) {
    if let Some(package) = Package::from_bytes(bytes) {
        assert!(package.to_bytes() == bytes);
        if let Err(error) = package.derive() {
            assert!(error.fault() != Fault::Internal, "{error}");
        }
    }
}

pub fn packages() -> Vec<Vec<u8>> {
    let package = &model().package;
    let short = Package { plan: package.plan.clone(), epoch: package.epoch, hint: package.hint[..64].to_vec() };
    vec![short.to_bytes(), package.to_bytes()]
}

/// A layout, as JSON or as a message, and the program that a peer makes us build of it.
pub fn layout(bytes: &[u8]) {
    let text = serde_json::from_slice::<(Spec, Finish, Layout)>(bytes).ok();
    let message = wire::decode::<(Spec, Finish, Layout)>(bytes, 1 << 16).ok();
    for (spec, finish, layout) in text.into_iter().chain(message) {
        if layout.check(spec, finish).is_ok() {
            let program = requantise::program(spec, &layout, finish).expect("the layout fits");
            assert!(program.cost(1).flights() > 0);
        }
    }
}

pub fn layouts() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (ell, shift, bits, finish) in [
        (13, 7, 4, Finish::Upload { ring: 13 }),
        (9, 7, 1, Finish::Share { ring: 9 }),
        (48, 30, 8, Finish::Upload { ring: 48 }),
        (6, 0, 2, Finish::Small),
    ] {
        let spec = Spec { ell, shift, bits, guard: 1 };
        for choice in Search::new(0.73).requantise(spec, finish).expect("it exists").iter() {
            let value = (spec, finish, choice.layout.clone());
            all.push(serde_json::to_vec(&value).expect("JSON"));
            all.push(wire::encode(&value).expect("a message"));
        }
    }
    all
}

/// A model file, and what a server makes of it before it publishes.
pub fn network(bytes: &[u8]) {
    if let Ok(network) = Network::from_bytes(bytes) {
        let again = Network::from_bytes(&network.to_bytes().expect("what was read can be written"));
        assert!(again.expect("what was written can be read") == network);
        if let Ok(folded) = network.folded() {
            let _ = planner::plan(&folded, Link::Lan);
        }
    }
}

pub fn networks() -> Vec<Vec<u8>> {
    // Without a digest, which would refuse whatever is changed; and one with, whose own checks are to be met.
    let bare = |network: Network| network.to_bytes_without_digest().expect("it can be written");
    vec![bare(digits()), bare(choosing()), bare(blocked()), digits().to_bytes().expect("it can be written")]
}

/// A file of another program.
pub fn import(bytes: &[u8]) {
    let options =
        [Options::default(), Options { tflite: tflite::Kernels::Single, approximate: true, ..Options::default() }];
    for options in options {
        if let Ok(imported) = lowkey_models::import::from_bytes(bytes, &options) {
            let again = Network::from_bytes(&imported.network.to_bytes().expect("what was imported can be written"));
            assert!(again.expect("what was written can be read") == imported.network);
        }
    }
}

pub fn imports() -> Vec<Vec<u8>> {
    let files: [&[u8]; 5] = [
        include_bytes!("../../models/tests/golden/tflite/pool.tflite"),
        include_bytes!("../../models/tests/golden/tflite/sum.tflite"),
        include_bytes!("../../models/tests/oracle/onnx/fixtures/qdq.onnx"),
        include_bytes!("../../models/tests/oracle/onnx/fixtures/qoperator.onnx"),
        include_bytes!("../../models/tests/oracle/onnx/fixtures/qonnx.onnx"),
    ];
    files.map(<[u8]>::to_vec).into()
}

/// What networks say of their inputs.
fn shapes() -> [Input; 4] {
    [
        json!({ "shape": [1, 8, 8], "bits": 4 }),
        json!({ "shape": [3, 4, 4], "bits": 8, "zero_point": 128 }),
        json!({ "shape": [5, 1, 1], "bits": 1, "zero_point": 1 }),
        json!({ "shape": [3, 4, 4], "bits": 8, "zero_point": 28, "coding": {
            "dims": [4, 4, 3], "order": "channels_last", "dtype": "int8", "lowest": -128, "highest": 127, "scale": 0.1,
            "zero_point": -100, "steps": [{ "div": [0.5, 2.0, 1.0] }], "rule": "litert", "integers": false,
        } }),
    ]
    .map(|input| serde_json::from_value(input).expect("an input"))
}

pub fn inputs(bytes: &[u8]) {
    for input in shapes() {
        if let Ok(inputs) = Inputs::from_bytes(bytes, &input) {
            assert!(!inputs.is_empty());
            let range = input.range();
            assert!(inputs.iter().all(|x| x.iter().all(|&x| range.contains(x))));
        }
    }
    let _ = labels_from_bytes(bytes);
}

pub fn input_files() -> Vec<Vec<u8>> {
    [
        &include_bytes!("../seeds/grey.png")[..],
        include_bytes!("../seeds/rgba.png"),
        include_bytes!("../seeds/pictures.idx.gz"),
        include_bytes!("../seeds/labels.idx"),
        include_bytes!("../seeds/inputs.npy"),
        include_bytes!("../seeds/floats.npy"),
        include_bytes!("../seeds/rows.csv"),
    ]
    .map(<[u8]>::to_vec)
    .into()
}
