//! Turns what is asked for into what a shim needs.
//!
//! Owns the checks and preparations before anything is started: program, model, scratch folder, address, key,
//! environment, rules. Refuses to start anything.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::libraries::LibraryFolders;
use super::placeholders::{self, Named, Values};
use super::plan::Plan;
use super::procfs::is_there;
use super::program::{self, DEFAULT_PATH, Program, Search, refuse};
use super::sandbox::guard;
use super::sandbox::rules::{Facts, Protected, compute};
use super::sandbox::{Network, PathRule, Sandbox, UnixConnect};
use super::scratch::{self, SOCKET_NAME, SOCKET_PATH_BYTES_MAX, SocketFolder};
use super::sweep::{MARKER, Marker};
use crate::model::parts;
use crate::runtime::launcher::{Cause, Endpoint, LaunchError, LaunchSpec, Secret};
use crate::runtime::spec::RuntimeSpec;

/// What stays the same from launch to launch.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// Canonical.
    pub(super) state_dir: PathBuf,
    /// Stands for the state folder in markers and folder names.
    pub(super) state_id: String,
    pub(super) libraries: LibraryFolders,
}

pub(super) struct Prepared {
    pub(super) plan: Plan,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) secret: Secret,
    /// The model and its size before the start.
    pub(super) model: Option<(PathBuf, Option<u64>)>,
    pub(super) socket_folder: Option<SocketFolder>,
}

/// What the program gets of the node's environment. Everything else stays out: it may hold keys.
const INHERITED: &[&str] = &["PATH", "LANG", "LC_ALL", "TZ"];

pub(super) fn prepare(
    spec: &LaunchSpec,
    around: &Surroundings,
    marker: &Marker,
) -> Result<Prepared, LaunchError> {
    let search = Search::new(&spec.env);
    let program = search.resolve(&spec.program)?;
    let model = spec.model.as_deref().map(check_model).transpose()?;
    scratch::prepare(&spec.scratch, &around.state_dir).map_err(|error| {
        refuse(Cause::Unknown, error.to_string(), "look at the folder's owner and mode, and at the disk")
    })?;
    let secret =
        Secret::random().map_err(|error| unexpected("no random bytes for a key", &error.to_string()))?;
    let named = placeholders::named(&spec.args);
    let (socket, socket_folder) =
        if named.socket { socket_for(spec, around).map(|(p, f)| (Some(p), f))? } else { (None, None) };
    let port = if named.port { Some(free_port()?) } else { None };
    let values = Values {
        model: spec.model.as_deref().map(text_of).transpose()?,
        port,
        socket: socket.clone(),
        secret: secret.reveal().to_owned(),
    };
    let args = placeholders::fill(&spec.args, &values)
        .map_err(|error| refuse(Cause::BadOption, error.to_string(), "correct the runtime's arguments"))?;
    let env = environment(spec, marker);
    let wanted = Wanted {
        files: argument_files(&spec.args, &args, spec.model.as_deref(), named),
        library_path: env.get("LD_LIBRARY_PATH"),
        model: spec.model.clone(),
        allow_read: &spec.allow_read,
        allow_exec: &spec.allow_exec,
        scratch: &spec.scratch,
        socket_folder: socket_folder.as_ref().map(SocketFolder::path),
    };
    let path = program.path.clone();
    let rules = rules_for(program, wanted, around)?;
    let network = port.map_or(Network::UnixOnly, Network::BindOnePort);
    let endpoint = socket
        .map(Endpoint::Unix)
        .or(port.map(|p| Endpoint::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, p)))));
    let unix_connect = if spec.allow_unix_connect { UnixConnect::Allowed } else { UnixConnect::Denied };
    let sandbox = Sandbox { rules, network, unix_connect };
    let plan = Plan {
        program: path,
        args,
        env,
        folder: spec.scratch.clone(),
        secret: secret.reveal().to_owned(),
        sandbox,
    };
    let model = spec.model.clone().zip(model);
    Ok(Prepared { plan, endpoint, secret, model, socket_folder })
}

/// What a launch asks for, as far as the rules go.
struct Wanted<'a> {
    files: Vec<PathBuf>,
    library_path: Option<&'a String>,
    model: Option<PathBuf>,
    allow_read: &'a [PathBuf],
    allow_exec: &'a [PathBuf],
    scratch: &'a Path,
    socket_folder: Option<&'a Path>,
}

/// The rules for a program, each by the real place of its path: a link that is made later leads nowhere else.
fn rules_for(
    program: Program,
    wanted: Wanted<'_>,
    around: &Surroundings,
) -> Result<Vec<PathRule>, LaunchError> {
    let libraries = program.binaries.iter().flat_map(|b| around.libraries.of(b, wanted.library_path));
    let facts = Facts {
        library_folders: libraries.collect(),
        hops: program.hops,
        model: wanted.model,
        argument_files: wanted.files,
        allow_read: wanted.allow_read.to_vec(),
        allow_exec: wanted.allow_exec.to_vec(),
        scratch: wanted.scratch.to_owned(),
        socket_folder: wanted.socket_folder.map(Path::to_owned),
        devices: gpu_devices(Path::new("/dev")),
        protected: protected(around),
    };
    let mut rules = compute(&facts);
    let real: Vec<PathBuf> = rules.iter().map(|rule| real_place(&rule.path)).collect();
    let own: Vec<PathBuf> =
        [Some(wanted.scratch), wanted.socket_folder].into_iter().flatten().map(real_place).collect();
    if let Some(refusal) = guard::refuse(rules.iter().zip(&real), &facts.protected, &own, &file_id) {
        return Err(refuse(Cause::SandboxDenied, refusal.detail, refusal.hint));
    }
    for (rule, real) in rules.iter_mut().zip(real) {
        rule.path = real;
    }
    Ok(rules)
}

/// What a launch of this runtime would be refused for at once: its program, and paths that must stay closed.
pub(super) fn check(spec: &RuntimeSpec, around: &Surroundings) -> Result<(), LaunchError> {
    let Some(program) = &spec.program else { return Ok(()) };
    let program = Search::new(&spec.env).resolve(program)?;
    let scratch = around.state_dir.join("runtime").join("scratch").join(spec.id.as_str());
    let wanted = Wanted {
        files: argument_files(&spec.args, &spec.args, None, placeholders::named(&spec.args)),
        library_path: spec.env.get("LD_LIBRARY_PATH"),
        model: None,
        allow_read: &spec.allow_read,
        allow_exec: &spec.allow_exec,
        scratch: &scratch,
        socket_folder: None,
    };
    rules_for(program, wanted, around).map(drop)
}

/// Where a path leads when all links on the way are followed; of one that is not there, the part that is.
pub(super) fn real_place(path: &Path) -> PathBuf {
    let mut existing = path;
    let mut missing = Vec::new();
    loop {
        if let Ok(real) = existing.canonicalize() {
            return missing.iter().rev().fold(real, |path, name| path.join(name));
        }
        let (Some(parent), Some(last)) = (existing.parent(), existing.components().next_back()) else {
            return path.to_owned();
        };
        missing.push(last.as_os_str());
        existing = parent;
    }
}

/// A launch must not wait for a program to find out what one look tells. Its size, for a file.
fn check_model(model: &Path) -> Result<Option<u64>, LaunchError> {
    let shown = model.display();
    match fs::metadata(model) {
        Ok(found) if found.is_dir() => return Ok(None),
        Ok(found) => match fs::File::open(model) {
            Ok(_) => return Ok(Some(found.len())),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(unexpected(&format!("model {shown}"), &error.to_string())),
        },
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => {
            let hint = "import the model again with `arw model import FILE`";
            return Err(refuse(Cause::ModelMissing, format!("model {shown} is missing: {error}"), hint));
        }
    }
    Err(refuse(
        Cause::ModelDenied,
        format!("model {shown} may not be read"),
        "let the user that runs ARW read it",
    ))
}

fn text_of(path: &Path) -> Result<String, LaunchError> {
    let hint = "rename it: arguments are text in UTF-8";
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| refuse(Cause::BadOption, format!("the path {} is not UTF-8", path.display()), hint))
}

/// The socket lies in the scratch folder, or in a private folder of its own when that path is too long for
/// the kernel.
fn socket_for(
    spec: &LaunchSpec,
    around: &Surroundings,
) -> Result<(PathBuf, Option<SocketFolder>), LaunchError> {
    let path = spec.scratch.join(SOCKET_NAME);
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok((path, None));
    }
    let mut problem = String::new();
    for base in socket_bases() {
        match SocketFolder::create(&base, short_tag(&around.state_id)) {
            Ok(folder) => {
                let path = folder.path().join(SOCKET_NAME);
                if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
                    return Ok((path, Some(folder)));
                }
                problem = format!("{} is too long as well", base.display());
            }
            Err(error) => problem = format!("{}: {error}", base.display()),
        }
    }
    let detail = format!("no place for a Unix socket: {} is too long, and {problem}", path.display());
    Err(refuse(Cause::Unknown, detail, "use a state folder with a shorter path, or `{port}`"))
}

/// Where private folders for sockets go, in order of preference.
pub(super) fn socket_bases() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    runtime.into_iter().chain([std::env::temp_dir(), "/tmp".into()]).collect()
}

pub(super) fn short_tag(state_id: &str) -> &str {
    state_id.get(..8).unwrap_or(state_id)
}

/// A port that was free a moment ago. Another program can take it before ours does; the diagnosis then says
/// so.
fn free_port() -> Result<u16, LaunchError> {
    let port =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| Ok(listener.local_addr()?.port()));
    port.map_err(|error| unexpected("no free port on 127.0.0.1", &error.to_string()))
}

fn environment(spec: &LaunchSpec, marker: &Marker) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
    env.extend(INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))));
    let scratch = spec.scratch.display().to_string();
    env.extend(["HOME", "TMPDIR"].map(|name| (name.to_owned(), scratch.clone())));
    env.extend(spec.env.clone());
    // Last, so that nothing can hide a program from the sweep.
    env.insert(MARKER.to_owned(), marker.to_string());
    env
}

/// Files that the operator named, and the other parts of a model that comes in several.
fn argument_files(raw: &[String], filled: &[String], model: Option<&Path>, named: Named) -> Vec<PathBuf> {
    // An argument that holds the key is no file name, and looking for one would be the only place where the
    // key meets a path.
    let is_plain = |raw: &String| !(named.secret && raw.contains("{secret}"));
    let files = raw
        .iter()
        .zip(filled)
        .filter(|(raw, _)| is_plain(raw))
        .filter_map(|(_, arg)| program::file_named_by(arg));
    // Links to parts may lie beside each other, or only what they lead to does.
    let with_parts = |file: PathBuf| {
        let real = real_place(&file);
        let parts: Vec<PathBuf> =
            [&file, &real].into_iter().filter_map(|path| parts::all_of(path)).flatten().collect();
        std::iter::once(file).chain(parts)
    };
    files.chain(model.map(Path::to_owned)).flat_map(with_parts).filter(|file| is_there(file)).collect()
}

fn gpu_devices(dev: &Path) -> Vec<PathBuf> {
    let nvidia = fs::read_dir(dev)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with("nvidia")));
    let fixed = ["dri", "kfd"].map(|name| dev.join(name)).into_iter().filter(|path| is_there(path));
    nvidia.map(|entry| entry.path()).chain(fixed).collect()
}

fn protected(around: &Surroundings) -> Protected {
    let own = std::env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|home| home.is_absolute() && home != Path::new("/"));
    Protected {
        state_dir: around.state_dir.clone(),
        state_parts: state_parts(&around.state_dir),
        homes: own.into_iter().chain(["/root".into()]).collect(),
        temp: std::env::temp_dir(),
    }
}

/// More than the node ever keeps in one of its folders.
const STATE_PARTS_MAX: usize = 1000;

fn state_parts(state_dir: &Path) -> Vec<PathBuf> {
    let folders = [state_dir.to_owned(), state_dir.join("runtime"), state_dir.join("runtime/scratch")];
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten().take(STATE_PARTS_MAX));
    // What a link leads to lies elsewhere.
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()))
        .map(|entry| entry.path())
        .collect()
}

fn file_id(path: &Path) -> Option<guard::FileId> {
    let about = fs::metadata(path).ok()?;
    Some((about.dev(), about.ino()))
}

/// Something that should not happen and may not happen again.
pub(super) fn unexpected(what: &str, why: &str) -> LaunchError {
    let mut error = refuse(Cause::Unknown, format!("{what}: {why}"), "");
    error.0.permanent = false;
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_looked_at_first() {
        let folder = tempfile::tempdir().unwrap();
        let missing = check_model(&folder.path().join("m.gguf")).unwrap_err();
        assert_eq!(missing.0.cause, Cause::ModelMissing);
        assert!(missing.0.hint.unwrap().contains("arw model import"));
        assert_eq!(check_model(folder.path()), Ok(None));
        let file = folder.path().join("there.gguf");
        fs::write(&file, "GGUF").unwrap();
        assert_eq!(check_model(&file), Ok(Some(4)));
    }

    #[test]
    fn gpu_devices_are_listed_when_there_are_any() {
        let dev = tempfile::tempdir().unwrap();
        assert!(gpu_devices(dev.path()).is_empty());
        for name in ["nvidia0", "nvidiactl", "kfd", "sda"] {
            fs::write(dev.path().join(name), "").unwrap();
        }
        let mut names: Vec<_> =
            gpu_devices(dev.path()).into_iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["kfd", "nvidia0", "nvidiactl"]);
    }
}
