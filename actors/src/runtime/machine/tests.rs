//! The machine, by example and by property.
