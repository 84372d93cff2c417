//! From a float ONNX file and arrays of real numbers to a network of small integers.

use std::path::Path;

use lowkey_models::data::Inputs;
use lowkey_models::import::onnx::float::{self, Reads};
use lowkey_models::ptq::{self, PtqError, Quantised, Sample, Settings};
use ndarray::Array3;

use super::Model;
use crate::error::{Error, Result};

/// A model that was made of a float file.
#[derive(Debug)]
#[non_exhaustive]
pub struct Calibrated {
    /// It.
    pub model: Model,
    /// Its linear layers in order: their shifts, and how far their results are off.
    pub layers: Vec<ptq::Layer>,
    /// What the user should know, a sentence each.
    pub warnings: Vec<String>,
}

impl Model {
    /// Makes a network of small integers, with shifts alone, of a float ONNX file (`onnx`, the bytes; tensors that it stores beside itself
    /// are read from `folder`). `inputs` are what the file's own runtime would read, one after the other: units and shifts are chosen by
    /// them, and the input's 8 bits span their range. Nothing but the inputs' distribution matters; some hundred are enough.
    ///
    /// # Errors
    /// When there are no inputs, they are no multiple of what the network reads or not finite, or the file has layers that are not
    /// quantised.
    pub fn quantise(
        onnx: &[u8],
        folder: Option<&Path>,
        name: &str,
        inputs: &[f32],
        settings: &Settings,
    ) -> Result<Calibrated> {
        if inputs.is_empty() || !inputs.iter().all(|value| value.is_finite()) {
            return Err(Error::usage("no calibration inputs, or some that are not finite", "give some hundred inputs"));
        }
        let range = inputs.iter().fold([0.0f32; 2], |[lo, hi], &value| [lo.min(value), hi.max(value)]);
        let real =
            float::read(onnx, folder, name, &Reads::Reals(range)).map_err(|error| Error::Import(Box::new(error)))?;
        let stored = Inputs::from_reals(inputs, &real.input).map_err(|problem| Error::Input(Box::new(problem)))?;
        let shape = real.input.shape;
        let sample = |(values, stored): (&[f32], Array3<i64>)| Sample {
            real: Array3::from_shape_vec(shape, values.to_vec()).expect("as many as the shape has"),
            stored: stored.mapv(|value| value as f32),
        };
        let samples: Vec<Sample> = inputs.chunks_exact(shape.iter().product()).zip(stored.iter()).map(sample).collect();
        let Quantised { network, layers, warnings } =
            ptq::quantise(real, &samples, settings).map_err(|error| Error::usage(&error, advice(&error)))?;
        Ok(Calibrated { model: Model::from(network), layers, warnings })
    }
}

fn advice(error: &PtqError) -> &'static str {
    match error {
        PtqError::NoSamples => "give some hundred inputs",
        PtqError::Bits(_) => "8, 6 or 4 bits are usual",
        PtqError::NotFinite(_) => "the network's weights, or the inputs, are not right",
        PtqError::Shape(_) | PtqError::Units(_) => "the network is none that is quantised here",
        PtqError::Model(_) => "networks have limits: use smaller layers",
    }
}
