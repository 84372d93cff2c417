//! What a channel has others do: tasks and time. tokio's; in a browser those of the page, which has one thread, and where `std` knows no
//! clock.

#[cfg(target_arch = "wasm32")]
pub use browser::{Instant, JoinHandle, spawn, timeout};
#[cfg(not(target_arch = "wasm32"))]
pub use native::{Instant, JoinHandle, spawn, timeout};

#[cfg(not(target_arch = "wasm32"))]
mod native {
    pub use std::time::Instant;
    pub use tokio::spawn;
    pub use tokio::task::JoinHandle;
    pub use tokio::time::timeout;
}

#[cfg(target_arch = "wasm32")]
mod browser {
    use std::future::Future;
    use std::time::Duration;

    use gloo_timers::future::TimeoutFuture;
    use tokio::sync::oneshot;
    use wasm_bindgen_futures::spawn_local;

    pub use web_time::Instant;

    /// The longest time that a browser's timers take, in milliseconds.
    const LONGEST: u128 = i32::MAX as u128;

    /// The outcome of a task; an error if it panicked.
    pub type JoinHandle<T> = oneshot::Receiver<T>;

    /// The time was over first.
    #[derive(Debug)]
    pub struct Elapsed;

    /// Begins a task, which goes on whether or not its outcome is waited for.
    pub fn spawn<F>(task: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let (done, outcome) = oneshot::channel();
        spawn_local(async move {
            // Nobody may wait for it.
            let _ = done.send(task.await);
        });
        outcome
    }

    /// Lets an operation run for `after` at most.
    ///
    /// # Errors
    /// [`Elapsed`] if it takes longer.
    pub async fn timeout<F: Future>(after: Duration, operation: F) -> Result<F::Output, Elapsed> {
        let milliseconds = after.as_millis().min(LONGEST) as u32;
        tokio::select! {
            biased;
            outcome = operation => Ok(outcome),
            () = pass(milliseconds) => Err(Elapsed),
        }
    }

    /// Ends after so long. The timer is a task of its own, since a page's objects cannot be sent to other threads and futures of a channel
    /// can; it is set when this is first polled, and put away with it.
    async fn pass(milliseconds: u32) {
        let (mut over, told) = oneshot::channel();
        spawn_local(async move {
            tokio::select! {
                () = TimeoutFuture::new(milliseconds) => drop(over.send(())),
                () = over.closed() => {}
            }
        });
        // It does not end without telling.
        let _ = told.await;
    }
}
