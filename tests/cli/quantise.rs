//! `quantise`: float networks made integers, and what it says of them.

use std::path::Path;

use lowkey_models::import::Preprocessing;
use lowkey_models::import::onnx::float::{self, Reads};
use lowkey_models::ptq::run::run;
use lowkey_models::zoo;
use ndarray::Array3;

use super::float_onnx::{FloatOnnx, chain};
use super::{files, lowkey, text};

const SIZE: files::Size = files::Size { height: 12, width: 12 };

/// Smooth pictures, no two alike.
fn pictures(count: usize, salt: usize) -> Vec<u8> {
    let value = |(n, h, w): (usize, usize, usize)| {
        let [a, b, c] = [n % 7, n / 7 % 5, n + salt].map(|v| v as f32);
        let wave = ((a + 1.0) * h as f32 / 6.0 + c).sin() + ((b + 1.0) * w as f32 / 5.0 - 0.7 * c).cos();
        (127.0 + 60.0 * wave) as u8
    };
    let at = (0..count).flat_map(|n| (0..12).flat_map(move |h| (0..12).map(move |w| (n, h, w))));
    at.map(value).collect()
}

/// A data set whose labels are the classes of a float network.
fn data_set(folder: &Path, network: &[u8], training: bool) {
    let reads = Reads::Pictures(Preprocessing { scale: 1.0, over: 255.0, mean: vec![0.0], std: vec![1.0] });
    let real = float::read(network, None, "float", &reads).unwrap();
    let test = pictures(60, 3);
    let inputs: Vec<Array3<f32>> = test
        .chunks(144)
        .map(|one| Array3::from_shape_vec((1, 12, 12), one.iter().map(|&p| f32::from(p) / 255.0).collect()).unwrap())
        .collect();
    let class = |z: &Array3<f32>| z.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0 as u8;
    let labels: Vec<u8> = run(&real, &inputs).iter().map(class).collect();
    files::write(folder, "t10k-images-idx3-ubyte", &files::idx_images(SIZE, &test));
    files::write(folder, "t10k-labels-idx1-ubyte", &files::idx_labels(&labels));
    if training {
        files::write(folder, "train-images-idx3-ubyte", &files::idx_images(SIZE, &pictures(50, 11)));
    }
}

#[test]
fn a_float_network_becomes_a_model_that_answers_privately() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = chain(7);
    let source = text(&files::write(folder.path(), "float.onnx", &bytes)).to_owned();
    let data = text(folder.path()).to_owned();
    data_set(folder.path(), &bytes, true);
    let model = text(&folder.path().join("eight.lowkey")).to_owned();
    let record = &lowkey(&["quantise", &source, "--data", &data, "-o", &model, "--json"]).records()[0];
    assert_eq!((&record["bits"], &record["calibrated_on"]), (&8.into(), &50.into()), "{record}");
    let accuracy = &record["accuracy"];
    assert_eq!((&accuracy["images"], &accuracy["before"]), (&60.into(), &60.into()), "{record}");
    assert!(accuracy["after"].as_u64().unwrap() >= 57, "{record}");
    assert_eq!(accuracy["after"], accuracy["same"], "labels are the float network's classes: {record}");
    let lan = &record["costs"][0];
    assert!(lan["link"] == "lan" && lan["offline_bytes"].as_u64().unwrap() > 1000, "{record}");
    // The model is one like any other: the same accuracy, and private answers that equal the interpreter's.
    let eval = &lowkey(&["eval", "--model", &model, "--data", &data, "--private", "2", "--json"]).records()[0];
    assert_eq!(eval["correct"], accuracy["after"], "{eval}");
    assert_eq!(eval["private"]["mismatches"], 0, "{eval}");
    // Fewer bits cost less, and say that they need training.
    let four = &lowkey(&["quantise", &source, "--data", &data, "--bits", "4", "--json"]).records()[0];
    assert!(four["costs"][0]["offline_bytes"].as_u64() < lan["offline_bytes"].as_u64(), "{four}");
    assert!(four["notes"].to_string().contains("without training"), "{four}");
}

#[test]
fn rings_are_calibrated_and_wraps_counted() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = chain(7);
    let source = text(&files::write(folder.path(), "float.onnx", &bytes)).to_owned();
    let data = text(folder.path()).to_owned();
    data_set(folder.path(), &bytes, true);
    let path = |name: &str| text(&folder.path().join(name)).to_owned();
    let [worst, spare, narrow] = ["worst.lowkey", "spare.lowkey", "narrow.lowkey"].map(path);
    let quantise = |source: &str, more: &[&str]| {
        let arguments = [&["quantise", source, "--data", &data, "--json"], more].concat();
        lowkey(&arguments).records()[0].clone()
    };
    let bytes_of = |costs: &serde_json::Value| costs[0]["offline_bytes"].as_u64().unwrap();
    let record = quantise(&source, &["-o", &worst]);
    assert!(record.get("rings").is_none() && record["accuracy"].get("wraps").is_none(), "{record}");
    let calibrated = quantise(&source, &["--rings", "calibrated", "-o", &spare]);
    assert!(bytes_of(&calibrated["costs"]) < bytes_of(&record["costs"]), "{calibrated}");
    // The same rings for the same integers, whenever they are chosen.
    let kept = quantise(&worst, &["--keep", "--rings", "calibrated"]);
    assert!(kept.get("bits").is_none() && kept["rings"].as_array().is_some_and(|rings| !rings.is_empty()), "{kept}");
    assert_eq!((&kept["rings"], &kept["costs"]), (&calibrated["rings"], &calibrated["costs"]));
    assert_eq!(kept["costs_before"], record["costs"]);
    let tight = quantise(&worst, &["--keep", "--rings", "calibrated", "--spare", "-3", "-o", &narrow]);
    let wraps = &tight["accuracy"]["wraps"];
    assert!(wraps["sums"].as_u64().unwrap() > 0 && wraps["of"].as_u64() > wraps["sums"].as_u64(), "{tight}");
    let eval = |model: &str| lowkey(&["eval", "--model", model, "--data", &data, "--private", "2", "--json"]).records();
    let (usual, narrowed) = (&eval(&worst)[0], &eval(&narrow)[0]);
    assert!(usual.get("wraps").is_none(), "{usual}");
    assert_eq!((&narrowed["wraps"], &narrowed["private"]["mismatches"]), (wraps, &0.into()), "{narrowed}");
    let said = lowkey(&["eval", "--model", &narrow, "--data", &data]).prints();
    assert!(said.contains("sums in declared rings wrapped, in "), "{said}");
    let none = lowkey(&["eval", "--model", &spare, "--data", &data]).prints();
    assert!(none.contains("sums in declared rings wrapped"), "{none}");
    lowkey(&["quantise", &source, "--keep", "--data", &data]).fails(2, "no integers to keep", "--keep");
    lowkey(&["quantise", &worst, "--keep", "--bits", "4", "--data", &data]).fails(2, "--keep", "");
}

#[test]
fn coins_are_tossed_by_a_seed_and_shown_by_private_answers() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = chain(7);
    let source = text(&files::write(folder.path(), "float.onnx", &bytes)).to_owned();
    let data = text(folder.path()).to_owned();
    data_set(folder.path(), &bytes, true);
    let [usual, tossing] = ["usual.lowkey", "tossing.lowkey"].map(|name| text(&folder.path().join(name)).to_owned());
    let usual_record = &lowkey(&["quantise", &source, "--data", &data, "-o", &usual, "--json"]).records()[0];
    let made = ["quantise", &usual, "--keep", "--coins", "0", "--rings", "calibrated"];
    let record = &lowkey(&[&made[..], &["--data", &data, "-o", &tossing, "--json"]].concat()).records()[0];
    assert!(record["notes"].to_string().contains("rounded by coins, those of seed 0"), "{record}");
    let bytes_of = |record: &serde_json::Value| {
        let cost = &record["costs"][0];
        cost["offline_bytes"].as_u64().unwrap() + cost["online_bytes"].as_u64().unwrap()
    };
    assert!(bytes_of(record) < bytes_of(usual_record), "{record}");
    let eval = |model: &str, more: &[&str]| {
        lowkey(&[&["eval", "--model", model, "--data", &data, "--json"], more].concat()).records()[0].clone()
    };
    // Its own coins in secret: the interpreter has the same answer with them.
    let private = eval(&tossing, &["--private", "3"]);
    assert_eq!((&private["private"]["images"], &private["private"]["mismatches"]), (&3.into(), &0.into()), "{private}");
    // A seed's coins are the same for whoever asks, in whatever batches.
    assert_eq!(
        (&private["correct"], &private["coins"]["seed"]),
        (&record["accuracy"]["after"], &0.into()),
        "{private}"
    );
    assert_eq!(eval(&tossing, &["--coins-seed", "5"])["coins"]["seed"], 5);
    assert!(eval(&usual, &[]).get("coins").is_none());
    let said = lowkey(&["eval", "--model", &tossing, "--data", &data, "--coins-seed", "6"]).prints();
    assert!(said.contains("rounded by coins, those of seed 6"), "{said}");
    assert!(lowkey(&["plan", &tossing]).prints().contains("rounded by coins of the client: "));
    lowkey(&["plan", &tossing, "--guard"]).fails(2, "a rounding by coins has no circuit", "guarded");
}

#[test]
fn blocks_are_asked_for_by_layer() {
    let folder = tempfile::tempdir().unwrap();
    let made = text(&folder.path().join("blocks.lowkey")).to_owned();
    let (images, labels) = ("models/zoo/digits-images.npy", "models/zoo/digits-labels.npy");
    assert!(Path::new(images).exists() && Path::new(labels).exists());
    let quantise =
        |blocks: &str| lowkey(&["quantise", "digits", "--keep", "--blocks", blocks, "--data", images, "-o", &made]);
    let said = quantise("relu1:2x2,relu2:map").prints();
    assert!(said.contains("768 pixels of an inference have a sign for each patch alone"), "{said}");
    let plan = lowkey(&["plan", &made]).prints();
    assert_eq!(plan.matches("  block  ").count(), 2, "{plan}");
    lowkey(&["plan", &made, "--guard"]).fails(2, "a block has no circuit", "guarded");
    quantise("nope:2x2").fails(2, "no layer is called \"nope\"", "one of relu1, relu2");
    quantise("relu1:2y2").fails(2, "give a layer's name, a colon, and HxW, map or identity", "");
    quantise("relu1:9x9").fails(2, "the height of a patch is 9", "another patch");
}

#[test]
fn quantise_says_what_it_did_and_what_was_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = chain(8);
    let source = text(&files::write(folder.path(), "float.onnx", &bytes)).to_owned();
    let data = text(folder.path()).to_owned();
    data_set(folder.path(), &bytes, false);
    let said = lowkey(&["quantise", &source, "--data", &data, "--calibrate", "20"]).prints();
    assert!(said.starts_with("float: 8 bits, calibrated on 20 images\n"), "{said}");
    assert!(said.contains("60 test images: 100.00 % before") && said.contains("no training part"), "{said}");
    assert!(said.contains("pixel / 255") && said.contains("metered: "), "{said}");
}

#[test]
fn networks_that_are_not_quantised() {
    let folder = tempfile::tempdir().unwrap();
    let data = text(folder.path()).to_owned();
    data_set(folder.path(), &chain(1), true);
    let mut graph = FloatOnnx::new(1, &[1, 1, 12, 12]);
    graph.conv(4, 3, 1, 1);
    graph.then("LeakyRelu", &[]);
    graph.then("Gelu", &[]);
    let source = text(&files::write(folder.path(), "leaky.onnx", &graph.bytes())).to_owned();
    let ran = lowkey(&["quantise", &source, "--data", &data]).fails(2, "leaky.onnx", "float ONNX file");
    assert!(ran.err.contains("LeakyRelu") && ran.err.contains("Gelu"), "{}", ran.err);
    let words = text(&files::write(folder.path(), "words.onnx", b"words")).to_owned();
    lowkey(&["quantise", &words, "--data", &data]).fails(2, "words.onnx", "");
    let good = text(&files::write(folder.path(), "float.onnx", &chain(1))).to_owned();
    lowkey(&["quantise", &good, "--data", "/nowhere"]).fails(2, "/nowhere", "--data");
    lowkey(&["quantise", text(&folder.path().join("none.onnx")), "--data", &data]).fails(2, "none.onnx", "");
}

/// Arrays instead of pictures: a bundled network, whose bytes before are told, and a float one.
#[test]
fn arrays_without_labels_show_how_often_classes_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let demo = zoo::find("digits").unwrap().demo().unwrap();
    let stored: Vec<u8> = demo.inputs.stored().take(80).flatten().copied().collect();
    let data = text(&files::write(folder.path(), "digits.npy", &files::npy(&[80, 1, 8, 8], &stored))).to_owned();
    let record = &lowkey(&["quantise", "digits", "--data", &data, "--json"]).records()[0];
    let accuracy = &record["accuracy"];
    assert!(accuracy["images"] == 80 && accuracy["same"].as_u64().unwrap() >= 76, "{record}");
    assert!(accuracy.get("before").is_none(), "{record}");
    let bytes = |costs: &str| record[costs][1]["offline_bytes"].as_u64().unwrap();
    assert!(bytes("costs_before") > 1000 && bytes("costs") > 1000, "{record}");
    let said = lowkey(&["quantise", "digits", "--data", &data]).prints();
    assert!(said.contains(" before) for an inference") && said.contains("of 80 inputs"), "{said}");

    let source = text(&files::write(folder.path(), "float.onnx", &chain(9))).to_owned();
    let pixels =
        text(&files::write(folder.path(), "pixels.npy", &files::npy(&[50, 1, 12, 12], &pictures(50, 4)))).to_owned();
    let record = &lowkey(&["quantise", &source, "--data", &pixels, "--json"]).records()[0];
    assert!(record["accuracy"]["images"] == 50 && record["accuracy"]["same"].as_u64().unwrap() >= 46, "{record}");
    let short = text(&files::write(folder.path(), "short.npy", &files::npy(&[50], &[1; 50]))).to_owned();
    lowkey(&["quantise", &source, "--data", &short]).fails(2, "short.npy", "shape of the network's input");
}

/// A pipe would be waited for.
#[test]
fn a_pipe_is_no_network() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.onnx");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    lowkey(&["quantise", text(&pipe), "--data", text(folder.path())]).fails(2, "not a regular file", "");
}
