//! TFLite files against LiteRT: random graphs and MobileNet, element by element, and files that are refused.
//!
//! The oracle is Python in `target/oracles/tflite` with `ai-edge-litert`, installed when it is missing. Without it (no network, or
//! LOWKEY_ORACLES=0) those tests say so and pass; the fixtures need nothing.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use lowkey_models::import::tflite::Kernels;
use lowkey_models::import::{self, ImportProblem, Imported, Options, Preprocessing};
use lowkey_models::{Network, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn import(path: &Path, rounding: Kernels) -> Result<Imported, import::ImportError> {
    import::read(path, &Options { tflite: rounding, ..Options::default() })
}

/// The inputs of a file of bytes, height by width by channels each.
fn inputs(network: &Network, bytes: &[u8]) -> Vec<Tensor> {
    let input = &network.architecture().input;
    let [channels, height, width] = input.shape;
    let of = |image: &[u8]| {
        Tensor::from_shape_fn((channels, height, width), |(c, h, w)| {
            i64::from(image[(h * width + w) * channels + c]) - input.zero_point
        })
    };
    bytes.chunks_exact(channels * height * width).map(of).collect()
}

/// The elements of a tensor, height by width by channels.
fn elements(tensor: &Tensor) -> Vec<i64> {
    tensor.clone().permuted_axes([1, 2, 0]).iter().copied().collect()
}

/// The elements of an output in the file's order.
fn ordered(network: &Network, output: &Tensor) -> Vec<i64> {
    network.architecture().ordered(&output.iter().copied().collect::<Vec<_>>())
}

/// Runs the network on the inputs of a case and compares with what LiteRT made of them.
fn compare(case: &Path, rounding: Kernels, imported: &Imported) {
    let network = &imported.network;
    let images = inputs(network, &std::fs::read(case.with_extension("inputs")).expect("inputs"));
    let kind = if rounding == Kernels::Double { "double" } else { "single" };
    let bytes = std::fs::read(case.with_extension(kind)).expect("outputs");
    let wanted: Vec<i64> =
        bytes.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().expect("4 bytes")).into()).collect();
    let answers = network.run_batch(&images).expect("inputs fit");
    let found: Vec<i64> = answers.iter().flat_map(|answer| ordered(network, answer)).collect();
    let wrong: Vec<String> = (found.iter().zip(&wanted).enumerate())
        .filter(|(_, (found, wanted))| found != wanted)
        .map(|(at, (found, wanted))| format!("{at}: {found} instead of {wanted}"))
        .collect();
    assert_eq!(found.len(), wanted.len(), "{}: number of elements", case.display());
    assert!(
        wrong.is_empty(),
        "{} {kind}: {} of {} differ: {}",
        case.display(),
        wrong.len(),
        found.len(),
        wrong[..wrong.len().min(5)].join(", ")
    );
}

/// Random graphs of one kind under both roundings, from the seed in LOWKEY_SEED or 1.
fn graphs(kind: &str, count: usize, roundings: &[Kernels]) {
    let seed = std::env::var("LOWKEY_SEED").unwrap_or_else(|_| "1".into());
    graphs_of(&seed, kind, count, roundings);
}

fn graphs_of(seed: &str, kind: &str, count: usize, roundings: &[Kernels]) {
    let Some(python) = common::oracle::tflite() else { return };
    let count = std::env::var("LOWKEY_GRAPHS").map_or(count, |count| count.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let script = here("tests/oracle/tflite/graphs.py");
    let output = Command::new(python)
        .env("TF_CPP_MIN_LOG_LEVEL", "3")
        .arg(script)
        .arg(folder.path())
        .args([seed, &count.to_string(), kind])
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    eprintln!("LOWKEY_SEED={seed}, {count} graphs of kind {kind}");
    let mut refused = Vec::new();
    for line in lines.lines() {
        let number = line.split(' ').next().expect("a number");
        let case = folder.path().join(number).with_extension("tflite");
        for &rounding in roundings {
            match import(&case, rounding) {
                Ok(imported) => {
                    let checked = std::panic::catch_unwind(|| compare(&case, rounding, &imported));
                    if checked.is_err() {
                        panic!(
                            "seed {seed}, {kind}, {rounding:?}, graph {line}\n{}",
                            imported.network.architecture().to_json()
                        );
                    }
                }
                Err(error) => refused.push(format!("{rounding:?} {line}: {error}")),
            }
        }
    }
    // The 32-bit floats of XNNPACK are no line with steps where sums are wide; some kernels outside of it round by the place.
    let known = ["no multiplier, offset and shift equal the rounding rule", "rounds unsigned numbers by their places"];
    let known = |reason: &&String| reason.starts_with("Single") && known.iter().any(|words| reason.contains(words));
    let (known, all) = (refused.iter().filter(known).count(), lines.lines().count() * roundings.len());
    assert!(
        refused.len() == known && known <= all.div_ceil(20),
        "seed {seed}: {} refused of {all}:\n{}",
        refused.len(),
        refused.join("\n")
    );
}

#[test]
fn fixtures_are_what_litert_computes() {
    for name in ["sum", "pool", "softmax"] {
        let case = here("tests/golden/tflite").join(name).with_extension("tflite");
        for rounding in BOTH {
            let imported = import(&case, rounding).expect("the fixture is imported");
            compare(&case, rounding, &imported);
        }
    }
}

#[test]
fn mobilenet_is_what_litert_computed() {
    for (rounding, kind) in [(Kernels::Double, "double"), (Kernels::Single, "single")] {
        let imported = import(&here("zoo/mobilenet-v1-025-128.tflite"), rounding).expect("MobileNet is imported");
        let input = &imported.network.architecture().input;
        assert_eq!((input.shape, input.zero_point), ([3, 128, 128], 127));
        let image: Vec<u8> = (0..3 * 128 * 128u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let answers = imported.network.run_batch(&inputs(&imported.network, &image)).expect("the input fits");
        let golden = std::fs::read(here("tests/golden/tflite/mobilenet").with_extension(kind)).expect("logits");
        let golden: Vec<i64> =
            golden.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().expect("4 bytes")).into()).collect();
        assert_eq!(elements(&answers[0]), golden, "{kind}");
        let file = imported.network.to_bytes().expect("it fits a model file");
        assert_eq!(Network::from_bytes(&file).expect("its own model file"), imported.network);
    }
}

/// The bytes of a fixture.
fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(here("tests/golden/tflite").join(name).with_extension("tflite")).expect("a fixture")
}

#[test]
fn damaged_files_are_refused_without_panic() {
    let options = Options::default();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    for (name, count) in [("pool", 800), ("softmax", 150), ("sum", 60)] {
        let whole = fixture(name);
        for length in 0..whole.len() {
            // The end of the file may be a list that nothing reads.
            let read = import::from_bytes(&whole[..length], &options);
            assert!(read.is_err() || length > whole.len() / 2, "{name}: {length} bytes");
        }
        let mut refused = 0;
        for _ in 0..count {
            let mut file = whole.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..file.len());
                file[at] = match rng.random_range(0..4) {
                    0 => 0,
                    1 => 255,
                    2 => file[at] ^ 1 << rng.random_range(0..8),
                    _ => rng.random(),
                };
            }
            refused += usize::from(import::from_bytes(&file, &options).is_err());
        }
        assert!((count / 10..count).contains(&refused), "{name}: {refused} of {count} refused");
    }
}

/// The fixture with the code of its operators of number `from` replaced.
fn with_operator(name: &str, from: u8, to: u8) -> Vec<u8> {
    let original = fixture(name);
    let expected = import::from_bytes(&original, &Options::default()).expect("the fixture is imported").report;
    // Both code fields hold the number; a place where a change makes another report is one of them.
    for at in 0..original.len() {
        if original[at] == from {
            let mut file = original.clone();
            file[at] = to;
            match import::from_bytes(&file, &Options::default()) {
                Err(error) if matches!(*error.problem, ImportProblem::Unsupported { .. }) => return file,
                _ => {}
            }
        }
    }
    panic!("no operator {from} in {expected}");
}

/// Nobody writes to it: opening it would wait for ever.
#[cfg(unix)]
#[test]
fn a_pipe_is_no_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe.tflite");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let network = Network::read(&pipe).expect_err("a pipe").to_string();
        assert_eq!(import::is_tflite(&pipe).expect_err("a pipe").to_string(), "not a regular file");
        send.send([import(&pipe, Kernels::Double).expect_err("a pipe").to_string(), network])
    });
    for error in receive.recv_timeout(std::time::Duration::from_secs(20)).expect("it does not wait") {
        assert!(error.contains("pipe.tflite: not a regular file"), "{error}");
    }
}

#[test]
fn unsupported_operators_are_named() {
    // An average pool becomes a normalisation.
    let error = import::from_bytes(&with_operator("pool", 1, 13), &Options::default()).expect_err("it is refused");
    let text = error.to_string();
    assert!(
        text.contains("LOCAL_RESPONSE_NORMALIZATION \"t1\"") && text.contains("replace it before the export"),
        "{text}"
    );
    let report = error.report.expect("a report").to_string();
    assert!(report.contains("NOT SUPPORTED"), "{report}");
}

#[test]
fn what_no_network_has_is_refused_with_the_reason() {
    let Some(python) = common::oracle::tflite() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let script = here("tests/oracle/tflite/refused.py");
    let output = Command::new(python).args([&script, folder.path()]).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    assert!(lines.lines().count() > 15);
    for line in lines.lines() {
        let (name, words) = line.split_once('\t').expect("a name and words");
        let path = folder.path().join(name).with_extension("tflite");
        for rounding in BOTH {
            if rounding == Kernels::Double && name.starts_with("xnnpack_") {
                import(&path, rounding).expect(name);
                continue;
            }
            let error = import(&path, rounding).expect_err(name).to_string();
            assert!(error.contains(&words.replace("\\n", "\n")), "{name}: {error}");
        }
    }
}

/// The table for people is what the import decides by. LOWKEY_BLESS=1 writes it.
#[test]
fn the_table_of_operators_is_in_the_docs() {
    let path = here("../docs/operators-tflite.md");
    let head = "# TFLite operators\n\nWhat `lowkey import` makes of each operator of a TFLite file.\n\n";
    let text = format!("{head}{}", import::tflite::markdown());
    if std::env::var_os("LOWKEY_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
        std::fs::write(&path, &text).expect("it is written");
    }
    assert_eq!(std::fs::read_to_string(path).expect("a page"), text, "LOWKEY_BLESS=1 writes it");
}

#[test]
fn pixels_go_through_the_preprocessing() {
    let preprocessing = Preprocessing { scale: 1.0, over: 255.0, mean: vec![0.25], std: vec![0.5] };
    let options = Options { preprocessing: Some(preprocessing), ..Options::default() };
    let imported = import::from_bytes(&fixture("pool"), &options).expect("the fixture is imported");
    let input = imported.network.architecture().input.clone();
    let tables = input.pixels.expect("tables of pixels");
    assert_eq!(tables.len(), input.shape[0]);
    assert!(tables.iter().all(|table| table.is_sorted() && table[0] != table[255]));
    // Real values rise by 2 over all pixels.
    let plain = import::from_bytes(&fixture("pool"), &Options::default()).expect("the fixture is imported");
    assert_eq!(plain.network.architecture().input.pixels, None);
    assert!(plain.report.to_string().contains("pixel p goes in as q = p - 128"));
}

const BOTH: [Kernels; 2] = [Kernels::Double, Kernels::Single];

#[test]
fn linear_layers() {
    graphs("linear", 60, &BOTH);
}

#[test]
fn means() {
    graphs("mean", 20, &BOTH);
}

#[test]
fn pads() {
    graphs("pad", 20, &BOTH);
}

#[test]
fn movements() {
    graphs("movement", 60, &BOTH);
}

#[test]
fn sums_with_constants() {
    graphs("sum_constant", 40, &BOTH);
}

#[test]
fn products_with_constants() {
    graphs("product_constant", 40, &BOTH);
}

#[test]
fn slopes_of_channels() {
    graphs("prelu", 30, &BOTH);
}

#[test]
fn slopes_below_zero() {
    graphs("leaky", 30, &BOTH);
}

#[test]
fn larger_and_smaller_ones() {
    graphs("extreme", 30, &BOTH);
}

#[test]
fn concatenations_of_several_scales() {
    graphs("join_scales", 20, &BOTH);
}

#[test]
fn interpolations() {
    graphs("bilinear", 40, &BOTH);
}

#[test]
fn means_over_any_axes() {
    graphs("mean_axes", 30, &BOTH);
}

#[test]
fn several_inputs_and_outputs() {
    graphs("several", 30, &BOTH);
}

#[test]
fn pools_with_smaller_windows() {
    graphs("border_pool", 40, &BOTH);
}

#[test]
fn differences() {
    graphs("difference", 30, &BOTH);
}

#[test]
fn sums_with_repeated_tensors() {
    graphs("spread", 30, &BOTH);
}

#[test]
fn products_of_functions_of_one_tensor() {
    graphs("own_product", 40, &BOTH);
}

#[test]
fn swishes_of_several_operators() {
    graphs("split_swish", 20, &BOTH);
}

#[test]
fn functions_of_single_values() {
    graphs("elementwise", 60, &BOTH);
}

#[test]
fn exponential_linear_units() {
    graphs("elu", 15, &[Kernels::Single]);
}

#[test]
fn extremes_along_axes() {
    graphs("reduce", 30, &BOTH);
}

#[test]
fn sums_along_axes() {
    graphs("sum_unsigned", 30, &BOTH);
    graphs("sum_axes", 30, &[Kernels::Single]);
}

/// Of seed 8, whose sums without clip have intervals of more than 8 bits.
#[test]
fn wide_intervals_are_clamped_once() {
    graphs_of("8", "fill", 30, &BOTH);
    graphs_of("8", "split_swish", 20, &BOTH);
}

#[test]
fn padding_with_any_value() {
    graphs("fill", 40, &BOTH);
}

#[test]
fn mirrored_borders() {
    graphs("mirror", 20, &BOTH);
}

#[test]
fn transposed_convolutions() {
    graphs("transposed", 60, &BOTH);
}

#[test]
fn quotients_by_constants() {
    graphs("quotient", 40, &BOTH);
}

#[test]
fn islands_of_real_numbers() {
    graphs("island", 50, &BOTH);
}

#[test]
fn images_in_batches() {
    graphs("dilated", 60, &BOTH);
}

/// Several operators of all kinds.
#[test]
fn graphs_of_all_operators() {
    graphs("mixed", 60, &BOTH);
}

#[test]
fn concatenations() {
    graphs("concatenate", 20, &BOTH);
}

#[test]
fn sums() {
    graphs("add", 20, &BOTH);
}

#[test]
fn reshapes() {
    graphs("squeeze", 20, &BOTH);
}

#[test]
fn rescalings() {
    graphs("quantise", 20, &BOTH);
}

#[test]
fn relus() {
    graphs("relu", 20, &BOTH);
}

#[test]
fn logistic_functions() {
    graphs("logistic", 15, &BOTH);
}

#[test]
fn hyperbolic_tangents() {
    graphs("tanh", 15, &BOTH);
}

#[test]
fn hard_swishes() {
    graphs("hard_swish", 15, &BOTH);
}

#[test]
fn other_types_at_the_ends() {
    graphs("ends", 20, &BOTH);
}

/// Operators of their own, and large resizings: the answer is what they read.
#[test]
fn what_is_left_out_at_the_end() {
    graphs("left_out", 20, &BOTH);
}

#[test]
fn unsigned_numbers() {
    graphs("unsigned", 20, &BOTH);
}

/// On 20 random images, or 1,000 with LOWKEY_SLOW=1 (minutes).
#[test]
fn mobilenet_is_what_litert_computes() {
    let slow = common::oracle::slow();
    whole_file(&here("zoo/mobilenet-v1-025-128.tflite"), if slow { 1000 } else { 20 }, false);
}

/// Files of your own, in the folder that LOWKEY_TFLITE names; those that can't be exact may be approximate.
#[test]
fn files_of_a_folder_are_what_litert_computes() {
    let Some(folder) = std::env::var_os("LOWKEY_TFLITE") else { return };
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "tflite") {
            whole_file(&path, 8, true);
        }
    }
}

/// Compares a file with LiteRT on random images.
fn whole_file(path: &Path, images: usize, approximate: bool) {
    let Some(python) = common::oracle::tflite() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let case = folder.path().join("case.tflite");
    let output = Command::new(python)
        .arg(here("tests/oracle/tflite/run.py"))
        .args([path, &case.with_extension("")])
        .args(["1", &images.to_string()])
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for rounding in BOTH {
        let imported = import::read(path, &Options { tflite: rounding, approximate, ..Options::default() });
        let imported = imported.expect("the file is imported");
        assert!(imported.network.architecture().rounding.is_some());
        eprintln!("{}, {images} images:\n{}", path.display(), imported.report);
        compare(&case, rounding, &imported);
    }
}
