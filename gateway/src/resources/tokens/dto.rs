//! Tokens, as `/tokens` takes and shows them.

use arw_actors::policy::Scope;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Array, ArrayBuilder, ObjectBuilder, Type};

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// 1 to 64 of `a-z A-Z 0-9 . _ -`.
    pub(crate) name: String,
    #[schema(schema_with = scope_words)]
    pub(crate) scopes: Vec<String>,
    /// Absent: it does not expire.
    pub(crate) expires_in_s: Option<u64>,
}

/// The words that are taken, and what each allows.
fn scope_words() -> Array {
    let about = Scope::ALL.map(|scope| format!("`{scope}`: {}", scope.about())).join("; ");
    let word =
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(Scope::ALL.map(Scope::as_str)));
    ArrayBuilder::new().items(word).description(Some(about)).build()
}

/// What is known of a token.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) scopes: Vec<&'static str>,
    pub(crate) created_at: String,
    pub(crate) expires_at: Option<String>,
    /// To the minute.
    pub(crate) last_used_at: Option<String>,
    pub(crate) revoked_at: Option<String>,
}

impl From<arw_actors::policy::TokenRow> for TokenRow {
    fn from(row: arw_actors::policy::TokenRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            scopes: row.scopes.iter().map(|scope| scope.as_str()).collect(),
            created_at: row.created_at.to_string(),
            expires_at: row.expires_at.map(|at| at.to_string()),
            last_used_at: row.last_used_at.map(|at| at.to_string()),
            revoked_at: row.revoked_at.map(|at| at.to_string()),
        }
    }
}

/// All tokens, also revoked and expired ones of the last 90 days.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenList {
    pub(crate) tokens: Vec<TokenRow>,
}

/// A token that was just made.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedToken {
    #[serde(flatten)]
    pub(crate) row: TokenRow,
    /// Its text: shown now and never again.
    pub(crate) token: String,
}

impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken").field("row", &self.row).finish_non_exhaustive()
    }
}
