//! `arw doctor`: what is wrong here, and what to do about it.

mod disk;
mod machine;
mod membership;
mod node;
mod port;

use serde_json::{Value, json};

use crate::args::{Configured, Up};
use crate::commands::up;
use crate::context::Context;
use crate::failure::{Exit, Failure, Told};
use crate::load_config::{self, Loaded};
use crate::output::human;
use crate::output::screen::Page;
use crate::output::style::{Style, Tone};
use crate::output::table::{Cell, Column, Table};
use crate::place;

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do; empty when nothing is to be done.
    help: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// It works, but less well or less safely than it could.
    Warning,
    Broken,
    /// Could not be checked, or there is nothing to check.
    Skipped,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Broken => "broken",
            Self::Skipped => "skipped",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Ok => Tone::Good,
            Self::Warning => Tone::Warning,
            Self::Broken => Tone::Bad,
            Self::Skipped => Tone::Faint,
        }
    }
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), help: String::new() }
    }

    fn warning(name: &'static str, found: impl Into<String>, help: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warning, found: found.into(), help: help.into() }
    }

    fn broken(name: &'static str, found: impl Into<String>, help: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Broken, found: found.into(), help: help.into() }
    }

    fn skipped(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Skipped, found: found.into(), help: String::new() }
    }
}

pub(crate) async fn run(context: &Context, configured: &Configured) -> Result<Exit, Failure> {
    let mut checks = Vec::new();
    let mut local = Vec::new();
    let mut issuer = None;
    let now = context.screen.now();
    // A node that was named with --server is elsewhere: this machine's folders and ports say nothing about
    // it.
    if context.locator.server.is_none() {
        let (settings, loaded) = settings(context, configured)?;
        checks.push(settings);
        let config = loaded.as_ref().map(|loaded| &loaded.settings.config);
        let dir =
            config.map_or_else(|| context.locator.state_dir.clone(), |config| config.node.state_dir.clone());
        let http = config.map_or(arw_actors::config::HTTP, |config| config.gateway.http);
        checks.extend([disk::state_dir(&dir), disk::space(&dir), disk::token(&dir)]);
        checks.push(port::check(http, &dir));
        checks.extend(port::unencrypted(http));
        let listen = config.map_or(arw_actors::config::CLUSTER_LISTEN, |config| config.cluster.listen);
        let found = membership::files(&dir, now);
        local.extend(found.checks);
        local.extend([port::for_nodes(listen, &dir, found.is_member), membership::clock(&dir, now)]);
        issuer = found.issuer;
    }
    checks.extend(node::checks(context).await);
    checks.extend(local);
    if let Some(body) = node::cluster(context).await {
        checks.extend(issuer.map(|issuer| membership::issuer(&body, issuer)));
        // The files say more, where they can be seen.
        checks.extend(membership::from_node(&body, now).filter(|_| context.locator.server.is_some()));
    }
    if context.locator.server.is_none() {
        checks.extend(machine::checks());
    }
    let broken = checks.iter().any(|check| check.verdict == Verdict::Broken);
    context.screen.show(&page(&checks, &context.screen.style))?;
    Ok(if broken { Exit::Failed } else { Exit::Done })
}

fn settings(context: &Context, configured: &Configured) -> Result<(Check, Option<Loaded>), Failure> {
    const NAME: &str = "settings";
    let flags = Up { configured: configured.clone(), ..Up::default() };
    match load_config::load(&up::wishes(context, &flags), &place::machine_defaults()) {
        Ok(loaded) => {
            let from = loaded
                .file
                .as_ref()
                .map_or_else(|| "defaults, no file".to_owned(), |file| file.display().to_string());
            let check = if loaded.warnings.is_empty() {
                Check::ok(NAME, from)
            } else {
                Check::warning(NAME, loaded.warnings.join("\n"), "correct or unset these variables")
            };
            Ok((check, Some(loaded)))
        }
        Err(Failure::Told(told)) => {
            let Told { what, why, help, .. } = *told;
            Ok((Check::broken(NAME, format!("{what}\n{why}"), help), None))
        }
        Err(Failure::OutputClosed) => Err(Failure::OutputClosed),
    }
}

fn page(checks: &[Check], style: &Style) -> Page {
    let mut table = Table::new(&[
        Column::new("check", "check"),
        Column::new("verdict", "verdict"),
        Column::new("found", "found"),
        Column::new("do", "do"),
    ]);
    let mut records = Vec::with_capacity(checks.len());
    for check in checks {
        let help = if check.help.is_empty() { Cell::Missing } else { Cell::Text(check.help.clone()) };
        let verdict = Cell::Word(check.verdict.word().to_owned(), check.verdict.tone());
        table.push(vec![Cell::Text(check.name.to_owned()), verdict, Cell::Text(check.found.clone()), help]);
        records.push(record(check));
    }
    let ok = !checks.iter().any(|check| check.verdict == Verdict::Broken);
    let body = json!({"ok": ok, "checks": records});
    Page { body, records, table, text: Some(words(checks, style)), empty: String::new() }
}

fn record(check: &Check) -> Value {
    let help = Some(check.help.as_str()).filter(|help| !help.is_empty());
    json!({"check": check.name, "verdict": check.verdict.word(), "found": check.found, "do": help})
}

fn words(checks: &[Check], style: &Style) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut out = String::new();
    for check in checks {
        let verdict = style.paint(check.verdict.tone(), &format!("{:<8}", check.verdict.word()));
        let indent = " ".repeat(9 + width + 2);
        let found = human::printable(&check.found).replace('\n', &format!("\n{indent}"));
        out.push_str(&format!("{verdict} {:<width$}  {found}\n", check.name));
        if !check.help.is_empty() {
            let help = human::printable(&check.help).replace('\n', &format!("\n{indent}    "));
            out.push_str(&format!("{indent}do: {help}\n"));
        }
    }
    let count = |verdict: Verdict| checks.iter().filter(|check| check.verdict == verdict).count() as u64;
    let (warnings, broken) = (count(Verdict::Warning), count(Verdict::Broken));
    out.push_str(&match (broken, warnings) {
        (0, 0) => "\neverything is well\n".to_owned(),
        (0, _) => format!("\nnothing is broken; {warnings} warning{}\n", human::plural(warnings)),
        (_, _) => format!("\n{broken} broken, {warnings} warning{}\n", human::plural(warnings)),
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_has_its_verdict_in_words_and_what_to_do() {
        let checks = [
            Check::ok("settings", "defaults"),
            Check::broken("port", "taken\nby pid 4", "stop it"),
            Check::skipped("node", "none"),
        ];
        assert_eq!(
            words(&checks, &Style::PLAIN),
            "ok       settings  defaults\nbroken   port      taken\n                   by pid 4\n                   do: stop it\nskipped  node      none\n\n1 broken, 0 warnings\n"
        );
        let page = page(&checks, &Style::PLAIN);
        assert_eq!(page.body["ok"], json!(false));
        assert_eq!(page.records[1]["do"], json!("stop it"));
    }
}
