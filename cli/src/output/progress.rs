//! Progress on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::human::{bytes, printable};
use super::style::Style;

/// Progress of something measured in bytes.
#[derive(Debug)]
pub(crate) struct Progress {
    what: String,
    bar: Option<ProgressBar>,
    lines: ProgressLines,
}

impl Progress {
    /// `what` begins the line: `importing model.gguf`.
    pub(crate) fn new(what: &str, style: &Style) -> Self {
        let what = printable(what);
        let bar = style.redraws_progress().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let template = "{msg} {bar:30} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left";
            if let Ok(form) = ProgressStyle::with_template(template) {
                bar.set_style(form.progress_chars(if style.unicode {
                    "█▉▊▋▌▍▎▏ "
                } else {
                    "#- "
                }));
            }
            bar.set_message(what.clone());
            bar
        });
        Self { what, bar, lines: ProgressLines::default() }
    }

    /// So much of so much is done.
    pub(crate) fn at(&mut self, done: u64, total: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            None => {
                if let Some(percent) = self.lines.due(done, total) {
                    let text = format!("{}: {percent} % ({} of {})", self.what, bytes(done), bytes(total));
                    let _ = writeln!(std::io::stderr().lock(), "{text}");
                }
            }
        }
    }

    /// Over, well or not: the bar goes away.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Says when a line is due: at each quarter, so that a log or a screen reader is not flooded.
#[derive(Debug, Default)]
struct ProgressLines {
    told: u64,
}

impl ProgressLines {
    fn due(&mut self, done: u64, total: u64) -> Option<u64> {
        let percent = done.saturating_mul(100).checked_div(total)?.min(100);
        let step = percent / 25 * 25;
        (step > self.told).then(|| {
            self.told = step;
            step
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_at_each_quarter_and_only_once() {
        let mut lines = ProgressLines::default();
        let told: Vec<u64> = (0..=100).filter_map(|done| lines.due(done, 100)).collect();
        assert_eq!(told, [25, 50, 75, 100]);
        assert_eq!(ProgressLines::default().due(0, 0), None);
        assert_eq!(ProgressLines::default().due(u64::MAX, 1), Some(100));
    }
}
