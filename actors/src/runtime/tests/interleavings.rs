//! Many rules at once: operators, requests, clients that leave, crashes, evictions and removals in every
//! order that a seed gives, on engines that take their time.
//!
//! `ARW_SEED=7` runs one seed, `ARW_SEEDS=100000` that many. A failure names its seed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::kit::{Ground, MB, PATIENCE, Stage};
use crate::runtime::lease::{AcquireError, EngineLease};
use crate::runtime::machine::RuntimeState;
use crate::testkit::fake_launcher::Script;

/// SplitMix64: the same numbers from the same seed, everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }

    fn one_of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        let index = self.below(all.len() as u64);
        &all[usize::try_from(index).unwrap()]
    }
}

type Asked = JoinHandle<Result<EngineLease, AcquireError>>;

const NAMES: [&str; 3] = ["a", "b", "c"];
const STEPS: u64 = 30;

struct Run {
    stage: Stage,
    chance: Chance,
    asked: Vec<Asked>,
    leases: Vec<EngineLease>,
    needs: HashMap<&'static str, u64>,
    /// Runtimes whose engines end by themselves.
    crashing: HashSet<&'static str>,
    /// Actors that may still fall: past their own budget they are set aside, which is another story.
    falls_left: u32,
    /// Somebody else has ended a program, or one ends by itself: budgets may be spent.
    anything_failed: bool,
}

impl Run {
    async fn begin(ground: &Arc<Ground>, seed: u64) -> Self {
        let mut chance = Chance(seed);
        let memory = 600 + chance.below(2_000);
        let stage = Stage::on(ground, memory * MB, |settings| settings.queue_max = 4).await;
        let mut run = Self {
            stage,
            chance,
            asked: Vec::new(),
            leases: Vec::new(),
            needs: HashMap::new(),
            crashing: HashSet::new(),
            falls_left: 3,
            anything_failed: false,
        };
        for name in NAMES {
            run.add(name).await;
        }
        run
    }

    async fn add(&mut self, name: &'static str) {
        let crashes = self.chance.below(6) == 0;
        self.anything_failed |= crashes;
        if crashes {
            self.crashing.insert(name)
        } else {
            self.crashing.remove(name)
        };
        let script = Script {
            launches_after: self.chance.millis(50),
            loads_for: self.chance.millis(600),
            ends_after: (self.chance.below(4) > 0).then(|| self.chance.millis(1_500)),
            dies_after: Some(self.chance.millis(200)),
            crashes_after: crashes.then(|| self.chance.millis(2_000)),
            returns_after: self.chance.millis(6_000) * u32::from(self.chance.below(3) == 0),
            ..Script::default()
        };
        let needed = (200 + self.chance.below(900)) * MB;
        self.needs.insert(name, needed);
        self.stage.add(name, needed, script).await;
    }

    async fn step(&mut self) {
        let name = *self.chance.one_of(&NAMES);
        let runtimes = &self.stage.runtimes;
        match self.chance.below(14) {
            0..=3 => self.asked.push(self.stage.begin_to_ask(name)),
            4 if !self.asked.is_empty() => {
                let index = self.chance.below(self.asked.len() as u64);
                self.asked.swap_remove(usize::try_from(index).unwrap()).abort();
            }
            5 | 6 => self.leases.clear(),
            // The answers say what a runtime was when it was told; what it does with it is seen at the end.
            7 => drop(runtimes.start(name).await),
            8 => drop(runtimes.stop(name).await),
            9 => drop(runtimes.restart(name).await),
            10 => {
                self.anything_failed = true;
                self.stage.machine.kill(name);
            }
            11 if self.chance.below(4) == 0 => {
                self.leases.retain(|lease| lease.runtime().as_str() != name);
                // A directory that falls meanwhile does not answer, and goes on with it.
                while self.stage.runtimes.row(name).is_ok() {
                    drop(self.stage.runtimes.remove(name).await);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                self.add(name).await;
            }
            12 if self.falls_left > 0 => {
                self.anything_failed = true;
                self.falls_left -= 1;
                assert!(self.stage.supervisor.kill(name, Duration::from_secs(5)).await);
            }
            13 if self.falls_left > 0 && self.chance.below(2) == 0 => {
                self.anything_failed = true;
                self.falls_left -= 1;
                assert!(self.stage.root.kill("directory", Duration::from_secs(5)).await);
            }
            _ => {}
        }
        tokio::time::sleep(self.chance.millis(400)).await;
        let (done, waiting) = std::mem::take(&mut self.asked).into_iter().partition(JoinHandle::is_finished);
        self.asked = waiting;
        for asked in done {
            self.take(asked).await;
        }
        self.check_rows().await;
    }

    async fn take(&mut self, asked: Asked) {
        match asked.await.unwrap() {
            Ok(lease) => self.leases.push(lease),
            Err(AcquireError::Unknown(_)) => {
                panic!("every runtime that is asked for is known")
            }
            Err(_) => {}
        }
    }

    /// What is shown is what is, but for a program that began or ended this very moment.
    async fn check_rows(&self) {
        let before = self.stage.machine.alive();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let alive = self.stage.machine.alive();
        for row in self.stage.runtimes.rows() {
            let is_in = |list: &[String]| list.iter().any(|id| *id == row.id.as_str());
            if is_in(&before) != is_in(&alive) {
                continue;
            }
            let runs = is_in(&alive);
            if matches!(row.state, RuntimeState::Stopped | RuntimeState::Failed | RuntimeState::Quarantined) {
                assert!(!runs, "{row:?}");
                assert_eq!((row.pid, &row.socket), (None, &None), "{row:?}");
            }
            if matches!(row.state, RuntimeState::Ready | RuntimeState::Warming) {
                assert!(runs && row.pid.is_some(), "{row:?}");
            }
            let held = self.leases.iter().filter(|lease| *lease.runtime() == row.id).count();
            let waiting = self.asked.len();
            assert!(row.in_flight as usize <= held + waiting, "{row:?}");
            if !self.anything_failed {
                assert_eq!(row.restart_budget.used, 0, "a stop or a wait spends no budget: {row:?}");
            }
        }
    }

    async fn finish(mut self) {
        // Every request ends: in a lease, or in a refusal with a reason.
        for asked in std::mem::take(&mut self.asked) {
            self.leases.clear();
            let answer = tokio::time::timeout(PATIENCE + Duration::from_secs(60), asked).await;
            self.leases.extend(answer.expect("a request never ended").unwrap());
        }
        self.leases.clear();
        for name in NAMES {
            self.stage.runtimes.stop(name).await.unwrap();
        }
        for name in NAMES {
            let row = self.stage.runtimes.settled(name, Duration::from_secs(120)).await.unwrap();
            assert!(!matches!(row.state, RuntimeState::Draining), "{row:?}");
            assert_eq!((row.queue.waiting, self.stage.row(name).in_flight), (0, 0), "{row:?}");
        }
        self.check_rows().await;
        assert!(self.stage.machine.alive().is_empty());
        // No promise is without an owner: alone, each has the whole machine.
        let total = self.stage.memory_bytes();
        for name in NAMES.into_iter().filter(|name| self.needs[name] + 50 * MB < total) {
            self.stage.runtimes.start(name).await.unwrap();
            let row = self.stage.runtimes.settled(name, Duration::from_secs(60)).await.unwrap();
            let may_fail = self.crashing.contains(name);
            assert!(may_fail || row.state == RuntimeState::Ready, "{row:?}");
            let reason = row.reason.clone().unwrap_or_default();
            assert!(!reason.starts_with("not loaded"), "{row:?}");
            self.stage.runtimes.stop(name).await.unwrap();
            self.stage.runtimes.settled(name, Duration::from_secs(60)).await.unwrap();
        }
        self.stage.end().await;
    }
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("ARW_SEED") {
        return seed..seed + 1;
    }
    0..number("ARW_SEEDS").unwrap_or(2_000)
}

/// ROOM-1, ROOM-4, ROOM-5, RUN-1, RUN-2, RUN-4.
fn run(part: u64, parts: u64) {
    for chunk in seeds().filter(|seed| seed % parts == part).collect::<Vec<_>>().chunks(100) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.unwrap();
        let ground = runtime.block_on(Ground::lay());
        for seed in chunk {
            let case = std::panic::AssertUnwindSafe(|| {
                runtime.block_on(async {
                    let mut run = Run::begin(&ground, *seed).await;
                    for _ in 0..STEPS {
                        run.step().await;
                    }
                    run.finish().await;
                });
            });
            if let Err(panic) = std::panic::catch_unwind(case) {
                eprintln!("ARW_SEED={seed} does this again");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// In parts, which run beside each other.
const PARTS: u64 = 4;

#[test]
fn no_order_of_commands_requests_and_crashes_breaks_a_rule() {
    run(0, PARTS);
}

#[test]
fn nor_does_any_of_the_second_part() {
    run(1, PARTS);
}

#[test]
fn nor_does_any_of_the_third_part() {
    run(2, PARTS);
}

#[test]
fn nor_does_any_of_the_fourth_part() {
    run(3, PARTS);
}
