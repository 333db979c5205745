//! Which trace a request belongs to, so that its steps on several nodes and in the engine can be told as one
//! story.
//!
//! Owns the header `traceparent` (W3C Trace Context). Refuses to record anything: spans go to `tracing`, and
//! where these go is the node's business.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// W3C Trace Context, level 1.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A request's trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    id: u128,
    /// The client wants it recorded, or not.
    flags: u8,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.id)
    }
}

impl Trace {
    /// HTTP-20: the trace that the request names, else a new one. `None` where the system gives no random
    /// numbers.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(TRACEPARENT).iter();
        match (given.next(), given.next()) {
            // Two of them name no trace.
            (Some(value), None) => read(value).or_else(Self::begin),
            _ => Self::begin(),
        }
    }

    fn begin() -> Option<Self> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).ok()?;
        // Nobody has decided on recording yet: whoever looks may.
        Some(Self { id: u128::from_be_bytes(id), flags: 1 }).filter(|trace| trace.id != 0)
    }

    /// What the next one on the way is told. Each step is a parent of its own.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let mut parent = [0; 8];
        getrandom::fill(&mut parent).ok()?;
        // Zero is no parent.
        let parent = u64::from_be_bytes(parent).max(1);
        HeaderValue::try_from(format!("00-{self}-{parent:016x}-{:02x}", self.flags)).ok()
    }
}

/// `00-<32 digits>-<16 digits>-<2 digits>`, lower case, neither of the first two zero.
fn read(value: &HeaderValue) -> Option<Trace> {
    let text = value.to_str().ok()?;
    let mut fields = text.split('-');
    let (version, id, parent, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let number = |text: &str, digits: usize| {
        let is_hex =
            text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()
    };
    let id = number(id, 32).filter(|&id| id != 0)?;
    number(parent, 16).filter(|&parent| parent != 0)?;
    let flags = u8::try_from(number(flags, 2)?).ok()?;
    (version == "00" && fields.next().is_none()).then_some(Trace { id, flags })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (TRACEPARENT, HeaderValue::from_static(value))).collect()
    }

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    /// HTTP-20.
    #[test]
    fn a_trace_goes_on_with_a_parent_of_its_own() {
        let trace = Trace::of(&headers(&[GIVEN])).unwrap();
        assert_eq!(trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let (first, second) = (trace.header().unwrap(), trace.header().unwrap());
        for header in [&first, &second] {
            let text = header.to_str().unwrap();
            assert!(
                text.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && text.ends_with("-00"),
                "{text}"
            );
            assert_eq!(text.len(), GIVEN.len());
            assert_eq!(read(header), Some(trace));
        }
        assert!(first != second && first != GIVEN);
    }

    /// HTTP-20.
    #[test]
    fn what_is_no_trace_begins_a_new_one() {
        for given in [
            &[][..],
            &[GIVEN, GIVEN],
            &[""],
            &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-00"],
            &["00-00000000000000000000000000000000-00f067aa0ba902b7-00"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-00"],
            &["00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-00"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0+"],
            &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-x"],
        ] {
            let (one, two) = (Trace::of(&headers(given)).unwrap(), Trace::of(&headers(given)).unwrap());
            assert_ne!(one, two, "{given:?}");
            assert_ne!(one.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736", "{given:?}");
        }
    }
}
