//! Following a read model until Ctrl-C: redrawn on a terminal; by its changes, line by line, for screen readers, pipes and programs.
//!
//! Owns the loop and the drawing. Refuses to know what is watched: that says what it looks like and what of it is news.

use serde_json::Value;

use crate::client::follow::{Follow, Followed};
use crate::client::http::Node;
use crate::client::model::{Applied, ReadModel};
use crate::client::row::text;
use crate::failure::Failure;
use crate::output::formats::{self, Format};
use crate::output::human;
use crate::output::screen::Screen;
use crate::output::table::Table;

/// One piece of news.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// For people; empty for what only programs care about.
    pub(crate) words: String,
    /// The row as it is now.
    pub(crate) record: Value,
}

/// Something that can be watched.
pub(crate) trait Watched {
    /// The path of its stream.
    fn stream(&self) -> String;
    /// The command that shows all of it.
    const COMMAND: &'static str;

    /// All of it, for people.
    fn drawn(&self, body: &Value, screen: &Screen) -> String;

    /// What is new since the last call. The first time, everything is.
    fn news(&mut self, body: &Value) -> Vec<Change>;

    /// The table of one record.
    fn table(&self, record: &Value) -> Table;
}

/// Follows it until Ctrl-C.
pub(crate) async fn watch<W: Watched>(screen: &Screen, node: &Node, watched: W) -> Result<(), Failure> {
    let stream = watched.stream();
    let mut follow = Follow::new(node, &stream, None, screen.clock());
    let mut model = ReadModel::default();
    let mut view = Watch::new(screen, watched);
    let outcome = loop {
        let followed = tokio::select! {
            followed = follow.next() => followed,
            _ = tokio::signal::ctrl_c() => break Ok(()),
        };
        let told = match followed {
            Ok(Followed::Event(event)) => match model.apply(&event) {
                Applied::Changed => view.changed(&model),
                Applied::Mismatch(why) => {
                    follow.start_over();
                    view.note(&format!("note: {why}; fetching everything again"));
                    Ok(())
                }
                Applied::Resync(_) | Applied::Lag(_) | Applied::Ignored => Ok(()),
            },
            Ok(Followed::Broken(why)) if why.is_empty() => Ok(()),
            Ok(Followed::Broken(why)) => {
                view.note(&format!("note: {why}; connecting again"));
                Ok(())
            }
            Err(error) => Err(error.into()),
        };
        if let Err(failure) = told {
            break Err(failure);
        }
    };
    view.leave();
    outcome
}

struct Watch<'s, W> {
    screen: &'s Screen,
    watched: W,
    redraws: bool,
    entered: bool,
    began: bool,
    /// The head of a CSV table is out.
    headed: bool,
}

/// The alternate screen keeps what was on the terminal before.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

impl<'s, W: Watched> Watch<'s, W> {
    fn new(screen: &'s Screen, watched: W) -> Self {
        let redraws = screen.is_for_people() && screen.style.redraws();
        Self { screen, watched, redraws, entered: false, began: false, headed: false }
    }

    fn changed(&mut self, model: &ReadModel) -> Result<(), Failure> {
        let Some(body) = model.body() else { return Ok(()) };
        if self.redraws {
            return self.redraw(body);
        }
        match self.screen.format {
            Format::Json => return self.screen.data(&format!("{body}\n")),
            Format::Yaml => return self.screen.data(&format!("---\n{}", formats::yaml(body)?)),
            Format::Table | Format::Csv | Format::Ndjson => {}
        }
        let is_for_people = self.screen.is_for_people();
        let is_first = !std::mem::replace(&mut self.began, true);
        let news = self.watched.news(body);
        if is_first && is_for_people {
            return self.screen.data(&self.watched.drawn(body, self.screen));
        }
        let told = news.iter().filter(|change| !(is_for_people && change.words.is_empty()));
        for change in told {
            let at = human::time_of_day(text(body, "/generated_at"));
            // They hold what other nodes say of themselves, which is no command to this terminal.
            let words = format!("{at} {}", human::one_line(&change.words));
            let table = self.watched.table(&change.record);
            let is_head_due = !std::mem::replace(&mut self.headed, true);
            self.screen.show_row(&change.record, &table, &words, is_head_due)?;
        }
        Ok(())
    }

    fn redraw(&mut self, body: &Value) -> Result<(), Failure> {
        let style = &self.screen.style;
        let text = self.watched.drawn(body, self.screen);
        let rows = usize::from(style.terminal_size().map_or(24, |(_, rows)| rows)).saturating_sub(1).max(1);
        let lines: Vec<&str> = text.lines().collect();
        let mut frame = if self.entered { HOME.to_owned() } else { format!("{ENTER}{HOME}") };
        self.entered = true;
        let shown = if lines.len() > rows { rows - 1 } else { lines.len() };
        for line in &lines[..shown] {
            frame.push_str(&format!("{line}{CLEAR_LINE}\n"));
        }
        if shown < lines.len() {
            let (more, command) = (lines.len() - shown, W::COMMAND);
            frame.push_str(&format!("({more} more rows; `{command}` shows all){CLEAR_LINE}"));
        }
        frame.push_str(CLEAR_BELOW);
        self.screen.data(&frame)
    }

    /// A note would tear the drawing; there the next frame says what matters.
    fn note(&self, text: &str) {
        if !self.entered {
            self.screen.note(text);
        }
    }

    fn leave(&self) {
        if self.entered {
            let _ = self.screen.data(LEAVE);
        }
    }
}
