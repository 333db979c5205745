//! Five nodes, any faults, many seeds.
