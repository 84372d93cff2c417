//! IDX, the format of the MNIST files: two zero bytes, the type, the number of dimensions, the dimensions (big endian), the data.

use super::{DataProblem, check_shape, exactly, header, quantised};
use crate::network::Input;

/// Unsigned bytes; the only type read.
const BYTES: u8 = 8;

/// Shape and data.
fn array(file: &[u8]) -> Result<(Vec<usize>, &[u8]), DataProblem> {
    let [0, 0, kind, rank, rest @ ..] = file else { return Err(header("IDX", "it is too short")) };
    if *kind != BYTES {
        return Err(header("IDX", format!("type 0x{kind:02x}; only unsigned bytes (0x08) are read")));
    }
    let (dimensions, _) = rest.as_chunks::<4>();
    let Some(dimensions) = dimensions.get(..usize::from(*rank)) else {
        return Err(header("IDX", format!("it ends before its {rank} dimensions do")));
    };
    let shape: Vec<usize> = dimensions.iter().map(|&size| u32::from_be_bytes(size) as usize).collect();
    let data = &rest[4 * shape.len()..];
    exactly(data, &shape, 1)?;
    Ok((shape, data))
}

/// The first dimension.
pub(super) fn rows(file: &[u8]) -> Result<Option<usize>, DataProblem> {
    Ok(array(file)?.0.first().copied())
}

/// Pictures `[N, H, W]` or `[N, C, H, W]`, quantised.
pub(super) fn pictures(file: &[u8], input: &Input) -> Result<Vec<u8>, DataProblem> {
    let (shape, data) = array(file)?;
    check_shape(&shape, input)?;
    let [channels, height, width] = input.shape;
    let planes = data.chunks_exact(height * width).zip((0..channels).cycle());
    Ok(planes.flat_map(|(plane, channel)| plane.iter().map(move |&pixel| quantised(pixel, channel, input))).collect())
}

/// Labels `[N]`.
pub(super) fn labels(file: &[u8]) -> Result<Vec<u8>, DataProblem> {
    let (shape, data) = array(file)?;
    if shape.len() == 1 { Ok(data.to_vec()) } else { Err(DataProblem::NotLabels) }
}
