//! Options of all commands that read an ONNX or TFLite file: what such a file does not say.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use lowkey_models::answer::PIXELS_BECOME;
use lowkey_models::import::{self, Options, Preprocessing, advice, onnx, tflite};

use super::warn;

/// What to do about options that do not suit the network's input.
pub const PIXELS: &str =
    "--mean and --std take one number for all channels, or one for each, with commas; --std is above 0";

/// What an import advises, and how this command is told so.
const ADVICE: [(&str, &str); 8] = [
    (advice::APPROXIMATE, "(--approximate)"),
    (advice::AS_XNNPACK, "use --rounding xnnpack"),
    (advice::AS_INT8, "use --rounding int8"),
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
    /// Which arithmetic of its runtime the network has.
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

/// Which arithmetic of its runtime a network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoundsAs {
    /// TFLite: the reference kernels, which round twice; unless said.
    Reference,
    /// TFLite: XNNPACK, the runtime's default, which rounds once.
    Xnnpack,
    /// ONNX: signed 8-bit activations stay integers, as in ONNX Runtime with
    /// session.qdqisint8allowed=1 (on ARM without).
    Int8,
}

impl RoundsAs {
    fn is_of_tflite(self) -> bool {
        self != RoundsAs::Int8
    }
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
        let Some(rounding) = self.rounding else { return };
        if import::is_tflite(file).is_ok_and(|tflite| tflite != rounding.is_of_tflite()) {
            let (file, name) = (file.display(), rounding.to_possible_value().expect("none is left out"));
            let kind = if rounding.is_of_tflite() { "TFLite" } else { "ONNX" };
            warn(format_args!(
                "note: {file}: --rounding {} is of {kind} files; this one has the rounding of its own runtime\n",
                name.get_name()
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
        let mut options = Options { name, preprocessing, approximate: self.approximate, ..Options::default() };
        match self.rounding {
            None | Some(RoundsAs::Reference) => {}
            Some(RoundsAs::Xnnpack) => options.tflite = tflite::Kernels::Single,
            Some(RoundsAs::Int8) => options.onnx = onnx::Kernels::Int8,
        }
        options
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
