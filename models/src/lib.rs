//! Small-integer networks: description, reference interpreter, files, data.
pub mod network;
