//! Does a model fit into memory?
//!
//! Owns the estimate and the comparison. Refuses to know what is free (`hardware`) and what to evict.
