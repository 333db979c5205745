//! A node as a process of its own: `arw up` on a folder and port of its own.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use ::http::Method;
use serde_json::{Value, json};

use crate::http::{self, Answer, Error, PATIENCE};

/// A running `arw up`. Dropping it kills it.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
    /// The administrator's token.
    pub token: String,
    /// Its state folder.
    pub state_dir: PathBuf,
    /// What `arw up -o json` printed.
    pub ready: Value,
}

/// The program under test: it lies beside the test programs, which are built together with it.
#[must_use]
pub fn arw(fake_runtime: &str) -> PathBuf {
    Path::new(fake_runtime).with_file_name("arw")
}

/// Runs `arw` with these arguments to its end.
///
/// # Errors
/// It cannot be started: `cargo build -p arw-cli` makes it.
pub fn run<I: AsRef<OsStr>>(
    program: &Path,
    state_dir: &Path,
    args: impl IntoIterator<Item = I>,
) -> Result<Output, Error> {
    let output = Command::new(program)
        .args(args)
        .env("ARW_STATE_DIR", state_dir)
        .env_remove("ARW_SERVER")
        .env_remove("ARW_TOKEN")
        .stdin(Stdio::null())
        .output();
    output.map_err(|error| format!("{}: {error}; build it: cargo build -p arw-cli", program.display()).into())
}

impl NodeProcess {
    /// Starts a node and waits until it says that it is up.
    ///
    /// # Errors
    /// It ended instead; its words are on the test's standard error.
    pub fn start(program: &Path, state_dir: &Path, more: &[&str]) -> Result<Self, Error> {
        Self::start_by(Command::new(program), state_dir, more)
    }

    /// The same, where a command comes before the node's own arguments.
    ///
    /// # Errors
    /// It ended instead; its words are on the test's standard error.
    pub fn start_by(mut command: Command, state_dir: &Path, more: &[&str]) -> Result<Self, Error> {
        let mut child = command
            .args(["up", "--http", "127.0.0.1:0", "--output", "json", "--state-dir"])
            .arg(state_dir)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{command:?}: {error}; build it: cargo build -p arw-cli"))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let ready: Value = match serde_json::from_str(&line) {
            Ok(ready) => ready,
            Err(error) => {
                let status = child.wait()?;
                return Err(format!("arw up ended with {status}, after printing `{line}` ({error})").into());
            }
        };
        let address = ready["http"].as_str().unwrap_or_default().trim_start_matches("http://").to_owned();
        let token = std::fs::read_to_string(state_dir.join("admin.token"))?.trim().to_owned();
        Ok(Self { child, address, token, state_dir: state_dir.to_owned(), ready })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as `kill -9` does, and waits for its end.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// It does not end in time, or not well.
    pub fn stop(mut self) -> Result<(), Error> {
        let pid = i32::try_from(self.child.id())?;
        let pid = rustix::process::Pid::from_raw(pid).ok_or("no pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        for _ in 0..PATIENCE.as_millis() / 10 {
            if let Some(status) = self.child.try_wait()? {
                return if status.success() {
                    Ok(())
                } else {
                    Err(format!("arw up ended with {status}").into())
                };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("arw up does not end".into())
    }

    /// `GET`, as an administrator.
    ///
    /// # Errors
    /// No answer.
    pub async fn get(&self, path: &str) -> Result<Answer, Error> {
        http::ask(&self.address, Method::GET, path, Some(&self.token), None).await
    }

    /// `POST`, as an administrator.
    ///
    /// # Errors
    /// No answer.
    pub async fn post(&self, path: &str, body: Value) -> Result<Answer, Error> {
        http::ask(&self.address, Method::POST, path, Some(&self.token), Some(body)).await
    }

    /// Adds a runtime whose program is the fake one.
    ///
    /// # Errors
    /// It is refused.
    pub async fn add_fake(
        &self,
        id: &str,
        fake_runtime: &str,
        args: &[&str],
        more: Value,
    ) -> Result<(), Error> {
        let mut all = vec!["--host", "{socket}", "--key-stdin"];
        all.extend(args);
        let mut body = json!({"id": id, "adapter": "process", "program": fake_runtime, "args": all});
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        let answer = self.post("/runtimes", body).await?;
        if answer.status == 201 { Ok(()) } else { Err(format!("{answer:?}").into()) }
    }

    /// A runtime's row.
    ///
    /// # Errors
    /// There is none.
    pub async fn runtime(&self, id: &str) -> Result<Value, Error> {
        let state = self.get("/state/runtimes").await?.json();
        let rows = state["runtimes"].as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|row| row["id"] == id).ok_or_else(|| format!("no runtime {id}").into())
    }

    /// Waits until a runtime's row is so.
    ///
    /// # Errors
    /// It is not in time.
    pub async fn until(&self, id: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value, Error> {
        let wait = async {
            loop {
                let row = self.runtime(id).await?;
                if is_so(&row) {
                    return Ok::<_, Error>(row);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(row) => row,
            Err(_) => Err(format!("{:#}", self.runtime(id).await?).into()),
        }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}
