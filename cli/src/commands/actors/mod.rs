//! `arw actors …`: the supervision tree, live.

mod all;
mod facts;
mod tree;

use arw_actors::config::nearest;
use serde_json::Value;

use crate::args::ActorsCommand;
use crate::client::follow::{Follow, Followed};
use crate::client::http::Node;
use crate::client::model::{Applied, ReadModel};
use crate::client::row::{encoded, number, text};
use crate::commands::events;
use crate::commands::model::field_lines;
use crate::commands::runtime::view;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::formats::Format;
use crate::output::human;
use crate::output::screen::Screen;

pub(crate) async fn run(context: &Context, command: ActorsCommand) -> Result<(), Failure> {
    let node = context.node()?;
    match command {
        ActorsCommand::Tree { watch: true, node: other, .. } => {
            watch(&context.screen, &node, &path("/state/actors/stream", other.as_deref())).await
        }
        ActorsCommand::Tree { all: true, .. } => all::show(&context.screen, &node).await,
        ActorsCommand::Tree { node: other, .. } => {
            let body = node.get(&path("/state/actors", other.as_deref())).await?;
            context.screen.show(&tree::page(body, &context.screen.style, context.screen.now()))
        }
        ActorsCommand::Show { path } => show(context, &node, &path).await,
    }
}

/// For the tree of another node than the one that is asked.
fn path(path: &str, other: Option<&str>) -> String {
    other.map_or_else(|| path.to_owned(), |other| format!("{path}?node={}", encoded(other)))
}

/// Follows the tree until Ctrl-C.
async fn watch(screen: &Screen, node: &Node, path: &str) -> Result<(), Failure> {
    let mut follow = Follow::new(node, path, None, screen.clock());
    let mut model = ReadModel::default();
    let mut view = Watch::new(screen);
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
                    view.note(&format!("note: {why}; fetching the whole tree again"));
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

/// How a tree that changes is shown: redrawn on a terminal, line by line for screen readers, pipes and programs.
struct Watch<'s> {
    screen: &'s Screen,
    redraws: bool,
    entered: bool,
    before: Option<facts::Tree>,
}

/// The alternate screen keeps what was on the terminal before.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

impl<'s> Watch<'s> {
    fn new(screen: &'s Screen) -> Self {
        let redraws = screen.is_for_people() && screen.style.redraws();
        Self { screen, redraws, entered: false, before: None }
    }

    fn changed(&mut self, model: &ReadModel) -> Result<(), Failure> {
        let Some(body) = model.body() else { return Ok(()) };
        if self.redraws {
            return self.redraw(body);
        }
        match self.screen.format {
            Format::Json => return self.screen.data(&format!("{body}\n")),
            Format::Yaml => {
                return self.screen.data(&format!("---\n{}", crate::output::formats::yaml(body)?));
            }
            Format::Table | Format::Csv | Format::Ndjson => {}
        }
        let now = facts::Tree::of(body);
        let lines = match &self.before {
            // The first time, everything is news.
            None if self.screen.is_for_people() => {
                self.screen.data(&tree::drawn(body, &self.screen.style, self.screen.now()))?;
                Vec::new()
            }
            None => now.changes_since(&facts::Tree::default()),
            Some(before) => now.changes_since(before),
        };
        let first = self.before.is_none();
        for (place, change) in lines.iter().enumerate() {
            let at = human::time_of_day(text(body, "/generated_at"));
            let words = format!("{at} {}", change.words);
            self.screen.show_row(
                &change.record,
                &tree::table_of(&change.record),
                &words,
                first && place == 0,
            )?;
        }
        self.before = Some(now);
        Ok(())
    }

    fn redraw(&mut self, body: &Value) -> Result<(), Failure> {
        let style = &self.screen.style;
        let text = tree::drawn(body, style, self.screen.now());
        let rows = usize::from(style.terminal_size().map_or(24, |(_, rows)| rows)).saturating_sub(1).max(1);
        let lines: Vec<&str> = text.lines().collect();
        let mut frame = if self.entered { HOME.to_owned() } else { format!("{ENTER}{HOME}") };
        self.entered = true;
        let shown = if lines.len() > rows { rows - 1 } else { lines.len() };
        for line in &lines[..shown] {
            frame.push_str(&format!("{line}{CLEAR_LINE}\n"));
        }
        if shown < lines.len() {
            frame.push_str(&format!(
                "({} more rows; `arw actors tree` shows all){CLEAR_LINE}",
                lines.len() - shown
            ));
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

async fn show(context: &Context, node: &Node, path: &str) -> Result<(), Failure> {
    let body = node.get("/state/actors").await?;
    let rows = tree::rows(&body);
    let row = rows.iter().map(|line| line.row).find(|row| is_at(text(row, "/path"), path));
    let Some(row) = row else {
        let paths: Vec<&str> = rows.iter().map(|line| text(line.row, "/path")).collect();
        let help = match nearest(path, paths.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => "`arw actors tree -o csv` lists all paths".to_owned(),
        };
        let why = format!("the node has {} actors, none with this path", rows.len());
        return Err(Failure::new(Exit::NotFound, format!("there is no actor {path}"), why, help));
    };
    let full = text(row, "/path");
    let short = full.strip_prefix("node/").unwrap_or(full);
    let subject = short.strip_prefix("runtimes/").unwrap_or(short);
    let history = events::history(node, subject, short).await;
    let record = tree::without_children(row);
    let mut page = tree::page_of(record.clone(), vec![record]);
    page.text = Some(details(row, &history, context));
    context.screen.show(&page)
}

/// `runtimes/smollm2` also finds `node/runtimes/smollm2`.
fn is_at(full: &str, wanted: &str) -> bool {
    let wanted = wanted.trim_matches('/');
    full == wanted || full.strip_prefix("node/") == Some(wanted)
}

fn details(row: &Value, history: &[events::Happening], context: &Context) -> String {
    let now = context.screen.now();
    let children = row.get("children").and_then(Value::as_array).map_or(0, Vec::len);
    let handling = match number(row, "/in_flight/age_ms") {
        Some(age) => format!(
            "{} for {}{}",
            text(row, "/in_flight/message"),
            human::span_ms(age),
            facts::Handling::of(row).words()
        ),
        None => "nothing".to_owned(),
    };
    let mailbox = match (number(row, "/mailbox/depth"), number(row, "/mailbox/bound")) {
        (Some(depth), Some(bound)) => format!("{depth} waiting, room for {bound}"),
        _ => "none".to_owned(),
    };
    let handled = number(row, "/handled").unwrap_or_default();
    let busy = human::span_ms(number(row, "/busy_ms").unwrap_or_default());
    let fields = [
        ("actor", text(row, "/path").to_owned()),
        ("kind", text(row, "/kind").to_owned()),
        ("state", format!("{} (since {})", text(row, "/state"), human::ago(text(row, "/since"), now))),
        ("handling", handling),
        ("mailbox", mailbox),
        (
            "handled",
            format!("{} message{}, busy {busy} in all", human::count(handled), human::plural(handled)),
        ),
        ("restarts", view::restarts_in_words(row, "/restarts", now)),
        ("last exit", view::last_exit(row, now)),
        ("children", children.to_string()),
    ];
    let mut out = field_lines(&fields);
    out.push('\n');
    out.push_str(&verdict(row, context));
    out.push('\n');
    out.push_str(&view::history_in_words(history, now));
    out
}

/// The one sentence that answers "why did it restart".
fn verdict(row: &Value, context: &Context) -> String {
    let now = context.screen.now();
    let Some(exit) = row.get("last_exit").and_then(human::exit_in_words) else {
        return "It has not ended since the node started.".to_owned();
    };
    let at = human::ago(text(row, "/last_exit/at"), now);
    let left = number(row, "/restarts/max")
        .zip(number(row, "/restarts/used"))
        .map(|(max, used)| max.saturating_sub(used));
    let then = match (text(row, "/state"), left) {
        ("running", Some(left)) => {
            format!(
                "It was restarted; {left} more restart{} are allowed before it is given up.",
                human::plural(left)
            )
        }
        ("running", None) => "It was started again.".to_owned(),
        ("backoff", _) => "It waits before the next restart.".to_owned(),
        ("quarantined", _) => {
            "It used up its restarts and is in quarantine; it is tried again later.".to_owned()
        }
        ("failed", _) => "It is not restarted again.".to_owned(),
        (state, _) => format!("It is {state} now."),
    };
    format!("It last ended {at}: {exit}. {then}")
}

/// An actor's row as JSON.
#[cfg(test)]
fn sample_row(path: &str, state: &str) -> Value {
    serde_json::json!({"path": path, "kind": "worker", "state": state, "since": "2026-11-24T11:59:50Z",
        "mailbox": {"depth": 0, "bound": 64}, "handled": 3, "busy_ms": 1, "in_flight": null,
        "restarts": {"used": 0, "max": 5, "window_s": 300, "resets_at": null}, "last_exit": null, "children": []})
}
