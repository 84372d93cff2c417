//! What a server did under load, as JSON and as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use lowkey::report::{human_bytes, human_ms};
use serde::Serialize;

use super::spread::Spread;
use crate::cli::several;
use crate::cli::table::{Table, number, text};

/// Times in milliseconds.
#[derive(Debug, Serialize)]
pub struct Load {
    pub clients: u16,
    pub answers: usize,
    pub seconds: f64,
    pub answers_per_second: f64,
    /// Other than the plaintext network's; null where that is not at hand.
    pub wrong: Option<usize>,
    pub failed: usize,
    /// Times that a client heard that the server is full, and came again.
    pub refused: usize,
    /// Why, and how often.
    pub errors: BTreeMap<String, usize>,
    /// From the first try to an open session.
    pub wait_ms: Spread,
    pub offline_ms: Spread,
    pub online_ms: Spread,
    /// Both, as the client's clock has it.
    pub answer_ms: Spread,
    /// The most that the server had resident after each tenth of the answers; empty where it is not ours.
    pub server_peak_bytes: Vec<u64>,
    pub client_peak_bytes: Option<u64>,
}

impl Load {
    /// For people.
    pub fn text(&self) -> String {
        let mut table = Table::new(&[
            text("time"),
            number("count"),
            number("p50"),
            number("p95"),
            number("p99"),
            number("longest"),
        ]);
        for (name, spread) in [
            ("wait for a session", self.wait_ms),
            ("offline", self.offline_ms),
            ("online", self.online_ms),
            ("answer", self.answer_ms),
        ] {
            let [p50, p95, p99, most] = [spread.p50, spread.p95, spread.p99, spread.most].map(human_ms);
            table.row([name.to_owned(), spread.count.to_string(), p50, p95, p99, most]);
        }
        let mut text = table.for_terminal();
        let (clients, answers, seconds, rate) = (self.clients, self.answers, self.seconds, self.answers_per_second);
        let _ = write!(
            text,
            "\n{} to {} in {seconds:.1} s: {rate:.1} per second",
            several(answers as u64, "answer"),
            several(clients.into(), "client")
        );
        let wrong = self.wrong.map_or("not compared".to_owned(), |wrong| format!("{wrong} wrong"));
        let _ = write!(text, "\n{wrong}, {} failed, {} times full", self.failed, self.refused);
        for (why, times) in &self.errors {
            let _ = write!(text, "\n  {times} times: {why}");
        }
        if let (Some(first), Some(last)) = (self.server_peak_bytes.first(), self.server_peak_bytes.last()) {
            let [first, last] = [first, last].map(|bytes| human_bytes(*bytes));
            let _ = write!(text, "\nserver: at most {first} after a tenth of the answers, {last} at the end");
        }
        if let Some(bytes) = self.client_peak_bytes {
            let _ = write!(text, "\nall clients, in one process: at most {}", human_bytes(bytes));
        }
        text
    }
}
