//! What a training prints: after each epoch, and at the end.

use std::path::Path;

use lowkey::report::{StageReport, human_bytes, human_ms, peak_memory};
use lowkey::train::{Cost, Counts, FeatureCost, Net, Progress, Score, Trained};
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
    /// Of the epoch, or of its steps in this session, where this party is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<Scored>,
}

/// How the network did on samples while it trained, or in an evaluation.
#[derive(Serialize)]
struct Scored {
    samples: u64,
    right: u64,
    /// Percent.
    accuracy: f64,
    /// Softmax cross-entropy, the mean.
    loss: f64,
}

impl Scored {
    fn new(score: &Score) -> Self {
        Self { samples: score.samples, right: score.right, accuracy: score.accuracy(), loss: score.loss }
    }

    fn text(&self) -> String {
        format!("{:.2} % right, loss {:.3}", self.accuracy, self.loss)
    }
}

/// After an epoch of a rehearsal.
#[derive(Serialize)]
pub struct EpochRecord {
    epoch: u64,
    steps_done: u64,
    steps: u64,
    score: Scored,
}

impl EpochRecord {
    pub fn new(steps_done: u64, steps: u64, epochs: u32, score: &Score) -> Self {
        Self { epoch: steps_done * u64::from(epochs) / steps, steps_done, steps, score: Scored::new(score) }
    }

    pub fn text(&self) -> String {
        format!("epoch {}, step {} of {}: {}", self.epoch, self.steps_done, self.steps, self.score.text())
    }
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
            score: progress.score.as_ref().map(Scored::new),
        }
    }

    pub fn text(&self) -> String {
        let score = self.score.as_ref().map_or_else(String::new, |score| format!("\n  {}", score.text()));
        format!(
            "epoch {}, step {} of {}: {} and {} per step, {} left{score}",
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
    /// Of both parties.
    samples: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples_of_server: Option<u64>,
    #[serde(skip)]
    counts: Counts,
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
        let (seconds, bytes) = totals(trained);
        Self {
            net: terms.net.to_string(),
            samples: terms.samples.total(),
            samples_of_server: of_server(terms.samples),
            counts: terms.samples,
            epochs: terms.epochs,
            steps: terms.steps(),
            weights_to: terms.weights_to.to_string(),
            steps_here: trained.steps,
            seconds,
            bytes,
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
            "{} on {}: {} of {} steps, {}\n{:.1} s, {} over the socket, both ways",
            self.net,
            self.counts,
            self.steps_here,
            self.steps,
            several(self.epochs.into(), "epoch"),
            self.seconds,
            human_bytes(self.bytes)
        );
        text += &rows(&self.setup, self.features.as_ref(), &self.ots, ("training", &self.online));
        text += &row("opening", &self.closing);
        if let Some(accuracy) = &self.held_out {
            text += &format!("\n{}", accuracy.text());
        }
        if let Some(output) = &self.output {
            text += &format!("\nwrote {output}; next: lowkey serve --model {output}");
        }
        text
    }
}

/// How many samples the server has, if it has some.
fn of_server(counts: Counts) -> Option<u64> {
    Some(counts.server).filter(|count| *count > 0)
}

/// Seconds of a session, and bytes over the socket. Batches of OTs are made between steps, in their time.
fn totals(trained: &Trained) -> (f64, u64) {
    let Trained { setup, features, ots, online, closing, .. } = trained;
    let of = |stage: &StageReport| stage.socket_bytes_sent + stage.socket_bytes_received;
    let timed = [setup, online, closing].into_iter().chain(features);
    let bytes = [setup, ots, online, closing].into_iter().chain(features).map(of).sum();
    (timed.map(|stage| stage.ms).sum::<f64>() / 1e3, bytes)
}

fn row(name: &str, stage: &StageReport) -> String {
    format!("\n{}", stage_line(name, &on_socket(stage)))
}

/// The stages before an opening.
fn rows(setup: &StageReport, features: Option<&StageReport>, ots: &StageReport, steps: (&str, &StageReport)) -> String {
    let features = features.map_or_else(String::new, |features| row("features", features));
    // Their time is that of the steps.
    let ots = StageReport { ms: 0.0, ..ots.clone() };
    row("setup", setup) + &features + &row("OTs", &ots) + &row(steps.0, steps.1)
}

/// What an evaluation prints.
#[derive(Serialize)]
pub struct EvaluationRecord {
    net: String,
    /// Of both parties.
    samples: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples_of_server: Option<u64>,
    #[serde(skip)]
    counts: Counts,
    /// Who is told.
    score_to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<Scored>,
    seconds: f64,
    bytes: u64,
    setup: StageReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<StageReport>,
    ots: StageReport,
    online: StageReport,
    peak_memory_bytes: Option<u64>,
}

impl EvaluationRecord {
    pub fn new(trained: &Trained) -> Self {
        let Trained { terms, score, setup, features, ots, online, .. } = trained;
        let (seconds, bytes) = totals(trained);
        Self {
            net: terms.net.to_string(),
            samples: terms.samples.total(),
            samples_of_server: of_server(terms.samples),
            counts: terms.samples,
            score_to: terms.score_to.to_string(),
            score: score.as_ref().map(Scored::new),
            seconds,
            bytes,
            setup: setup.clone(),
            features: features.clone(),
            ots: ots.clone(),
            online: online.clone(),
            peak_memory_bytes: peak_memory(None),
        }
    }

    pub fn text(&self) -> String {
        let told = match &self.score {
            Some(Scored { samples, right, accuracy, loss }) => {
                format!("{right} of {samples} right, {accuracy:.2} %, loss {loss:.3}")
            }
            None => format!("the score went to the {}", self.score_to),
        };
        format!(
            "{} on {}, on shares of its weights\n{:.1} s, {} over the socket, both ways{}\n{told}",
            self.net,
            self.counts,
            self.seconds,
            human_bytes(self.bytes),
            rows(&self.setup, self.features.as_ref(), &self.ots, ("batches", &self.online))
        )
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
    /// Of both parties.
    samples: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples_of_server: Option<u64>,
    #[serde(skip)]
    counts: Counts,
    steps_per_epoch: u64,
    /// Of a step on samples of the data owner, both ways, OTs included.
    bytes_per_step: u64,
    /// Of a step on those of the model owner, if it has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_step_of_server: Option<u64>,
    bytes_per_epoch: u64,
    flights_per_step: u64,
    products: u64,
    guard_bits: u64,
    rectifiers: u64,
    extensions: u64,
    softmax: u64,
    /// Where one is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<u64>,
    headers: u64,
    ots: u64,
    ot_bytes: u64,
    #[serde(skip)]
    evaluate: bool,
    /// Of a head: of a sample, once, OTs included, and of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    features_per_sample: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features_bytes: Option<u64>,
}

impl PlanRecord {
    /// `costs` are those of a step on samples of the client and of the server.
    pub fn new(
        net: &Net,
        counts: Counts,
        costs: &[Cost; 2],
        of_features: Option<&FeatureCost>,
        evaluate: bool,
    ) -> Self {
        let (steps, [cost, of_servers]) = (counts.batches(evaluate), costs);
        let Cost {
            products, guard_bits, rectifiers, extensions, softmax, score, headers, ots, ot_bytes, flights, ..
        } = *cost;
        Self {
            net: net.to_string(),
            samples: counts.total(),
            samples_of_server: of_server(counts),
            counts,
            steps_per_epoch: steps.total(),
            bytes_per_step: cost.total(),
            bytes_per_step_of_server: of_server(counts).map(|_| of_servers.total()),
            bytes_per_epoch: steps.client * cost.total() + steps.server * of_servers.total(),
            flights_per_step: if counts.server > 0 { flights.max(of_servers.flights) } else { flights },
            products,
            guard_bits,
            rectifiers,
            extensions,
            softmax,
            score: (score > 0).then_some(score),
            headers,
            ots,
            ot_bytes,
            evaluate,
            features_per_sample: of_features.map(|of| of.sample + of.scaling + of.ot_bytes),
            features_bytes: of_features.map(|of| of.total(counts.client)),
        }
    }

    pub fn text(&self) -> String {
        let mut parts = vec![
            ("products", self.products),
            ("their guard bits", self.guard_bits),
            ("rectifiers", self.rectifiers),
            ("extensions", self.extensions),
            ("softmax", self.softmax),
            ("oblivious transfers", self.ot_bytes),
            ("frame headers", self.headers),
        ];
        parts.extend(self.score.map(|score| ("score", score)));
        let [one, all, steps] = match self.evaluate {
            false => ["a step of 128 samples", "an epoch", "steps"],
            true => ["128 samples of an evaluation", "an evaluation", "batches"],
        };
        let row = |(name, bytes): &(&str, u64)| format!("  {name:<20} {:>9}\n", human_bytes(*bytes));
        let features = self.features_per_sample.zip(self.features_bytes).map_or_else(String::new, |(one, all)| {
            format!("\nfeatures, once: {} for each sample, {} for all", human_bytes(one), human_bytes(all))
        });
        let of_server = self.bytes_per_step_of_server.filter(|bytes| *bytes != self.bytes_per_step);
        let of_server = of_server
            .map_or_else(String::new, |bytes| format!("the same of the server's samples: {}\n", human_bytes(bytes)));
        format!(
            "{}: {one}, both ways: {}, at most {} flights\n{}{of_server}{all} of {}: {} {steps}, {}{features}",
            self.net,
            human_bytes(self.bytes_per_step),
            self.flights_per_step,
            parts.iter().map(row).collect::<String>(),
            self.counts,
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
