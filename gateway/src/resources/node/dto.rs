//! Health and readiness.

use serde::Serialize;
use utoipa::ToSchema;

/// The process answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// Always `ok`.
    pub(crate) status: &'static str,
}

/// Whether the node takes requests, and what is wrong with it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready`, `degraded`, `starting` or `stopping`.
    pub(crate) status: &'static str,
    pub(crate) checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    /// `ok`, `warning` or `failing`.
    pub(crate) status: &'static str,
    /// What is wrong.
    pub(crate) detail: Option<String>,
}
