//! `distort` and `optimise`: what changes do, and which are taken.

use super::{files, fits, lowkey, text};

#[test]
fn a_model_within_fewer_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&folder.path().join(name)).to_owned();
    let (file, less, plot) = (path("digits.json"), path("less.lowkey"), path("digits.svg"));
    let said = lowkey(&["distort", "digits", "-o", &file, "--count", "60"]).prints();
    // The last line has the file's path.
    fits(said.split("wrote ").next().unwrap());
    assert!(said.contains("measured on 60 images") && said.contains("1 bit fewer"), "{said}");
    let measured = std::fs::read(&file).unwrap();
    // Again, nothing is measured and nothing changes.
    lowkey(&["distort", "digits", "-o", &file, "--count", "60"]).prints();
    assert_eq!(std::fs::read(&file).unwrap(), measured);

    let ask = ["optimise", "digits", "--distortion", &file, "--link", "metered", "--count", "100"];
    let record =
        &lowkey(&[&ask[..], &["--budget", "0.9", "-o", &less, "--plot", &plot, "--json"]].concat()).records()[0];
    let [bytes, before, budget] =
        ["bytes", "bytes_before", "budget"].map(|key| record[key].as_u64().expect("a number of bytes"));
    assert!(bytes <= budget && budget <= before * 9 / 10, "{record}");
    let total = &lowkey(&["plan", &less, "--link", "metered", "--json"]).records()[0]["total"];
    assert_eq!(total["offline_bytes"].as_u64().unwrap() + total["online_bytes"].as_u64().unwrap(), bytes, "{record}");
    assert_eq!(record["accuracy"]["images"], 100, "{record}");
    let layers = record["layers"].as_array().unwrap();
    let sum = |key: &str| layers.iter().filter_map(|layer| layer[key].as_f64()).sum::<f64>();
    assert!((sum("distortion") - record["distortion"].as_f64().unwrap()).abs() < 1e-9, "{record}");
    assert!(layers.iter().any(|layer| layer["ring_bits"].is_u64() || layer["bits"].is_u64()), "{record}");
    assert!(std::fs::read_to_string(&plot).unwrap().starts_with("<svg "));
    // What was written answers privately as it does in the clear.
    let said = lowkey(&[&ask[..], &["--budget", "90%"]].concat()).prints();
    fits(&said);
    assert!(said.contains("distortion") && said.contains("the same class on"), "{said}");
    // Several budgets have a report and a file each, and are what each is alone.
    let records = lowkey(&[&ask[..], &["--budget", "90%,95%", "-o", &less, "--json"]].concat()).records();
    assert_eq!(records.len(), 2);
    assert_eq!(&records[0], record);
    assert!(records[1]["bytes"].as_u64() > record["bytes"].as_u64(), "{records:?}");
    let whole = std::fs::read(&less).unwrap();
    assert_eq!(std::fs::read(path("less-1.lowkey")).unwrap(), whole);
    assert_ne!(std::fs::read(path("less-2.lowkey")).unwrap(), whole);
}

#[test]
fn what_cannot_be_had_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&folder.path().join(name)).to_owned();
    let file = path("digits.json");
    lowkey(&["distort", "digits", "-o", &file, "--count", "10", "--fewer", "0"]).prints();
    let ask = ["optimise", "--distortion", &file, "--budget"];
    // What it is made of is not written over, whatever the path to it.
    let model = path("digits.lowkey");
    std::fs::write(&model, lowkey_models::zoo::find("digits").unwrap().file()).unwrap();
    let other = path("./digits.lowkey");
    for written in [["-o", &other], ["-o", &file], ["--plot", &model]] {
        lowkey(&[&ask[..], &["0.9", &model], &written].concat()).fails(2, "would be written over it", "another file");
    }
    let numbered = path("digits-2.lowkey");
    std::fs::copy(&model, &numbered).unwrap();
    lowkey(&[&ask[..], &["0.9,0.8", &numbered, "-o", &model]].concat()).fails(
        2,
        "would be written over it",
        "another file",
    );
    assert_eq!(std::fs::read(&model).unwrap(), lowkey_models::zoo::find("digits").unwrap().file());
    lowkey(&[&ask[..], &["1kB", "digits"]].concat()).fails(2, "no choice takes less than", "larger budget");
    lowkey(&[&ask[..], &["0.9", "mnist-hcnn-w2a2"]].concat()).fails(2, "another network", "lowkey distort");
    lowkey(&["distort", "digits", "-o", &file, "--count", "11"]).fails(2, "other images", "another file");
    // A file that was cut short, and one with half of its measurements.
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    lowkey(&[&ask[..], &["0.9", "digits"]].concat()).fails(2, "no distortion file", "lowkey distort");
    let mut json: serde_json::Value = serde_json::from_str(&whole).unwrap();
    json["variables"][0]["floor"] = serde_json::Value::Null;
    std::fs::write(&file, json.to_string()).unwrap();
    lowkey(&[&ask[..], &["0.9", "digits"]].concat()).fails(2, "measurements", "goes on where it stopped");
    json["format"] = "lowkey distortion 9".into();
    std::fs::write(&file, json.to_string()).unwrap();
    lowkey(&[&ask[..], &["0.9", "digits"]].concat()).fails(2, "lowkey distortion 9", "lowkey distort");
}

/// Coins are chosen where they are asked for, and a file that begins without them goes on with them.
#[test]
fn coins_are_chosen_where_they_were_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&folder.path().join(name)).to_owned();
    let (file, less) = (path("m.json"), path("less.lowkey"));
    // Pictures, whatever they show.
    let pixels: Vec<u8> = (0..12 * 28 * 28).map(|at: u64| (at * at / 7 % 256) as u8).collect();
    let pictures = files::idx_images(files::Size { height: 28, width: 28 }, &pixels);
    files::write(folder.path(), "train-images-idx3-ubyte", &pictures);
    let images = text(folder.path());
    let distort = ["distort", "mnist-cryptonets-w4a4", "--data", images, "-o", &file, "--count", "6", "--fewer", "0"];
    let exact = lowkey(&distort).prints();
    assert!(!exact.contains("coin"), "{exact}");
    let said = lowkey(&[&distort[..], &["--coins", "0"]].concat()).prints();
    fits(said.split("wrote ").next().unwrap());
    assert!(said.contains("coin, 1 left") && said.contains("coin, 0 left"), "{said}");
    let ask = ["optimise", "mnist-cryptonets-w4a4", "--distortion", &file, "--link", "metered", "--budget", "85%"];
    let record = &lowkey(&[&ask[..], &["-o", &less, "--json"]].concat()).records()[0];
    let layers = record["layers"].as_array().unwrap();
    let tossed = |layer: &serde_json::Value| layer["coin_bits"].as_u64() <= layer["shift_bits"].as_u64();
    assert!(layers.iter().any(|layer| layer["coin_bits"].is_u64() && tossed(layer)), "{record}");
    assert!(record["bytes"].as_u64() <= record["budget"].as_u64(), "{record}");
    let said = lowkey(&ask).prints();
    fits(&said);
    assert!(said.contains("a coin for ") && said.contains("SECURITY.md"), "{said}");
    assert!(lowkey(&["plan", &less]).prints().contains("rounded by coins of the client: "));
}
