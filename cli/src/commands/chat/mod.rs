//! `arw chat`: a conversation with a model, streamed.

mod answer;
mod input;

use std::time::Duration;

use arw_kit::moment::Moment;
use http::header::ACCEPT;
use serde_json::{Value, json};

use crate::args::Chat;
use crate::client::error::ClientError;
use crate::client::http::{Call, Node};
use crate::client::row::{list, text};
use crate::client::sse::EventStream;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::human::{plural, printable, span_ms};
use crate::output::screen::{Page, Screen};
use crate::output::style::Tone;
use crate::output::table::{Cell, Column, Table};
use answer::{Answer, Piece};
use input::{Input, Line};

/// The node lets a request wait two minutes for its runtime, and a long prompt on a slow machine takes
/// minutes more.
const FIRST_BYTE_WITHIN: Duration = Duration::from_secs(900);
/// Between two pieces of an answer. Slow machines make a token in seconds, a long prompt is read in minutes.
const PIECE_WITHIN: Duration = Duration::from_secs(900);

pub(crate) async fn run(context: &Context, wanted: &Chat) -> Result<(), Failure> {
    converse(context, &context.node()?, wanted).await
}

/// Has the conversation that was asked for.
pub(crate) async fn converse(context: &Context, node: &Node, wanted: &Chat) -> Result<(), Failure> {
    let models = node.get("/v1/models").await?;
    let model = choose(&models, wanted.model.as_deref())?;
    let mut conversation = Conversation::new(context, node, model, wanted.system.as_deref());
    if let Some(prompt) = &wanted.once {
        return match conversation.ask(prompt).await? {
            Outcome::Answered => Ok(()),
            Outcome::Cancelled => Err(cancelled()),
        };
    }
    let mut input = Input::open(&context.screen)?;
    if input.is_interactive() {
        context.screen.note(&format!(
            "chatting with {}; Ctrl-C stops an answer, /quit leaves, /help tells more",
            conversation.model
        ));
    }
    loop {
        match input.next().await? {
            Line::End => return Ok(()),
            Line::Text(line) => match line.trim() {
                "" => {}
                "/quit" | "/exit" if input.is_interactive() => return Ok(()),
                "/clear" if input.is_interactive() => {
                    conversation.clear();
                    context.screen.note("the conversation is forgotten");
                }
                "/help" if input.is_interactive() => context.screen.note(HELP),
                prompt => match conversation.ask(prompt).await {
                    Ok(Outcome::Answered) => {}
                    Ok(Outcome::Cancelled) if input.is_interactive() => {
                        context.screen.note("(stopped; Ctrl-C once more leaves)");
                    }
                    Ok(Outcome::Cancelled) => return Err(cancelled()),
                    // A person can ask again; a pipe cannot.
                    Err(failure) if input.is_interactive() => tell(context, failure)?,
                    Err(failure) => return Err(failure),
                },
            },
        }
    }
}

const HELP: &str = "/clear forgets the conversation, /quit or Ctrl-D leaves, Ctrl-C stops an answer";

fn tell(context: &Context, failure: Failure) -> Result<(), Failure> {
    match failure {
        Failure::Told(told) => {
            context.screen.note(told.text().trim_end());
            Ok(())
        }
        Failure::OutputClosed => Err(Failure::OutputClosed),
    }
}

fn cancelled() -> Failure {
    Failure::new(Exit::Failed, "the answer was stopped", "Ctrl-C was pressed", "ask again for a whole answer")
}

/// The model to talk to: the one that was named, or the only one.
fn choose(models: &Value, wanted: Option<&str>) -> Result<String, Failure> {
    if let Some(wanted) = wanted {
        return Ok(wanted.to_owned());
    }
    let ids: Vec<&str> = list(models, "/data").iter().map(|row| text(row, "/id")).collect();
    match ids.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(Failure::new(
            Exit::NotFound,
            "there is nothing to chat with",
            "the node serves no model",
            "run one with `arw run FILE.gguf`, or add a runtime: `arw runtime add --help`",
        )),
        several => Err(Failure::new(
            Exit::Usage,
            "which model?",
            format!("the node serves {}: {}", several.len(), several.join(", ")),
            format!("name one: arw chat {}", several[0]),
        )),
    }
}

enum Outcome {
    Answered,
    Cancelled,
}

struct Conversation<'c> {
    screen: &'c Screen,
    node: &'c Node,
    model: String,
    system: Option<String>,
    messages: Vec<Value>,
    /// Nothing has been shown yet: CSV starts with its header.
    first: bool,
}

impl<'c> Conversation<'c> {
    fn new(context: &'c Context, node: &'c Node, model: String, system: Option<&str>) -> Self {
        let mut conversation = Self {
            screen: &context.screen,
            node,
            model,
            system: system.map(str::to_owned),
            messages: Vec::new(),
            first: true,
        };
        conversation.clear();
        conversation
    }

    fn clear(&mut self) {
        self.messages = self.system.iter().map(|text| json!({"role": "system", "content": text})).collect();
    }

    /// Asks and shows the answer as it comes. An answer that was stopped or broke off stays in the
    /// conversation as far as it came.
    async fn ask(&mut self, prompt: &str) -> Result<Outcome, Failure> {
        self.messages.push(json!({"role": "user", "content": prompt}));
        let mut answer = Answer::default();
        let asked_at = self.screen.clock().now();
        let outcome = tokio::select! {
            streamed = self.stream(&mut answer) => streamed.map(|()| Outcome::Answered),
            _ = tokio::signal::ctrl_c() => Ok(Outcome::Cancelled),
        };
        if answer.text.is_empty() && !matches!(outcome, Ok(Outcome::Answered)) {
            self.messages.pop();
        } else {
            self.messages.push(json!({"role": "assistant", "content": answer.text}));
        }
        self.show_end(prompt, &answer, asked_at)?;
        outcome
    }

    async fn stream(&self, answer: &mut Answer) -> Result<(), Failure> {
        let body = json!({
            "model": self.model, "messages": self.messages, "stream": true,
            "stream_options": {"include_usage": true},
        });
        let call = Call::post("/v1/chat/completions", Some(body)).header(ACCEPT, "text/event-stream");
        let response = self.node.open(call.within(FIRST_BYTE_WITHIN)).await?;
        let mut events = EventStream::new(response, self.node.url(), PIECE_WITHIN);
        while let Some(event) = events.next().await? {
            match answer.take(&event.data, self.screen.clock().now()) {
                Piece::Text(piece) => self.show_piece(&piece, Tone::Plain)?,
                Piece::Thought(piece) => {
                    if self.screen.style.terminal_out {
                        self.show_piece(&piece, Tone::Faint)?;
                    }
                }
                Piece::Nothing => {}
                Piece::Done => return Ok(()),
                Piece::Failed(problem) => return Err(ClientError::Refused(problem).into()),
                Piece::Garbled(why) => {
                    return Err(ClientError::Garbled { url: self.node.url().to_owned(), why }.into());
                }
            }
        }
        Err(Failure::new(
            Exit::Failed,
            "the answer broke off",
            "the stream ended without its end mark",
            "ask again; `arw runtime list` shows whether the runtime was restarted",
        ))
    }

    fn show_piece(&self, piece: &str, tone: Tone) -> Result<(), Failure> {
        if !self.screen.is_for_people() {
            return Ok(());
        }
        // A terminal must not be driven by what a model says; a file gets the answer as it is.
        if self.screen.style.terminal_out {
            return self.screen.data(&self.screen.style.paint(tone, &printable(piece)));
        }
        self.screen.data(piece)
    }

    fn show_end(&mut self, prompt: &str, answer: &Answer, asked_at: Moment) -> Result<(), Failure> {
        if self.screen.is_for_people() {
            if !answer.text.is_empty() {
                self.screen.data("\n")?;
            }
            if let Some(line) = rate_in_words(answer, asked_at) {
                self.screen.note(&line);
            }
            return Ok(());
        }
        if answer.text.is_empty() && answer.finish.is_none() {
            return Ok(());
        }
        let page = record(&self.model, prompt, answer);
        let first = std::mem::replace(&mut self.first, false);
        self.screen.show_row(&page.body, &page.table, "", first)
    }
}

fn rate_in_words(answer: &Answer, asked_at: Moment) -> Option<String> {
    let first = answer.first_at?.since(asked_at);
    let first = span_ms(u64::try_from(first.as_millis()).unwrap_or(u64::MAX));
    let tokens = answer.completion_tokens()?;
    let rate = answer.tokens_per_second().map_or_else(String::new, |rate| format!(", {rate:.1} tokens/s"));
    Some(format!("({tokens} token{}{rate}, the first after {first})", plural(tokens)))
}

fn record(model: &str, prompt: &str, answer: &Answer) -> Page {
    let mut table = Table::new(&[
        Column::new("model", "model"),
        Column::new("prompt", "prompt"),
        Column::new("answer", "answer"),
        Column::new("finish_reason", "finish reason"),
        Column::new("prompt_tokens", "prompt tokens"),
        Column::new("completion_tokens", "completion tokens"),
    ]);
    let usage = answer.usage.clone().unwrap_or(Value::Null);
    let tokens = |name: &str| usage.get(name).and_then(Value::as_u64).map_or(Cell::Missing, Cell::Count);
    table.push(vec![
        Cell::Text(model.to_owned()),
        Cell::Text(prompt.to_owned()),
        Cell::Text(answer.text.clone()),
        answer.finish.clone().map_or(Cell::Missing, Cell::Text),
        tokens("prompt_tokens"),
        tokens("completion_tokens"),
    ]);
    let body = json!({
        "model": model, "prompt": prompt, "answer": answer.text, "finish_reason": answer.finish,
        "usage": usage, "tokens_per_second": answer.tokens_per_second(),
    });
    Page { records: vec![body.clone()], body, table, text: None, empty: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_model_is_chosen_and_several_are_listed() {
        let models =
            |ids: &[&str]| json!({"data": ids.iter().map(|id| json!({"id": id})).collect::<Vec<_>>()});
        assert_eq!(choose(&models(&["a"]), None).unwrap(), "a");
        assert_eq!(choose(&models(&["a"]), Some("b")).unwrap(), "b");
        assert_eq!(choose(&models(&[]), None).unwrap_err().exit(), Exit::NotFound);
        let Failure::Told(told) = choose(&models(&["a", "b"]), None).unwrap_err() else {
            panic!("nothing told")
        };
        assert_eq!(told.exit, Exit::Usage);
        assert!(told.why.contains("a, b"));
    }
}
