//! The padding of a window that moves over all of its input, as TensorFlow and ONNX name it: SAME.

/// Elements around `size` of them, on both sides together: as many as a window that spans `extent` needs for one result at every
/// `stride`-th element.
pub(super) fn padding(size: usize, stride: usize, extent: usize) -> usize {
    ((size.div_ceil(stride).max(1) - 1) * stride + extent).saturating_sub(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_at_every_stride() {
        assert_eq!([padding(7, 1, 3), padding(7, 2, 3), padding(8, 2, 3)], [2, 2, 1]);
        assert_eq!([padding(8, 2, 2), padding(8, 3, 1), padding(1, 4, 3)], [0, 0, 2]);
    }
}
