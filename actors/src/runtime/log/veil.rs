//! Takes a key out of a stream of bytes.
//!
//! Owns finding it however the stream is cut into pieces. Refuses to know lines: it stands before they are
//! cut, so that a key which lies across two of them is found too.

/// Shown in place of the key.
const SHOWN: &[u8] = b"(key)";

/// Replaces one key in a stream. Holds back at most what could be the beginning of the key.
///
/// ```
/// use arw_actors::runtime::log::Veil;
/// let mut veil = Veil::new(b"s3cret");
/// let mut seen = veil.hide(b"key=s3c");
/// seen.extend(veil.hide(b"ret!"));
/// seen.extend(veil.finish());
/// assert_eq!(seen, b"key=(key)!");
/// ```
pub struct Veil {
    key: Vec<u8>,
    held: Vec<u8>,
}

impl std::fmt::Debug for Veil {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Veil(…)")
    }
}

impl Veil {
    /// For this key; an empty one hides nothing.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self { key: key.to_vec(), held: Vec::new() }
    }

    /// The next bytes as they may be shown.
    pub fn hide(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.held);
        rest.extend_from_slice(bytes);
        if self.key.is_empty() {
            return rest;
        }
        let mut out = Vec::with_capacity(rest.len());
        let mut from = 0;
        while let Some(at) = find(&rest[from..], &self.key) {
            out.extend_from_slice(&rest[from..from + at]);
            out.extend_from_slice(SHOWN);
            from += at + self.key.len();
        }
        let tail = &rest[from..];
        let longest = tail.len().min(self.key.len() - 1);
        let held = (1..=longest).rev().find(|length| tail.ends_with(&self.key[..*length])).unwrap_or(0);
        let (shown, held) = tail.split_at(tail.len() - held);
        out.extend_from_slice(shown);
        self.held = held.to_vec();
        out
    }

    /// What was held back, when the stream has ended.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

/// Keys are random, so the first byte alone rules out nearly every place.
fn find(text: &[u8], key: &[u8]) -> Option<usize> {
    let first = key.first()?;
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| byte == first) {
        if text[from + at..].starts_with(key) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_is_never_shown_however_the_stream_is_cut(
            text in "[ab\n]{0,40}", key in "[ab]{1,4}", cuts in prop::collection::vec(0_usize..12, 0..12)
        ) {
            let mut veil = Veil::new(key.as_bytes());
            let (mut rest, mut seen) = (text.as_bytes(), Vec::new());
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                seen.extend(veil.hide(piece));
                rest = after;
            }
            seen.extend(veil.hide(rest));
            seen.extend(veil.finish());
            prop_assert_eq!(String::from_utf8(seen).unwrap(), text.replace(&key, "(key)"));
        }
    }
}
