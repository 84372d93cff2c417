//! Who may ask: a list of names and their certificates.
//!
//! ```text
//! # name   certificate                               inferences per hour (not more than this; no column: as all)
//! alice    sha256:9f86d081884c7d65...                100
//! bob      dns:bob.example.org
//! ```
//!
//! A line is for one certificate, by its SHA-256 (of the DER form, as `openssl x509 -fingerprint -sha256` prints it) or by a DNS name
//! that stands in it, which outlives its renewal. A name may have several. An exact certificate is looked for first.

use std::collections::HashMap;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use lowkey_models::regular;
use sha2::{Digest as _, Sha256};

use crate::error::Error;

/// Most bytes of a list.
pub const MAX_BYTES: u64 = 4 << 20;
/// Most bytes of a name.
const MAX_NAME: usize = 64;

/// The clients that a server answers.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    by_hash: HashMap<[u8; 32], Arc<str>>,
    /// In lower case.
    by_dns: HashMap<String, Arc<str>>,
    quotas: HashMap<Arc<str>, NonZeroU32>,
}

/// What is wrong with a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct AllowError {
    /// From 1.
    pub line: usize,
    /// What.
    pub what: String,
}

impl AllowList {
    /// Reads a list from a file.
    ///
    /// # Errors
    /// When it cannot be read, is no regular file, or is no list.
    pub fn read(path: &Path) -> crate::Result<Self> {
        let failed = |source| Error::file(path, source);
        let mut text = String::new();
        let read = regular::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
        read.map_err(failed)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(failed(io::Error::other(format!("more than {MAX_BYTES} bytes"))));
        }
        Self::parse(&text).map_err(|error| {
            Error::usage(
                format!("{}: {error}", path.display()),
                "a line has a name, sha256:HASH or dns:NAME of a certificate and, where they are limited, inferences per hour",
            )
        })
    }

    /// Reads a list.
    ///
    /// # Errors
    /// When a line is none, a certificate has two names, or a name two quotas.
    pub fn parse(text: &str) -> Result<Self, AllowError> {
        let mut list = Self::default();
        for (index, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split('#').next().unwrap_or("").split_whitespace().collect();
            list.add(&words).map_err(|what| AllowError { line: index + 1, what })?;
        }
        Ok(list)
    }

    fn add(&mut self, words: &[&str]) -> Result<(), String> {
        let (name, certificate, quota) = match *words {
            [] => return Ok(()),
            [name, certificate] => (name, certificate, None),
            [name, certificate, quota] => (name, certificate, Some(quota)),
            _ => return Err("expected a name, a certificate, and inferences per hour if they are limited".into()),
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
        if name.len() > MAX_NAME || !name.chars().all(is_plain) {
            return Err(format!("a name is up to {MAX_NAME} letters, digits and any of . _ @ -"));
        }
        let name: Arc<str> = name.into();
        if let Some(quota) = quota {
            let quota: NonZeroU32 = quota.parse().map_err(|_| format!("{quota:?} is no number of inferences"))?;
            if self.quotas.insert(name.clone(), quota).is_some_and(|other| other != quota) {
                return Err(format!("{name} has another quota above"));
            }
        }
        let other = match certificate.split_once(':') {
            Some(("sha256", hash)) => self.by_hash.insert(parse_hash(hash)?, name.clone()),
            Some(("dns", dns)) if !dns.is_empty() => self.by_dns.insert(dns.to_ascii_lowercase(), name.clone()),
            _ => return Err(format!("{certificate:?} is neither sha256:HASH nor dns:NAME")),
        };
        match other {
            Some(other) if other != name => Err(format!("the same certificate is {other}'s above")),
            _ => Ok(()),
        }
    }

    /// The name of a certificate that a TLS handshake has verified, and its own quota; `None` if it is not on the list.
    pub fn find(&self, certificate: &[u8]) -> Option<(Arc<str>, Option<NonZeroU32>)> {
        let hash: [u8; 32] = Sha256::digest(certificate).into();
        let by_dns =
            || dns_names(certificate).iter().find_map(|dns| self.by_dns.get(&dns.to_ascii_lowercase())).cloned();
        let name = self.by_hash.get(&hash).cloned().or_else(by_dns)?;
        let quota = self.quotas.get(&name).copied();
        Some((name, quota))
    }
}

/// 64 hexadecimal digits, with colons between bytes or without.
fn parse_hash(text: &str) -> Result<[u8; 32], String> {
    let mut hash = [0; 32];
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    hex::decode_to_slice(digits, &mut hash).map_err(|_| "expected 64 hexadecimal digits behind sha256:".to_owned())?;
    Ok(hash)
}

/// The name of a certificate that is on no list: its first DNS name in lower case, or the beginning of its SHA-256.
pub(crate) fn own_name(certificate: &[u8]) -> Arc<str> {
    let plain = |name: &String| name.len() <= MAX_NAME;
    match dns_names(certificate).into_iter().find(plain) {
        Some(name) => name.to_ascii_lowercase().into(),
        None => hex::encode(&Sha256::digest(certificate)[..8]).into(),
    }
}

/// The DNS names that stand in a certificate. Only of one that was verified.
fn dns_names(certificate: &[u8]) -> Vec<String> {
    let certificate = certificate.into();
    let parsed = webpki::EndEntityCert::try_from(&certificate);
    parsed.map_or_else(|_| Vec::new(), |parsed| parsed.valid_dns_names().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        rcgen::generate_simple_self_signed(names).unwrap().cert.der().to_vec()
    }

    fn hash(certificate: &[u8]) -> String {
        hex::encode(Sha256::digest(certificate))
    }

    /// Nobody writes to it: opening it would wait for ever.
    #[cfg(unix)]
    #[test]
    fn a_pipe_is_no_list() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || send.send(AllowList::read(&pipe).unwrap_err().to_string()));
        let error = receive.recv_timeout(std::time::Duration::from_secs(20)).expect("it does not wait");
        assert!(error.contains("not a regular file"), "{error}");
    }

    #[test]
    fn certificates_have_the_names_of_the_list() {
        let [exact, renewed, other] =
            [&["a.example"][..], &["x.example", "B.example"], &["c.example"]].map(certificate);
        let pairs = Sha256::digest(&exact).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>();
        let colons = pairs.join(":");
        for hash in [hash(&exact), colons] {
            let list = format!("# who\n\nalice sha256:{hash} 7 # until May\n bob\tdns:b.EXAMPLE\nbob dns:b2.example\n");
            let list = AllowList::parse(&list).unwrap();
            let seven = NonZeroU32::new(7);
            assert_eq!(list.find(&exact), Some(("alice".into(), seven)));
            assert_eq!(list.find(&renewed), Some(("bob".into(), None)));
            assert_eq!(list.find(&other), None);
            assert_eq!(list.find(b"no certificate"), None);
        }
        assert_eq!(AllowList::parse("").unwrap().find(&exact), None, "an empty list is nobody");
    }

    #[test]
    fn what_is_no_line_is_named() {
        let hash = "ab".repeat(32);
        for (text, line, what) in [
            ("alice", 1, "expected a name"),
            ("\n#\nalice sha256:ab", 3, "64 hexadecimal digits"),
            ("alice dns:", 1, "neither"),
            ("alice cn:alice", 1, "neither"),
            ("alice dns:a 0", 1, "no number"),
            ("alice dns:a 1 2", 1, "expected a name"),
            ("al/ice dns:a", 1, "a name is"),
            ("alice dns:a\nbob dns:A", 2, "alice's above"),
            ("alice dns:a 3\nalice dns:b 4", 2, "another quota"),
            (&format!("alice sha256:{hash}\nbob sha256:{hash}"), 2, "alice's above"),
        ] {
            let error = AllowList::parse(text).unwrap_err();
            assert!(error.line == line && error.what.contains(what), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_name_without_a_list() {
        assert_eq!(&*own_name(&certificate(&["a.example"])), "a.example");
        assert_eq!(&*own_name(&certificate(&["A.Example"])), "a.example", "it is nobody else");
        let nameless = certificate(&[]);
        assert_eq!(*own_name(&nameless), hash(&nameless)[..16]);
    }
}
