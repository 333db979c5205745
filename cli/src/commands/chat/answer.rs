//! One streamed answer, piece by piece.
//!
//! A plain decider over the chunks of `/v1/chat/completions`; it reads no clock and shows nothing.

use arw_kit::moment::Moment;
use serde_json::Value;

use crate::client::error::Problem;
use crate::client::row::text;

/// What has come so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) finish: Option<String>,
    pub(super) usage: Option<Value>,
    pub(super) first_at: Option<Moment>,
    last_at: Option<Moment>,
}

/// What one chunk brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// What a model says to itself before it answers.
    Thought(String),
    /// Bookkeeping.
    Nothing,
    Done,
    Failed(Box<Problem>),
    Garbled(String),
}

impl Answer {
    /// Takes the data of one event that arrived `now`.
    pub(super) fn take(&mut self, data: &str, now: Moment) -> Piece {
        if data.trim() == "[DONE]" {
            return Piece::Done;
        }
        let chunk: Value = match serde_json::from_str(data) {
            Ok(chunk) => chunk,
            Err(error) => return Piece::Garbled(format!("a chunk of the answer is not JSON: {error}")),
        };
        if chunk.get("error").is_some_and(|error| !error.is_null()) {
            // Mid-stream there is no status; 502 is what a lost engine would have been.
            return Piece::Failed(Box::new(Problem::from_body(502, &chunk, &[])));
        }
        if chunk.get("usage").is_some_and(Value::is_object) {
            self.usage = Some(chunk["usage"].clone());
        }
        let finish = text(&chunk, "/choices/0/finish_reason");
        if !finish.is_empty() {
            self.finish = Some(finish.to_owned());
        }
        let piece = text(&chunk, "/choices/0/delta/content");
        let thought = text(&chunk, "/choices/0/delta/reasoning_content");
        if piece.is_empty() && thought.is_empty() {
            return Piece::Nothing;
        }
        self.first_at.get_or_insert(now);
        self.last_at = Some(now);
        if piece.is_empty() {
            return Piece::Thought(thought.to_owned());
        }
        self.text.push_str(piece);
        Piece::Text(piece.to_owned())
    }

    pub(super) fn completion_tokens(&self) -> Option<u64> {
        self.usage.as_ref()?.get("completion_tokens")?.as_u64()
    }

    /// After the first token, so that reading the prompt does not count.
    pub(super) fn tokens_per_second(&self) -> Option<f64> {
        let seconds = self.last_at?.since(self.first_at?).as_secs_f64();
        let after_first = self.completion_tokens()?.checked_sub(1)?;
        (seconds > 0.0 && after_first > 0).then(|| after_first as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn pieces_add_up_to_the_answer_and_its_rate() {
        let mut answer = Answer::default();
        let delta = |text: &str| format!(r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#);
        assert_eq!(
            answer.take(r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#, at(0)),
            Piece::Nothing
        );
        assert_eq!(answer.take(&delta("Hel"), at(100)), Piece::Text("Hel".to_owned()));
        assert_eq!(answer.take(&delta("lo"), at(1_100)), Piece::Text("lo".to_owned()));
        assert_eq!(
            answer.take(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, at(1_200)),
            Piece::Nothing
        );
        assert_eq!(
            answer.take(r#"{"choices":[],"usage":{"completion_tokens":11}}"#, at(1_300)),
            Piece::Nothing
        );
        assert_eq!(answer.take("[DONE]", at(1_300)), Piece::Done);
        assert_eq!(answer.text, "Hello");
        assert_eq!(answer.finish.as_deref(), Some("stop"));
        assert_eq!(answer.tokens_per_second(), Some(10.0));
    }

    #[test]
    fn an_engine_that_dies_in_mid_answer_is_a_failure_with_its_words() {
        let mut answer = Answer::default();
        let data =
            r#"{"error":{"message":"the engine was lost","type":"server_error","code":"engine_lost"}}"#;
        match answer.take(data, at(0)) {
            Piece::Failed(problem) => assert_eq!(problem.detail, "the engine was lost"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(answer.take("{", at(0)), Piece::Garbled(_)));
    }

    #[test]
    fn thoughts_are_not_part_of_the_answer() {
        let mut answer = Answer::default();
        let data = r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#;
        assert_eq!(answer.take(data, at(0)), Piece::Thought("hm".to_owned()));
        assert!(answer.text.is_empty());
        assert_eq!(answer.tokens_per_second(), None);
    }
}
