//! Makes published models of networks, under one key and for one link.

use std::sync::Arc;

use lowkey_models::Architecture;

use super::client::not_revealed;
use super::model::Model;
use crate::catalogue::{Catalogue, Served, check_names};
use crate::error::{Error, Result};
use crate::guard::session::server::{GuardedModel, Guarding};
use crate::plan::{Reveal, ServerMemory};
use crate::planner::Target;
use crate::publication::{ProgressHandler, ServerModel};
use crate::report::human_bytes;
use crate::store::Key;
use crate::threads;

/// What all models of a server have in common.
pub(super) struct Publisher {
    pub(super) target: Target,
    /// The most that clients are shown.
    pub(super) reveal: Reveal,
    /// Most bytes of all sessions together.
    pub(super) memory: Option<u64>,
    pub(super) key: Arc<Key>,
    /// How sessions are guarded, if they are.
    pub(super) guard: Option<Guarding>,
}

/// Refuses what cannot be served, before anything is computed or written.
///
/// # Errors
/// When names are none or come twice, or the class alone is to be revealed of a network whose class it would not be.
pub(super) fn check(models: &[(String, Model)], reveal: Reveal) -> Result<()> {
    check_names(models.iter().map(|(name, _)| &**name))?;
    for (_, model) in models {
        let network = model.network();
        let outputs = network.tensors()[network.architecture().output].elements();
        if let Some(error) = not_revealed(network.architecture(), outputs, reveal) {
            return Err(error);
        }
    }
    Ok(())
}

/// Refuses what a client that cheats could use.
fn check_guarded(name: &str, architecture: &Architecture) -> Result<()> {
    if architecture.has_rings() {
        return Err(Error::usage(
            format!(
                "{name} declares rings in which sums wrap, and in the guarded mode a client could look for inputs that make them"
            ),
            "serve a network whose rings hold every sum",
        ));
    }
    if architecture.has_blocks() {
        return Err(Error::usage(
            format!("{name} has blocks, one sign for a patch of pixels, and the guarded mode has no circuit for them"),
            "serve a network without blocks",
        ));
    }
    if architecture.has_coins() {
        return Err(Error::usage(
            format!("{name} rounds by coins of the client, and in the guarded mode a client could choose them"),
            "serve a network without coins",
        ));
    }
    Ok(())
}

impl Publisher {
    /// Publishes all, one after the other; what is among `published` already is not made again.
    ///
    /// # Errors
    /// As [`check`], and when a layer fits no parameter set, or has no circuit where sessions are guarded.
    pub(super) async fn publish(
        &self,
        models: Vec<(String, Model)>,
        published: Vec<Arc<ServerModel>>,
        progress: Option<ProgressHandler>,
    ) -> Result<Catalogue> {
        check(&models, self.reveal)?;
        let (target, memory, reveal) = (self.target, self.memory, self.reveal);
        let (key, guard) = (self.key.clone(), self.guard.clone());
        threads::compute(move || {
            let told = |done, all| progress.iter().for_each(|told| told(done, all));
            let publish = |(name, model): (String, Model)| {
                if guard.is_some() {
                    check_guarded(&name, model.architecture())?;
                }
                let model = ServerModel::publish_unless(model.network(), target, &key, &published, &told)?;
                let guarded = guard.clone().map(|guarding| GuardedModel::new(&model, guarding, reveal)).transpose()?;
                let served = Served::new(name, model);
                let served = guarded.into_iter().fold(served, Served::guarded);
                check_memory(served.memory(), memory)?;
                Ok(served)
            };
            models.into_iter().map(publish).collect::<Result<Vec<_>>>().map(Catalogue::new)
        })
        .await?
    }
}

/// Refuses a model of which not even one session has room.
fn check_memory(needed: ServerMemory, memory: Option<u64>) -> Result<()> {
    let needed = needed.with_slots(1);
    match memory {
        Some(most) if most < needed => Err(Error::usage(
            format!("{} for all sessions, and one of this model needs {}", human_bytes(most), human_bytes(needed)),
            "allow more memory; it is apart from the model's own",
        )),
        _ => Ok(()),
    }
}
