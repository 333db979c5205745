//! Who is in the cluster, as this node knows it: SWIM over datagrams, as a state machine without IO.
//!
//! [`Membership`] takes datagrams, the time and what happens to connections, and gives datagrams to send and
//! events. It is driven like `quinn-proto`: call an `on_…` method, then drain [`Membership::poll_output`],
//! then sleep until [`Membership::next_deadline`]. [`MembershipView`] folds the events into the picture that
//! people and deciders look at. The rules are in `spec/membership.md`. Refuses to know sockets, connections,
//! clocks and where randomness comes from.

mod config;
mod event;
mod hearsay;
mod identity;
mod machine;
mod outbox;
mod pace;
mod packet;
mod record;
mod suspicion;
mod timers;
mod view;

#[cfg(test)]
pub(crate) mod tests;

pub use config::{MembershipConfig, PACKET_BYTES_MAX};
pub use event::{DownReason, MembershipCounters, MembershipEvent, MembershipOutput};
pub use identity::MemberIdentity;
pub use machine::Membership;
pub use packet::DatagramError;
pub use record::RecordKey;
pub use view::{ForgetReason, MembershipView, NodeEntry, NodeState, ViewChange};
