//! The `arw` program against a gateway that answers as `spec/http.md` says: what it sends, shows and returns.

#[cfg(test)]
mod bodies;
#[cfg(test)]
mod gateway;

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod control;
#[cfg(test)]
mod conversation;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod local;
#[cfg(test)]
mod shows;
#[cfg(test)]
mod streams;
