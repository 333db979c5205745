//! What the terminal can take and what the person wants: colour, redrawing, box drawing, width.
//!
//! Owns [`Style`], decided once per process from the terminal and the environment. Refuses to write anything.

use std::ffi::OsString;
use std::io::IsTerminal;

/// How output may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    /// ANSI colours on standard output.
    pub(crate) colour: bool,
    /// For a screen reader: no redraw, no spinner, no box drawing; plain indented text with words.
    pub(crate) accessible: bool,
    /// Standard output is a terminal.
    pub(crate) terminal_out: bool,
    /// Standard error is a terminal.
    pub(crate) terminal_err: bool,
    /// Lines and arrows beyond ASCII may be used.
    pub(crate) unicode: bool,
}

/// How a word is meant; shown as a colour, never by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Notice,
    Warning,
    Bad,
    Faint,
}

impl Style {
    /// From this process's terminal and environment.
    pub(crate) fn detect(no_colour_flag: bool) -> Self {
        let out = std::io::stdout().is_terminal();
        let err = std::io::stderr().is_terminal();
        Self::decide(out, err, no_colour_flag, |name| std::env::var_os(name))
    }

    fn decide(
        terminal_out: bool,
        terminal_err: bool,
        no_colour_flag: bool,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok()).unwrap_or_default();
        let accessible = !matches!(text("ACCESSIBLE").as_str(), "" | "0" | "false");
        // https://no-color.org: set and not empty.
        let no_colour = no_colour_flag || !text("NO_COLOR").is_empty() || text("TERM") == "dumb";
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(text).into_iter().find(|value| !value.is_empty());
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        // Nothing said about the locale says nothing against UTF-8 either; "C" and "POSIX" do.
        let ascii_only = matches!(locale.as_str(), "c" | "posix") || locale.contains("8859");
        Self {
            colour: terminal_out && !no_colour && !accessible,
            accessible,
            terminal_out,
            terminal_err,
            unicode: !accessible && !ascii_only,
        }
    }

    /// The screen may be redrawn.
    pub(crate) fn redraws(&self) -> bool {
        self.terminal_out && !self.accessible
    }

    /// Progress on standard error may be redrawn.
    pub(crate) fn redraws_progress(&self) -> bool {
        self.terminal_err && !self.accessible
    }

    /// `text` in the colour of `tone`, where colours are wanted.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => None,
            Tone::Good => Some("32"),
            Tone::Notice => Some("36"),
            Tone::Warning => Some("33"),
            Tone::Bad => Some("31;1"),
            Tone::Faint => Some("2"),
        };
        match code {
            Some(code) if self.colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Some(_) | None => text.to_owned(),
        }
    }

    /// Columns and rows of the terminal on standard output.
    pub(crate) fn terminal_size(&self) -> Option<(u16, u16)> {
        if !self.terminal_out {
            return None;
        }
        #[cfg(unix)]
        {
            let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
            (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
        }
        #[cfg(not(unix))]
        None
    }
}

#[cfg(test)]
impl Style {
    /// No terminal, no wishes.
    pub(crate) const PLAIN: Self =
        Self { colour: false, accessible: false, terminal_out: false, terminal_err: false, unicode: true };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(terminal: bool, flag: bool, environment: &[(&str, &str)]) -> Style {
        Style::decide(terminal, terminal, flag, |name| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn colour_needs_a_terminal_and_nobody_against_it() {
        assert!(decide(true, false, &[]).colour);
        assert!(decide(true, false, &[("NO_COLOR", "")]).colour);
        assert!(!decide(true, false, &[("NO_COLOR", "1")]).colour);
        assert!(!decide(true, true, &[]).colour);
        assert!(!decide(true, false, &[("TERM", "dumb")]).colour);
        assert!(!decide(true, false, &[("ACCESSIBLE", "1")]).colour);
        assert!(!decide(false, false, &[]).colour);
    }

    #[test]
    fn accessible_means_no_redraw_and_no_box_drawing() {
        let style = decide(true, false, &[("ACCESSIBLE", "1"), ("LANG", "en_GB.UTF-8")]);
        assert!(!style.redraws() && !style.redraws_progress() && !style.unicode);
        assert!(decide(true, false, &[("ACCESSIBLE", "0")]).redraws());
        assert!(!decide(true, false, &[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")]).unicode);
    }
}
