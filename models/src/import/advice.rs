//! Advice that whoever asks for an import follows in words of their own: an option of [`Options`](super::Options), a switch, a command.
//!
//! Hints have these phrases, and no program's words; a program that has words for them puts its own in their place.

/// Take results that may differ: [`Options::approximate`](super::Options::approximate). At the end of a hint that says how.
pub const APPROXIMATE: &str = "(approximate)";
/// Round as XNNPACK: [`Kernels::Single`](super::tflite::Kernels::Single).
pub const AS_XNNPACK: &str = "round as XNNPACK does";
/// Have integers for signed activations of 8 bits: [`Kernels::Int8`](super::onnx::Kernels::Int8).
pub const AS_INT8: &str = "compute signed bytes as integers";
/// Round as the reference kernels: [`Kernels::Double`](super::tflite::Kernels::Double).
pub const AS_REFERENCE: &str = "round as the reference kernels do";
/// Give no [`Preprocessing`](super::Preprocessing).
pub const PIXELS_AS_THEY_ARE: &str = "give no preprocessing of pixels";
/// [`ptq`](crate::ptq) quantises.
pub const QUANTISER: &str = "lowkey's quantiser does";
/// A network that was imported is read by [`Network::read`](crate::Network::read).
pub const AS_IT_IS: &str = "it is read as it is";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Hints are fixed texts, and have the phrases word by word.
    #[test]
    fn hints_have_the_phrases() {
        let hints = [
            ("onnx/file.rs", APPROXIMATE),
            ("tflite/pointwise.rs", APPROXIMATE),
            ("tflite/pointwise.rs", AS_XNNPACK),
            ("tflite/pool.rs", "AS_XNNPACK"),
            ("tflite/transposed.rs", AS_REFERENCE),
            ("onnx/doubts.rs", AS_INT8),
            ("onnx/input.rs", "PIXELS_AS_THEY_ARE"),
            ("onnx/mod.rs", QUANTISER),
            ("foreign.rs", AS_IT_IS),
        ];
        for (file, phrase) in hints {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/import/").to_owned() + file;
            assert!(fs::read_to_string(path).expect("a source").contains(phrase), "{file}: {phrase}");
        }
    }
}
