//! What can happen on a node, as typed values.
//!
//! Owns what all events have in common. Each domain has a file of its own with its events, their stable
//! kinds, how much each matters, what it is about and the sentence that people read; `words.rs` holds phrases
//! that they share. Refuses to know numbers, times of writing and storage.
//!
//! Read them with their module: `event::Runtime::Added`, which is an [`Event`] by `into()`.
//!
//! Kinds and names of fields are part of the HTTP contract and of old journals: new ones may be added, none
//! is renamed.

mod actor;
mod cluster;
mod control;
mod journal;
mod model;
mod node;
mod runtime;
mod token;
mod words;

use arw_kit::life::RestartUse;
use arw_kit::moment::WallTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::actor::Actor;
pub use self::cluster::{Cluster, ClusterNode};
pub use self::control::Control;
pub use self::journal::Journal;
pub use self::model::Model;
pub use self::node::Node;
pub use self::runtime::Runtime;
pub use self::token::Token;

/// How much an event matters to the person who runs the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Part of normal life.
    Info,
    /// Healed by itself, or works with less than it should.
    Warning,
    /// Someone has to act.
    Error,
}

impl Severity {
    /// The stable word: `info`, `warning`, `error`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// The reverse of [`Severity::as_str`]; a word that this program does not know counts as a warning.
    fn from_word(word: &str) -> Self {
        match word {
            "info" => Self::Info,
            "error" => Self::Error,
            _ => Self::Warning,
        }
    }
}

/// A failure that counts against a restart budget, and the budget after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields repeat the names of the read models, which spec/http.md explains"
)]
pub struct CountedFailure {
    pub used: u32,
    pub max: u32,
    pub window_s: u64,
    pub at: WallTime,
}

impl CountedFailure {
    /// A failure at `at`, after which a budget is used like this.
    #[must_use]
    pub fn new(usage: &RestartUse, at: WallTime) -> Self {
        Self { used: usage.used, max: usage.max, window_s: usage.window.as_secs(), at }
    }
}

/// Makes the events of one domain of a table: each with its kind, so that no two lists of them can differ.
macro_rules! events {
    ($(#[$about:meta])* $domain:ident: $($(#[$what:meta])* $kind:literal $name:ident $fields:tt,)+) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "kind", content = "data")]
        #[expect(
            missing_docs,
            reason = "the fields repeat the names of the read models, which spec/http.md explains"
        )]
        pub enum $domain {
            $($(#[$what])* #[serde(rename = $kind)] $name $fields,)+
        }

        impl $domain {
            /// The kinds of all of them.
            pub(crate) const KINDS: &'static [&'static str] = &[$($kind),+];

            /// The stable word for what happened.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => $kind,)+
                }
            }
        }
    };
}

use events;

/// Makes [`Event`] of the domains, each of which knows its own.
macro_rules! domains {
    ($($(#[$about:meta])* $name:ident($domain:ident),)+) => {
        /// Something that happened on this node.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Event {
            $($(#[$about])* $name($domain),)+
            /// A row that a newer program wrote: readable, not understood.
            #[serde(skip)]
            #[expect(missing_docs, reason = "as in every event")]
            Unknown { kind: String, severity: Severity, subject: String, message: String, data: Value },
        }

        $(impl From<$domain> for Event {
            fn from(event: $domain) -> Self {
                Self::$name(event)
            }
        })+

        impl Event {
            /// The kinds of all events that this program knows.
            #[cfg(test)]
            pub(super) fn kinds() -> Vec<&'static str> {
                [$($domain::KINDS),+].concat()
            }

            /// The stable word for what happened, for example `actor_restarted`.
            #[must_use]
            pub fn kind(&self) -> &str {
                match self {
                    $(Self::$name(event) => event.kind(),)+
                    Self::Unknown { kind, .. } => kind,
                }
            }

            /// How much it matters.
            #[must_use]
            pub fn severity(&self) -> Severity {
                match self {
                    $(Self::$name(event) => event.severity(),)+
                    Self::Unknown { severity, .. } => *severity,
                }
            }

            /// What it is about: an actor's path, a runtime's id, a model's name, a token's or another node's
            /// id, what was called about, `cluster`, `node` or `journal`.
            #[must_use]
            pub fn subject(&self) -> &str {
                match self {
                    $(Self::$name(event) => event.subject(),)+
                    Self::Unknown { subject, .. } => subject,
                }
            }

            /// A plain sentence for people: what happened, why, and what comes next or what to do.
            #[must_use]
            pub fn message(&self) -> String {
                match self {
                    $(Self::$name(event) => event.message(),)+
                    Self::Unknown { message, .. } => message.clone(),
                }
            }

            /// The same event with long texts cut, so that events that wait in memory stay small.
            pub(super) fn bounded(mut self) -> Self {
                match &mut self {
                    $(Self::$name(event) => event.cut_texts(),)+
                    Self::Unknown { .. } => {}
                }
                self
            }

            /// `tagged` holds the kind and the data; `None` where no domain has that kind of event in that
            /// form.
            fn read(kind: &str, tagged: Value) -> Option<Self> {
                $(if $domain::KINDS.contains(&kind) {
                    return serde_json::from_value::<$domain>(tagged).ok().map(Self::$name);
                })+
                None
            }
        }
    };
}

domains! {
    /// The node.
    Node(Node),
    /// Actors.
    Actor(Actor),
    /// Runtimes and their programs.
    Runtime(Runtime),
    /// Model files.
    Model(Model),
    /// Who had this node change something.
    Control(Control),
    /// Tokens.
    Token(Token),
    /// Other nodes, and this one as one of them.
    Cluster(Cluster),
    /// The journal.
    Journal(Journal),
}

impl Event {
    /// The fields as JSON, without the kind.
    #[must_use]
    pub fn data(&self) -> Value {
        if let Self::Unknown { data, .. } = self {
            return data.clone();
        }
        match serde_json::to_value(self) {
            Ok(Value::Object(mut object)) => object.remove("data").unwrap_or_else(empty),
            Ok(_) | Err(_) => empty(),
        }
    }

    /// Reads an event back from its stored parts. What this program does not understand becomes
    /// [`Event::Unknown`].
    pub(super) fn from_parts(kind: &str, severity: &str, subject: &str, message: &str, data: &str) -> Self {
        let data: Value = serde_json::from_str(data).unwrap_or_else(|_| Value::String(data.to_owned()));
        let tagged = serde_json::json!({"kind": kind, "data": data});
        Self::read(kind, tagged).unwrap_or_else(|| Self::Unknown {
            kind: kind.to_owned(),
            severity: Severity::from_word(severity),
            subject: subject.to_owned(),
            message: message.to_owned(),
            data,
        })
    }
}

/// The kinds from which restart windows are rebuilt.
pub(super) const ACTOR_CRASHED: &str = "actor_crashed";
pub(super) const ENGINE_FAILED: &str = "engine_failed";
/// Of journals of earlier versions.
pub(super) const ACTOR_RESTARTED: &str = "actor_restarted";

/// A reason for people is a sentence or two; a panic may carry more than anyone reads in a list.
const TEXT_BYTES_MAX: usize = 2_000;

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

/// Cuts a text for people.
fn cut(text: &mut String) {
    cut_to(text, TEXT_BYTES_MAX);
}

fn cut_to(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
}
