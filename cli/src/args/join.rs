//! Commands that let machines into a cluster: join tokens, and joining with one.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::duration;
use super::node::Up;

/// `arw join`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  arw join arw1-…\n  ssh first-machine arw cluster token create | arw join -\n\nA node that runs on the state folder joins at once. Where none runs, this starts one as `arw up` does, which joins and stays;\nrun again it starts the member that the node is by then. A token in ARW_JOIN_TOKEN or on standard input (`-`) is in no list of processes."
)]
pub(crate) struct Join {
    /// What `arw cluster token create` printed on a node of the cluster; `-` reads it from standard input
    #[arg(env = "ARW_JOIN_TOKEN", hide_env_values = true)]
    pub(crate) token: String,
    #[command(flatten)]
    pub(crate) up: Up,
}

/// `arw cluster token …`
#[derive(Debug, Subcommand)]
pub(crate) enum JoinTokenCommand {
    /// Create a join token and print it, this once; the first one makes this node the first of a cluster
    Create(JoinTokenCreate),
    /// Show all join tokens, without their secrets
    #[command(visible_alias = "ls")]
    List,
    /// Revoke a join token: it lets nobody in any more; who has joined with it stays
    Revoke {
        /// Its id, as `arw cluster token list` shows it
        id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// `arw cluster token create`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  arw cluster token create\n  arw cluster token create --role worker --ttl 10m\n  arw cluster token create --uses 20 --ttl 1d --address 203.0.113.7:8091"
)]
pub(crate) struct JoinTokenCreate {
    /// What the machine becomes: worker (serves models), gateway (answers clients), home; may be given more
    /// than once [default: worker and gateway]
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',', value_parser = ["worker", "gateway", "home"])]
    pub(crate) roles: Vec<String>,
    /// How long it is good for
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub(crate) ttl: Duration,
    /// How many machines it lets in
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) uses: u32,
    /// Address and port under which the other machine reaches this one; may be given more than once [default:
    /// found out]
    #[arg(long = "address", value_name = "ADDR")]
    pub(crate) addresses: Vec<SocketAddr>,
}
