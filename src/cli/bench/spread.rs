//! Times of many, in a few numbers; and a load as text.

use std::fmt::Write;

use lowkey::report::{human_bytes, human_ms};
use serde::Serialize;

use super::serve::Load;
use crate::cli::table::{Table, number, text as words};

/// How times spread: each is that of the one at this place in line, so that it was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub count: usize,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub most: f64,
}

impl Spread {
    /// All zero of none.
    pub fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let place = (times.len() * percent).div_ceil(100);
            times.get(place.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self { count: times.len(), p50: at(50), p95: at(95), p99: at(99), most: at(100) }
    }
}

/// For people.
pub fn text(load: &Load) -> String {
    let mut table =
        Table::new(&[words("time"), number("count"), number("p50"), number("p95"), number("p99"), number("longest")]);
    for (name, spread) in [
        ("wait for a session", load.wait_ms),
        ("offline", load.offline_ms),
        ("online", load.online_ms),
        ("answer", load.answer_ms),
    ] {
        let [p50, p95, p99, most] = [spread.p50, spread.p95, spread.p99, spread.most].map(human_ms);
        table.row([name.to_owned(), spread.count.to_string(), p50, p95, p99, most]);
    }
    let mut text = table.for_terminal();
    let (clients, answers, seconds, rate) = (load.clients, load.answers, load.seconds, load.answers_per_second);
    let _ = write!(text, "\n{answers} answers to {clients} clients in {seconds:.1} s: {rate:.1} per second");
    let wrong = load.wrong.map_or("not compared".to_owned(), |wrong| format!("{wrong} wrong"));
    let _ = write!(text, "\n{wrong}, {} failed, {} times full", load.failed, load.refused);
    for (why, times) in &load.errors {
        let _ = write!(text, "\n  {times} times: {why}");
    }
    if let (Some(first), Some(last)) = (load.server_peak_bytes.first(), load.server_peak_bytes.last()) {
        let [first, last] = [first, last].map(|bytes| human_bytes(*bytes));
        let _ = write!(text, "\nserver: at most {first} after a tenth of the answers, {last} at the end");
    }
    if let Some(bytes) = load.client_peak_bytes {
        let _ = write!(text, "\nall clients, in one process: at most {}", human_bytes(bytes));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_line() {
        let spread = Spread::of((1..=200).rev().map(f64::from).collect());
        assert_eq!(spread, Spread { count: 200, p50: 100.0, p95: 190.0, p99: 198.0, most: 200.0 });
        assert_eq!(Spread::of(vec![7.0]), Spread { count: 1, p50: 7.0, p95: 7.0, p99: 7.0, most: 7.0 });
        assert_eq!(Spread::of(vec![]), Spread::default());
    }
}
