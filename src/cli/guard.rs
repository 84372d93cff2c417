//! `lowkey guard`: who failed an audit of a server's guarded mode, and letting them in again.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use lowkey::store::{Offence, SlotPart, Standing};
use lowkey::{Error, Result};
use serde::Serialize;

use super::key::date;
use super::table::{Table, number, text};
use super::{Places, help, print_json, say};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the clients that are shut out, since when and why.
    #[command(after_help = help::GUARD_LIST)]
    List(Common),
    /// Let a client in again, from its next connection on; a running server need not be told.
    ///
    /// Whoever is shut out may have used a malformed slot before it was caught, one on average. A pardon is one more chance.
    #[command(after_help = help::GUARD_PARDON)]
    Pardon {
        /// The client, by the name in the list.
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args)]
struct Common {
    #[command(flatten)]
    places: Places,
    /// Print one JSON object per client instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::List(common) => list(&common)?,
        Command::Pardon { name, common } => pardon(&name, &common)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What is said of a client.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    shut_out: bool,
    since: Option<String>,
    /// In a word, for programs.
    offence: Option<&'static str>,
    why: Option<String>,
    pardons: u32,
}

impl<'a> Shown<'a> {
    fn new(name: &'a str, standing: &Standing) -> Self {
        let shut = standing.shut.as_ref();
        Self {
            name,
            shut_out: shut.is_some(),
            since: shut.map(|shut| date(shut.since())),
            offence: shut.map(|shut| word(&shut.offence)),
            why: shut.map(|shut| shut.offence.to_string()),
            pardons: standing.pardons,
        }
    }
}

fn word(offence: &Offence) -> &'static str {
    match offence {
        Offence::Unanswered => "unanswered",
        Offence::Differs(SlotPart::Opening) => "opening",
        Offence::Differs(SlotPart::Keys) => "keys",
        Offence::Differs(SlotPart::Bodies { .. }) => "bodies",
        Offence::Differs(SlotPart::Corrections) => "corrections",
        Offence::Cheated => "cheated",
    }
}

fn list(common: &Common) -> Result<()> {
    let offences = common.places.open()?.offences()?;
    let shown: Vec<Shown> = offences.iter().map(|(name, standing)| Shown::new(name, standing)).collect();
    if common.json {
        return shown.iter().try_for_each(print_json);
    }
    if !shown.iter().any(|one| one.shut_out) {
        say("nobody is shut out")?;
    }
    if shown.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&[text("client"), text("shut out"), number("pardons").drop(1), text("why")]);
    for one in &shown {
        let since = one.since.clone().unwrap_or_else(|| "no".into());
        table.row([one.name.to_owned(), since, one.pardons.to_string(), one.why.clone().unwrap_or_default()]);
    }
    say(table.for_terminal())
}

fn pardon(name: &str, common: &Common) -> Result<()> {
    let store = common.places.open()?;
    let (was, standing) = store.change_offences(|all| {
        let was = all.pardon(name);
        (was, all.iter().find(|(other, _)| *other == name).map(|(_, standing)| standing.clone()))
    })?;
    if !was {
        return Err(Error::usage(format!("{name:?} is not shut out"), "`lowkey guard list` names those who are"));
    }
    let standing = standing.unwrap_or_default();
    if common.json {
        return print_json(&Shown::new(name, &standing));
    }
    say(match standing.pardons {
        1 => format!("pardoned {name}"),
        times => format!("pardoned {name}, {times} times by now"),
    })
}
