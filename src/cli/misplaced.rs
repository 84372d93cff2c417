//! A model or an input given in another command's way: what to write instead.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Says how this command is given its model or its input, where that is what went wrong.
pub fn explained(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
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
