//! Secure output equals the plaintext integer network's, bit for bit, always.

mod common;

use std::path::{Path, PathBuf};

use lowkey::{Link, Output, Reveal, Schedule};
use lowkey_models::import;
use lowkey_models::random::{self, Size};
use lowkey_models::{Network, Tensor, zoo};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

#[test]
fn digits_in_both_schedules_and_reveals() {
    let bundled = zoo::find("digits").unwrap();
    let (network, demo) = (bundled.network(), bundled.demo().unwrap());
    let model = common::publish(&network);
    for schedule in [Schedule::Prepared, Schedule::Direct] {
        for reveal in [Reveal::Logits, Reveal::Class] {
            let inputs: Vec<_> = (0..3).map(|i| demo.inputs.get(i).unwrap()).collect();
            for (input, answer) in inputs.iter().zip(common::infer(&model, &inputs, schedule, reveal)) {
                assert_eq!(answer.output, common::expected(&network, input, reveal), "{schedule:?} {reveal:?}");
            }
        }
    }
}

/// 200 MNIST test images in the prepared schedule, some in the direct one, and some by class only.
#[test]
fn mnist_minionn() {
    let Some(images) = common::mnist_test(200) else { return };
    let network = zoo::find("mnist-minionn-w4a4").unwrap().network();
    let models = [Link::Lan, Link::Metered].map(|link| common::publish_for(&network, link));
    assert_eq!(common::pooled(&models[1]), 2);
    for (model, schedule, reveal, count) in [
        (0, Schedule::Prepared, Reveal::Logits, 200),
        (0, Schedule::Direct, Reveal::Logits, 20),
        (0, Schedule::Prepared, Reveal::Class, 20),
        (0, Schedule::Direct, Reveal::Class, 5),
        (1, Schedule::Prepared, Reveal::Logits, 40),
        (1, Schedule::Direct, Reveal::Logits, 5),
    ] {
        let (model, inputs) = (&models[model], &images[..count]);
        for (index, (input, answer)) in inputs.iter().zip(common::infer(model, inputs, schedule, reveal)).enumerate() {
            let what = format!("{index} {schedule:?} {reveal:?} {}", model.plan.choices.link);
            assert_eq!(answer.output, common::expected(&network, input, reveal), "{what}");
        }
    }
}

/// Random networks: shapes, strides, paddings, dilations, groups, widths, residuals, tensors with several consumers, pools,
/// tables, zero points, clips; planned for few flights or for few bytes in turn. LOWKEY_RANDOM_NETWORKS sets how many, LOWKEY_RANDOM_SEED the first seed.
#[test]
fn random_networks() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (count, first) = (number("LOWKEY_RANDOM_NETWORKS", 60), number("LOWKEY_RANDOM_SEED", 1));
    let pooled: usize =
        (first..first + count).map(|seed| check_random(seed, &Size { clips: true, ..Size::default() })).sum();
    assert!(count < 60 || pooled > 0, "no max pool came before its clip");
}

/// Returns how many max pools came before their clip.
fn check_random(seed: u64, size: &Size) -> usize {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let network = random::network(&mut rng, size);
    check_network(&network, seed, &mut rng)
}

/// The same, of a network.
fn check_network(network: &Network, seed: u64, rng: &mut ChaCha20Rng) -> usize {
    let inputs: Vec<Tensor> = (0..2).map(|_| random::input(rng, &network.architecture().input)).collect();
    let link = if seed.is_multiple_of(2) { Link::Metered } else { Link::Lan };
    let model = match common::try_publish_for(network, link) {
        Ok(model) => model,
        Err(error) => panic!("seed {seed}: {error}\n{}", network.architecture().to_json()),
    };
    common::block_on(async {
        let (mut client, server) = common::session(&model).await;
        for input in &inputs {
            for schedule in [Schedule::Prepared, Schedule::Direct] {
                for reveal in [Reveal::Logits, Reveal::Class] {
                    let values: Vec<i64> = input.iter().copied().collect();
                    let answer = client.answer(schedule, reveal, &values).await.expect("the inference succeeds");
                    let expected = common::expected(network, input, reveal);
                    let json = network.architecture().to_json();
                    assert_eq!(answer.output, expected, "seed {seed} {schedule:?} {reveal:?}\n{json}");
                }
            }
        }
        client.close().await.expect("the session closes");
        server.await.expect("no panic").expect("the server saw no error");
    });
    common::pooled(&model)
}

/// Random networks whose averages are decided by sums of floats.
#[test]
fn averages_of_floats() {
    let (mut seed, mut found) = (0, 0);
    while found < 8 {
        seed += 1;
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let plain = random::network(&mut rng, &Size { blocks: 3, ..Size::default() });
        let network = random::floats(&mut rng, &plain);
        if network.architecture().has_floats() {
            check_network(&network, seed, &mut rng);
            found += 1;
        }
    }
}

/// Networks that are all convolutions and max pools, planned for few bytes: many of the pools come before their clip.
#[test]
fn max_pools_before_their_clip() {
    let (mut pooled, mut pools) = (0, 0);
    for seed in 1..=16 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let network = common::convolution_and_pool(&mut rng);
        let model = common::publish_for(&network, Link::Metered);
        (pooled, pools) = (pooled + common::pooled(&model), pools + 1);
        let inputs: Vec<_> = (0..3).map(|_| random::input(&mut rng, &network.architecture().input)).collect();
        for schedule in [Schedule::Prepared, Schedule::Direct] {
            let answers = common::infer(&model, &inputs, schedule, Reveal::Logits);
            for (input, answer) in inputs.iter().zip(answers) {
                let json = network.architecture().to_json();
                assert_eq!(answer.output, common::expected(&network, input, Reveal::Logits), "seed {seed}\n{json}");
            }
        }
    }
    assert!(4 * pooled > pools, "{pooled} of {pools}");
}

/// An input that needs several tiles in every layer.
#[test]
fn inputs_larger_than_a_tile() {
    for seed in 1..=3 {
        check_random(seed, &Size { blocks: 2, channels: 2, side: 90, ..Size::default() });
    }
}

/// Equal logits: the lowest index wins.
#[test]
fn ties_go_to_the_lowest_index() {
    let network = common::constant_logits(&[3, 7, 7, -2, 7, 1, 0]);
    let model = common::publish(&network);
    let inputs = vec![Tensor::zeros((1, 2, 2))];
    for schedule in [Schedule::Prepared, Schedule::Direct] {
        let answer = common::infer(&model, &inputs, schedule, Reveal::Class);
        assert_eq!(answer[0].output, Output::Class(1));
    }
}

/// MobileNet V1 as an import of TFLite makes it: depthwise convolutions, general scales, an average pool, 1001 outputs. One image,
/// or 20 with LOWKEY_SLOW=1.
#[test]
fn an_imported_mobilenet() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/models/zoo/mobilenet-v1-025-128.tflite");
    let network = import::read(file, &import::Options::default()).expect("it is supported").network;
    let model = common::publish(&network);
    let count = if std::env::var("LOWKEY_SLOW").is_ok_and(|slow| slow == "1") { 20 } else { 1 };
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let inputs: Vec<_> = (0..count).map(|_| random::input(&mut rng, &network.architecture().input)).collect();
    let answers = common::infer(&model, &inputs, Schedule::Prepared, Reveal::Logits);
    for (index, (input, answer)) in inputs.iter().zip(answers).enumerate() {
        assert_eq!(answer.output, common::expected(&network, input, Reveal::Logits), "{index}");
    }
}

/// Files of other tools that are kept here, and those of a folder that LOWKEY_FILES names: all that are imported, one input each.
#[test]
fn imported_files() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests");
    let names = ["oracle/onnx/fixtures", "oracle/onnx/exports", "golden/tflite"];
    let mut folders: Vec<PathBuf> = names.iter().map(|name| kept.join(name)).collect();
    folders.extend(std::env::var_os("LOWKEY_FILES").map(PathBuf::from));
    let listed = |folder: &PathBuf| -> Vec<PathBuf> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let mut paths: Vec<PathBuf> = folders.iter().flat_map(listed).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "onnx" || extension == "tflite"));
    paths.sort();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (mut answered, mut refused) = (0, 0);
    for path in paths {
        // Some are kept for the words with which they are refused.
        let Ok(imported) = import::read(&path, &import::Options::default()) else {
            refused += 1;
            continue;
        };
        let network = imported.network;
        let inputs = [random::input(&mut rng, &network.architecture().input)];
        let answers = common::infer(&common::publish(&network), &inputs, Schedule::Prepared, Reveal::Logits);
        let plain = common::expected(&network, &inputs[0], Reveal::Logits);
        assert_eq!(answers[0].output, plain, "{}", path.display());
        answered += 1;
    }
    assert!(answered >= 20, "{answered} answered, {refused} refused");
}
