//! Fills `{model}`, `{port}`, `{socket}` and `{secret}` into arguments.
//!
//! Exactly these four words in braces are replaced, anywhere in an argument (`--host=unix:{socket}`); all
//! other braces stay as they are, because arguments hold JSON. There is no escape. An argument (or what
//! follows its first `=`) that is nothing but another word in braces is refused as a slip: JSON never looks
//! like that. Refuses to know where the values come from.

use std::path::PathBuf;

/// The values of one launch. `None`: this launch has none.
#[derive(Clone, Default)]
pub(super) struct Values {
    pub(super) model: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) socket: Option<PathBuf>,
    pub(super) secret: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlaceholderError {
    #[error("unknown placeholder `{0}`: only {{model}}, {{port}}, {{socket}} and {{secret}} are filled in")]
    Unknown(String),
    #[error("the arguments name {{model}}, but this runtime has no model: add `--model NAME`")]
    NoModel,
}

/// Which of the four the arguments name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) port: bool,
    pub(super) socket: bool,
    pub(super) secret: bool,
}

pub(super) fn named(args: &[String]) -> Named {
    let any = |word: &str| args.iter().any(|arg| arg.contains(word));
    Named { port: any("{port}"), socket: any("{socket}"), secret: any("{secret}") }
}

pub(super) fn fill(args: &[String], values: &Values) -> Result<Vec<String>, PlaceholderError> {
    args.iter().map(|arg| fill_one(arg, values)).collect()
}

fn fill_one(arg: &str, values: &Values) -> Result<String, PlaceholderError> {
    let mut out = String::with_capacity(arg.len());
    let mut rest = arg;
    while let Some(start) = rest.find('{') {
        out.push_str(&rest[..start]);
        let from = &rest[start..];
        let (value, taken) = if from.starts_with("{model}") {
            (values.model.clone().ok_or(PlaceholderError::NoModel)?, "{model}".len())
        } else if let (true, Some(port)) = (from.starts_with("{port}"), values.port) {
            (port.to_string(), "{port}".len())
        } else if let (true, Some(socket)) = (from.starts_with("{socket}"), &values.socket) {
            (socket.display().to_string(), "{socket}".len())
        } else if from.starts_with("{secret}") {
            (values.secret.clone(), "{secret}".len())
        } else {
            ("{".to_owned(), 1)
        };
        out.push_str(&value);
        rest = &from[taken..];
    }
    out.push_str(rest);
    let value = arg.split_once('=').map_or(arg, |(_, value)| value);
    match slip(arg).or_else(|| slip(value)) {
        Some(word) => Err(PlaceholderError::Unknown(word.to_owned())),
        None => Ok(out),
    }
}

/// A text that is one unknown word in braces.
fn slip(text: &str) -> Option<&str> {
    let word = text.strip_prefix('{')?.strip_suffix('}')?;
    let is_word = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphabetic() || c == '_' || c == '-');
    (is_word && !["model", "port", "socket", "secret"].contains(&word)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill_with_all(arg: &str) -> Result<String, PlaceholderError> {
        let values = Values {
            model: Some("/m.gguf".into()),
            port: Some(4000),
            socket: Some("/s/engine.sock".into()),
            secret: "k3y".into(),
        };
        fill(&[arg.to_owned()], &values).map(|mut args| args.remove(0))
    }

    #[test]
    fn the_four_words_are_filled_in_anywhere() {
        assert_eq!(fill_with_all("{model}").unwrap(), "/m.gguf");
        assert_eq!(fill_with_all("--host=unix:{socket}").unwrap(), "--host=unix:/s/engine.sock");
        assert_eq!(fill_with_all("{port}-{port}").unwrap(), "4000-4000");
        assert_eq!(fill_with_all("Bearer {secret}!").unwrap(), "Bearer k3y!");
    }

    #[test]
    fn json_and_other_braces_stay_as_they_are() {
        for arg in
            [r#"{"a":{"port":1}}"#, "{", "}", "{}", "{{model", "${HOME}x", "{a} and {b}", "{1,2}", "été{é}"]
        {
            assert_eq!(fill_with_all(arg).unwrap(), arg.replace("{model}", "/m.gguf"), "{arg}");
        }
        assert_eq!(fill_with_all(r#"{"model":"{model}"}"#).unwrap(), r#"{"model":"/m.gguf"}"#);
        assert_eq!(fill_with_all("{{port}}").unwrap(), "{4000}");
    }

    #[test]
    fn a_slip_is_refused() {
        assert_eq!(fill_with_all("{modle}"), Err(PlaceholderError::Unknown("{modle}".into())));
        assert_eq!(fill_with_all("--host={sock}"), Err(PlaceholderError::Unknown("{sock}".into())));
    }

    #[test]
    fn a_model_that_is_not_there_is_said() {
        assert_eq!(fill(&["{model}".into()], &Values::default()), Err(PlaceholderError::NoModel));
    }

    #[test]
    fn what_a_value_contains_is_not_filled_in_again() {
        let values =
            Values { model: Some("/odd/{secret}.gguf".into()), secret: "k3y".into(), ..Values::default() };
        assert_eq!(fill(&["{model}".into()], &values).unwrap(), ["/odd/{secret}.gguf"]);
    }

    #[test]
    fn what_is_named_is_seen() {
        let args = ["--host".to_owned(), "{socket}".to_owned(), "--key={secret}".to_owned()];
        assert_eq!(named(&args), Named { port: false, socket: true, secret: true });
    }
}
