//! Who may call what.
//!
//! Owns the decision on `Authorization` for each route's [`Access`]. Refuses to know how tokens are kept
//! (`policy/` in the kernel does).

use std::convert::Infallible;
use std::task::{Context, Poll};

use arw_actors::policy::{Granted, Refusal, Scope};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use tower::{Layer, Service};

use crate::front::RoutePath;
use crate::problem::{Kind, Problem};
use crate::shared::Gate;

/// What a route demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Open, unless reads need a token: then `state:read`.
    Read,
    /// A token with this scope.
    Needs(Scope),
}

/// What stands before one route: a layer, so that no route can be without it.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    pub(crate) gate: Gate,
    pub(crate) access: Access,
    pub(crate) path: &'static str,
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, route: S) -> Guarded<S> {
        Guarded { guard: self.clone(), route }
    }
}

/// A route behind its guard. Written out, because a `from_fn` would copy the route for each request.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<S> {
    guard: Guard,
    route: S,
}

impl<S> Service<Request> for Guarded<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(cx)
    }

    /// Lets a request through, with the [`Granted`] that it was let through for; or answers for the route.
    fn call(&mut self, mut request: Request) -> Self::Future {
        let Guard { gate, access, path } = &self.guard;
        let verdict = decide(
            *access,
            gate.settings.require_token_for_reads,
            request.headers().get(AUTHORIZATION),
            |token| gate.node.tokens.verify(token, gate.wall()),
        );
        let path = *path;
        let named = move |mut response: Response| {
            response.extensions_mut().insert(RoutePath(path));
            response
        };
        match verdict {
            Ok(granted) => {
                if let Some(granted) = granted {
                    request.extensions_mut().insert(granted);
                }
                Box::pin(self.route.call(request).map_ok(named))
            }
            Err(problem) => Box::pin(std::future::ready(Ok(named(problem.into_response())))),
        }
    }
}

/// HTTP-3 and HTTP-4.
fn decide(
    access: Access,
    reads_need_token: bool,
    authorization: Option<&HeaderValue>,
    verify: impl FnOnce(&str) -> Result<Granted, Refusal>,
) -> Result<Option<Granted>, Problem> {
    let scope = match access {
        // HTTP-4: reading is open on loopback; elsewhere the settings demand a token for it (HTTP-1).
        Access::Read if !reads_need_token => return Ok(None),
        Access::Read => Scope::StateRead,
        Access::Needs(scope) => scope,
    };
    let Some(authorization) = authorization else {
        let detail = format!("this needs a token with the scope `{scope}`");
        let help = format!(
            "send `Authorization: Bearer <token>`; `arw token create NAME --scope {scope}` makes one on the node's machine"
        );
        return Err(Problem::new(Kind::TokenMissing, detail, help).with("scope", scope.as_str()));
    };
    // HTTP-3.
    let token = bearer(authorization).ok_or(Refusal::Malformed);
    let granted = token.and_then(verify).map_err(|refusal| {
        let help = format!(
            "check the token that the client sends, or make one: `arw token create NAME --scope {scope}`"
        );
        Problem::new(Kind::TokenRefused, refusal.to_string(), help)
    })?;
    if granted.allows(scope) {
        return Ok(Some(granted));
    }
    let has: Vec<&str> = granted.scopes.iter().map(|scope| scope.as_str()).collect();
    let detail = format!(
        "the token `{}` lacks the scope `{scope}`; it has: {}",
        granted.name,
        or_none(&has.join(", "))
    );
    let help = format!("use a token with that scope: `arw token create NAME --scope {scope}` makes one");
    Err(Problem::new(Kind::ScopeMissing, detail, help).with("scope", scope.as_str()))
}

fn or_none(list: &str) -> &str {
    if list.is_empty() { "none" } else { list }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn with_scopes(scopes: &[Scope]) -> impl FnOnce(&str) -> Result<Granted, Refusal> {
        let scopes: BTreeSet<Scope> = scopes.iter().copied().collect();
        move |token| match token {
            "good" => Ok(Granted {
                id: "00000001".into(),
                name: "laptop".into(),
                scopes: Arc::new(scopes),
                expires_at: None,
            }),
            "old" => Err(Refusal::Revoked),
            _ => Err(Refusal::Unknown),
        }
    }

    fn status(access: Access, strict: bool, header: Option<&'static str>, scopes: &[Scope]) -> u16 {
        let header = header.map(HeaderValue::from_static);
        match decide(access, strict, header.as_ref(), with_scopes(scopes)) {
            Ok(_) => 200,
            Err(problem) => problem.status().as_u16(),
        }
    }

    /// HTTP-4.
    #[test]
    fn reading_is_open_unless_the_settings_say_otherwise() {
        assert_eq!(status(Access::Read, false, None, &[]), 200);
        // A token that is not needed is not looked at either.
        assert_eq!(status(Access::Read, false, Some("Bearer old"), &[]), 200);
        assert_eq!(status(Access::Read, true, None, &[]), 401);
        assert_eq!(status(Access::Read, true, Some("Bearer good"), &[Scope::StateRead]), 200);
        assert_eq!(status(Access::Read, true, Some("Bearer good"), &[Scope::Infer]), 403);
        assert_eq!(status(Access::Read, true, Some("Bearer good"), &[Scope::Admin]), 200);
    }

    /// HTTP-3.
    #[test]
    fn everything_else_needs_a_token_with_the_scope() {
        let access = Access::Needs(Scope::RuntimeManage);
        assert_eq!(status(access, false, None, &[]), 401);
        assert_eq!(status(access, false, Some("Bearer good"), &[Scope::RuntimeManage]), 200);
        assert_eq!(status(access, false, Some("bearer good"), &[Scope::Admin]), 200);
        assert_eq!(status(access, false, Some("Bearer good"), &[Scope::Infer, Scope::ModelManage]), 403);
        assert_eq!(status(access, false, Some("Bearer old"), &[Scope::Admin]), 401);
        assert_eq!(status(access, false, Some("Bearer other"), &[Scope::Admin]), 401);
        assert_eq!(status(access, false, Some("Basic good"), &[Scope::Admin]), 401);
        assert_eq!(status(access, false, Some("good"), &[Scope::Admin]), 401);
    }

    #[test]
    fn a_refusal_names_the_scope_and_the_command_that_grants_it() {
        let header = HeaderValue::from_static("Bearer good");
        let verdict =
            decide(Access::Needs(Scope::TokenManage), false, Some(&header), with_scopes(&[Scope::Infer]));
        let problem = verdict.unwrap_err().to_rfc9457();
        assert_eq!(problem["scope"], "token:manage");
        assert_eq!(problem["detail"], "the token `laptop` lacks the scope `token:manage`; it has: infer");
        assert!(problem["help"].as_str().unwrap().contains("arw token create NAME --scope token:manage"));
    }
}
