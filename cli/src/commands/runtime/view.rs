//! Runtimes as tables and in words.

use arw_kit::moment::WallTime;
use serde_json::Value;

use crate::client::row::{flag, number, text};
use crate::commands::events::Happening;
use crate::commands::model::field_lines;
use crate::output::human;
use crate::output::screen::Page;
use crate::output::style::Tone;
use crate::output::table::{Cell, Column, Table};

/// How a state is meant, for actors and runtimes alike.
pub(crate) fn tone(state: &str) -> Tone {
    match state {
        "ready" | "running" | "ok" => Tone::Good,
        "starting" | "warming" | "draining" | "stopping" => Tone::Notice,
        "degraded" | "backoff" => Tone::Warning,
        "quarantined" | "failed" | "failing" => Tone::Bad,
        "stopped" => Tone::Faint,
        _ => Tone::Plain,
    }
}

/// Why a runtime is in its state, in words; never empty.
pub(crate) fn why(row: &Value) -> String {
    let reason = text(row, "/reason");
    if !reason.is_empty() {
        return reason.to_owned();
    }
    let exit = row.get("last_exit").and_then(human::exit_in_words);
    exit.unwrap_or_else(|| "the node gave no reason".to_owned())
}

/// What to do about it.
pub(crate) fn hint(row: &Value, otherwise: &str) -> String {
    match text(row, "/hint") {
        "" => otherwise.to_owned(),
        hint => hint.to_owned(),
    }
}

/// `1 of 5`, of restarts.
pub(crate) fn budget(row: &Value, pointer: &str) -> Option<String> {
    let used = number(row, &format!("{pointer}/used"))?;
    let max = number(row, &format!("{pointer}/max"))?;
    Some(format!("{used} of {max}"))
}

const COLUMNS: [Column; 29] = [
    Column::new("id", "id"),
    Column::new("state", "state"),
    Column::new("since", "since"),
    Column::new("adapter", "adapter").yielding(),
    Column::new("model", "model"),
    Column::people("restarts"),
    Column::people("queue").yielding(),
    Column::new("memory_resident_bytes", "memory").yielding(),
    Column::people("reason").wrapping(),
    Column::programs("profile"),
    Column::programs("severity"),
    Column::programs("reason"),
    Column::programs("hint"),
    Column::programs("pid"),
    Column::programs("port"),
    Column::programs("socket"),
    Column::programs("auto_start"),
    Column::programs("idle_after_s"),
    Column::programs("restarts_used"),
    Column::programs("restarts_max"),
    Column::programs("restarts_remaining"),
    Column::programs("restarts_window_s"),
    Column::programs("restarts_reset_at"),
    Column::programs("queue_waiting"),
    Column::programs("queue_max"),
    Column::programs("in_flight"),
    Column::programs("prompt_tokens"),
    Column::programs("completion_tokens"),
    Column::programs("accelerator"),
];

pub(crate) fn page(body: Value, records: Vec<Value>) -> Page {
    let mut table = Table::new(&COLUMNS);
    for row in &records {
        table.push(cells(row));
    }
    let empty = "no runtimes; `arw runtime add` or `arw run FILE.gguf` makes one".to_owned();
    Page { body, records, table, text: None, empty }
}

fn cells(row: &Value) -> Vec<Cell> {
    let word = |pointer: &str| match text(row, pointer) {
        "" => Cell::Missing,
        text => Cell::Text(text.to_owned()),
    };
    let count = |pointer: &str| number(row, pointer).map_or(Cell::Missing, Cell::Count);
    let time = |pointer: &str| match text(row, pointer) {
        "" => Cell::Missing,
        at => Cell::Time(at.to_owned()),
    };
    let state = text(row, "/state");
    let waiting = number(row, "/queue/waiting").zip(number(row, "/queue/max"));
    vec![
        word("/id"),
        Cell::Word(state.to_owned(), tone(state)),
        time("/since"),
        word("/adapter"),
        word("/model"),
        budget(row, "/restart_budget").map_or(Cell::Missing, Cell::Text),
        waiting.map_or(Cell::Missing, |(waiting, max)| Cell::Text(format!("{waiting} of {max}"))),
        number(row, "/memory/resident_bytes").map_or(Cell::Missing, Cell::Bytes),
        word("/reason"),
        word("/profile"),
        word("/severity"),
        word("/reason"),
        word("/hint"),
        count("/pid"),
        count("/port"),
        word("/socket"),
        Cell::Flag(flag(row, "/auto_start")),
        number(row, "/idle_after_s").map_or_else(|| word("/idle_after_s"), Cell::Count),
        count("/restart_budget/used"),
        count("/restart_budget/max"),
        count("/restart_budget/remaining"),
        count("/restart_budget/window_s"),
        time("/restart_budget/resets_at"),
        count("/queue/waiting"),
        count("/queue/max"),
        count("/in_flight"),
        count("/usage/prompt_tokens"),
        count("/usage/completion_tokens"),
        word("/accelerator"),
    ]
}

/// Everything about one runtime, for a person who wants to know why it is as it is.
pub(crate) fn details(row: &Value, history: &[Happening], now: WallTime) -> String {
    let since = human::ago(text(row, "/since"), now);
    let count = |pointer: &str| number(row, pointer).map_or_else(|| "-".to_owned(), human::count);
    let size = |pointer: &str| number(row, pointer).map_or_else(|| "unknown".to_owned(), human::bytes);
    let mut fields = vec![
        ("runtime", text(row, "/id").to_owned()),
        ("state", format!("{} (since {since})", text(row, "/state"))),
    ];
    for (name, pointer) in [("reason", "/reason"), ("do", "/hint")] {
        if !text(row, pointer).is_empty() {
            fields.push((name, text(row, pointer).to_owned()));
        }
    }
    fields.extend([
        ("adapter", text(row, "/adapter").to_owned()),
        ("model", text(row, "/model").to_owned()),
        ("process", served(row)),
        ("restarts", restarts_in_words(row, "/restart_budget", now)),
        ("last exit", last_exit(row, now)),
        ("unloads", unloads(row)),
        ("health", health(row)),
        (
            "requests",
            format!(
                "{} in progress, {} waiting of at most {}",
                count("/in_flight"),
                count("/queue/waiting"),
                count("/queue/max")
            ),
        ),
        (
            "usage",
            format!(
                "{} requests, {} prompt tokens ({} cached), {} completion tokens",
                count("/usage/requests"),
                count("/usage/prompt_tokens"),
                count("/usage/cached_tokens"),
                count("/usage/completion_tokens")
            ),
        ),
        (
            "memory",
            format!("{} held, {} needed", size("/memory/resident_bytes"), size("/memory/needed_bytes")),
        ),
        ("accelerator", text(row, "/accelerator").to_owned()),
        ("sandbox", sandbox(row)),
    ]);
    let mut out = field_lines(&fields);
    out.push_str(&history_in_words(history, now));
    out
}

/// `1 of 5 used within 5 min; 4 left; all back in 3 min`.
pub(crate) fn restarts_in_words(row: &Value, pointer: &str, now: WallTime) -> String {
    let Some(budget) = budget(row, pointer) else { return "no budget of its own".to_owned() };
    let (used, max) = (number(row, &format!("{pointer}/used")), number(row, &format!("{pointer}/max")));
    let left = max.unwrap_or_default().saturating_sub(used.unwrap_or_default());
    let window = number(row, &format!("{pointer}/window_s")).unwrap_or_default();
    let mut words =
        format!("{budget} used within {}; {left} left", human::span_ms(window.saturating_mul(1_000)));
    let resets_at = text(row, &format!("{pointer}/resets_at"));
    if !resets_at.is_empty() && used.is_some_and(|used| used > 0) {
        words.push_str(&format!("; all back {}", human::ago(resets_at, now)));
    }
    words
}

/// How it last ended and when.
pub(crate) fn last_exit(row: &Value, now: WallTime) -> String {
    let Some(exit) = row.get("last_exit").and_then(human::exit_in_words) else {
        return "never ended".to_owned();
    };
    format!("{exit}, {}", human::ago(text(row, "/last_exit/at"), now))
}

/// What happened to it, oldest first.
pub(crate) fn history_in_words(history: &[Happening], now: WallTime) -> String {
    if history.is_empty() {
        return String::new();
    }
    let mut out = "\nhistory:\n".to_owned();
    for happening in history {
        out.push_str(&format!(
            "  {:<12} {}\n",
            human::ago(&happening.at, now),
            human::one_line(&happening.message)
        ));
    }
    out
}

fn unloads(row: &Value) -> String {
    match number(row, "/idle_after_s") {
        Some(seconds) => {
            format!("after {} without a request", human::span_ms(seconds.saturating_mul(1_000)))
        }
        None if text(row, "/idle_after_s") == "off" => "never by itself".to_owned(),
        None => "unknown".to_owned(),
    }
}

fn served(row: &Value) -> String {
    let Some(pid) = number(row, "/pid") else { return "none runs".to_owned() };
    let at = match (text(row, "/socket"), number(row, "/port")) {
        ("", Some(port)) => format!(", serving on 127.0.0.1:{port}"),
        ("", None) => String::new(),
        (socket, _) => format!(", serving on {socket}"),
    };
    format!("{pid}{at}")
}

fn health(row: &Value) -> String {
    let probes = ["startup", "liveness", "work"].map(|probe| {
        let status = text(row, &format!("/health/{probe}/status"));
        let status = if status.is_empty() { "unknown" } else { status };
        let failures = number(row, &format!("/health/{probe}/failures")).unwrap_or_default();
        let took = number(row, &format!("/health/{probe}/latency_ms"))
            .or(number(row, &format!("/health/{probe}/took_ms")));
        let took = took.map_or_else(String::new, |ms| format!(" ({})", human::span_ms(ms)));
        let failed = if failures > 0 {
            format!(", {failures} failure{}", human::plural(failures))
        } else {
            String::new()
        };
        format!("{probe} {status}{took}{failed}")
    });
    probes.join("; ")
}

fn sandbox(row: &Value) -> String {
    if !row.get("sandbox").is_some_and(Value::is_object) {
        return "not started".to_owned();
    }
    let landlock = match number(row, "/sandbox/landlock_abi") {
        Some(abi) => format!("Landlock ABI {abi}"),
        None => "no Landlock".to_owned(),
    };
    let word = |pointer: &str, yes: &'static str, no: &'static str| if flag(row, pointer) { yes } else { no };
    let network = text(row, "/sandbox/network").replace('_', " ");
    let unix = match text(row, "/sandbox/unix_connect") {
        "denied" => "connects to no Unix socket",
        "own_folder" => "connects to Unix sockets of its own folder only",
        _ => "may connect to Unix sockets of other programs",
    };
    format!(
        "{landlock}, {}, {}, network: {network}, {unix}",
        word("/sandbox/seccomp", "seccomp", "no seccomp"),
        word("/sandbox/capabilities_dropped", "no capabilities", "capabilities kept")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn details_answer_why_it_restarted_in_plain_words() {
        let now: WallTime = "2026-11-24T12:00:00Z".parse().unwrap();
        let row = json!({"id": "smollm2", "adapter": "llama_cpp", "model": "SmolLM2", "state": "ready",
            "reason": null, "hint": null, "pid": 4242, "port": null, "socket": "/s/engine.sock",
            "since": "2026-11-24T11:59:50Z", "idle_after_s": 1800,
            "health": {"startup": {"status": "ok", "took_ms": 412}, "liveness": {"status": "failing", "latency_ms": 1, "failures": 2}},
            "restart_budget": {"window_s": 300, "max": 5, "used": 1, "remaining": 4, "resets_at": "2026-11-24T12:04:00Z"},
            "last_exit": {"reason": "process_signal", "detail": "killed by SIGKILL (by another process, not by ARW)", "at": "2026-11-24T11:59:57Z"},
            "queue": {"waiting": 0, "max": 64}, "in_flight": 0,
            "usage": {"requests": 3, "prompt_tokens": 9000, "completion_tokens": 40, "cached_tokens": 0},
            "memory": {"needed_bytes": 200_000_000, "resident_bytes": null},
            "accelerator": "cpu",
            "sandbox": {"landlock_abi": 7, "seccomp": true, "capabilities_dropped": true, "network": "unix_socket_only", "unix_connect": "denied"}});
        let history = [Happening { at: "2026-11-24T11:59:57Z".to_owned(), message: "restarted".to_owned() }];
        let text = details(&row, &history, now);
        for wanted in [
            "state:        ready (since 10 s ago)",
            "process:      4242, serving on /s/engine.sock",
            "restarts:     1 of 5 used within 5 min; 4 left; all back in 4 min",
            "last exit:    killed by SIGKILL (by another process, not by ARW), 3 s ago",
            "health:       startup ok (412 ms); liveness failing (1 ms), 2 failures; work unknown",
            "unloads:      after 30 min without a request",
            "usage:        3 requests, 9,000 prompt tokens (0 cached), 40 completion tokens",
            "memory:       unknown held, 200 MB needed",
            "sandbox:      Landlock ABI 7, seccomp, no capabilities, network: unix socket only, connects to no Unix socket",
            "history:\n  3 s ago      restarted",
        ] {
            assert!(text.contains(wanted), "{text}\nlacks {wanted}");
        }
    }

    #[test]
    fn a_runtime_that_never_started_has_words_too() {
        let now = WallTime::from_millis(0);
        let text = details(&json!({"id": "a", "state": "stopped"}), &[], now);
        for wanted in ["none runs", "no budget of its own", "never ended", "not started"] {
            assert!(text.contains(wanted), "{text}");
        }
        assert_eq!(unloads(&json!({"idle_after_s": "off"})), "never by itself");
        assert_eq!(why(&json!({})), "the node gave no reason");
    }
}
