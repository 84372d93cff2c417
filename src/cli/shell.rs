//! `lowkey completions` and `lowkey man`: what a shell and `man` know of the command.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;
use lowkey::{Error, Result};

use super::say;

#[derive(Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

#[derive(Args)]
pub struct Man {
    /// Where the pages go, lowkey.1 and one for each command; made if it is not there.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints a completion script.
pub fn completions(arguments: &Completions, mut command: Command) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "lowkey", &mut script);
    io::Write::write_all(&mut io::stdout(), &script)
        .map_err(|error| Error::file(Path::new("standard output"), error))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes manual pages.
pub fn man(arguments: &Man, command: Command) -> Result<ExitCode> {
    let folder = &arguments.folder;
    fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))?;
    clap_mangen::generate_to(command, folder).map_err(|error| Error::file(folder, error))?;
    say(format_args!("wrote {}; next: man {0}/lowkey.1", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
