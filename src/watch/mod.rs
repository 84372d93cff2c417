//! What a server tells whoever watches it: lines of a log (`tracing`), and the same things as [`Event`]s, for metrics.
//!
//! | level | lines |
//! |---|---|
//! | error, warn | sessions that end badly, by our fault or the client's; connections that come to none, at a limited rate |
//! | info | each session and each inference: who, which model, times, bytes, how it ended |
//! | debug | each beginning, set-up and prepared slot, with the memory that the session holds |
//! | trace | the bytes of each layer in each stage |
//!
//! Sizes, times and outcomes of the protocol, which both parties know. Never a value: nothing here reads an input, a share or an answer.

mod doorway;
mod session;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::error::Error;
use crate::plan::Reveal;
use crate::policy::Identity;
use crate::report::{SessionReport, StageReport};
use doorway::Doorway;

pub use session::{Held, SessionWatch, fault};

/// How often connections that came to no session are counted in the log.
const COUNTED: Duration = Duration::from_secs(60);

/// Is told what a server does.
pub trait Watcher: Send + Sync {
    /// Called where it happens, on threads that serve clients: it must not wait.
    fn notice(&self, event: &Event<'_>);
}

/// Something that a server did. Later versions may tell more.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection came to no session: it said nothing in time or nothing of this protocol, or there was no room.
    Dismissed {
        /// Where it came from.
        address: IpAddr,
        /// Why.
        error: &'a Error,
    },
    /// A client has a session.
    Begun(&'a Subject),
    /// The hint and the base OTs are done.
    SetUp(&'a Subject, &'a StageReport),
    /// A slot waits for its input.
    Prepared(&'a Subject, &'a StageReport),
    /// An inference is done.
    Answered {
        /// Whose.
        subject: &'a Subject,
        /// What the client was shown.
        reveal: Reveal,
        /// Of the slot; `None` in the direct schedule.
        offline: Option<&'a StageReport>,
        /// From the request to the end.
        online: &'a StageReport,
    },
    /// A session is over.
    Ended {
        /// Whose.
        subject: &'a Subject,
        /// All that it did.
        report: &'a SessionReport,
        /// Why, if the client has not just closed it.
        error: Option<&'a Error>,
    },
}

/// Whose session it is, and with which model.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Counts the sessions of this server, from 1.
    pub session: u64,
    /// The client.
    pub client: Identity,
    /// The model's name.
    pub model: Arc<str>,
}

/// What all sessions of a server hold.
#[derive(Debug, Default)]
struct Holdings {
    slots: AtomicU64,
    slot_bytes: AtomicU64,
    ots: AtomicU64,
    ot_bytes: AtomicU64,
}

impl Holdings {
    fn now(&self) -> Held {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Held {
            slots: read(&self.slots),
            slot_bytes: read(&self.slot_bytes),
            ots: read(&self.ots),
            ot_bytes: read(&self.ot_bytes),
        }
    }

    /// One session holds something else than before.
    fn change(&self, before: Held, after: Held) {
        // Wraps around below zero and back.
        let change =
            |count: &AtomicU64, before: u64, after: u64| count.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        change(&self.slots, before.slots, after.slots);
        change(&self.slot_bytes, before.slot_bytes, after.slot_bytes);
        change(&self.ots, before.ots, after.ots);
        change(&self.ot_bytes, before.ot_bytes, after.ot_bytes);
    }
}

/// Watches one server.
pub(crate) struct Watch {
    watcher: Option<Arc<dyn Watcher>>,
    held: Holdings,
    sessions: AtomicU64,
    doorway: Mutex<Doorway>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watch({:?})", self.held.now())
    }
}

impl Watch {
    pub(crate) fn new(watcher: Option<Arc<dyn Watcher>>) -> Arc<Self> {
        let (held, sessions, doorway) = (Holdings::default(), AtomicU64::new(0), Mutex::default());
        Arc::new(Self { watcher, held, sessions, doorway })
    }

    /// A session begins, whose client has waited so long for it.
    pub(crate) fn session(self: &Arc<Self>, client: Identity, model: &str, waited: Duration) -> SessionWatch {
        let session = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let subject = Subject { session, client, model: model.into() };
        tracing::debug!(
            session,
            client = %subject.client,
            model,
            waited_ms = session::milliseconds(waited.as_secs_f64() * 1e3),
            "session begins"
        );
        self.tell(&Event::Begun(&subject));
        SessionWatch::new(self.clone(), subject)
    }

    /// A connection comes to no session. At most a few are told at once; the others are counted.
    pub(crate) fn dismissed(&self, address: IpAddr, error: &Error) {
        let told = self.doorway.lock().unwrap_or_else(|broken| broken.into_inner()).told();
        if told {
            tracing::warn!(client = %address, fault = fault(error), "no session: {error}");
        }
        self.tell(&Event::Dismissed { address, error });
    }

    /// Tells now and then how many connections were not told of. Never ends.
    pub(crate) async fn count(&self) {
        loop {
            tokio::time::sleep(COUNTED).await;
            let untold = self.doorway.lock().unwrap_or_else(|broken| broken.into_inner()).counted();
            if untold > 0 {
                tracing::warn!(connections = untold, "more connections came to no session");
            }
        }
    }

    /// What all sessions hold now.
    pub(crate) fn held(&self) -> Held {
        self.held.now()
    }

    fn tell(&self, event: &Event<'_>) {
        if let Some(watcher) = &self.watcher {
            watcher.notice(event);
        }
    }
}
