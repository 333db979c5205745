//! Endpoints over real sockets on loopback.

mod kit;

mod blobs;
mod hearsay;
mod hostile;
mod joining;
mod mesh;
mod moving;
mod removal;
mod streams;
