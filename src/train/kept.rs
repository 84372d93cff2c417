//! What a training begins with, read before there is a connection.

use std::mem;
use std::path::Path;

use lowkey_mpc::party::Party;

use super::backbone::Backbone;
use super::checkpoint::{self, Brought, Checkpoint};
use super::export;
use super::format::Format;
use super::settings::{Contribution, Settings};
use super::terms::{Mark, Terms, Wish};
use crate::error::{Error, Result};
use crate::store::files;

impl Settings {
    /// Finds what is wrong before there is a connection; a training does it too.
    ///
    /// # Errors
    /// When no training can be as it is asked for; when a checkpoint is no checkpoint of this party, network and samples, or one is there
    /// and nobody asked to go on from it.
    pub fn check(&self, part: &Contribution) -> Result<()> {
        Kept::read(part, self).map(drop)
    }
}

/// Whether a file can be put at `path`, in place of one that may be there: found out by putting one beside it, which is taken away again.
///
/// # Errors
/// When it cannot.
pub fn check_target(path: &Path) -> Result<()> {
    let path = &std::path::absolute(path).map_err(|error| Error::file(path, error))?;
    Ok(files::check_target(path)?)
}

/// What a training begins with: checkpoints to go on from, masters of a network that is given, or that network whose head is trained.
pub(super) struct Kept {
    checkpoints: Vec<Checkpoint>,
    pub(super) masters: Option<Vec<Vec<i64>>>,
    pub(super) backbone: Option<Backbone>,
    /// What is asked for, with the number of features where this party knows it.
    pub(super) wish: Wish,
    /// What this party brings; nothing where no checkpoint is written.
    pub(super) brought: Brought,
}

impl Kept {
    /// Those that the settings name.
    ///
    /// # Errors
    /// When one is there and should not be, or the other way round, or it is another run's.
    pub(super) fn read(part: &Contribution, settings: &Settings) -> Result<Self> {
        let mut wish = settings.wish.clone();
        let is_head = wish.net.is_on_features();
        let (mut masters, mut backbone) = (None, None);
        match (part.samples(), part.pictures()) {
            (Some(_), _) if is_head => return Err(Error::internal("samples of a head are pictures")),
            (_, Some(_)) if !is_head => return Err(Error::internal("pictures are for heads")),
            _ => {}
        }
        match part.network() {
            None if is_head && part.party() == Party::Server => {
                return Err(Error::usage("a head, and no network that it belongs to", "name that network"));
            }
            Some(network) if is_head => {
                let of = Backbone::of(network)?;
                wish.net = of.head();
                // Nothing is known before the first sample, and nothing has to be.
                masters = Some(vec![vec![0; wish.net.weights(0)]]);
                // What the network does not read is found before anybody is asked, and nobody waits for features later.
                part.pictures().map(|pictures| of.run(pictures, |_, _| ())).transpose()?;
                backbone = Some(of);
            }
            Some(network) => masters = Some(export::masters(&wish.net, &Format::NARROW, network)?),
            None => {}
        }
        wish.check()?;
        let Some(path) = &settings.checkpoint else {
            return match settings.resume {
                true => Err(Error::usage("no checkpoint to go on from", "name its file")),
                false if wish.evaluates => Err(Error::usage("an evaluation, and no checkpoint", "name its file")),
                false => Ok(Self { checkpoints: Vec::new(), masters, backbone, wish, brought: Brought::default() }),
            };
        };
        if !settings.resume && checkpoint::is_at(path) {
            let what = format!("{}: a checkpoint is there, and a new training would replace it", path.display());
            return Err(Error::usage(what, "resume from it, or name another file"));
        }
        if wish.evaluates && !settings.resume {
            return Err(Error::internal("an evaluation goes on from checkpoints"));
        }
        let brought = part.brought(backbone.as_ref(), wish.evaluates)?;
        let found = match settings.resume {
            true => checkpoint::read(path, part.party(), &wish.net, &Format::NARROW, &brought)?,
            false => Vec::new(),
        };
        if !wish.evaluates {
            check_target(path)?;
        }
        match settings.resume && found.is_empty() {
            true => Err(Error::usage(format!("{}: no checkpoint there", path.display()), "begin a new training")),
            false => Ok(Self { checkpoints: found, masters, backbone, wish, brought }),
        }
    }

    /// What the checkpoints say of themselves.
    pub(super) fn marks(&self) -> Vec<Mark> {
        self.checkpoints.iter().map(Checkpoint::mark).collect()
    }

    /// The checkpoint that `terms` go on from, made the last one.
    ///
    /// # Errors
    /// When it is of another network or of another number of samples, or cannot be moved.
    pub(super) fn agreed(&mut self, terms: &Terms, settings: &Settings, party: Party) -> Result<Option<Checkpoint>> {
        let checkpoints = mem::take(&mut self.checkpoints);
        let is_it = |mark: Mark| checkpoints.into_iter().find(|checkpoint| checkpoint.mark().is(&mark));
        let Some(from) = terms.from.and_then(is_it) else { return Ok(None) };
        if let Some(path) = settings.checkpoint.as_ref().filter(|_| !terms.evaluates) {
            from.make_last(path)?;
        }
        let refuse = |what, own, theirs| Err(Error::Terms { what, own, peer: party.other(), theirs });
        if !from.held.is_of(&terms.net) {
            let own = "the checkpoint has another number".to_owned();
            return refuse("features", own, terms.net.inputs(0).to_string());
        }
        if from.about.samples != terms.samples && !terms.evaluates {
            return refuse("samples", from.about.samples.to_string(), terms.samples.to_string());
        }
        Ok(Some(from))
    }
}
