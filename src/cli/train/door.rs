//! Those who have come to a model owner and not said yet what they ask for: none of them keeps another one waiting.

use std::collections::VecDeque;
use std::io;

use lowkey::net::{Incoming, Listener};
use lowkey::train::{HELLO, Met};
use lowkey::{Error, Limits, Result};
use tokio::task::{AbortHandle, JoinSet};

/// One more turns the oldest away.
const MOST: usize = 64;

#[derive(Default)]
pub struct Door {
    meetings: JoinSet<Result<Met>>,
    by_age: VecDeque<AbortHandle>,
}

impl Door {
    /// The next one that has said what it asks for, or why one is none.
    pub async fn next(&mut self, listener: &Listener, limits: Limits) -> Result<Met> {
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (incoming, _) = accepted.map_err(Error::internal)?;
                    self.by_age.retain(|meeting| !meeting.is_finished());
                    self.by_age.push_back(self.meetings.spawn(meet(incoming, limits)));
                    if self.by_age.len() > MOST && let Some(oldest) = self.by_age.pop_front() {
                        oldest.abort();
                    }
                }
                Some(met) = self.meetings.join_next() => match met {
                    Err(error) if error.is_cancelled() => {}
                    met => return met.map_err(Error::internal)?,
                },
            }
        }
    }
}

/// TLS, if the listener has a certificate, and what it asks for.
async fn meet(incoming: Incoming, limits: Limits) -> Result<Met> {
    let failed = |source| Error::Connect { address: "the data owner".to_owned(), source };
    let late = |_| failed(io::ErrorKind::TimedOut.into());
    let secured = tokio::time::timeout(HELLO.min(limits.timeout), incoming.secure()).await.map_err(late)?;
    let (stream, _) = secured.map_err(failed)?;
    Met::meet(stream, limits).await
}
