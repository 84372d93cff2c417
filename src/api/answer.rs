//! What a client learns of an input, and what that took.

use lowkey_models::Architecture;
use lowkey_models::coding::End;

use crate::answer::Output;
use crate::client::Inference;
use crate::coins::Coins;
use crate::report::{LayerReport, StageReport};

/// The answer to one input: what the model's own file computes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The class: of most networks the index of the largest output, the first of equals; `None` where the network computes none.
    pub class: Option<usize>,
    /// Its name, where the model has names.
    pub name: Option<String>,
    /// The real outputs in the order of the model's file, through the softmax, sigmoid or tanh that ends it; `None` where their unit
    /// is not known, or the class alone was revealed.
    pub scores: Option<Vec<f64>>,
    /// The network's integer outputs, zero points subtracted, in the order of the model's file; `None` if the class alone was revealed.
    pub logits: Option<Vec<i64>>,
    /// The quantised tensor that is the file's own output, where it is one.
    pub quantised: Option<Vec<i64>>,
    /// What it took; all zero of an answer in the clear.
    pub report: Report,
}

/// What an answer took.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Before the input was known; all zero in the direct schedule.
    pub offline: StageReport,
    /// Slots that were opened before one was left, in a guarded session; the offline stage is that of all.
    pub audits: u64,
    /// With the input.
    pub online: StageReport,
    /// Both by layer.
    pub layers: Vec<LayerReport>,
    /// By which activations were rounded, of a network that has coins.
    pub coins: Coins,
}

impl Answer {
    /// Of the integers, or the class, that a protocol opened.
    pub(crate) fn new(inference: Inference, architecture: &Architecture) -> Self {
        let Inference { output, offline, audits, online, layers, coins } = inference;
        Self { report: Report { offline, audits, online, layers, coins }, ..Self::of(&output, architecture) }
    }

    /// The same, without a report.
    pub(crate) fn of(output: &Output, architecture: &Architecture) -> Self {
        let (class, logits) = match output {
            Output::Class(class) => (Some(*class), None),
            Output::Logits(logits) => (architecture.class_of(logits), Some(logits.as_slice())),
        };
        Self {
            class,
            name: class.and_then(|class| architecture.classes.get(class)).cloned(),
            scores: logits.and_then(|logits| architecture.outputs(logits)),
            logits: logits.map(|logits| architecture.ordered(logits)),
            quantised: logits.and_then(|logits| architecture.quantised(logits)),
            report: Report::default(),
        }
    }

    /// Of each class, in the order of the logits: what the network's own softmax or sigmoid says, and the softmax of its real outputs
    /// where it has none; `None` where their unit is not known.
    pub fn probabilities(&self, architecture: &Architecture) -> Option<Vec<f64>> {
        let outputs = self.logits.as_ref()?.len();
        let scores = self.scores.as_ref().filter(|scores| scores.len() == outputs)?;
        let coding = architecture.output_coding.as_ref();
        match coding.map(|coding| (&coding.ends[..], coding.probability)) {
            Some(([.., End::Softmax | End::Sigmoid], _) | ([], true)) => Some(scores.clone()),
            None | Some(([], false)) => Some(softmax(scores)),
            Some(([.., End::LogSoftmax], _)) => Some(scores.iter().map(|score| score.exp()).collect()),
            Some(([.., End::Tanh | End::Clip { .. }], _)) => None,
        }
    }
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::softmax;

    #[test]
    fn shares_sum_to_one() {
        let shares = softmax(&[1000.0, 1000.0, 0.0]);
        assert!((shares[0] - 0.5).abs() < 1e-12 && (shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}
