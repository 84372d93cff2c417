//! Who failed an audit of the guarded mode, by name: shut out until somebody pardons them.
//!
//! `guard.json` lies in the state folder and holds nothing secret. It is changed under the store's lock, so that several servers and
//! `lowkey guard` can share a folder, and read whenever somebody is to be let in, so that a change counts at once.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::lifetime::{LATEST, seconds};
use super::{NotOffences, Store, StoreError, files};

/// The version of the file.
const VERSION: u32 = 1;
/// Longest file, in bytes: tens of thousands of names.
const LARGEST: u64 = 4 << 20;
/// Longest name, in bytes: of a list of clients, or a DNS name.
const MAX_NAME: usize = 255;
/// Longest name of a node, in characters.
const MAX_NODE: usize = 128;

/// A part of a prepared slot that is not what the slot's seed makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SlotPart {
    /// The seed itself: its committed half is another one.
    Opening,
    /// The b*_0.
    Keys,
    /// The bodies of a term of a layer.
    Bodies {
        /// The layer.
        node: String,
        /// From 0.
        term: usize,
    },
    /// The authenticated bits of c and xhat.
    Corrections,
}

impl fmt::Display for SlotPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening => f.write_str("the seed is not the one committed to"),
            Self::Keys => f.write_str("the keys are not those of the seed"),
            Self::Bodies { node, term } => {
                write!(f, "the bodies of {:?}, term {term}, are not those of the seed", Plain(node))
            }
            Self::Corrections => f.write_str("the authenticated bits are not those of the seed"),
        }
    }
}

/// At most so much of a node's name.
struct Plain<'a>(&'a str);

impl fmt::Debug for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().take(MAX_NODE).collect::<String>().fmt(f)
    }
}

/// Why somebody is shut out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Offence {
    /// An audit was begun and not answered, or not yet: the line was lost, the client fell silent, or the server stopped.
    Unanswered,
    /// An audit found a part of a slot wrong.
    Differs(SlotPart),
    /// A check of the computation on a slot in use found that it cheated.
    Cheated,
}

impl Offence {
    /// Found, and not only feared.
    fn is_proven(&self) -> bool {
        !matches!(self, Self::Unanswered)
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered => f.write_str("an audit was not answered"),
            Self::Differs(part) => part.fmt(f),
            Self::Cheated => f.write_str("it cheated in the computation"),
        }
    }
}

/// A name that is shut out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shut {
    /// In seconds since 1970.
    since: u64,
    /// Why.
    pub offence: Offence,
    /// Of an audit that was begun: which, a random number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    audit: Option<u64>,
}

impl Shut {
    /// From now on.
    pub fn new(offence: Offence, now: SystemTime) -> Self {
        let since = seconds(now);
        let offence = match offence {
            Offence::Differs(SlotPart::Bodies { node, term }) => {
                Offence::Differs(SlotPart::Bodies { node: node.chars().take(MAX_NODE).collect(), term })
            }
            other => other,
        };
        Self { since: since.min(LATEST), offence, audit: None }
    }

    /// An audit is begun.
    pub fn asked(audit: u64, now: SystemTime) -> Self {
        Self { audit: Some(audit), ..Self::new(Offence::Unanswered, now) }
    }

    /// The audit that has to be answered.
    pub fn audit(&self) -> Option<u64> {
        self.audit.filter(|_| self.offence == Offence::Unanswered)
    }

    /// When.
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.since)
    }
}

/// What is known of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// `None` of those who were pardoned.
    pub shut: Option<Shut>,
    /// How often they were: each time, one more malformed slot may have been used.
    pub pardons: u32,
}

/// The file: everyone who was ever shut out, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offences {
    version: u32,
    names: BTreeMap<String, Standing>,
}

impl Default for Offences {
    fn default() -> Self {
        Self { version: VERSION, names: BTreeMap::new() }
    }
}

impl Offences {
    /// Decodes the file.
    ///
    /// # Errors
    /// Why it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotOffences> {
        if bytes.len() as u64 > LARGEST {
            return Err(NotOffences::Form);
        }
        let offences: Self = serde_json::from_slice(bytes).map_err(|_| NotOffences::Form)?;
        if offences.version != VERSION {
            return Err(NotOffences::Version { found: offences.version, own: VERSION });
        }
        let is_late = |standing: &Standing| standing.shut.as_ref().is_some_and(|shut| shut.since > LATEST);
        if !offences.names.iter().all(|(name, standing)| is_name(name) && !is_late(standing)) {
            return Err(NotOffences::Form);
        }
        Ok(offences)
    }

    /// The inverse of [`from_bytes`](Self::from_bytes).
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("strings and integers can be written")
    }

    /// Everyone, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Standing)> {
        self.names.iter().map(|(name, standing)| (&**name, standing))
    }

    /// Why a name is shut out; `None` if it is not.
    pub fn shut(&self, name: &str) -> Option<&Shut> {
        self.names.get(name)?.shut.as_ref()
    }

    /// Shuts a name out. What was found stays before what is only feared, and the line of the same audit as it is.
    pub fn shut_out(&mut self, name: &str, shut: Shut) {
        let own = &mut self.names.entry(name.to_owned()).or_default().shut;
        let stays = own.as_ref().is_some_and(|own| {
            !shut.offence.is_proven() && (own.offence.is_proven() || own.audit.is_some() && own.audit == shut.audit)
        });
        if !stays {
            *own = Some(shut);
        }
    }

    /// Lets a name in again that has answered this audit, and is shut out for nothing else.
    pub fn clear(&mut self, name: &str, audit: u64) {
        let Some(standing) = self.names.get_mut(name) else { return };
        if standing.shut.as_ref().and_then(Shut::audit) == Some(audit) {
            standing.shut = None;
            if standing.pardons == 0 {
                self.names.remove(name);
            }
        }
    }

    /// Lets a name in again that has not. False if it was not shut out.
    pub fn pardon(&mut self, name: &str) -> bool {
        let Some(standing) = self.names.get_mut(name) else { return false };
        let was = standing.shut.take().is_some();
        standing.pardons = standing.pardons.saturating_add(u32::from(was));
        was
    }
}

/// True of what can be the name of a client.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control)
}

impl Store {
    /// Where it is kept who is shut out.
    pub fn offences_path(&self) -> PathBuf {
        self.state.join("guard.json")
    }

    /// Who is shut out, and who was.
    ///
    /// # Errors
    /// When the record is there and cannot be read.
    pub fn offences(&self) -> Result<Offences, StoreError> {
        let path = self.offences_path();
        match files::head(&path, LARGEST + 1).map_err(|error| StoreError::file(&path, error))? {
            None => Ok(Offences::default()),
            Some(bytes) => Offences::from_bytes(&bytes).map_err(|source| StoreError::Offences { path, source }),
        }
    }

    /// Changes who is shut out. When this returns, the change is on the disk.
    ///
    /// # Errors
    /// When the record cannot be read or written, or would be longer than it may be: then it stays as it was.
    pub fn change_offences<T>(&self, change: impl FnOnce(&mut Offences) -> T) -> Result<T, StoreError> {
        let _lock = self.lock()?;
        let mut offences = self.offences()?;
        let before = offences.clone();
        let outcome = change(&mut offences);
        if offences != before {
            let (path, bytes) = (self.offences_path(), offences.to_bytes());
            if bytes.len() as u64 > LARGEST || !offences.names.keys().all(|name| is_name(name)) {
                return Err(StoreError::TooManyOffences { path, most: LARGEST });
            }
            files::replace(&path, &bytes, files::Readers::Owner)?;
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::store;
    use super::*;

    fn shut(offence: Offence) -> Shut {
        Shut::new(offence, UNIX_EPOCH + Duration::from_secs(1_700_000_000))
    }

    #[test]
    fn it_is_kept_until_a_pardon_and_the_pardon_too() {
        let (folder, store) = store();
        assert_eq!(store.offences().unwrap(), Offences::default());
        let bodies = Offence::Differs(SlotPart::Bodies { node: "conv".into(), term: 1 });
        for offence in [Offence::Unanswered, Offence::Differs(SlotPart::Keys), bodies, Offence::Cheated] {
            store.change_offences(|all| all.shut_out("alice", shut(offence.clone()))).unwrap();
            let again = Store::open(Some(folder.path().into())).unwrap();
            assert_eq!(again.offences().unwrap().shut("alice"), Some(&shut(offence)));
            assert_eq!(again.offences().unwrap().shut("bob"), None);
        }
        assert!(!store.change_offences(|all| all.pardon("bob")).unwrap());
        assert!(store.change_offences(|all| all.pardon("alice")).unwrap());
        assert!(!store.change_offences(|all| all.pardon("alice")).unwrap());
        assert_eq!(store.offences().unwrap().shut("alice"), None);
        let all = store.offences().unwrap();
        assert_eq!(all.iter().map(|(name, standing)| (name, standing.pardons)).collect::<Vec<_>>(), [("alice", 1)]);
    }

    /// One who has answered leaves no trace, unless there was one before.
    #[test]
    fn an_answer_clears() {
        let (_folder, store) = store();
        let audit = |name: &str| {
            store.change_offences(|all| all.shut_out(name, Shut::asked(7, SystemTime::now()))).unwrap();
            store.change_offences(|all| all.clear(name, 7)).unwrap();
        };
        audit("alice");
        assert_eq!(store.offences().unwrap(), Offences::default());
        store.change_offences(|all| all.shut_out("alice", shut(Offence::Unanswered))).unwrap();
        store.change_offences(|all| all.pardon("alice")).unwrap();
        audit("alice");
        assert_eq!(store.offences().unwrap().names["alice"], Standing { shut: None, pardons: 1 });
    }

    /// An answer clears its own audit and nothing else; what is feared does not hide what was found.
    #[test]
    fn an_answer_clears_its_audit_only() {
        let asked = |audit| Shut::asked(audit, UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        for other in
            [asked(8), shut(Offence::Unanswered), shut(Offence::Differs(SlotPart::Keys)), shut(Offence::Cheated)]
        {
            let mut all = Offences::default();
            all.shut_out("alice", other.clone());
            all.clear("alice", 7);
            assert_eq!(all.shut("alice"), Some(&other));
            all.shut_out("alice", asked(7));
            let (stays, again) = (other.offence != Offence::Unanswered, asked(7));
            assert_eq!(all.shut("alice"), Some(if stays { &other } else { &again }));
            all.shut_out("alice", Shut::asked(7, SystemTime::now()));
            assert_eq!(all.shut("alice").unwrap().since(), asked(7).since(), "the same line");
            all.clear("alice", 7);
            assert_eq!(all.shut("alice").is_some(), stays);
        }
    }

    #[cfg(unix)]
    #[test]
    fn it_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, store) = store();
        store.change_offences(|all| all.shut_out("alice", shut(Offence::Unanswered))).unwrap();
        let mode = std::fs::metadata(store.offences_path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_record_is_an_error_and_pardons_nobody() {
        let (_folder, store) = store();
        store.change_offences(|all| all.shut_out("alice", shut(Offence::Differs(SlotPart::Corrections)))).unwrap();
        let good = std::fs::read_to_string(store.offences_path()).unwrap();
        let changed = |from: &str, to: &str| {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            bad
        };
        let bad = [
            String::new(),
            "{}".into(),
            good[..good.len() - 1].to_owned(),
            changed("1700000000", &u64::MAX.to_string()),
            changed("\"version\": 1", "\"version\": 2"),
            changed("alice", "\\u001b[2J"),
            changed("\"alice\"", "\"\""),
            changed("pardons", "mercy"),
            changed("corrections", "everything"),
            " ".repeat(LARGEST as usize + 1),
        ];
        for bad in bad {
            std::fs::write(store.offences_path(), &bad).unwrap();
            let said = [store.offences().unwrap_err(), store.change_offences(|all| all.clear("alice", 7)).unwrap_err()];
            let path = store.offences_path().display().to_string();
            assert!(said.iter().all(|error| error.to_string().contains(&path)), "{bad:.40}: {said:?}");
            assert!(said.iter().all(|error| matches!(error, StoreError::Offences { .. })), "{bad:.40}: {said:?}");
            assert_eq!(std::fs::read_to_string(store.offences_path()).unwrap(), bad, "it stays as it is");
        }
    }

    #[test]
    fn several_change_it_at_once() {
        let (_folder, store) = store();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..5 {
                        let name = format!("{thread}-{n}");
                        store.change_offences(|all| all.shut_out(&name, shut(Offence::Unanswered))).unwrap();
                    }
                });
            }
        });
        assert_eq!(store.offences().unwrap().iter().count(), 20);
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let (_folder, store) = store();
        let long = "n".repeat(MAX_NAME);
        let fill = |all: &mut Offences| {
            (0..20_000).for_each(|n| all.shut_out(&format!("{n:05}{}", &long[5..]), shut(Offence::Unanswered)));
        };
        assert!(store.change_offences(fill).is_err());
        assert!(
            store.change_offences(|all| all.shut_out(&"n".repeat(MAX_NAME + 1), shut(Offence::Unanswered))).is_err()
        );
        assert_eq!(store.offences().unwrap(), Offences::default());
        let node = "ü".repeat(1000);
        let said = shut(Offence::Differs(SlotPart::Bodies { node, term: 0 })).offence.to_string();
        assert!(said.len() < 400, "{said}");
    }
}
