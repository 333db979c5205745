//! Reading fields out of the API's rows.
//!
//! Rows stay `serde_json::Value`, so that a newer node may send more than this program knows and `-o json`
//! shows all of it.

use serde_json::Value;

/// The text at a JSON pointer; empty when there is none.
pub(crate) fn text<'v>(row: &'v Value, pointer: &str) -> &'v str {
    row.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a JSON pointer.
pub(crate) fn number(row: &Value, pointer: &str) -> Option<u64> {
    row.pointer(pointer).and_then(Value::as_u64)
}

/// The flag at a JSON pointer; false when there is none.
pub(crate) fn flag(row: &Value, pointer: &str) -> bool {
    row.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

/// The list at a JSON pointer; empty when there is none.
pub(crate) fn list<'v>(row: &'v Value, pointer: &str) -> &'v [Value] {
    row.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// `text` as one segment of a path or one value of a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_segment() {
        assert_eq!(encoded("a/../b?c=d&e f"), "a%2F..%2Fb%3Fc%3Dd%26e%20f");
        assert_eq!(encoded("SmolLM2-135M_4.1~"), "SmolLM2-135M_4.1~");
        assert_eq!(encoded("ü"), "%C3%BC");
    }
}
