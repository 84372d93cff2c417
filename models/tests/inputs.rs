//! What people hand over to an imported network: arrays of every type, shape and order, rows, grey levels; against ONNX Runtime and
//! LiteRT where Python is at hand.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use lowkey_models::coding::{Coding, Dtype, InputStep, Order, RoundingMode, Rule};
use lowkey_models::import::{self, Options, Preprocessing, tflite};
use lowkey_models::{DataProblem, Input, Inputs, quantise};
use serde_json::Value;

/// `numpy.save`.
fn npy(kind: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// Integers as numpy stores them in a type like "<i2".
fn integers(kind: &str, values: &[i64]) -> Vec<u8> {
    let (order, size) = (kind.as_bytes()[0], usize::from(kind.as_bytes()[2] - b'0'));
    let word = |v: &i64| {
        let mut word = v.to_le_bytes()[..size].to_vec();
        if order == b'>' {
            word.reverse();
        }
        word
    };
    values.iter().flat_map(word).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// An input as a file codes it: 2 channels, 2 rows, 3 columns.
fn coded(dtype: Dtype, zero_point: i64, order: Order) -> Input {
    let lowest = dtype.range().lo;
    let dims = if order == Order::ChannelsFirst { vec![2, 2, 3] } else { vec![2, 3, 2] };
    let highest = dtype.range().hi;
    let bits = (highest - lowest + 1).ilog2();
    let coding = Coding {
        dims,
        order,
        dtype,
        lowest,
        highest,
        scale: Some(0.5),
        zero_point,
        steps: Vec::new(),
        rule: Rule::Onnx,
        integers: true,
    };
    Input { shape: [2, 2, 3], bits, zero_point: zero_point - lowest, pixels: None, coding: Some(coding) }
}

/// The values x of the first input, in the network's order.
fn first(file: &[u8], input: &Input) -> Result<Vec<i64>, DataProblem> {
    Ok(Inputs::from_bytes(file, input)?.get(0).expect("an input").iter().copied().collect())
}

/// From channels, rows, columns to rows, columns, channels.
fn channels_last<T: Copy>(values: &[T]) -> Vec<T> {
    (0..6).flat_map(|place| [values[place], values[6 + place]]).collect()
}

const TYPES: [&str; 14] =
    ["|i1", "|u1", "<i2", ">i2", "<u2", ">u2", "<i4", ">i4", "<u4", ">u4", "<i8", ">i8", "<u8", ">u8"];

/// The matrix: types of the file x types of the array x orders x shapes. An array is q of the file, or it is refused; never is it shifted.
#[test]
fn integers_are_the_files_own_quantised_tensor() {
    let mut read = 0;
    for dtype in [Dtype::Int(8), Dtype::Uint(8), Dtype::Int(4), Dtype::Uint(4), Dtype::Uint(1)] {
        for order in [Order::ChannelsFirst, Order::ChannelsLast] {
            let range = dtype.range();
            let zero_point = (range.lo + 1).min(range.hi);
            let input = coded(dtype, zero_point, order);
            // Bytes are q; wider integers count from the smallest. Values that are never negative too, so that a shift would go unnoticed.
            for low in [range.lo, range.lo.max(0)] {
                let q: Vec<i64> = (0..12).map(|i| (low + i * (range.hi - low) / 11).clamp(low, range.hi)).collect();
                let wanted: Vec<i64> = q.iter().map(|q| q - zero_point).collect();
                let dims = input.coding.as_ref().unwrap().dims.clone();
                for kind in TYPES {
                    let (signed, size) = (kind.as_bytes()[1] == b'i', u32::from(kind.as_bytes()[2] - b'0'));
                    let holds = size > 1 || if signed { range.hi < 128 } else { range.lo >= 0 };
                    let stored: Vec<i64> = q.iter().map(|q| if size == 1 { *q } else { q - range.lo }).collect();
                    let stored = if order == Order::ChannelsLast { channels_last(&stored) } else { stored };
                    for shape in [dims.clone(), [&[1], &dims[..]].concat()] {
                        let found = first(&npy(kind, &shape, &integers(kind, &stored)), &input);
                        if holds {
                            assert_eq!(found.unwrap(), wanted, "{dtype} from {kind} {shape:?}");
                            read += 1;
                        } else {
                            let error = found.unwrap_err();
                            assert!(matches!(error, DataProblem::Type { .. }), "{dtype} from {kind}: {error}");
                            let text = error.to_string();
                            assert!(
                                text.contains(&format!("the network reads {dtype} (its quantised input")),
                                "{text}"
                            );
                        }
                    }
                }
            }
        }
    }
    assert!(read > 300, "{read}");
}

#[test]
fn values_that_the_type_does_not_have_are_refused() {
    let input = coded(Dtype::Int(8), 3, Order::ChannelsFirst);
    for value in [-129, 128, i64::MAX, i64::MIN] {
        let mut values = vec![0; 12];
        values[7] = value;
        let error = first(&npy("<i8", &[1, 2, 2, 3], &integers("<i8", &values)), &input);
        let Err(error) = error else {
            assert_eq!(value, 128, "it counts from 0");
            continue;
        };
        assert_eq!(error.to_string(), format!("it holds the value {value}, the network reads 0..=255"));
    }
    // Wider integers are never read as something else in silence.
    let file = npy("<i4", &[1, 2, 2, 3], &[0; 48]);
    let note = Inputs::from_bytes(&file, &input).unwrap().note().map(str::to_owned).unwrap();
    assert_eq!(
        note,
        "int32 values count from 0, the smallest int8 -128; an array of int8 holds the int8 values themselves"
    );
    assert_eq!(Inputs::from_bytes(&npy("|i1", &[2, 2, 3], &[0; 12]), &input).unwrap().note(), None);
    let narrow = coded(Dtype::Int(4), 0, Order::ChannelsFirst);
    let error = first(&npy("|i1", &[2, 2, 3], &[9; 12]), &narrow).unwrap_err();
    assert_eq!(error.to_string(), "it holds the value 9, the network reads -8..=7");
    let huge = npy("<u8", &[1, 2, 2, 3], &[255; 96]);
    let input = coded(Dtype::Uint(8), 3, Order::ChannelsFirst);
    assert!(matches!(first(&huge, &input), Err(DataProblem::Value { value: i64::MAX, lo: 0, hi: 255 })));
}

/// The shapes of the runtime and no others, in words.
#[test]
fn shapes_are_the_runtimes() {
    let ask = |shape: &[usize], order| {
        let count: usize = shape.iter().product();
        let input = coded(Dtype::Uint(8), 0, order);
        let file = npy("|u1", shape, &vec![1; count]);
        Inputs::from_bytes(&file, &input).map(|inputs| inputs.len()).map_err(|error| error.to_string())
    };
    use Order::{ChannelsFirst as Nchw, ChannelsLast as Nhwc};
    assert_eq!(ask(&[2, 2, 3], Nchw), Ok(1));
    assert_eq!(ask(&[1, 2, 2, 3], Nchw), Ok(1));
    assert_eq!(ask(&[7, 2, 2, 3], Nchw), Ok(7));
    assert_eq!(ask(&[7, 2, 3, 2], Nhwc), Ok(7));
    let wrong = ask(&[1, 2, 3, 2], Nchw).unwrap_err();
    let reads = "the network reads N x 2 x 2 x 3 (batch x channels x height x width)";
    assert_eq!(wrong, format!("it holds 1 x 2 x 3 x 2, {reads}; the channels must come first"));
    let wrong = ask(&[1, 2, 2, 3], Nhwc).unwrap_err();
    let reads = "the network reads N x 2 x 3 x 2 (batch x height x width x channels)";
    assert_eq!(wrong, format!("it holds 1 x 2 x 2 x 3, {reads}; the channels must come last"));
    for shape in [&[12][..], &[1, 12], &[2, 3], &[1, 1, 2, 2, 3], &[]] {
        assert!(ask(shape, Nchw).unwrap_err().contains("the network reads N x 2 x 2 x 3"), "{shape:?}");
        assert!(ask(shape, Nhwc).unwrap_err().contains("the network reads N x 2 x 3 x 2"), "{shape:?}");
    }
    assert_eq!(ask(&[0, 2, 2, 3], Nchw).unwrap_err(), "it holds no inputs");
}

#[test]
fn a_clip_behind_the_quantiser_moves_nothing() {
    // uint8 with zero point 100, clipped to 96..=111: 16 levels.
    let mut input = coded(Dtype::Uint(8), 100, Order::ChannelsFirst);
    let coding = input.coding.as_mut().unwrap();
    (coding.lowest, coding.highest) = (96, 111);
    (input.bits, input.zero_point) = (4, 4);
    let q = [0, 95, 96, 97, 100, 103, 110, 111, 112, 200, 255, 101];
    let wanted: Vec<i64> = q.iter().map(|q: &i64| q.clamp(&96, &111) - 100).collect();
    assert_eq!(first(&npy("|u1", &[2, 2, 3], &integers("|u1", &q)), &input).unwrap(), wanted);
}

#[test]
fn bipolar_values_are_signs() {
    let mut input = coded(Dtype::Uint(1), 0, Order::ChannelsFirst);
    let coding = input.coding.as_mut().unwrap();
    (coding.dtype, coding.lowest, coding.highest, coding.rule) = (Dtype::Bipolar, -1, 1, Rule::Sign);
    let wanted = [0, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1, 0];
    let signs = wanted.map(|y| 2 * y - 1);
    assert_eq!(first(&npy("|i1", &[2, 2, 3], &integers("|i1", &signs)), &input).unwrap(), wanted);
    assert_eq!(first(&npy("<i8", &[2, 2, 3], &integers("<i8", &wanted)), &input).unwrap(), wanted);
    let real = signs.map(|sign| 0.25 * sign as f32);
    assert_eq!(first(&npy("<f4", &[2, 2, 3], &floats(&real)), &input).unwrap(), wanted);
    assert!(matches!(
        first(&npy("|i1", &[2, 2, 3], &[0; 12]), &input),
        Err(DataProblem::Value { value: 0, lo: -1, hi: 1 })
    ));
    assert!(matches!(first(&npy("|u1", &[2, 2, 3], &[1; 12]), &input), Err(DataProblem::Type { .. })));
}

#[test]
fn floats_are_quantised_as_the_file_does_it() {
    for (rule, ties) in [
        (Rule::Onnx, [0, 2, 2, 4, 0, -2, -2, -4]),
        (Rule::Litert, [1, 2, 3, 4, -1, -2, -3, -4]),
        (Rule::Xnnpack, [0, 2, 2, 4, 0, -2, -2, -4]),
        (Rule::Qonnx(RoundingMode::Floor), [0, 1, 2, 3, -1, -2, -3, -4]),
        (Rule::Qonnx(RoundingMode::Ceil), [1, 2, 3, 4, 0, -1, -2, -3]),
    ] {
        let mut input = coded(Dtype::Int(8), -5, Order::ChannelsLast);
        input.coding.as_mut().unwrap().rule = rule;
        let mut values = vec![0.25, 0.75, 1.25, 1.75, -0.25, -0.75, -1.25, -1.75];
        values.extend([1e30, f32::NEG_INFINITY, 3.0, 0.0]);
        let wanted: Vec<i64> = ties.into_iter().chain([132, -123, 6, 0]).collect();
        let file = npy("<f4", &[1, 2, 3, 2], &floats(&channels_last(&values)));
        assert_eq!(first(&file, &input).unwrap(), wanted, "{rule:?}");
        let double: Vec<u8> = channels_last(&values).iter().flat_map(|&v| f64::from(v).to_be_bytes()).collect();
        assert_eq!(first(&npy(">f8", &[2, 3, 2], &double), &input).unwrap(), wanted);
        values[3] = f32::NAN;
        let file = npy("<f4", &[1, 2, 3, 2], &floats(&channels_last(&values)));
        assert!(matches!(first(&file, &input), Err(DataProblem::NotANumber)));
        input.coding.as_mut().unwrap().scale = None;
        let error = first(&file, &input).unwrap_err().to_string();
        assert_eq!(error, "it holds float32, the network reads int8 (its quantised input): its file gives no scale");
    }
}

#[test]
fn steps_before_the_quantiser_are_taken_by_channel() {
    let mut input = coded(Dtype::Uint(8), 0, Order::ChannelsLast);
    let coding = input.coding.as_mut().unwrap();
    coding.steps = vec![
        InputStep::Sub(vec![1.0, 2.0]),
        InputStep::Div(vec![0.5]),
        InputStep::Mul(vec![1.0, 2.0]),
        InputStep::Add(vec![1.0]),
    ];
    coding.steps.push(InputStep::From(vec![100.0]));
    let file = npy("<f4", &[2, 3, 2], &floats(&[3.0; 12]));
    let [a, b] = [100.0 - (4.0 + 1.0), 100.0 - (2.0 * 2.0 + 1.0)].map(|v: f32| (v / 0.5) as i64);
    assert_eq!(first(&file, &input).unwrap(), [[a; 6], [b; 6]].concat());
}

#[test]
fn a_clip_before_the_quantiser_keeps_what_is_no_number() {
    let mut input = coded(Dtype::Uint(8), 0, Order::ChannelsFirst);
    input.coding.as_mut().unwrap().steps = vec![InputStep::Clip { low: Some(1.0), high: Some(6.0) }];
    let of = |v: f32| first(&npy("<f4", &[2, 2, 3], &floats(&[v; 12])), &input);
    assert_eq!([0.5, 1.5, 7.0].map(|v| of(v).unwrap()[0]), [2, 3, 12]);
    assert_eq!(of(f32::INFINITY).unwrap()[0], 12);
    assert!(of(f32::NAN).unwrap_err().to_string().contains("not a number"));
}

#[test]
fn rows_of_a_table() {
    let mut input = coded(Dtype::Uint(8), 10, Order::ChannelsFirst);
    input.shape = [3, 1, 1];
    input.coding.as_mut().unwrap().dims = vec![3];
    let rows = |text: &str| -> Result<Vec<Vec<i64>>, String> {
        let inputs = Inputs::from_bytes(text.as_bytes(), &input).map_err(|error| error.to_string())?;
        Ok(inputs.iter().map(|x| x.iter().copied().collect()).collect())
    };
    let wanted = Ok(vec![vec![2, -3, 0], vec![1, 245, -10]]);
    assert_eq!(rows("1.0,-1.5,0\n0.5,1e9,-77\n"), wanted);
    assert_eq!(rows("a,b,c\r\n1.0,-1.5,0\r\n\r\n0.5,1e9,-77"), wanted);
    assert_eq!(rows("\u{feff}\"height\";\"width\";\"x\"\n1.0; -1.5; 0\n\"0.5\";1e9;-77"), wanted);
    assert_eq!(rows("1.0\t-1.5\t0\n0.5\t1e9\t-77"), wanted);
    assert_eq!(rows("a,b,c\n1,2\n").unwrap_err(), "line 2: 2 numbers, the network reads 3");
    assert_eq!(rows("1,2,3\n1,x,3\n").unwrap_err(), "line 2: \"x\" is no number");
    assert_eq!(rows("1,2,nan\n").unwrap_err(), "it holds a value that is not a number");
    assert_eq!(rows("words only\n").unwrap_err(), "none of PNG, JPEG, IDX (as MNIST has it, .gz too), NPY and CSV");
    // Without a file behind it a network reads integers y.
    input.coding = None;
    let rows = |text: &str| Inputs::from_bytes(text.as_bytes(), &input).map(|all| all.get(0).unwrap());
    assert_eq!(rows("0,10,255").unwrap().as_slice().unwrap(), [-10, 0, 245]);
    assert_eq!(rows("0,1.5,2").unwrap_err().to_string(), "line 1: 1.5, but the network reads integers 0..=255");
    assert!(matches!(rows("0,1,256").unwrap_err(), DataProblem::Value { value: 256, lo: 0, hi: 255 }));
}

/// What the coding says of itself fits a terminal.
#[test]
fn codings_are_lines_of_80_columns() {
    let mut input = coded(Dtype::Int(8), -128, Order::ChannelsLast);
    let coding = input.coding.as_mut().unwrap();
    assert_eq!(coding.to_string(), "int8 [N,2,3,2] NHWC, scale 0.5, zero point -128");
    (coding.integers, coding.scale, coding.dims) = (false, Some(0.003_921_569), vec![224, 224, 3]);
    let line = coding.to_string();
    assert_eq!(line, "float32 [N,224,224,3] NHWC as int8, scale 0.003921569, zero point -128");
    assert!("input: ".len() + line.len() <= 80);
    coding.scale = None;
    assert!(coding.to_string().ends_with("no scale, zero point -128"));
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Files and cases that a script writes.
fn cases(python: &Path, script: &str, count: usize) -> (tempfile::TempDir, Vec<(PathBuf, Value)>) {
    let folder = tempfile::tempdir().expect("a folder");
    let seed = std::env::var("LOWKEY_SEED").unwrap_or_else(|_| "1".into());
    let mut command = Command::new(python);
    command.env("TF_CPP_MIN_LOG_LEVEL", "3").args(["-W", "ignore"]).arg(here(script)).arg(folder.path());
    let output = command.args([&seed, &count.to_string()]).output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let case = |number: usize| {
        let path = folder.path().join(number.to_string());
        let text = std::fs::read(path.with_extension("json")).expect("a case");
        (path, serde_json::from_slice(&text).expect("valid JSON"))
    };
    let cases = (0..count).map(case).collect();
    (folder, cases)
}

fn numbers(case: &Value, name: &str) -> Vec<i64> {
    case[name].as_array().expect("a list").iter().map(|v| v.as_i64().expect("an integer")).collect()
}

/// Numbers that a case has as their bits.
fn reals(case: &Value, name: &str) -> Vec<f32> {
    numbers(case, name).iter().map(|&bits| f32::from_bits(bits as u32)).collect()
}

/// All 256 grey levels under many means, deviations and scales, and floats at ties: bit-equal to numpy and ONNX Runtime.
#[test]
fn grey_levels_and_floats_equal_onnxruntime() {
    let Some(python) = common::oracle::onnx() else { return };
    let (_folder, cases) = cases(python, "tests/oracle/onnx/inputs.py", 60);
    for (path, case) in &cases {
        let list = |name: &str| case[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
        let (scale, over) = (1.0, case["over"].as_f64().unwrap() as f32);
        let preprocessing = Preprocessing { scale, over, mean: list("mean"), std: list("std") };
        let options = Options { preprocessing: Some(preprocessing), ..Options::default() };
        let imported = import::read(path.with_extension("onnx"), &options).expect("the file is imported");
        let network = imported.network;
        let input = &network.architecture().input;
        let coding = input.coding.as_ref().expect("a coding");
        let [channels, ..] = input.shape;
        // Pixels.
        let q = numbers(case, "q");
        for (channel, q) in q.chunks(256).enumerate() {
            let found: Vec<i64> = (0..=255).map(|p| quantise(p, channel, input) + coding.zero_point).collect();
            assert_eq!(found, q, "{} channel {channel}", path.display());
        }
        // Floats, and the file's own integers, through the network.
        for name in ["values", "more"] {
            let q = numbers(case, if name == "values" { "q" } else { "more_q" });
            let file = npy("<f4", &[1, channels, 16, 16], &floats(&reals(case, name)));
            let inputs = Inputs::from_bytes(&file, input).expect("floats are read");
            let kind = if coding.dtype == Dtype::Uint(8) { "|u1" } else { "|i1" };
            let own = Inputs::from_bytes(&npy(kind, &[channels, 16, 16], &integers(kind, &q)), input);
            assert_eq!(inputs.get(0), own.expect("integers are read").get(0), "{} {name}", path.display());
            let output: Vec<i64> = network.run(&inputs.get(0).unwrap()).unwrap().iter().copied().collect();
            assert_eq!(network.architecture().quantised(&output).expect("a quantised output"), q);
            let unit = coding.scale.unwrap();
            let real: Vec<f64> = q.iter().map(|q| f64::from((q - coding.zero_point) as f32 * unit)).collect();
            assert_eq!(network.architecture().outputs(&output).expect("a known unit"), real);
        }
    }
}

/// Files that do something before they quantise: casts of bytes, other orders, normalisations, powers: bit-equal to ONNX Runtime.
#[test]
fn what_is_done_before_the_quantiser_equals_onnxruntime() {
    let Some(python) = common::oracle::onnx() else { return };
    let (_folder, cases) = cases(python, "tests/oracle/onnx/before.py", 80);
    let mut compared = 0;
    for (path, case) in &cases {
        let kind = case["kind"].as_str().expect("a kind");
        let imported = import::read(path.with_extension("onnx"), &Options::default());
        if case["refused"] == true {
            let text = imported.expect_err(kind).to_string();
            let words = match kind {
                "image" => "numbers for other than each channel before the quantiser",
                "root" => "a power that is neither 2 nor 3",
                _ => "Sqrt \"t0\": it reads the graph's input, which nothing has quantised",
            };
            assert!(text.contains(words), "{kind}: {text}");
            continue;
        }
        let network = imported.unwrap_or_else(|error| panic!("{kind}: {error}")).network;
        let input = &network.architecture().input;
        let coding = input.coding.as_ref().expect("a coding");
        let shape: Vec<usize> = numbers(case, "shape").iter().map(|&n| n as usize).collect();
        let (x, y, dtype) = (numbers(case, "x"), numbers(case, "y"), case["type"].as_str().expect("a type"));
        let data = if dtype == "<f4" { floats(&reals(case, "x")) } else { integers(dtype, &x) };
        let inputs = Inputs::from_bytes(&npy(dtype, &shape, &data), input).unwrap_or_else(|e| panic!("{kind}: {e}"));
        let output: Vec<i64> = network.run(&inputs.get(0).unwrap()).unwrap().iter().copied().collect();
        assert_eq!(network.architecture().quantised(&output).expect("a quantised output"), y, "{kind} {coding}");
        compared += y.len();
        assert_eq!(coding.order == Order::ChannelsLast, kind.contains("nhwc") || kind == "length", "{kind}");
        if dtype == "|u1" {
            // Pixels are the file's own input; nothing else is.
            for (channel, y) in y.chunks(256).enumerate() {
                let found: Vec<i64> = (0..=255).map(|p| quantise(p, channel, input) + coding.zero_point).collect();
                assert_eq!(found, y, "{kind} channel {channel}");
            }
            let line = coding.to_string();
            assert!(line.starts_with("uint8 [N,") && line.contains(" as uint8, scale "), "{line}");
            let file = npy("<f4", &shape, &floats(&vec![0.0; x.len()]));
            let error = Inputs::from_bytes(&file, input).expect_err("floats").to_string();
            assert!(error.contains("the network reads uint8, which its file makes real numbers of"), "{error}");
            let preprocessing = Preprocessing { scale: 1.0, over: 255.0, mean: vec![0.0], std: vec![1.0] };
            let options = Options { preprocessing: Some(preprocessing), ..Options::default() };
            let error = import::read(path.with_extension("onnx"), &options).expect_err("twice").to_string();
            assert!(error.contains("give no preprocessing of pixels"), "{error}");
        }
    }
    eprintln!("before the quantiser: {compared} values compared");
    assert!(compared > 10_000);
}

/// Several outputs are one vector, and the report says which is where; the index of the largest is the class.
#[test]
fn several_outputs_are_one_vector() {
    let Some(python) = common::oracle::onnx() else { return };
    let (_folder, cases) = cases(python, "tests/oracle/onnx/several.py", 66);
    let mut compared = 0;
    for (path, case) in &cases {
        let kind = case["kind"].as_str().expect("a kind");
        let imported = import::read(path.with_extension("onnx"), &Options::default());
        if kind == "middle" {
            let text = imported.expect_err(kind).to_string();
            assert!(text.contains("it is not the last operation"), "{text}");
            continue;
        }
        let imported = imported.unwrap_or_else(|error| panic!("{kind}: {error}"));
        let (network, notes) = (imported.network, &imported.report.notes);
        let architecture = network.architecture();
        // A second output of the same values is not left out without a word.
        let once = notes.iter().any(|note| note.ends_with(": the network answers these once"));
        assert_eq!(once, matches!(kind, "softmax" | "topk_both"), "{kind}");
        // "the output is one vector: NAME [1, 3] of scale S (...); ..."
        let note = notes.iter().find_map(|note| note.strip_prefix("the output is one vector: "));
        let scale = |part: &str| -> f64 {
            let text = part.split(" of scale ").nth(1).expect("a scale");
            text.split([' ', ',']).next().expect("a number").parse().expect("a number")
        };
        let scales: Vec<f64> = match note {
            Some(note) => note.split("; ").map(scale).collect(),
            None => vec![architecture.output_scale.expect("a unit")],
        };
        if kind == "softmaxes" {
            let note = note.expect("it has several");
            assert!(note.contains(", softmax") && note.to_lowercase().matches("softmax").count() == 2, "{note}");
        }
        for (q, wanted) in case["inputs"].as_array().unwrap().iter().zip(case["outputs"].as_array().unwrap()) {
            let q: Vec<i64> = q.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
            let dims = [&[1], &architecture.input.coding.as_ref().unwrap().dims[..]].concat();
            let inputs = Inputs::from_bytes(&npy("|u1", &dims, &integers("|u1", &q)), &architecture.input);
            let found: Vec<i64> =
                network.run(&inputs.expect("integers").get(0).unwrap()).unwrap().iter().copied().collect();
            // One image, channels last in the file.
            let found = if kind == "turned" { architecture.ordered(&found) } else { found };
            let wanted: Vec<Vec<f64>> = wanted
                .as_array()
                .unwrap()
                .iter()
                .map(|part| part.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect())
                .collect();
            if kind.starts_with("topk") {
                assert_eq!(architecture.class_of(&found).map(|class| class as f64), Some(wanted[0][0]), "{kind}");
                compared += 1;
                continue;
            }
            let mut values: Vec<Vec<f64>> = Vec::new();
            let mut rest = &found[..];
            for (part, scale) in wanted.iter().zip(&scales) {
                let (own, others) = rest.split_at(part.len());
                values.push(own.iter().map(|&z| z as f64 * scale).collect());
                rest = others;
            }
            assert!(rest.is_empty() && values.len() == wanted.len(), "{kind}: {found:?}");
            if kind == "softmaxes" {
                let sum = |values: &[f64]| values.iter().map(|v| v.exp()).sum::<f64>();
                let [a, b] = [sum(&values[0]), sum(&values[1])];
                values[0].iter_mut().for_each(|v| *v = v.exp() / a);
                values[1].iter_mut().for_each(|v| *v -= b.ln());
            }
            for (found, wanted) in values.iter().flatten().zip(wanted.iter().flatten()) {
                assert!((found - wanted).abs() <= 2e-5 * wanted.abs().max(1.0), "{kind}: {found}, not {wanted}");
                compared += 1;
            }
        }
    }
    eprintln!("several outputs: {} graphs, {compared} values compared", cases.len());
}

/// Floats at ties, as the reference kernels and as XNNPACK quantise them, channels last.
#[test]
fn floats_equal_litert() {
    let Some(python) = common::oracle::tflite() else { return };
    let (_folder, cases) = cases(python, "tests/oracle/tflite/inputs.py", 40);
    for (path, case) in &cases {
        for (kind, rounding) in [("double", tflite::Kernels::Double), ("single", tflite::Kernels::Single)] {
            let options = Options { tflite: rounding, ..Options::default() };
            let imported = import::read(path.with_extension("tflite"), &options).expect("the file is imported");
            let network = imported.network;
            let input = &network.architecture().input;
            let q = numbers(case, kind);
            let file = npy("<f4", &[1, 16, 16, input.shape[0]], &floats(&reals(case, "values")));
            let inputs = Inputs::from_bytes(&file, input).expect("floats are read");
            let output: Vec<i64> = network.run(&inputs.get(0).unwrap()).unwrap().iter().copied().collect();
            assert_eq!(network.architecture().quantised(&output).expect("a quantised output"), q, "{kind}");
        }
    }
}

/// Files that end in an arg max, a softmax, a sigmoid, a quantised tensor: the answer is ONNX Runtime's, and so is the class.
#[test]
fn answers_are_what_the_file_computes() {
    let Some(python) = common::oracle::onnx() else { return };
    let (_folder, cases) = cases(python, "tests/oracle/onnx/answers.py", 84);
    for (path, case) in &cases {
        let kind = case["kind"].as_str().expect("a kind");
        let imported = import::read(path.with_extension("onnx"), &Options::default()).expect("the file is imported");
        let network = imported.network;
        let architecture = network.architecture();
        let input = &architecture.input;
        let all = case["inputs"].as_array().unwrap().iter().zip(case["outputs"].as_array().unwrap());
        for (index, (q, wanted)) in all.enumerate() {
            let q: Vec<i64> = q.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
            let wanted: Vec<f64> = wanted.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            let dims = [&[1], &input.coding.as_ref().unwrap().dims[..]].concat();
            let inputs =
                Inputs::from_bytes(&npy("<i8", &dims, &integers("<i8", &q)), input).expect("integers are read");
            let logits: Vec<i64> = network.run(&inputs.get(0).unwrap()).unwrap().iter().copied().collect();
            let found = match kind {
                "quantised" | "quantised_image" | "qlinear" => {
                    let found = architecture.quantised(&logits).expect("a quantised output");
                    assert!(architecture.outputs(&logits).is_some(), "{kind}: the unit is known");
                    found.iter().map(|&q| q as f64).collect()
                }
                "argmax" | "argmax_last" | "argmax_keep" | "softmax_argmax" => {
                    vec![architecture.class_of(&logits).expect("a class") as f64]
                }
                _ => architecture.outputs(&logits).expect("a known unit"),
            };
            assert_eq!(found.len(), wanted.len(), "{kind}");
            let exact = kind.starts_with("arg") || kind.contains("quant") || kind == "qlinear";
            for (found, wanted) in found.iter().zip(&wanted) {
                // What is added at the end is rounded to parts of the unit.
                let rounded = if kind == "scaled" { 0.05 * 1.7 / 4096.0 } else { 0.0 };
                let tolerance = if exact { 0.0 } else { rounded + 2e-6 * wanted.abs().max(1.0) };
                assert!((found - wanted).abs() <= tolerance, "{kind} {index}: {found} instead of {wanted}");
            }
            let class = architecture.class_of(&logits);
            match case["classes"].get(index) {
                Some(wanted) => assert_eq!(class, wanted.as_u64().map(|class| class as usize), "{kind}"),
                None if kind == "one" || kind.contains("image") || kind == "qlinear" => {
                    assert_eq!(class, None, "{kind}")
                }
                None => assert_eq!(class, Some(lowkey_models::argmax(&network.run(&inputs.get(0).unwrap()).unwrap()))),
            }
        }
        // `--reveal class` opens the index of the largest, the first of equals: nothing else is called a class by it.
        let outputs = network.tensors()[architecture.output].elements();
        let plain = matches!(
            kind,
            "argmax"
                | "argmax_keep"
                | "softmax"
                | "softmax_argmax"
                | "log_softmax"
                | "tanh"
                | "sigmoid"
                | "quantised"
                | "dequantised"
                | "scaled"
                | "negated"
                | "complement"
        );
        assert_eq!(architecture.class_rule(outputs).not_revealed().is_none(), plain, "{kind}");
    }
}
