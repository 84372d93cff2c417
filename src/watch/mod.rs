//! What a server tells whoever watches it: lines of a log (`tracing`), and the same things as [`Event`]s, for metrics.
//!
//! | level | lines |
//! |---|---|
//! | error, warn | sessions that end badly, by our fault or the client's; connections that come to none |
//! | info | each session and each inference: who, which model, times, bytes, how it ended; clients that are on no list |
//! | debug | each beginning, set-up and prepared slot, with the memory that the session holds |
//! | trace | the bytes of each layer in each stage |
//!
//! What whoever likes can cause for nothing is told a few times a minute, and counted beyond that: connections that come to no session,
//! sessions that end without an inference (but for our own bugs), clients that are on no list.
//!
//! Sizes, times and outcomes of the protocol, which both parties know. Never a value: nothing here reads an input, a share or an answer.

mod doorway;
mod session;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::plan::Reveal;
use crate::policy::Identity;
use crate::report::{SessionReport, StageReport};
use doorway::Doorway;

pub use session::{SessionWatch, Stock, fault};

/// How often the log counts what it does not tell of.
const COUNTED: Duration = Duration::from_secs(60);

/// What costs whoever causes it nothing, so that the log tells of a few.
#[derive(Clone, Copy, Debug)]
enum Cheap {
    /// A connection that comes to no session.
    Connection,
    /// A session without an inference.
    Session,
    /// A client that is on no list.
    Stranger,
}

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
    fn now(&self) -> Stock {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Stock {
            slots: read(&self.slots),
            slot_bytes: read(&self.slot_bytes),
            ots: read(&self.ots),
            ot_bytes: read(&self.ot_bytes),
        }
    }

    /// One session holds something else than before.
    fn change(&self, before: Stock, after: Stock) {
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
    /// By what is [`Cheap`].
    doorways: Mutex<[Doorway; 3]>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watch({:?})", self.held.now())
    }
}

impl Watch {
    pub(crate) fn new(watcher: Option<Arc<dyn Watcher>>) -> Arc<Self> {
        let (held, sessions, doorways) = (Holdings::default(), AtomicU64::new(0), Mutex::default());
        Arc::new(Self { watcher, held, sessions, doorways })
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

    /// A connection comes to no session.
    pub(crate) fn dismissed(&self, address: IpAddr, error: &Error) {
        if self.is_told(Cheap::Connection) {
            tracing::warn!(client = %address, fault = fault(error), "no session: {error}");
        }
        self.tell(&Event::Dismissed { address, error });
    }

    /// A client is on no list, with a certificate of this SHA-256.
    pub(crate) fn stranger(&self, address: IpAddr, certificate: &str) {
        if self.is_told(Cheap::Stranger) {
            tracing::info!(client = %address, certificate, "not on the list of those who may ask");
        }
    }

    /// Whether the log tells of one more.
    fn is_told(&self, what: Cheap) -> bool {
        self.doorways()[what as usize].told()
    }

    /// Tells now and then how many were not told of. Never ends.
    pub(crate) async fn count(&self) {
        loop {
            tokio::time::sleep(COUNTED).await;
            let [connections, sessions, clients] = self.doorways().each_mut().map(Doorway::counted);
            if connections > 0 {
                tracing::warn!(connections, "more connections came to no session");
            }
            if sessions > 0 {
                tracing::warn!(sessions, "more sessions ended without an inference");
            }
            if clients > 0 {
                tracing::info!(clients, "more were not on the list of those who may ask");
            }
        }
    }

    fn doorways(&self) -> MutexGuard<'_, [Doorway; 3]> {
        self.doorways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all sessions hold now.
    pub(crate) fn held(&self) -> Stock {
        self.held.now()
    }

    fn tell(&self, event: &Event<'_>) {
        if let Some(watcher) = &self.watcher {
            watcher.notice(event);
        }
    }
}
