//! Who may do what: tokens and their scopes.

mod admin_file;
mod scope;
mod token;
mod tokens;

#[cfg(test)]
mod tests;

pub use self::admin_file::{AdminFile, AdminFileError};
pub use self::scope::{Scope, UnknownScope};
pub use self::token::{BeyondOwn, CreateError, Granted, NoScope, Refusal, RevokeError, TokenRow, TokenText};
pub use self::tokens::{TOKENS_MAX, Tokens};
