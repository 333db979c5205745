//! `arw cluster …`: every node of the cluster, as the asked one knows it.

mod backup;
mod facts;
mod nodes;
mod remove;
mod summary;
mod token;

use serde_json::Value;

use crate::args::ClusterCommand;
use crate::client::http::Call;
use crate::client::row::{encoded, list};
use crate::commands::watching::{self, Change, Watched};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::formats::Format;
use crate::output::screen::{Page, Screen};
use crate::output::table::Table;

pub(crate) async fn run(context: &Context, command: ClusterCommand) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status { watch: false } => {
            let body = context.node()?.get("/state/cluster").await?;
            let text = summary::screenful(&body, &context.screen.style, context.screen.now());
            context.screen.show(&Page { text: Some(text), ..page(body) })
        }
        ClusterCommand::Status { watch: true } => watch(context).await,
        ClusterCommand::Nodes => {
            let body = context.node()?.get("/state/cluster").await?;
            context.screen.show(&page(body))
        }
        ClusterCommand::Token(command) => token::run(context, command).await,
        ClusterCommand::Drain { node } => {
            context
                .node()?
                .answer(Call::post(&format!("/cluster/nodes/{}/drain", encoded(&node)), None))
                .await?;
            context
                .screen
                .note(&format!("node {node} gets nothing new; `arw cluster resume {node}` ends that"));
            Ok(())
        }
        ClusterCommand::Resume { node } => {
            context
                .node()?
                .answer(Call::post(&format!("/cluster/nodes/{}/resume", encoded(&node)), None))
                .await?;
            context.screen.note(&format!("node {node} gets new work again"));
            Ok(())
        }
        ClusterCommand::Remove { node, revoke_tokens } => remove::run(context, &node, revoke_tokens).await,
        ClusterCommand::Home => {
            let body = context.node()?.get("/state/cluster").await?;
            let (text, records) = summary::home(&body);
            let table = nodes::table(&records);
            context.screen.show(&Page { text: Some(text), records, table, ..page(body) })
        }
        ClusterCommand::Backup { file } => backup::backup(context, &file),
        ClusterCommand::Restore { file } => backup::restore(context, &file),
        ClusterCommand::Leave => {
            context.node()?.answer(Call::post("/cluster/leave", None)).await?;
            context.screen.note("this node is in no cluster any more");
            Ok(())
        }
    }
}

fn page(body: Value) -> Page {
    let records = list(&body, "/nodes").to_vec();
    let table = nodes::table(&records);
    Page { body, records, table, text: None, empty: "the node has not looked at its cluster yet".to_owned() }
}

async fn watch(context: &Context) -> Result<(), Failure> {
    let node = context.node()?;
    let screen = &context.screen;
    // Into a pipe a program reads along, unless a person says otherwise.
    let is_piped = screen.is_for_people() && !screen.style.terminal_out && !screen.style.accessible;
    if is_piped {
        let for_programs = Screen::new(screen.style, Format::Ndjson);
        return watching::watch(&for_programs, &node, WatchedCluster::default()).await;
    }
    watching::watch(screen, &node, WatchedCluster::default()).await
}

/// The cluster, and what of it was shown last.
#[derive(Default)]
struct WatchedCluster(facts::Nodes);

impl Watched for WatchedCluster {
    const COMMAND: &'static str = "arw cluster nodes";

    fn stream(&self) -> String {
        "/state/cluster/stream".to_owned()
    }

    fn drawn(&self, body: &Value, screen: &Screen) -> String {
        summary::screenful(body, &screen.style, screen.now())
    }

    fn news(&mut self, body: &Value) -> Vec<Change> {
        let now = facts::Nodes::of(body);
        let news = now.changes_since(&self.0);
        self.0 = now;
        news
    }

    fn table(&self, record: &Value) -> Table {
        nodes::table(std::slice::from_ref(record))
    }
}
