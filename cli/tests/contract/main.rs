//! The `arw` program against a gateway that answers as `spec/http.md` says: what it sends, shows and returns.

mod bodies;
mod gateway;

mod control;
mod conversation;
mod errors;
mod local;
mod shows;
mod streams;
