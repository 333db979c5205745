//! One fault at a time, and what everybody makes of it.
