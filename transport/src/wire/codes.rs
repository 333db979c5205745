//! Reasons, as numbers that never change.
//!
//! Owns every reason that crosses the wire, its number and its words. A number that only a newer version
//! knows is kept as a number.

use arw_kit::life::ExitReason;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::certificate::CertificateError;
use crate::frame::RefusalReason;
use crate::token::TokenRefusal;

/// An enum of numbered reasons with words for people, which travels as its number.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$case_doc:meta])* $case:ident = $code:literal: $words:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        pub enum $name {
            $($(#[$case_doc])* #[error($words)] $case,)*
            /// A reason that a newer version knows.
            #[error("reason {0}, which this version does not know")]
            Unlisted(u16),
        }

        impl $name {
            /// Every reason that this version knows.
            pub const ALL: &[Self] = &[$(Self::$case),*];

            /// Its number.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self {
                    $(Self::$case => $code,)*
                    Self::Unlisted(code) => code,
                }
            }

            /// The reason with this number.
            #[must_use]
            pub const fn from_code(code: u16) -> Self {
                match code {
                    $($code => Self::$case,)*
                    code => Self::Unlisted(code),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.serialize_u16(self.code())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                u16::deserialize(input).map(Self::from_code)
            }
        }
    };
}

codes! {
    /// Why a hello is refused.
    HelloRefusal {
        /// No minor version that both speak.
        Version = 1: "the two nodes have no protocol version in common: upgrade the older one",
        /// The certificate belongs to another cluster.
        OtherCluster = 2: "the node belongs to another cluster",
        /// The cluster's key did not sign the certificate.
        BadSignature = 3: "the certificate is not signed by the cluster's key",
        /// The certificate belongs to another node.
        OtherNode = 4: "the certificate belongs to another node",
        /// The node was removed.
        Removed = 5: "the node was removed from the cluster; it can join again with a new token",
        /// The certificate's time has not begun.
        NotYetValid = 6: "the certificate is not valid yet: compare the clocks of the two machines",
        /// The certificate's time is over.
        Expired = 7: "the certificate has expired: join again with a new token, or compare the clocks",
        /// The certificate cannot be read.
        Certificate = 8: "the certificate cannot be read by this version",
        /// The clocks are too far apart.
        Clock = 9: "the clocks of the two nodes are more than 5 minutes apart: set them right",
        /// The peer has seen a later start of this node.
        OldIncarnation = 10: "a later start of the same node is known already",
        /// Both dial at once, and the other connection stays.
        Duplicate = 11: "both nodes dialed at once; the other connection is used",
        /// The first message came too late or not at all.
        TooSlow = 12: "the first message did not come within 3 s",
        /// The first message is none.
        Malformed = 13: "the first message cannot be understood",
        /// The node dialed itself.
        Itself = 14: "the node dialed itself",
        /// There are too many connections.
        Busy = 15: "the node has as many connections as it may have",
        /// Two starts of the peer have the same incarnation, and the other one prevails.
        Copied = 16: "another start of the same node is in the cluster: its state folder was copied",
    }
}

codes! {
    /// Why a join is refused.
    JoinRefusal {
        /// No minor version that both speak.
        Version = 1: "the two nodes have no protocol version in common: upgrade the older one",
        /// No such token, or a proof that does not fit it.
        Proof = 2: "the token is not known to the node that it names, or the proof does not fit",
        /// The token's time is over.
        Expired = 3: "the token has expired: make another with `arw cluster token create`",
        /// The token let others in.
        Used = 4: "the token was used already: make another with `arw cluster token create`",
        /// The token was revoked.
        Revoked = 5: "the token was revoked: make another with `arw cluster token create`",
        /// The token let this node in, which was removed since.
        Removed = 6: "the node was removed since it used this token: it needs a new one",
        /// The use could not be stored.
        NotStored = 7: "the other node could not store the use of the token: look at its disk, then try again",
        /// The node does not let others in.
        NotIssuer = 8: "the other node lets nobody in: use a token of a node that does",
        /// The clocks are too far apart.
        Clock = 9: "the clocks of the two nodes are more than 5 minutes apart: set them right",
        /// The first message came too late or not at all.
        TooSlow = 10: "the first message did not come within 3 s",
        /// The first message is none.
        Malformed = 11: "the first message cannot be understood",
        /// A second message instead of waiting for the answer.
        Unexpected = 12: "a second join on the same connection",
        /// The node used its own token.
        Itself = 13: "the token was made by this same node",
        /// There are too many connections.
        Busy = 14: "the node has as many connections as it may have",
        /// A node with the same key is connected.
        Copied = 15: "a member with this node's key is connected already: this machine's state folder was copied",
        /// Another start of the issuer is the one that the cluster knows.
        Fenced = 16: "the other node is out of its cluster itself, because a copy of it runs: use a token of the copy that is in it",
    }
}

codes! {
    /// Why a node ends a connection that works.
    GoodbyeReason {
        /// It leaves the cluster for good.
        Leaving = 1: "the node leaves the cluster",
        /// It stops, and may come back.
        Stopping = 2: "the node stops",
        /// The peer was removed.
        Removed = 3: "the node was removed from the cluster",
        /// A newer connection to the same peer took its place.
        Replaced = 4: "a newer connection took the place of this one",
        /// The peer's certificate ended.
        Expired = 5: "the certificate has expired",
        /// The join is over, and the node dials again as a member.
        Joined = 6: "the join is over",
        /// The peer does not read what it is told.
        Stalled = 7: "the peer does not read what it is told",
        /// The node goes on at another address, and dials again from there.
        Moving = 8: "the node moves to another address",
        /// Another start of the peer with the same incarnation took its place.
        Copied = 9: "another start of the same node took its place: its state folder was copied",
    }
}

codes! {
    /// Why a stream is reset or stopped.
    StreamRefusal {
        /// Who had it does not want it any more: the call is cancelled.
        Cancelled = 1: "the other side gave the stream up",
        /// Its first byte names no purpose that this version knows.
        UnknownPurpose = 2: "the node does not know this kind of stream: upgrade it",
        /// Its first byte did not come.
        TooSlow = 3: "the stream's first byte did not come within 3 s",
        /// Nobody takes such streams here.
        NotServed = 4: "the node does not serve this kind of stream",
        /// What was to be sent cannot be read any further.
        Failed = 5: "the node could not read on in what it sent",
        /// The other side did not take what was sent.
        Stalled = 6: "the stream was not read for too long",
        /// As many such streams are served as may be.
        Busy = 7: "the node serves as many such streams as it may",
        /// What came on it is not what such a stream begins with.
        Malformed = 8: "what was sent on the stream is not what belongs there",
    }
}

const STREAM: u32 = 0x5_0000;

impl StreamRefusal {
    /// The code to reset or stop a stream with.
    #[must_use]
    pub const fn stream_code(self) -> u32 {
        STREAM | self.code() as u32
    }

    /// What a peer meant that reset or stopped a stream with `code`; `None`: nothing that this protocol says.
    #[must_use]
    pub fn from_stream_code(code: u64) -> Option<Self> {
        let reason = u16::try_from(code & 0xFFFF).ok()?;
        (code & !0xFFFF == u64::from(STREAM)).then(|| Self::from_code(reason))
    }
}

codes! {
    /// Why a blob is not sent.
    BlobRefusal {
        /// The node does not offer it.
        Unknown = 1: "the node does not offer this blob",
        /// It sends as many as it may.
        Busy = 2: "the node sends as many blobs as it may at once: ask again later",
        /// It ends before the place from which it was asked for.
        BadRange = 3: "the blob ends before the place from which it was asked for",
        /// It is longer than the asker takes.
        TooLarge = 4: "the blob is longer than what was asked for",
        /// The request is one that only a newer version knows.
        Version = 5: "the node does not know this request: upgrade it",
        /// The node has it, but cannot read it.
        Failed = 6: "the node cannot read the blob: look at its disk",
    }
}

codes! {
    /// Why an ask is not answered.
    ReplyRefusal {
        /// The actor's mailbox is full.
        Overloaded = 1: "the actor's mailbox is full",
        /// The deadline was over before the actor began.
        Expired = 2: "the deadline was over before the actor began",
        /// No such actor.
        Unknown = 3: "there is no such actor on the node",
        /// For an earlier start of the node, or an older epoch.
        Fenced = 4: "the message was for an earlier start of the node",
        /// The body is not what its type says.
        Decode = 5: "the message cannot be decoded",
        /// The actor ended.
        Down = 6: "the actor has ended",
        /// The type is unknown.
        UnknownMessage = 7: "the node does not know this type of message: upgrade it",
        /// Written by a newer version.
        Version = 8: "the message is of a newer version: upgrade the node that got it",
        /// The actor crashed while it had the message.
        Crashed = 9: "the actor crashed while it handled the message",
        /// The actor had the message and gave no answer that can be sent.
        Unanswerable = 10: "the actor gave no answer that can be sent",
    }
}

codes! {
    /// How a watched actor ended.
    DownReason {
        /// By itself, in order.
        Normal = 1: "it ended by itself",
        /// On request.
        Stop = 2: "it was stopped on request",
        /// A panic or a fault.
        Crash = 3: "it crashed",
        /// It did not stop in time.
        Killed = 4: "it was killed",
        /// It did not start.
        StartFailed = 5: "its start failed",
        /// Its process returned a code.
        ProcessExit = 6: "its process ended",
        /// A signal ended its process.
        ProcessSignal = 7: "a signal ended its process",
        /// Its supervisor gave up.
        Escalated = 8: "its supervisor gave up",
        /// A sibling failed.
        Dependency = 9: "a sibling failed",
        /// There is no such actor.
        NoSuchActor = 10: "there is no such actor",
        /// The node started anew.
        OtherIncarnation = 11: "the node has started anew",
        /// The watcher watches too much.
        TooManyWatches = 12: "too many actors are watched over this connection",
    }
}

impl From<CertificateError> for HelloRefusal {
    fn from(error: CertificateError) -> Self {
        match error {
            CertificateError::Length { .. } | CertificateError::Form { .. } => Self::Certificate,
            CertificateError::OtherCluster { .. } => Self::OtherCluster,
            CertificateError::BadSignature => Self::BadSignature,
            CertificateError::OtherNode { .. } => Self::OtherNode,
            CertificateError::Removed => Self::Removed,
            CertificateError::NotYetValid { .. } => Self::NotYetValid,
            CertificateError::Expired { .. } => Self::Expired,
        }
    }
}

impl From<TokenRefusal> for JoinRefusal {
    fn from(refusal: TokenRefusal) -> Self {
        match refusal {
            TokenRefusal::Proof => Self::Proof,
            TokenRefusal::Revoked => Self::Revoked,
            TokenRefusal::Expired => Self::Expired,
            TokenRefusal::Used => Self::Used,
            TokenRefusal::Removed => Self::Removed,
        }
    }
}

impl From<RefusalReason> for ReplyRefusal {
    fn from(reason: RefusalReason) -> Self {
        match reason {
            RefusalReason::NewerMinor { .. } | RefusalReason::UnknownKind { .. } => Self::Version,
        }
    }
}

impl From<&ExitReason> for DownReason {
    fn from(reason: &ExitReason) -> Self {
        match reason {
            ExitReason::Normal => Self::Normal,
            ExitReason::Stop => Self::Stop,
            ExitReason::Crash { .. } => Self::Crash,
            ExitReason::Killed => Self::Killed,
            ExitReason::StartFailed { .. } => Self::StartFailed,
            ExitReason::ProcessExit { .. } => Self::ProcessExit,
            ExitReason::ProcessSignal { .. } => Self::ProcessSignal,
            ExitReason::Escalated { .. } => Self::Escalated,
            ExitReason::Dependency { .. } => Self::Dependency,
        }
    }
}

/// Why a connection was closed, as QUIC's application error code. Closing throws unsent bytes away, so a
/// verdict must be in the code: the message that says the same may never arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CloseCode {
    /// The peer ends a connection that works.
    #[error("{0}")]
    Goodbye(GoodbyeReason),
    /// The peer refuses the hello.
    #[error("{0}")]
    Hello(HelloRefusal),
    /// The peer refuses the join.
    #[error("{0}")]
    Join(JoinRefusal),
    /// The peer got bytes that are not this protocol.
    #[error("the peer could not understand what it got")]
    Malformed,
    /// A code that this version does not know.
    #[error("the peer closed with code {0:#x}, which this version does not know")]
    Unlisted(u64),
}

const GOODBYE: u64 = 0x1_0000;
const HELLO: u64 = 0x2_0000;
const JOIN: u64 = 0x3_0000;
const MALFORMED: u64 = 0x4_0000;

impl From<CloseCode> for quinn::VarInt {
    fn from(code: CloseCode) -> Self {
        // All but the unlisted fit 32 bits, and those came out of such a number.
        Self::from_u64(code.code()).unwrap_or(Self::MAX)
    }
}

impl CloseCode {
    /// The code to close with. It fits QUIC's 62 bits, and 32.
    #[must_use]
    pub const fn code(self) -> u64 {
        match self {
            Self::Goodbye(reason) => GOODBYE | reason.code() as u64,
            Self::Hello(reason) => HELLO | reason.code() as u64,
            Self::Join(reason) => JOIN | reason.code() as u64,
            Self::Malformed => MALFORMED,
            Self::Unlisted(code) => code,
        }
    }

    /// What a peer meant that closed with `code`.
    #[must_use]
    pub fn from_code(code: u64) -> Self {
        // WIRE-8
        let Ok(reason) = u16::try_from(code & 0xFFFF) else { return Self::Unlisted(code) };
        match code & !0xFFFF {
            GOODBYE => Self::Goodbye(GoodbyeReason::from_code(reason)),
            HELLO => Self::Hello(HelloRefusal::from_code(reason)),
            JOIN => Self::Join(JoinRefusal::from_code(reason)),
            MALFORMED if reason == 0 => Self::Malformed,
            _ => Self::Unlisted(code),
        }
    }
}
