//! An answer, as the package's Python makes one of it.

use lowkey::report::StageReport;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// What a network answers to one input.
#[pyclass(frozen, module = "lowkey._lowkey")]
pub struct Answer(pub lowkey::Answer);

/// int64 in the machine's order.
fn integers<'py>(py: Python<'py>, values: &[i64]) -> Bound<'py, PyBytes> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
    PyBytes::new(py, &bytes)
}

#[pymethods]
impl Answer {
    #[getter]
    fn class_index(&self) -> Option<usize> {
        self.0.class
    }

    #[getter]
    fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    #[getter]
    fn logits<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.logits.as_ref().map(|values| integers(py, values))
    }

    #[getter]
    fn quantised<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.quantised.as_ref().map(|values| integers(py, values))
    }

    #[getter]
    fn scores(&self) -> Option<Vec<f64>> {
        self.0.scores.clone()
    }

    /// (offline, online), each (milliseconds, bytes of both directions, flights).
    #[getter]
    fn stages(&self) -> [(f64, u64, u64); 2] {
        [&self.0.report.offline, &self.0.report.online].map(stage)
    }

    /// By layer: (name, offline bytes, online bytes, online milliseconds).
    #[getter]
    fn layers(&self) -> Vec<(String, u64, u64, f64)> {
        let layers = self.0.report.layers.iter();
        layers.map(|layer| (layer.name.clone(), layer.offline_bytes, layer.online_bytes, layer.online_ms)).collect()
    }
}

/// (milliseconds, bytes of both directions, flights).
pub fn stage(report: &StageReport) -> (f64, u64, u64) {
    (report.ms, report.bytes(), report.flights)
}
