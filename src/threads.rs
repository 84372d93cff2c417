//! Threads for computing. A runtime's own threads move bytes; whatever computes for long runs here. In a browser there is one thread for
//! both, which the page gives to a worker.

use crate::error::Result;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::{compute, converse, runtime};

/// Runs a step of a protocol.
#[cfg(target_arch = "wasm32")]
pub(crate) async fn converse<T, F>(step: F) -> Result<T>
where
    F: AsyncFnOnce() -> T,
{
    Ok(step().await)
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::convert::Infallible;

    use tokio::runtime::{Handle, Runtime};
    use tokio::sync::oneshot;

    use super::Result;
    use crate::error::Error;

    /// Runs a step of a protocol on a thread that may block. If whoever waits for it goes away, it ends where it next waits itself.
    pub(crate) async fn converse<T, F>(step: F) -> Result<T>
    where
        T: Send + 'static,
        F: AsyncFnOnce() -> T + Send + 'static,
    {
        let (waiting, left) = oneshot::channel::<Infallible>();
        let thread = tokio::task::spawn_blocking(move || {
            Handle::current().block_on(async {
                tokio::select! {
                    biased;
                    outcome = step() => Some(outcome),
                    _ = left => None,
                }
            })
        });
        let outcome = thread.await.map_err(Error::internal)?;
        drop(waiting);
        outcome.ok_or_else(|| Error::internal("nobody waits for this"))
    }

    /// Runs a computation on a thread that may block.
    pub(crate) async fn compute<T, F>(work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)
    }

    /// A runtime for connections, with so many threads that may block.
    pub(crate) fn runtime(most: usize) -> Result<Runtime> {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(most)
            .thread_name("lowkey")
            .enable_all()
            .build()
            .map_err(|error| Error::internal(format!("no runtime: {error}")))
    }
}
