//! Events of an engine's stream as bytes: where one ends, and where its data lies.
//!
//! Owns the form of server-sent events as far as it is read here. Refuses to know what the data means.

use std::borrow::Cow;
use std::ops::Range;

/// What has come so far of the line in hand: an event ends with a line that holds nothing but its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Line {
    #[default]
    Empty,
    /// A carriage return, which may belong to the line's end.
    Return,
    Text,
}

impl Line {
    /// The place behind the blank line that ends an event, or `None` where there is none from `from` on. Each
    /// byte is looked at once: the next search begins where this one has ended.
    pub(super) fn event_end(&mut self, bytes: &[u8], from: usize) -> Option<usize> {
        let mut line_from = from;
        for at in memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at) {
            if std::mem::take(self).with(&bytes[line_from..at]) != Self::Text {
                return Some(at + 1);
            }
            line_from = at + 1;
        }
        *self = self.with(&bytes[line_from..]);
        None
    }

    fn with(self, more: &[u8]) -> Self {
        match (self, more) {
            (line, []) => line,
            (Self::Empty, b"\r") => Self::Return,
            _ => Self::Text,
        }
    }
}

/// One whole event.
#[derive(Debug)]
pub(super) struct Event<'e> {
    bytes: &'e [u8],
    /// Its data, where it has any.
    pub(super) data: Option<Field<'e>>,
    /// llama.cpp's older form of an error within a stream.
    pub(super) error: Option<Field<'e>>,
    /// Its name is `error`.
    pub(super) is_named_error: bool,
    /// It holds nothing but comments, or nothing at all: clients do not notice it.
    pub(super) is_silent: bool,
}

/// What all lines of one name say.
#[derive(Debug)]
pub(super) struct Field<'e> {
    /// It is what clients are told.
    pub(super) is_data: bool,
    /// The lines' values, joined by line ends.
    pub(super) text: Cow<'e, [u8]>,
    /// From the first line's begin to the last one's end.
    pub(super) lines: Range<usize>,
}

impl<'e> Event<'e> {
    pub(super) fn read(bytes: &'e [u8]) -> Self {
        let mut event = Self { bytes, data: None, error: None, is_named_error: false, is_silent: true };
        for (line, at) in lines(bytes) {
            if let Some(text) = value(line, b"data:") {
                Field::add(&mut event.data, text, at, true);
            } else if let Some(text) = value(line, b"error:") {
                Field::add(&mut event.error, text, at, false);
            } else {
                event.is_named_error |= value(line, b"event:") == Some(b"error");
                event.is_silent &= line.is_empty() || line.starts_with(b":");
            }
        }
        event.is_silent &= event.data.is_none() && event.error.is_none();
        event
    }

    /// From a place in the data to the same place in the event; `None` where it spans several lines.
    pub(super) fn place(&self, at: &Range<usize>) -> Option<Range<usize>> {
        let mut data_from = 0;
        for (line, line_at) in lines(self.bytes) {
            let Some(text) = value(line, b"data:") else { continue };
            if at.start >= data_from && at.end <= data_from + text.len() {
                let from = line_at.end - text.len();
                return Some(from + at.start - data_from..from + at.end - data_from);
            }
            data_from += text.len() + 1;
        }
        None
    }
}

impl<'e> Field<'e> {
    fn add(field: &mut Option<Self>, text: &'e [u8], at: Range<usize>, is_data: bool) {
        match field {
            None => *field = Some(Self { is_data, text: text.into(), lines: at }),
            Some(field) => {
                let joined = field.text.to_mut();
                joined.push(b'\n');
                joined.extend_from_slice(text);
                field.lines.end = at.end;
            }
        }
    }
}

/// Each line without its end, and where it lies.
fn lines(event: &[u8]) -> impl Iterator<Item = (&[u8], Range<usize>)> {
    let mut from = 0;
    event.split(|&byte| byte == b'\n').map(move |line| {
        let begin = from;
        from += line.len() + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (line, begin..begin + line.len())
    })
}

fn value<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let text = line.strip_prefix(name)?;
    Some(text.strip_prefix(b" ").unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_end_at_blank_lines_wherever_the_bytes_are_cut() {
        let text = b"data: a\n\ndata: b\r\ndata: c\r\n\r\n\n: d\n\nrest";
        let whole = [9, 29, 30, 35];
        for step in [1, 2, 3, text.len()] {
            let (mut line, mut ends, mut from) = (Line::default(), Vec::new(), 0);
            for to in (step..text.len()).step_by(step).chain([text.len()]) {
                while let Some(end) = line.event_end(&text[..to], from) {
                    ends.push(end);
                    from = end;
                }
                from = to;
            }
            assert_eq!(ends, whole, "{step}");
        }
    }

    #[test]
    fn data_of_several_lines_is_joined_and_its_places_are_found() {
        let bytes = b"id: 1\r\ndata: {\"a\":\r\ndata:1,\r\n: x\r\ndata: \"b\":2}\r\n\r\n";
        let event = Event::read(bytes);
        let data = event.data.as_ref().unwrap();
        assert_eq!(&*data.text, b"{\"a\":\n1,\n\"b\":2}");
        assert!(
            bytes[data.lines.clone()].starts_with(b"data: {") && bytes[data.lines.clone()].ends_with(b"2}")
        );
        let end = data.text.len();
        let brace = event.place(&(end - 1..end)).unwrap();
        assert_eq!(&bytes[brace], b"}");
        assert_eq!(event.place(&(0..end)), None, "it spans lines");
    }

    #[test]
    fn comments_and_blank_lines_are_silent_and_nothing_else_is() {
        for silent in ["\n", "\r\n", ": ping\n\n", ":\r\n: x\r\n\r\n"] {
            assert!(Event::read(silent.as_bytes()).is_silent, "{silent:?}");
        }
        for heard in
            ["data:\n\n", "id: 1\n\n", "retry: 3\n\n", "event: x\n\n", "error: x\n\n", ": c\ndata: x\n\n"]
        {
            assert!(!Event::read(heard.as_bytes()).is_silent, "{heard:?}");
        }
    }
}
