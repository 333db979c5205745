//! Finds the node to talk to, and the token for it.
//!
//! Owns the rules: `--server` with `ARW_TOKEN`, else the files that a node writes into its state folder.
//! Refuses to connect.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http::Uri;
use serde::Deserialize;

use crate::failure::{Exit, Failure};
use crate::place;

/// Written by a node when it listens, removed when it ends: `{"pid","http","started_at"}`.
pub(crate) const NODE_FILE: &str = "node.json";
/// The node's own token with scope `admin`, readable by its owner only.
pub(crate) const TOKEN_FILE: &str = "admin.token";

/// Neither file is ever larger.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What the person said about where the node is.
#[derive(Clone, Debug)]
pub(crate) struct Locator {
    pub(crate) state_dir: PathBuf,
    /// `--server` or `ARW_SERVER`.
    pub(crate) server: Option<String>,
    /// `ARW_TOKEN`.
    pub(crate) token: Option<Token>,
}

/// A token; its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    pub(crate) fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        // Anything else could not be sent in a header.
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Where a node listens and what to show it.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// `http://127.0.0.1:8091`, without a path.
    pub(crate) url: String,
    pub(crate) token: Option<Token>,
    /// Why there is no token, for the message when the node asks for one.
    pub(crate) token_note: Option<String>,
    /// The node's process, where the state folder told us.
    pub(crate) pid: Option<u32>,
    /// Worth telling before the first call.
    pub(crate) warning: Option<String>,
}

/// What [`NODE_FILE`] holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct NodeFile {
    pub(crate) pid: u32,
    pub(crate) http: String,
    #[serde(default)]
    pub(crate) started_at: String,
}

impl Locator {
    /// The node to talk to.
    pub(crate) fn find(&self) -> Result<Address, Failure> {
        match &self.server {
            Some(server) => self.named(server),
            None => self.local(),
        }
    }

    fn named(&self, server: &str) -> Result<Address, Failure> {
        let url = plain_url(server)?;
        let token_note = self.token.is_none().then(|| "ARW_TOKEN is not set".to_owned());
        let warning = (self.token.is_some() && !is_loopback(&url))
            .then(|| format!("note: the token travels unencrypted to {url}; an SSH tunnel would protect it"));
        Ok(Address { url, token: self.token.clone(), token_note, pid: None, warning })
    }

    fn local(&self) -> Result<Address, Failure> {
        let dir = self.state_dir.display();
        let help = format!(
            "start one with `arw up --state-dir {dir}`, or say where it is with --state-dir DIR or --server URL"
        );
        let file = read_node_file(&self.state_dir).map_err(|why| {
            Failure::new(Exit::Unreachable, format!("cannot tell whether a node runs in {dir}"), why, &help)
        })?;
        let Some(file) = file else {
            let mut why = format!("there is no {NODE_FILE} in that folder");
            if let Some(homeless) = place::homeless(&self.state_dir) {
                why = format!("{why}\n{homeless}");
            }
            return Err(Failure::new(Exit::Unreachable, format!("no node runs in {dir}"), why, help));
        };
        let url = plain_url(&file.http)?;
        let (token, token_note) = match &self.token {
            Some(token) => (Some(token.clone()), None),
            None => match read_token(&self.state_dir) {
                Ok(token) => (Some(token), None),
                Err(why) => (None, Some(why)),
            },
        };
        Ok(Address { url, token, token_note, pid: Some(file.pid), warning: None })
    }
}

/// What the node wrote about itself; `None` when there is nothing.
///
/// # Errors
/// The file is there but cannot be read or understood: the reason in words.
pub(crate) fn read_node_file(state_dir: &Path) -> Result<Option<NodeFile>, String> {
    let path = state_dir.join(NODE_FILE);
    let Some(text) = read_small(&path)? else { return Ok(None) };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| format!("{} cannot be understood: {error}", path.display()))
}

/// The node's own token.
///
/// # Errors
/// There is none that this user can read: the reason in words.
pub(crate) fn read_token(state_dir: &Path) -> Result<Token, String> {
    let path = state_dir.join(TOKEN_FILE);
    let text = read_small(&path)?
        .ok_or_else(|| format!("there is no {}, and ARW_TOKEN is not set", path.display()))?;
    Token::new(&text).ok_or_else(|| format!("{} holds no token", path.display()))
}

fn read_small(path: &Path) -> Result<Option<String>, String> {
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    match std::fs::metadata(path) {
        Ok(facts) if facts.len() > FILE_BYTES_MAX => {
            return Err(format!(
                "{} is too large ({} bytes) to be what it should be",
                path.display(),
                facts.len()
            ));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(error)),
    }
    std::fs::read_to_string(path).map(Some).map_err(cannot)
}

/// Checks an address and brings it into the form `http://HOST:PORT`.
fn plain_url(text: &str) -> Result<String, Failure> {
    let wrong = |why: &str, help: &str| {
        Failure::new(Exit::Usage, format!("cannot use the address `{text}`"), why, help)
    };
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri =
        full.trim_end_matches('/').parse().map_err(|_| wrong("it is not a URL", "write http://HOST:PORT"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            let help = "use http:// on loopback, or through an SSH tunnel: ssh -L 8091:127.0.0.1:8091 HOST";
            return Err(wrong("this version does not speak https", help));
        }
        Some(_) | None => return Err(wrong("only http is spoken", "write http://HOST:PORT")),
    }
    let Some(authority) = uri.authority() else {
        return Err(wrong("it has no host", "write http://HOST:PORT"));
    };
    if authority.as_str().contains('@') {
        return Err(wrong(
            "it has a user name in it",
            "write http://HOST:PORT, and put the token into ARW_TOKEN",
        ));
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Err(wrong("it has a path", "write http://HOST:PORT and nothing more"));
    }
    Ok(format!("http://{authority}"))
}

fn is_loopback(url: &str) -> bool {
    let host = url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locator(dir: &Path) -> Locator {
        Locator { state_dir: dir.to_path_buf(), server: None, token: None }
    }

    fn told(result: Result<Address, Failure>) -> (Exit, String) {
        match result.unwrap_err() {
            Failure::Told(told) => (told.exit, told.text()),
            Failure::OutputClosed => panic!("nothing told"),
        }
    }

    #[test]
    fn the_state_folder_tells_where_the_node_is_and_what_opens_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join(NODE_FILE),
            r#"{"pid":42,"http":"http://127.0.0.1:9","started_at":"x","more":1}"#,
        )
        .unwrap();
        std::fs::write(dir.path().join(TOKEN_FILE), "arw_a_b\n").unwrap();
        let address = locator(dir.path()).find().unwrap();
        assert_eq!((address.url.as_str(), address.pid), ("http://127.0.0.1:9", Some(42)));
        assert_eq!(address.token.as_ref().unwrap().reveal(), "arw_a_b");
        assert!(!format!("{address:?}").contains("arw_a_b"));
    }

    #[test]
    fn without_a_node_it_says_how_to_start_one() {
        let dir = tempfile::tempdir().unwrap();
        let (exit, text) = told(locator(dir.path()).find());
        assert_eq!(exit, Exit::Unreachable);
        assert!(text.contains("arw up --state-dir"), "{text}");
        std::fs::write(dir.path().join(NODE_FILE), "{").unwrap();
        assert!(told(locator(dir.path()).find()).1.contains("cannot be understood"));
    }

    #[test]
    fn a_missing_token_is_only_noted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NODE_FILE), r#"{"pid":42,"http":"127.0.0.1:9"}"#).unwrap();
        let address = locator(dir.path()).find().unwrap();
        assert_eq!(address.url, "http://127.0.0.1:9");
        assert!(address.token.is_none() && address.token_note.unwrap().contains(TOKEN_FILE));
    }

    #[test]
    fn addresses_that_cannot_work_are_refused_with_the_reason() {
        for (address, why) in [
            ("https://a:1", "does not speak https"),
            ("ftp://a", "only http"),
            ("http://a/b", "has a path"),
            ("http://u:p@a", "user name"),
            ("http://", "cannot use the address"),
            ("a b", "not a URL"),
        ] {
            let locator = Locator { server: Some(address.to_owned()), ..locator(Path::new("/")) };
            let (exit, text) = told(locator.find());
            assert_eq!(exit, Exit::Usage);
            assert!(text.contains(why), "{text}");
        }
    }

    #[test]
    fn a_token_for_another_machine_is_warned_about() {
        let with = |server: &str| {
            let locator =
                Locator { state_dir: "/".into(), server: Some(server.to_owned()), token: Token::new("t") };
            locator.find().unwrap().warning
        };
        assert!(with("http://example.org:80").is_some());
        assert!(with("http://[::1]:80/").is_none() && with("localhost:80").is_none());
    }
}
