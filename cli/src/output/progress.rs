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

/// Says when a line is due: at each quarter, so that a log or a screen reader is not flooded. What begins
/// anew (first the file is compared with those that are known, then copied) is told anew.
#[derive(Debug, Default)]
struct ProgressLines {
    done: u64,
    told: u64,
}

impl ProgressLines {
    /// The share that is done, in percent, where it is worth a line.
    fn due(&mut self, done: u64, total: u64) -> Option<u64> {
        if std::mem::replace(&mut self.done, done) > done {
            self.told = 0;
        }
        let share = u128::from(done) * 100 / u128::from(total).max(1);
        let percent = if total == 0 { return None } else { u64::try_from(share.min(100)).unwrap_or(100) };
        let step = percent / 25;
        (step > self.told).then(|| {
            self.told = step;
            percent
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
        assert_eq!(ProgressLines::default().due(5, 0), None);
        assert_eq!(ProgressLines::default().due(u64::MAX, 1), Some(100));
        assert_eq!(ProgressLines::default().due(u64::MAX / 2 + 1, u64::MAX), Some(50));
    }

    #[test]
    fn a_line_tells_the_share_that_is_done_and_not_the_step_that_it_passed() {
        let mut lines = ProgressLines::default();
        let told: Vec<u64> =
            [0, 24, 33, 49, 62, 70, 99, 100].iter().filter_map(|done| lines.due(*done, 100)).collect();
        assert_eq!(told, [33, 62, 99, 100]);
    }

    #[test]
    fn what_begins_anew_is_told_anew() {
        let mut lines = ProgressLines::default();
        let told: Vec<u64> = [50, 100, 0, 50, 100].iter().filter_map(|done| lines.due(*done, 100)).collect();
        assert_eq!(told, [50, 100, 50, 100]);
    }
}
