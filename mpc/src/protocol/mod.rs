//! Whole protocols: public numbers, an ideal version, and the program that both parties run.

pub mod argmax;
pub mod average;
pub mod dither;
pub mod maxpool;
pub mod output;
pub mod patch;
pub mod pooled;
pub mod requantise;
pub mod rescale;
pub mod table;
pub mod truncate;
