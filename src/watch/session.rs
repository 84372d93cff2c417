//! One session: what it did so far, what it holds, and its lines in the log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lowkey_mpc::error::Error as ProtocolError;

use super::{Cheap, Event, Subject, Watch};
use crate::error::{AbortCode, Error, Fault};
use crate::plan::Reveal;
use crate::policy::Identity;
use crate::report::{Measured, SessionReport, StageReport};

/// Prepared slots and OTs, and their bytes in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// Slots that wait for their inputs.
    pub slots: u64,
    /// Bytes of these.
    pub slot_bytes: u64,
    /// OTs that were made and not used.
    pub ots: u64,
    /// Bytes of these, and of what more are made of.
    pub ot_bytes: u64,
}

/// A session that is watched; the default tells nobody but the log. A clone is the same session.
#[derive(Clone, Debug)]
pub struct SessionWatch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    watch: Arc<Watch>,
    subject: Subject,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    report: SessionReport,
    held: Stock,
    ended: bool,
}

impl Default for SessionWatch {
    fn default() -> Self {
        let subject = Subject { session: 0, client: Identity::default(), model: "".into() };
        Self::new(Watch::new(None), subject)
    }
}

impl SessionWatch {
    pub(super) fn new(watch: Arc<Watch>, subject: Subject) -> Self {
        Self(Arc::new(Inner { watch, subject, state: Mutex::default() }))
    }

    /// The set-up is done.
    pub(crate) fn set_up(&self, stage: &StageReport) {
        self.0.state().report.setup.add(stage);
        let (session, ms) = (self.0.subject.session, milliseconds(stage.ms));
        tracing::debug!(session, ms, bytes = stage.bytes(), flights = stage.flights, "set up");
        self.0.watch.tell(&Event::SetUp(&self.0.subject, stage));
    }

    /// A slot is prepared.
    pub(crate) fn prepared(&self, slot: u64, measured: &Measured) {
        let stage = &measured.stage;
        self.0.state().report.offline.add(stage);
        let (session, ms) = (self.0.subject.session, milliseconds(stage.ms));
        tracing::debug!(session, slot, ms, bytes = stage.bytes(), flights = stage.flights, "prepared");
        self.layers("offline", measured);
        self.0.watch.tell(&Event::Prepared(&self.0.subject, stage));
    }

    /// An inference is done.
    pub(crate) fn answered(&self, reveal: Reveal, offline: Option<&StageReport>, measured: &Measured) {
        let online = &measured.stage;
        {
            let mut state = self.0.state();
            state.report.online.add(online);
            state.report.inferences += 1;
        }
        let subject = &self.0.subject;
        tracing::info!(
            session = subject.session,
            client = %subject.client,
            model = &*subject.model,
            reveal = if reveal == Reveal::Class { "class" } else { "logits" },
            schedule = if offline.is_some() { "prepared" } else { "direct" },
            offline_ms = milliseconds(offline.map_or(0.0, |stage| stage.ms)),
            offline_bytes = offline.map_or(0, StageReport::bytes),
            online_ms = milliseconds(online.ms),
            online_bytes = online.bytes(),
            "inference"
        );
        self.layers("online", measured);
        self.0.watch.tell(&Event::Answered { subject, reveal, offline, online });
    }

    /// What each layer sent and received in a stage.
    fn layers(&self, stage: &str, measured: &Measured) {
        for (layer, count) in measured.scopes.iter().filter(|(_, count)| count.bytes() > 0) {
            tracing::trace!(session = self.0.subject.session, stage, layer, bytes = count.bytes(), "layer");
        }
    }

    /// What the session holds from now on.
    pub(crate) fn holds(&self, held: Stock) {
        let before = std::mem::replace(&mut self.0.state().held, held);
        self.0.watch.held.change(before, held);
        if held != before {
            let Stock { slots, slot_bytes, ots, ot_bytes } = held;
            tracing::debug!(session = self.0.subject.session, slots, slot_bytes, ots, ot_bytes, "holds");
        }
    }

    /// The session is over.
    pub(crate) fn ended(&self, outcome: Result<(), &Error>) {
        self.0.end(outcome.err());
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, error: Option<&Error>) {
        let report = {
            let mut state = self.state();
            if std::mem::replace(&mut state.ended, true) {
                return;
            }
            state.report.clone()
        };
        let ours = error.is_some_and(|error| error.fault() == Fault::Internal);
        if self.subject.session > 0 && (ours || report.inferences > 0 || self.watch.is_told(Cheap::Session)) {
            tell_end(&self.subject, &report, error);
        }
        self.watch.tell(&Event::Ended { subject: &self.subject, report: &report, error });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let held = std::mem::take(&mut self.state().held);
        self.watch.held.change(held, Stock::default());
        // Whoever waited for it has gone away.
        self.end(None);
    }
}

/// The session's line.
fn tell_end(subject: &Subject, report: &SessionReport, error: Option<&Error>) {
    let outcome = error.map_or_else(|| "closed".to_owned(), in_words);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                session = subject.session,
                client = %subject.client,
                model = &*subject.model,
                inferences = report.inferences,
                setup_ms = milliseconds(report.setup.ms),
                setup_bytes = report.setup.bytes(),
                offline_ms = milliseconds(report.offline.ms),
                offline_bytes = report.offline.bytes(),
                online_ms = milliseconds(report.online.ms),
                online_bytes = report.online.bytes(),
                fault = error.map_or("none", fault),
                outcome,
                "session"
            )
        };
    }
    match error {
        None => line!(info),
        Some(error) if error.is_refusal() => line!(info),
        Some(error) if error.fault() == Fault::Internal => line!(error),
        Some(_) => line!(warn),
    }
}

/// An error for the log: of a number that the other end gave also what it means.
fn in_words(error: &Error) -> String {
    match error {
        Error::Session(ProtocolError::PeerAborted(code)) => format!("{error}: {}", AbortCode::describe(*code)),
        error => error.to_string(),
    }
}

/// Whose fault it is, for logs and metrics: none where a server refuses what it does not allow.
pub fn fault(error: &Error) -> &'static str {
    if error.is_refusal() {
        return "none";
    }
    match error.fault() {
        Fault::User => "user",
        Fault::Peer => "peer",
        Fault::Safety => "safety",
        Fault::Internal => "internal",
    }
}

/// To a thousandth.
pub(super) fn milliseconds(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}
