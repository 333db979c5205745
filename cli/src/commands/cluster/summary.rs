//! The cluster on one screen: sums, nodes, and what is wrong with which.

use std::time::Duration;

use arw_kit::moment::WallTime;
use arw_transport::certificate::CERTIFICATE_LIFETIME;
use serde_json::Value;

use super::nodes;
use crate::client::row::{flag, list, number, text};
use crate::commands::model::field_lines;
use crate::output::human;
use crate::output::style::Style;

pub(super) fn screenful(body: &Value, style: &Style, now: WallTime) -> String {
    let rows = list(body, "/nodes");
    let mut fields = vec![("cluster", cluster(body, rows))];
    fields.extend(reached_at(body).map(|words| ("reached at", words)));
    if let Some(at) = certificate_until(body) {
        fields.push(("certificate", format!("until {at} ({})", human::ago(at, now))));
    }
    fields.extend([("nodes", counts(body)), ("machines", machines(body)), ("requests", requests(body))]);
    let mut out = field_lines(&fields);
    out.push('\n');
    if rows.is_empty() {
        out.push_str("the node has not looked at its cluster yet\n");
        return out;
    }
    out.push_str(&nodes::table(rows).text(style, now));
    let troubles = rows.iter().filter_map(|row| trouble(row, now));
    for words in expiry(body, now).into_iter().chain(troubles) {
        out.push_str(&format!("\n{}\n", human::printable(&words)));
    }
    out
}

/// Whether nothing needs anybody: every node that has not left is up and well, and this one stays a member.
pub(super) fn is_well(body: &Value, now: WallTime) -> bool {
    let rows = list(body, "/nodes");
    let is_well = |row: &Value| {
        text(row, "/state") == "left" || (text(row, "/state") == "up" && trouble(row, now).is_none())
    };
    !rows.is_empty() && rows.iter().all(is_well) && expiry(body, now).is_none()
}

fn certificate_until(body: &Value) -> Option<&str> {
    Some(text(body, "/cluster/certificate_until")).filter(|at| !at.is_empty())
}

/// A certificate is renewed when a third of its time is left. Where a day later it still is not, somebody
/// should know.
const RENEWED_BEFORE: Duration =
    Duration::from_secs(CERTIFICATE_LIFETIME.as_secs() / 3).saturating_sub(Duration::from_secs(24 * 3600));

/// That this node is about to fall out of its cluster, and what to do.
pub(crate) fn expiry_in_words(until: WallTime, now: WallTime) -> Option<(String, &'static str)> {
    let left = until.since(now);
    if left >= RENEWED_BEFORE {
        return None;
    }
    let when = human::ago(&until.to_string(), now);
    Some(if left.is_zero() {
        let words =
            format!("the certificate of this node ended {when}: it is no member of its cluster any more");
        (
            words,
            "join again with a new token: `arw cluster token create` where the cluster was made, `arw join TOKEN` here",
        )
    } else {
        let words = format!("the certificate of this node ends {when} and was not renewed");
        (words, "make sure that the node which made the cluster runs and can be reached: only it renews")
    })
}

fn expiry(body: &Value, now: WallTime) -> Option<String> {
    let until = certificate_until(body)?.parse().ok()?;
    expiry_in_words(until, now).map(|(words, help)| format!("{words}\n  {help}"))
}

/// The node that made the cluster, and its row, if it is shown.
pub(super) fn home(body: &Value) -> (String, Vec<Value>) {
    let home = text(body, "/home");
    if home.is_empty() {
        let alone = "none: this node is alone; `arw cluster token create` makes it the home of a cluster\n";
        return (alone.to_owned(), Vec::new());
    }
    let row = list(body, "/nodes").iter().find(|row| text(row, "/id") == home).cloned();
    let mut fields = vec![("home", home.to_owned())];
    match &row {
        Some(row) => fields.extend([
            ("name", nodes::called(row).to_owned()),
            ("state", nodes::state(row)),
            ("address", text(row, "/address").to_owned()),
        ]),
        None => fields.push(("state", "this node has not met it since it was started".to_owned())),
    }
    (field_lines(&fields), row.into_iter().collect())
}

fn cluster(body: &Value, rows: &[Value]) -> String {
    let id = text(body, "/cluster/id");
    if id.is_empty() {
        return "none: this node is alone; `arw cluster token create` lets others join it".to_owned();
    }
    let home = text(body, "/home");
    let home = rows.iter().find(|row| !home.is_empty() && text(row, "/id") == home);
    let home = home.map(|row| format!(", home is {}", nodes::called(row))).unwrap_or_default();
    let issuer = if flag(body, "/cluster/is_issuer") { ", this node lets others in" } else { "" };
    format!("{id}{home}{issuer}")
}

/// Where others are told that this node is, and how that was found out.
fn reached_at(body: &Value) -> Option<String> {
    match (text(body, "/cluster/address"), text(body, "/cluster/address_by")) {
        ("", _) => None,
        (address, "") => Some(address.to_owned()),
        (address, by) => Some(format!("{address}, by {by}")),
    }
}

fn counts(body: &Value) -> String {
    let count = |state: &str| number(body, &format!("/totals/nodes/{state}")).unwrap_or_default();
    let states = ["up", "suspect", "down", "left"].map(|state| (state, count(state)));
    let mut words: Vec<String> = states
        .iter()
        .filter(|(state, count)| *count > 0 || *state == "up")
        .map(|(state, count)| format!("{} {state}", human::count(*count)))
        .collect();
    if let Some(draining) = number(body, "/totals/draining").filter(|draining| *draining > 0) {
        words.push(format!("{} draining", human::count(draining)));
    }
    words.join(", ")
}

fn machines(body: &Value) -> String {
    let sum = |name: &str| number(body, &format!("/totals/{name}")).unwrap_or_default();
    let (cores, cards) = (sum("usable_cores"), sum("accelerators"));
    format!(
        "{} core{}, {} of {} free, {} accelerator{}",
        human::count(cores),
        human::plural(cores),
        human::bytes(sum("memory_available_bytes")),
        human::bytes(sum("memory_total_bytes")),
        human::count(cards),
        human::plural(cards)
    )
}

fn requests(body: &Value) -> String {
    let sum = |name: &str| human::count(number(body, &format!("/totals/{name}")).unwrap_or_default());
    format!(
        "{} in flight, {} waiting; {} of {} runtimes serve",
        sum("in_flight"),
        sum("waiting"),
        sum("runtimes_serving"),
        sum("runtimes")
    )
}

/// What is wrong with a node, and what to do about it.
fn trouble(row: &Value, now: WallTime) -> Option<String> {
    let is_gone = !nodes::is_alive(row);
    let is_well = matches!(text(row, "/health/state"), "ok" | "info" | "");
    if is_well && !is_gone {
        return None;
    }
    let since =
        if is_gone { format!(" since {}", human::ago(text(row, "/since"), now)) } else { String::new() };
    let reason = match text(row, "/health/reason") {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let hint = match text(row, "/health/hint") {
        "" => String::new(),
        hint => format!("\n  {hint}"),
    };
    Some(format!("{} is {}{since}{reason}{hint}", nodes::called(row), nodes::state(row)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> WallTime {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_certificate_that_should_have_been_renewed_is_told_before_it_ends() {
        let days = |days: u64| now() + Duration::from_secs(days * 24 * 3600);
        for days_left in [30, 20, 10, 9] {
            assert_eq!(expiry_in_words(days(days_left), now()), None, "{days_left}");
        }
        for days_left in [8, 1] {
            let (words, help) = expiry_in_words(days(days_left), now()).unwrap();
            assert!(words.contains("ends in") && help.contains("only it renews"), "{words}: {help}");
        }
        let (words, help) = expiry_in_words(now() - Duration::from_secs(3600), now()).unwrap();
        assert!(words.contains("ended 60 min ago") && help.contains("arw join"), "{words}: {help}");
    }

    #[test]
    fn a_cluster_is_well_when_every_node_that_has_not_left_is() {
        let body = |states: &[(&str, &str)], until: &str| {
            let row = |(state, health): &(&str, &str)| json!({"state": state, "health": {"state": health}});
            json!({"nodes": states.iter().map(row).collect::<Vec<_>>(), "cluster": {"certificate_until": until}})
        };
        let far = "2026-12-20T12:00:00Z";
        let well = |states: &[(&str, &str)]| is_well(&body(states, far), now());
        assert!(well(&[("up", "ok"), ("up", "info"), ("left", "error")]));
        for (state, health) in [("down", "ok"), ("suspect", "ok"), ("up", "warning"), ("up", "error")] {
            assert!(!well(&[("up", "ok"), (state, health)]), "{state} {health}");
        }
        assert!(!well(&[]), "nobody has looked yet");
        assert!(!is_well(&body(&[("up", "ok")], "2026-11-26T12:00:00Z"), now()));
        assert!(is_well(&json!({"nodes": [{"state": "up"}], "cluster": null}), now()), "alone and well");
    }
}
