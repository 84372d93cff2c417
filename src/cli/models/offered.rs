//! The models of a server, and whether they are those that this client has met.

use std::process::ExitCode;

use lowkey::client::note_of;
use lowkey::report::human_bytes;
use lowkey::store::Store;
use lowkey::{Client, Offer, Result, net};
use serde::Serialize;

use super::Arguments;
use crate::cli::table::{Table, number, text};
use crate::cli::{print_json, runtime, say};

/// What this client noted of a model, under the name that it has here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Noted {
    /// Nothing.
    New,
    /// The same digest.
    Same,
    /// Another digest: the model has changed, and `infer` refuses it.
    Changed,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    digest: String,
    noted: Noted,
    /// Channels, height, width.
    input: [u32; 3],
    input_bits: u32,
    outputs: u32,
    /// Of the plan and the hint, once per client.
    package_bytes: u64,
    /// Per inference, both directions, prepared.
    offline_bytes: u64,
    online_bytes: u64,
    flights: u64,
}

/// Asks a server for its models and prints them.
pub fn run(server: &str, arguments: &Arguments) -> Result<ExitCode> {
    let runtime = runtime()?;
    let trust = arguments.trust.of(server, runtime.block_on(net::is_loopback(server))?)?;
    let store = arguments.places.open()?;
    let mut builder = Client::builder().limits(arguments.timeout.limits()).trust(trust);
    if let Some((chain, key)) = arguments.trust.shown() {
        builder = builder.certificate(chain, key);
    }
    let offers = runtime.block_on(builder.models(server))?;
    let rows = offers.iter().map(|offer| row(offer, server, offers.len(), &store)).collect::<Result<Vec<_>>>()?;
    if arguments.json {
        rows.iter().try_for_each(print_json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        text("model"),
        text("input").drop(3),
        number("outputs").drop(1),
        number("package").drop(2),
        number("bytes"),
        number("flights"),
        text("noted"),
    ]);
    for row in &rows {
        let [channels, height, width] = row.input;
        table.row([
            row.name.to_owned(),
            format!("{channels}x{height}x{width}"),
            row.outputs.to_string(),
            human_bytes(row.package_bytes),
            human_bytes(row.offline_bytes + row.online_bytes),
            row.flights.to_string(),
            match row.noted {
                Noted::New => "new",
                Noted::Same => "same",
                Noted::Changed => "CHANGED",
            }
            .to_owned(),
        ]);
    }
    say(table.for_terminal())?;
    for row in &rows {
        say(format_args!("{} digest\n  {}", row.name, row.digest))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A server of one model may have been met without a name.
fn row<'a>(offer: &'a Offer, server: &str, count: usize, store: &Store) -> Result<Row<'a>> {
    let mut noted = store.known(&note_of(server, Some(&offer.name)))?;
    if noted.is_none() && count == 1 {
        noted = store.known(server)?;
    }
    Ok(Row {
        name: &offer.name,
        digest: hex::encode(offer.digest),
        noted: match noted {
            None => Noted::New,
            Some(digest) if digest == offer.digest => Noted::Same,
            Some(_) => Noted::Changed,
        },
        input: offer.input,
        input_bits: offer.input_bits,
        outputs: offer.outputs,
        package_bytes: offer.package_bytes,
        offline_bytes: offer.offline_bytes,
        online_bytes: offer.online_bytes,
        flights: offer.flights,
    })
}
