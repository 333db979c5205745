//! A read model as a client keeps it: a body, and patches that bring it to the next version (HTTP-8).
//!
//! Owns [`ReadModel`], a plain decider. Refuses to fetch anything: it says when a fresh snapshot is needed.

use json_patch::Patch;
use serde_json::Value;

use super::sse::SseEvent;

/// The newest body that is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ReadModel {
    body: Option<Value>,
}

/// What an event did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The body is newer now.
    Changed,
    /// The stream tells why a snapshot follows: `gap` or `epoch`.
    Resync(String),
    /// So many versions were passed over because we are slow.
    Lag(u64),
    /// The patch does not fit the body: fetch a fresh snapshot.
    Mismatch(String),
    /// An event that this program does not know.
    Ignored,
}

impl ReadModel {
    pub(crate) fn body(&self) -> Option<&Value> {
        self.body.as_ref()
    }

    /// Takes one event of `/state/x/stream`. After a [`Applied::Mismatch`] the body is gone.
    pub(crate) fn apply(&mut self, event: &SseEvent) -> Applied {
        let outcome = match event.event.as_str() {
            "snapshot" => self.snapshot(&event.data),
            "patch" => self.patch(event),
            "resync" => Ok(Applied::Resync(reason(&event.data))),
            "lag" => Ok(Applied::Lag(missed(&event.data))),
            _ => Ok(Applied::Ignored),
        };
        outcome.unwrap_or_else(|why| {
            self.body = None;
            Applied::Mismatch(why)
        })
    }

    fn snapshot(&mut self, data: &str) -> Result<Applied, String> {
        let body: Value =
            serde_json::from_str(data).map_err(|error| format!("the snapshot is not JSON: {error}"))?;
        self.body = Some(body);
        Ok(Applied::Changed)
    }

    fn patch(&mut self, event: &SseEvent) -> Result<Applied, String> {
        let body = self.body.as_mut().ok_or("a patch came before any snapshot")?;
        let mut data: Value =
            serde_json::from_str(&event.data).map_err(|error| format!("the patch is not JSON: {error}"))?;
        let from = data.get("from").and_then(Value::as_str).unwrap_or_default();
        let have = version(body);
        if from != have {
            return Err(format!("the patch is for version {from}, but {have} is here"));
        }
        let patch: Patch = serde_json::from_value(data["patch"].take())
            .map_err(|error| format!("the patch cannot be understood: {error}"))?;
        // `patch` undoes what it did when an operation fails, but we throw the body away then anyhow: the
        // unchecked form saves a copy.
        json_patch::patch_unsafe(body, &patch).map_err(|error| format!("the patch does not fit: {error}"))?;
        let now = version(body);
        match event.id.as_deref() {
            Some(id) if id != now => Err(format!("the patch led to version {now} instead of {id}")),
            Some(_) | None => Ok(Applied::Changed),
        }
    }
}

/// `<epoch>.<version>` of a body.
fn version(body: &Value) -> String {
    let part = |name: &str| match body.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) | None => "?".to_owned(),
    };
    format!("{}.{}", part("epoch"), part("version"))
}

fn reason(data: &str) -> String {
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    data.get("reason").and_then(Value::as_str).unwrap_or("unknown").to_owned()
}

fn missed(data: &str) -> u64 {
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    data.get("missed").and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(name: &str, id: &str, data: &Value) -> SseEvent {
        SseEvent { event: name.to_owned(), data: data.to_string(), id: Some(id.to_owned()) }
    }

    fn at_version_1() -> ReadModel {
        let mut model = ReadModel::default();
        let body = json!({"epoch": "e", "version": 1, "runtimes": [{"id": "a", "state": "ready"}]});
        assert_eq!(model.apply(&event("snapshot", "e.1", &body)), Applied::Changed);
        model
    }

    fn patch(from: &str, to: u64) -> Value {
        json!({"from": from, "patch": [
            {"op": "replace", "path": "/version", "value": to},
            {"op": "replace", "path": "/runtimes/0/state", "value": "backoff"},
            {"op": "add", "path": "/runtimes/-", "value": {"id": "b"}},
        ]})
    }

    #[test]
    fn a_snapshot_and_its_patch_give_the_newer_body() {
        let mut model = at_version_1();
        assert_eq!(model.apply(&event("patch", "e.2", &patch("e.1", 2))), Applied::Changed);
        let wanted =
            json!({"epoch": "e", "version": 2, "runtimes": [{"id": "a", "state": "backoff"}, {"id": "b"}]});
        assert_eq!(model.body(), Some(&wanted));
    }

    #[test]
    fn a_patch_that_does_not_fit_asks_for_a_snapshot() {
        for (id, data, why) in [
            ("e.3", patch("e.2", 3), "for version e.2, but e.1 is here"),
            ("e.2", patch("f.1", 2), "for version f.1"),
            ("e.5", patch("e.1", 2), "led to version e.2 instead of e.5"),
            ("e.2", json!({"from": "e.1", "patch": [{"op": "remove", "path": "/no"}]}), "does not fit"),
            ("e.2", json!({"from": "e.1", "patch": 3}), "cannot be understood"),
        ] {
            let mut model = at_version_1();
            match model.apply(&event("patch", id, &data)) {
                Applied::Mismatch(text) => assert!(text.contains(why), "{text}"),
                other => panic!("{other:?}"),
            }
            assert_eq!(model.body(), None);
            assert!(matches!(model.apply(&event("patch", "e.2", &patch("e.1", 2))), Applied::Mismatch(_)));
        }
    }

    #[test]
    fn notices_of_the_stream_change_nothing() {
        let mut model = at_version_1();
        let before = model.clone();
        assert_eq!(model.apply(&event("lag", "e.1", &json!({"missed": 3}))), Applied::Lag(3));
        assert_eq!(
            model.apply(&event("resync", "e.1", &json!({"reason": "gap"}))),
            Applied::Resync("gap".to_owned())
        );
        assert_eq!(model.apply(&event("news", "e.1", &json!({}))), Applied::Ignored);
        assert_eq!(model, before);
    }
}
