//! `arw completions` and `arw man`: made from the definition of the command line, so that they cannot differ
//! from it.

use std::path::Path;

use clap::CommandFactory;

use crate::args::Arguments;
use crate::context::Context;
use crate::failure::{Exit, Failure};

pub(crate) fn completions(context: &Context, shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "arw", &mut script);
    context.screen.data(&String::from_utf8_lossy(&script))
}

pub(crate) fn man(context: &Context, dir: Option<&Path>) -> Result<(), Failure> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Arguments::command()).render(&mut page);
        rendered.map_err(|error| Failure::from_output(&error))?;
        return context.screen.data(&String::from_utf8_lossy(&page));
    };
    let written =
        std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Arguments::command(), dir));
    written.map_err(|error| {
        let what = format!("cannot write the manual pages into {}", dir.display());
        Failure::new(Exit::Failed, what, error.to_string(), "name a folder that you may write")
    })?;
    context.screen.note(&format!(
        "manual pages written into {}; read one with: man -l {}/arw.1",
        dir.display(),
        dir.display()
    ));
    Ok(())
}
