//! What every command is given: where to show things and where the node is.

use std::path::PathBuf;

use arw_actors::config::Origin;

use crate::args::Global;
use crate::client::discovery::{Locator, Token};
use crate::client::http::Node;
use crate::failure::Failure;
use crate::output::screen::Screen;
use crate::output::style::Style;
use crate::place;

/// The surroundings of one command.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) screen: Screen,
    pub(crate) locator: Locator,
    /// The state folder as the person named it, and where.
    pub(crate) state_dir: Option<(PathBuf, Origin)>,
}

impl Context {
    /// From the flags that every command takes; `state_dir_origin` says whether flag or environment named the
    /// folder. `format_is_chosen`: somebody said how to show data.
    pub(crate) fn new(global: &Global, state_dir_origin: Origin, format_is_chosen: bool) -> Self {
        let state_dir = global.state_dir.as_deref().map(|dir| (place::absolute(dir), state_dir_origin));
        let locator = Locator {
            state_dir: state_dir
                .as_ref()
                .map_or_else(|| place::machine_defaults().state_dir, |(dir, _)| dir.clone()),
            server: global.server.clone().filter(|server| !server.is_empty()),
            token: std::env::var("ARW_TOKEN").ok().as_deref().and_then(Token::new),
        };
        let screen = Screen::new(Style::detect(global.no_color), global.output, format_is_chosen);
        Self { screen, locator, state_dir }
    }

    /// The node to talk to.
    pub(crate) fn node(&self) -> Result<Node, Failure> {
        let address = self.locator.find()?;
        if let Some(warning) = &address.warning {
            self.screen.note(warning);
        }
        Ok(Node::new(address))
    }
}
