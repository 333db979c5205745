//! A supervised counter: it crashes on request, is restarted, and its handle stays valid.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use arw_kit::mailbox::{Actor, Context, Fault, Reply};
use arw_kit::supervision::{ActorSpec, ActorSystem};
use std::time::Duration;

struct Counter(u64);

enum CounterMessage {
    Add(u64),
    Get(Reply<u64>),
    Crash,
}
arw_kit::message!(CounterMessage { Add, Get, Crash });

impl Actor for Counter {
    type Message = CounterMessage;
    type Args = u64;
    const KIND: &'static str = "counter";

    async fn start(first: &u64, _: &mut Context<CounterMessage>) -> Result<Self, Fault> {
        Ok(Counter(*first))
    }

    async fn handle(
        &mut self,
        message: CounterMessage,
        _: &mut Context<CounterMessage>,
    ) -> Result<(), Fault> {
        match message {
            CounterMessage::Add(n) => self.0 += n,
            CounterMessage::Get(reply) => drop(reply.send(self.0)),
            CounterMessage::Crash => return Err(Fault::new("as requested")),
        }
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let system = ActorSystem::new("demo");
    let mut root = system.root();
    let counter = root.actor(ActorSpec::<Counter>::new("counter", 100));
    system.start(root).await?;

    counter.try_tell(CounterMessage::Add(1))?;
    println!("before the crash: {}", counter.ask(CounterMessage::Get, Duration::from_secs(1)).await?);
    counter.try_tell(CounterMessage::Crash)?;
    println!("after the restart: {}", counter.ask(CounterMessage::Get, Duration::from_secs(1)).await?);
    let row = &system.tree().rows()[0].children[0];
    println!("{} restarts {:?}, last exit: {:?}", row.path, row.restarts, row.last_exit);
    system.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
