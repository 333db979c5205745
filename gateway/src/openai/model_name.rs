//! The name that an answer gives its model.
//!
//! Owns HTTP-15: an engine may call its model by a path or by a version; clients compare what they get with
//! what they asked for. Refuses to parse: it is shown the value that a parser found.

use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A name, as JSON writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelName(Bytes);

impl ModelName {
    pub(super) fn new(name: &str) -> Self {
        Self(serde_json::Value::from(name).to_string().into())
    }

    /// Quoted, to be put where [`ModelName::place_for`] says.
    pub(super) fn json(&self) -> &Bytes {
        &self.0
    }

    /// Where this name is to go instead of the `model` that was borrowed from `bytes`; `None` where it stands
    /// there already.
    pub(super) fn place_for(&self, bytes: &[u8], model: Option<&RawValue>) -> Option<Range<usize>> {
        let model = model.filter(|model| model.get().as_bytes() != self.0)?;
        Some(place(bytes, model))
    }
}

/// Where a borrowed value lies in the bytes that it was borrowed from.
pub(super) fn place(bytes: &[u8], raw: &RawValue) -> Range<usize> {
    let start = raw.get().as_ptr().addr() - bytes.as_ptr().addr();
    start..start + raw.get().len()
}

/// `null` is a value with a place, other than a field that is not there.
pub(super) fn present<'de: 'b, 'b, D: Deserializer<'de>>(input: D) -> Result<Option<&'b RawValue>, D::Error> {
    <&RawValue>::deserialize(input).map(Some)
}
