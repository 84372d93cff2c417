//! What is known of each server key: when it was made, and how many inferences were counted under it.
//!
//! `keys.json` lies beside the key and holds nothing secret. It is changed under a lock, so that several servers can share a
//! folder. It guards against forgetting, not against an operator who removes it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::key::{Fingerprint, Key};
use super::lifetime::{LATEST, Lifetime, seconds};
use super::{NotRecords, Store, StoreError, files};

/// Most inferences under one key: the bound on failures in SECURITY.md counts on it.
pub const MOST_INFERENCES: u64 = 1 << 32;
// What the failure probability of the noise is computed for.
const _: () = assert!(MOST_INFERENCES <= lowkey_he::noise::MAX_INFERENCES);
/// Longest use of one key.
pub const LONGEST_USE: Duration = Duration::from_secs(365 * DAY);
/// From here on the end is announced, in inferences.
const MANY_INFERENCES: u64 = MOST_INFERENCES / 10 * 9;
/// So long before it the end is announced.
const NOTICE: Duration = Duration::from_secs(30 * DAY);
const DAY: u64 = 24 * 60 * 60;

/// What is known of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The key.
    pub fingerprint: Fingerprint,
    /// When it was made, in seconds since 1970.
    created: u64,
    /// Since when inferences are counted, likewise: later than `created` for a key of a time before they were.
    counted_since: u64,
    /// Inferences counted, at most a block per server more than there were.
    pub inferences: u64,
}

impl Record {
    /// Of a key that is made now.
    pub fn new(fingerprint: Fingerprint, now: SystemTime) -> Self {
        let now = seconds(now);
        Self { fingerprint, created: now, counted_since: now, inferences: 0 }
    }

    /// When it was made.
    pub fn created(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.created)
    }

    /// Since when inferences are counted.
    pub fn counted_since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.counted_since)
    }

    /// When its year is over.
    pub fn expires(&self) -> SystemTime {
        self.created() + LONGEST_USE
    }

    /// Inferences that are left.
    pub fn inferences_left(&self) -> u64 {
        MOST_INFERENCES.saturating_sub(self.inferences)
    }

    /// How far it is from its end.
    pub fn lifetime(&self, now: SystemTime) -> Lifetime {
        if self.inferences >= MOST_INFERENCES {
            Lifetime::UsedUp
        } else if now >= self.expires() {
            Lifetime::TooOld
        } else if self.inferences >= MANY_INFERENCES || now + NOTICE >= self.expires() {
            Lifetime::Ending
        } else {
            Lifetime::Good
        }
    }
}

/// The file: what is known of every key that was used here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Records {
    version: u32,
    keys: Vec<Record>,
}

/// The version of the file.
const VERSION: u32 = 1;
/// Longest file, in bytes: thousands of keys.
const LARGEST: u64 = 1 << 20;

impl Records {
    fn read(path: &Path) -> Result<Self, StoreError> {
        let bytes = files::head(path, LARGEST + 1).map_err(|error| StoreError::file(path, error))?;
        let Some(bytes) = bytes else { return Ok(Self { version: VERSION, keys: Vec::new() }) };
        Self::from_bytes(&bytes).map_err(|source| StoreError::Records { path: path.to_owned(), source })
    }

    /// Decodes the file.
    ///
    /// # Errors
    /// Why it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotRecords> {
        if bytes.len() as u64 > LARGEST {
            return Err(NotRecords::Form);
        }
        let records: Self = serde_json::from_slice(bytes).map_err(|_| NotRecords::Form)?;
        let dates = |record: &Record| record.created.max(record.counted_since);
        if records.keys.iter().map(dates).any(|date| date > LATEST) {
            return Err(NotRecords::Form);
        }
        if records.version != VERSION {
            return Err(NotRecords::Version { found: records.version, own: VERSION });
        }
        Ok(records)
    }

    /// The inverse of [`from_bytes`](Self::from_bytes).
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("strings and integers can be written")
    }

    fn write(&self, path: &Path) -> Result<(), StoreError> {
        files::replace(path, &self.to_bytes(), files::Readers::Owner)
    }

    fn find(&self, fingerprint: &Fingerprint) -> Option<&Record> {
        self.keys.iter().find(|record| record.fingerprint == *fingerprint)
    }

    fn put(&mut self, record: Record) {
        self.keys.retain(|other| other.fingerprint != record.fingerprint);
        self.keys.push(record);
    }
}

/// Notes a new key. A file that cannot be read is replaced: no key that it speaks of is in use any more. The caller holds the
/// store's lock.
pub(super) fn note(path: &Path, record: &Record) -> Result<(), StoreError> {
    let mut records = Records::read(path).unwrap_or(Records { version: VERSION, keys: Vec::new() });
    records.put(record.clone());
    records.write(path)
}

impl Store {
    /// Where the records of keys lie.
    pub(super) fn record_path(&self) -> PathBuf {
        self.state.join("keys.json")
    }

    /// Holds this store's key and records for itself.
    pub(super) fn lock(&self) -> Result<File, StoreError> {
        files::lock(&self.state.join("lock"))
    }

    /// What is known of a key. One without a record has answered nothing, and is as old as its file said when it was read.
    pub(super) fn record_of(&self, key: &Key, now: SystemTime) -> Result<Record, StoreError> {
        let fingerprint = Fingerprint::of(key);
        if let Some(record) = Records::read(&self.record_path())?.find(&fingerprint) {
            return Ok(record.clone());
        }
        let made = key.made().unwrap_or(seconds(now));
        Ok(Record { created: made.min(seconds(now)), ..Record::new(fingerprint, now) })
    }

    /// Counts inferences under `key`, this store's; makes its record if there is none.
    ///
    /// # Errors
    /// When the record cannot be read or written.
    pub fn uses(&self, key: &Key, now: SystemTime) -> Result<Uses, StoreError> {
        let _lock = self.lock()?;
        let record = self.record_of(key, now)?;
        let mut records = Records::read(&self.record_path())?;
        if records.find(&record.fingerprint).is_none() {
            records.put(record.clone());
            records.write(&self.record_path())?;
        }
        Ok(Uses {
            store: self.clone(),
            fingerprint: record.fingerprint,
            hand: Mutex::default(),
            created: record.created,
            used_up: AtomicBool::new(false),
        })
    }
}

/// Largest block of inferences that a server reserves at once.
const LARGEST_BLOCK: u64 = 1 << 16;
/// Its first block.
const FIRST_BLOCK: u64 = 1 << 8;

/// Counts the inferences of one server process under its key.
///
/// Inferences are reserved in blocks of the record: a write for each, and a server that is killed has counted too many and never
/// too few. Blocks are as large as all that the process used before, within 2^8 and 2^16; the rest of the last one is given back
/// when this is dropped.
#[derive(Debug)]
pub struct Uses {
    store: Store,
    fingerprint: Fingerprint,
    created: u64,
    hand: Mutex<Hand>,
    /// Set for good once nothing is left.
    used_up: AtomicBool,
}

/// What this process has reserved.
#[derive(Debug, Default)]
struct Hand {
    left: u64,
    used: u64,
}

impl Uses {
    /// Counts one inference.
    ///
    /// # Errors
    /// [`StoreError::SpentKey`] when the key is past its lifetime, and when the record cannot be written.
    pub fn count(&self, now: SystemTime) -> Result<(), StoreError> {
        let spent = |lifetime| StoreError::SpentKey { path: self.store.key_path(), lifetime };
        if let Some(lifetime) = self.spent(now) {
            return Err(spent(lifetime));
        }
        let mut hand = self.hand.lock().unwrap_or_else(|broken| broken.into_inner());
        if hand.left == 0 {
            hand.left = self.reserve(hand.used.clamp(FIRST_BLOCK, LARGEST_BLOCK))?;
        }
        if hand.left == 0 {
            self.used_up.store(true, Ordering::Relaxed);
            return Err(spent(Lifetime::UsedUp));
        }
        hand.left -= 1;
        hand.used += 1;
        Ok(())
    }

    /// Which end the key came to, as far as this process has seen; reads no file.
    pub fn spent(&self, now: SystemTime) -> Option<Lifetime> {
        if self.used_up.load(Ordering::Relaxed) {
            return Some(Lifetime::UsedUp);
        }
        (seconds(now).saturating_sub(self.created) >= LONGEST_USE.as_secs()).then_some(Lifetime::TooOld)
    }

    /// What is on record, for all servers together.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn record(&self) -> Result<Record, StoreError> {
        let path = self.store.record_path();
        let records = Records::read(&path)?;
        records.find(&self.fingerprint).cloned().ok_or_else(|| replaced(&path))
    }

    /// Gives back what was reserved and not used.
    ///
    /// # Errors
    /// When the record cannot be written; it then counts a block too many.
    pub fn give_back(&self) -> Result<(), StoreError> {
        let mut hand = self.hand.lock().unwrap_or_else(|broken| broken.into_inner());
        let left = std::mem::take(&mut hand.left);
        if left > 0 {
            self.change(|record| record.inferences = record.inferences.saturating_sub(left))?;
        }
        Ok(())
    }

    /// Takes up to `block` inferences off those that are left; returns how many.
    fn reserve(&self, block: u64) -> Result<u64, StoreError> {
        self.change(|record| {
            let block = block.min(record.inferences_left());
            record.inferences += block;
            block
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Record) -> T) -> Result<T, StoreError> {
        let path = self.store.record_path();
        let _lock = self.store.lock()?;
        let mut records = Records::read(&path)?;
        let own = records.keys.iter_mut().find(|record| record.fingerprint == self.fingerprint);
        let outcome = change(own.ok_or_else(|| replaced(&path))?);
        records.write(&path)?;
        Ok(outcome)
    }
}

/// A record that a running server does not find any more.
fn replaced(path: &Path) -> StoreError {
    StoreError::Replaced { path: path.to_owned() }
}

impl Drop for Uses {
    fn drop(&mut self) {
        // If it fails, the record counts a block too many: nothing is lost.
        let _ = self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::store;
    use super::*;

    fn key() -> Key {
        Key::from([1; 32])
    }

    fn days(days: u64) -> Duration {
        Duration::from_secs(days * DAY)
    }

    /// The record with so many inferences, as if they had been.
    fn counted(store: &Store, inferences: u64, now: SystemTime) {
        let record = Record { inferences, ..Record::new(Fingerprint::of(&key()), now) };
        note(&store.record_path(), &record).unwrap();
    }

    #[test]
    fn a_lifetime_ends_with_a_year_or_with_many_inferences() {
        let now = SystemTime::now();
        let record = Record::new(Fingerprint::of(&key()), now);
        assert_eq!(record.lifetime(now + days(334)), Lifetime::Good);
        assert_eq!(record.lifetime(now + days(336)), Lifetime::Ending);
        assert_eq!(record.lifetime(now + days(366)), Lifetime::TooOld);
        let after = |inferences| Record { inferences, ..record.clone() }.lifetime(now);
        assert_eq!(after(MOST_INFERENCES / 10 * 9 - 1), Lifetime::Good);
        assert_eq!(after(MOST_INFERENCES / 10 * 9), Lifetime::Ending);
        assert_eq!(after(MOST_INFERENCES - 1), Lifetime::Ending);
        assert_eq!(after(MOST_INFERENCES), Lifetime::UsedUp);
        assert_eq!(after(u64::MAX), Lifetime::UsedUp);
    }

    #[test]
    fn a_count_survives_a_restart() {
        let (_folder, store) = store();
        let now = SystemTime::now();
        for round in 1..=3 {
            let uses = store.uses(&key(), now).unwrap();
            (0..300).for_each(|_| uses.count(now).unwrap());
            drop(uses);
            assert_eq!(store.record_of(&key(), now).unwrap().inferences, 300 * round);
        }
        // A server that is killed gives nothing back: too many are counted, and not many.
        let uses = store.uses(&key(), now).unwrap();
        (0..10).for_each(|_| uses.count(now).unwrap());
        std::mem::forget(uses);
        assert_eq!(store.record_of(&key(), now).unwrap().inferences, 900 + FIRST_BLOCK);
        // One that only starts and stops counts nothing.
        store.uses(&key(), now).unwrap();
        assert_eq!(store.record_of(&key(), now).unwrap().inferences, 900 + FIRST_BLOCK);
    }

    #[test]
    fn servers_that_share_a_key_share_its_count() {
        let (_folder, store) = store();
        let now = SystemTime::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let uses = store.uses(&key(), now).unwrap();
                    (0..1000).for_each(|_| uses.count(now).unwrap());
                });
            }
        });
        assert_eq!(store.record_of(&key(), now).unwrap().inferences, 4000);
    }

    #[test]
    fn nothing_goes_beyond_the_last_inference() {
        let (_folder, store) = store();
        let now = SystemTime::now();
        counted(&store, MOST_INFERENCES - 300, now);
        let both = [store.uses(&key(), now).unwrap(), store.uses(&key(), now).unwrap()];
        let allowed = (0..1000).filter(|n| both[n % 2].count(now).is_ok()).count();
        assert_eq!(allowed, 300);
        assert!(matches!(both[0].count(now), Err(StoreError::SpentKey { lifetime: Lifetime::UsedUp, .. })));
        assert_eq!(both[0].spent(now), Some(Lifetime::UsedUp));
    }

    #[test]
    fn nothing_goes_beyond_the_year() {
        let (_folder, store) = store();
        let now = SystemTime::now();
        let uses = store.uses(&key(), now).unwrap();
        uses.count(now + days(364)).unwrap();
        let late = uses.count(now + days(366));
        assert!(matches!(late, Err(StoreError::SpentKey { lifetime: Lifetime::TooOld, .. })), "{late:?}");
    }

    #[test]
    fn a_damaged_record_is_an_error_and_not_a_fresh_start() {
        let (_folder, store) = store();
        let now = SystemTime::now();
        let uses = store.uses(&key(), now).unwrap();
        let good = std::fs::read_to_string(store.record_path()).unwrap();
        let late = good.replacen(&seconds(now).to_string(), &u64::MAX.to_string(), 1);
        let newer = good.replacen("\"version\": 1", "\"version\": 2", 1);
        assert!(late != good && newer != good);
        for bad in ["", "{}", "[]", &good[..good.len() - 1], &late, &newer, &" ".repeat(LARGEST as usize + 1)] {
            std::fs::write(store.record_path(), bad).unwrap();
            let said = [store.uses(&key(), now).unwrap_err(), uses.count(now).unwrap_err()];
            let path = store.record_path().display().to_string();
            assert!(said.iter().all(|error| error.to_string().contains(&path)), "{bad:.40}: {said:?}");
        }
        // One that holds other keys alone says that this one was replaced.
        let other = Record::new(Fingerprint::of(&Key::from([2; 32])), now);
        std::fs::remove_file(store.record_path()).unwrap();
        note(&store.record_path(), &other).unwrap();
        for error in [uses.count(now).unwrap_err(), uses.record().unwrap_err()] {
            assert!(matches!(error, StoreError::Replaced { .. }), "{error}");
        }
    }
}
