//! Model files: what they are, where they lie, and whether they fit.
//!
//! Owns the content-addressed store under `models/` ([`store`]), the reading and checking of GGUF headers
//! ([`gguf`]) and the estimate of the memory that a model needs ([`fit`]). Refuses to know which runtime uses
//! a model and how it is served. [`ModelStore`] blocks; [`ModelLibrary`] is what actors and the gateway use.

pub mod gguf;
pub mod record;

pub(crate) mod parts;
pub mod store;

pub mod library;

pub mod fit;

#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

pub use gguf::{GgufError, GgufHeader};
pub use library::ModelLibrary;
pub use record::{ModelHash, ModelRecord};
pub use store::{ImportError, ImportProgress, ModelStore, RemoveError, Removed, StoreError};
