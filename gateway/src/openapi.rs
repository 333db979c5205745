//! The API's description for programs.
//!
//! Owns the document's head, and says of each call which scope it needs; the rest is described where it is
//! answered. `spec/openapi.json` is its committed copy.

use http::Method;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::auth::Access;
use crate::resource::{Resource, Row};
use crate::resources;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "ARW node",
        description = "State, events and control of a node, and an OpenAI-compatible API over the model servers that it runs. \
            `spec/http.md` holds the rules that this document cannot say.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "http://127.0.0.1:8091")),
    modifiers(&Bearer),
)]
struct Head;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        // HTTP-3.
        let about =
            "`arw_<id>_<secret>`, from `arw token create`. The scopes that a call needs stand beside it.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about)).build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The document, with a line end.
pub(crate) fn json() -> String {
    // A document of strings and maps can always be written.
    let mut text = whole(resources::all()).to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

fn whole(resources: Vec<Resource>) -> utoipa::openapi::OpenApi {
    resources.into_iter().fold(Head::openapi(), |mut document, Resource { routes, document: mut its }| {
        for row in &routes {
            secure(&mut its, row);
        }
        document.merge(its);
        document
    })
}

/// HTTP-4: the description of a call says what its route demands.
fn secure(document: &mut utoipa::openapi::OpenApi, Row { method, path, access, .. }: &Row) {
    let Access::Needs(scope) = access else { return };
    // axum's `{*id}` is a whole rest of the path, which OpenAPI has no word for.
    let Some(item) = document.paths.paths.get_mut(&path.replace("{*", "{")) else { return };
    let operation = match *method {
        Method::GET => &mut item.get,
        Method::POST => &mut item.post,
        _ => &mut item.delete,
    };
    if let Some(operation) = operation {
        operation.security = Some(vec![SecurityRequirement::new("token", [scope.as_str()])]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::ops::ControlFlow;

    use arw_actors::cluster::{
        At, CardAccelerator, CardRuntime, Cluster, ClusterUpdate, ClusterView, NodeCard, OwnNode, OwnPlace,
    };
    use arw_actors::ids::NodeId;
    use arw_actors::model::testkit::tiny_gguf;
    use arw_actors::projection::ReadModel;
    use arw_actors::runtime::machine::RuntimeState;
    use arw_actors::testkit::fixed_runtimes::FixedRuntimes;
    use arw_actors::testkit::sources::sources;
    use arw_kit::clock::Clock;
    use serde_json::{Value, json};

    use crate::problem::Problem;
    use crate::resources::runtimes::dto::RuntimeRow;

    /// Run with `ARW_UPDATE=1` to write the committed copy anew.
    #[test]
    fn the_committed_document_is_the_present_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/openapi.json");
        let present = super::json();
        if std::env::var_os("ARW_UPDATE").is_some() {
            std::fs::write(path, &present).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == present, "spec/openapi.json is out of date: run this test with ARW_UPDATE=1");
    }

    /// Of two shapes with one name only the first would be in the document.
    #[test]
    fn no_two_resources_give_one_name_to_different_shapes() {
        let mut known = BTreeMap::new();
        for resource in crate::resources::all() {
            for (name, shape) in resource.document.components.unwrap_or_default().schemas {
                let shape = serde_json::to_value(shape).unwrap();
                let first = known.entry(name.clone()).or_insert_with(|| shape.clone());
                assert_eq!(first, &shape, "{name}");
            }
        }
    }

    /// Every member of `value` is documented, and every documented member is there, unless `may_lack` names
    /// it.
    fn assert_shape(document: &Value, schema: &Value, value: &Value, may_lack: &[&str], at: &str) {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            return assert_shape(
                document,
                &document["components"]["schemas"][name],
                value,
                may_lack,
                &format!("{at}:{name}"),
            );
        }
        if let Some(choices) = schema["oneOf"].as_array()
            && let Some(choice) = choices.iter().find(|choice| choice["type"] != "null")
            && !value.is_null()
        {
            return assert_shape(document, choice, value, may_lack, at);
        }
        if value.is_null() {
            let is_told = schema["type"].as_array().is_some_and(|types| types.contains(&"null".into()))
                || schema["oneOf"].as_array().is_some_and(|all| all.iter().any(|it| it["type"] == "null"));
            assert!(is_told, "{at} may be null: {schema}");
        }
        if let (Some(properties), Some(members)) = (schema["properties"].as_object(), value.as_object()) {
            let documented: BTreeSet<&str> =
                properties.keys().map(String::as_str).filter(|name| !may_lack.contains(name)).collect();
            let there: BTreeSet<&str> =
                members.keys().map(String::as_str).filter(|name| !may_lack.contains(name)).collect();
            assert_eq!(documented, there, "{at}");
            for (name, member) in members {
                assert_shape(document, &properties[name], member, may_lack, &format!("{at}.{name}"));
            }
        }
        if let Some(items) = value.as_array() {
            items.iter().for_each(|item| assert_shape(document, &schema["items"], item, may_lack, at));
        }
    }

    fn schema(name: &str) -> Value {
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    #[tokio::test]
    async fn every_documented_read_model_is_a_real_one() {
        let document: Value = serde_json::from_str(&super::json()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (sources, fixed, _status) = sources(folder.path()).await;
        let spec = json!({"id": "r1", "adapter": "process", "model": "tiny", "program": "x"});
        fixed.add(serde_json::from_value(spec).unwrap(), RuntimeState::Ready).await;
        let file = folder.path().join("tiny.gguf");
        std::fs::write(&file, tiny_gguf("tiny")).unwrap();
        sources.models.import(file, None, |_| ControlFlow::Continue(())).await.unwrap();
        for view in crate::views() {
            let fields = (view.render)(&sources);
            let model = ReadModel::new(view.name, 3, sources.clock, fields);
            let body: Value = serde_json::from_slice(&model.current().body).unwrap();
            let answer = &document["paths"][format!("/state/{}", view.name)]["get"]["responses"]["200"];
            let schema = &answer["content"]["application/json"]["schema"];
            assert_shape(&document, schema, &body, &[], view.name);
        }
    }

    #[tokio::test]
    async fn a_documented_runtime_is_a_real_one() {
        let document: Value = serde_json::from_str(&super::json()).unwrap();
        let (_system, fixed) = FixedRuntimes::start().await;
        let spec = serde_json::from_value(json!({"id": "r1", "adapter": "process", "program": "x"})).unwrap();
        fixed.add(spec, RuntimeState::Ready).await;
        fixed.change("r1", |row| {
            row.sandbox = Some(arw_actors::runtime::launcher::SandboxReport::default());
            row.last_exit = Some(arw_actors::runtime::row::LastExitRow {
                reason: "stop",
                detail: String::new(),
                at: row.since,
            });
        });
        let row = RuntimeRow::from(fixed.runtimes().row("r1").unwrap());
        let row = serde_json::to_value(row).unwrap();
        assert_shape(&document, &schema("RuntimeRow"), &row, &[], "row");
    }

    #[test]
    fn a_documented_cluster_is_a_real_one() {
        let document: Value = serde_json::from_str(&super::json()).unwrap();
        let (id, clock) = (NodeId::from_bytes([9; 32]), Clock::system());
        let own = OwnNode { id, name: "own".to_owned(), incarnation: 1, started_at: clock.wall() };
        let mut view = ClusterView::new(own);
        let place = OwnPlace {
            cluster: "c1".to_owned(),
            roles: vec!["home".to_owned()],
            address: std::net::SocketAddr::from(([10, 0, 0, 1], 7400)),
            address_by: "the default route".to_owned(),
            warnings: vec!["a copy of it runs".to_owned()],
            certificate_until: clock.wall(),
            is_issuer: true,
            issuer: id,
        };
        view.fold(At { now: clock.now(), wall: clock.wall() }, ClusterUpdate::Place(place));
        let mut card = NodeCard { runtimes: vec![CardRuntime::default()], ..NodeCard::default() };
        card.hardware.accelerators.push(CardAccelerator::default());
        let cluster = Cluster::default();
        cluster.set_picture(view.picture(clock.now(), &card.into()));
        let body = Value::Object(crate::cluster_body(&cluster.picture()));
        let envelope = ["epoch", "version", "generated_at"];
        assert_shape(&document, &schema("ClusterState"), &body, &envelope, "cluster");
    }

    /// HTTP-5.
    #[test]
    fn a_documented_refusal_is_a_real_one() {
        let document: Value = serde_json::from_str(&super::json()).unwrap();
        let problem = Problem::field("a", "b", "c").with("known", Vec::<String>::new());
        assert_shape(&document, &schema("ProblemBody"), &problem.to_rfc9457(), &[], "problem");
        assert_shape(&document, &schema("OpenAiError"), &problem.to_openai(), &[], "error");
    }
}
