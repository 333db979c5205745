//! The patch from one body to the next (RFC 6902).
//!
//! Owns the comparison; operations are written as JSON at once. A pure function. Refuses to know versions and
//! readers.
//!
//! Not `json_patch::diff`: that walks and allocates for what is equal too, and an element that goes from the
//! front of a list makes it rewrite all others. The tests apply our patches with `json_patch`, so the two
//! check each other.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

/// Applying the result to `old` gives exactly `new`. `body_bytes` is the length of `new` as JSON: when the
/// differences say more than half of that, each changed field of the top is written as a whole if that is
/// shorter.
pub(super) fn between(old: &Map<String, Value>, new: &Map<String, Value>, body_bytes: usize) -> Bytes {
    let mut detailed = Operations::default();
    detailed.object(old, new);
    if detailed.json.len() <= body_bytes / 2 {
        return detailed.finish();
    }
    let mut coarse = Operations::default();
    for (key, value) in new.iter().filter(|(key, value)| old.get(*key) != Some(*value)) {
        coarse.at(key, |out| out.write("add", Some(value))); // `add` replaces what is there.
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        coarse.at(key, |out| out.write("remove", None));
    }
    if coarse.json.len() < detailed.json.len() { coarse.finish() } else { detailed.finish() }
}

/// Operations written so far, and the path (a JSON pointer) where the comparison is.
#[derive(Default)]
struct Operations {
    json: Vec<u8>,
    path: String,
}

impl Operations {
    fn value(&mut self, old: &Value, new: &Value) {
        match (old, new) {
            (Value::Object(old), Value::Object(new)) => self.object(old, new),
            (Value::Array(old), Value::Array(new)) => self.list(old, new),
            _ if old == new => {}
            _ => self.write("replace", Some(new)),
        }
    }

    fn object(&mut self, old: &Map<String, Value>, new: &Map<String, Value>) {
        for (key, value) in new {
            match old.get(key) {
                Some(before) if before == value => {}
                Some(before) => self.at(key, |out| out.value(before, value)),
                None => self.at(key, |out| out.write("add", Some(value))),
            }
        }
        for key in old.keys().filter(|key| !new.contains_key(*key)) {
            self.at(key, |out| out.write("remove", None));
        }
    }

    /// What both lists begin and end with stays; in between, elements are compared in their order.
    fn list(&mut self, old: &[Value], new: &[Value]) {
        let begin = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        let (old, new) = (&old[begin..], &new[begin..]);
        let end = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
        let (old, new) = (&old[..old.len() - end], &new[..new.len() - end]);
        let common = old.len().min(new.len());
        for (index, (old, new)) in (begin..).zip(old.iter().zip(new)) {
            self.at(&index.to_string(), |out| out.value(old, new));
        }
        // Each removal moves the rest up, so they all happen at the same place.
        for _ in common..old.len() {
            self.at(&(begin + common).to_string(), |out| out.write("remove", None));
        }
        for (index, added) in (begin + common..).zip(&new[common..]) {
            self.at(&index.to_string(), |out| out.write("add", Some(added)));
        }
    }

    /// Goes one step down, and back.
    fn at(&mut self, step: &str, inside: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push('/');
        for character in step.chars() {
            match character {
                '~' => self.path.push_str("~0"),
                '/' => self.path.push_str("~1"),
                other => self.path.push(other),
            }
        }
        inside(self);
        self.path.truncate(length);
    }

    fn write(&mut self, operation: &str, value: Option<&Value>) {
        self.json.push(if self.json.is_empty() { b'[' } else { b',' });
        self.json.extend_from_slice(br#"{"op":""#);
        self.json.extend_from_slice(operation.as_bytes());
        self.json.extend_from_slice(br#"","path":"#);
        append(&mut self.json, &self.path);
        if let Some(value) = value {
            self.json.extend_from_slice(br#","value":"#);
            append(&mut self.json, value);
        }
        self.json.push(b'}');
    }

    fn finish(mut self) -> Bytes {
        self.json.extend_from_slice(if self.json.is_empty() { b"[]" } else { b"]" });
        self.json.into()
    }
}

#[expect(
    clippy::expect_used,
    reason = "texts and JSON values are JSON, and writing them to memory cannot fail"
)]
fn append(json: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(json, value).expect("a JSON value is JSON");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(old: &Value, new: &Value, expected: &Value) {
        let (Value::Object(before), Value::Object(after)) = (old, new) else { panic!("bodies are objects") };
        let patch = between(before, after, 10_000);
        assert_eq!(serde_json::from_slice::<Value>(&patch).unwrap(), *expected);
        let mut applied = old.clone();
        json_patch::patch(&mut applied, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap())
            .unwrap();
        assert_eq!(applied, *new);
    }

    #[test]
    fn a_patch_says_only_what_differs() {
        check(&json!({"a": {"b": 1, "c": 2}}), &json!({"a": {"b": 1, "c": 2}}), &json!([]));
        check(
            &json!({"a": {"b": 1, "c": 2}, "gone": 1}),
            &json!({"a": {"b": 1, "c": 3}, "come": [2]}),
            &json!([
                {"op": "replace", "path": "/a/c", "value": 3},
                {"op": "add", "path": "/come", "value": [2]},
                {"op": "remove", "path": "/gone"}
            ]),
        );
        check(
            &json!({"~/\"": 1}),
            &json!({"~/\"": 2}),
            &json!([{"op": "replace", "path": "/~0~1\"", "value": 2}]),
        );
    }

    #[test]
    fn an_element_that_comes_or_goes_leaves_the_others_alone() {
        let list = |ids: &[u8]| json!({"list": ids.iter().map(|id| json!({"id": id})).collect::<Vec<_>>()});
        check(&list(&[1, 2, 3, 4]), &list(&[2, 3, 4]), &json!([{"op": "remove", "path": "/list/0"}]));
        check(
            &list(&[1, 2, 3, 4]),
            &list(&[1, 4]),
            &json!([
                {"op": "remove", "path": "/list/1"}, {"op": "remove", "path": "/list/1"}
            ]),
        );
        check(
            &list(&[1, 4]),
            &list(&[1, 2, 3, 4]),
            &json!([
                {"op": "add", "path": "/list/1", "value": {"id": 2}}, {"op": "add", "path": "/list/2", "value": {"id": 3}}
            ]),
        );
    }
}
