//! `arw cluster remove`: takes a node out, and tells by what its machine could come back.
//!
//! A removal meets a node's key. A machine that still has a token for several nodes makes itself a new key
//! and is back: what it came with is named, or revoked in the same breath.

use serde_json::{Value, json};

use super::changes;
use crate::client::http::{Call, Node};
use crate::client::row::{encoded, list, text};
use crate::commands::confirm::confirm;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::screen::Page;

pub(super) async fn run(
    context: &Context,
    named: &str,
    yes: bool,
    revoke_tokens: bool,
) -> Result<(), Failure> {
    let node = context.node()?;
    let meant = changes::meant(&node, named).await;
    let who = meant.as_ref().map_or_else(|| format!("node {named}"), changes::described);
    confirm(
        context,
        yes,
        &format!("remove {who} from the cluster for good? It can join again only with a new token."),
    )?;
    // What was confirmed is removed, and not whoever is called so by now.
    let id = meant.as_ref().map_or(named, |row| text(row, "/id"));
    let tokens = came_with(&node, id).await;
    if revoke_tokens {
        // First, so that it cannot come back in between.
        for token in &tokens {
            node.answer(Call::delete(&format!("/cluster/tokens/{}", encoded(token)))).await?;
        }
    }
    node.answer(Call::delete(&format!("/cluster/nodes/{}", encoded(id)))).await?;
    if !tokens.is_empty() {
        context.screen.note(&about_tokens(&tokens, revoke_tokens));
    }
    let done = Page::of_one(&[
        ("id", json!(id)),
        ("name", changes::name(meant.as_ref())),
        ("removed", json!(true)),
        ("tokens", json!(tokens)),
        ("tokens_revoked", json!(revoke_tokens)),
    ]);
    context.screen.done(&format!("{who} is removed; it can join again with a new token"), &done)
}

fn about_tokens(tokens: &[String], are_revoked: bool) -> String {
    let all = tokens.join(", ");
    if are_revoked {
        return format!("revoked what it came with: {all}");
    }
    format!(
        "it came with a join token that still lets nodes in ({all}): who has that machine can join again under a new \
         key; `arw cluster token revoke {}` ends that",
        tokens[0]
    )
}

/// The usable tokens with which the node joined. What cannot be found out stands in the way of no removal.
async fn came_with(node: &Node, name: &str) -> Vec<String> {
    let (Ok(cluster), Ok(tokens)) = (node.get("/state/cluster").await, node.get("/cluster/tokens").await)
    else {
        return Vec::new();
    };
    of_node(&cluster, &tokens, name)
}

fn of_node(cluster: &Value, tokens: &Value, name: &str) -> Vec<String> {
    let meant = |row: &&Value| text(row, "/name") == name || text(row, "/id").starts_with(name);
    let id = list(cluster, "/nodes").iter().find(meant).map_or(name, |row| text(row, "/id"));
    let usable = list(tokens, "/tokens").iter().filter(|token| text(token, "/state") == "usable");
    let came = usable.filter(|token| list(token, "/used").iter().any(|used| text(used, "/node") == id));
    came.map(|token| text(token, "/id").to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_usable_tokens_with_which_the_node_came_are_named() {
        let (one, two) = ("0a".repeat(32), "0b".repeat(32));
        let cluster = json!({"nodes": [{"id": one, "name": "box1"}, {"id": two, "name": null}]});
        let token =
            |id: &str, state: &str, by: &str| json!({"id": id, "state": state, "used": [{"node": by}]});
        let tokens = json!({"tokens": [
            token("t1", "usable", &one), token("t2", "used", &one), token("t3", "usable", &two),
            json!({"id": "t4", "state": "usable", "used": []}),
        ]});
        assert_eq!(of_node(&cluster, &tokens, "box1"), ["t1"]);
        assert_eq!(of_node(&cluster, &tokens, "0b0b0b0b"), ["t3"]);
        // A node that is not shown any more is named by its whole id.
        assert_eq!(of_node(&json!({"nodes": []}), &tokens, &two), ["t3"]);
        assert_eq!(of_node(&cluster, &tokens, "box9"), Vec::<String>::new());
    }
}
