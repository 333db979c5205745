//! Actors of other nodes.
//!
//! Owns what crosses and how ([`RemoteTell`], [`RemoteCall`], [`RemoteStream`]), which actors a node offers
//! ([`Exports`]), the handle of an actor elsewhere ([`RemoteHandle`]), and which node is reached over which
//! connection ([`Links`]). Refuses to know how connections come about: who keeps them says `peer_up` and
//! `peer_down`.
//!
//! ```
//! use arw_kit::mailbox::{Handle, Reply};
//! use arw_transport::frame::MessageType;
//! use arw_transport::remote::{Exports, Offer, OfferError, RemoteCall, RemoteTell};
//! use serde::{Deserialize, Serialize};
//!
//! // What crosses: its own types, so that renaming inside the actor breaks no peer.
//! #[derive(Serialize, Deserialize)]
//! struct Add { amount: u64 }
//! impl RemoteTell for Add { const TYPE: MessageType = MessageType(1); }
//!
//! #[derive(Serialize, Deserialize)]
//! struct Read;
//! #[derive(Serialize, Deserialize)]
//! struct Total { total: u64 }
//! impl RemoteCall for Read { const TYPE: MessageType = MessageType(2); type Reply = Total; }
//!
//! enum CounterMessage { Add(u64), Get(Reply<u64>) }
//! arw_kit::message!(CounterMessage { Add, Get });
//!
//! fn offer(exports: &Exports, counter: &Handle<CounterMessage>) -> Result<(), OfferError> {
//!     exports.offer(
//!         Offer::new("counter", counter)
//!             .tell(|add: Add, _| CounterMessage::Add(add.amount))
//!             .call(|Read, _, reply| CounterMessage::Get(reply), |total| Total { total }),
//!     )
//! }
//!
//! async fn use_it(counter: &arw_transport::remote::RemoteHandle) -> Result<u64, arw_transport::remote::RemoteAskError> {
//!     Ok(counter.ask(&Read, std::time::Duration::from_secs(1)).await?.total)
//! }
//! ```
//!
//! A message is delivered at most once. Those that one node sends to one actor arrive in order. A tell for an
//! actor whose mailbox is full waits there, and where many do, [`RemoteHandle::try_tell`] is refused and
//! [`RemoteHandle::tell`] waits. One for an actor that is not offered, has stopped, or does not understand it
//! is counted there and lost; who must know asks.

mod protocol;

mod calls;
mod watches;

mod begun;
mod exports;
mod parking;
mod serve;
mod serve_answers;

mod answers;
mod handle;
mod link;
mod links;

pub use answers::RemoteAnswers;
pub use exports::{Exports, Offer, OfferError};
pub use handle::{RemoteDown, RemoteHandle, RemoteMonitor};
pub use link::{ControlFull, ControlOut, Link, LinkCounts};
pub use links::{Links, PeerUp, RemoteOptions};
pub use protocol::{
    NodeDown, Origin, RemoteAskError, RemoteCall, RemoteMonitorError, RemoteStream, RemoteTell,
    RemoteTellError, target_of,
};

#[cfg(test)]
mod tests;
