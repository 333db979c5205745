//! Where prompts come from: an editable line on a terminal, one line each from a pipe.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::failure::{Exit, Failure};
use crate::output::screen::Screen;

/// A prompt of this size fills the context of most models; a pipe without line ends must not fill the memory.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text(String),
    End,
}

/// Reads prompts one at a time, without blocking anything else.
pub(super) enum Input {
    /// With history and editing.
    Editor(Option<Box<DefaultEditor>>),
    /// Plain lines; `prompted` where a person types them into a terminal that is not to be redrawn.
    Lines { prompted: bool },
}

impl Input {
    pub(super) fn open(screen: &Screen) -> Result<Self, Failure> {
        let typed = io::stdin().is_terminal();
        if !typed || !screen.style.redraws() || !screen.is_for_people() {
            return Ok(Self::Lines { prompted: typed });
        }
        let editor = DefaultEditor::new().map_err(|error| cannot_read(&error.to_string()))?;
        Ok(Self::Editor(Some(Box::new(editor))))
    }

    /// A person is there who can answer and ask again.
    pub(super) fn is_interactive(&self) -> bool {
        match self {
            Self::Editor(_) => true,
            Self::Lines { prompted } => *prompted,
        }
    }

    /// The next line. Ctrl-C and the end of the input both leave.
    pub(super) async fn next(&mut self) -> Result<Line, Failure> {
        match self {
            Self::Editor(slot) => {
                let Some(mut editor) = slot.take() else { return Ok(Line::End) };
                let read = tokio::task::spawn_blocking(move || {
                    let line = edit(&mut editor);
                    (editor, line)
                });
                let (editor, line) = read.await.map_err(|error| cannot_read(&error.to_string()))?;
                *slot = Some(editor);
                line
            }
            Self::Lines { prompted } => {
                let prompted = *prompted;
                let read = tokio::task::spawn_blocking(move || read_line(prompted));
                tokio::select! {
                    line = read => line.map_err(|error| cannot_read(&error.to_string()))?,
                    _ = tokio::signal::ctrl_c() => Ok(Line::End),
                }
            }
        }
    }
}

fn edit(editor: &mut DefaultEditor) -> Result<Line, Failure> {
    match editor.readline("> ") {
        Ok(line) => {
            // History lives as long as the conversation and is written nowhere.
            let _ = editor.add_history_entry(line.as_str());
            Ok(Line::Text(line))
        }
        Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(Line::End),
        Err(error) => Err(cannot_read(&error.to_string())),
    }
}

fn read_line(prompted: bool) -> Result<Line, Failure> {
    if prompted {
        let mut err = io::stderr().lock();
        let _ = write!(err, "You: ").and_then(|()| err.flush());
    }
    let mut bytes = Vec::new();
    let mut input = io::stdin().lock().take(LINE_BYTES_MAX);
    input.read_until(b'\n', &mut bytes).map_err(|error| cannot_read(&error.to_string()))?;
    if bytes.is_empty() {
        return Ok(Line::End);
    }
    String::from_utf8(bytes).map(Line::Text).map_err(|_| cannot_read("a line is not UTF-8"))
}

fn cannot_read(why: &str) -> Failure {
    Failure::new(Exit::Failed, "cannot read the prompt", why, "type it, or pipe text in: one prompt per line")
}
