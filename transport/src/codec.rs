//! How values become bytes and back.
//!
//! Owns the encoding (bincode 2, little-endian, short integers) and its limits. Refuses to know which types
//! travel: those are in `wire/`, and with who sends them.
//!
//! What a type on the wire must not be: recursive, untagged, self-describing (`serde_json::Value`), or a list
//! of something that takes no bytes (`Vec<()>`, whose length alone could keep the decoder busy for ever).
//! Such types encode and then fail, or worse, to decode.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use bincode::error::{DecodeError as BincodeDecodeError, EncodeError as BincodeEncodeError};
use bytes::{BufMut as _, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of an encoded value: what one frame carries. Larger bodies take a stream of their own.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// A list of small values may claim more memory than it takes on the wire, but not without end.
const CONFIG: Configuration<LittleEndian, Varint, Limit<{ 4 * BODY_BYTES_MAX }>> =
    bincode::config::standard().with_limit::<{ 4 * BODY_BYTES_MAX }>();

/// A value was not encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It takes too many bytes.
    #[error("the message takes more than {max} bytes: send it on a stream of its own")]
    TooLong {
        /// The most that is allowed.
        max: usize,
    },
    /// Its type cannot be encoded.
    #[error("the message cannot be encoded: {0}")]
    Type(String),
}

/// Bytes are not the value that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than any value has.
    #[error("{length} bytes are more than a message may have ({max})")]
    TooLong {
        /// How many.
        length: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// The value ends after the last byte.
    #[error("the message ends too early, after {length} bytes")]
    Truncated {
        /// How many there were.
        length: usize,
    },
    /// Bytes are left over.
    #[error("{left} of {length} bytes are left over after the message")]
    LeftOver {
        /// How many.
        left: usize,
        /// How many there were in all.
        length: usize,
    },
    /// No such value exists.
    #[error("the message is not what was expected: {0}")]
    Value(String),
}

/// Where encoded bytes go: at the end of a [`Vec<u8>`] or [`BytesMut`] that its owner uses again and again.
pub trait Buffer: sealed::Sealed {
    /// Adds bytes at the end.
    fn put(&mut self, bytes: &[u8]);
    /// How many bytes it holds.
    fn filled(&self) -> usize;
    /// Takes everything after the first `length` bytes away.
    fn cut(&mut self, length: usize);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for Vec<u8> {}
    impl Sealed for bytes::BytesMut {}
}

impl Buffer for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
    fn filled(&self) -> usize {
        self.len()
    }
    fn cut(&mut self, length: usize) {
        self.truncate(length);
    }
}

impl Buffer for BytesMut {
    fn put(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }
    fn filled(&self) -> usize {
        self.len()
    }
    fn cut(&mut self, length: usize) {
        self.truncate(length);
    }
}

/// Adds `value` to `out` and returns how many bytes it took, at most [`BODY_BYTES_MAX`].
///
/// ```
/// let mut out = Vec::new();
/// let length = arw_transport::codec::encode_into(&("hello", 7_u32), &mut out).unwrap();
/// assert_eq!(length, out.len());
/// assert_eq!(arw_transport::codec::decode::<(String, u32)>(&out).unwrap(), ("hello".to_owned(), 7));
/// ```
///
/// # Errors
/// [`EncodeError`]; `out` is then as it was.
pub fn encode_into<T: Serialize + ?Sized, B: Buffer>(value: &T, out: &mut B) -> Result<usize, EncodeError> {
    encode_within(value, BODY_BYTES_MAX, out)
}

/// [`encode_into`] with a limit of its own, at most [`BODY_BYTES_MAX`].
///
/// # Errors
/// [`EncodeError`]; `out` is then as it was.
pub fn encode_within<T: Serialize + ?Sized, B: Buffer>(
    value: &T,
    bytes_max: usize,
    out: &mut B,
) -> Result<usize, EncodeError> {
    let before = out.filled();
    let max = bytes_max.min(BODY_BYTES_MAX);
    let mut bounded = Bounded { out: &mut *out, left: max, is_full: false };
    let outcome = bincode::serde::encode_into_writer(value, &mut bounded, CONFIG);
    let is_full = bounded.is_full;
    match outcome {
        Ok(()) => Ok(out.filled() - before),
        Err(error) => {
            out.cut(before);
            Err(if is_full { EncodeError::TooLong { max } } else { EncodeError::Type(error.to_string()) })
        }
    }
}

/// The value that `bytes` are, all of them.
///
/// # Errors
/// [`DecodeError`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode_within(bytes, BODY_BYTES_MAX)
}

/// [`decode`] with a limit of its own, at most [`BODY_BYTES_MAX`].
///
/// # Errors
/// [`DecodeError`].
pub fn decode_within<T: DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> Result<T, DecodeError> {
    let (length, max) = (bytes.len(), bytes_max.min(BODY_BYTES_MAX));
    if length > max {
        return Err(DecodeError::TooLong { length, max });
    }
    // WIRE-5: a body is exactly one value.
    match bincode::serde::decode_from_slice(bytes, CONFIG) {
        Ok((value, used)) if used == length => Ok(value),
        Ok((_, used)) => Err(DecodeError::LeftOver { left: length - used, length }),
        Err(BincodeDecodeError::UnexpectedEnd { .. }) => Err(DecodeError::Truncated { length }),
        Err(error) => Err(DecodeError::Value(shortened(&error.to_string()))),
    }
}

/// What a peer made us say must not fill our logs.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Passes bytes on until there are too many.
struct Bounded<'out, B> {
    out: &'out mut B,
    left: usize,
    is_full: bool,
}

impl<B: Buffer> Writer for Bounded<'_, B> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), BincodeEncodeError> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            self.is_full = true;
            return Err(BincodeEncodeError::UnexpectedEnd);
        };
        self.left = left;
        self.out.put(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Nothing,
        Text(String),
        Parts { numbers: Vec<u64>, maybe: Option<i32>, flag: bool, names: BTreeMap<String, u8> },
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        let names = proptest::collection::btree_map("[a-z]{0,8}", any::<u8>(), 0..5);
        let parts =
            (proptest::collection::vec(any::<u64>(), 0..20), any::<Option<i32>>(), any::<bool>(), names);
        prop_oneof![
            Just(Shape::Nothing),
            "\\PC{0,40}".prop_map(Shape::Text),
            parts.prop_map(|(numbers, maybe, flag, names)| Shape::Parts { numbers, maybe, flag, names }),
        ]
    }

    proptest! {
        #[test]
        fn a_value_comes_back_and_one_byte_more_or_less_is_refused(value in shapes(), extra: u8) {
            // WIRE-5
            let mut bytes = Vec::new();
            prop_assert_eq!(encode_into(&value, &mut bytes).unwrap(), bytes.len());
            prop_assert_eq!(&decode::<Shape>(&bytes).unwrap(), &value);
            let shorter = decode::<Shape>(&bytes[..bytes.len() - 1]);
            prop_assert_eq!(shorter, Err(DecodeError::Truncated { length: bytes.len() - 1 }));
            let length = bytes.len() + 1;
            bytes.push(extra);
            prop_assert_eq!(decode::<Shape>(&bytes), Err(DecodeError::LeftOver { left: 1, length }));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(decode::<Shape>(&bytes));
            drop(decode::<Vec<Shape>>(&bytes));
            drop(decode::<(String, Vec<u64>, Option<Shape>)>(&bytes));
        }

        #[test]
        fn both_buffers_get_the_same_bytes(value in shapes()) {
            let (mut one, mut other) = (vec![9], BytesMut::from(&[9][..]));
            encode_into(&value, &mut one).unwrap();
            encode_into(&value, &mut other).unwrap();
            prop_assert_eq!(one, other.to_vec());
        }
    }

    #[test]
    fn what_is_too_long_is_refused_and_leaves_nothing_behind() {
        let mut out = vec![1, 2, 3];
        let long = vec![7_u8; BODY_BYTES_MAX];
        assert_eq!(encode_into(&long, &mut out), Err(EncodeError::TooLong { max: BODY_BYTES_MAX }));
        assert_eq!(out, [1, 2, 3]);
        assert_eq!(encode_within(&"four", 4, &mut out), Err(EncodeError::TooLong { max: 4 }));
        assert_eq!(out, [1, 2, 3]);
        assert_eq!(encode_within(&"four", 5, &mut out), Ok(5));
        let length = BODY_BYTES_MAX + 1;
        let refused = Err(DecodeError::TooLong { length, max: BODY_BYTES_MAX });
        assert_eq!(decode::<Vec<u8>>(&vec![0; length]), refused);
    }

    #[test]
    fn a_length_that_cannot_be_true_takes_no_memory() {
        // 253: eight bytes of length follow.
        let bytes = [&[253][..], &u64::MAX.to_le_bytes(), &[1, 2, 3]].concat();
        assert!(decode::<Vec<u8>>(&bytes).is_err());
        assert!(decode::<String>(&bytes).is_err());
        assert!(decode::<Vec<u64>>(&bytes).is_err());
        assert!(decode::<BTreeMap<u64, String>>(&bytes).is_err());
    }

    #[test]
    fn what_describes_itself_cannot_travel() {
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(untagged)]
        enum Loose {
            Number(u64),
        }
        let mut out = Vec::new();
        encode_into(&Loose::Number(7), &mut out).unwrap();
        assert!(matches!(decode::<Loose>(&out), Err(DecodeError::Value(_))));
    }
}
