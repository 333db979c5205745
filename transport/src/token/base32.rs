//! Bytes as letters and digits that survive being read aloud, typed and double-clicked (RFC 4648, lower case,
//! without padding).
//!
//! Refuses to know what the bytes are.

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A text is not base32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadCharacter {
    pub(super) character: char,
    /// Counted from 0.
    pub(super) position: usize,
}

pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for &byte in bytes {
        bits = bits << 8 | u32::from(byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(digit(bits >> count));
        }
    }
    if count > 0 {
        text.push(digit(bits << (5 - count)));
    }
    text
}

/// The bytes of a lower-case text. Bits left over at its end, fewer than eight, are dropped when they are
/// zero and make one byte more when they are not, so that a text with a wrong last character is never read as
/// the right one.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, BadCharacter> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8 + 1);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for (position, character) in text.chars().enumerate() {
        let value = ALPHABET.iter().position(|&digit| char::from(digit) == character);
        let value = value.ok_or(BadCharacter { character, position })?;
        // At most seven bits wait, so this fits.
        bits = (bits << 5 | u32::try_from(value).unwrap_or(0)) & 0xFFF;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xFF).unwrap_or(0));
        }
    }
    let left = bits & ((1 << count) - 1);
    if count >= 5 || left != 0 {
        bytes.push(u8::try_from(left).unwrap_or(0));
    }
    Ok(bytes)
}

fn digit(bits: u32) -> char {
    char::from(ALPHABET[(bits & 31) as usize])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_what_the_standard_says() {
        for (plain, text) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(encode(plain.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), plain.as_bytes());
        }
        assert_eq!(decode("my1"), Err(BadCharacter { character: '1', position: 2 }));
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode(&encode(&bytes)), Ok(bytes));
        }

        #[test]
        fn two_texts_are_never_the_same_bytes(text in "[a-z2-7]{0,40}") {
            let bytes = decode(&text).unwrap();
            let again = encode(&bytes);
            prop_assert!(again == text || bytes.len() != text.len() * 5 / 8);
        }
    }
}
