//! Futures that are compiled here. The body of an `async fn` is compiled where it is first awaited, so again in every program and
//! test that uses this crate; that of a boxed future where it is boxed. What a session does is boxed once for each of its steps.

use std::pin::Pin;

/// A future on the heap.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
