//! `… token revoke`: ends one token of a list, whatever it lets people do.
//!
//! Owns the question before it and the answer after it. Refuses to know what kinds of tokens there are: each
//! command brings its own.

use serde_json::{Value, json};

use crate::client::http::Call;
use crate::client::row::{encoded, list, text};
use crate::commands::confirm::confirm;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::screen::Page;

/// What is revoked.
pub(crate) struct Kind {
    /// For people: `join token`.
    pub(crate) noun: &'static str,
    /// Of the list; a token is below it, by its id.
    pub(crate) path: &'static str,
    /// What follows from it: a sentence of the question.
    pub(crate) consequence: &'static str,
    /// What tells a row from others, for people.
    pub(crate) about: fn(&Value) -> String,
    /// The list, as it is shown.
    pub(crate) page: fn(Value) -> Page,
}

/// Asks, revokes, and shows what is known of the token afterwards.
pub(crate) async fn revoke(context: &Context, kind: &Kind, id: &str, yes: bool) -> Result<(), Failure> {
    let Kind { noun, path, page, .. } = kind;
    let node = context.node()?;
    let row = async || {
        let body = node.get(path).await.ok()?;
        list(&body, "/tokens").iter().find(|row| text(row, "/id") == id).cloned()
    };
    confirm(context, yes, &question(kind, id, row().await.as_ref()))?;
    node.answer(Call::delete(&format!("{path}/{}", encoded(id)))).await?;
    let done = match row().await {
        Some(row) => Page { body: row.clone(), ..page(json!({"tokens": [row]})) },
        None => Page::of_one(&[("id", json!(id)), ("revoked", json!(true))]),
    };
    context.screen.done(&format!("{noun} {id} is revoked"), &done)
}

fn question(kind: &Kind, id: &str, row: Option<&Value>) -> String {
    let Kind { noun, consequence, about, .. } = kind;
    let about = row.map(|row| format!(" ({})", about(row))).unwrap_or_default();
    format!("revoke {noun} {id}{about} for good? {consequence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_tells_what_is_lost_as_far_as_it_is_known() {
        let kind = Kind {
            noun: "join token",
            path: "/cluster/tokens",
            consequence: "Nobody joins with it any more.",
            about: |row| text(row, "/roles/0").to_owned(),
            page: |_| Page::of_one(&[]),
        };
        let row = json!({"id": "0a", "roles": ["worker"]});
        let asked = "revoke join token 0a (worker) for good? Nobody joins with it any more.";
        assert_eq!(question(&kind, "0a", Some(&row)), asked);
        assert_eq!(question(&kind, "0a", None), asked.replace(" (worker)", ""));
    }
}
