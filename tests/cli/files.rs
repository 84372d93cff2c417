//! Files as a user has them, written byte by byte: PNG, IDX, gzip, NPY. Nothing is compressed.

use std::path::{Path, PathBuf};

/// Grey pictures of one size.
#[derive(Clone, Copy)]
pub struct Size {
    pub height: usize,
    pub width: usize,
}

/// Writes a file and returns its path.
pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// `numpy.save` of unsigned bytes.
pub fn npy(shape: &[usize], values: &[u8]) -> Vec<u8> {
    npy_of("|u1", shape, values)
}

/// An array of float32.
pub fn npy_of_reals(shape: &[usize], values: &[f32]) -> Vec<u8> {
    npy_of("<f4", shape, values.iter().map(|v| v.to_le_bytes()).collect::<Vec<_>>().as_flattened())
}

fn npy_of(kind: &str, shape: &[usize], values: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), values].concat()
}

/// Pictures as MNIST has them.
pub fn idx_images(size: Size, pixels: &[u8]) -> Vec<u8> {
    let count = pixels.len() / (size.height * size.width);
    let sizes = [count, size.height, size.width].map(|n| (n as u32).to_be_bytes()).concat();
    [&[0, 0, 8, 3][..], &sizes, pixels].concat()
}

/// Labels as MNIST has them.
pub fn idx_labels(labels: &[u8]) -> Vec<u8> {
    [&[0, 0, 8, 1][..], &(labels.len() as u32).to_be_bytes(), labels].concat()
}

/// A grey PNG.
pub fn png(size: Size, pixels: &[u8]) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let body = [&kind[..], data].concat();
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc32(&body).to_be_bytes()].concat()
    };
    let header = [&[size.width, size.height].map(|n| (n as u32).to_be_bytes()).concat()[..], &[8, 0, 0, 0, 0]].concat();
    // Every row begins with its filter: none.
    let rows: Vec<u8> = pixels.chunks(size.width).flat_map(|row| [&[0], row].concat()).collect();
    let data = [&[0x78, 1][..], &stored(&rows), &adler32(&rows).to_be_bytes()].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &data), chunk(b"IEND", &[])].concat()
}

/// A gzip file.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    [&header[..], &stored(bytes), &crc32(bytes).to_le_bytes(), &(bytes.len() as u32).to_le_bytes()].concat()
}

/// A deflate stream of stored blocks.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let blocks = bytes.chunks(usize::from(u16::MAX)).enumerate();
    let last = bytes.len().div_ceil(usize::from(u16::MAX)) - 1;
    blocks
        .flat_map(|(number, block)| {
            let length = block.len() as u16;
            [&[u8::from(number == last)][..], &length.to_le_bytes(), &(!length).to_le_bytes(), block].concat()
        })
        .collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}
