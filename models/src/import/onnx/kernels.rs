//! For which types ONNX Runtime has integers.

use super::tensor::Element;
use super::value::FusedKind;

/// What computes layers between quantisers whose activations are signed bytes. Of unsigned ones both are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// ONNX Runtime on x86 as it is: convolutions and products of matrices on signed activations are computed in floats, unless nothing
    /// but the layer reads them, where they become unsigned.
    #[default]
    X86,
    /// ONNX Runtime with `session.qdqisint8allowed` set to 1: they are computed in integers. It is what the runtime does on ARM without
    /// that option.
    Int8,
}

impl Kernels {
    /// Whether ONNX Runtime merges a linear node on `x` and weights `w`, of 8 bits, with the quantisers around it, the last of which makes
    /// `y`: all activations unsigned, or all of it signed.
    pub(super) fn merge(self, kind: FusedKind, (x, w): (Element, Element), y: Element) -> bool {
        let signed = kind == FusedKind::Gemm || self == Kernels::Int8;
        [x, y] == [Element::UINT8; 2] || signed && [x, w, y] == [Element::INT8; 3]
    }
}
