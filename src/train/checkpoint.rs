//! Checkpoints: one party's shares in a file of its own, from which a training goes on.
//!
//! ```text
//! magic, length of the head, head { version, party, network, format, samples, digests, seed of their order, openings }, shares, shares of features, SHA-256
//! ```
//!
//! The file is for its owner's eyes, and written beside its place first: it is whole or absent. The one before is kept too, for a peer may
//! have been stopped between both parties' writing: their last ones are one apart then, and the earlier one is common. The hash finds
//! damage; it keeps nobody from writing another file. A file is of use only with the peer's of the same history
//! ([`session`](super::session)), and says nothing of weights without that. The digests are of what a training cannot change under way: this
//! party's samples, and the network before a head. They confirm a guess of all of them.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use lowkey_he::pack;
use lowkey_mpc::party::Party;
use lowkey_mpc::wire;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::counts::Counts;
use super::format::{Format, Net};
use super::held::WeightShares;
use super::terms::{MOST_FEATURES, Mark, Opened};
use crate::error::{Error, Result};
use crate::share::{Ring, RingShare};
use crate::store::files::{self, Readers};

const MAGIC: [u8; 16] = *b"lowkey training\n";
const VERSION: u32 = 4;
/// Longest head, in bytes.
const MOST_HEAD: usize = 1024;
/// Bytes of the hash.
const HASH: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    version: u32,
    party: Party,
    positions: u64,
    widths: Vec<u64>,
    on_features: bool,
    format: [u8; 11],
    about: About,
}

/// What a party keeps beside its shares. That of a party with samples has a secret: their order.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    /// The samples of either party.
    pub(super) samples: Counts,
    /// Of this party's samples; zeros if it has none.
    pub(super) digest: [u8; 32],
    /// Of the network before a head, at its owner; else zeros.
    pub(super) before: [u8; 32],
    /// Of the order of this party's samples; zeros if it has none.
    pub(super) order: [u8; 32],
    /// Of that of samples whose features are shared, which both parties know.
    pub(super) common: [u8; 32],
    /// To whom weights were opened, written before they are.
    pub(super) opened: Opened,
}

impl Drop for About {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.order);
    }
}

impl std::fmt::Debug for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "About({}, redacted)", self.samples)
    }
}

/// What a party brings to a training, and has to bring again to go on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Brought {
    /// How many samples, and of these the digest of [`About`]; none where other samples are brought, to be evaluated.
    pub(super) samples: Option<(u64, [u8; 32])>,
    /// As in [`About`].
    pub(super) before: [u8; 32],
}

/// A checkpoint that was read.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) held: WeightShares,
    /// Of every sample a row, where they are shared.
    pub(super) features: Option<RingShare>,
    pub(super) about: About,
    /// Where it lies: in its file, or in that of the one before.
    place: PathBuf,
}

impl Checkpoint {
    pub(super) fn mark(&self) -> Mark {
        Mark { history: self.held.history.0, done: self.held.done(), opened: self.about.opened }
    }

    /// Makes it the last one. A later one, which the peer has not, would push it out of its place at the next writing; then two stops around one
    /// checkpoint would leave the parties without a common one.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub(super) fn make_last(&self, path: &Path) -> Result<()> {
        match self.place == path {
            true => Ok(()),
            false => fs::rename(&self.place, path).map_err(|error| Error::file(path, error)),
        }
    }
}

/// Whether a checkpoint lies there, or one before.
pub(super) fn is_at(path: &Path) -> bool {
    path.exists() || before(path).exists()
}

/// Where the checkpoint before the last one is kept.
fn before(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".before");
    name.into()
}

/// Writes a checkpoint; the last one becomes the one before.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(
    path: &Path,
    party: Party,
    net: &Net,
    format: &Format,
    about: &About,
    held: &WeightShares,
    features: Option<&RingShare>,
) -> Result<()> {
    let path = &std::path::absolute(path).map_err(|error| Error::file(path, error))?;
    let (positions, widths) = net.shape();
    let widths = widths.into_iter().map(|width| width as u64).collect();
    let about = about.clone();
    let (positions, on_features, format_bytes) = (positions as u64, net.is_on_features(), format.bytes());
    let head = Head { version: VERSION, party, positions, widths, on_features, format: format_bytes, about };
    let head = Zeroizing::new(wire::encode(&head)?);
    let shares = held.encode();
    let width = u32::from(format.operand());
    let rows = features.map_or(&[][..], RingShare::words);
    let mut features = Zeroizing::new(Vec::with_capacity(pack::packed_len(rows.len(), width)));
    pack::append(&mut features, rows, width);
    let len = MAGIC.len() + 4 + head.len() + shares.len() + features.len() + HASH;
    let mut bytes = Zeroizing::new(Vec::with_capacity(len));
    bytes.extend(MAGIC);
    bytes.extend((head.len() as u32).to_le_bytes());
    bytes.extend(&head[..]);
    bytes.extend(&shares[..]);
    bytes.extend(&features[..]);
    let hash = Sha256::digest(&bytes[..]);
    bytes.extend(&hash[..]);
    match fs::rename(path, before(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::file(path, error)),
        _ => {}
    }
    Ok(files::replace(path, &bytes, Readers::Owner)?)
}

/// Reads the checkpoints at `path`, the last one first; none if there are none.
///
/// # Errors
/// When a file cannot be read, is none, is damaged, or is another party's, another network's or of other samples; or, of a head, if what is
/// before it is another network.
pub(super) fn read(
    path: &Path,
    party: Party,
    net: &Net,
    format: &Format,
    brought: &Brought,
) -> Result<Vec<Checkpoint>> {
    let mut found = Vec::new();
    for path in [path.to_owned(), before(path)] {
        let Some(bytes) = load(&path, net, format).map_err(|error| Error::file(&path, error))? else { continue };
        let refuse = |what: &str| {
            Error::usage(format!("{}: {what}", path.display()), "name the checkpoint of this run, or begin a new one")
        };
        let (head, shares) = split(&bytes).ok_or_else(|| refuse("it is no whole checkpoint of a training"))?;
        if head.version != VERSION {
            return Err(refuse("the checkpoint is of another version of lowkey"));
        }
        if head.party != party {
            return Err(refuse("the checkpoint is the other party's"));
        }
        let net = &match &head.widths[..] {
            // The data owner does not know how many features there are, and takes what it kept.
            [features @ 1..=MOST_FEATURES, _] if *net == Net::on_features(0) => Net::on_features(*features as usize),
            _ => net.clone(),
        };
        let (positions, widths) = net.shape();
        let same_widths = head.widths.iter().copied().eq(widths.iter().map(|width| *width as u64));
        let same_kind = head.positions == positions as u64 && head.on_features == net.is_on_features();
        if !same_kind || !same_widths || head.format != format.bytes() {
            return Err(refuse("the checkpoint is of another network"));
        }
        if head.about.before != brought.before {
            return Err(refuse("the checkpoint is of the head of another network"));
        }
        let own = (head.about.samples.of(party), head.about.digest);
        if brought.samples.is_some_and(|samples| samples != own) {
            return Err(refuse("the checkpoint was made with other samples"));
        }
        let len = WeightShares::encoded_len(net, format.held);
        let Some((shares, rest)) = shares.split_at_checked(len) else { return Err(refuse("its shares are too few")) };
        let held = WeightShares::decode(net, format.held, shares).map_err(|error| refuse(&error.to_string()))?;
        let features =
            features(net, format, head.about.samples.client, rest).ok_or_else(|| refuse("its features are others"))?;
        found.push(Checkpoint { held, features, about: head.about, place: path });
    }
    Ok(found)
}

/// Shares of the features of the client's samples, where there are some; `None` if these are others.
fn features(net: &Net, format: &Format, samples: u64, bytes: &[u8]) -> Option<Option<RingShare>> {
    let count = match net.is_on_features() {
        true => samples.checked_mul(net.inputs(0) as u64).filter(|count| *count <= MOST_FEATURES)? as usize,
        false => 0,
    };
    let width = format.operand().into();
    if bytes.len() != pack::packed_len(count, width) {
        return None;
    }
    let rows = RingShare::new(pack::read(bytes, count, width).ok()?, Ring::plain(width));
    Some(net.is_on_features().then_some(rows))
}

/// The bytes of a file that is no longer than a checkpoint; `None` if there is none.
fn load(path: &Path, net: &Net, format: &Format) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let Some(file) = files::open(path)? else { return Ok(None) };
    // That of a head has features, and fewer weights than these.
    let features = 2 * pack::packed_len(MOST_FEATURES as usize, format.operand().into());
    let most = MAGIC.len() + 4 + MOST_HEAD + WeightShares::encoded_len(net, format.held) + features + HASH;
    // As long as it can become, so that nothing is moved and left behind.
    let expected = file.metadata()?.len().min(most as u64) as usize;
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected + 1));
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Head and shares of a whole file.
fn split(bytes: &[u8]) -> Option<(Head, &[u8])> {
    let (body, hash) = bytes.split_last_chunk::<HASH>()?;
    if Sha256::digest(body)[..] != hash[..] {
        return None;
    }
    let (len, rest) = body.strip_prefix(&MAGIC)?.split_first_chunk()?;
    let (head, shares) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((wire::decode(head, MOST_HEAD).ok()?, shares))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;
    use crate::train::session::Agreed;

    struct Run {
        net: Net,
        about: About,
        held: WeightShares,
    }

    fn run() -> Run {
        let net = Net::new(&[3, 4, 10]).unwrap();
        let agreed = Agreed::of_test([[1; 32], [2; 32]]);
        let held = WeightShares::first(Party::Client, &net, &Format::NARROW, None, &agreed);
        Run {
            net,
            about: About {
                samples: Counts { client: 200, server: 300 },
                digest: [3; 32],
                before: [0; 32],
                order: [4; 32],
                common: [0; 32],
                opened: Opened::default(),
            },
            held,
        }
    }

    fn read_by(path: &Path, net: &Net, party: Party, samples: (u64, [u8; 32])) -> Result<Vec<Checkpoint>> {
        read(path, party, net, &Format::NARROW, &Brought { samples: Some(samples), before: [0; 32] })
    }

    #[test]
    fn the_last_two_are_kept() {
        let (folder, Run { net, about, held }) = (tempfile::tempdir().unwrap(), run());
        let path = folder.path().join("shares");
        let of = || read_by(&path, &net, Party::Client, (200, [3; 32])).unwrap();
        assert!(of().is_empty());
        for done in [10, 20, 30] {
            let held = WeightShares { done, ..held.clone() };
            write(&path, Party::Client, &net, &Format::NARROW, &about, &held, None).unwrap();
        }
        let found = of();
        assert_eq!(found.iter().map(|found| found.mark().done).collect::<Vec<_>>(), [30, 20]);
        assert_eq!((&found[0].about, found[0].held.encode()), (&about, WeightShares { done: 30, ..held }.encode()));
        #[cfg(unix)]
        for path in [&path, &before(&path)] {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left over");
    }

    /// A head's has the features; the data owner reads it without knowing how many they are.
    #[test]
    fn features_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shares");
        let (net, format) = (Net::on_features(3), Format::NARROW);
        let agreed = Agreed::of_test([[1; 32], [2; 32]]);
        let held = WeightShares::first(Party::Client, &net, &format, None, &agreed);
        let about = run().about;
        let words: Vec<u64> = (0..600).map(|i| (i * 7919) & 0x7ffff).collect();
        let of_rows = |words: &[u64]| RingShare::new(words.to_vec(), Ring::plain(format.operand().into()));
        let rows = of_rows(&words);
        write(&path, Party::Client, &net, &format, &about, &held, Some(&rows)).unwrap();
        let of = |net: &Net| read_by(&path, net, Party::Client, (200, [3; 32]));
        for net in [Net::on_features(0), net.clone()] {
            let found = of(&net).unwrap();
            let features = found[0].features.as_ref().map(RingShare::words);
            assert_eq!((features, found[0].held.encode()), (Some(&words[..]), held.encode()));
        }
        for other in [Net::on_features(4), Net::new(&[3, 10]).unwrap()] {
            assert!(of(&other).unwrap_err().to_string().contains("another network"));
        }
        let short = of_rows(&words[..597]);
        write(&path, Party::Client, &net, &format, &about, &held, Some(&short)).unwrap();
        assert!(of(&net).unwrap_err().to_string().contains("features"));
    }

    #[test]
    fn what_is_no_checkpoint_of_the_run_is_refused() {
        let (folder, Run { net, about, held }) = (tempfile::tempdir().unwrap(), run());
        let path = folder.path().join("shares");
        write(&path, Party::Client, &net, &Format::NARROW, &about, &held, None).unwrap();
        let refused = |net: &Net, party, samples, says: &str| {
            let error = read_by(&path, net, party, samples).unwrap_err();
            assert!(error.fault() == Fault::User && error.to_string().contains(says), "{error}");
        };
        let samples = (200, [3; 32]);
        refused(&net, Party::Server, samples, "other party's");
        refused(&net, Party::Client, (201, [3; 32]), "other samples");
        refused(&net, Party::Client, (200, [5; 32]), "other samples");
        let wide = Net::new(&[5, 4, 10]).unwrap();
        refused(&wide, Party::Client, samples, "another network");
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&path, &damaged).unwrap();
            refused(&net, Party::Client, samples, "no whole checkpoint");
            fs::write(&path, &whole[..at]).unwrap();
            refused(&net, Party::Client, samples, "no whole checkpoint");
        }
        fs::write(&path, vec![7; 1 << 20]).unwrap();
        refused(&net, Party::Client, samples, "no whole checkpoint");
    }
}
