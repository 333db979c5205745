//! How the outcome of a write comes back.
//!
//! Owns the receipt and the pairing of a write with whom to tell. Refuses to know when it is made.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::error::WriteError;
use super::queue::Task;

/// The answer to a write: a future of its outcome.
#[must_use = "await it to know the outcome, or drop it explicitly when nobody needs to know"]
pub struct WriteReceipt<T> {
    pub(super) receipt: oneshot::Receiver<Result<T, WriteError>>,
}

impl<T> Future for WriteReceipt<T> {
    type Output = Result<T, WriteError>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receipt).poll(context).map(|outcome| outcome.unwrap_or(Err(WriteError::Closed)))
    }
}

impl<T> fmt::Debug for WriteReceipt<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriteReceipt")
    }
}

pub(super) struct TypedTask<T, W, D> {
    pub(super) write: Option<W>,
    pub(super) output: Option<T>,
    pub(super) done: D,
}

impl<T, W, D> Task for TypedTask<T, W, D>
where
    T: Send,
    W: FnOnce(&Connection) -> Result<T, WriteError> + Send,
    D: FnOnce(Result<T, WriteError>) + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), WriteError> {
        let write =
            self.write.take().ok_or_else(|| WriteError::Refused("the write ran already".to_owned()))?;
        self.output = Some(write(connection)?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), WriteError>) {
        let Self { output, done, .. } = *self;
        done(outcome.and_then(|()| output.ok_or(WriteError::Closed)));
    }
}
