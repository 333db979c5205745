//! Parts for tests of other crates.

pub mod fixed_runtimes;
