//! What people hand over to imported networks, and how they read the answers.

use lowkey_models::coding::{End, Order, OutputCoding};

use super::*;

/// A TFLite network: int8 images of 6 x 5 pixels of 3 channels, scale 0.0356, zero point -124; six classes and a softmax.
const SOFTMAX: &[u8] = include_bytes!("../../models/tests/golden/tflite/softmax.tflite");

/// `lowkey infer` with a cache of its own: nothing is left for others.
fn infer(server: &Serving, folder: &Path, arguments: &[&str]) -> Ran {
    server
        .infer(&[arguments, &["--cache", text(&folder.join("cache")), "--state", text(&folder.join("state"))]].concat())
}

/// `numpy.save` of another type.
fn npy(kind: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let file = files::npy(shape, &[]);
    let text = String::from_utf8_lossy(&file[10..]).replace("|u1", kind);
    [&file[..10], text.as_bytes(), data].concat()
}

#[test]
fn arrays_are_the_runtimes_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| text(&files::write(folder.path(), name, bytes)).to_owned();
    let model = file("softmax.tflite", SOFTMAX);
    let report = lowkey(&["import", &model]).prints();
    let (codes, output) = (
        "input: int8 [N,6,5,3] NHWC, scale 0.035598297, zero point -124",
        "output: float32 [N,6] from int8, scale 30.697123, zero point -128, softmax",
    );
    let plan = lowkey(&["plan", &model]).prints();
    for said in [&report, &plan] {
        assert!(said.lines().any(|line| line == codes) && said.lines().any(|line| line == output), "{said}");
    }
    assert!(report.contains("note: the network reads real numbers -0.142..8.935"), "{report}");
    let record = &lowkey(&["plan", &model, "--json"]).records()[0];
    assert_eq!((&record["input"]["dtype"], &record["input"]["zero_point"]), (&"int8".into(), &(-124).into()));

    let server = Serving::start(&["--model", &model, "--listen", "127.0.0.1:0"]);
    // 90 values that are never negative: they were read as q + 128 once.
    let q: Vec<i8> = (0..90u32).map(|i| (i * 7 % 128) as i8).collect();
    let scale = 0.035_598_297f32;
    let real: Vec<u8> = q.iter().flat_map(|&q| ((f32::from(q) + 124.0) * scale).to_le_bytes()).collect();
    let bytes: Vec<u8> = q.iter().map(|&q| q as u8).collect();
    let wide: Vec<u8> = q.iter().flat_map(|&q| (i64::from(q) + 128).to_le_bytes()).collect();
    let network = lowkey_models::import::from_bytes(SOFTMAX, &Default::default()).unwrap().network;
    let x = Tensor::from_shape_fn((3, 6, 5), |(c, h, w)| i64::from(q[(h * 5 + w) * 3 + c]) + 124);
    let wanted: Vec<i64> = network.run(&x).unwrap().iter().copied().collect();
    let arrays = [("|i1", &[1, 6, 5, 3][..], &bytes), ("|i1", &[6, 5, 3], &bytes), ("<i8", &[1, 6, 5, 3], &wide)];
    for (kind, shape, data) in arrays.into_iter().chain([("<f4", &[1, 6, 5, 3][..], &real)]) {
        let input = file("input.npy", &npy(kind, shape, data));
        let ran = infer(&server, folder.path(), &["--input", &input, "--json"]);
        assert!(ran.err.starts_with(&format!("{codes}\n{output}\n")), "{}", ran.err);
        assert_eq!(kind == "<i8", ran.err.contains("note: int64 values count from 0, the smallest int8 -128"));
        let record: Value = serde_json::from_str(ran.out.trim()).unwrap();
        assert_eq!(integers(&record["logits"]), wanted, "{kind} {shape:?}");
        let outputs: Vec<f64> = record["outputs"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert!((outputs.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{outputs:?}");
    }
    let refused = |bytes: &[u8], why: &str| {
        let input = file("input.npy", bytes);
        let ran = infer(&server, folder.path(), &["--input", &input, "--json"]);
        assert!(ran.err.contains(why), "{why:?} is not in {}", ran.err);
        assert_eq!(ran.code, Some(2));
    };
    refused(
        &npy("|u1", &[1, 6, 5, 3], &bytes),
        "it holds uint8, the network reads int8 (its quantised input, -128..=127), or float32",
    );
    refused(
        &npy("|i1", &[1, 3, 6, 5], &bytes),
        "the network reads N x 6 x 5 x 3 (batch x height x width x channels); the channels must come last",
    );
    // A picture, of which nothing says what it means.
    let colours: Vec<u8> = (0..90).collect();
    let picture =
        file("picture.idx", &[&[0, 0, 8, 4, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 6, 0, 0, 0, 5][..], &colours].concat());
    let ran = infer(&server, folder.path(), &["--input", &picture, "--json"]);
    assert!(ran.err.contains("warning: the network reads real numbers -0.142..8.935"), "{}", ran.err);
    assert_eq!(ran.code, Some(0));
}

/// The digits with another end: their first output alone, or all of them.
fn digits_with(change: impl FnOnce(&mut lowkey_models::Architecture, &mut lowkey_models::Weights)) -> Network {
    let (mut architecture, mut weights) = digits().network.clone().into_parts();
    architecture.classes.clear();
    change(&mut architecture, &mut weights);
    Network::new(architecture, weights).unwrap()
}

/// One output: its class is by the sigmoid that the file has behind it, and without one there is none.
#[test]
fn one_output_has_the_class_of_its_sigmoid_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let images = digits().npy(folder.path(), 0..12);
    for (ends, classes) in [(vec![End::Sigmoid], true), (vec![], false)] {
        let network = digits_with(|architecture, weights| {
            let last = architecture.output - 1;
            let lowkey_models::Op::Linear { terms } = &mut architecture.nodes[last].op else { panic!("a dense layer") };
            let [lowkey_models::Term::Dense { outputs, .. }] = &mut terms[..] else { panic!("a dense layer") };
            *outputs = 1;
            let own = weights.linear[last].as_mut().unwrap();
            own.bias.truncate(1);
            let rows = own.terms[0].take().unwrap();
            own.terms[0] = Some(rows.slice_move(ndarray::s![0..1, .., .., ..]));
            architecture.output_scale = Some(0.01);
            architecture.output_coding = Some(OutputCoding {
                dims: vec![1],
                order: Order::ChannelsFirst,
                dtype: None,
                zero_point: 0,
                integers: false,
                ends,
                probability: false,
                class: None,
                parts: vec![],
                units: vec![],
            });
        });
        let model = folder.path().join("one.lowkey");
        network.write(&model).unwrap();
        let home = tempfile::tempdir().unwrap();
        let server = Serving::start(&["--model", text(&model), "--listen", "127.0.0.1:0"]);
        let ran = infer(&server, home.path(), &["--input", text(&images), "--count", "12", "--json"]);
        let mut seen = BTreeSet::new();
        for record in ran.records() {
            let z = integers(&record["logits"])[0];
            let class = classes.then_some(u64::from(z > 0));
            assert_eq!(record["prediction"].as_u64(), class, "{record}");
            assert_eq!(record["prediction"].is_null(), !classes);
            seen.insert(class);
            let output = record["outputs"][0].as_f64().unwrap();
            let wanted = if classes { 1.0 / (1.0 + (-0.01 * z as f64).exp()) } else { 0.01 * z as f64 };
            assert!((output - wanted).abs() < 1e-12, "{output} instead of {wanted}");
        }
        assert_eq!(seen.len(), 1 + usize::from(classes), "both classes");
        let refused = infer(&server, home.path(), &["--input", text(&images), "--reveal", "class"]);
        assert!(refused.err.contains("which is not this network's class: "), "{}", refused.err);
        assert_eq!(refused.code, Some(2));
        if !classes {
            let people = infer(&server, home.path(), &["--input", text(&images)]);
            assert!(people.out.contains("image 0: no class, "), "{}", people.out);
            let data = text(folder.path());
            lowkey(&["eval", "--model", text(&model), "--data", data]).fails(
                2,
                "gives no class",
                "tells classes apart",
            );
        }
    }
}

/// A network without names takes those of the folders, if they are as many as its classes, or those of a file.
#[test]
fn classes_are_those_of_the_folders_or_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("nameless.lowkey");
    digits_with(|_, _| ()).write(&model).unwrap();
    let data = folder.path().join("data");
    let names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    let mut correct = 0;
    for image in 0..60 {
        let label = usize::from(digits().labels[image]);
        let class = data.join(names[label]);
        std::fs::create_dir_all(&class).unwrap();
        files::write(&class, &format!("{image}.png"), &files::png(Digits::SIZE, &digits().pixels(image..image + 1)));
        correct += usize::from(digits().class(image) == label);
    }
    let eval = ["eval", "--model", text(&model), "--data", text(&data)];
    // In the order of the folders the labels are others: eight is class 0.
    let ran = lowkey(&eval);
    assert!(ran.err.contains("note: classes in the order of their folders: eight, five, four,"), "{}", ran.err);
    let list = files::write(folder.path(), "names.txt", names.join("\n").as_bytes());
    let named = lowkey(&[&eval[..], &["--classes", text(&list)]].concat()).prints();
    assert!(named.contains(&format!("{correct} of 60 correct")), "{named}");
    assert_ne!(ran.out, named);
    // A frame of four pixels left and right is cut off.
    let wide = folder.path().join("wide");
    let pixels = digits().pixels(3..4);
    let framed: Vec<u8> = pixels.chunks(8).flat_map(|row| [&[255; 4][..], row, &[255; 4]].concat()).collect();
    let class = wide.join(names[usize::from(digits().labels[3])]);
    std::fs::create_dir_all(&class).unwrap();
    files::write(&class, "3.png", &files::png(files::Size { height: 8, width: 16 }, &framed));
    let eval_wide = ["eval", "--model", text(&model), "--data", text(&wide), "--classes", text(&list)];
    lowkey(&eval_wide).fails(2, "1 x 8 x 16", "--resize");
    let right = usize::from(digits().class(3) == usize::from(digits().labels[3]));
    let resized = lowkey(&[&eval_wide[..], &["--resize"]].concat()).prints();
    assert!(resized.contains(&format!("{right} of 1 correct")), "{resized}");
    std::fs::remove_dir_all(data.join("nine")).unwrap();
    lowkey(&eval).fails(2, "pictures of 9 classes, the network has 10", "--classes FILE");
    let short = files::write(folder.path(), "short.txt", b"one\ntwo\n");
    lowkey(&[&eval[..], &["--classes", text(&short)]].concat()).fails(
        2,
        "it names 2 classes, the output has 10",
        "one name per line",
    );
}
