//! Cards as they travel: JSON, read as far as it is understood.
//!
//! Owns the names of the fields on the wire and the bounds of what is taken in. A newer node may say more,
//! which is passed over; what it leaves out has a default. So cards need no version, and a cluster is
//! upgraded node by node. Refuses to know what follows from a card.

use arw_actors::cluster::{
    CARD_RUNTIMES_MAX, CardAccelerator, CardBudgets, CardCpu, CardHardware, CardHealth, CardLoad, CardMemory,
    CardQueue, CardRuntime, NodeCard,
};
use arw_kit::moment::WallTime;
use serde::{Deserialize, Serialize};

use crate::wire::presentable;

/// Characters of any one text of a card.
const TEXT_CHARS_MAX: usize = 256;
/// Graphics cards of one machine.
const ACCELERATORS_MAX: usize = 32;

/// A card cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a card that cannot be read: {0}")]
pub(super) struct BadCard(#[from] serde_json::Error);

/// The card in the form in which it is sent.
pub(super) fn encode(card: &NodeCard) -> Vec<u8> {
    // Texts and numbers in fixed places can always be written.
    serde_json::to_vec(&Card::from(card)).unwrap_or_default()
}

/// The card that a peer sent, cut to what is shown.
pub(super) fn decode(bytes: &[u8]) -> Result<NodeCard, BadCard> {
    Ok(serde_json::from_slice::<Card>(bytes)?.into_card())
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Card {
    made_at_ms: i64,
    version: String,
    hardware: Hardware,
    runtimes: Vec<Runtime>,
    load: Load,
    queue: Queue,
    budgets: Budgets,
    health: Health,
    draining: bool,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Hardware {
    os: String,
    arch: String,
    cpu_model: String,
    cpu_cores: u32,
    memory_total_bytes: u64,
    memory_available_bytes: u64,
    accelerators: Vec<Accelerator>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Accelerator {
    name: String,
    backend: String,
    memory_total_bytes: Option<u64>,
    memory_free_bytes: Option<u64>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Runtime {
    id: String,
    model: String,
    state: String,
    serving: bool,
    context_length: Option<u64>,
    in_flight: u32,
    waiting: u32,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Load {
    cpu_permille: Option<u32>,
    in_flight: u32,
    actors: u32,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Queue {
    waiting: u32,
    max: u32,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Budgets {
    restarts_used: u32,
    restarts_max: u32,
    runtimes_given_up: u32,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Health {
    state: String,
    reason: Option<String>,
    hint: Option<String>,
}

impl From<&NodeCard> for Card {
    fn from(card: &NodeCard) -> Self {
        let NodeCard { made_at, version, hardware, runtimes, load, queue, budgets, health, is_draining } =
            card;
        Self {
            made_at_ms: made_at.as_millis(),
            version: version.clone(),
            hardware: hardware.into(),
            runtimes: runtimes.iter().take(CARD_RUNTIMES_MAX).map(Runtime::from).collect(),
            load: Load { cpu_permille: load.cpu_permille, in_flight: load.in_flight, actors: load.actors },
            queue: Queue { waiting: queue.waiting, max: queue.max },
            budgets: Budgets {
                restarts_used: budgets.restarts_used,
                restarts_max: budgets.restarts_max,
                runtimes_given_up: budgets.runtimes_given_up,
            },
            health: Health {
                state: health.state.clone(),
                reason: health.reason.clone(),
                hint: health.hint.clone(),
            },
            draining: *is_draining,
        }
    }
}

impl From<&CardHardware> for Hardware {
    fn from(hardware: &CardHardware) -> Self {
        let accelerators = hardware.accelerators.iter().take(ACCELERATORS_MAX).map(|card| Accelerator {
            name: card.name.clone(),
            backend: card.backend.clone(),
            memory_total_bytes: card.memory_total_bytes,
            memory_free_bytes: card.memory_free_bytes,
        });
        Self {
            os: hardware.os.clone(),
            arch: hardware.arch.clone(),
            cpu_model: hardware.cpu.model.clone(),
            cpu_cores: hardware.cpu.usable_cores,
            memory_total_bytes: hardware.memory.total_bytes,
            memory_available_bytes: hardware.memory.available_bytes,
            accelerators: accelerators.collect(),
        }
    }
}

impl From<&CardRuntime> for Runtime {
    fn from(runtime: &CardRuntime) -> Self {
        Self {
            id: runtime.id.clone(),
            model: runtime.model.clone(),
            state: runtime.state.clone(),
            serving: runtime.is_serving,
            context_length: runtime.context_length,
            in_flight: runtime.in_flight,
            waiting: runtime.waiting,
        }
    }
}

impl Card {
    fn into_card(self) -> NodeCard {
        NodeCard {
            made_at: WallTime::from_millis(self.made_at_ms),
            version: shown(&self.version),
            hardware: self.hardware.into_hardware(),
            runtimes: self.runtimes.into_iter().take(CARD_RUNTIMES_MAX).map(Runtime::into_runtime).collect(),
            load: CardLoad {
                cpu_permille: self.load.cpu_permille,
                in_flight: self.load.in_flight,
                actors: self.load.actors,
            },
            queue: CardQueue { waiting: self.queue.waiting, max: self.queue.max },
            budgets: CardBudgets {
                restarts_used: self.budgets.restarts_used,
                restarts_max: self.budgets.restarts_max,
                runtimes_given_up: self.budgets.runtimes_given_up,
            },
            health: CardHealth {
                state: shown(&self.health.state),
                reason: self.health.reason.as_deref().map(shown),
                hint: self.health.hint.as_deref().map(shown),
            },
            is_draining: self.draining,
        }
    }
}

impl Hardware {
    fn into_hardware(self) -> CardHardware {
        let accelerators = self.accelerators.into_iter().take(ACCELERATORS_MAX).map(|card| CardAccelerator {
            name: shown(&card.name),
            backend: shown(&card.backend),
            memory_total_bytes: card.memory_total_bytes,
            memory_free_bytes: card.memory_free_bytes,
        });
        CardHardware {
            os: shown(&self.os),
            arch: shown(&self.arch),
            cpu: CardCpu { model: shown(&self.cpu_model), usable_cores: self.cpu_cores },
            memory: CardMemory {
                total_bytes: self.memory_total_bytes,
                available_bytes: self.memory_available_bytes,
            },
            accelerators: accelerators.collect(),
        }
    }
}

impl Runtime {
    fn into_runtime(self) -> CardRuntime {
        CardRuntime {
            id: shown(&self.id),
            model: shown(&self.model),
            state: shown(&self.state),
            is_serving: self.serving,
            context_length: self.context_length,
            in_flight: self.in_flight,
            waiting: self.waiting,
        }
    }
}

/// Texts of peers are shown on terminals.
fn shown(text: &str) -> String {
    presentable(text, TEXT_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> NodeCard {
        NodeCard {
            made_at: WallTime::from_millis(1_700_000_000_123),
            version: "0.1.0".to_owned(),
            hardware: CardHardware {
                os: "linux".to_owned(),
                arch: "x86_64".to_owned(),
                cpu: CardCpu { model: "a fast one".to_owned(), usable_cores: 8 },
                memory: CardMemory { total_bytes: 1 << 35, available_bytes: 1 << 34 },
                accelerators: vec![CardAccelerator {
                    name: "a card".to_owned(),
                    backend: "cuda".to_owned(),
                    memory_total_bytes: Some(1 << 33),
                    memory_free_bytes: None,
                }],
            },
            runtimes: vec![CardRuntime {
                id: "r".to_owned(),
                model: "m".to_owned(),
                state: "ready".to_owned(),
                is_serving: true,
                context_length: Some(2048),
                in_flight: 1,
                waiting: 2,
            }],
            load: CardLoad { cpu_permille: Some(500), in_flight: 1, actors: 9 },
            queue: CardQueue { waiting: 2, max: 64 },
            budgets: CardBudgets { restarts_used: 1, restarts_max: 5, runtimes_given_up: 1 },
            health: CardHealth {
                state: "warning".to_owned(),
                reason: Some("so".to_owned()),
                hint: Some("do".to_owned()),
            },
            is_draining: true,
        }
    }

    #[test]
    fn a_card_arrives_as_it_was_sent() {
        assert_eq!(decode(&encode(&full())).unwrap(), full());
    }

    #[test]
    fn a_newer_node_may_say_more_and_an_older_one_less() {
        let more = br#"{"version":"9","colour":"red","hardware":{"cpu_cores":4,"fans":3},"runtimes":[{"id":"x","speed":1}]}"#;
        let card = decode(more).unwrap();
        assert_eq!((card.version.as_str(), card.hardware.cpu.usable_cores), ("9", 4));
        assert_eq!(card.runtimes[0].id, "x");
        assert_eq!(decode(b"{}").unwrap(), NodeCard::default());
    }

    #[test]
    fn what_a_peer_sends_is_bounded_and_shows_nothing_to_a_terminal() {
        let runtimes: Vec<_> = (0..500).map(|n| serde_json::json!({"id": format!("r{n}")})).collect();
        let card =
            serde_json::json!({"version": "\u{1b}[31m".to_owned() + &"x".repeat(5000), "runtimes": runtimes});
        let card = decode(card.to_string().as_bytes()).unwrap();
        assert_eq!(card.runtimes.len(), CARD_RUNTIMES_MAX);
        assert_eq!(card.version.chars().count(), TEXT_CHARS_MAX);
        assert!(!card.version.chars().any(char::is_control));
    }

    #[test]
    fn what_is_no_card_is_refused() {
        for bytes in [b"".as_slice(), b"3", b"{\"runtimes\":3}", b"{}x", &[0xff]] {
            assert!(decode(bytes).is_err());
        }
    }
}
