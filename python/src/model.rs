//! A model in the clear.

use std::path::PathBuf;

use lowkey::models::import::{Options, Preprocessing, onnx, tflite};
use lowkey::models::ptq::Settings;
use lowkey::models::{Tensor, zoo};
use lowkey::{Error, Link, Result};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::answer::Answer;
use super::arrays::{Elements, reals, shape};
use super::errors::{raised, usage};

/// A network with its weights.
#[pyclass(frozen, module = "lowkey._lowkey")]
pub struct Model(pub lowkey::Model);

/// A link by its name.
pub fn link_of(name: &str) -> PyResult<Link> {
    name.parse().map_err(|what| usage(format!("link {name:?}: {what}"), "name one of them"))
}

/// What a file does not say: means, deviations, whose rounding, and whether approximations are accepted.
type Said = (Option<Vec<f32>>, Option<Vec<f32>>, Option<String>, bool);

/// Name, shifts, error.
type Layer = (String, Vec<u32>, f64);

/// Names of the bundled models.
#[pyfunction]
pub fn bundled() -> Vec<&'static str> {
    zoo::ALL.iter().map(|bundled| bundled.name).collect()
}

#[pymethods]
impl Model {
    /// Of a file, or of the bundled model of that name.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf, options: Said) -> PyResult<Self> {
        let options = said(options)?;
        py.detach(|| lowkey::Model::open_with(path, &options)).map(Self).map_err(raised)
    }

    /// Of the bytes of a file.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: &[u8], options: Said) -> PyResult<Self> {
        let options = said(options)?;
        py.detach(|| lowkey::Model::from_bytes_with(data, &options)).map(Self).map_err(raised)
    }

    /// The bytes of a .lowkey file.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = py.detach(|| self.0.to_bytes()).map_err(raised)?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Of a float ONNX file, by inputs to calibrate with; and by layer (name, shifts, error), and warnings.
    #[staticmethod]
    #[pyo3(signature = (onnx, folder, name, inputs, bits, channel_shifts))]
    fn quantise(
        py: Python<'_>,
        onnx: &[u8],
        folder: Option<PathBuf>,
        name: &str,
        inputs: &[u8],
        bits: u32,
        channel_shifts: bool,
    ) -> PyResult<(Self, Vec<Layer>, Vec<String>)> {
        let made = py.detach(|| {
            let inputs = reals(inputs)?;
            lowkey::Model::quantise(onnx, folder.as_deref(), name, &inputs, &Settings { bits, channel_shifts })
        });
        let made = made.map_err(raised)?;
        let layers = made.layers.into_iter().map(|layer| (layer.name, layer.shifts, layer.error)).collect();
        Ok((Self(made.model), layers, made.warnings))
    }

    /// The same with names of its classes.
    fn with_classes(&self, classes: Vec<String>) -> PyResult<Self> {
        self.0.clone().with_classes(classes).map(Self).map_err(raised)
    }

    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    #[getter]
    fn classes(&self) -> Vec<String> {
        self.0.architecture().classes.clone()
    }

    /// Dimensions of one input, as the model's file has them.
    #[getter]
    fn input_shape(&self) -> Vec<usize> {
        shape(&self.0.architecture().input)
    }

    /// Channels, height, width.
    #[getter]
    fn image_shape(&self) -> [usize; 3] {
        self.0.architecture().input.shape
    }

    #[getter]
    fn input(&self) -> String {
        self.0.input_line()
    }

    #[getter]
    fn output(&self) -> String {
        self.0.output_line()
    }

    /// Whether real numbers have a meaning: the file says how they are quantised.
    #[getter]
    fn takes_reals(&self) -> bool {
        self.0.architecture().input.coding.is_some()
    }

    /// What an import had to say.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.0.report().map(|report| report.notes.clone()).unwrap_or_default()
    }

    /// Answers one input.
    fn answer(&self, py: Python<'_>, values: &[u8], kind: &str) -> PyResult<Answer> {
        let elements = Elements::new(values, kind).map_err(raised)?;
        py.detach(|| self.0.answer(elements.values())).map(Answer).map_err(raised)
    }

    /// Classes (int64, -1 where there is none) and logits (int64, a row for each) of a batch.
    fn answers<'py>(
        &self,
        py: Python<'py>,
        values: &[u8],
        kind: &str,
    ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let answered = py.detach(|| {
            let batch = Elements::new(values, kind)?.batch(&self.0.architecture().input)?;
            rows(&self.0, &batch)
        });
        let rows = answered.map_err(raised)?;
        let bytes = |values: Vec<i64>| -> Vec<u8> { values.iter().flat_map(|value| value.to_ne_bytes()).collect() };
        let classes: Vec<i64> = rows.iter().map(|(class, _)| class.map_or(-1, |class| class as i64)).collect();
        let logits: Vec<i64> = rows.into_iter().flat_map(|(_, logits)| logits).collect();
        Ok((PyBytes::new(py, &bytes(classes)), PyBytes::new(py, &bytes(logits))))
    }

    /// JSON, as the command prints it.
    fn plan(&self, py: Python<'_>, link: &str) -> PyResult<String> {
        let link = link_of(link)?;
        py.detach(|| lowkey::command::plan_json(&self.0, link)).map_err(raised)
    }

    /// Writes a .lowkey file.
    fn write(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.0.write(path)).map_err(raised)
    }

    /// Images to try it on, as (values, labels), where there are any.
    fn demo<'py>(&self, py: Python<'py>) -> Option<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let demo = self.0.demo()?;
        let values: Vec<u8> = demo.inputs.stored().flatten().copied().collect();
        Some((PyBytes::new(py, &values), PyBytes::new(py, &demo.labels)))
    }
}

/// What a file does not say.
fn said((mean, std, rounding, approximate): Said) -> PyResult<Options> {
    let preprocessing = match (mean, std) {
        (None, None) => None,
        (mean, std) => Some(Preprocessing {
            scale: 1.0,
            over: 255.0,
            mean: mean.unwrap_or_else(|| vec![0.0]),
            std: std.unwrap_or_else(|| vec![1.0]),
        }),
    };
    let mut options = Options { preprocessing, approximate, ..Options::default() };
    match rounding.as_deref() {
        None | Some("reference") => {}
        Some("xnnpack") => options.tflite = tflite::Kernels::Single,
        Some("int8") => options.onnx = onnx::Kernels::Int8,
        Some(other) => return Err(usage(format!("rounding {other:?}"), "expected reference, xnnpack or int8")),
    }
    Ok(options)
}

/// Class and logits of each, on all cores.
fn rows(model: &lowkey::Model, batch: &[Tensor]) -> Result<Vec<(Option<usize>, Vec<i64>)>> {
    let architecture = model.architecture();
    let outputs = model.network().run_batch_parallel(batch).map_err(|error| Error::Input(Box::new(error)))?;
    let row = |output: Tensor| {
        let logits: Vec<i64> = output.into_iter().collect();
        (architecture.class_of(&logits), architecture.ordered(&logits))
    };
    Ok(outputs.into_iter().map(row).collect())
}
