//! Commands for the cluster.

use std::path::PathBuf;

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
        /// Revoke the tokens too with which it came and that still let nodes in
        #[arg(long)]
        revoke_tokens: bool,
    },
    /// Show which node made the cluster, lets nodes in and renews their certificates
    Home,
    /// Write what only the node that made the cluster has into a new file: its keys, and what it knows of
    /// members
    #[command(
        after_help = "Example:\n  arw cluster backup /media/stick/cluster.backup\n\nThe node may run. Whoever has the file has the cluster: only its owner may read it."
    )]
    Backup {
        /// A file that does not exist yet
        file: PathBuf,
    },
    /// Make this machine the node that made the cluster, from a backup, when the old machine is gone
    #[command(
        after_help = "Example:\n  arw cluster restore /media/stick/cluster.backup && arw up\n\nInto a state folder without a cluster, while no node runs on it. Join tokens from before let nobody in any more."
    )]
    Restore {
        /// What `arw cluster backup` wrote
        file: PathBuf,
    },
    /// Take this node out of its cluster
    Leave,
}
