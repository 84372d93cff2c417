//! `lowkey key`: what is known of a server's key, and a new one in its place.

use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use lowkey::store::{LONGEST_USE, Lifetime, MOST_INFERENCES, Old, Record, Store};
use lowkey::{Error, Result};
use serde::Serialize;
use time::OffsetDateTime;

use super::{Places, help, print_json, say};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show where the key lies, its fingerprint, its age, and the inferences counted under it.
    #[command(after_help = help::KEY_SHOW)]
    Show(Common),
    /// Put a new key in its place: every digest changes, and clients must be told.
    #[command(after_help = help::KEY_ROTATE)]
    Rotate {
        #[command(flatten)]
        common: Common,
        /// Overwrite the old key instead of keeping it beside the new one: for a key that somebody may have read.
        #[arg(long)]
        wipe: bool,
    },
}

#[derive(Args)]
struct Common {
    #[command(flatten)]
    places: Places,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::Show(common) => show(&common)?,
        Command::Rotate { common, wipe } => rotate(&common, if wipe { Old::Wiped } else { Old::Kept })?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What is said of a key.
#[derive(Serialize)]
struct Shown {
    path: String,
    fingerprint: String,
    created: String,
    age_days: u64,
    inferences: u64,
    counted_since: String,
    inferences_left: u64,
    expires: String,
    lifetime: &'static str,
}

impl Shown {
    fn new(store: &Store, record: &Record, now: SystemTime) -> Self {
        let age = now.duration_since(record.created()).unwrap_or_default();
        Self {
            path: store.key_path().display().to_string(),
            fingerprint: record.fingerprint.to_string(),
            created: date(record.created()),
            age_days: age.as_secs() / (24 * 60 * 60),
            inferences: record.inferences,
            counted_since: date(record.counted_since()),
            inferences_left: record.inferences_left(),
            expires: date(record.expires()),
            lifetime: match record.lifetime(now) {
                Lifetime::Good => "good",
                Lifetime::Ending => "ending",
                Lifetime::TooOld | Lifetime::UsedUp => "over",
            },
        }
    }
}

/// The day, by universal time.
pub fn date(time: SystemTime) -> String {
    OffsetDateTime::from(time).date().to_string()
}

/// The store, if it has a key.
fn open(common: &Common) -> Result<Store> {
    let store = common.places.open()?;
    if store.key_path().exists() {
        return Ok(store);
    }
    Err(Error::usage(
        format!("there is no key at {}", store.key_path().display()),
        "`lowkey serve` makes one; --state names its folder",
    ))
}

fn show(common: &Common) -> Result<()> {
    let store = open(common)?;
    let now = SystemTime::now();
    let record = store.key_record(now)?.ok_or_else(|| Error::internal("the key was there"))?;
    let shown = Shown::new(&store, &record, now);
    if common.json {
        return print_json(&shown);
    }
    let since = if shown.counted_since == shown.created { "" } else { &format!(" since {}", shown.counted_since) };
    say(format_args!("key         {}", shown.path))?;
    say(format_args!("fingerprint {}", shown.fingerprint))?;
    say(format_args!("created     {}, {} days ago", shown.created, shown.age_days))?;
    say(format_args!("inferences  {}{since}, {} left", shown.inferences, shown.inferences_left))?;
    say(format_args!("lifetime    {}: ends on {}", shown.lifetime, ends(&record)))
}

/// Where a key's lifetime ends.
pub fn ends(record: &Record) -> String {
    let [days, bits] = [LONGEST_USE.as_secs() / (24 * 60 * 60), u64::from(MOST_INFERENCES.ilog2())];
    format!("{} ({days} days) or after 2^{bits} inferences", date(record.expires()))
}

/// What a rotation did.
#[derive(Serialize)]
struct Rotation {
    path: String,
    was: Option<String>,
    kept: Option<String>,
    fingerprint: String,
    expires: String,
}

fn rotate(common: &Common, old: Old) -> Result<()> {
    let store = open(common)?;
    let rotated = store.rotate_key(old, SystemTime::now())?;
    let rotation = Rotation {
        path: store.key_path().display().to_string(),
        was: rotated.was.map(|was| was.to_string()),
        kept: rotated.kept.map(|kept| kept.display().to_string()),
        fingerprint: rotated.record.fingerprint.to_string(),
        expires: date(rotated.record.expires()),
    };
    if common.json {
        return print_json(&rotation);
    }
    say(format_args!("key         {}", rotation.path))?;
    say(format_args!("was         {}", rotation.was.as_deref().unwrap_or("no key")))?;
    say(format_args!("is          {}, until {}", rotation.fingerprint, rotation.expires))?;
    say(match &rotation.kept {
        Some(kept) => format!("old key     kept as {kept};\n            remove it once nobody needs the old digests"),
        None => "old key     overwritten; copies in backups are not".into(),
    })?;
    say("Every model has a new digest from the next start of `lowkey serve` on.")?;
    say("Clients that noted or pinned the old one refuse it until they are told:")?;
    say("`lowkey forget ADDR` accepts the next model there, and")?;
    say("`lowkey infer --model-digest HEX` the one that `lowkey serve` prints.")
}
