//! What a token is, and what can be said about one.
//!
//! Owns the shapes, the refusals and their words. Refuses to know where tokens are kept.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arw_kit::ids::BadName;
use arw_kit::moment::WallTime;

use super::scope::Scope;
use super::tokens::TOKENS_MAX;
use crate::store::WriteError;

/// What is known of a token. Nothing here lets anyone use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Eight hexadecimal digits; also part of the token's text.
    pub id: String,
    /// What the person who made it called it.
    pub name: String,
    /// What it may be used for.
    pub scopes: BTreeSet<Scope>,
    /// When it was made.
    pub created_at: WallTime,
    /// From when on it is refused; `None`: never.
    pub expires_at: Option<WallTime>,
    /// When it was last accepted, to the minute.
    pub last_used_at: Option<WallTime>,
    /// Since when it is refused.
    pub revoked_at: Option<WallTime>,
}

/// The text of a token, `arw_<id>_<secret>`. Its `Debug` shows nothing of the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText(Arc<str>);

impl TokenText {
    pub(super) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that shows or stores it for its owner.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(…)")
    }
}

/// Whom a token lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The token's id.
    pub id: Arc<str>,
    /// The token's name.
    pub name: Arc<str>,
    /// What it may be used for.
    pub scopes: Arc<BTreeSet<Scope>>,
    /// From when on it is refused; `None`: never.
    pub expires_at: Option<WallTime>,
}

impl Granted {
    /// Whether the token allows what `wanted` stands for.
    #[must_use]
    pub fn allows(&self, wanted: Scope) -> bool {
        self.scopes.iter().any(|scope| scope.includes(wanted))
    }

    /// Whether its holder may make a token with these scopes that lives so long: nobody hands on more than he
    /// has.
    ///
    /// # Errors
    /// [`BeyondOwn`].
    pub fn may_create(
        &self,
        scopes: &BTreeSet<Scope>,
        expires_at: Option<WallTime>,
    ) -> Result<(), BeyondOwn> {
        self.holds(scopes)?;
        match self.expires_at {
            Some(until) if expires_at.is_none_or(|wanted| wanted > until) => {
                Err(BeyondOwn::Expiry { name: Arc::clone(&self.name), until })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether its holder may revoke a token with these scopes: to lock out those who may do more is as much
    /// a change of rights.
    ///
    /// # Errors
    /// [`BeyondOwn`].
    pub fn may_revoke(&self, row: &TokenRow) -> Result<(), BeyondOwn> {
        self.holds(&row.scopes)
    }

    fn holds(&self, scopes: &BTreeSet<Scope>) -> Result<(), BeyondOwn> {
        match scopes.iter().find(|scope| !self.allows(**scope)) {
            Some(scope) => Err(BeyondOwn::Scope { name: Arc::clone(&self.name), scope: *scope }),
            None => Ok(()),
        }
    }
}

/// A token is asked to do something to a token that may do more than itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeyondOwn {
    /// The other token has a scope that this one lacks.
    #[error("the token `{name}` has not the scope `{scope}` itself, so it can neither give nor take it")]
    Scope {
        /// The name of the token that asks.
        name: Arc<str>,
        /// What it lacks.
        scope: Scope,
    },
    /// The other token would outlive this one.
    #[error("the token `{name}` expires at {until}, and a token that it makes no later")]
    Expiry {
        /// The name of the token that asks.
        name: Arc<str>,
        /// When it expires.
        until: WallTime,
    },
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// There is no such token. The same answer for an unknown id and a wrong secret.
    #[error("this token is unknown here; create one with `arw token create`")]
    Unknown,
    /// It was revoked.
    #[error("this token was revoked; create another with `arw token create`")]
    Revoked,
    /// Its time is over.
    #[error("this token has expired; create another with `arw token create`")]
    Expired,
    /// It has not the form of a token.
    #[error("this is not a token: it looks like `arw_` + 8 hexadecimal digits + `_` + 64 hexadecimal digits")]
    Malformed,
}

/// A token was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The name breaks the rule.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// The name is kept for the file that the node makes by itself.
    #[error("the name `{}` is used for the node's own file; choose another", .0)]
    ReservedName(String),
    /// A token without scopes could do nothing.
    #[error(transparent)]
    NoScope(#[from] NoScope),
    /// Too many are in use.
    #[error("{TOKENS_MAX} tokens are in use; revoke some with `arw token revoke`")]
    TooMany,
    /// The operating system gives no random bytes.
    #[error("no random bytes from the operating system: {0}")]
    NoRandomness(getrandom::Error),
    /// It could not be stored.
    #[error("the token was not made: {0}")]
    NotStored(WriteError),
}

/// No scope was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token needs at least one scope; there are: {}", super::scope::words())]
pub struct NoScope;

/// A token was not revoked, or not for good.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// There is no such token.
    #[error("no token has the id `{given}`; known: {}", if .known.is_empty() { "none".to_owned() } else { .known.join(", ") })]
    Unknown {
        /// The id that was given.
        given: String,
        /// The ids of the tokens in use.
        known: Vec<String>,
    },
    /// It is refused from now on, but a restart of the node would accept it again.
    #[error(
        "the token `{id}` is refused from now on, but that could not be stored: {problem}; revoke it again then"
    )]
    NotStored {
        /// The token's id.
        id: String,
        /// Why it could not be stored.
        problem: WriteError,
    },
}
