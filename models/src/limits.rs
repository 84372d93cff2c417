//! The limits of networks: within them nothing overflows and nothing asks for more memory than a machine has.

/// Largest dimension, kernel, stride, padding, dilation.
pub const MAX_DIMENSION: usize = 1 << 16;
/// Most elements of a tensor, padding included.
pub const MAX_ELEMENTS: usize = 1 << 24;
/// Most elements of all tensors together.
pub const MAX_TOTAL_ELEMENTS: usize = 1 << 28;
/// Most nodes.
pub const MAX_NODES: usize = 4096;
/// Most terms of a linear node.
pub const MAX_TERMS: usize = 64;
/// Most weights of a network.
pub const MAX_WEIGHTS: usize = 1 << 28;
/// Largest shift.
pub const MAX_SHIFT: u32 = 56;
/// Widest activation that a requantisation, an input or a table makes, in bits.
pub const MAX_ACTIVATION_BITS: u32 = 8;
/// Widest weight, in bits: up to 8 as trained, up to 16 once shifts are folded in.
pub const MAX_WEIGHT_BITS: u32 = 16;
/// Largest magnitude of an activation (sum pools make wide ones).
pub const MAX_ACTIVATION: i64 = 1 << 24;
/// Largest multiplier of a scale.
pub const MAX_MULTIPLIER: i64 = 1 << 46;
/// Largest magnitude of a sum of terms, and of a bias: their sum stays far inside an `i64`.
pub const MAX_ACCUMULATOR: i64 = 1 << 50;
/// Largest magnitude of a multiplied sum that is reachable with the actual weights, with and without its bias: both fit an `i64`. Whether
/// an inference has a ring for it depends on the plan.
pub const MAX_REACHED: i64 = 1 << 61;
/// Widest declared ring of a sum, in bits.
pub const MAX_RING: u32 = 56;
/// Most values of a sum that is rounded as floats are.
pub const MAX_FLOATS: usize = 64;
/// Largest magnitude of these values.
pub const MAX_FLOAT_VALUE: i64 = 1 << 8;
/// Widest value of a block, in bits.
pub const MAX_BLOCK_BITS: u32 = 24;
/// Most pixels of a patch.
pub const MAX_PATCH: usize = 1024;
/// Longest name, in bytes.
pub const MAX_NAME: usize = 128;
