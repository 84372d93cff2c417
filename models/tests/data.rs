//! Inputs from files: every format, every size error, hostile files.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use lowkey_models::data::{MAX_DATA, labels_from_bytes};
use lowkey_models::{DataProblem, Fit, Input, Inputs, Tensor, quantise, read_labels};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

fn input(shape: [usize; 3], bits: u32) -> Input {
    Input { shape, bits, zero_point: 0, pixels: None, coding: None }
}

fn idx(shape: &[u32], data: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, shape.len() as u8];
    shape.iter().for_each(|size| file.extend(size.to_be_bytes()));
    [file, data.to_vec()].concat()
}

fn npy(kind: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn png(colours: png::ColorType, depth: png::BitDepth, width: u32, height: u32, data: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(colours);
    encoder.set_depth(depth);
    if colours == png::ColorType::Indexed {
        encoder.set_palette(vec![1, 2, 3, 4, 5, 6]);
    }
    encoder.write_header().unwrap().write_image_data(data).unwrap();
    file
}

fn grey(width: u32, height: u32, data: &[u8]) -> Vec<u8> {
    png(png::ColorType::Grayscale, png::BitDepth::Eight, width, height, data)
}

fn values(file: &[u8], input: &Input) -> Result<Vec<Vec<i64>>, DataProblem> {
    Ok(Inputs::from_bytes(file, input)?.iter().map(|x| x.iter().copied().collect()).collect())
}

fn message(file: &[u8], input: &Input) -> String {
    Inputs::from_bytes(file, input).expect_err("the file does not suit the network").to_string()
}

#[test]
fn pixels_are_cut_to_the_width_and_moved_by_the_zero_point() {
    for bits in 1..=8 {
        let input = Input { shape: [1, 1, 1], bits, zero_point: 1, pixels: None, coding: None };
        for pixel in 0..=255u8 {
            assert_eq!(quantise(pixel, 0, &input), i64::from(pixel) / (1 << (8 - bits)) - 1);
            assert!(input.range().contains(quantise(pixel, 0, &input)));
        }
    }
    let two = Input { zero_point: 2, ..input([1, 1, 2], 4) };
    assert_eq!(values(&idx(&[1, 1, 2], &[0, 255]), &two).unwrap(), [[-2, 13]]);
}

#[test]
fn a_model_may_say_what_a_pixel_means() {
    let tables: Vec<Vec<u8>> =
        vec![(0..=255).map(|p: u8| p / 100).collect(), (0..=255).map(|p: u8| 3 - p / 64).collect()];
    let input = Input { shape: [2, 1, 2], bits: 2, zero_point: 1, pixels: Some(tables), coding: None };
    assert_eq!(quantise(250, 0, &input), 1);
    assert_eq!(quantise(250, 1, &input), -1);
    // Two images of two channels of two pixels, as IDX.
    let idx =
        [&[0u8, 0, 8, 4, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2][..], &[0, 100, 0, 64, 200, 255, 128, 255]];
    let inputs = Inputs::from_bytes(&idx.concat(), &input).unwrap();
    let of = |index| inputs.get(index).unwrap().iter().copied().collect::<Vec<i64>>();
    assert_eq!([of(0), of(1)], [[-1, 0, 2, 1], [1, 1, 0, -1]]);
}

#[test]
fn idx_pictures_and_labels() {
    let two = idx(&[2, 2, 3], &(0..12).map(|i| 16 * i).collect::<Vec<u8>>());
    let wanted = [(0..6).collect::<Vec<i64>>(), (6..12).collect()];
    assert_eq!(values(&two, &input([1, 2, 3], 4)).unwrap(), wanted);
    assert_eq!(values(&gzip(&two), &input([1, 2, 3], 4)).unwrap(), wanted);
    assert_eq!(labels_from_bytes(&idx(&[3], &[5, 0, 9])).unwrap(), [5, 0, 9]);
    assert_eq!(labels_from_bytes(&gzip(&idx(&[3], &[5, 0, 9]))).unwrap(), [5, 0, 9]);
    assert!(matches!(labels_from_bytes(&two), Err(DataProblem::NotLabels)));
    let colour = idx(&[1, 3, 1, 1], &[16, 32, 48]);
    assert_eq!(values(&colour, &input([3, 1, 1], 4)).unwrap(), [[1, 2, 3]]);
    let other = message(&two, &input([1, 3, 2], 4));
    assert_eq!(other, "it holds 2 x 2 x 3, the network reads 1 x 3 x 2 (channels x height x width)");
    assert!(matches!(values(&idx(&[0, 2, 3], &[]), &input([1, 2, 3], 4)), Err(DataProblem::Empty)));
}

#[test]
fn damaged_idx_headers() {
    let one = input([1, 1, 1], 4);
    for file in [&b"\0\0"[..], b"\0\0\x08", b"\0\0\x08\x03\0\0\0\x01", b"\0\0\x0d\x01\0\0\0\x01\0"] {
        assert!(matches!(Inputs::from_bytes(file, &one), Err(DataProblem::Header { format: "IDX", .. })), "{file:?}");
    }
    assert_eq!(message(&idx(&[2, 1, 1], &[0]), &one), "1 bytes of data, its header says 2");
    assert_eq!(message(&idx(&[1, 1, 1], &[0, 0]), &one), "2 bytes of data, its header says 1");
    let huge = idx(&[u32::MAX; 8], &[]);
    assert!(matches!(Inputs::from_bytes(&huge, &one), Err(DataProblem::Length { wanted: u128::MAX, .. })));
}

#[test]
fn npy_of_every_type_and_shape() {
    let input = input([1, 2, 3], 4);
    let numbers = [0, 1, 2, 3, 4, 15];
    let bytes = |encode: &dyn Fn(i64) -> Vec<u8>| numbers.iter().flat_map(|&v| encode(v)).collect::<Vec<u8>>();
    let files = [
        ("|u1", bytes(&|v| vec![v as u8])),
        ("|i1", bytes(&|v| vec![v as u8])),
        ("<i2", bytes(&|v| (v as i16).to_le_bytes().to_vec())),
        (">i2", bytes(&|v| (v as i16).to_be_bytes().to_vec())),
        ("<i4", bytes(&|v| (v as i32).to_le_bytes().to_vec())),
        (">i4", bytes(&|v| (v as i32).to_be_bytes().to_vec())),
        ("<i8", bytes(&|v| v.to_le_bytes().to_vec())),
        (">i8", bytes(&|v| v.to_be_bytes().to_vec())),
    ];
    for (kind, data) in &files {
        for shape in ["(2, 3)", "(1, 2, 3)", "(1, 1, 2, 3)"] {
            let file = npy(kind, false, shape, data);
            assert_eq!(values(&file, &input).unwrap(), [numbers], "{kind} {shape}");
            assert_eq!(values(&gzip(&file), &input).unwrap(), [numbers]);
        }
    }
    // Columns first: [[0, 2, 4], [1, 3, 15]].
    assert_eq!(values(&npy("|u1", true, "(2, 3)", &files[0].1), &input).unwrap(), [[0, 2, 4, 1, 3, 15]]);
    let batch = npy("|u1", true, "(2, 1, 1, 2)", &[1, 2, 3, 4]);
    let row = Input { shape: [1, 1, 2], ..input.clone() };
    assert_eq!(values(&batch, &row).unwrap(), [[1, 3], [2, 4]]);
    let flat = Input { shape: [2, 1, 1], ..input.clone() };
    assert_eq!(values(&npy("|u1", false, "(2,)", &[1, 2]), &flat).unwrap(), [[1, 2]]);
    assert_eq!(values(&npy("|u1", false, "(2, 2)", &[1, 2, 3, 4]), &flat).unwrap(), [[1, 2], [3, 4]]);
    assert_eq!(labels_from_bytes(&npy("<i8", false, "(1,)", &7i64.to_le_bytes())).unwrap(), [7]);
}

#[test]
fn npy_values_are_taken_as_they_are_and_must_be_in_range() {
    let signed = Input { shape: [1, 1, 2], bits: 4, zero_point: 8, pixels: None, coding: None };
    assert_eq!(values(&npy("|u1", false, "(1, 2)", &[0, 15]), &signed).unwrap(), [[-8, 7]]);
    let large = message(&npy("|u1", false, "(1, 2)", &[0, 16]), &signed);
    assert_eq!(large, "it holds the value 16, the network reads 0..=15");
    let negative = message(&npy("|i1", false, "(1, 2)", &[255, 0]), &signed);
    assert_eq!(negative, "it holds the value -1, the network reads 0..=15");
    let far = npy("<i8", false, "(1, 1)", &i64::MIN.to_le_bytes());
    assert!(matches!(
        Inputs::from_bytes(&far, &Input { shape: [1, 1, 1], ..signed }),
        Err(DataProblem::Value { value: i64::MIN, lo: 0, hi: 15 })
    ));
    let label = npy("<i2", false, "(1,)", &256i16.to_le_bytes());
    assert!(matches!(labels_from_bytes(&label), Err(DataProblem::Value { value: 256, lo: 0, hi: 255 })));
}

#[test]
fn npy_sizes_and_headers_that_do_not_fit() {
    let three = input([3, 2, 2], 8);
    let last = message(&npy("|u1", false, "(2, 2, 3)", &[0; 12]), &three);
    let reads = "the network reads 3 x 2 x 2 (channels x height x width)";
    assert_eq!(last, format!("it holds 2 x 2 x 3, {reads}; the channels must come first"));
    assert_eq!(message(&npy("|u1", false, "(5,)", &[0; 5]), &three), format!("it holds 5, {reads}"));
    assert_eq!(message(&npy("|u1", false, "()", &[0; 1]), &three), format!("it holds a single number, {reads}"));
    assert!(matches!(values(&npy("|u1", false, "(0, 3, 2, 2)", &[]), &three), Err(DataProblem::Empty)));
    assert_eq!(message(&npy("<i8", false, "(3, 2, 2)", &[0; 12]), &three), "12 bytes of data, its header says 96");
    let kind = message(&npy("<f4", false, "(3, 2, 2)", &[0; 48]), &three);
    assert_eq!(
        kind,
        "it holds float32, the network reads integers 0..=255: nothing says how real numbers are quantised"
    );
    let kind = message(&npy("<c8", false, "(3, 2, 2)", &[0; 96]), &three);
    assert_eq!(kind, "NPY header: type <c8; i1, i2, i4, i8, u1, u2, u4, u8, f4 and f8 are read");
    let overflow = npy("|u1", false, "(18446744073709551615, 3, 2, 2)", &[]);
    assert!(matches!(Inputs::from_bytes(&overflow, &three), Err(DataProblem::Length { .. })));
    let broken = [
        "",
        "{",
        "{}",
        "{'descr': '|u1'}",
        "{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (3, 2, 2)}",
        "{'descr': '|u1', 'fortran_order': Maybe, 'shape': (3, 2, 2)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-3, 2, 2)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': [3, 2, 2]}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2, 2), 'extra': 1}",
        "{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (3, 2, 2)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999, 2, 2)}",
    ];
    for header in broken.iter().map(|text| text.to_string()).chain(["(".repeat(60_000)]) {
        let file =
            [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &[0; 12]].concat();
        assert!(
            matches!(Inputs::from_bytes(&file, &three), Err(DataProblem::Header { format: "NPY", .. })),
            "{header}"
        );
    }
    for file in
        [&b"\x93NUMPY"[..], b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", b"\x93NUMPY\x09\x00\0\0"]
    {
        assert!(matches!(Inputs::from_bytes(file, &three), Err(DataProblem::Header { format: "NPY", .. })), "{file:?}");
    }
}

#[test]
fn pictures() {
    use png::{BitDepth::Eight, ColorType::*};
    let two = input([1, 1, 2], 4);
    assert_eq!(values(&grey(2, 1, &[15, 255]), &two).unwrap(), [[0, 15]]);
    assert_eq!(values(&png(GrayscaleAlpha, Eight, 2, 1, &[16, 9, 32, 9]), &two).unwrap(), [[1, 2]]);
    let colour = input([3, 1, 2], 8);
    assert_eq!(values(&png(Rgb, Eight, 2, 1, &[1, 2, 3, 4, 5, 6]), &colour).unwrap(), [[1, 4, 2, 5, 3, 6]]);
    assert_eq!(values(&png(Rgba, Eight, 2, 1, &[1, 2, 3, 0, 4, 5, 6, 0]), &colour).unwrap(), [[1, 4, 2, 5, 3, 6]]);
    let to_grey = message(&png(Rgb, Eight, 2, 1, &[0, 0, 0, 1, 2, 3]), &two);
    let reads = "the network reads 1 x 1 x 2 (channels x height x width)";
    assert_eq!(to_grey, format!("it holds 3 x 1 x 2, {reads}; save it in grey"));
    // Of another size too: grey in three colours is taken, once it is scaled.
    assert!(message(&png(Rgb, Eight, 3, 1, &[7; 9]), &two).ends_with("; scale or crop it first"));
    assert!(message(&grey(2, 1, &[0; 2]), &colour).ends_with("; save it as RGB"));
    assert_eq!(message(&grey(1, 2, &[0; 2]), &two), format!("it holds 1 x 2 x 1, {reads}; scale or crop it first"));
    // Of 16 bits the upper 8; fewer than 8 are spread over 0..=255; a palette is looked up; colours that are all grey are grey.
    let deep = png(Grayscale, png::BitDepth::Sixteen, 2, 1, &[0x5f, 0xff, 0xf0, 0x00]);
    assert_eq!(values(&deep, &two).unwrap(), [[5, 15]]);
    assert_eq!(values(&png(Grayscale, png::BitDepth::Four, 2, 1, &[0x3c]), &two).unwrap(), [[3, 12]]);
    assert_eq!(values(&png(Indexed, Eight, 2, 1, &[0, 1]), &colour).unwrap(), [[1, 4, 2, 5, 3, 6]]);
    assert_eq!(values(&png(Rgb, Eight, 2, 1, &[32, 32, 32, 80, 80, 80]), &two).unwrap(), [[2, 5]]);
    let photograph = grey(3000, 2000, &vec![7; 6_000_000]);
    assert_eq!(message(&photograph, &two), format!("it holds 1 x 2000 x 3000, {reads}; scale or crop it first"));
}

/// A JPEG of blocks of 8 x 8 pixels side by side, each of one value per component (1, or 3: Y, Cb and Cr): quantisation by 8, of a
/// block its mean alone.
fn jpeg(blocks: &[&[u8]]) -> Vec<u8> {
    let components = blocks[0].len() as u8;
    let segment =
        |marker: u8, data: &[u8]| [&[0xff, marker][..], &(data.len() as u16 + 2).to_be_bytes(), data].concat();
    let each = |of: &dyn Fn(u8) -> Vec<u8>| (1..=components).flat_map(of).collect::<Vec<u8>>();
    let size = [&[8, 0, 8][..], &(8 * blocks.len() as u16).to_be_bytes(), &[components]].concat();
    // Differences of means: twelve lengths, each a code of four bits. Everything else: "end of block", a single 0.
    let means = [&[0, 0, 0, 0, 12][..], &[0; 12], &(0..12).collect::<Vec<u8>>()].concat();
    let rest = [&[0x10, 1][..], &[0; 15], &[0]].concat();
    let mut bits = String::new();
    let mut before = vec![0i32; components.into()];
    for block in blocks {
        for (value, before) in block.iter().zip(&mut before) {
            let mean = i32::from(*value) - 128;
            let difference = mean - std::mem::replace(before, mean);
            let length = 32 - difference.unsigned_abs().leading_zeros();
            bits += &format!("{length:04b}");
            let magnitude = if difference < 0 { difference + (1 << length) - 1 } else { difference };
            if length > 0 {
                bits += &format!("{magnitude:0width$b}", width = length as usize);
            }
            bits += "0";
        }
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    let mut scan = Vec::new();
    for byte in bits.as_bytes().chunks(8) {
        let byte = byte.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0'));
        scan.push(byte);
        if byte == 0xff {
            scan.push(0);
        }
    }
    [
        vec![0xff, 0xd8],
        segment(0xdb, &[&[0][..], &[8; 64]].concat()),
        segment(0xc0, &[size, each(&|component| vec![component, 0x11, 0])].concat()),
        segment(0xc4, &means),
        segment(0xc4, &rest),
        segment(0xda, &[vec![components], each(&|component| vec![component, 0]), vec![0, 63, 0]].concat()),
        scan,
        vec![0xff, 0xd9],
    ]
    .concat()
}

#[test]
fn photographs() {
    let wide = input([1, 8, 16], 8);
    let row: Vec<i64> = [[40i64; 8], [200; 8]].concat();
    assert_eq!(values(&jpeg(&[&[40], &[200]]), &wide).unwrap(), [row.repeat(8)]);
    let colour = input([3, 8, 8], 8);
    assert_eq!(values(&jpeg(&[&[100, 128, 128]]), &colour).unwrap(), [vec![100; 192]]);
    // Grey in three colours.
    assert_eq!(values(&jpeg(&[&[100, 128, 128]]), &input([1, 8, 8], 8)).unwrap(), [vec![100; 64]]);
    assert!(message(&jpeg(&[&[100, 30, 200]]), &input([1, 8, 8], 8)).ends_with("; save it in grey"));
    assert!(message(&jpeg(&[&[1]]), &wide).contains("it holds 1 x 8 x 8, the network reads 1 x 8 x 16"));
    let whole = jpeg(&[&[40], &[200]]);
    for length in 3..whole.len() {
        let cut = Inputs::from_bytes(&whole[..length], &wide);
        assert!(matches!(cut, Err(DataProblem::Jpeg(_))), "cut at {length}");
    }
}

#[test]
fn pictures_of_another_size_are_scaled_where_that_is_asked_for() {
    let scaled = |file: &[u8], shape| {
        let inputs = Inputs::from_reader(file, &input(shape, 8), Fit::Scaled)?;
        Ok::<_, DataProblem>(inputs.get(0).unwrap().iter().copied().collect::<Vec<i64>>())
    };
    // The middle of a wide picture, pixel by pixel.
    let row: Vec<u8> = (0..16).map(|x| 10 * x).collect();
    let middle: Vec<i64> = (4..12).map(|x| 10 * x).collect();
    assert_eq!(scaled(&grey(16, 8, &row.repeat(8)), [1, 8, 8]).unwrap(), middle.repeat(8));
    // Half the size: dark on the left, bright on the right.
    let halves = [[0u8; 8], [255; 8]].concat();
    let small = scaled(&grey(16, 16, &halves.repeat(16)), [1, 8, 8]).unwrap();
    assert!(small.chunks(8).all(|row| row[0] == 0 && row[7] == 255 && row.is_sorted()), "{small:?}");
    // In colour, and of one value.
    let red = png(png::ColorType::Rgb, png::BitDepth::Eight, 3, 2, &[200, 0, 7].repeat(6));
    assert_eq!(scaled(&red, [3, 1, 1]).unwrap(), [200, 0, 7]);
    let bomb = [&grey(1, 1, &[0])[..16], &60_000u32.to_be_bytes(), &60_000u32.to_be_bytes()].concat();
    assert!(scaled(&bomb, [1, 8, 8]).is_err());
    assert!(scaled(&red, [1, 1, 1]).unwrap_err().to_string().ends_with("; save it in grey"));
}

#[test]
fn damaged_files_are_errors_or_inputs_in_range() {
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let input = input([1, 4, 4], 4);
    let files = [
        grey(4, 4, &(0..16).map(|i| 16 * i).collect::<Vec<u8>>()),
        idx(&[2, 4, 4], &[77; 32]),
        gzip(&idx(&[2, 4, 4], &[77; 32])),
        npy("<i2", true, "(2, 1, 4, 4)", &[0; 64]),
        gzip(&npy("|u1", false, "(4, 4)", &[1; 16])),
    ];
    for (number, file) in files.iter().enumerate() {
        assert!(Inputs::from_bytes(file, &input).is_ok(), "file {number}");
        for end in 0..file.len() {
            let cut = Inputs::from_bytes(&file[..end], &input);
            // A PNG without its trailer, or a gzip member without its checksum, may still be complete; nothing else is.
            assert!(cut.is_err() || number == 0, "file {number} cut at {end}");
        }
        for _ in 0..3000 {
            let mut damaged = file.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..damaged.len());
                damaged[at] = rng.random();
            }
            if let Ok(inputs) = Inputs::from_bytes(&damaged, &input) {
                assert!(inputs.iter().flatten().all(|value| input.range().contains(value)));
            }
            let _ = labels_from_bytes(&damaged);
        }
    }
}

#[test]
fn a_small_file_never_becomes_a_large_one() {
    // A bomb: 257 MiB of zeros in about 260 kB.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0; 1 << 20];
    for _ in 0..=MAX_DATA >> 20 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let error = Inputs::from_bytes(&bomb, &input([1, 28, 28], 4)).unwrap_err();
    assert!(matches!(error, DataProblem::TooLarge { decompressed: true, .. }), "{error}");
    assert!(matches!(labels_from_bytes(&bomb), Err(DataProblem::TooLarge { .. })));
    // A picture that claims to be 2^31 pixels wide and high.
    let mut file = grey(2, 2, &[0; 4]);
    file[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let crc = crc(&file[12..29]);
    file[29..33].copy_from_slice(&crc.to_be_bytes());
    assert!(Inputs::from_bytes(&file, &input([1, 2, 2], 4)).is_err());
}

/// The checksum of a PNG chunk.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

#[test]
fn files_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pictures.idx");
    std::fs::write(&path, idx(&[1, 1, 2], &[0, 255])).unwrap();
    let inputs = Inputs::read(&path, &input([1, 1, 2], 4)).unwrap();
    assert_eq!(inputs.len(), 1);
    assert!(!inputs.is_empty());
    assert_eq!(inputs.get(0), Some(Tensor::from_shape_vec([1, 1, 2], vec![0, 15]).unwrap()));
    assert_eq!(inputs.get(1), None);
    assert_eq!(format!("{inputs:?}"), "Inputs { 1 of shape [1, 1, 2], redacted }");
    let error = Inputs::read(&path, &input([1, 2, 2], 4)).unwrap_err().to_string();
    assert!(error.contains("pictures.idx: it holds 1 x 1 x 2, the network reads 1 x 2 x 2"), "{error}");
    assert!(read_labels(&path).unwrap_err().to_string().contains("pictures.idx: not a row of labels"));
    let missing = Inputs::read(folder.path().join("none"), &input([1, 1, 2], 4)).unwrap_err();
    assert!(matches!(missing.problem, DataProblem::Io(_)));
    assert!(matches!(Inputs::from_bytes(b"GIF89a", &input([1, 1, 2], 4)), Err(DataProblem::UnknownFormat)));
    assert!(matches!(Inputs::from_bytes(b"", &input([1, 1, 2], 4)), Err(DataProblem::UnknownFormat)));
}

/// Known without a network: the images of a file that has several, one of a picture, rows without their header.
#[test]
fn inputs_are_counted_before_they_are_read() {
    let npy = |shape: &str| {
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}\n");
        [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat()
    };
    let idx = [&[0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2][..], &[0; 10]].concat();
    let counted = |bytes: &[u8]| lowkey_models::data::most_inputs_of(bytes).unwrap();
    assert_eq!(counted(&npy("7, 1, 8, 8")), Some(7));
    assert_eq!(counted(&npy("")), None);
    assert_eq!(counted(&idx), Some(5));
    assert_eq!(counted(b"a,b\n1,2\n\n3,4\n"), Some(2));
    assert_eq!(counted(b"1,2\n3,4\n"), Some(2));
    assert!(lowkey_models::data::most_inputs_of(&idx[..20]).is_err());
    assert!(lowkey_models::data::most_inputs_of(b"GIF89a").is_err());
}
