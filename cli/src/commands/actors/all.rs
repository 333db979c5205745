//! The trees of all nodes of a cluster, one under the other.
//!
//! Owns how they are gathered through one node, and how it is shown that one of them cannot be had. Refuses
//! to draw a tree (`tree.rs`).

use arw_kit::moment::WallTime;
use futures_util::{StreamExt, stream};
use serde_json::{Map, Value, json};

use super::tree;
use crate::client::error::ClientError;
use crate::client::http::Node;
use crate::client::row::{encoded, list, text};
use crate::failure::Failure;
use crate::output::human;
use crate::output::screen::{Page, Screen};
use crate::output::style::Style;
use crate::output::table::{Cell, Column, Table};

/// Enough to be done in one wait for a node that does not answer, without all of a large cluster's trees
/// being on their way at once.
const AT_ONCE: usize = 8;

/// One node's tree, or why there is none.
#[derive(Debug)]
struct Answered {
    id: String,
    name: String,
    tree: Result<Value, String>,
}

pub(super) async fn show(screen: &Screen, node: &Node) -> Result<(), Failure> {
    let members = members(node).await?;
    let trees = stream::iter(members).map(|(id, name)| async {
        let path = format!("/state/actors?node={}", encoded(&id));
        let tree = node.get(&path).await.map_err(|error| error.to_string());
        Answered { id, name, tree }
    });
    let answered: Vec<Answered> = trees.buffered(AT_ONCE).collect().await;
    screen.show(&page(&answered, &screen.style, screen.now()))
}

/// Ids and names of all nodes, in the node's own order. A node that knows no cluster is all there is.
async fn members(node: &Node) -> Result<Vec<(String, String)>, Failure> {
    let pair = |row: &Value| (text(row, "/id").to_owned(), text(row, "/name").to_owned());
    match node.get("/state/cluster").await {
        Ok(body) if !list(&body, "/nodes").is_empty() => Ok(list(&body, "/nodes").iter().map(pair).collect()),
        Ok(_) => own(node).await,
        Err(ClientError::Refused(problem)) if problem.status == 404 => own(node).await,
        Err(error) => Err(error.into()),
    }
}

async fn own(node: &Node) -> Result<Vec<(String, String)>, Failure> {
    let body = node.get("/state/node").await?;
    Ok(vec![(text(&body, "/node/id").to_owned(), text(&body, "/node/name").to_owned())])
}

fn page(answered: &[Answered], style: &Style, now: WallTime) -> Page {
    let columns: Vec<Column> =
        [Column::programs("node"), Column::programs("node_name")].into_iter().chain(tree::COLUMNS).collect();
    let mut page = Page {
        body: answered.iter().map(document).collect(),
        records: Vec::new(),
        table: Table::new(&columns),
        text: Some(String::new()),
        empty: "no nodes".to_owned(),
    };
    let mut parts = Vec::new();
    for one in answered {
        let title =
            format!("{} ({})", human::one_line(&one.name), one.id.chars().take(8).collect::<String>());
        let body = match &one.tree {
            Ok(body) => body,
            Err(why) => {
                parts.push(format!("{title}: not shown: {}\n", human::one_line(why)));
                page.records.push(json!({"node": one.id, "node_name": one.name, "error": why}));
                continue;
            }
        };
        parts.push(format!("{title}\n{}", tree::drawn(body, style, now)));
        for line in tree::rows(body) {
            let names = [("node", &one.id), ("node_name", &one.name)];
            let mut record: Map<String, Value> =
                names.map(|(name, value)| (name.to_owned(), value.clone().into())).into_iter().collect();
            if let Value::Object(row) = tree::without_children(line.row) {
                record.extend(row);
            }
            let mut cells = vec![Cell::Text(one.id.clone()), Cell::Text(one.name.clone())];
            cells.extend(tree::cells(line.row, text(line.row, "/path").to_owned()));
            page.table.push(cells);
            page.records.push(record.into());
        }
    }
    page.text = Some(parts.join("\n"));
    page
}

/// A node's own body, with whose it is.
fn document(one: &Answered) -> Value {
    let (body, error) = match &one.tree {
        Ok(body) => (body.clone(), Value::Null),
        Err(why) => (Value::Null, why.clone().into()),
    };
    json!({"node": one.id, "node_name": one.name, "actors": body, "error": error})
}
