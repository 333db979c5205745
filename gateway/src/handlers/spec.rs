//! `/spec/*`: this API, described for programs.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

/// The same for every node of this program; `spec/openapi.json` is its committed copy.
static OPENAPI: LazyLock<Bytes> = LazyLock::new(|| crate::openapi::json().into());

/// This API as OpenAPI 3.1.
#[utoipa::path(get, path = "/spec/openapi.json", tag = "node", responses((status = 200, description = "an OpenAPI document")))]
pub(crate) async fn openapi() -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];
    (headers, OPENAPI.clone()).into_response()
}
