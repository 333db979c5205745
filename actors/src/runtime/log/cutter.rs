//! Cuts a stream of bytes into lines and makes each fit to be shown.
//!
//! Owns the length limit and what becomes of bytes that are no text. Refuses to know where lines are kept.

/// Cuts bytes into lines. Holds at most one unfinished line.
///
/// ```
/// use arw_actors::runtime::log::LineCutter;
/// let mut cutter = LineCutter::default();
/// let mut seen = Vec::new();
/// cutter.cut(b"one\ntw", |lines| seen.extend(lines.iter().map(|l| l.to_vec())));
/// cutter.cut(b"o\n", |lines| seen.extend(lines.iter().map(|l| l.to_vec())));
/// assert_eq!(seen, [b"one".to_vec(), b"two".to_vec()]);
/// ```
#[derive(Debug, Default)]
pub struct LineCutter {
    unfinished: Vec<u8>,
}

impl LineCutter {
    /// Longer lines are cut into several. llama.cpp's longest (a chat template) is about 3 KB.
    pub const LINE_BYTES_MAX: usize = 4096;

    /// Takes the next bytes and hands out all lines that end in them, in one call.
    pub fn cut(&mut self, bytes: &[u8], emit: impl FnOnce(&[&[u8]])) {
        let mut rest = bytes;
        let mut first = Vec::new();
        if rest.is_empty() {
            return;
        }
        if !self.unfinished.is_empty() {
            let room = Self::LINE_BYTES_MAX - self.unfinished.len();
            let end = rest.iter().take(room + 1).position(|b| *b == b'\n');
            match end {
                Some(end) => {
                    self.unfinished.extend_from_slice(&rest[..end]);
                    rest = &rest[end + 1..];
                }
                None if rest.len() <= room => {
                    self.unfinished.extend_from_slice(rest);
                    return;
                }
                None => {
                    self.unfinished.extend_from_slice(&rest[..room]);
                    rest = &rest[room..];
                }
            }
            first = std::mem::take(&mut self.unfinished);
        }
        let mut lines: Vec<&[u8]> = Vec::new();
        if !first.is_empty() {
            lines.push(&first);
        }
        for piece in rest.split_inclusive(|b| *b == b'\n') {
            let (line, ended) = match piece.split_last() {
                Some((b'\n', line)) => (line, true),
                _ => (piece, false),
            };
            let mut parts = line.chunks(Self::LINE_BYTES_MAX);
            if ended {
                if line.is_empty() {
                    lines.push(line);
                }
                lines.extend(parts);
            } else {
                // A line that is full may still end right here: what comes next decides.
                let last = parts.next_back().unwrap_or_default();
                lines.extend(parts);
                self.unfinished.extend_from_slice(last);
            }
        }
        emit(&lines);
    }

    /// The unfinished line, when the stream has ended.
    pub fn finish(&mut self, emit: impl FnOnce(&[&[u8]])) {
        let last = std::mem::take(&mut self.unfinished);
        if !last.is_empty() {
            emit(&[&last]);
        }
    }
}

/// Makes a line fit to be shown anywhere: lossy UTF-8; a progress bar's earlier states (before a carriage
/// return) left out; control characters and text-direction overrides replaced, so that no line can move a
/// terminal's cursor or pretend to be another.
pub(super) fn clean(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let shown = line.rsplit(|b| *b == b'\r').find(|part| !part.is_empty()).unwrap_or_default();
    let text = String::from_utf8_lossy(shown);
    if text.chars().all(|c| c == '\t' || !(c.is_control() || overrides_direction(c))) {
        return text.into_owned();
    }
    text.chars()
        .map(|c| match c {
            '\t' => c,
            // Unicode has a picture for each C0 control, in the same order.
            '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER),
            '\u{7f}' => '\u{2421}',
            c if c.is_control() || overrides_direction(c) => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

fn overrides_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}
