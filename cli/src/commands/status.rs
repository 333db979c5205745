//! `arw status`: the node, its runtimes and its models on one screen.

use serde_json::{Value, json};

use crate::client::row::{flag, list, number, text};
use crate::commands::cluster::summary::expiry_in_words;
use crate::commands::model::field_lines;
use crate::commands::runtime::view;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::human;
use crate::output::screen::Page;
use crate::output::table::{Cell, Column, Table};

pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let node = context.node()?;
    let (about, runtimes, models) = futures_util::future::try_join3(
        node.get("/state/node"),
        node.get("/state/runtimes"),
        node.get("/state/models"),
    )
    .await?;
    // Its place among others is worth a line, and no reason to show nothing.
    let cluster = node.get("/state/cluster").await.map(|body| Place::of(&body)).unwrap_or_default();
    let about = about.get("node").cloned().unwrap_or(Value::Null);
    let runtimes = list(&runtimes, "/runtimes").to_vec();
    let models = list(&models, "/models").to_vec();
    let text =
        screenful(context, &Seen { about: &about, place: &cluster, pid: node.pid() }, &runtimes, &models);
    let table = table(&Seen { about: &about, place: &cluster, pid: node.pid() }, &runtimes, &models);
    let body = json!({"node": about, "cluster": cluster.record(), "pid": node.pid(), "runtimes": runtimes, "models": models});
    context.screen.show(&Page {
        records: vec![body.clone()],
        body,
        table,
        text: Some(text),
        empty: String::new(),
    })
}

/// Where the node stands among others.
#[derive(Clone, Debug, Default)]
struct Place {
    /// Its cluster; empty while it is alone, or where that is not known.
    cluster: String,
    is_issuer: bool,
    is_known: bool,
    /// `10.0.0.1:8091`, over UDP.
    address: String,
    certificate_until: String,
    nodes: u64,
    up: u64,
}

impl Place {
    fn of(body: &Value) -> Self {
        let own = list(body, "/nodes").iter().find(|row| text(row, "/source") == "own");
        let count = |state: &str| number(body, &format!("/totals/nodes/{state}")).unwrap_or_default();
        Self {
            cluster: text(body, "/cluster/id").to_owned(),
            is_issuer: flag(body, "/cluster/is_issuer"),
            is_known: true,
            address: own.map_or_else(String::new, |row| text(row, "/address").to_owned()),
            certificate_until: text(body, "/cluster/certificate_until").to_owned(),
            nodes: ["up", "suspect", "down"].map(count).iter().sum(),
            up: count("up"),
        }
    }

    /// For programs; `null` for a node that is alone.
    fn record(&self) -> Value {
        if self.cluster.is_empty() {
            return Value::Null;
        }
        json!({"id": self.cluster, "is_issuer": self.is_issuer, "address": self.address, "certificate_until": self.certificate_until,
            "nodes": self.nodes, "up": self.up})
    }

    fn words(&self) -> String {
        match (self.cluster.as_str(), self.is_known) {
            ("", false) => "unknown".to_owned(),
            ("", true) => "none: this node is alone".to_owned(),
            (cluster, _) => {
                let issuer = if self.is_issuer { ", this node lets others in" } else { "" };
                let reached = match self.address.as_str() {
                    "" => String::new(),
                    address => format!(", reached at {address} over UDP"),
                };
                format!("{cluster}, {} of {} nodes up{issuer}{reached}", self.up, self.nodes)
            }
        }
    }
}

/// What is known of the node itself.
struct Seen<'v> {
    about: &'v Value,
    place: &'v Place,
    pid: Option<u32>,
}

fn screenful(context: &Context, seen: &Seen<'_>, runtimes: &[Value], models: &[Value]) -> String {
    let about = seen.about;
    let (style, now) = (&context.screen.style, context.screen.now());
    let count = |pointer: &str| number(about, pointer).map_or_else(|| "-".to_owned(), human::count);
    let status = text(about, "/status");
    let uptime = human::span_ms(number(about, "/uptime_s").unwrap_or_default().saturating_mul(1_000));
    let mut fields = vec![(
        "node",
        format!("{} ({status}), version {}, up {uptime}", text(about, "/name"), text(about, "/version")),
    )];
    let reasons: Vec<&str> = list(about, "/reasons").iter().filter_map(Value::as_str).collect();
    if !reasons.is_empty() {
        fields.push(("reason", reasons.join("; ")));
    }
    let journal = match text(about, "/journal/reason") {
        "" => text(about, "/journal/status").to_owned(),
        reason => format!("{}: {reason}", text(about, "/journal/status")),
    };
    let pid = seen.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
    fields.extend([
        ("id", text(about, "/id").to_owned()),
        ("address", format!("{}{pid}", text(about, "/http"))),
        ("cluster", seen.place.words()),
        ("state folder", text(about, "/state_dir").to_owned()),
        ("journal", format!("{journal}, {} events", count("/journal/last_seq"))),
        (
            "memory",
            number(about, "/memory/node_rss_bytes").map_or_else(|| "unknown".to_owned(), human::bytes),
        ),
        ("actors", format!("{}, {} dead letters", count("/counts/actors"), count("/counts/dead_letters"))),
        (
            "models",
            if models.is_empty() {
                "none; `arw model import FILE.gguf` imports one".to_owned()
            } else {
                names(models)
            },
        ),
    ]);
    let mut out = field_lines(&fields);
    let expiry = seen.place.certificate_until.parse().ok().and_then(|until| expiry_in_words(until, now));
    if let Some((words, help)) = expiry {
        out.push_str(&format!("\n{words}\n  {help}\n"));
    }
    out.push('\n');
    if runtimes.is_empty() {
        out.push_str("no runtimes; `arw run FILE.gguf` makes one\n");
        return out;
    }
    out.push_str(&view::page(Value::Null, runtimes.to_vec()).table.text(style, now));
    for row in runtimes.iter().filter(|row| !text(row, "/hint").is_empty()) {
        out.push_str(&format!("\n{}: {}\n", text(row, "/id"), human::printable(text(row, "/hint"))));
    }
    out
}

fn names(models: &[Value]) -> String {
    let names: Vec<&str> = models.iter().map(|row| text(row, "/name")).collect();
    names.join(", ")
}

/// One row: the node in numbers.
fn table(seen: &Seen<'_>, runtimes: &[Value], models: &[Value]) -> Table {
    let about = seen.about;
    let mut table = Table::new(&[
        Column::new("name", "name"),
        Column::new("status", "status"),
        Column::new("version", "version"),
        Column::new("started_at", "started"),
        Column::new("http", "address"),
        Column::new("state_dir", "state folder"),
        Column::new("runtimes", "runtimes"),
        Column::new("runtimes_ready", "ready"),
        Column::new("models", "models"),
        Column::new("node_rss_bytes", "memory"),
        Column::programs("node_id"),
        Column::programs("pid"),
        Column::programs("cluster"),
        Column::programs("cluster_address"),
        Column::programs("certificate_until"),
    ]);
    let given = |text: &str| if text.is_empty() { Cell::Missing } else { Cell::Text(text.to_owned()) };
    let word = |pointer: &str| Cell::Text(text(about, pointer).to_owned());
    let ready = runtimes.iter().filter(|row| text(row, "/state") == "ready").count();
    table.push(vec![
        word("/name"),
        word("/status"),
        word("/version"),
        Cell::Time(text(about, "/started_at").to_owned()),
        word("/http"),
        word("/state_dir"),
        Cell::Count(runtimes.len() as u64),
        Cell::Count(ready as u64),
        Cell::Count(models.len() as u64),
        number(about, "/memory/node_rss_bytes").map_or(Cell::Missing, Cell::Bytes),
        word("/id"),
        seen.pid.map_or(Cell::Missing, |pid| Cell::Text(pid.to_string())),
        given(&seen.place.cluster),
        given(&seen.place.address),
        given(&seen.place.certificate_until),
    ]);
    table
}
