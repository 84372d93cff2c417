//! Answers for people: what the network says in a line, what it took, layer by layer.

use std::cmp::Ordering;

use lowkey::report::{LayerReport, human_bytes, human_ms};
use lowkey::{Answer, Plan};
use lowkey_models::{Architecture, ClassRule};

use super::records::{mean_stage, stage_line};
use super::several;
use super::table::{Table, number, text};
use super::terminal::{Paint, colours, paint};

/// Outputs on one line, the best of many.
const BEST: usize = 5;

/// What a plan says of a network before it answers, in two lines.
pub fn intro(name: &str, plan: &Plan) -> String {
    let sets = plan.sets.iter().map(|set| format!("{} with {}", set.set.name, several(set.secrets as u64, "key")));
    let sets: Vec<String> = sets.collect();
    let encryption = match sets.is_empty() {
        true => String::new(),
        false => format!("\nencryption: {} (`lowkey parameters`)", sets.join(", ")),
    };
    format!("{name}: {} activations, planned for {}{encryption}", plan.activations(), plan.choices.link)
}

/// The titles of [`demo_row`].
pub fn demo_titles() -> String {
    paint(&row(["image", "label", "answer", "in the clear", "offline", "online", "bytes"]), Paint::Bold, colours())
}

fn row(cells: [&str; 7]) -> String {
    let [image, label, answer, clear, offline, online, bytes] = cells;
    format!("{image:>5}  {label:>11}  {answer:>11}  {clear:<12}  {offline:>8}  {online:>8}  {bytes:>9}")
}

/// An image of the demo: its label, the private answer, and whether that is the plaintext network's.
pub fn demo_row(index: usize, label: u16, matches: bool, answer: &Answer, architecture: &Architecture) -> String {
    let named = |class: Option<usize>| match class {
        Some(class) => short(&class_name(class, architecture), 11),
        None => "none".to_owned(),
    };
    let report = &answer.report;
    let line = row([
        &index.to_string(),
        &named(Some(label.into())),
        &named(answer.class),
        if matches { "the same" } else { "DIFFERENT" },
        &human_ms(report.offline.ms),
        &human_ms(report.online.ms),
        &human_bytes(report.offline.bytes() + report.online.bytes()),
    ]);
    if matches { line } else { paint(&line, Paint::Red, colours()) }
}

/// A class's name, or its number.
fn class_name(class: usize, architecture: &Architecture) -> String {
    architecture.classes.get(class).cloned().unwrap_or_else(|| class.to_string())
}

/// At most `most` characters.
fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 2).collect::<String>() + ".."
}

/// The end of the demo: means, layers, how many were right.
pub fn demo_summary(answers: &[Answer], matching: usize, correct: usize) -> String {
    let n = answers.len();
    let batches =
        batches(answers).unwrap_or_else(|| "the oblivious transfers made at setup were enough for them".to_owned());
    let same = format!("{matching} of {n} equal to the plaintext network");
    let same = paint(&same, if matching == n { Paint::Green } else { Paint::Red }, colours());
    format!(
        "\n{}\n{batches}\n\nby layer, without the bytes of the transfers themselves\n{}\n\n\
         {correct} of {n} predictions correct, {same}",
        mean(answers),
        layer_table(answers)
    )
}

/// The oblivious transfers that were made meanwhile, of which the answers are charged what they use.
pub fn batches(answers: &[Answer]) -> Option<String> {
    let stages = answers.iter().flat_map(|answer| [&answer.report.offline, &answer.report.online]);
    let bytes: u64 = stages.map(|stage| stage.ot_batch_bytes_sent + stage.ot_batch_bytes_received).sum();
    (bytes > 0)
        .then(|| format!("oblivious transfers made meanwhile, in batches for many inferences: {}", human_bytes(bytes)))
}

/// The mean of some answers: a line for each stage.
pub fn mean(answers: &[Answer]) -> String {
    format!(
        "mean of {}; an oblivious transfer is charged where it is used\n{}\n{}",
        several(answers.len() as u64, "inference"),
        stage_line("offline", &mean_stage(answers.iter().map(|answer| &answer.report.offline))),
        stage_line("online", &mean_stage(answers.iter().map(|answer| &answer.report.online)))
    )
}

/// The layers of some answers, averaged.
fn layer_table(answers: &[Answer]) -> String {
    let mut table = Table::new(&[text("layer"), number("offline"), number("online"), number("online time")]);
    let Some(first) = answers.first() else { return String::new() };
    for layer in &first.report.layers {
        let all = || answers.iter().flat_map(|answer| &answer.report.layers).filter(|other| other.name == layer.name);
        let of = |pick: fn(&LayerReport) -> f64| all().map(pick).sum::<f64>() / answers.len() as f64;
        let bytes = |bytes: f64| if bytes > 0.0 { human_bytes(bytes as u64) } else { "-".to_owned() };
        let time = of(|layer| layer.online_ms);
        let name = match layer.name.as_str() {
            "control" => "requests",
            name => name,
        };
        table.row([
            name.to_owned(),
            bytes(of(|layer| layer.offline_bytes as f64)),
            bytes(of(|layer| layer.online_bytes as f64)),
            if time > 0.0 { human_ms(time) } else { "-".to_owned() },
        ]);
    }
    table.for_terminal()
}

/// What a network answers, in a line: the best five classes, with their probabilities where there are any.
pub fn answer_line(index: usize, answer: &Answer, architecture: &Architecture) -> String {
    format!("image {index}: {}", said(answer, architecture))
}

fn said(answer: &Answer, architecture: &Architecture) -> String {
    let class = answer.class.map(|class| numbered(class, architecture));
    let Some(logits) = &answer.logits else { return class.unwrap_or_else(|| "no class".to_owned()) };
    let values = || value_texts(answer, logits);
    match architecture.class_rule(logits.len()) {
        rule @ (ClassRule::Largest { last } | ClassRule::Scaled { last }) => {
            let shares = answer.probabilities(architecture);
            let of = |&class: &usize| match &shares {
                Some(shares) => format!("{} ({:.1} %)", numbered(class, architecture), 100.0 * shares[class]),
                None => format!("{} ({})", numbered(class, architecture), logits[class]),
            };
            let scores = answer.scores.as_deref().filter(|_| matches!(rule, ClassRule::Scaled { .. }));
            let ranked = scores.map_or_else(|| ranked(logits, last), |scores| ranked(scores, last));
            ranked.iter().take(BEST).map(of).collect::<Vec<_>>().join(", ")
        }
        ClassRule::Above(_) => format!("{}, {}", class.unwrap_or_default(), values().join(", ")),
        ClassRule::Each { .. } => {
            let places = answer.scores.as_ref().map_or(logits.len(), Vec::len);
            format!("a class for each of {places} positions (--all or --json has them)")
        }
        ClassRule::None(_) => {
            let (values, all) = (values(), logits.len());
            let more = if all > BEST { format!(", and {} more (--all or --json)", all - BEST) } else { String::new() };
            format!("no class, {}{more}", values[..all.min(BEST)].join(", "))
        }
    }
}

/// "281 tabby cat", or the number alone where that is the name.
fn numbered(class: usize, architecture: &Architecture) -> String {
    match architecture.classes.get(class) {
        Some(name) if *name != class.to_string() => format!("{class} {name}"),
        _ => class.to_string(),
    }
}

/// Classes from the best to the worst; of equals the first, or the last, is better.
fn ranked<T: PartialOrd>(outputs: &[T], last: bool) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..outputs.len()).collect();
    if last {
        classes.reverse();
    }
    classes.sort_by(|&a, &b| outputs[b].partial_cmp(&outputs[a]).unwrap_or(Ordering::Equal));
    classes
}

/// Outputs in real numbers where their unit is known.
fn value_texts(answer: &Answer, logits: &[i64]) -> Vec<String> {
    match &answer.scores {
        Some(scores) => scores.iter().map(|score| format!("{score:.4}")).collect(),
        None => logits.iter().map(i64::to_string).collect(),
    }
}

/// What an answer took, under its line.
pub fn cost_line(answer: &Answer) -> String {
    let report = &answer.report;
    let bytes = human_bytes(report.offline.bytes() + report.online.bytes());
    let offline = match report.offline.bytes() {
        0 => String::new(),
        _ => format!("offline {}, ", human_ms(report.offline.ms)),
    };
    paint(&format!("  {offline}online {}, {bytes}", human_ms(report.online.ms)), Paint::Faint, colours())
}

/// Every output, a line each.
pub fn outputs_table(answer: &Answer, architecture: &Architecture) -> Option<String> {
    let logits = answer.logits.as_ref()?;
    let rule = architecture.class_rule(logits.len());
    if let (ClassRule::Each { .. }, Some(classes)) = (rule, &answer.scores) {
        let mut table = Table::new(&[number("position"), text("class")]);
        for (position, class) in classes.iter().enumerate() {
            table.row([position.to_string(), numbered(*class as usize, architecture)]);
        }
        return Some(table.for_terminal());
    }
    let shares = match rule {
        ClassRule::Largest { .. } | ClassRule::Scaled { .. } => answer.probabilities(architecture),
        _ => None,
    };
    let columns = [number("output"), text("name"), number("integer"), number("value"), number("probability")];
    let mut table = Table::new(&columns);
    let named = !matches!(rule, ClassRule::Above(_));
    for (index, logit) in logits.iter().enumerate() {
        let name = architecture.classes.get(index).filter(|name| named && **name != index.to_string());
        table.row([
            index.to_string(),
            name.cloned().unwrap_or_default(),
            logit.to_string(),
            answer.scores.as_ref().and_then(|scores| scores.get(index)).map_or(String::new(), |v| format!("{v:.4}")),
            shares.as_ref().map_or(String::new(), |shares| format!("{:.1} %", 100.0 * shares[index])),
        ]);
    }
    Some(table.for_terminal())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_rank_by_their_integers() {
        assert_eq!(ranked(&[3, -1, 7, 7], false), [2, 3, 0, 1]);
        assert_eq!(ranked(&[3, -1, 7, 7], true), [3, 2, 0, 1]);
    }
}
