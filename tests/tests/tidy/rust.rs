//! Rust source as the checks need it: the code of each line without comments and the insides of strings, and
//! whether it is test code.
//!
//! Owns just enough of Rust's grammar for that. Refuses to know what the checks look for.

/// One Rust file.
#[derive(Debug)]
pub(crate) struct Rust {
    /// Its lines, in order.
    pub(crate) lines: Vec<Line>,
}

/// One line of a Rust file.
#[derive(Debug)]
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: usize,
    /// As written.
    pub(crate) text: String,
    /// With comments and the insides of strings and characters blanked out.
    pub(crate) code: String,
    /// It belongs to an item under `#[cfg(test)]`.
    pub(crate) is_test: bool,
}

impl Rust {
    /// Reads `source`.
    pub(crate) fn parse(source: &str) -> Self {
        let code = blank(source);
        let marks = test_marks(&code);
        let lines = source
            .lines()
            .zip(code.lines())
            .zip(marks)
            .enumerate()
            .map(|(index, ((text, code), is_test))| Line {
                number: index + 1,
                text: text.to_owned(),
                code: code.to_owned(),
                is_test,
            })
            .collect();
        Self { lines }
    }

    /// The lines outside `#[cfg(test)]`.
    pub(crate) fn product_lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| !line.is_test)
    }
}

/// `source` with comments and the insides of literals replaced by blanks; line ends stay.
fn blank(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let (end, keep) = token(&chars, at);
        for (offset, &c) in chars[at..end].iter().enumerate() {
            out.push(if c == '\n' || keep(offset, end - at) { c } else { ' ' });
        }
        at = end;
    }
    out
}

type Keep = fn(usize, usize) -> bool;

/// Where the token at `at` ends, and which of its characters are code.
fn token(chars: &[char], at: usize) -> (usize, Keep) {
    const ALL: Keep = |_, _| true;
    const NONE: Keep = |_, _| false;
    const ENDS: Keep = |offset, length| offset == 0 || offset + 1 == length;
    let next = |ahead: usize| chars.get(at + ahead).copied();
    match (chars[at], next(1)) {
        ('/', Some('/')) => (find(chars, at, '\n'), NONE),
        ('/', Some('*')) => (block_comment_end(chars, at), NONE),
        ('"', _) => (quoted_end(chars, at, '"'), ENDS),
        ('\'', Some('\\')) => (quoted_end(chars, at, '\''), ENDS),
        ('\'', Some(_)) if next(2) == Some('\'') => (at + 3, ENDS),
        ('r', Some('"' | '#')) if !continues_a_word(chars, at) => match raw_end(chars, at) {
            Some(end) => (end, ENDS),
            None => (at + 1, ALL),
        },
        (_, _) => (at + 1, ALL),
    }
}

/// The `r` at `at` is the end of a longer name, other than the prefixes of byte and C strings.
fn continues_a_word(chars: &[char], at: usize) -> bool {
    let is_word = |index: Option<usize>| {
        index.and_then(|index| chars.get(index)).is_some_and(|&c| c.is_alphanumeric() || c == '_')
    };
    match at.checked_sub(1).map(|before| chars[before]) {
        Some('b' | 'c') => is_word(at.checked_sub(2)),
        Some(_) | None => is_word(at.checked_sub(1)),
    }
}

fn find(chars: &[char], from: usize, wanted: char) -> usize {
    chars[from..].iter().position(|&c| c == wanted).map_or(chars.len(), |offset| from + offset)
}

fn block_comment_end(chars: &[char], from: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = from;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            (_, _) => at += 1,
        }
    }
    chars.len()
}

/// After the quote that closes the one at `from`.
fn quoted_end(chars: &[char], from: usize, quote: char) -> usize {
    let mut at = from + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// After the raw string whose `r` is at `from`; `None` where no raw string begins, as in `r#type`.
fn raw_end(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from + 1..].iter().take_while(|&&c| c == '#').count();
    let open = from + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let mut at = open + 1;
    while at < chars.len() {
        let closes =
            chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
        at += 1;
        if closes {
            return Some(at + hashes);
        }
    }
    Some(chars.len())
}

/// Of each line of `code`, whether it belongs to an item under `#[cfg(test)]`.
fn test_marks(code: &str) -> Vec<bool> {
    let mut marks = Vec::new();
    // Inside such an item: the depth of its brackets so far.
    let mut depth: Option<usize> = None;
    for line in code.lines() {
        let mut rest = line;
        let mut is_test = depth.is_some();
        loop {
            if let Some(open) = depth {
                let (now, after) = walk_item(rest, open);
                depth = now;
                rest = after;
            } else if let Some(after) = after_test_attribute(rest) {
                is_test = true;
                depth = Some(0);
                rest = after;
            } else {
                break;
            }
            if rest.is_empty() {
                break;
            }
        }
        marks.push(is_test);
    }
    marks
}

fn after_test_attribute(code: &str) -> Option<&str> {
    ["#[cfg(test)]", "#[cfg(all(test", "#[cfg(any(test"].iter().find_map(|attribute| {
        let start = code.find(attribute)?;
        let end = code[start..].find(']').map_or(code.len(), |offset| start + offset + 1);
        Some(&code[end..])
    })
}

/// Follows an item through `code`. Returns the depth at its end, `None` when the item ended, and what comes
/// after.
fn walk_item(code: &str, mut depth: usize) -> (Option<usize>, &str) {
    for (at, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && c == '}' {
                    return (None, &code[at + 1..]);
                }
            }
            ';' if depth == 0 => return (None, &code[at + 1..]),
            _ => {}
        }
    }
    (Some(depth), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(source: &str) -> String {
        Rust::parse(source).lines.iter().map(|line| line.code.trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn comments_and_the_insides_of_literals_are_blanked() {
        assert_eq!(code_of("let a = 1; // Instant::now"), "let a = 1;\n");
        assert_eq!(code_of("a /* x /* y */ z */ b"), "a                   b\n");
        assert_eq!(code_of(r#"f("a\"b", 'c', '\'', x)"#), "f(\"    \", ' ', '  ', x)\n");
        // Of a raw string the first and the last character stay.
        assert_eq!(code_of("f(r#\"a\"b\"#, br\"c\", r#type)"), "f(r      #, br  \", r#type)\n");
        assert_eq!(code_of("fn f<'a>(x: &'a str) -> &'a str {"), "fn f<'a>(x: &'a str) -> &'a str {\n");
        assert_eq!(code_of("let s = \"one\ntwo\";\nend"), "let s = \"\n   \";\nend\n");
    }

    #[test]
    fn only_items_under_a_test_attribute_are_test_code() {
        let source = "a\n#[cfg(test)]\nmod tests;\nb\n#[cfg(all(test, unix))]\nfn f() {\n  x;\n}\nc\n#[cfg(test)] use x::y; d\n#[cfg(test)]\nmod tests {\n  fn g() {}\n}";
        let marks: Vec<bool> = Rust::parse(source).lines.iter().map(|line| line.is_test).collect();
        let (t, f) = (true, false);
        assert_eq!(marks, [f, t, t, f, t, t, t, t, f, t, t, t, t, t]);
    }
}
