//! Ids that people see as hexadecimal digits.
//!
//! Owns what all of them have in common: their bytes, both ways of showing them, and reading them back. Refuses to know what they name.

/// Makes an id of so many bytes, and the error for a text that is none. `what` ends the sentence "`…` is not …".
///
/// The crate that uses it depends on `base16ct` (with `alloc`), `serde` and `thiserror`.
#[macro_export]
#[doc(hidden)]
macro_rules! hex_id {
    ($(#[$about:meta])* $name:ident: $bytes:literal, $(#[$bad_about:meta])* $bad:ident: $what:literal) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The id with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&base16ct::lower::encode_string(&self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = $bad;
            fn from_str(text: &str) -> Result<Self, $bad> {
                let mut bytes = [0; $bytes];
                match base16ct::mixed::decode(text, &mut bytes) {
                    Ok(decoded) if decoded.len() == $bytes => Ok(Self(bytes)),
                    // As much as a message can show.
                    Ok(_) | Err(_) => Err($bad(text.chars().take(80).collect())),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(input)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        $(#[$bad_about])*
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[error("`{0}` is not {what}", what = $what)]
        pub struct $bad(String);
    };
}
