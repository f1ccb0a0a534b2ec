//! What a job has to settle with Redis, as a machine without I/O: exchange after exchange, until it is done.
use crate::core::reply::Reply;

/// What the shell is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Send [`Talk::outgoing`], read this many replies, call [`Talk::answered`].
    Exchange {
        replies: usize,
    },
    Done(T),
}

/// A machine that talks to Redis. Keys may be watched when it is done: who goes on to write by that connection unwatches them first.
pub trait Talk {
    /// How it ends.
    type Outcome;

    /// The bytes of the exchange that was asked for.
    fn outgoing(&self) -> &[u8];

    /// Asks for the first exchange.
    fn begin(&mut self) -> Next<Self::Outcome>;

    /// Takes the replies of the last exchange, all of them, in order.
    fn answered(&mut self, replies: &[Reply]) -> Next<Self::Outcome>;
}
