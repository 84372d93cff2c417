//! `seeds FOLDER [TARGET]`: no target, but what writes the valid inputs that targets start from, all of them or one's, into folders of
//! their names. Coverage of the crates is linked to libFuzzer, so this is too, and ends before it begins.
#![no_main]

use std::path::PathBuf;
use std::{env, fs, io, process};

fn write() -> io::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "corpus".into()));
    let wanted = arguments.next();
    for decoder in lowkey_fuzz::ALL.iter().filter(|decoder| wanted.as_ref().is_none_or(|name| name == decoder.name)) {
        let folder = folder.join(decoder.name);
        fs::create_dir_all(&folder)?;
        for (index, seed) in (decoder.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{index}")), seed)?;
        }
    }
    Ok(())
}

/// Writes, and ends the process.
fn write_and_end() {
    let outcome = write();
    if let Err(error) = &outcome {
        eprintln!("seeds: {error}");
    }
    process::exit(i32::from(outcome.is_err()))
}

libfuzzer_sys::fuzz_target!(init: write_and_end(), |_bytes: &[u8]| {});
