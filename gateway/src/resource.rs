//! One group of calls: its routes, and their description for programs.
//!
//! Owns what a resource says of itself, each route in one line: method, path, who may call it, who answers.
//! Its folder under `resources/` owns the rest. Refuses to know which resources there are.

use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;
use utoipa::openapi::OpenApi;

use crate::auth::Access;
use crate::shared::Gate;

/// One route.
pub(crate) struct Row {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) handler: MethodRouter<Gate>,
}

/// Made by [`resource!`].
pub(crate) struct Resource {
    pub(crate) routes: Vec<Row>,
    pub(crate) document: OpenApi,
}

pub(crate) fn get<H: Handler<T, Gate>, T: 'static>(path: &'static str, access: Access, handler: H) -> Row {
    Row { method: Method::GET, path, access, handler: on(MethodFilter::GET, handler) }
}

pub(crate) fn post<H: Handler<T, Gate>, T: 'static>(path: &'static str, access: Access, handler: H) -> Row {
    Row { method: Method::POST, path, access, handler: on(MethodFilter::POST, handler) }
}

pub(crate) fn delete<H: Handler<T, Gate>, T: 'static>(path: &'static str, access: Access, handler: H) -> Row {
    Row { method: Method::DELETE, path, access, handler: on(MethodFilter::DELETE, handler) }
}

/// Makes `resource()` of a tag, what it is about, and routes, so that none of them can be without its
/// description.
macro_rules! resource {
    ($tag:literal, $about:literal: $($method:ident($path:literal, $access:expr, $($handler:ident)::+),)+) => {
        #[derive(utoipa::OpenApi)]
        #[openapi(tags((name = $tag, description = $about)), paths($($($handler)::+),+))]
        struct Document;

        /// These calls.
        pub(crate) fn resource() -> $crate::resource::Resource {
            use $crate::auth::Access::*;
            let routes = vec![$($crate::resource::$method($path, $access, $($handler)::+)),+];
            $crate::resource::Resource { routes, document: <Document as utoipa::OpenApi>::openapi() }
        }
    };
}

pub(crate) use resource;
