//! Several nodes as a stranger runs them: join tokens, one picture, requests across nodes, and the worst
//! moments.

#![cfg(target_os = "linux")]

#[cfg(test)]
#[path = "cluster/faults.rs"]
mod faults;
#[cfg(test)]
#[path = "cluster/kit.rs"]
mod kit;
#[cfg(test)]
#[path = "cluster/life.rs"]
mod life;
#[cfg(test)]
#[path = "cluster/namespaces.rs"]
mod namespaces;
#[cfg(test)]
#[path = "cluster/network.rs"]
mod network;
#[cfg(test)]
#[path = "cluster/serving.rs"]
mod serving;
