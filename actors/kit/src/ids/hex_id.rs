//! Ids that people see as hexadecimal digits.
//!
//! Owns what all of them have in common: their bytes, both ways of showing them, and reading them back.
//! Refuses to know what they name.

/// Makes an id of so many bytes, and the error for a text that is none. `what` ends the sentence "`…` is not
/// …".
///
/// ```
/// arw_kit::hex_id! {
///     /// A ticket.
///     TicketId: 4,
///     /// The text is no ticket's id.
///     BadTicketId: "a ticket: it is 8 hexadecimal digits"
/// }
/// let id: TicketId = "00ff10a0".parse().unwrap();
/// assert_eq!(id, TicketId::from_bytes([0, 255, 16, 160]));
/// let refused = "00ff".parse::<TicketId>().unwrap_err();
/// assert_eq!(refused.to_string(), "`00ff` is not a ticket: it is 8 hexadecimal digits");
/// ```
#[macro_export]
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
                f.write_str(&$crate::ids::for_macros::base16ct::lower::encode_string(&self.0))
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
                match $crate::ids::for_macros::base16ct::mixed::decode(text, &mut bytes) {
                    Ok(decoded) if decoded.len() == $bytes => Ok(Self(bytes)),
                    // As much as a message can show.
                    Ok(_) | Err(_) => Err($bad(text.chars().take(80).collect())),
                }
            }
        }

        impl $crate::ids::for_macros::serde::Serialize for $name {
            fn serialize<S: $crate::ids::for_macros::serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> $crate::ids::for_macros::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::ids::for_macros::serde::Deserializer<'de>>(
                input: D,
            ) -> Result<Self, D::Error> {
                use $crate::ids::for_macros::serde::{Deserialize, de::Error};
                let text = std::borrow::Cow::<'de, str>::deserialize(input)?;
                text.parse().map_err(Error::custom)
            }
        }

        $(#[$bad_about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $bad(String);

        impl std::fmt::Display for $bad {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "`{}` is not {}", self.0, $what)
            }
        }

        impl std::error::Error for $bad {}
    };
}
