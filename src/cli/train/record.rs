//! What a training prints: after each epoch, and at the end.

use std::path::Path;

use lowkey::report::{StageReport, human_bytes, human_ms, peak_memory};
use lowkey::train::{Cost, FeatureCost, Net, Progress, Trained};
use serde::Serialize;

use super::super::records::stage_line;
use super::super::several;

/// After an epoch.
#[derive(Serialize)]
pub struct StepRecord {
    epoch: u64,
    steps_done: u64,
    steps: u64,
    /// Of this session.
    seconds: f64,
    seconds_per_step: f64,
    bytes_per_step: u64,
    seconds_left: f64,
}

impl StepRecord {
    pub fn new(progress: &Progress) -> Self {
        Self {
            epoch: progress.done / progress.steps_per_epoch,
            steps_done: progress.done,
            steps: progress.steps,
            seconds: progress.seconds,
            seconds_per_step: progress.seconds / progress.here.max(1) as f64,
            bytes_per_step: progress.bytes / progress.here.max(1),
            seconds_left: progress.seconds_left(),
        }
    }

    pub fn text(&self) -> String {
        format!(
            "epoch {}, step {} of {}: {} and {} per step, {} left",
            self.epoch,
            self.steps_done,
            self.steps,
            human_ms(1e3 * self.seconds_per_step),
            human_bytes(self.bytes_per_step),
            human_ms(1e3 * self.seconds_left)
        )
    }
}

/// At the end.
#[derive(Serialize)]
pub struct Record {
    net: String,
    samples: u64,
    epochs: u32,
    steps: u64,
    weights_to: String,
    /// Of this session.
    steps_here: u64,
    /// Of this session, from the handshake to the weights.
    seconds: f64,
    /// Over the socket, both ways, in that time.
    bytes: u64,
    setup: StageReport,
    /// Of a head: private inferences up to its features, in this session.
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<StageReport>,
    /// Batches of OTs.
    ots: StageReport,
    /// Steps but for these.
    online: StageReport,
    /// The opening of the weights.
    closing: StageReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    /// Of the written network, on the samples that it was not trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_out: Option<Accuracy>,
    peak_memory_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Accuracy {
    images: usize,
    correct: usize,
    /// Percent.
    accuracy: f64,
}

impl Accuracy {
    fn new(correct: usize, images: usize) -> Self {
        Self { images, correct, accuracy: 100.0 * correct as f64 / images as f64 }
    }

    fn text(&self) -> String {
        format!("held out: {} of {} correct, {:.2} %", self.correct, self.images, self.accuracy)
    }
}

impl Record {
    pub fn new(trained: &Trained) -> Self {
        let Trained { terms, setup, features, ots, online, closing, .. } = trained;
        let of = |stage: &StageReport| stage.socket_bytes_sent + stage.socket_bytes_received;
        // Batches of OTs are made between steps, in their time.
        let timed = [setup, online, closing].into_iter().chain(features);
        Self {
            net: terms.net.to_string(),
            samples: terms.samples,
            epochs: terms.epochs,
            steps: terms.steps(),
            weights_to: terms.weights_to.to_string(),
            steps_here: trained.steps,
            seconds: timed.map(|stage| stage.ms).sum::<f64>() / 1e3,
            bytes: [setup, ots, online, closing].into_iter().chain(features).map(of).sum(),
            setup: setup.clone(),
            features: features.clone(),
            ots: ots.clone(),
            online: online.clone(),
            closing: closing.clone(),
            output: None,
            held_out: None,
            peak_memory_bytes: peak_memory(None),
        }
    }

    pub fn wrote(&mut self, output: &Path) {
        self.output = Some(output.display().to_string());
    }

    pub fn measured(&mut self, correct: usize, images: usize) {
        self.held_out = Some(Accuracy::new(correct, images));
    }

    pub fn text(&self) -> String {
        let mut text = format!(
            "{} on {} samples: {} of {} steps, {}\n{:.1} s, {} over the socket, both ways",
            self.net,
            self.samples,
            self.steps_here,
            self.steps,
            several(self.epochs.into(), "epoch"),
            self.seconds,
            human_bytes(self.bytes)
        );
        let mut row = |name, stage: &StageReport| text += &format!("\n{}", stage_line(name, &on_socket(stage)));
        row("setup", &self.setup);
        self.features.iter().for_each(|features| row("features", features));
        // Their time is that of the steps.
        row("OTs", &StageReport { ms: 0.0, ..self.ots.clone() });
        row("training", &self.online);
        row("opening", &self.closing);
        if let Some(accuracy) = &self.held_out {
            text += &format!("\n{}", accuracy.text());
        }
        if let Some(output) = &self.output {
            text += &format!("\nwrote {output}; next: lowkey serve --model {output}");
        }
        text
    }
}

/// A stage as the socket sees it, so that the lines of a training add up to all of it.
fn on_socket(stage: &StageReport) -> StageReport {
    let (bytes_sent, bytes_received) = (stage.socket_bytes_sent, stage.socket_bytes_received);
    StageReport { bytes_sent, bytes_received, ..stage.clone() }
}

/// What a training will take, for `--plan`.
#[derive(Serialize)]
pub struct PlanRecord {
    net: String,
    samples: u64,
    steps_per_epoch: u64,
    /// Of a step, both ways, OTs included.
    bytes_per_step: u64,
    bytes_per_epoch: u64,
    flights_per_step: u64,
    products: u64,
    guard_bits: u64,
    rectifiers: u64,
    extensions: u64,
    softmax: u64,
    headers: u64,
    ots: u64,
    ot_bytes: u64,
    /// Of a head: of a sample, once, OTs included, and of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    features_per_sample: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features_bytes: Option<u64>,
}

impl PlanRecord {
    pub fn new(net: &Net, samples: u64, cost: &Cost, of_features: Option<&FeatureCost>) -> Self {
        let steps = samples / 128;
        let Cost { products, guard_bits, rectifiers, extensions, softmax, headers, ots, ot_bytes, flights, .. } = *cost;
        Self {
            net: net.to_string(),
            samples,
            steps_per_epoch: steps,
            bytes_per_step: cost.total(),
            bytes_per_epoch: steps * cost.total(),
            flights_per_step: flights,
            products,
            guard_bits,
            rectifiers,
            extensions,
            softmax,
            headers,
            ots,
            ot_bytes,
            features_per_sample: of_features.map(|of| of.sample + of.scaling + of.ot_bytes),
            features_bytes: of_features.map(|of| of.total(samples)),
        }
    }

    pub fn text(&self) -> String {
        let parts = [
            ("products", self.products),
            ("their guard bits", self.guard_bits),
            ("rectifiers", self.rectifiers),
            ("extensions", self.extensions),
            ("softmax", self.softmax),
            ("oblivious transfers", self.ot_bytes),
            ("frame headers", self.headers),
        ];
        let row = |(name, bytes): &(&str, u64)| format!("  {name:<20} {:>9}\n", human_bytes(*bytes));
        let features = self.features_per_sample.zip(self.features_bytes).map_or_else(String::new, |(one, all)| {
            format!("\nfeatures, once: {} for each sample, {} for all", human_bytes(one), human_bytes(all))
        });
        format!(
            "{}: a step of 128 samples, both ways: {}, at most {} flights\n{}an epoch of {} samples: {} steps, {}{features}",
            self.net,
            human_bytes(self.bytes_per_step),
            self.flights_per_step,
            parts.iter().map(row).collect::<String>(),
            self.samples,
            self.steps_per_epoch,
            human_bytes(self.bytes_per_epoch)
        )
    }
}

/// What a rehearsal found.
#[derive(Serialize)]
pub struct RehearsalRecord {
    net: String,
    samples: usize,
    steps: u64,
    /// Values out of range.
    overflows: u64,
    spare_bits: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_out: Option<Accuracy>,
}

impl RehearsalRecord {
    pub fn new(net: &Net, samples: usize, steps: u64, overflows: u64, spare_bits: f64) -> Self {
        Self { net: net.to_string(), samples, steps, overflows, spare_bits, held_out: None }
    }

    pub fn measured(&mut self, correct: usize, images: usize) {
        self.held_out = Some(Accuracy::new(correct, images));
    }

    pub fn text(&self) -> String {
        let ranges = match self.overflows {
            0 => format!("no value out of range, {:.1} bits to spare", self.spare_bits),
            n => format!("{n} values out of range: a private training would go wrong unseen"),
        };
        let mut text =
            format!("{} on {} samples, in the clear: {} steps\n{ranges}", self.net, self.samples, self.steps);
        if let Some(accuracy) = &self.held_out {
            text += &format!("\n{}", accuracy.text());
        }
        text
    }
}
