//! A node's settings, typed and validated.
