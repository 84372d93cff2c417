//! Private inference for low-bit neural networks.
