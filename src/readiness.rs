//! What a server is at, for whoever sends it clients: a balancer, a probe.

use std::sync::Arc;

use tokio::sync::watch;

/// What a server is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It publishes, or does not listen yet.
    Starting,
    /// All its models are published, and it takes clients.
    Ready,
    /// It was asked to end, or cannot go on: no new clients, and the inferences that run end.
    Ending,
}

/// A view of one server, from before it publishes until after its end. A copy is the same view.
///
/// ```no_run
/// # async fn probe() -> lowkey::Result<()> {
/// let builder = lowkey::Server::builder(lowkey::Model::open("digits")?);
/// let readiness = builder.readiness();
/// let serving = tokio::spawn(async { builder.bind("127.0.0.1:0").await?.run().await });
/// while !readiness.is_ready() {
///     tokio::time::sleep(std::time::Duration::from_millis(100)).await;
/// }
/// # serving.await.expect("no panic")
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<State>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::Starting)))
    }
}

impl Readiness {
    /// What the server is at.
    pub fn state(&self) -> State {
        *self.0.borrow()
    }

    /// Whether it takes clients: only when everything is published, and no longer once it ends.
    pub fn is_ready(&self) -> bool {
        self.state() == State::Ready
    }

    /// It takes clients from now on. What ends does not begin again.
    pub(crate) fn begins(&self) {
        self.0.send_if_modified(|state| {
            let starts = *state == State::Starting;
            if starts {
                *state = State::Ready;
            }
            starts
        });
    }

    /// It takes no more clients.
    pub(crate) fn ends(&self) {
        self.0.send_replace(State::Ending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_does_not_begin_again() {
        let readiness = Readiness::default();
        assert_eq!((readiness.state(), readiness.is_ready()), (State::Starting, false));
        let same = readiness.clone();
        readiness.begins();
        assert!(same.is_ready());
        same.ends();
        readiness.begins();
        assert_eq!((readiness.state(), readiness.is_ready()), (State::Ending, false));
    }
}
