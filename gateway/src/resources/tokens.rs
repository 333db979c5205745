//! `/tokens`: who may call.
//!
//! Owns the requests. Refuses to keep a token's text: it is shown once, in the answer that made it.

mod dto;

use std::collections::BTreeSet;
use std::time::Duration;

use arw_actors::policy::{BeyondOwn, CreateError, Granted, RevokeError, Scope};
use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;

use self::dto::{CreatedToken, NewToken, TokenList, TokenRow};
use crate::control::Call;
use crate::extract::{JsonBody, Name};
use crate::problem::{Kind, Problem, ProblemBody};
use crate::resource::resource;
use crate::shared::Gate;

resource! { "tokens", "Who may call":
    get("/tokens", Needs(Scope::TokenManage), list),
    post("/tokens", Needs(Scope::TokenManage), create),
    delete("/tokens/{id}", Needs(Scope::TokenManage), revoke),
}

/// All tokens: who, what for, until when. Never their texts.
#[utoipa::path(get, path = "/tokens", tag = "tokens",
    responses((status = 200, body = TokenList)))]
pub(crate) async fn list(State(gate): State<Gate>) -> Json<TokenList> {
    Json(TokenList { tokens: gate.node.tokens.list().into_iter().map(TokenRow::from).collect() })
}

/// Makes a token. The answer is the only time its text is shown.
#[utoipa::path(post, path = "/tokens", tag = "tokens", request_body = NewToken,
    responses((status = 201, body = CreatedToken), (status = 403, body = ProblemBody, content_type = "application/problem+json"), (status = 422, body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(gate): State<Gate>,
    Extension(caller): Extension<Granted>,
    Extension(call): Extension<Call>,
    JsonBody(new): JsonBody<NewToken>,
) -> Result<Response, Problem> {
    let scopes = scopes(&new.scopes)?;
    if new.expires_in_s == Some(0) {
        return Err(Problem::field(
            "expires_in_s",
            "field `expires_in_s`: it must be at least 1",
            "leave it out for a token that does not expire",
        ));
    }
    let expires_in = new.expires_in_s.map(Duration::from_secs);
    let now = gate.wall();
    // HTTP-3.
    caller.may_create(&scopes, expires_in.map(|span| now + span)).map_err(|beyond| not_his(&beyond))?;
    let created = gate.node.tokens.create(&new.name, scopes, expires_in, now).await;
    let (row, text) = created.map_err(|error| not_created(&error))?;
    call.done(row.id.as_str());
    let created = CreatedToken { row: row.into(), token: text.reveal().to_owned() };
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(created)).into_response())
}

fn not_his(beyond: &BeyondOwn) -> Problem {
    let detail = beyond.to_string();
    match beyond {
        BeyondOwn::Scope { scope, .. } => {
            let help = format!("use a token that has `{scope}`, or `admin`");
            Problem::new(Kind::ScopeMissing, detail, help).with("scope", scope.as_str())
        }
        BeyondOwn::Expiry { .. } => Problem::field(
            "expires_in_s",
            format!("field `expires_in_s`: {detail}"),
            "ask for less time, or use a token that lives longer",
        ),
    }
}

fn scopes(words: &[String]) -> Result<BTreeSet<Scope>, Problem> {
    let parse = |(at, word): (usize, &String)| {
        word.parse().map_err(|error| {
            let field = format!("scopes[{at}]");
            let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
            Problem::field(&field, format!("field `{field}`: {error}"), "use scopes that exist")
                .with("known", known)
        })
    };
    words.iter().enumerate().map(parse).collect()
}

fn not_created(error: &CreateError) -> Problem {
    let detail = error.to_string();
    match error {
        CreateError::BadName(_) | CreateError::ReservedName(_) => {
            Problem::field("name", detail, "choose another name")
        }
        CreateError::NoScope(_) => Problem::field("scopes", detail, "name at least one scope"),
        CreateError::TooMany => Problem::new(Kind::Conflict, detail, "revoke tokens that are no longer used"),
        CreateError::NoRandomness(_) => Problem::new(Kind::Internal, detail, "see the node's log"),
        CreateError::NotStored(_) => {
            Problem::new(Kind::NotStored, detail, "see `journal` in /state/node, then try again")
                .retry_after(STORE_RETRY)
        }
    }
}

/// A full disk does not become empty in a moment.
const STORE_RETRY: Duration = Duration::from_secs(10);

/// Revokes a token: refused from now on.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "tokens",
    params(("id" = String, Path, description = "eight hexadecimal digits, as in the list")),
    responses((status = 204, description = "it is refused from now on"), (status = 403, body = ProblemBody, content_type = "application/problem+json"), (status = 404, body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn revoke(
    State(gate): State<Gate>,
    Extension(caller): Extension<Granted>,
    Name(id): Name,
) -> Result<StatusCode, Problem> {
    // HTTP-3. The scopes of a token never change, so that nothing can come between.
    if let Some(row) = gate.node.tokens.find(&id) {
        caller.may_revoke(&row).map_err(|beyond| not_his(&beyond))?;
    }
    match gate.node.tokens.revoke(&id, gate.wall()).await {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(not_revoked(&error)),
    }
}

fn not_revoked(error: &RevokeError) -> Problem {
    let detail = error.to_string();
    match error {
        RevokeError::Unknown { known, .. } => {
            Problem::new(Kind::NotFound, detail, "take the id from `arw token list`")
                .with("known", known.clone())
        }
        RevokeError::NotStored { .. } => {
            Problem::new(Kind::NotStored, detail, "revoke it again once the store works")
                .retry_after(STORE_RETRY)
        }
    }
}
