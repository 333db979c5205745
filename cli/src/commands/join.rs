//! `arw join`: makes the node of this machine a member of a cluster.

use std::io::Read as _;
use std::time::Duration;

use arw_transport::join::LONGEST_JOIN;
use serde_json::{Value, json};

use super::ensure_node::running_node;
use super::up;
use crate::args::Join;
use crate::client::http::Call;
use crate::client::row::{list, text};
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// As long as the node may take, and the start of its network: who gives up before it is told of a failure
/// while the node becomes a member.
const JOINED_WITHIN: Duration = LONGEST_JOIN.saturating_add(Duration::from_secs(5));
/// A token has about 200 characters.
const TOKEN_BYTES_MAX: u64 = 4096;

pub(crate) async fn run(context: &Context, join: &Join) -> Result<(), Failure> {
    let token = token(&join.token)?;
    match running_node(context).await? {
        Some(node) => {
            let call = Call::post("/cluster/join", Some(json!({ "token": token }))).within(JOINED_WITHIN);
            let (_, joined) = node.answer(call).await?;
            show(context, &joined)
        }
        None => up::run(context, &join.up, Some(token)).await,
    }
}

fn token(given: &str) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    std::io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text).map_err(|error| {
        let help = "pipe the token in: arw cluster token create | arw join -";
        Failure::new(Exit::Usage, "no token on standard input", error.to_string(), help)
    })?;
    Ok(text.trim().to_owned())
}

fn show(context: &Context, joined: &Value) -> Result<(), Failure> {
    if !context.screen.is_for_people() {
        return context.screen.data(&format!("{joined}\n"));
    }
    let roles: Vec<&str> = list(joined, "/roles").iter().filter_map(Value::as_str).collect();
    context.screen.data(&format!(
        "this node is in the cluster {cluster} now, as {roles}; others reach it at {address}\n\n  arw cluster status\n",
        cluster = text(joined, "/cluster"),
        roles = roles.join(" and "),
        address = text(joined, "/address"),
    ))
}
