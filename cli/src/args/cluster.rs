//! Commands for the cluster.

use clap::Subcommand;

use super::join::JoinTokenCommand;

/// `arw cluster …`
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the cluster on one screen: sums, nodes, and what is wrong with which
    #[command(
        after_help = "Examples:\n  arw cluster status --watch\n  arw cluster status --watch | jq 'select(.state == \"down\")'\n\nWatched on a terminal it is redrawn, into a pipe it is one JSON row for each change, and with ACCESSIBLE=1\none line of text for each."
    )]
    Status {
        /// Keep showing it as it changes, until Ctrl-C
        #[arg(long, short)]
        watch: bool,
    },
    /// Show all nodes
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  arw cluster nodes\n  arw cluster nodes -o ndjson | jq -r 'select(.health.state != \"ok\") | .name'"
    )]
    Nodes,
    /// Manage join tokens, with which other machines join
    #[command(subcommand)]
    Token(JoinTokenCommand),
    /// Let a node finish what it has and give it nothing new
    Drain {
        /// Its name, its id or the beginning of it, as `arw cluster nodes` shows them
        node: String,
    },
    /// Give a drained node new work again
    Resume {
        /// Its name, its id or the beginning of it, as `arw cluster nodes` shows them
        node: String,
    },
    /// Take a node out of the cluster for good; on the node that made it
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name, its id or the beginning of it, as `arw cluster nodes` shows them
        node: String,
    },
    /// Take this node out of its cluster
    Leave,
}
