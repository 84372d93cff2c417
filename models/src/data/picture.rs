//! PNG and JPEG pictures, grey or in colour, of exactly the size that the network reads or scaled to it.
//!
//! An alpha channel is dropped, a palette looked up, of 16 bits the upper 8 are taken. A picture in colour whose pixels are all grey
//! counts as grey.

use std::io::Cursor;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use png::{ColorType, Decoder, Limits, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{DataProblem, Fit, Misfit, header, quantised, sizes};
use crate::json::printable;
use crate::network::Input;

/// Most pixels of a picture that is scaled.
const MAX_PIXELS: usize = 1 << 25;

/// Pixels of 8 bits, row by row, the colours of a pixel side by side.
struct Picture {
    height: usize,
    width: usize,
    /// 1 or 3.
    colours: usize,
    data: Vec<u8>,
}

/// True of the first bytes of a JPEG file.
pub(super) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}

/// The picture as `[channels, height, width]`, quantised.
pub(super) fn pixels(file: &[u8], input: &Input, fit: Fit) -> Result<Vec<u8>, DataProblem> {
    let [channels, height, width] = input.shape;
    let mut picture = if is_jpeg(file) { jpeg(file, input, fit)? } else { png(file, input, fit)? };
    if channels == 1 && picture.colours == 3 {
        picture = picture.without_colours();
    }
    if picture.colours != channels {
        let misfit = match channels {
            1 => Misfit::Grey,
            3 => Misfit::Colours,
            _ => Misfit::Picture,
        };
        return Err(unfit([picture.colours, picture.height, picture.width], input, misfit));
    }
    if [picture.height, picture.width] != [height, width] {
        picture = picture.scaled(height, width)?;
    }
    let plane = |channel| {
        picture.data.iter().skip(channel).step_by(channels).map(move |&pixel| quantised(pixel, channel, input))
    };
    Ok((0..channels).flat_map(plane).collect())
}

/// Refuses a size before anything of that size is allocated.
fn check_size(colours: usize, [height, width]: [usize; 2], input: &Input, fit: Fit) -> Result<(), DataProblem> {
    match fit {
        Fit::Exact if [height, width] != input.shape[1..] => Err(wrong_size([colours, height, width], input)),
        Fit::Scaled if height.saturating_mul(width) > MAX_PIXELS => {
            Err(header("picture", format!("{height} x {width} pixels, more than {MAX_PIXELS}")))
        }
        Fit::Scaled if height == 0 || width == 0 => Err(header("picture", "it has no pixels")),
        _ => Ok(()),
    }
}

/// A picture of another size than the network's.
fn wrong_size(found: [usize; 3], input: &Input) -> DataProblem {
    let misfit = match (found[0], input.shape[0]) {
        (1, 3) => Misfit::Colours,
        _ => Misfit::Picture,
    };
    unfit(found, input, misfit)
}

/// A picture that is not what the network reads.
fn unfit(found: [usize; 3], input: &Input, misfit: Misfit) -> DataProblem {
    let wanted = format!("{} (channels x height x width)", sizes(&input.shape));
    DataProblem::Size { found: sizes(&found), wanted, misfit }
}

fn png(file: &[u8], input: &Input, fit: Fit) -> Result<Picture, DataProblem> {
    let broken = |error: png::DecodingError| DataProblem::Png(printable(&error.to_string()));
    // The default limit on what the decoder allocates for itself is 64 MiB.
    let mut decoder = Decoder::new_with_limits(Cursor::new(file), Limits::default());
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(broken)?;
    let (stored, colours) = match reader.output_color_type().0 {
        ColorType::Grayscale => (1, 1),
        ColorType::GrayscaleAlpha => (2, 1),
        ColorType::Rgb => (3, 3),
        ColorType::Rgba => (4, 3),
        ColorType::Indexed => return Err(header("PNG", "its palette cannot be read; save it as RGB or grey")),
    };
    let [height, width] = [reader.info().height, reader.info().width].map(|side| side as usize);
    check_size(colours, [height, width], input, fit)?;
    let mut data = vec![0; stored * height * width];
    reader.next_frame(&mut data).map_err(broken)?;
    if stored > colours {
        data = data.chunks_exact(stored).flat_map(|pixel| pixel[..colours].iter().copied()).collect();
    }
    Ok(Picture { height, width, colours, data })
}

fn jpeg(file: &[u8], input: &Input, fit: Fit) -> Result<Picture, DataProblem> {
    let broken = |error: zune_jpeg::errors::DecodeErrors| DataProblem::Jpeg(printable(&error.to_string()));
    if !is_whole(file) {
        return Err(DataProblem::Jpeg("it ends before its picture does".into()));
    }
    let options = DecoderOptions::default().set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder.decode_headers().map_err(broken)?;
    let info = decoder.info().ok_or_else(|| header("JPEG", "it says nothing of its size"))?;
    let (colours, space) = if info.components == 1 { (1, ColorSpace::Luma) } else { (3, ColorSpace::RGB) };
    let (height, width) = (usize::from(info.height), usize::from(info.width));
    check_size(colours, [height, width], input, fit)?;
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let data = decoder.decode().map_err(broken)?;
    let wanted = colours * height * width;
    if data.len() != wanted {
        return Err(DataProblem::Length { found: data.len(), wanted: wanted as u128 });
    }
    Ok(Picture { height, width, colours, data })
}

/// True if the last scan of a JPEG file has an end: the decoder makes up what is missing.
fn is_whole(file: &[u8]) -> bool {
    let last = |marker: u8| file.windows(2).rposition(|two| two == [0xff, marker]);
    let (start_of_scan, end_of_image) = (last(0xda), last(0xd9));
    end_of_image > start_of_scan
}

impl Picture {
    /// In grey, if it is; else as it was.
    fn without_colours(self) -> Self {
        let grey = self.data.chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]);
        if !grey {
            return self;
        }
        let data = self.data.into_iter().step_by(3).collect();
        Self { colours: 1, data, ..self }
    }

    /// Scaled so that it covers the size, and the middle of that: what torchvision's `Resize` (bilinear, antialiased) and
    /// `CenterCrop` do, up to the rounding of positions.
    fn scaled(self, height: usize, width: usize) -> Result<Self, DataProblem> {
        match self.colours {
            1 => self.scaled_as::<U8>(height, width),
            _ => self.scaled_as::<U8x3>(height, width),
        }
    }

    /// The same, of pixels of one kind: [`Resizer::resize`] is compiled for every kind that there is.
    fn scaled_as<P: InnerPixel + PixelTrait>(self, height: usize, width: usize) -> Result<Self, DataProblem> {
        let failed = |error: &dyn std::fmt::Display| header("picture", format!("it cannot be scaled: {error}"));
        let side = |side: usize| u32::try_from(side).expect("sizes were checked");
        let from = TypedImageRef::<P>::from_buffer(side(self.width), side(self.height), &self.data);
        let from = from.map_err(|error| failed(&error))?;
        let mut data = vec![0; height * width * self.colours];
        let to = TypedImage::<P>::from_buffer(side(width), side(height), &mut data);
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
            .fit_into_destination(Some((0.5, 0.5)));
        let scaled = Resizer::new().resize_typed(&from, &mut to.map_err(|error| failed(&error))?, &options);
        scaled.map_err(|error| failed(&error))?;
        Ok(Self { height, width, colours: self.colours, data })
    }
}
