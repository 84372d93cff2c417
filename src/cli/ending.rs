//! How a command ends: exit codes, and what to do about an error, by this program's own commands and switches.

use std::process::ExitCode;

use lowkey::error::Remedy;
use lowkey::store::Folder;
use lowkey::{Error, Fault};

use super::foreign::PIXELS;

/// All exit codes in one table, with the lines that `--help` ends with.
macro_rules! endings {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $before:literal $text:literal;)+) => {
        /// How a command ends, the same for all of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Ending {
            $($(#[doc = $doc])+ $name = $code,)+
        }

        /// The codes, for `--help`: a macro, so that it can be part of larger texts.
        macro_rules! exit_codes {
            () => {
                concat!("Exit codes:", $($before, $code, " ", $text),+)
            };
        }

        #[cfg(test)]
        const ALL: &[(Ending, &str)] = &[$((Ending::$name, $text)),+];
    };
}

endings! {
    /// It did what it was to do.
    Success = 0, "\n  " "success";
    /// A private result differs from the plaintext network's.
    Differs = 1, "; " "a private result differs from the plaintext network's";
    /// The arguments or the files are at fault.
    User = 2, ";\n  " "arguments or files";
    /// The other end or the connection is.
    Peer = 3, "; " "the connection or the other end";
    /// It did nothing, for safety.
    Safety = 4, ";\n  " "refused for safety";
    /// This program is at fault.
    Bug = 70, "; " "a bug";
}

impl Ending {
    /// Of a comparison with the plaintext network.
    pub fn of_comparison(equal: bool) -> Self {
        if equal { Self::Success } else { Self::Differs }
    }
}

impl From<Fault> for Ending {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::User => Self::User,
            Fault::Peer => Self::Peer,
            Fault::Safety => Self::Safety,
            Fault::Internal => Self::Bug,
        }
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(ending as u8)
    }
}

/// What to do about an error, in one sentence.
pub fn hint(error: &Error) -> Option<String> {
    Some(match error.remedy()? {
        Remedy::Preprocessing => PIXELS.into(),
        Remedy::ImportReport => "`lowkey import` prints what became of each operation".into(),
        remedy @ Remedy::InputForms => remedy.to_string(),
        Remedy::PictureSize => "--resize scales the picture and takes its middle".into(),
        remedy @ Remedy::InputTypes => format!("{remedy}: `lowkey plan` prints it"),
        Remedy::ShowCertificate => {
            "the server asks for a certificate, and not for this one: give --cert and --key of one that its owner accepts"
                .into()
        }
        Remedy::UseTls => {
            "the connection is unreliable: use TLS (the server with --cert and --key, the client with --pin or --ca)"
                .into()
        }
        Remedy::IsTls => "check that the server uses TLS: it does where it runs with --cert and --key".into(),
        Remedy::TrustCertificate => {
            "if the server's owner confirms its certificate, name it with --pin, or its authority with --ca: then \
             --server has to be a name in the certificate"
                .into()
        }
        Remedy::AcceptModel { note } => format!(
            "if the server's owner confirms the new model, {} accepts it at the next connection",
            forget(&note)
        ),
        Remedy::ForgetNote { note } => format!("{} removes it, and any model is accepted once", forget(&note)),
        Remedy::NameFolder(Folder::Cache) => "name a folder with --cache".into(),
        Remedy::NameFolder(Folder::State) => "name a folder with --state".into(),
        Remedy::NewRecord => {
            "restore it from a backup no older than the last inference, or let `lowkey key rotate` make a new key \
             and a new record"
                .into()
        }
        Remedy::HideKey { path } => format!(
            "chmod 600 {}; if somebody may have read it, `lowkey key rotate --wipe` makes a new one",
            path.display()
        ),
        Remedy::RotateKey => {
            "`lowkey key rotate` makes a new one; clients that noted or pinned a digest must be told the new one".into()
        }
        Remedy::AskForClass => "ask with --reveal class".into(),
        Remedy::NameModel => "name one of its models with --model; `lowkey models --server ADDR` lists them".into(),
        Remedy::AskForGuard => "ask with --guard; your privacy then rests on a server that follows the protocol".into(),
        Remedy::AskWithoutGuard => "ask without --guard, or ask a server that runs with it".into(),
        Remedy::AskATrainer => "name a model owner that runs `lowkey train --listen ADDR`".into(),
        Remedy::AskAServer => "name a server that runs `lowkey serve`".into(),
        Remedy::Report => "this is a bug: please report it with the command that shows it".into(),
        Remedy::Plain(text) => text.into(),
    })
}

/// The command that forgets a note.
fn forget(note: &str) -> String {
    match note.split_once('@') {
        Some((model, address)) => format!("`lowkey forget {address} --model {model}`"),
        None => format!("`lowkey forget {note}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The README's table has the same codes, each once, and no others.
    #[test]
    fn exit_codes_are_the_readmes() {
        let readme = include_str!("../../README.md");
        let table = readme.split("| exit code | what |").nth(1).expect("the table of exit codes");
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let found: Vec<u8> = rows.map(|row| row.split('|').nth(1).unwrap().trim().parse().expect("a code")).collect();
        let codes: Vec<u8> = ALL.iter().map(|(ending, _)| *ending as u8).collect();
        assert_eq!(found, codes);
        for (ending, text) in ALL {
            assert_eq!(exit_codes!().matches(&format!("{} {text}", *ending as u8)).count(), 1, "{text}");
        }
    }

    #[test]
    fn the_command_to_forget_a_note_names_its_model() {
        assert_eq!(forget("host:1"), "`lowkey forget host:1`");
        assert_eq!(forget("small@host:1"), "`lowkey forget host:1 --model small`");
    }

    /// What the library says in its own terms, the command says in its own.
    #[test]
    fn every_remedy_with_a_command_names_it() {
        let note = "host:1".to_owned();
        let error = Error::Digest { found: [1; 32], expected: [2; 32], noted: Some(note) };
        let [library, command] = [error.hint(), hint(&error)].map(Option::unwrap);
        assert!(!library.contains('`') && library.contains("host:1"), "{library}");
        assert!(command.contains("`lowkey forget host:1`"), "{command}");
    }
}
