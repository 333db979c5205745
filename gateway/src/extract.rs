//! Bodies and queries as typed values, or a refusal that names the field.
//!
//! Owns [`JsonBody`] and [`Params`]. Refuses to know what the values mean.

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use crate::problem::{Kind, Problem};
use crate::shared::Gate;
use crate::{encoding, limits};

/// A JSON body.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Gate> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, gate: &Gate) -> Result<Self, Problem> {
        check_json(request.headers())?;
        let bytes = limits::read_body(request.into_body(), &gate.settings).await?;
        parse(&bytes).map(Self)
    }
}

/// HTTP-5: 415 for what does not call itself JSON, or not in a form that is read.
pub(crate) fn check_json(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.map(|value| value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase());
    match essence.as_deref() {
        Some(kind)
            if kind == "application/json"
                || (kind.starts_with("application/") && kind.ends_with("+json")) =>
        {
            encoding::check(headers)
        }
        other => {
            let detail = match other {
                Some(kind) => {
                    format!("the body is `{}`, not JSON", kind.chars().take(80).collect::<String>())
                }
                None => "the request does not say what its body is".to_owned(),
            };
            Err(Problem::new(Kind::NotJson, detail, "send JSON with `Content-Type: application/json`"))
        }
    }
}

/// HTTP-5: 400 for broken JSON with the place, 422 for a wrong field with its name.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_str(object_text(bytes)?);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            Category::Data => bad_field(&path, &inner.to_string()),
            Category::Syntax | Category::Eof | Category::Io => bad_json(&inner),
        }
    })?;
    json.end().map_err(|error| bad_json(&error))?;
    Ok(value)
}

/// The text of a body that is an object, as far as its first character tells: serde would read a list as a
/// struct, too.
pub(crate) fn object_text(bytes: &[u8]) -> Result<&str, Problem> {
    let text = encoding::text(bytes)?;
    if text.trim_start_matches([' ', '\n', '\r', '\t']).starts_with('{') {
        return Ok(text);
    }
    // Broken JSON is told as such; what is left is some other value.
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| bad_json(&error))?;
    let help = "send an object, such as {\"name\": …}; /spec/openapi.json has its fields";
    Err(Problem::new(Kind::BadField, "the body must be one JSON object", help))
}

pub(crate) fn bad_json(error: &serde_json::Error) -> Problem {
    Problem::new(
        Kind::BadJson,
        format!("the body is not valid JSON: {error}"),
        "check the body with a JSON tool; it must be one object",
    )
}

fn bad_field(path: &str, message: &str) -> Problem {
    // Serde names an unknown or missing field in its sentence, not in the path.
    let quoted = |prefix: &str| message.strip_prefix(prefix).and_then(|rest| rest.split('`').next());
    let named = quoted("unknown field `")
        .or_else(|| quoted("missing field `"))
        .or_else(|| quoted("duplicate field `"));
    let field = match (path, named) {
        ("." | "?", Some(name)) => name.to_owned(),
        (path, Some(name)) if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        (path, Some(name)) => format!("{path}.{name}"),
        (path, None) => path.to_owned(),
    };
    let shown: String = field.chars().take(100).collect();
    let suggestion = quoted("unknown field `").and_then(|given| {
        let known = message.split("expected").nth(1).unwrap_or_default();
        let known = known.split('`').skip(1).step_by(2);
        arw_actors::config::nearest(given, known)
    });
    let help = match suggestion {
        Some(name) => format!("did you mean `{name}`?"),
        None => "see /spec/openapi.json for the fields and their types".to_owned(),
    };
    Problem::field(
        &shown,
        format!("field `{shown}`: {}", message.chars().take(400).collect::<String>()),
        help,
    )
}

/// The query, typed.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Gate> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Gate) -> Result<Self, Problem> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let text = rejection.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                let (path, message) =
                    text.split_once(": ").filter(|(path, _)| !path.contains(' ')).unwrap_or((".", text));
                Err(bad_field(path, message))
            }
        }
    }
}

/// The one name in a path: an id, a model's name.
#[derive(Debug)]
pub(crate) struct Name(pub(crate) String);

impl FromRequestParts<Gate> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gate: &Gate) -> Result<Self, Problem> {
        let name = Path::<String>::from_request_parts(parts, gate).await;
        name.map(|Path(name)| Self(name)).map_err(|_| {
            let detail = "the name in the path is not UTF-8, so nothing is called that";
            Problem::new(Kind::NotFound, detail, "check how the client encodes the path")
        })
    }
}

/// A span of time in a query: `250ms`, `30s`, `5m`.
pub(crate) mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(input)?;
        arw_actors::config::parse_duration(&text).map(Some).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its parsing is tested")]
    struct Outer {
        model: String,
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its parsing is tested")]
    struct Inner {
        max: u32,
    }

    fn refusal(body: &str) -> serde_json::Value {
        parse::<Outer>(body.as_bytes()).unwrap_err().to_rfc9457()
    }

    /// HTTP-5.
    #[test]
    fn a_wrong_field_is_named() {
        for (body, field) in [
            (r#"{"modle": "a"}"#, "modle"),
            (r#"{}"#, "model"),
            (r#"{"model": 3}"#, "model"),
            (r#"{"model": "a", "inner": {"max": "x"}}"#, "inner.max"),
            (r#"{"model": "a", "inner": {"maxx": 1}}"#, "inner.maxx"),
            (r#"{"model": "a", "inner": {}}"#, "inner.max"),
            (r#"{"model": "a", "model": "b"}"#, "model"),
        ] {
            let problem = refusal(body);
            assert_eq!(
                (problem["status"].as_u64(), problem["field"].as_str()),
                (Some(422), Some(field)),
                "{body}: {problem}"
            );
        }
        assert_eq!(refusal(r#"{"modle": "a"}"#)["help"], "did you mean `model`?");
    }

    /// HTTP-5.
    #[test]
    fn broken_json_is_a_400_with_the_place() {
        for body in ["", "{", "nonsense", r#"{"model": "a"} x"#, "{\"model\": \"\u{1}\"}"] {
            let problem = refusal(body);
            assert_eq!(problem["status"], 400, "{body}: {problem}");
            assert!(problem["detail"].as_str().unwrap().contains("line"), "{problem}");
        }
    }

    /// HTTP-5.
    #[test]
    fn what_is_no_object_is_refused_as_a_whole() {
        for body in ["[]", "null", "3", "\"a\"", "[\"a\",null]", " [{}]", "\u{feff}[]"] {
            let problem = refusal(body);
            assert_eq!((&problem["status"], problem.get("field")), (&422.into(), None), "{body}");
        }
        assert!(parse::<Outer>("\u{feff} {\"model\":\"a\"}".as_bytes()).is_ok());
    }

    /// HTTP-5.
    #[test]
    fn what_does_not_call_itself_json_is_a_415() {
        let verdict = |kind: Option<&'static str>| {
            let headers = kind.map(|kind| (CONTENT_TYPE, http::HeaderValue::from_static(kind)));
            check_json(&headers.into_iter().collect()).map_err(|problem| problem.status().as_u16())
        };
        assert_eq!(verdict(Some("application/json; charset=utf-8")), Ok(()));
        assert_eq!(verdict(Some("Application/Problem+JSON")), Ok(()));
        assert_eq!(verdict(Some("text/plain")), Err(415));
        assert_eq!(verdict(Some("application/x-www-form-urlencoded")), Err(415));
        assert_eq!(verdict(None), Err(415));
    }
}
