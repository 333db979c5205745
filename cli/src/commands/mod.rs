//! One module per command.

pub(crate) mod actors;
pub(crate) mod chat;
pub(crate) mod cluster;
pub(crate) mod config;
mod confirm;
pub(crate) mod doctor;
pub(crate) mod ensure_node;
pub(crate) mod events;
pub(crate) mod join;
pub(crate) mod manual;
pub(crate) mod model;
mod revoke;
pub(crate) mod run;
pub(crate) mod runtime;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod up;
mod watching;

use crate::args::{Arguments, Command, ConfigCommand};
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// Does what the command line says.
pub(crate) async fn dispatch(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    match arguments.command {
        Command::Up(up) => up::run(context, &up, None).await?,
        Command::Join(join) => join::run(context, &join).await?,
        Command::Run(run) => run::run(context, &run).await?,
        Command::Chat(chat) => chat::run(context, &chat).await?,
        Command::Status => status::run(context).await?,
        Command::Doctor(configured) => return doctor::run(context, &configured).await,
        Command::Actors(command) => actors::run(context, command).await?,
        Command::Cluster(command) => return cluster::run(context, command).await,
        Command::Runtime(command) => runtime::run(context, command).await?,
        Command::Model(command) => model::run(context, command).await?,
        Command::Token(command) => token::run(context, command).await?,
        Command::Events(events) => events::run(context, &events).await?,
        Command::Config(ConfigCommand::Explain(configured)) => config::explain(context, &configured)?,
        Command::Completions { shell } => manual::completions(context, shell)?,
        Command::Man { dir } => manual::man(context, dir.as_deref())?,
    }
    Ok(Exit::Done)
}
