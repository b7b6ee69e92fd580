//! What the method of a trait returns that is written as an `async fn`.

use std::pin::Pin;

/// What an async method of an [`interface`](macro@crate::interface) returns: a future in a box, which borrows the
/// value.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Puts the body of an async method into its box.
#[inline]
pub fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(future)
}
