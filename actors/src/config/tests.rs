//! Tests of the settings: layers, refusals, suggestions.

use super::*;
use crate::runtime::spec::{IdleAfter, RestartSpec};

fn machine() -> MachineDefaults {
    MachineDefaults { state_dir: "/state".into(), name: "box".to_owned() }
}

fn file(entries: &[(&str, Value)]) -> Layer {
    let origin = |line| Origin::File { path: "arw.toml".into(), line, column: 1 };
    let entries = entries.iter().enumerate();
    let entries = entries.map(|(index, (key, value))| Entry {
        key: (*key).to_owned(),
        value: value.clone(),
        origin: origin(index + 1),
    });
    Layer { entries: entries.collect() }
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn environment(name: &str, key: &str, value: &str) -> Layer {
    let origin = Origin::Environment(name.to_owned());
    Layer { entries: vec![Entry { key: key.to_owned(), value: Value::Untyped(value.to_owned()), origin }] }
}

fn load(layers: &[Layer]) -> Result<Settings, String> {
    NodeConfig::from_layers(layers, &machine()).map_err(|errors| errors.to_string())
}

#[test]
fn without_layers_everything_is_a_default() {
    let settings = load(&[]).unwrap();
    assert_eq!(settings.config.gateway.http, HTTP);
    assert_eq!(settings.config.node.name, "box");
    assert_eq!(settings.config.node.state_dir, PathBuf::from("/state"));
    assert!(settings.explained.iter().all(|row| row.origin == Origin::Default));
    let keys: Vec<&str> = settings.explained.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, NodeConfig::keys().iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn later_layers_win_key_by_key() {
    let below =
        file(&[("gateway.http", text("127.0.0.1:1000")), ("gateway.connections_max", Value::Integer(20))]);
    let above = environment("ARW_GATEWAY__HTTP", "gateway.http", "127.0.0.1:2000");
    let settings = load(&[below, above]).unwrap();
    assert_eq!(settings.config.gateway.http.port(), 2000);
    assert_eq!(settings.config.gateway.connections_max, 20);
    let origin = |key: &str| settings.explained.iter().find(|row| row.key == key).unwrap().origin.to_string();
    assert_eq!(origin("gateway.http"), "environment ARW_GATEWAY__HTTP");
    assert_eq!(origin("gateway.connections_max"), "arw.toml:2:1");
    assert_eq!(origin("log.level"), "default");
}

#[test]
fn text_from_the_environment_is_read_as_what_the_key_takes() {
    let layers = [
        environment("A", "gateway.connections_max", "99"),
        environment("B", "gateway.require_token_for_reads", "true"),
        environment("C", "gateway.allowed_hosts", "a.example, b.example"),
        environment("D", "runtime.idle_after", "off"),
        environment("E", "gateway.body_max_bytes", "1MiB"),
        environment("F", "log.format", "json"),
    ];
    let config = load(&layers).unwrap().config;
    assert_eq!(config.gateway.connections_max, 99);
    assert!(config.gateway.require_token_for_reads);
    assert_eq!(config.gateway.allowed_hosts, ["a.example", "b.example"]);
    assert_eq!(config.runtime.idle_after, None);
    assert_eq!(config.gateway.body_max_bytes, 1 << 20);
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn a_number_in_quotes_in_a_file_is_refused_with_what_is_expected() {
    let error = load(&[file(&[("gateway.connections_max", text("99"))])]).unwrap_err();
    assert_eq!(
        error,
        "arw.toml:1:1: `gateway.connections_max` takes a whole number from 16 to 65536, not \"99\""
    );
}

#[test]
fn unknown_names_are_refused_with_the_nearest_known_one() {
    for (key, what, nearest) in [
        ("gateway.htp", "key `gateway.htp`", "`gateway.http`"),
        ("gatewy.http", "section `gatewy`", "`gateway`"),
        ("store.idle_after", "key `store.idle_after`", "`runtime.idle_after`"),
        ("runtime.restarts.max", "section `runtime.restarts`", "`runtime.restart`"),
        ("runtime[0].id", "section `runtime[0]`", "`[[runtimes]]`"),
        ("runtimes.smollm2.id", "section `runtimes`", "`[[runtimes]]`"),
    ] {
        let error = load(&[file(&[(key, text("x"))])]).unwrap_err();
        assert_eq!(error, format!("arw.toml:1:1: unknown {what}; did you mean {nearest}?"));
    }
    let far = load(&[file(&[("colours", Value::Boolean(true))])]).unwrap_err();
    assert_eq!(far, "arw.toml:1:1: unknown key `colours`");
}

#[test]
fn every_mistake_is_told_at_once() {
    let error = load(&[file(&[
        ("gateway.http", text("here")),
        ("log.level", text("loud")),
        ("gateway", Value::Integer(3)),
        ("store", Value::Table),
    ])])
    .unwrap_err();
    assert_eq!(error.lines().count(), 3, "{error}");
    assert!(error.contains("for example \"127.0.0.1:8091\", not \"here\""), "{error}");
    assert!(error.contains("one of \"error\", \"warn\""), "{error}");
    assert!(error.contains("`gateway` takes keys of its own"), "{error}");
}

#[test]
fn an_address_for_other_machines_needs_tokens_for_reads() {
    let open = ("gateway.http", text("0.0.0.0:8091"));
    let error = load(&[file(std::slice::from_ref(&open))]).unwrap_err();
    assert!(error.contains("require_token_for_reads = true"), "{error}");
    assert!(load(&[file(&[open, ("gateway.require_token_for_reads", Value::Boolean(true))])]).is_ok());
}

#[test]
fn a_runtime_section_becomes_a_runtime() {
    let settings = load(&[file(&[
        ("runtimes[0].id", text("smollm2")),
        ("runtimes[0].adapter", text("llama_cpp")),
        ("runtimes[0].model", text("SmolLM2")),
        ("runtimes[0].program", text("llama-server")),
        ("runtimes[0].args", Value::List(vec![text("--host"), text("{socket}")])),
        ("runtimes[0].env.HF_TOKEN", text("very secret")),
        ("runtimes[0].idle_after", text("5m")),
        ("runtime.restart.window", text("1m")),
        ("runtimes[0].restart.max", Value::Integer(2)),
    ])])
    .unwrap();
    let runtime = &settings.config.runtimes[0];
    assert_eq!(runtime.args, ["--host", "{socket}"]);
    assert_eq!(runtime.env["HF_TOKEN"], "very secret");
    assert_eq!(runtime.idle_after_s, Some(IdleAfter::Seconds(300)));
    assert_eq!(runtime.restart, Some(RestartSpec { max: 2, window_s: 60 }));
    assert!(!format!("{:?}", settings.explained).contains("very secret"));
}

#[test]
fn a_runtime_may_stay_loaded_where_the_node_unloads_and_the_other_way_round() {
    let node = Some(Duration::from_secs(1800));
    for (own, default, wanted) in [
        (Some("off"), node, None),
        (Some("5m"), None, Some(Duration::from_secs(300))),
        (None, node, node),
        (None, None, None),
    ] {
        let mut entries = vec![
            ("runtimes[0].id", text("a")),
            ("runtimes[0].adapter", text("process")),
            ("runtimes[0].program", text("p")),
        ];
        entries.extend(own.map(|own| ("runtimes[0].idle_after", text(own))));
        let runtime = load(&[file(&entries)]).unwrap().config.runtimes.remove(0);
        assert_eq!(runtime.idle_after(default), wanted, "{own:?}");
    }
    let error = load(&[file(&[("runtimes[0].idle_after", text("never"))])]).unwrap_err();
    assert!(error.contains("or \"off\""), "{error}");
}

#[test]
fn a_runtime_lacking_what_its_adapter_needs_is_refused() {
    let id = ("runtimes[0].id", text("a"));
    let adapter = |name| ("runtimes[0].adapter", text(name));
    for (entries, wanted) in [
        (vec![id.clone()], "`runtimes[0].adapter` is missing"),
        (vec![adapter("process")], "`runtimes[0].id` is missing"),
        (vec![id.clone(), adapter("process")], "`runtimes[0]`: adapter `process` needs a program"),
        (
            vec![id.clone(), adapter("llama_cpp"), ("runtimes[0].program", text("p"))],
            "`runtimes[0]`: adapter `llama_cpp` needs a model",
        ),
        (vec![id.clone(), adapter("openai")], "needs `base_url`"),
        (vec![id.clone(), adapter("llama")], "takes one of \"llama_cpp\""),
        (vec![("runtimes[0].id", text("../a")), adapter("process")], "not a valid name"),
        (
            vec![
                id.clone(),
                adapter("process"),
                ("runtimes[0].program", text("p")),
                ("runtimes[0].allow_read", Value::List(vec![text("rel")])),
            ],
            "`rel` is not absolute",
        ),
        (
            vec![
                id.clone(),
                adapter("process"),
                ("runtimes[0].program", text("p")),
                ("runtimes[0].allow_exec", Value::List(vec![text("rel/bin")])),
            ],
            "`rel/bin` is not absolute",
        ),
        (
            vec![
                id.clone(),
                adapter("process"),
                ("runtimes[0].program", text("p")),
                ("runtimes[0].modell", text("m")),
            ],
            "did you mean `runtimes[0].model`?",
        ),
    ] {
        let error = load(&[file(&entries)]).unwrap_err();
        assert!(error.contains(wanted), "{error} should contain {wanted}");
        assert!(error.starts_with("arw.toml:"), "{error}");
    }
}

#[test]
fn a_list_of_sections_may_be_empty_but_nothing_else() {
    assert!(load(&[file(&[("runtimes", Value::List(Vec::new()))])]).is_ok());
    let error = load(&[file(&[("runtimes", Value::List(vec![text("a")]))])]).unwrap_err();
    assert!(error.contains("each beginning with [[runtimes]], not [\"a\"]"), "{error}");
}

#[test]
fn two_runtimes_may_not_share_a_name() {
    let error = load(&[file(&[
        ("runtimes[0].id", text("a")),
        ("runtimes[0].adapter", text("process")),
        ("runtimes[0].program", text("p")),
        ("runtimes[1].id", text("a")),
        ("runtimes[1].adapter", text("process")),
        ("runtimes[1].program", text("p")),
    ])])
    .unwrap_err();
    assert!(error.starts_with("arw.toml:4:1: `runtimes[1].id`: a runtime named a exists already"), "{error}");
}
