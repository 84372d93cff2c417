//! The models of one server, by the names under which clients ask for them.

use std::sync::Arc;

use lowkey_bridge::Schedule;
use lowkey_mpc::party::{Party, Stage};

use crate::cost::predict;
use crate::error::{Error, Result};
use crate::guard::session::server::GuardedModel;
use crate::plan::{Reveal, ServerMemory};
use crate::policy::Refusal;
use crate::publication::ServerModel;
use crate::report::charged_bytes;
use crate::session::{Ask, MAX_MODELS, MAX_NAME, Offer, is_name, name_of};

/// A published model and its name.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) model: Arc<ServerModel>,
    pub(crate) offer: Offer,
    /// What its sessions need, where they are guarded.
    pub(crate) guarded: Option<Arc<GuardedModel>>,
}

impl Served {
    pub(crate) fn new(name: String, model: Arc<ServerModel>) -> Self {
        Self { offer: offer(name, &model), model, guarded: None }
    }

    /// The same for guarded sessions, with what these cost on average.
    pub(crate) fn guarded(mut self, guarded: GuardedModel) -> Self {
        let forecast = &guarded.shown;
        self.offer.offline_bytes = forecast.mean_offline_bytes(guarded.rate()) as u64;
        self.offer.online_bytes = forecast.online_bytes();
        self.offer.flights = forecast.flights();
        self.guarded = Some(Arc::new(guarded));
        self
    }

    /// What an inference sends at most.
    pub(crate) fn inference_bytes(&self) -> u64 {
        self.guarded.as_ref().map_or_else(|| self.model.inference_bytes(), |guarded| guarded.stage_bytes)
    }

    /// The memory that its sessions need.
    pub(crate) fn memory(&self) -> ServerMemory {
        self.guarded.as_ref().map_or_else(|| self.model.plan.server_memory(), |guarded| guarded.memory)
    }
}

/// At least one, with names that differ.
pub(crate) struct Catalogue(Vec<Served>);

impl Catalogue {
    /// `models` have names that were [checked](check_names).
    pub(crate) fn new(models: Vec<Served>) -> Self {
        Self(models)
    }

    /// A model under its own name.
    pub(crate) fn one(model: Arc<ServerModel>) -> Self {
        Served::new(name_of(&model.plan.architecture.name), model).into()
    }

    pub(crate) fn first(&self) -> &Served {
        &self.0[0]
    }

    pub(crate) fn all(&self) -> &[Served] {
        &self.0
    }

    /// The model that a client asks for; `None` where it asks for the list.
    ///
    /// # Errors
    /// When there is none of that name, or there are several and it names none.
    pub(crate) fn find(&self, ask: &Ask) -> Result<Option<&Served>, Refusal> {
        match (ask, &self.0[..]) {
            (Ask::List, _) => Ok(None),
            (Ask::Only | Ask::Guarded(None), [only]) => Ok(Some(only)),
            (Ask::Only | Ask::Guarded(None), _) => Err(Refusal::WhichModel),
            (Ask::Model(name) | Ask::Guarded(Some(name)), all) => {
                all.iter().find(|served| served.offer.name == *name).map(Some).ok_or(Refusal::NoModel)
            }
        }
    }
}

impl From<Served> for Catalogue {
    fn from(served: Served) -> Self {
        Self(vec![served])
    }
}

/// Refuses names that are none or come twice, and more models than a list has.
///
/// # Errors
/// Of the user's.
pub(crate) fn check_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        if !is_name(name) {
            let hint = format!("names are 1 to {MAX_NAME} letters, digits, '.', '_', '-' and '+'");
            return Err(Error::usage(format!("{name:?} is no name of a model"), hint));
        }
        if seen.contains(&name) {
            return Err(Error::usage(format!("two models of the name {name}"), "give one of them another name"));
        }
        seen.push(name);
    }
    match seen.len() {
        1..=MAX_MODELS => Ok(()),
        count => Err(Error::usage(format!("{count} models"), format!("a server has 1 to {MAX_MODELS}"))),
    }
}

fn offer(name: String, model: &ServerModel) -> Offer {
    let (plan, package) = (&model.plan, &model.package);
    let prediction = predict(plan, Schedule::Prepared, Reveal::Logits);
    let sent = |stage| prediction.bytes(stage, Party::Client) + prediction.bytes(stage, Party::Server);
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let input = &plan.architecture.input;
    Offer {
        name,
        digest: model.digest,
        input: input.shape.map(narrow),
        input_bits: input.bits,
        outputs: narrow(plan.answer.lanes),
        package_bytes: (package.plan.len() + package.hint.len()) as u64,
        offline_bytes: sent(Stage::Offline) + charged_bytes(prediction.demand),
        online_bytes: sent(Stage::Online),
        flights: prediction.flights(Stage::Online, &[]),
    }
}
