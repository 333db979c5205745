//! What is answered where no route is: most who come here meant another path, and are told which.
//!
//! Owns the words. Refuses to redirect: clients lose the body of a `POST` on the way, or their token.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, Method, Uri};

use crate::problem::{Form, Kind, Problem};
use crate::routes;

/// HTTP-5.
pub(crate) async fn unknown_path(method: Method, uri: Uri, headers: HeaderMap) -> Problem {
    let path = uri.path();
    let shown: String = path.chars().take(100).collect();
    let detail = format!("there is nothing at {shown}");
    if let Some(origin) = preflight(&method, &headers) {
        return browser(Kind::NotFound, &detail, &origin);
    }
    match meant(path) {
        Some(help) => Problem::new(Kind::NotFound, detail, help).in_form(Form::OpenAi),
        None if Form::of_path(path) == Form::OpenAi => {
            let help = "of OpenAI's API there are /v1/chat/completions, /v1/completions, /v1/embeddings and /v1/models";
            Problem::new(Kind::NotFound, detail, help)
        }
        None => Problem::new(Kind::NotFound, detail, "/spec/openapi.json lists every path"),
    }
}

/// HTTP-5. axum adds the `Allow` header.
pub(crate) async fn wrong_method(method: Method, uri: Uri, headers: HeaderMap) -> Problem {
    let path = uri.path();
    let shown: String = path.chars().take(100).collect();
    let detail = format!("{shown} has no method {}", method.as_str().chars().take(20).collect::<String>());
    if let Some(origin) = preflight(&method, &headers) {
        return browser(Kind::MethodNotAllowed, &detail, &origin);
    }
    // `/models/{name}` is there to remove a model's file; who reads it has left out `/v1`.
    match path.strip_prefix("/models/") {
        Some(name) if matches!(method, Method::GET | Method::HEAD) => {
            let name: String = name.chars().take(100).collect();
            Problem::new(Kind::MethodNotAllowed, detail, base_url(&format!("/v1/models/{name}")))
                .in_form(Form::OpenAi)
        }
        _ => Problem::new(Kind::MethodNotAllowed, detail, "the `Allow` header names the methods that it has"),
    }
}

/// HTTP-2: a browser asks whether a page of another origin may call, and it may not.
fn preflight(method: &Method, headers: &HeaderMap) -> Option<String> {
    let is_one = method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let origin = headers.get(ORIGIN).filter(|_| is_one)?;
    Some(String::from_utf8_lossy(origin.as_bytes()).chars().take(100).collect())
}

fn browser(kind: Kind, detail: &str, origin: &str) -> Problem {
    let detail =
        format!("{detail}: a browser asks for a page of {origin}, and pages in browsers are not served");
    let help = "no CORS headers are sent, so that no web page can use this node: let the page ask its own server, and that server ask the node";
    Problem::new(kind, detail, help)
}

/// What to do for who meant a path of OpenAI's API: the usual slips are a base URL without `/v1`, with two of
/// them, and slashes too many.
fn meant(path: &str) -> Option<String> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let is_ours = segments.first().is_some_and(|first| OURS.contains(first));
    let right = match segments.as_slice() {
        _ if is_ours => return None,
        [.., "chat", "completions"] => "/v1/chat/completions".to_owned(),
        [.., "completions"] => "/v1/completions".to_owned(),
        [.., "embeddings"] => "/v1/embeddings".to_owned(),
        [.., "models"] => "/v1/models".to_owned(),
        [_, .., "models", name] => format!("/v1/models/{}", name.chars().take(100).collect::<String>()),
        // Ollama's own API.
        ["api", "chat" | "generate" | "tags" | "embed" | "show" | "ps"] => {
            return Some("this node speaks OpenAI's API: the base URL must end in /v1".to_owned());
        }
        _ => return None,
    };
    if right == path {
        // Nodes ask each other for less than clients do.
        return None;
    }
    if right.split('/').skip(1).eq(segments.iter().copied()) {
        return Some(format!("call {right}, with single slashes and none at the end"));
    }
    if segments.iter().filter(|segment| **segment == "v1").count() > 1 {
        let once = "the base URL must end in /v1 once, or not at all where the client adds it";
        return Some(format!("call {right}: {once}"));
    }
    Some(base_url(&right))
}

fn base_url(right: &str) -> String {
    format!("call {right}: the base URL must end in /v1")
}

/// First segments of this node's own paths, below which nobody looks for OpenAI's.
static OURS: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
    let mut ours = routes::first_segments();
    // `/models` is of both.
    ours.retain(|first| !["models", "v1"].contains(first));
    ours
});

#[cfg(test)]
mod tests {
    use super::*;

    /// HTTP-5.
    #[test]
    fn who_meant_a_path_of_openais_api_is_told_which() {
        for (path, help) in [
            ("/models", "call /v1/models: the base URL must end in /v1"),
            ("/chat/completions", "call /v1/chat/completions: the base URL must end in /v1"),
            ("/completions", "call /v1/completions: the base URL must end in /v1"),
            ("/openai/v1/embeddings", "call /v1/embeddings: the base URL must end in /v1"),
            ("/api/v1/models/org", "call /v1/models/org: the base URL must end in /v1"),
            (
                "/v1/v1/chat/completions",
                "call /v1/chat/completions: the base URL must end in /v1 once, or not at all where the client adds it",
            ),
            ("/v1/chat/completions/", "call /v1/chat/completions, with single slashes and none at the end"),
            ("//v1/models", "call /v1/models, with single slashes and none at the end"),
            ("/api/chat", "this node speaks OpenAI's API: the base URL must end in /v1"),
        ] {
            assert_eq!(meant(path).as_deref(), Some(help), "{path}");
        }
        for path in [
            "/",
            "",
            "/nowhere",
            "/v1",
            "/v1/models",
            "/state/models/",
            "/models/import",
            "/v1/audio/speech",
            "/api/pull",
        ] {
            assert_eq!(meant(path), None, "{path}");
        }
    }
}
