//! One read model as HTTP shows it.
//!
//! Owns what is the same for all of them: two routes, their description, and the members that every body
//! begins with. Refuses to know which there are.

use arw_actors::views::View;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{KnownFormat, OpenApi, RefOr, SchemaFormat};

use crate::resource::Resource;

/// Made by [`read_model!`].
pub(crate) struct Shown {
    pub(crate) view: View,
    pub(crate) resource: Resource,
    /// HTTP-16: a node shows it to others of its cluster. What it does not show them it has only from its own
    /// point of view.
    pub(crate) is_for_peers: bool,
}

/// The members of a body. What is no object, which no body is, has none.
pub(crate) fn members(body: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(body) {
        Ok(Value::Object(members)) => members,
        Ok(_) | Err(_) => Map::new(),
    }
}

/// Adds to the description of a body what `projection/` adds to each.
pub(crate) fn with_version(mut document: OpenApi, body: &str) -> OpenApi {
    let number = |about: &str| {
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
        number.format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64))).description(Some(about))
    };
    let added = [
        ("epoch", number("Changes with each start of the node.")),
        ("version", number("Grows within an epoch.")),
        ("generated_at", ObjectBuilder::new().schema_type(Type::String).description(Some("RFC 3339."))),
    ];
    let schemas = document.components.as_mut().map(|components| &mut components.schemas);
    if let Some(RefOr::T(Schema::Object(object))) = schemas.and_then(|schemas| schemas.get_mut(body)) {
        object.required.splice(0..0, added.iter().map(|(name, _)| (*name).to_owned()));
        object.properties.extend(added.map(|(name, member)| (name.to_owned(), member.build().into())));
    }
    document
}

/// Makes the two calls of a read model, and `shown()`, which says all of it.
macro_rules! read_model {
    ($document:ident, $stream:ident, $path:literal, $stream_path:literal, $body:ident $(<$life:lifetime>)?, $about:literal, for_peers: $peers:literal, $view:expr) => {
        /// When it changes, and how it is rendered.
        pub(super) const VIEW: arw_actors::views::View = $view;

        #[doc = $about]
        #[utoipa::path(get, path = $path, tag = "state", params(
            ("after" = Option<String>, Query, description = "answer only when there is something newer than this version (`x-arw-version`)"),
            ("wait" = Option<String>, Query, description = "how long to wait for it, for example `30s`; at most `60s`"),
            ("node" = Option<String>, Query, description = "another node of the cluster: its id, at least eight digits of it, or its name; not for `cluster`"),
            ("If-None-Match" = Option<String>, Header, description = "an ETag of an earlier answer"),
        ), responses(
            (status = 200, body = $body $(<$life>)?, headers(("ETag" = String), ("x-arw-version" = String), ("x-arw-node" = String))),
            (status = 304, description = "nothing newer"),
            (status = 404, body = $crate::problem::ProblemBody, content_type = "application/problem+json", description = "no such node; `known` lists the names that there are"),
            (status = 422, body = $crate::problem::ProblemBody, content_type = "application/problem+json"),
            (status = 503, body = $crate::problem::ProblemBody, content_type = "application/problem+json", description = "the other node cannot be reached"),
        ))]
        async fn $document(
            axum::extract::State(gate): axum::extract::State<$crate::shared::Gate>,
            headers: http::HeaderMap,
            $crate::extract::Params(poll): $crate::extract::Params<super::Poll>,
        ) -> Result<axum::response::Response, $crate::problem::Problem> {
            super::anywhere(&gate, VIEW.name, &headers, &poll).await
        }

        #[doc = $about]
        #[utoipa::path(get, path = $stream_path, tag = "state",
            description = "Server-sent events: `snapshot` (the whole body), then `patch` (`{from, patch}` with an RFC 6902 patch); `resync` and `lag` tell of gaps.",
            params(
                ("after" = Option<String>, Query, description = "go on after this version"),
                ("node" = Option<String>, Query, description = "another node of the cluster: its id, at least eight digits of it, or its name; not for `cluster`"),
                ("Last-Event-ID" = Option<String>, Header, description = "go on after this version"),
            ), responses(
                (status = 200, content_type = "text/event-stream", body = String, headers(("x-arw-node" = String))),
                (status = 404, body = $crate::problem::ProblemBody, content_type = "application/problem+json", description = "no such node; `known` lists the names that there are"),
                (status = 429, body = $crate::problem::ProblemBody, content_type = "application/problem+json"),
                (status = 502, body = $crate::problem::ProblemBody, content_type = "application/problem+json", description = "the other node sends no stream"),
                (status = 503, body = $crate::problem::ProblemBody, content_type = "application/problem+json", description = "the other node cannot be reached"),
            ))]
        async fn $stream(
            axum::extract::State(gate): axum::extract::State<$crate::shared::Gate>,
            headers: http::HeaderMap,
            $crate::extract::Params(resume): $crate::extract::Params<super::Resume>,
        ) -> Result<axum::response::Response, $crate::problem::Problem> {
            super::follow_anywhere(&gate, VIEW.name, &headers, &resume).await
        }

        $crate::resource::resource! { "state", "Read models: versioned documents, and patches as they change":
            get($path, Read, $document),
            get($stream_path, Read, $stream),
        }

        /// This read model.
        pub(super) fn shown() -> super::shown::Shown {
            let $crate::resource::Resource { routes, document } = resource();
            let document = super::shown::with_version(document, stringify!($body));
            let resource = $crate::resource::Resource { routes, document };
            super::shown::Shown { view: VIEW, resource, is_for_peers: $peers }
        }
    };
}

pub(crate) use read_model;
