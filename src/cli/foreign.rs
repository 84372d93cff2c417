//! Options of all commands that read an ONNX or TFLite file: what such a file does not say.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use lowkey_models::answer::PIXELS_BECOME;
use lowkey_models::import::{self, Options, Preprocessing, advice, tflite};

use super::warn;

/// What to do about options that do not suit the network's input.
pub const PIXELS: &str =
    "--mean and --std take one number for all channels, or one for each, with commas; --std is above 0";

/// What an import advises, and how this command is told so.
const ADVICE: [(&str, &str); 7] = [
    (advice::APPROXIMATE, "(--approximate)"),
    (advice::AS_XNNPACK, "use --rounding xnnpack"),
    (advice::AS_REFERENCE, "use --rounding reference"),
    (advice::PIXELS_AS_THEY_ARE, "do without --pixel-scale, --mean and --std"),
    (PIXELS_BECOME, "give --mean, --std or --pixel-scale where the file is imported"),
    (advice::QUANTISER, "lowkey quantise does"),
    (advice::AS_IT_IS, "lowkey plan and lowkey serve take it as it is"),
];

/// What an import says, in the command's words.
pub fn in_switches(text: &str) -> String {
    ADVICE.iter().fold(text.to_owned(), |text, (library, command)| text.replace(library, command))
}

/// What an ONNX or TFLite file does not say.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "For ONNX and TFLite files")]
pub struct ImportOptions {
    /// Whose rounding a TFLite network has: reference unless said.
    #[arg(long, value_enum)]
    rounding: Option<RoundsAs>,
    /// The network was trained on (pixel * SCALE - mean) / std, pixel in 0..=255; 1/255 with --mean or --std.
    #[arg(long, value_name = "SCALE", value_parser = parse_scale)]
    pixel_scale: Option<PixelScale>,
    /// Mean of each channel, or one for all, with commas.
    #[arg(long, value_name = "MEAN", value_delimiter = ',', allow_negative_numbers = true)]
    mean: Vec<f32>,
    /// Standard deviation of each channel, or one for all, with commas.
    #[arg(long, value_name = "STD", value_delimiter = ',')]
    std: Vec<f32>,
    /// Names of the classes in order of the outputs, one per line.
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
    /// Accept layers that are not equal to the runtime on every accumulator; the report says which.
    #[arg(long)]
    approximate: bool,
}

/// Whose rounding a TFLite network has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum RoundsAs {
    /// The reference kernels, which round twice.
    #[default]
    Reference,
    /// XNNPACK, the runtime's default, which rounds once.
    Xnnpack,
}

/// pixel * above / below.
#[derive(Clone, Copy, Debug, PartialEq)]
struct PixelScale {
    above: f32,
    below: f32,
}

/// "0.5", which multiplies, or "1/255", which divides.
fn parse_scale(text: &str) -> Result<PixelScale, String> {
    let number = |text: &str| text.trim().parse::<f32>().map_err(|_| format!("\"{text}\" is no number"));
    let (above, below) = match text.split_once('/') {
        Some((above, below)) => (number(above)?, number(below)?),
        None => (number(text)?, 1.0),
    };
    let positive = |v: f32| v.is_normal() && v > 0.0;
    if positive(above) && positive(below) { Ok(PixelScale { above, below }) } else { Err("it must be positive".into()) }
}

impl ImportOptions {
    /// Says so where an option says nothing of this file.
    pub fn note_of(&self, file: &Path) {
        let is_tflite = || import::is_tflite(file).unwrap_or(true);
        if self.rounding.is_some() && !is_tflite() {
            let file = file.display();
            warn(format_args!(
                "note: {file}: --rounding is of TFLite files; this one has the rounding of its own runtime\n"
            ));
        }
    }

    /// Says so where options were given that say nothing of a network that was read as it is: it has its own.
    pub fn note_of_own(&self, file: &Path) {
        let options = [
            ("--rounding", self.rounding.is_some()),
            ("--pixel-scale", self.pixel_scale.is_some()),
            ("--mean", !self.mean.is_empty()),
            ("--std", !self.std.is_empty()),
            ("--approximate", self.approximate),
        ];
        let given: Vec<&str> = options.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        if let Some((last, before)) = given.split_last() {
            let (listed, are) = if before.is_empty() {
                ((*last).to_owned(), "is")
            } else {
                (before.join(", ") + " and " + last, "are")
            };
            let file = file.display();
            warn(format_args!(
                "note: {file}: {listed} {are} of ONNX and TFLite files: nothing changes here, `lowkey import` takes it\n",
            ));
        }
    }

    /// What the library is told.
    pub fn options(&self, name: Option<String>) -> Options {
        let or = |values: &[f32], default: f32| if values.is_empty() { vec![default] } else { values.to_vec() };
        let given = self.pixel_scale.is_some() || !self.mean.is_empty() || !self.std.is_empty();
        let PixelScale { above, below } = self.pixel_scale.unwrap_or(PixelScale { above: 1.0, below: 255.0 });
        let preprocessing = given.then(|| Preprocessing {
            scale: above,
            over: below,
            mean: or(&self.mean, 0.0),
            std: or(&self.std, 1.0),
        });
        let tflite = match self.rounding.unwrap_or_default() {
            RoundsAs::Reference => tflite::Kernels::Double,
            RoundsAs::Xnnpack => tflite::Kernels::Single,
        };
        Options { name, preprocessing, tflite, approximate: self.approximate, ..Options::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_numbers_or_fractions() {
        assert_eq!(parse_scale("0.5"), Ok(PixelScale { above: 0.5, below: 1.0 }));
        assert_eq!(parse_scale("1/127.5"), Ok(PixelScale { above: 1.0, below: 127.5 }));
        assert!(parse_scale("1/0").is_err() && parse_scale("-1").is_err() && parse_scale("x").is_err());
    }
}
