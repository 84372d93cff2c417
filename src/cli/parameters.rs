//! `lowkey parameters`: what this build rests on, and what each known attack on it costs.

use std::process::ExitCode;

use clap::Args;
use lowkey::Result;
use lowkey::parameters::{LatticeSet, OtSet, Parameters};

use super::{print_json, say};

#[derive(Args)]
pub struct Arguments {
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let parameters = Parameters::of_this_build();
    if arguments.json {
        print_json(&parameters)?;
        return Ok(ExitCode::SUCCESS);
    }
    say(format!("lowkey {}, protocol {}", parameters.version, parameters.protocol))?;
    say("\nLinear layers: RLWE, log2 of the operations of the lattice estimator's attacks")?;
    say(format!(
        "{:10} {:>5} {:>7} {:>14} {:>8} {:>6} {:>12}",
        "set", "N", "log2 q", "noise", "secret", "uSVP", "dual hybrid"
    ))?;
    for set in &parameters.rlwe {
        say(lattice(set))?;
    }
    say("\nOblivious transfers: LPN, regular noise, log2 of the operations of each attack")?;
    table(&parameters.ot)?;
    say("\nscripts/parameters/check.py recomputes these figures and names their sources.")?;
    Ok(ExitCode::SUCCESS)
}

fn lattice(set: &LatticeSet) -> String {
    let noise = format!("TUniform(2^{})", set.tuniform_bound);
    let (usvp, dual) = (set.attacks["usvp"], set.attacks["dual_hybrid"]);
    format!(
        "{:10} {:>5} {:>7} {noise:>14} {:>8} {usvp:>6.1} {dual:>12.1}",
        set.name, set.degree, set.log2_q, set.secret
    )
}

/// A row for each size and attack, a column for each set.
fn table(sets: &[OtSet]) -> Result<()> {
    let row = |name: &str, of: &dyn Fn(&OtSet) -> String| {
        say(format!("{name:34}{}", sets.iter().map(|set| format!("{:>20}", of(set))).collect::<String>()))
    };
    row("", &|set| set.name.into())?;
    row("samples n", &|set| set.n.to_string())?;
    row("unknowns k", &|set| set.k.to_string())?;
    row("errors t, one in each of n/t", &|set| set.t.to_string())?;
    row("ones in a row", &|set| set.ones_per_row.to_string())?;
    row("usable OTs of a batch", &|set| set.usable.to_string())?;
    row("bits on the wire for each", &|set| format!("{:.3}", set.bits_per_ot))?;
    for attack in sets.iter().flat_map(|set| set.attacks.keys()).collect::<std::collections::BTreeSet<_>>() {
        row(&attack.replace('_', " "), &|set| {
            set.attacks.get(attack).map_or(String::new(), |cost| format!("{cost:.1}"))
        })?;
    }
    row("cheapest", &|set| set.binding.replace('_', " "))
}
