//! All messages of the control stream, and their numbers.

use super::stream::ControlError;
use super::{
    Bounded as _, Card, Demonitor, Down, Goodbye, Hello, HelloAck, HelloRefused, Join, JoinAccepted,
    JoinRefused, Monitor, OutOfBounds, Ping, Pong, Renew, Renewed, Revoked,
};
use crate::codec::{self, Buffer, EncodeError};

/// One enum of messages by their numbers, and what follows from that list.
macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// A message on the control stream.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Control {
            $($(#[$doc])* $name($name),)*
        }

        impl Control {
            /// The number of its type.
            #[must_use]
            pub const fn code(&self) -> u16 {
                match self {
                    $(Self::$name(_) => $code,)*
                }
            }

            pub(super) fn encode<B: Buffer>(&self, bytes_max: usize, out: &mut B) -> Result<usize, EncodeError> {
                match self {
                    $(Self::$name(message) => codec::encode_within(message, bytes_max, out),)*
                }
            }

            pub(super) fn check(&self) -> Result<(), OutOfBounds> {
                match self {
                    $(Self::$name(message) => message.check(),)*
                }
            }

            /// `None`: a type that this version does not know.
            pub(super) fn decode(code: u16, body: &[u8]) -> Option<Result<Self, ControlError>> {
                let message = match code {
                    $($code => codec::decode::<$name>(body).map(Self::$name),)*
                    _ => return None,
                };
                let message = message.map_err(|problem| ControlError::Body { code, problem });
                Some(message.and_then(|message| match message.check() {
                    Ok(()) => Ok(message),
                    Err(problem) => Err(ControlError::Field { code, problem }),
                }))
            }
        }

        $(
            impl From<$name> for Control {
                fn from(message: $name) -> Self {
                    Self::$name(message)
                }
            }
        )*
    };
}

messages! {
    /// A member dials.
    Hello = 1,
    /// It is let in.
    HelloAck = 2,
    /// It is not.
    HelloRefused = 3,
    /// A node wants to become a member.
    Join = 4,
    /// It is one.
    JoinAccepted = 5,
    /// It is not.
    JoinRefused = 6,
    /// Life sign, asked for.
    Ping = 7,
    /// Life sign.
    Pong = 8,
    /// Nodes were removed.
    Revoked = 9,
    /// The connection is about to be closed.
    Goodbye = 10,
    /// Watch an actor.
    Monitor = 11,
    /// Do not watch it any more.
    Demonitor = 12,
    /// It ended.
    Down = 13,
    /// A member asks for its next certificate.
    Renew = 14,
    /// Its next certificate.
    Renewed = 15,
    /// What a node says of itself.
    Card = 16,
}

/// The only messages that may come first on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// A member dials.
    Hello(Hello),
    /// A node wants to become one.
    Join(Join),
}
