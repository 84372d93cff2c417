//! What clap says of arguments that are none, said so that it helps: a model or an input given in another command's way, and a usage
//! line that fits a terminal.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What is wrong with the arguments of `command`: how it is given its model or its input, where that is what went wrong.
pub fn explained(error: clap::Error, command: Command, arguments: &[OsString]) -> clap::Error {
    tipped(with_usage(error, command, arguments), arguments)
}

/// The usage line of the help. Clap's own repeats what was given, values of the environment among it, as if all of it were required.
fn with_usage(mut error: clap::Error, mut command: Command, arguments: &[OsString]) -> clap::Error {
    if error.get(ContextKind::Usage).is_none() {
        return error;
    }
    command.build();
    let mut command = &mut command;
    for word in arguments.iter().skip(1).filter_map(|argument| argument.to_str()) {
        if command.find_subcommand(word).is_some() {
            command = command.find_subcommand_mut(word).expect("it was found");
        }
    }
    error.insert(ContextKind::Usage, ContextValue::StyledStr(command.render_usage()));
    error
}

fn tipped(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let given = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(given)) if error.kind() == ErrorKind::UnknownArgument => given.clone(),
        _ => return error,
    };
    let words = arguments.iter().skip(1).filter_map(|argument| argument.to_str());
    let command = words.clone().find(|word| !word.starts_with('-')).unwrap_or_default();
    if let Some(tip) = tip(command, &given) {
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn tip(command: &str, given: &str) -> Option<String> {
    let is_value = !given.starts_with('-');
    match command {
        "plan" | "import" | "quantise" | "distort" | "optimise" if given == "--model" => {
            Some(format!("{command} takes the model without --model: lowkey {command} FILE"))
        }
        "serve" | "eval" | "demo" if is_value => {
            Some(format!("{command} takes the model with --model: lowkey {command} --model {given}"))
        }
        "infer" if is_value => Some(format!("infer takes its file with --input: --input {given}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(mut command: Command, all: &mut Vec<String>) {
        all.push(command.render_usage().to_string());
        let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        for name in names.iter().filter(|name| *name != "help") {
            lines(command.find_subcommand(name).expect("it has one").clone(), all);
        }
    }

    #[test]
    fn every_usage_line_fits_a_terminal() {
        let mut command = crate::cli::command();
        command.build();
        let mut all = Vec::new();
        lines(command, &mut all);
        assert!(all.len() > 20, "{all:?}");
        for line in all {
            assert!(line.starts_with("Usage: lowkey") && line.lines().all(|line| line.len() <= 80), "{line}");
        }
    }

    #[test]
    fn what_is_given_is_not_called_required() {
        let words = ["lowkey", "serve", "--model", "digits", "--cert", "c", "--cache", "x", "--state", "y"];
        let arguments = words.map(OsString::from);
        let error = crate::cli::command().try_get_matches_from(&arguments).expect_err("the key is missing");
        let said = explained(error, crate::cli::command(), &arguments).to_string();
        assert!(said.contains("--key <FILE>") && said.contains("Usage: lowkey serve [OPTIONS] --model"), "{said}");
        assert!(!said.contains("--cache"), "{said}");
    }
}
