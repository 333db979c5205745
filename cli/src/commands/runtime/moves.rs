//! `arw runtime start|stop|restart`: ask, then wait until the runtime has settled.

use std::time::Duration;

use arw_actors::config::format_duration;
use http::StatusCode;
use serde_json::Value;

use super::view;
use crate::args::RuntimeMove;
use crate::client::http::{ANSWER_DEADLINE, Call, Node};
use crate::client::row::{encoded, text};
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// What to do with a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    Start,
    Stop,
    Restart,
}

impl Move {
    fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Start => "starting",
            Self::Stop => "stopping",
            Self::Restart => "restarting",
        }
    }
}

/// The node lets one call wait for about a minute: longer waits are asked for again.
const WAIT_PER_CALL: Duration = Duration::from_secs(60);

pub(super) async fn run(context: &Context, which: Move, wanted: &RuntimeMove) -> Result<(), Failure> {
    let node = context.node()?;
    let row = settle(context, &node, which, &wanted.id, wanted.wait).await?;
    context.screen.show(&view::page(row.clone(), vec![row]))
}

/// Asks for a move and waits until it has settled, at most `wait`. A runtime that settled badly is an error.
pub(crate) async fn settle(
    context: &Context,
    node: &Node,
    which: Move,
    id: &str,
    wait: Duration,
) -> Result<Value, Failure> {
    if wait.is_zero() {
        let (_, row) = node.answer(Call::post(&path(id, which, None), None)).await?;
        return Ok(row);
    }
    context.screen.note(&format!("{} {id}, waiting up to {}", which.doing(), format_duration(wait)));
    let clock = context.screen.clock();
    let until = clock.now() + wait;
    let mut asked = which;
    loop {
        let left = until.since(clock.now()).min(WAIT_PER_CALL);
        let path = path(id, asked, Some(left));
        let call = Call::post(&path, None).within(left + ANSWER_DEADLINE);
        let (status, row) = node.answer(call).await?;
        if status != StatusCode::ACCEPTED {
            return judged(which, id, row);
        }
        if clock.now() >= until {
            return Err(not_settled(which, id, &row, wait));
        }
        // The node has restarted it already: asking for another restart would begin anew.
        asked = if which == Move::Restart { Move::Start } else { which };
    }
}

fn path(id: &str, which: Move, wait: Option<Duration>) -> String {
    let wait = wait.map_or_else(String::new, |wait| format!("?wait={}ms", wait.as_millis().max(1)));
    format!("/runtimes/{}/{}{wait}", encoded(id), which.verb())
}

fn judged(which: Move, id: &str, row: Value) -> Result<Value, Failure> {
    let good = match which {
        Move::Start | Move::Restart => matches!(text(&row, "/state"), "ready" | "degraded"),
        Move::Stop => matches!(text(&row, "/state"), "stopped" | "quarantined" | "failed"),
    };
    if good {
        return Ok(row);
    }
    let state = text(&row, "/state");
    Err(Failure::new(
        Exit::Failed,
        format!("runtime {id} did not {}: it is {state}", which.verb()),
        view::why(&row),
        view::hint(&row, &format!("`arw runtime logs {id}` shows what its program printed")),
    ))
}

fn not_settled(which: Move, id: &str, row: &Value, waited: Duration) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("runtime {id} is still {} after {}", text(row, "/state"), format_duration(waited)),
        view::why(row),
        format!(
            "wait longer with --wait, or look: `arw runtime show {id}`, `arw runtime logs {id}` ({} goes on)",
            which.doing()
        ),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_wait_and_the_name_travel_in_the_path() {
        assert_eq!(path("a b", Move::Start, None), "/runtimes/a%20b/start");
        assert_eq!(path("a", Move::Stop, Some(Duration::from_secs(60))), "/runtimes/a/stop?wait=60000ms");
        assert_eq!(path("a", Move::Restart, Some(Duration::ZERO)), "/runtimes/a/restart?wait=1ms");
    }

    #[test]
    fn a_start_that_ends_in_quarantine_is_an_error_with_reason_and_hint() {
        let row = json!({"id": "a", "state": "quarantined", "reason": "5 restarts within 5 min", "hint": "free memory"});
        let Failure::Told(told) = judged(Move::Start, "a", row.clone()).unwrap_err() else {
            panic!("nothing told")
        };
        assert_eq!(
            told.text(),
            "error: runtime a did not start: it is quarantined\n  why: 5 restarts within 5 min\n  do:  free memory\n"
        );
        assert!(judged(Move::Stop, "a", row).is_ok());
        assert!(judged(Move::Start, "a", json!({"state": "ready"})).is_ok());
    }
}
