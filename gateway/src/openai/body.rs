//! The body of a request on its way to an engine.
//!
//! Owns what is read of it (`model`, `stream`, `stream_options`) and the edits at exactly those places: every
//! other byte goes on as sent, so that an engine's own fields, numbers and order survive (HTTP-12). Refuses
//! to know who serves the model.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::model_name::{place, present};
use crate::extract::{bad_json, object_text};
use crate::problem::Problem;

/// A checked body and where its fields lie.
#[derive(Debug)]
pub(super) struct RequestBody {
    bytes: Bytes,
    /// The model that the client named.
    model: Option<String>,
    model_at: Option<Range<usize>>,
    /// The client wants a stream.
    is_stream: bool,
    /// The client wants the stream's usage chunk.
    wants_usage: bool,
    usage_edit: Option<Edit>,
    /// Behind the opening brace.
    inside: usize,
    is_empty: bool,
}

/// Text to put at a place: instead of what lies there, or before it where the range is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Edit {
    at: Range<usize>,
    text: Cow<'static, str>,
}

#[derive(Deserialize)]
struct Fields<'b> {
    #[serde(borrow, default, deserialize_with = "present")]
    model: Option<&'b RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream: Option<&'b RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream_options: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct StreamOptions<'b> {
    #[serde(borrow, default, deserialize_with = "present")]
    include_usage: Option<&'b RawValue>,
}

const INCLUDE_USAGE: &str = r#"{"include_usage":true}"#;

impl RequestBody {
    /// Reads a body. `may_stream`: this route has streams.
    pub(super) fn read(bytes: Bytes, may_stream: bool) -> Result<Self, Problem> {
        let text = object_text(&bytes)?;
        let mark = bytes.len() - text.len();
        let opening = text.len() - text.trim_start_matches([' ', '\n', '\r', '\t']).len();
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| refusal(&error))?;
        let model = match fields.model {
            Some(raw) => typed::<Option<String>>("model", "a string", raw)?,
            None => None,
        };
        let wants_stream = match fields.stream {
            Some(raw) => typed::<Option<bool>>("stream", "true or false", raw)?.unwrap_or(false),
            None => false,
        };
        let is_stream = may_stream && wants_stream;
        let inside = opening + 1;
        let (wants_usage, usage_edit) =
            if is_stream { usage(text, fields.stream_options, inside)? } else { (false, None) };
        Ok(Self {
            model_at: fields.model.map(|raw| place(text.as_bytes(), raw)),
            is_empty: text[inside..].trim_start().starts_with('}'),
            model,
            is_stream,
            wants_usage,
            usage_edit,
            inside,
            // A byte order mark is no part of the JSON, and not every engine reads past it.
            bytes: if mark == 0 { bytes } else { bytes.slice(mark..) },
        })
    }

    /// The model that the client named.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The client wants a stream.
    pub(super) fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// HTTP-13: the client wants the stream's usage chunk.
    pub(super) fn wants_usage(&self) -> bool {
        self.wants_usage
    }

    /// HTTP-12: the body for an engine that knows its model as `engine_model`. Shares the client's bytes
    /// where nothing changes.
    pub(super) fn for_engine(&self, engine_model: Option<&str>) -> Bytes {
        let model_edit = engine_model.filter(|&name| self.model.as_deref() != Some(name)).map(|name| {
            let name = serde_json::Value::from(name).to_string();
            match &self.model_at {
                Some(at) => Edit { at: at.clone(), text: name.into() },
                None => Edit { at: self.inside..self.inside, text: format!("\"model\":{name},").into() },
            }
        });
        let mut edits: Vec<Edit> = model_edit.into_iter().chain(self.usage_edit.clone()).collect();
        edits.sort_by_key(|edit| edit.at.start);
        splice(&self.bytes, &edits, self.is_empty)
    }
}

fn refusal(error: &serde_json::Error) -> Problem {
    if error.classify() != Category::Data {
        return bad_json(error);
    }
    // The only thing that these fields' types do not take, at this level, is a field that is given twice.
    let message = error.to_string();
    let field = message.split('`').nth(1).unwrap_or_default();
    Problem::field(
        field,
        format!("field `{field}` is given twice"),
        "give it once: engines disagree on which one counts",
    )
}

fn typed<'b, T: Deserialize<'b>>(field: &str, what: &str, raw: &'b RawValue) -> Result<T, Problem> {
    serde_json::from_str(raw.get()).map_err(|error| {
        let shown: String = raw.get().chars().take(40).collect();
        let detail = if error.classify() == Category::Data {
            format!("field `{field}` must be {what}, not `{shown}`")
        } else {
            // The form of a text is right, or the body would not be JSON; what its escapes mean may be half a
            // character.
            format!("field `{field}` is not valid Unicode: `{shown}` has half of a surrogate pair")
        };
        Problem::field(field, detail, "correct it, or leave it out")
    })
}

/// Whether the client wants the usage chunk, and what makes the engine send it.
fn usage(text: &str, options: Option<&RawValue>, inside: usize) -> Result<(bool, Option<Edit>), Problem> {
    let Some(raw) = options else {
        let text = format!("\"stream_options\":{INCLUDE_USAGE},");
        return Ok((false, Some(Edit { at: inside..inside, text: text.into() })));
    };
    let whole = place(text.as_bytes(), raw);
    if raw.get() == "null" {
        return Ok((false, Some(Edit { at: whole, text: INCLUDE_USAGE.into() })));
    }
    if !raw.get().starts_with('{') {
        let shown: String = raw.get().chars().take(40).collect();
        let detail = format!("field `stream_options` must be an object, not `{shown}`");
        return Err(Problem::field("stream_options", detail, "correct it, or leave it out"));
    }
    let options: StreamOptions<'_> = serde_json::from_str(raw.get()).map_err(|error| refusal(&error))?;
    let Some(include) = options.include_usage else {
        let is_empty = raw.get()[1..].trim_start().starts_with('}');
        let text = if is_empty { "\"include_usage\":true" } else { "\"include_usage\":true," };
        return Ok((false, Some(Edit { at: whole.start + 1..whole.start + 1, text: text.into() })));
    };
    match typed::<Option<bool>>("stream_options.include_usage", "true or false", include)? {
        Some(true) => Ok((true, None)),
        Some(false) | None => {
            Ok((false, Some(Edit { at: place(text.as_bytes(), include), text: "true".into() })))
        }
    }
}

/// Edits are in order and do not overlap. What is put into an empty object needs no comma behind its last
/// member.
fn splice(bytes: &Bytes, edits: &[Edit], is_empty: bool) -> Bytes {
    if edits.is_empty() {
        return bytes.clone();
    }
    let grown: usize = edits.iter().map(|edit| edit.text.len()).sum();
    let mut out = Vec::with_capacity(bytes.len() + grown);
    let mut from = 0;
    for edit in edits {
        out.extend_from_slice(&bytes[from..edit.at.start]);
        out.extend_from_slice(edit.text.as_bytes());
        from = edit.at.end;
    }
    if is_empty && out.last() == Some(&b',') {
        out.pop();
    }
    out.extend_from_slice(&bytes[from..]);
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(text: &str) -> RequestBody {
        RequestBody::read(Bytes::copy_from_slice(text.as_bytes()), true).unwrap()
    }

    fn edited(text: &str, model: Option<&str>) -> String {
        String::from_utf8(read(text).for_engine(model).to_vec()).unwrap()
    }

    fn refused(text: &str) -> (u64, String) {
        let problem =
            RequestBody::read(Bytes::copy_from_slice(text.as_bytes()), true).unwrap_err().to_rfc9457();
        (problem["status"].as_u64().unwrap(), problem["field"].as_str().unwrap_or("").to_owned())
    }

    /// HTTP-12.
    #[test]
    fn only_the_named_places_change() {
        let text = "{ \"temperature\" : 1.0,\n \"model\": \"a\" , \"seed\":12345678901234567890123, \"x\":\"\\u00e9\" }";
        assert_eq!(edited(text, Some("a")), text);
        assert_eq!(edited(text, None), text);
        assert_eq!(edited(text, Some("b\"c")), text.replace("\"a\"", "\"b\\\"c\""));
    }

    /// HTTP-12.
    #[test]
    fn a_body_that_needs_no_change_is_shared() {
        let bytes =
            Bytes::from_static(br#"{"model":"a","stream":true,"stream_options":{"include_usage":true}}"#);
        let body = RequestBody::read(bytes.clone(), true).unwrap();
        assert_eq!(body.for_engine(Some("a")).as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn a_missing_model_is_put_in() {
        assert_eq!(edited("{}", Some("m")), r#"{"model":"m"}"#);
        assert_eq!(edited(" { } ", Some("m")), r#" {"model":"m" } "#);
        assert_eq!(edited(r#"{"n":1}"#, Some("m")), r#"{"model":"m","n":1}"#);
        assert_eq!(edited(r#"{"model":null}"#, Some("m")), r#"{"model":"m"}"#);
    }

    /// HTTP-13: the engine is always asked for usage; the client gets it only when it asked.
    #[test]
    fn streams_always_ask_for_usage() {
        for (given, sent, wanted) in [
            (r#"{"stream":true}"#, r#"{"stream_options":{"include_usage":true},"stream":true}"#, false),
            (
                r#"{"stream":true,"stream_options":null}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
                false,
            ),
            (
                r#"{"stream":true,"stream_options":{}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
                false,
            ),
            (
                r#"{"stream":true,"stream_options":{"a":1}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true,"a":1}}"#,
                false,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":false}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
                false,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":null}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
                false,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
                true,
            ),
            (r#"{"stream":false}"#, r#"{"stream":false}"#, false),
            (r#"{"stream":null}"#, r#"{"stream":null}"#, false),
        ] {
            assert_eq!((edited(given, None).as_str(), read(given).wants_usage()), (sent, wanted), "{given}");
        }
        assert_eq!(
            edited(r#"{"stream":true}"#, Some("m")),
            r#"{"model":"m","stream_options":{"include_usage":true},"stream":true}"#
        );
        let embeddings = RequestBody::read(Bytes::from_static(br#"{"stream":true}"#), false).unwrap();
        assert!(!embeddings.is_stream());
        assert_eq!(embeddings.for_engine(None), br#"{"stream":true}"#[..]);
    }

    #[test]
    fn ill_typed_and_doubled_fields_are_refused_by_name() {
        assert_eq!(refused(r#"{"model":3}"#), (422, "model".to_owned()));
        assert_eq!(refused(r#"{"model":["a"]}"#), (422, "model".to_owned()));
        assert_eq!(refused(r#"{"stream":"yes"}"#), (422, "stream".to_owned()));
        assert_eq!(refused(r#"{"stream":1}"#), (422, "stream".to_owned()));
        assert_eq!(refused(r#"{"stream":true,"stream_options":[]}"#), (422, "stream_options".to_owned()));
        assert_eq!(
            refused(r#"{"stream":true,"stream_options":{"include_usage":1}}"#).1,
            "stream_options.include_usage"
        );
        assert_eq!(refused(r#"{"model":"a","model":"b"}"#), (422, "model".to_owned()));
        assert_eq!(refused(r#"{"model":"a","mod\u0065l":"b"}"#), (422, "model".to_owned()));
        assert_eq!(refused(r#"{"stream":true,"stream":false}"#), (422, "stream".to_owned()));
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_as_a_whole() {
        for text in [r#"["a",true,{}]"#, "3", "null", r#""a""#] {
            let problem = RequestBody::read(Bytes::copy_from_slice(text.as_bytes()), true).unwrap_err();
            assert_eq!(
                (problem.status().as_u16(), &problem.to_openai()["error"]["param"]),
                (422, &Value::Null)
            );
        }
    }

    #[test]
    fn half_a_character_is_told_as_such() {
        for text in [r#"{"model":"\ud83d"}"#, r#"{"model":"\ude00"}"#, r#"{"model":"\ud83dx"}"#] {
            let problem = RequestBody::read(Bytes::from_static(text.as_bytes()), true).unwrap_err();
            assert!(problem.detail().contains("not valid Unicode"), "{}", problem.detail());
            assert_eq!(refused(text), (422, "model".to_owned()));
        }
        assert_eq!(read(r#"{"model":"\ud83d\ude00"}"#).model(), Some("😀"));
    }

    /// HTTP-5 and HTTP-12: it is read past, and does not go to the engine.
    #[test]
    fn a_byte_order_mark_is_taken_off() {
        let body = "\u{feff} {\"model\":\"a\",\"stream\":true}";
        assert_eq!(
            edited(body, Some("b")),
            r#" {"stream_options":{"include_usage":true},"model":"b","stream":true}"#
        );
        assert_eq!(edited("\u{feff}{}", None), "{}");
    }

    #[test]
    fn broken_json_is_refused() {
        for text in ["", "{", "{\"a\":}", "{} {}", "[1", "{\"a\":1,}"] {
            assert_eq!(refused(text).0, 400, "{text}");
        }
        let problem = RequestBody::read(Bytes::from_static(b"{\"a\":\"\xff\"}"), true).unwrap_err();
        assert_eq!(problem.status().as_u16(), 400);
    }

    #[test]
    fn a_deeply_nested_body_does_not_overflow_the_stack() {
        let text = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(edited(&text, None), text);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(
                    "model|stream|stream_options|include_usage|[a-z]{1,3}",
                    inner,
                    0..4
                )
                .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// HTTP-12: whatever else is in the body, the engine gets the same values but for the two that are
        /// set.
        #[test]
        fn everything_but_the_set_fields_stays(
            body in prop::collection::hash_map("model|stream|stream_options|[a-z]{1,4}", any_json(), 0..6),
            model in prop::option::of(".*"),
            pretty in any::<bool>(),
        ) {
            let mut expected = Value::Object(body.into_iter().collect());
            let text = if pretty { serde_json::to_string_pretty(&expected) } else { serde_json::to_string(&expected) };
            let Ok(read) = RequestBody::read(text.unwrap().into(), true) else { return Ok(()) };
            let sent: Value = serde_json::from_slice(&read.for_engine(model.as_deref())).unwrap();
            if let Some(model) = model {
                expected["model"] = model.into();
            }
            if read.is_stream() {
                if !expected["stream_options"].is_object() {
                    expected["stream_options"] = json!({});
                }
                expected["stream_options"]["include_usage"] = true.into();
            }
            prop_assert_eq!(sent, expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = RequestBody::read(bytes.into(), true);
        }
    }
}
