//! Imported ONNX networks against ONNX Runtime and the QONNX executor, integer by integer.
//!
//! The graphs are random; Python writes and runs them in an environment under `target/oracles`, which is made when it is missing.
//! Without Python or a network the tests say so and pass; `LOWKEY_ORACLES=0` leaves them out. `LOWKEY_SEED` repeats a run,
//! `LOWKEY_CASES` says how many graphs of each dialect there are.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use lowkey_models::coding::Order;
use lowkey_models::import::onnx::Kernels;
use lowkey_models::import::{self, ImportProblem, Imported, Options};
use lowkey_models::interpret::Tensor;
use serde_json::Value;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn list<'v>(value: &'v Value, name: &str) -> &'v Vec<Value> {
    value[name].as_array().expect("a list")
}

/// How many graphs were compared, and how many of their outputs.
#[derive(Debug, Default)]
struct Counts {
    graphs: usize,
    outputs: usize,
    differ: usize,
    /// The largest difference, in units of the outputs.
    largest: f64,
}

/// Runs the network on the inputs of a case; the outputs are as the runtime's, but for half a unit where those are floats. Returns how
/// many outputs differ, which none may where equality was promised, and by how much.
fn compare(imported: &Imported, case: &Value, what: &str, promised: bool) -> (usize, f64) {
    let (mut differ, mut largest) = (0, 0.0f64);
    let network = &imported.network;
    let shape = network.architecture().input.shape;
    let exact = case["exact"].as_bool().expect("a flag");
    for (input, wanted) in list(case, "inputs").iter().zip(list(case, "outputs")) {
        let values = input.as_array().expect("a list").iter().map(|v| v.as_i64().expect("an integer")).collect();
        let input = Tensor::from_shape_vec(shape, values).unwrap_or_else(|error| panic!("{what}: {error}"));
        let output = network.run(&input).unwrap_or_else(|error| panic!("{what}: {error}"));
        let wanted: Vec<f64> =
            wanted.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect();
        assert_eq!(output.len(), wanted.len(), "{what}");
        let most = wanted.iter().fold(0.0f64, |most, y| most.max(y.abs()));
        let coding = network.architecture().output_coding.as_ref();
        let files = coding.filter(|coding| coding.order == Order::ChannelsLast || !coding.ends.is_empty());
        if files.is_some() && !exact {
            // What the client makes of them.
            let logits: Vec<i64> = output.iter().copied().collect();
            let found = network.architecture().outputs(&logits).expect("outputs have a unit");
            let unit = (0..found.len()).filter_map(|at| common::oracle::unit_of(network, at, found.len()));
            let tolerance = 0.51 * unit.fold(0.0, f64::max) + 1e-5 * most;
            for (at, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                assert!((found - wanted).abs() <= tolerance, "{what}: output {at} is {found}, not {wanted}");
            }
            continue;
        }
        for (at, (found, wanted)) in output.iter().zip(&wanted).enumerate() {
            let declared = || common::oracle::unit_of(network, at, output.len()).expect("outputs have a unit");
            let unit = if exact { 1.0 } else { declared() };
            // Float outputs are sums of products with float units: their error is a part of the largest.
            let tolerance = if exact { 0.0 } else { 0.51 * unit + 1e-5 * most };
            let apart = (*found as f64 * unit - wanted).abs();
            let near = apart <= tolerance;
            differ += usize::from(!near);
            largest = largest.max(if near { 0.0 } else { apart / unit });
            assert!(
                near || !promised,
                "{what}: output {at} is {found}, not {wanted}\n{}{:#?}",
                imported.report,
                network.architecture()
            );
        }
    }
    (differ, largest)
}

/// A folder with `count` random graphs and their cases.
fn generated(name: &str, seed: u64, count: u64) -> Option<tempfile::TempDir> {
    generated_for(Kernels::X86, name, seed, count)
}

/// The same where ONNX Runtime has other kernels.
fn generated_for(kernels: Kernels, name: &str, seed: u64, count: u64) -> Option<tempfile::TempDir> {
    let python = common::oracle::onnx()?;
    eprintln!("{name}: seed {seed}, {count} graphs");
    let folder = tempfile::tempdir().expect("a folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/onnx/generate.py");
    let mut command = Command::new(python);
    command.arg(script).arg(name).args([seed.to_string(), count.to_string()]).arg(folder.path());
    if kernels == Kernels::Int8 {
        command.env("LOWKEY_INT8", "1");
    }
    let output = command.output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(folder)
}

/// Case `index` of a folder.
fn case(folder: &Path, index: u64) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(format!("{index}.json"))).expect("a case")).expect("valid JSON")
}

/// Imports `count` random graphs and compares them; returns why some were refused, and what was compared.
fn dialect(name: &str, count: u64, options: &Options) -> Option<(Vec<String>, Counts)> {
    let (seed, count) = (number("LOWKEY_SEED", 1), number("LOWKEY_CASES", count));
    let folder = generated_for(options.onnx, name, seed, count)?;
    let mut refused = Vec::new();
    let (mut noted, mut counts) = (0, Counts::default());
    for index in 0..count {
        let what = format!("{name}, seed {seed}, graph {index}");
        let case = case(folder.path(), index);
        match import::read(folder.path().join(format!("{index}.onnx")), options) {
            Ok(imported) => {
                let (wrong, largest) = compare(&imported, &case, &what, !options.approximate);
                noted += usize::from(wrong > 0);
                counts.graphs += 1;
                counts.outputs +=
                    list(&case, "outputs").iter().map(|o| o.as_array().map_or(0, Vec::len)).sum::<usize>();
                counts.differ += wrong;
                counts.largest = counts.largest.max(largest);
            }
            Err(error) => match *error.problem {
                ImportProblem::Refused(refusal) => refused.push(format!("{what}: {refusal}")),
                ImportProblem::Unsupported { rows } => refused.push(format!("{what}: {}", rows[0])),
                problem => panic!("{what}: {problem}"),
            },
        }
    }
    let Counts { graphs, outputs, differ, largest } = counts;
    assert!(differ * 20 <= outputs, "{name}, seed {seed}: {differ} of {outputs} outputs differ");
    eprintln!(
        "{name}: {count} graphs, {} refused, {graphs} compared in {outputs} outputs: {} graphs equal, {noted} with {differ} outputs \
         that differ as noted, by {largest} at most",
        refused.len(),
        graphs - noted
    );
    refused.iter().for_each(|reason| eprintln!("  refused: {reason}"));
    Some((refused, counts))
}

/// Imports `count` random graphs; at most `most` percent of them may be refused.
fn check(name: &str, count: u64, options: &Options, most: u64) {
    if let Some((refused, _)) = dialect(name, count, options) {
        let most = most * number("LOWKEY_CASES", count) / 100;
        assert!(refused.len() as u64 <= most, "{refused:#?}");
    }
}

#[test]
fn qdq_graphs_equal_onnxruntime() {
    check("qdq", 60, &Options::default(), 0);
}

#[test]
fn qdq_graphs_with_sums_averages_and_functions_equal_onnxruntime() {
    // Signed bytes that are read twice stay floats on x86.
    check("qdq_extras", 60, &Options::default(), 45);
}

#[test]
fn qcdq_graphs_equal_onnxruntime() {
    // A Relu in front of a quantiser and a clip is not merged: floats decide.
    check("qcdq", 40, &Options::default(), 50);
}

#[test]
fn qoperator_graphs_equal_onnxruntime() {
    check("qoperator", 60, &Options::default(), 10);
}

#[test]
fn qonnx_graphs_equal_the_executor() {
    check("qonnx", 30, &Options::default(), 0);
}

#[test]
fn qonnx_graphs_with_any_scale_are_near_the_executor() {
    check("qonnx_floats", 20, &Options { approximate: true, ..Options::default() }, 10);
}

#[test]
fn networks_of_the_static_quantiser_equal_onnxruntime() {
    for form in ["static_qdq", "static_qoperator"] {
        // As above: residuals of signed bytes.
        check(form, 30, &Options::default(), if form == "static_qdq" { 40 } else { 5 });
    }
}

/// With `session.qdqisint8allowed` ONNX Runtime has integers for signed bytes, however many nodes read them.
#[test]
fn signed_bytes_are_integers_where_onnxruntime_is_told_so() {
    let options = Options { onnx: Kernels::Int8, ..Options::default() };
    // Averages whose results clamp, which no line has.
    let dialects =
        [("qdq", 30, 0), ("qdq_extras", 30, 0), ("static_qdq", 15, 0), ("dedicated", 24, 0), ("averages", 30, 20)];
    for (name, count, most) in dialects {
        check(name, count, &options, most);
    }
}

/// Dense layers of 4096 inputs and outputs, convolutions of 2304 taps, with a scale for each channel.
#[test]
fn wide_layers_equal_onnxruntime() {
    check("wide", 6, &Options::default(), 0);
}

#[test]
fn steps_with_a_number_for_each_channel_equal_onnxruntime() {
    // Every source, step and signs once.
    check("steps", 126, &Options::default(), 0);
}

#[test]
fn sums_and_normalisations_of_all_bytes_equal_onnxruntime() {
    check("ties", 12, &Options::default(), 0);
}

#[test]
fn averages_that_floats_decide_equal_onnxruntime() {
    // Averages of signed bytes that are the file's output, or quantised again, are of floats on x86.
    check("averages", 90, &Options::default(), 14);
}

#[test]
fn graphs_that_move_elements_equal_onnxruntime() {
    // Parts of what nothing has quantised are not joined again along height or width.
    check("moves", 108, &Options::default(), 10);
}

#[test]
fn matrices_on_rows_and_outputs_with_units_of_their_own_equal_onnxruntime() {
    // An activation behind what is added to rows, and what is added behind a matrix that no quantiser follows: floats decide.
    check("rows", 120, &Options::default(), 15);
}

#[test]
fn moved_inputs_and_bounded_or_moved_outputs_equal_onnxruntime() {
    // Means, which floats decide, are every twelfth.
    check("ends", 144, &Options::default(), 10);
}

/// ONNX Runtime makes one of equal quantisers. Unsigned layers are integers then; signed ones, which several nodes read, sums of floats.
#[test]
fn a_quantiser_for_each_reader_is_one() {
    let (seed, count) = (number("LOWKEY_SEED", 1), number("LOWKEY_CASES", 24));
    let Some(folder) = generated("dedicated", seed, count) else { return };
    for index in 0..count {
        let what = format!("dedicated, seed {seed}, graph {index}");
        let (case, path) = (case(folder.path(), index), folder.path().join(format!("{index}.onnx")));
        let read = import::read(&path, &Options::default());
        if case["signed"] == true {
            let error = read.expect_err(&what).to_string();
            assert!(error.contains("signed 8-bit activations") && error.contains("read by several nodes"), "{error}");
        } else {
            compare(&read.unwrap_or_else(|error| panic!("{what}: {error}")), &case, &what, true);
        }
    }
}

#[test]
fn graphs_with_unusual_shapes_equal_onnxruntime() {
    // Factors behind averages of odd counts, and means: floats decide.
    check("shapes", 170, &Options::default(), 5);
}

#[test]
fn products_of_functions_of_one_tensor_equal_onnxruntime() {
    // Differences are sums of floats, which not every pair of scales has as one line.
    check("products", 160, &Options::default(), 10);
}

#[test]
fn functions_before_averages_and_sums_are_within_a_step_of_onnxruntime() {
    let options = Options { approximate: true, ..Options::default() };
    // Every function and what follows it, twice.
    if let Some((refused, counts)) = dialect("functions", 112, &options) {
        assert!(refused.is_empty(), "{refused:#?}");
        assert!(counts.largest <= 1.0 && counts.differ * 1000 <= counts.outputs, "{counts:?}");
    }
}

#[test]
fn integer_dialects_equal_onnxruntime() {
    // Wide multiplied accumulators that no line fits.
    check("integers", 90, &Options::default(), 5);
}

/// Operations between a layer and its quantisers. What is accepted equals the runtime; refused is only what it computes in floats, where
/// accumulators lie halfway between two steps.
#[test]
fn layers_apart_from_their_quantisers_equal_onnxruntime_or_are_refused() {
    let (seed, count) = (number("LOWKEY_SEED", 1), number("LOWKEY_CASES", 240));
    let Some(folder) = generated("between", seed, count) else { return };
    let (mut floats, mut refused, mut proven, mut outputs) = (0, 0, 0, 0);
    for index in 0..count {
        let (case, path) = (case(folder.path(), index), folder.path().join(format!("{index}.onnx")));
        let what = format!("between, seed {seed}, graph {index}: {}", case["what"]);
        let merged = case["merged"].as_bool().expect("a flag");
        floats += usize::from(!merged);
        match import::read(&path, &Options::default()) {
            Ok(imported) => {
                compare(&imported, &case, &what, true);
                proven += usize::from(!merged);
                outputs += list(&case, "outputs").iter().map(|o| o.as_array().map_or(0, Vec::len)).sum::<usize>();
            }
            Err(error) => {
                let text = error.problem.to_string();
                assert!(!merged, "{what}: {text}");
                if text.contains("not quantised") {
                    // An activation that is moved before the layer, or padding of its results.
                    continue;
                }
                assert!(case["ties"] == true, "{what}: {text}");
                // Or the runtime has integers, and no line has its rule.
                let floats = ["in floats, whose order of summation decides", "halfway"];
                let reasons = [&floats[..], &["no multiplier, offset and shift equal"]].concat();
                assert!(reasons.iter().any(|reason| text.contains(reason)), "{what}: {text}");
                let near = import::read(&path, &Options { approximate: true, ..Options::default() });
                let near = match near {
                    Ok(near) => near,
                    // Steps too close to each other to be near anything.
                    Err(error) if error.problem.to_string().contains("no multiplier, offset and shift") => continue,
                    Err(error) => panic!("{what}: {}", error.problem),
                };
                let (_, largest) = compare(&near, &case, &what, false);
                assert!(largest <= 1.0, "{what}: off by {largest}");
                refused += 1;
            }
        }
    }
    eprintln!(
        "between: {count} graphs, {floats} in floats, of these {proven} equal and {refused} refused; {outputs} outputs equal"
    );
    assert!(floats * 4 > count as usize && refused > 10 && proven > 5, "{floats}, {refused}, {proven}");
}

/// What floats decide: refused with why, or within a step, which the report says.
#[test]
fn what_floats_decide_is_refused_or_within_a_step_of_onnxruntime() {
    let (seed, count) = (number("LOWKEY_SEED", 1), number("LOWKEY_CASES", 60));
    let Some(folder) = generated("floats", seed, count) else { return };
    let (mut differ, mut outputs) = (0, 0);
    for index in 0..count {
        let what = format!("floats, seed {seed}, graph {index}");
        let (case, path) = (case(folder.path(), index), folder.path().join(format!("{index}.onnx")));
        let exact = import::read(&path, &Options::default());
        if case["constant"] == true {
            let exact = exact.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(compare(&exact, &case, &what, false), (0, 0.0), "{what}");
            continue;
        }
        let error = exact.expect_err(&what).to_string();
        let words = case["words"].as_str().expect("words");
        assert!(error.contains(words) && error.ends_with("differ by one (approximate)"), "{what}: {error}");
        let near = import::read(&path, &Options { approximate: true, ..Options::default() });
        let near = near.unwrap_or_else(|error| panic!("{what}: {error}"));
        let told = |note: &String| {
            note.contains("may differ by one, the largest error; the mean is ")
                || note.contains("the most that any order")
        };
        assert!(near.report.notes.iter().any(told), "{what}: {}", near.report);
        let (wrong, largest) = compare(&near, &case, &what, false);
        assert!(largest <= 1.0, "{what}: off by {largest}");
        differ += wrong;
        outputs += list(&case, "outputs").iter().map(|o| o.as_array().map_or(0, Vec::len)).sum::<usize>();
    }
    eprintln!("floats: {count} graphs compared in {outputs} outputs, {differ} of them differ, by 1 at most");
    assert!(differ * 50 <= outputs, "{differ} of {outputs} differ");
}

/// Files of your own, in the folder that LOWKEY_ONNX names; those that can't be exact may be approximate.
#[test]
fn files_of_a_folder_equal_their_runtimes() {
    let Some(folder) = std::env::var_os("LOWKEY_ONNX") else { return };
    let Some(python) = common::oracle::onnx() else { return };
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    paths.sort();
    let work = tempfile::tempdir().expect("a folder");
    let mut wrong = Vec::new();
    for path in &paths {
        let case = work.path().join("case.json");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/onnx/run.py");
        let count = number("LOWKEY_CASES", 20).to_string();
        let output =
            Command::new(python).args([&script, path, &case]).args(["1", &count]).output().expect("Python runs");
        let name = path.file_name().expect("a name").to_string_lossy();
        let exact = import::read(path, &Options::default());
        let near = || import::read(path, &Options { approximate: true, ..Options::default() });
        let (promise, imported) = match (&exact, near()) {
            (Ok(_), _) => ("exact", exact),
            (Err(error), near @ Ok(_)) => {
                eprintln!("{name}: {}", error.problem);
                ("approximate", near)
            }
            (_, Err(error)) => {
                wrong.push(format!("{name}: {}", error.problem));
                continue;
            }
        };
        if !output.status.success() {
            wrong.push(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)));
            continue;
        }
        let case: Value = serde_json::from_slice(&std::fs::read(&case).expect("a case")).expect("valid JSON");
        let network = imported.expect("it was imported").network;
        let comparison = common::oracle::compare(&network, &case);
        eprintln!("{name}: {promise}, {comparison:?}");
        if promise == "exact" && comparison.differ > 0 {
            wrong.push(format!("{name}: {comparison:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
