//! PNG pictures: grey or RGB of 8 bits per channel, of exactly the size that the network reads.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Limits};

use super::{DataProblem, header, quantised, sizes};
use crate::json::printable;
use crate::network::Input;

/// The picture as `[channels, height, width]`, quantised; an alpha channel is dropped.
pub(super) fn pixels(file: &[u8], input: &Input) -> Result<Vec<u8>, DataProblem> {
    let broken = |error: png::DecodingError| DataProblem::Png(printable(&error.to_string()));
    let [channels, height, width] = input.shape;
    // The default limit on what the decoder allocates for itself is 64 MiB.
    let mut decoder = Decoder::new_with_limits(Cursor::new(file), Limits::default());
    decoder.set_ignore_text_chunk(true);
    let mut reader = decoder.read_info().map_err(broken)?;
    let info = reader.info();
    let (stored, colours) = match info.color_type {
        ColorType::Grayscale => (1, 1),
        ColorType::GrayscaleAlpha => (2, 1),
        ColorType::Rgb => (3, 3),
        ColorType::Rgba => (4, 3),
        ColorType::Indexed => return Err(header("PNG", "a palette is not read; save it as RGB or grey")),
    };
    if info.bit_depth != BitDepth::Eight {
        let bits = info.bit_depth as u8;
        return Err(header("PNG", format!("{bits} bits per channel; save it with 8")));
    }
    let found = [colours, info.height as usize, info.width as usize];
    if found != input.shape {
        let hint = match (found[0], channels) {
            (3, 1) => "; save it in grey",
            (1, 3) => "; save it as RGB",
            _ => "; scale or crop it first",
        };
        return Err(DataProblem::Size {
            found: sizes(&found),
            wanted: format!("{} (channels x height x width)", sizes(&input.shape)),
            hint,
        });
    }
    let mut data = vec![0; stored * height * width];
    reader.next_frame(&mut data).map_err(broken)?;
    let plane = |channel| data.iter().skip(channel).step_by(stored).map(move |&pixel| quantised(pixel, channel, input));
    Ok((0..channels).flat_map(plane).collect())
}
