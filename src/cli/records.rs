//! The lines of `--json`: one object per line, documented in docs/json.md, stable.

use lowkey::Answer;
use lowkey::report::{LayerReport, StageReport, human_bytes, human_ms, peak_memory};
use serde::Serialize;

/// The stages of one inference. Setup happens once per session and is repeated in every line.
#[derive(Serialize)]
pub struct Stages<'a> {
    pub setup: &'a StageReport,
    pub offline: &'a StageReport,
    pub online: &'a StageReport,
}

/// A line of `infer` and `demo`.
#[derive(Serialize)]
pub struct InferenceRecord<'a> {
    /// Position of the input in its file.
    pub index: usize,
    /// The class: of most networks the index of the largest output, the lowest of equals; null where the network computes none.
    pub prediction: Option<usize>,
    /// Its name, where the model has names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<&'a str>,
    /// The network's integer outputs, zero points subtracted, in the order of the model's file; absent with `--reveal class`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logits: Option<&'a [i64]>,
    /// What the model's file computes of them in real numbers, where the unit is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<&'a [f64]>,
    /// The quantised tensor that is the file's own output, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantised: Option<&'a [i64]>,
    /// Demo: what the image shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<u16>,
    /// Demo: equal to the plaintext network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<bool>,
    pub stages: Stages<'a>,
    pub layers: &'a [LayerReport],
    /// The most memory that this process has had resident so far, where the system says.
    pub peak_memory_bytes: Option<u64>,
}

impl<'a> InferenceRecord<'a> {
    pub fn new(index: usize, answer: &'a Answer, setup: &'a StageReport) -> Self {
        Self {
            index,
            prediction: answer.class,
            class: answer.name.as_deref(),
            logits: answer.logits.as_deref(),
            outputs: answer.scores.as_deref(),
            quantised: answer.quantised.as_deref(),
            label: None,
            matches: None,
            stages: Stages { setup, offline: &answer.report.offline, online: &answer.report.online },
            layers: &answer.report.layers,
            peak_memory_bytes: peak_memory(None),
        }
    }
}

/// One stage for people: time, bytes each way, flights.
pub fn stage_line(name: &str, stage: &StageReport) -> String {
    format!(
        "{name:<8} {:>8}   sent {:>9}   received {:>9}   {:>3} flights",
        human_ms(stage.ms),
        human_bytes(stage.bytes_sent),
        human_bytes(stage.bytes_received),
        stage.flights
    )
}

/// The mean of some stages.
pub fn mean_stage<'a>(stages: impl Iterator<Item = &'a StageReport>) -> StageReport {
    let mut sum = StageReport::default();
    let mut count = 0u64;
    for stage in stages {
        sum.add(stage);
        count += 1;
    }
    let count = count.max(1);
    StageReport {
        ms: sum.ms / count as f64,
        bytes_sent: sum.bytes_sent / count,
        bytes_received: sum.bytes_received / count,
        flights: sum.flights / count,
        ots: sum.ots / count,
        ot_batch_bytes_sent: sum.ot_batch_bytes_sent / count,
        ot_batch_bytes_received: sum.ot_batch_bytes_received / count,
        socket_bytes_sent: sum.socket_bytes_sent / count,
        socket_bytes_received: sum.socket_bytes_received / count,
    }
}

/// The middle value (the upper one of two).
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
