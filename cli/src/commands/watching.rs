//! Following a read model until Ctrl-C: redrawn on a terminal; by its changes, line by line, for screen
//! readers, pipes and programs.
//!
//! Owns the loop, the drawing, and that a node that is not heard any more is not shown as well. Refuses to
//! know what is watched: that says what it looks like and what of it is news.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};

use crate::client::error::ClientError;
use crate::client::follow::{Follow, Followed};
use crate::client::http::{Call, Node};
use crate::client::model::{Applied, ReadModel};
use crate::client::pulse::Pulse;
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
    let mut view = Watch::new(screen, watched, node.url(), follow.pulse());
    let mut around = Around::new(node, follow.pulse());
    let outcome = loop {
        let followed = {
            let mut next = pin!(follow.next());
            loop {
                let told = tokio::select! {
                    followed = &mut next => break Some(followed),
                    happened = around.next() => match happened {
                        Happened::Interrupted => break None,
                        Happened::Second => view.second(&model),
                        Happened::Resized => view.resized(&model),
                    },
                };
                if let Err(failure) = told {
                    view.leave();
                    return Err(failure);
                }
            }
        };
        let told = match followed {
            None => break Ok(()),
            Some(Ok(Followed::Event(event))) => match model.apply(&event) {
                Applied::Changed => view.changed(&model),
                Applied::Mismatch(why) => {
                    follow.start_over();
                    view.note(&format!("note: {why}; fetching everything again"));
                    Ok(())
                }
                Applied::Resync(_) | Applied::Lag(_) | Applied::Ignored => Ok(()),
            },
            Some(Ok(Followed::Broken(why))) if why.is_empty() => Ok(()),
            Some(Ok(Followed::Broken(why))) => {
                view.note(&format!("note: {why}; connecting again"));
                Ok(())
            }
            Some(Err(error)) => Err(error.into()),
        };
        if let Err(failure) = told {
            break Err(failure);
        }
    };
    view.leave();
    outcome
}

/// What happens besides the stream.
enum Happened {
    Interrupted,
    /// Another second is over.
    Second,
    /// The terminal has another size.
    Resized,
}

/// Listens to everything besides the stream, and asks the node whether it is still there where the stream
/// says nothing.
struct Around {
    node: Node,
    pulse: Pulse,
    seconds: Interval,
    /// Made once: a Ctrl-C between two waits would else be lost.
    interrupted: BoxFuture<'static, ()>,
    resized: BoxFuture<'static, ()>,
    asking: Option<JoinHandle<()>>,
}

/// Within this a node that is well answers that it is.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

impl Around {
    fn new(node: &Node, pulse: Pulse) -> Self {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let interrupted = async {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        Self {
            node: node.clone(),
            pulse,
            seconds,
            interrupted: interrupted.boxed(),
            resized: resized().boxed(),
            asking: None,
        }
    }

    /// Safe to drop and call again.
    async fn next(&mut self) -> Happened {
        tokio::select! {
            () = &mut self.interrupted => Happened::Interrupted,
            () = &mut self.resized => {
                self.resized = resized().boxed();
                Happened::Resized
            }
            _ = self.seconds.tick() => {
                self.ask_if_quiet();
                Happened::Second
            }
        }
    }

    fn ask_if_quiet(&mut self) {
        let is_asking = self.asking.as_ref().is_some_and(|asking| !asking.is_finished());
        if is_asking || !self.pulse.is_to_be_asked() {
            return;
        }
        let (node, pulse) = (self.node.clone(), self.pulse.clone());
        self.asking = Some(tokio::spawn(async move {
            match node.answer(Call::get("/healthz").within(ANSWER_WITHIN)).await {
                // Whatever it says, it says something.
                Ok(_) | Err(ClientError::Refused(_) | ClientError::Garbled { .. }) => pulse.answered(),
                Err(ClientError::Silent { .. } | ClientError::Unreachable { .. }) => {}
            }
        }));
    }
}

/// Waits until the terminal has another size.
async fn resized() {
    #[cfg(unix)]
    if let Ok(mut resized) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change()) {
        resized.recv().await;
        return;
    }
    std::future::pending::<()>().await;
}

struct Watch<'s, W> {
    screen: &'s Screen,
    watched: W,
    /// The node's address, without the scheme.
    address: String,
    pulse: Pulse,
    redraws: bool,
    entered: bool,
    /// What stands on the terminal.
    frame: String,
    began: bool,
    /// The head of a CSV table is out.
    headed: bool,
    /// Where nothing is redrawn: it was told that nothing is heard of the node.
    told_stale: bool,
}

/// The alternate screen keeps what was on the terminal before.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";
const REVERSE: &str = "\u{1b}[7m";
const PLAIN: &str = "\u{1b}[0m";

impl<'s, W: Watched> Watch<'s, W> {
    fn new(screen: &'s Screen, watched: W, url: &str, pulse: Pulse) -> Self {
        let redraws = screen.is_for_people() && screen.style.redraws();
        Self {
            screen,
            watched,
            address: url.trim_start_matches("http://").to_owned(),
            pulse,
            redraws,
            entered: false,
            frame: String::new(),
            began: false,
            headed: false,
            told_stale: false,
        }
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

    /// Time goes on, also where nothing comes: ages grow, and a node that is not heard any more is told.
    fn second(&mut self, model: &ReadModel) -> Result<(), Failure> {
        if self.redraws {
            return model.body().map_or(Ok(()), |body| self.redraw(body));
        }
        match (self.pulse.stale_for(), self.told_stale) {
            (Some(quiet), false) => self.screen.note(&stale(&self.address, quiet)),
            (None, true) => self.screen.note(&format!("note: {} answers again", self.address)),
            (Some(_), true) | (None, false) => return Ok(()),
        }
        self.told_stale = !self.told_stale;
        Ok(())
    }

    /// The terminal has moved what stood on it.
    fn resized(&mut self, model: &ReadModel) -> Result<(), Failure> {
        self.frame.clear();
        self.second(model)
    }

    fn redraw(&mut self, body: &Value) -> Result<(), Failure> {
        let text = self.watched.drawn(body, self.screen);
        let rows = self.screen.style.terminal_size().map_or(24, |(_, rows)| rows);
        let stale = self.pulse.stale_for().map(|quiet| stale(&self.address, quiet));
        let frame = frame(&text, usize::from(rows), stale.as_deref(), W::COMMAND);
        // The same again would only flicker.
        if self.entered && frame == self.frame {
            return Ok(());
        }
        let enter = if std::mem::replace(&mut self.entered, true) { "" } else { ENTER };
        self.screen.data(&format!("{enter}{frame}"))?;
        self.frame = frame;
        Ok(())
    }

    /// A note would tear the drawing, which has a line of its own for what matters.
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

/// That what is shown is old, and how old.
fn stale(address: &str, quiet: Duration) -> String {
    format!("stale: no answer from {address} for {} s (trying again)", quiet.as_secs())
}

/// What fills a terminal of so many rows: the text, as far as it fits, and at the bottom that it is stale.
fn frame(text: &str, rows: usize, stale: Option<&str>, command: &str) -> String {
    let room = rows.saturating_sub(1 + usize::from(stale.is_some())).max(1);
    let lines: Vec<&str> = text.lines().collect();
    let shown = if lines.len() > room { room - 1 } else { lines.len() };
    let mut frame = HOME.to_owned();
    for line in &lines[..shown] {
        frame.push_str(&format!("{line}{CLEAR_LINE}\n"));
    }
    if shown < lines.len() {
        let more = lines.len() - shown;
        frame.push_str(&format!("({more} more lines; `{command}` shows all){CLEAR_LINE}"));
        if stale.is_some() {
            frame.push('\n');
        }
    }
    if let Some(stale) = stale {
        frame.push_str(&format!("{REVERSE}{stale}{PLAIN}{CLEAR_LINE}"));
    }
    frame.push_str(CLEAR_BELOW);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> String {
        (1..=count).map(|line| format!("line {line}\n")).collect()
    }

    fn shown(frame: &str) -> Vec<String> {
        let mut text = frame.to_owned();
        for code in [HOME, CLEAR_LINE, CLEAR_BELOW, REVERSE, PLAIN] {
            text = text.replace(code, "");
        }
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_stale_picture_says_so_in_a_line_of_its_own_whatever_fits() {
        let stale = stale("127.0.0.1:8091", Duration::from_millis(7_900));
        assert_eq!(stale, "stale: no answer from 127.0.0.1:8091 for 7 s (trying again)");
        for count in 0..12 {
            for rows in 1..10 {
                let with = shown(&frame(&lines(count), rows, Some(&stale), "arw x"));
                assert_eq!(with.last(), Some(&stale), "{count} lines in {rows} rows");
                assert!(with.len() <= rows.max(2), "{count} lines in {rows} rows: {with:?}");
                let without = shown(&frame(&lines(count), rows, None, "arw x"));
                assert!(without.len() <= rows.max(1), "{count} lines in {rows} rows: {without:?}");
                assert!(!without.iter().any(|line| line.contains("stale")));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_with_the_command_that_shows_it() {
        assert_eq!(
            shown(&frame(&lines(9), 4, None, "arw x")),
            ["line 1", "line 2", "(7 more lines; `arw x` shows all)"]
        );
        assert_eq!(shown(&frame(&lines(3), 4, None, "arw x")), ["line 1", "line 2", "line 3"]);
    }
}
