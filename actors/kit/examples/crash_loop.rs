//! A service that fails again and again is set aside and tried later, while its neighbour goes on. An
//! observer is told of each step.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::life::{Backoff, RestartLimits};
use arw_kit::mailbox::{Actor, Context, Fault, Reply};
use arw_kit::supervision::{
    ActorSpec, ActorSystem, OnExhausted, Quarantine, RestartEvent, RestartHistory, SupervisionObserver,
};

/// Prints what a program would write to its log or journal.
#[derive(Debug)]
struct Printer;

impl SupervisionObserver for Printer {
    fn observe(&self, event: &RestartEvent) {
        match event {
            RestartEvent::Restarting { path, reason, budget, delay } => {
                println!("{path} failed: {reason}; restart {} of {} in {delay:?}", budget.used, budget.max);
            }
            RestartEvent::Quarantined { path, reason, wait, .. } => {
                println!("{path} is set aside for {wait:?}: {reason}");
            }
            RestartEvent::Recovered { path } => println!("{path} works again"),
            _ => {}
        }
    }
}

/// Divides. By zero is more than it can bear.
struct Service;

enum ServiceMessage {
    Divide(u32, u32, Reply<u32>),
}
arw_kit::message!(ServiceMessage { Divide });

impl Actor for Service {
    type Message = ServiceMessage;
    type Args = ();
    const KIND: &'static str = "service";

    async fn start((): &(), _: &mut Context<ServiceMessage>) -> Result<Self, Fault> {
        Ok(Self)
    }

    async fn handle(
        &mut self,
        ServiceMessage::Divide(a, b, reply): ServiceMessage,
        _: &mut Context<ServiceMessage>,
    ) -> Result<(), Fault> {
        let quotient = a.checked_div(b).ok_or(Fault::new("asked to divide by zero"))?;
        reply.send(quotient);
        Ok(())
    }
}

const PATIENCE: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let system =
        ActorSystem::with("demo", Clock::system(), Some(Arc::new(Printer)), RestartHistory::new(), 0);
    let mut root = system.root().backoff(Backoff::NONE);
    let fragile = root.actor(ActorSpec::<Service>::new("fragile", ()).on_exhausted(OnExhausted::Quarantine(
        Quarantine {
            first: Duration::from_millis(200),
            max: Duration::from_secs(30),
            probation: Duration::from_millis(100),
            limits: RestartLimits { max: 2, window: Duration::from_secs(60) },
        },
    )));
    let neighbour = root.actor(ActorSpec::<Service>::new("neighbour", ()));
    system.start(root).await?;

    let ask = |a, b| move |reply| ServiceMessage::Divide(a, b, reply);
    for _ in 0..3 {
        println!("1 / 0: {:?}", fragile.ask(ask(1, 0), PATIENCE).await);
    }
    println!("set aside: {:?}", fragile.ask(ask(6, 3), PATIENCE).await);
    println!("its neighbour: {:?}", neighbour.ask(ask(6, 3), PATIENCE).await);
    // A trial start, and the probation after it.
    tokio::time::sleep(Duration::from_millis(400)).await;
    println!("tried again: {:?}", fragile.ask(ask(6, 3), PATIENCE).await);
    system.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
