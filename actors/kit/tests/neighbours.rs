//! What an actor sees of its system, by nothing but the public words of the crate.

use std::time::Duration;

use arw_kit::mailbox::{Actor, Context, Fault, Handle, Reply};
use arw_kit::supervision::{ActorSpec, ActorSystem};

/// Asks its neighbours on behalf of whoever asks it.
struct Clerk;

enum ClerkMessage {
    /// How many actors there are, and how many dead letters.
    Count(Reply<(usize, u64)>),
    /// Whether a clerk is to be found there.
    Knows(&'static str, Reply<bool>),
    /// Passes a message on to whoever is there.
    PassOn(&'static str, Reply<(usize, u64)>),
}
arw_kit::message!(ClerkMessage { Count, Knows, PassOn });

impl Actor for Clerk {
    type Message = ClerkMessage;
    type Args = ();
    const KIND: &'static str = "clerk";

    async fn start((): &(), _: &mut Context<ClerkMessage>) -> Result<Self, Fault> {
        Ok(Self)
    }

    async fn handle(
        &mut self,
        message: ClerkMessage,
        context: &mut Context<ClerkMessage>,
    ) -> Result<(), Fault> {
        match message {
            ClerkMessage::Count(reply) => {
                reply.send((context.tree().len(), context.dead_letters().counts().total()));
            }
            ClerkMessage::Knows(path, reply) => {
                reply.send(Handle::<ClerkMessage>::find(context.tree(), path).is_some());
            }
            ClerkMessage::PassOn(path, reply) => {
                let other = Handle::find(context.tree(), path).ok_or(Fault::new("nobody is there"))?;
                other.try_tell(ClerkMessage::Count(reply))?;
            }
        }
        Ok(())
    }
}

/// Takes other messages than a clerk.
struct Deaf;

enum DeafMessage {
    Nothing,
}
arw_kit::message!(DeafMessage { Nothing });

impl Actor for Deaf {
    type Message = DeafMessage;
    type Args = ();
    const KIND: &'static str = "deaf";

    async fn start((): &(), _: &mut Context<DeafMessage>) -> Result<Self, Fault> {
        Ok(Self)
    }

    async fn handle(&mut self, _: DeafMessage, context: &mut Context<DeafMessage>) -> Result<(), Fault> {
        context.stop();
        Ok(())
    }
}

const PATIENCE: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_actor_finds_its_neighbours_by_their_paths_and_only_those_that_take_its_messages() {
    let system = ActorSystem::new("node");
    let mut root = system.root();
    let first = root.actor(ActorSpec::<Clerk>::new("first", ()));
    let _second = root.actor(ActorSpec::<Clerk>::new("second", ()));
    let deaf = root.actor(ActorSpec::<Deaf>::new("deaf", ()).mailbox(1));
    system.start(root).await.unwrap();

    for (path, is_known) in
        [("node/second", true), ("node/first", true), ("node/deaf", false), ("node/third", false)]
    {
        let knows = first.ask(|reply| ClerkMessage::Knows(path, reply), PATIENCE).await;
        assert_eq!(knows, Ok(is_known), "{path}");
    }
    deaf.try_tell(DeafMessage::Nothing).unwrap();
    deaf.try_tell(DeafMessage::Nothing).unwrap_err();
    let counted = first.ask(|reply| ClerkMessage::PassOn("node/second", reply), PATIENCE).await;
    assert_eq!(counted, Ok((4, 1)), "the supervisor and three actors, and one message that found no room");
    system.shutdown(PATIENCE).await.unwrap();
}
