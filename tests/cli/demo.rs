//! `demo`, `plan`, `eval` and help: commands that need no second process.

use super::*;

const STAGE: &str = "ms bytes_sent bytes_received flights ots ot_batch_bytes_sent ot_batch_bytes_received \
                     socket_bytes_sent socket_bytes_received";

#[test]
fn help_is_one_screen_and_names_every_command() {
    let help = lowkey(&["--help"]).prints();
    let commands = [
        "demo", "import", "distort", "optimise", "serve", "infer", "train", "forget", "models", "plan", "eval", "bench",
    ];
    for command in commands {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
    }
    assert!(help.lines().count() <= 45, "{help}");
    fits(&help);
    let version = lowkey(&["--version"]).prints();
    let start = format!("lowkey {} (protocol {}", env!("CARGO_PKG_VERSION"), lowkey::session::VERSION);
    assert!(version.starts_with(&start) && version.ends_with(")\n"), "{version}");
    let nothing = lowkey(&[]);
    assert_eq!((nothing.code, &nothing.out[..]), (Some(2), ""));
    assert!(nothing.err.contains("Usage: lowkey"), "{}", nothing.err);
    let typo = lowkey(&["infr"]);
    assert_eq!(typo.code, Some(2));
    assert!(typo.err.contains("similar") && typo.err.contains("infer"), "{}", typo.err);
}

#[test]
fn demo_for_people() {
    let text = lowkey(&["demo", "--count", "3"]).prints();
    fits(&text);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "digits: 768 activations, planned for lan");
    assert!(lines[1].starts_with("encryption: ") && lines[1].contains(" key"), "{text}");
    assert!(lines[2].starts_with("setup ") && lines[2].ends_with(" flights"), "{text}");
    assert!(lines[3].starts_with("image ") && lines[3].contains("  in the clear  "), "{text}");
    for (index, line) in lines[4..7].iter().enumerate() {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let (label, class) = (digits().labels[index].to_string(), digits().class(index).to_string());
        assert_eq!(cells[..5], [&index.to_string(), &label, &class, "the", "same"], "{text}");
        assert!(line.ends_with(" kB") && (line.contains(" ms") || line.contains(" us")), "{text}");
    }
    assert!(text.contains("\nmean of 3 inferences"), "{text}");
    let names = ["input", "conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "dense3", "output", "keys", "requests"];
    let table = lines.iter().skip_while(|line| !line.starts_with("layer "));
    let layers: Vec<&str> = table.skip(1).map_while(|line| line.split_whitespace().next()).collect();
    assert_eq!(layers, names, "in the network's order:\n{text}");
    assert!(lines.last().unwrap().ends_with("3 of 3 equal to the plaintext network"), "{text}");
}

/// More images than there are: the demo takes those that there are, and says so.
#[test]
fn demo_of_more_images_than_there_are() {
    let ran = lowkey(&["demo", "--count", "1000", "--schedule", "direct", "--reveal", "class"]);
    assert_eq!(ran.err, "note: there are 360 images; --count 1000 takes all of them\n");
    assert!(ran.out.contains("360 of 360 equal to the plaintext network"), "{}", ran.out);
}

#[test]
fn demo_for_programs() {
    let records = lowkey(&["demo", "--count", "3", "--json"]).records();
    assert_eq!(records.len(), 3);
    for (index, record) in records.iter().enumerate() {
        assert_eq!(
            keys(record),
            named("index prediction class logits outputs label matches stages layers peak_memory_bytes")
        );
        assert_eq!(record["index"], index);
        assert_eq!(integers(&record["logits"]), digits().logits(index));
        assert_eq!(record["prediction"], digits().class(index));
        assert_eq!(record["class"], digits().class(index).to_string());
        assert_eq!((&record["label"], &record["matches"]), (&digits().labels[index].into(), &true.into()));
        let scale = digits().network.architecture().output_scale.unwrap();
        for (output, logit) in record["outputs"].as_array().unwrap().iter().zip(digits().logits(index)) {
            assert_eq!(output.as_f64().unwrap(), logit as f64 * scale);
        }
        let stages = &record["stages"];
        assert_eq!(keys(stages), named("setup offline online"));
        for stage in ["setup", "offline", "online"] {
            assert_eq!(keys(&stages[stage]), named(STAGE));
            for key in ["ms", "bytes_sent", "bytes_received", "flights"] {
                assert!(stages[stage][key].as_f64().unwrap() > 0.0, "{stage} {key}");
            }
        }
        let order: Vec<&str> =
            record["layers"].as_array().unwrap().iter().map(|layer| layer["name"].as_str().unwrap()).collect();
        assert_eq!((order[0], order[order.len() - 3]), ("input", "output"), "in the network's order: {order:?}");
        for layer in record["layers"].as_array().unwrap() {
            assert_eq!(keys(layer), named("name offline_bytes online_bytes online_ms"));
        }
    }
}

#[test]
fn demo_of_the_class_alone_in_the_direct_schedule() {
    let records = lowkey(&["demo", "--count", "2", "--json", "--reveal", "class", "--schedule", "direct"]).records();
    for (index, record) in records.iter().enumerate() {
        assert_eq!(keys(record), named("index prediction class label matches stages layers peak_memory_bytes"));
        assert_eq!((&record["prediction"], &record["matches"]), (&digits().class(index).into(), &true.into()));
        let offline = &record["stages"]["offline"];
        assert!(named(STAGE).into_iter().all(|key| offline[key].as_f64() == Some(0.0)), "{offline}");
    }
}

#[test]
fn demo_of_what_is_not_there() {
    lowkey(&["demo", "--model", "cats"]).fails(2, "no bundled model \"cats\"", "`lowkey models`");
    lowkey(&["demo", "--model", "digit"]).fails(2, "no bundled model \"digit\"", "did you mean digits?");
    lowkey(&["demo", "--model", "mnist-minionn-w4a4"]).fails(2, "no data set given", "LOWKEY_DATA");
    for (arguments, complaint) in [
        (&["demo", "--count", "0"][..], "--count"),
        (&["demo", "--count", "many"], "--count"),
        (&["demo", "--link", "carrier-pigeon"], "expected loopback, lan, wan or metered"),
        (&["demo", "--reveal", "weights"], "logits, class"),
    ] {
        let ran = lowkey(arguments);
        assert_eq!((ran.code, &ran.out[..]), (Some(2), ""), "{arguments:?}");
        assert!(ran.err.contains(complaint), "{}", ran.err);
    }
}

/// `lowkey demo | head -1`: the reader leaves, and that is all right.
#[test]
fn output_that_nobody_reads_to_the_end() {
    for arguments in [&["demo", "--count", "50"][..], &["demo", "--count", "50", "--json"], &["plan", "digits"]] {
        let mut child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.ends_with('\n'), "{first:?}");
        assert_eq!(ends(&mut child).code(), Some(0), "{arguments:?}");
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(err, "", "{arguments:?}");
    }
}

#[test]
fn plan_for_programs_and_people() {
    let records = lowkey(&["plan", "digits", "--json"]).records();
    let [record] = &records[..] else { panic!("{} lines", records.len()) };
    assert_eq!(keys(record), named("model link layers total estimate memory"));
    assert_eq!(keys(&record["memory"]), named("session_bytes slot_bytes work_bytes"));
    assert_eq!((&record["model"], &record["link"]), (&"digits".into(), &"lan".into()));
    let layers = record["layers"].as_array().unwrap();
    assert_eq!(layers.len(), digits().network.architecture().nodes.len());
    for layer in layers {
        let expected = "name kind accumulator_bits ring_bits torus_bits degree wire_bits noise_margin_bits activations \
                        offline_bytes online_bytes flights";
        assert_eq!(keys(layer), named(expected));
        let encrypted = ["conv", "dense"].contains(&layer["kind"].as_str().unwrap());
        for key in ["accumulator_bits", "torus_bits", "degree", "wire_bits", "noise_margin_bits"] {
            assert_eq!(layer[key].is_number(), encrypted, "{layer}");
        }
        if encrypted {
            assert!(layer["noise_margin_bits"].as_f64().unwrap() >= 0.0, "{layer}");
        }
    }
    let total = &record["total"];
    assert_eq!(keys(total), named("hint_bytes setup_bytes offline_bytes online_bytes flights activations"));
    assert_eq!(total["activations"], 768);
    // Of 22 two are the image on its way, and the answer.
    let flights = |kind: &str| {
        let of_kind = layers.iter().filter(|layer| layer["kind"] == kind);
        of_kind.map(|layer| layer["flights"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!([flights("conv"), flights("requantise"), flights("max pool")], [vec![0, 0], vec![4, 4], vec![6, 6]]);

    let estimate = &record["estimate"];
    assert_eq!(keys(estimate), named("loopback lan wan client_memory_bytes server_memory_bytes"));
    let ms = |link: &str, stage: &str| estimate[link][stage].as_f64().unwrap();
    // 22 flights of 20 ms.
    assert!((ms("wan", "online_ms") - ms("loopback", "online_ms") - 440.0).abs() < 2.0, "{estimate}");
    assert!(ms("lan", "offline_ms") > ms("loopback", "offline_ms"));

    // The plan keeps its word.
    let demo = &lowkey(&["demo", "--count", "1", "--json"]).records()[0];
    let bytes = |stage: &str| {
        let stage = &demo["stages"][stage];
        stage["bytes_sent"].as_u64().unwrap() + stage["bytes_received"].as_u64().unwrap()
    };
    assert_eq!(
        [&total["setup_bytes"], &total["offline_bytes"], &total["online_bytes"]],
        [&Value::from(bytes("setup")), &bytes("offline").into(), &bytes("online").into()]
    );
    assert_eq!(total["flights"], demo["stages"]["online"]["flights"]);

    let text = lowkey(&["plan", "digits", "--link", "wan"]).prints();
    assert!(text.starts_with("digits, planned for wan\ninput: integers [N,1,8,8] NCHW, 0..=15\noutput: "), "{text}");
    fits(&text);
    assert!(
        text.contains("\nconv1 ") && text.contains("\nper inference: ") && text.contains("\nonce: setup "),
        "{text}"
    );
}

/// The accuracy on a data set that the test writes: the bundled images as pixels of 8 bits.
#[test]
fn eval_in_the_clear_and_privately() {
    let folder = tempfile::tempdir().unwrap();
    digits().data_set(folder.path(), 0..120);
    let correct = (0..120).filter(|&image| digits().class(image) == usize::from(digits().labels[image])).count();
    let data = ["eval", "--model", "digits", "--data", text(folder.path())];

    let records = lowkey(&[&data[..], &["--private", "2", "--json"]].concat()).records();
    let [record] = &records[..] else { panic!("{} lines", records.len()) };
    assert_eq!(keys(record), named("images correct accuracy private"));
    assert_eq!((&record["images"], &record["correct"]), (&120.into(), &correct.into()));
    assert!((record["accuracy"].as_f64().unwrap() - correct as f64 / 1.2).abs() < 1e-9);
    let private = &record["private"];
    assert_eq!(keys(private), named("images mismatches online_ms_median offline_ms_median bytes_per_image"));
    assert_eq!((&private["images"], &private["mismatches"]), (&2.into(), &0.into()));
    for key in ["online_ms_median", "offline_ms_median", "bytes_per_image"] {
        assert!(private[key].as_f64().unwrap() > 0.0, "{private}");
    }

    let clear = lowkey(&[&data[..], &["--json"]].concat()).records();
    assert_eq!(keys(&clear[0]), named("images correct accuracy"));
    let people = lowkey(&data).prints();
    assert_eq!(people, format!("digits: {correct} of 120 correct, {:.2} %\n", correct as f64 / 1.2));
}

#[test]
fn eval_without_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = text(folder.path());
    let eval = ["eval", "--model", "digits"];
    lowkey(&["eval", "--model", "mnist-hcnn-w1a1"]).fails(2, "no data set", "--data");
    // The bundled images, where no other are given.
    assert_eq!(lowkey(&eval).prints(), "digits: 357 of 360 correct, 99.17 %\n");
    let with_data = [&eval[..], &["--data", path]].concat();
    lowkey(&with_data).fails(2, "no test images", "t10k-images-idx3-ubyte");
    digits().data_set(folder.path(), 0..5);
    files::write(folder.path(), "t10k-labels-idx1-ubyte", &files::idx_labels(&[1, 2, 3]));
    lowkey(&with_data).fails(2, "5 images but 3 labels", "belong together");
    let wide = files::idx_images(files::Size { height: 4, width: 16 }, &digits().pixels(0..5));
    files::write(folder.path(), "t10k-images-idx3-ubyte.gz", &files::gzip(&wide));
    lowkey(&with_data).fails(2, "the network reads 1 x 8 x 8", "of the size");
}
