//! Reads the node's settings from where people put them: file, environment, flags.
//!
//! Owns the reading and the order (defaults < file < environment < flags). What the keys are and mean is
//! `arw_actors::config`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use arw_actors::config::{Entry, Layer, MachineDefaults, NodeConfig, Origin, Settings, Value, nearest};
use arw_actors::runtime::spec::API_KEY_PREFIX;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::args;
use crate::failure::{Exit, Failure};

/// What the command line says about settings.
#[derive(Debug, Default)]
pub(crate) struct Wishes<'a> {
    /// `--state-dir` or `ARW_STATE_DIR`, and which of the two.
    pub(crate) state_dir: Option<&'a (PathBuf, Origin)>,
    /// `--config` or `ARW_CONFIG`.
    pub(crate) file: Option<&'a Path>,
    /// Settings given by flags: name of the flag, key, text.
    pub(crate) flags: Vec<(&'static str, &'static str, String)>,
}

/// The settings in force.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    /// The file that was read, if any.
    pub(crate) file: Option<PathBuf>,
    /// Worth telling, but no reason to stop.
    pub(crate) warnings: Vec<String>,
}

/// The file that is read from the state folder.
pub(crate) const FILE_NAME: &str = "arw.toml";

/// A settings file larger than this is some other file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The one variable that stands for no flag: a token in a command line would be in the list of processes.
pub(crate) const TOKEN_VARIABLE: &str = "ARW_TOKEN";

/// Reads, layers and checks the settings of a node.
pub(crate) fn load(wishes: &Wishes<'_>, machine: &MachineDefaults) -> Result<Loaded, Failure> {
    let (environment, warnings) = environment_layer(std::env::vars_os());
    let named = wishes.file.map(|path| read_file(path).map(|text| (path.to_path_buf(), text))).transpose()?;
    let named = named.map(|(path, text)| parse(&path, &text).map(|layer| (path, layer))).transpose()?;

    let mut below: Vec<Layer> = named.iter().map(|(_, layer)| layer.clone()).collect();
    below.push(environment);
    below.push(flag_layer(wishes));
    if named.is_some() {
        let settings = checked(&below, machine)?;
        return Ok(Loaded { settings, file: named.map(|(path, _)| path), warnings });
    }

    // Without --config the file lies in the state folder, which only flags and environment can move.
    let state_dir = state_dir_of(&below, machine);
    let path = state_dir.join(FILE_NAME);
    let Some(text) = read_if_there(&path)? else {
        return Ok(Loaded { settings: checked(&below, machine)?, file: None, warnings });
    };
    let layer = parse(&path, &text)?;
    if let Some(entry) = layer.entries.iter().find(|entry| entry.key == "node.state_dir") {
        return Err(Failure::new(
            Exit::Usage,
            format!("{}: a file inside the state folder cannot move the state folder", entry.origin),
            format!(
                "`node.state_dir` is {}, but this file was found in {}",
                entry.value,
                state_dir.display()
            ),
            "remove node.state_dir, and use --state-dir or ARW_STATE_DIR, or keep the file elsewhere and name it with --config",
        ));
    }
    below.insert(0, layer);
    Ok(Loaded { settings: checked(&below, machine)?, file: Some(path), warnings })
}

fn checked(layers: &[Layer], machine: &MachineDefaults) -> Result<Settings, Failure> {
    NodeConfig::from_layers(layers, machine).map_err(|errors| {
        let count = errors.0.len();
        let what = if count == 1 { "a setting is wrong".to_owned() } else { format!("{count} settings are wrong") };
        let help = "correct it; `configs/arw.example.toml` shows every setting, `arw config explain` what is in force";
        Failure::new(Exit::Usage, what, errors.to_string(), help)
    })
}

fn state_dir_of(layers: &[Layer], machine: &MachineDefaults) -> PathBuf {
    let mut entries = layers.iter().flat_map(|layer| &layer.entries);
    let last = entries.rfind(|entry| entry.key == "node.state_dir");
    match last.map(|entry| &entry.value) {
        Some(Value::Untyped(text) | Value::Text(text)) if !text.is_empty() => PathBuf::from(text),
        Some(_) | None => machine.state_dir.clone(),
    }
}

fn flag_layer(wishes: &Wishes<'_>) -> Layer {
    let state_dir = wishes.state_dir.map(|(dir, origin)| {
        let value = Value::Untyped(dir.to_string_lossy().into_owned());
        Entry { key: "node.state_dir".to_owned(), value, origin: origin.clone() }
    });
    let flags = wishes.flags.iter().map(|(flag, key, text)| Entry {
        key: (*key).to_owned(),
        value: Value::Untyped(text.clone()),
        origin: Origin::Flag((*flag).to_owned()),
    });
    Layer { entries: state_dir.into_iter().chain(flags).collect() }
}

/// `ARW_GATEWAY__HTTP` sets `gateway.http`. A name that looks like a setting and is none is warned about: the
/// node must not refuse to start for a variable that may belong to something else.
fn environment_layer(variables: impl Iterator<Item = (OsString, OsString)>) -> (Layer, Vec<String>) {
    let keys = NodeConfig::keys();
    let names: Vec<String> = keys.iter().map(|key| variable_of(key)).collect();
    let others = args::variables().into_iter().map(|(name, _)| name);
    let others: Vec<String> = others.chain([TOKEN_VARIABLE.to_owned()]).collect();
    let mut layer = Layer::default();
    let mut warnings = Vec::new();
    let mut variables: Vec<(String, OsString)> =
        variables.filter_map(|(name, value)| name.into_string().ok().map(|name| (name, value))).collect();
    variables.sort();
    for (name, value) in variables.into_iter().filter(|(name, _)| name.starts_with("ARW_")) {
        if others.contains(&name) || name.starts_with(API_KEY_PREFIX) {
            continue;
        }
        let Some(place) = names.iter().position(|known| *known == name) else {
            let near = nearest(&name, names.iter().chain(&others).map(String::as_str));
            if name.contains("__") || near.is_some() {
                let advice = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
                warnings.push(format!(
                    "warning: environment variable {name} is no setting and is ignored{advice}"
                ));
            }
            continue;
        };
        match value.into_string() {
            Ok(text) => layer.entries.push(Entry {
                key: keys[place].clone(),
                value: Value::Untyped(text),
                origin: Origin::Environment(name),
            }),
            Err(_) => {
                warnings.push(format!("warning: environment variable {name} is not UTF-8 and is ignored"));
            }
        }
    }
    (layer, warnings)
}

/// The environment variable that sets a key.
pub(crate) fn variable_of(key: &str) -> String {
    format!("ARW_{}", key.replace('.', "__").to_ascii_uppercase())
}

fn read_file(path: &Path) -> Result<String, Failure> {
    read_if_there(path)?.ok_or_else(|| {
        let why = "there is no such file";
        Failure::new(
            Exit::Usage,
            format!("cannot read the settings file {}", path.display()),
            why,
            "correct --config",
        )
    })
}

fn read_if_there(path: &Path) -> Result<Option<String>, Failure> {
    let unreadable = |why: String| {
        let what = format!("cannot read the settings file {}", path.display());
        Failure::new(
            Exit::Usage,
            what,
            why,
            "make it a readable text file, or name another one with --config",
        )
    };
    match std::fs::metadata(path) {
        Ok(facts) if facts.len() > FILE_BYTES_MAX => {
            return Err(unreadable(format!(
                "it has {} bytes; settings have at most {FILE_BYTES_MAX}",
                facts.len()
            )));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    }
    std::fs::read_to_string(path).map(Some).map_err(|error| unreadable(error.to_string()))
}

/// Turns TOML into a layer, with the line and column of each key.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Layer, Failure> {
    let places = Places { path, text };
    let document = DeTable::parse(text).map_err(|error| {
        let at = places.origin(error.span().map_or(0, |span| span.start));
        let why = error.message().to_owned();
        Failure::new(
            Exit::Usage,
            format!("{at}: this is not TOML"),
            why,
            "correct the line; https://toml.io shows the form",
        )
    })?;
    let mut layer = Layer::default();
    flatten_table("", document.get_ref(), &places, &mut layer);
    Ok(layer)
}

fn flatten_table(prefix: &str, table: &DeTable<'_>, places: &Places<'_>, layer: &mut Layer) {
    for (key, value) in table {
        let dotted =
            if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        flatten_value(dotted, key.span().start, value, places, layer);
    }
}

fn flatten_value(
    key: String,
    at: usize,
    value: &Spanned<DeValue<'_>>,
    places: &Places<'_>,
    layer: &mut Layer,
) {
    match value.get_ref() {
        DeValue::Table(table) if !table.is_empty() => flatten_table(&key, table, places, layer),
        DeValue::Array(rows) if !rows.is_empty() && rows.iter().all(|row| row.get_ref().is_table()) => {
            for (index, row) in rows.iter().enumerate() {
                // An empty section still is an entry of the list.
                flatten_value(format!("{key}[{index}]"), row.span().start, row, places, layer);
            }
        }
        plain => layer.entries.push(Entry { key, value: plain_value(plain), origin: places.origin(at) }),
    }
}

fn plain_value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Text(number.to_string()),
        },
        DeValue::Float(number) => {
            number.as_str().parse().map_or_else(|_| Value::Text(number.to_string()), Value::Float)
        }
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(at) => Value::Datetime(at.to_string()),
        DeValue::Array(values) => {
            Value::List(values.iter().map(|value| plain_value(value.get_ref())).collect())
        }
        DeValue::Table(_) => Value::Table,
    }
}

/// Turns byte offsets into lines and columns.
struct Places<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Places<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.get(..offset.min(self.text.len())).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let column = before[line_start..].chars().count() + 1;
        Origin::File { path: self.path.to_path_buf(), line, column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> MachineDefaults {
        MachineDefaults { state_dir: "/nowhere/arw".into(), name: "box".to_owned() }
    }

    fn told(failure: Failure) -> String {
        match failure {
            Failure::Told(told) => told.text(),
            Failure::OutputClosed => panic!("nothing told"),
        }
    }

    fn example() -> String {
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/arw.example.toml")).unwrap()
    }

    #[test]
    fn the_example_equals_the_defaults() {
        let layer = parse(Path::new("arw.example.toml"), &example()).unwrap();
        let from_example = checked(&[layer], &machine()).unwrap();
        assert_eq!(from_example.config, checked(&[], &machine()).unwrap().config);
    }

    #[test]
    fn the_example_documents_every_key() {
        // What is commented out there must be right as well.
        let uncommented: String = example()
            .lines()
            // A setting that is commented out has no space after its `#`, an explanation has one.
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
                Some(_) | None => format!("{line}\n"),
            })
            .collect();
        let layer = parse(Path::new("arw.example.toml"), &uncommented).unwrap();
        let settings = checked(std::slice::from_ref(&layer), &machine()).unwrap();
        assert_eq!(settings.config.runtimes.len(), 2);
        let has = |key: &str| layer.entries.iter().any(|entry| entry.key == key);
        for key in NodeConfig::keys() {
            assert!(has(&key), "{key} is not in the example");
        }
        for key in NodeConfig::runtime_keys() {
            assert!(
                has(&format!("runtimes[0].{key}")) || has(&format!("runtimes[1].{key}")),
                "{key} is not in the example"
            );
        }
    }

    #[test]
    fn a_wrong_key_is_told_with_its_place() {
        let text = "[gateway]\nhttp = \"127.0.0.1:1\"\n  alowed_hosts = []\n";
        let layer = parse(Path::new("a.toml"), text).unwrap();
        let told = told(checked(&[layer], &machine()).unwrap_err());
        assert!(
            told.contains(
                "a.toml:3:3: unknown key `gateway.alowed_hosts`; did you mean `gateway.allowed_hosts`?"
            ),
            "{told}"
        );
    }

    #[test]
    fn text_that_is_not_toml_is_told_with_its_place() {
        let told = told(parse(Path::new("a.toml"), "[gateway]\nhttp = = 3\n").unwrap_err());
        assert!(told.starts_with("error: a.toml:2:8: this is not TOML\n  why: "), "{told}");
    }

    #[test]
    fn empty_sections_and_odd_values_are_seen() {
        let text = "[gatewy]\n[[runtimes]]\n[log]\nlevel = 1979-05-27\nformat = 99999999999999999999\n";
        let layer = parse(Path::new("a.toml"), text).unwrap();
        let told = told(checked(&[layer], &machine()).unwrap_err());
        for wanted in [
            "unknown section `gatewy`",
            "`runtimes[0].id` is missing",
            "not 1979-05-27",
            "a.toml:5:1: `log.format`",
        ] {
            assert!(told.contains(wanted), "{told} lacks {wanted}");
        }
    }

    #[test]
    fn variables_are_settings_or_warned_about_or_none_of_our_business() {
        let set = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect();
            environment_layer(pairs.into_iter())
        };
        let (layer, warnings) = set(&[
            ("ARW_GATEWAY__HTTP", "127.0.0.1:1"),
            ("ARW_TOKEN", "t"),
            ("ARW_ENGINE_MARK", "x"),
            ("ARW_KEY_NORTH__1", "k"),
            ("HOME", "/"),
        ]);
        assert_eq!(layer.entries.len(), 1);
        assert!(warnings.is_empty(), "{warnings:?}");
        let (layer, warnings) = set(&[("ARW_GATEWAY_HTTP", "127.0.0.1:1"), ("ARW_WEATHER__RAIN", "x")]);
        assert!(layer.entries.is_empty());
        assert_eq!(
            warnings,
            [
                "warning: environment variable ARW_GATEWAY_HTTP is no setting and is ignored; did you mean ARW_GATEWAY__HTTP?",
                "warning: environment variable ARW_WEATHER__RAIN is no setting and is ignored",
            ]
        );
    }

    #[test]
    fn a_file_in_the_state_folder_cannot_move_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), "[node]\nstate_dir = \"/elsewhere\"\n").unwrap();
        let state_dir = (folder.path().to_path_buf(), Origin::Flag("--state-dir".to_owned()));
        let wishes = Wishes { state_dir: Some(&state_dir), ..Wishes::default() };
        let told = told(load(&wishes, &machine()).unwrap_err());
        assert!(told.contains("cannot move the state folder"), "{told}");
    }

    #[test]
    fn flags_win_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), "[log]\nlevel = \"warn\"\nformat = \"json\"\n")
            .unwrap();
        let flags = vec![("--log-level", "log.level", "debug".to_owned())];
        let state_dir = (folder.path().to_path_buf(), Origin::Environment("ARW_STATE_DIR".to_owned()));
        let loaded = load(&Wishes { state_dir: Some(&state_dir), file: None, flags }, &machine()).unwrap();
        let row = |key: &str| loaded.settings.explained.iter().find(|row| row.key == key).unwrap();
        assert_eq!(row("log.level").origin, Origin::Flag("--log-level".to_owned()));
        assert!(row("log.format").origin.to_string().ends_with("arw.toml:3:1"));
        assert_eq!(loaded.settings.config.node.state_dir, folder.path());
    }
}
