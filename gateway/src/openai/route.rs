//! Who answers a request: a runtime of this node, or one of another node.
//!
//! Plain decider over what is known at the moment. Refuses to ask, to wait and to remember: what was tried
//! already is told to it.
//!
//! HTTP-17: this node comes first. A model that runtimes here serve goes elsewhere only when each of them is
//! given up, held by an operator, ending or full, and another node has one that is ready, or one that would
//! load where nobody here would. Of several runtimes or hosts: one that is ready before one that would have
//! to load, then one whose context is likely to hold the request, then the least busy.

use arw_actors::cluster::{AbsentHost, ModelHost};
use arw_actors::ids::{NodeId, RuntimeId};
use arw_actors::runtime::directory::Served;
use arw_actors::runtime::machine::RuntimeState;

/// What is known at the moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot<'k> {
    /// This node's id and name.
    pub(super) here: (NodeId, &'k str),
    /// What serves here.
    pub(super) own: &'k [Served],
    /// What serves on other nodes.
    pub(super) others: &'k [ModelHost],
}

/// What narrows the choice for this request, by its size and by the attempts so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Constraints {
    /// These runtimes here did not take it.
    pub(super) refused: Vec<RuntimeId>,
    /// These nodes were asked, in vain.
    pub(super) tried: Vec<NodeId>,
    /// Its prompt has so many tokens, by an engine whose context does not hold it.
    pub(super) prompt_tokens: Option<u64>,
    /// How large it is.
    pub(super) body_bytes: usize,
}

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To this runtime of this node.
    Local(Served),
    /// To another node.
    Remote {
        /// Which of its runtimes is expected to answer.
        host: ModelHost,
        /// The name to ask for there.
        name: String,
    },
    /// Nobody serves it.
    Unknown,
    /// It names no model, and there are several.
    Ambiguous,
}

impl Target {
    /// The name of the model there; `None` where it goes nowhere.
    pub(super) fn model(&self) -> Option<&str> {
        match self {
            Self::Local(served) => Some(&served.name),
            Self::Remote { host, .. } => Some(&host.model),
            Self::Unknown | Self::Ambiguous => None,
        }
    }
}

/// Everything that a name means.
#[derive(Debug)]
struct Candidates<'k> {
    own: Vec<&'k Served>,
    others: Vec<&'k ModelHost>,
    asks_for: AsksFor,
}

/// By which of its names another node is asked.
#[derive(Clone, Copy, Debug)]
enum AsksFor {
    /// Any of its runtimes that serve the model: it knows best which.
    Model,
    /// Just this one.
    Runtime,
}

/// Decides. `shares` says how many requests of this node a host works on already; its card may tell of them,
/// or not yet.
pub(super) fn decide(
    asked: Option<&str>,
    snapshot: Snapshot<'_>,
    constraints: &Constraints,
    shares: impl Fn(&ModelHost) -> u32,
) -> Target {
    let candidates = match asked {
        Some(asked) => named(asked, snapshot),
        None => match unnamed(snapshot) {
            Some(candidates) => candidates,
            None => return Target::Ambiguous,
        },
    };
    let Candidates { own, others, asks_for } = candidates;
    let is_open = |served: &Served| {
        !constraints.refused.contains(&served.runtime) && constraints.fits(served.context_length)
    };
    let best_of = |own: &mut dyn Iterator<Item = &&Served>| -> Option<Served> {
        let rank = |served: &Served| {
            (readiness(served), constraints.is_tight(served.context_length), served.in_flight)
        };
        own.min_by_key(|served| rank(served)).map(|served| Served::clone(served))
    };
    let best_here = best_of(&mut own.iter().filter(|served| is_open(served)));
    if let Some(best) = best_here.as_ref().filter(|best| readiness(best) <= Readiness::WouldLoad) {
        return Target::Local(best.clone());
    }
    let waits_in_vain = own.iter().all(|served| readiness(served) >= Readiness::Held);
    let is_tried = |host: &ModelHost| constraints.tried.contains(&host.node);
    let fitting = others.into_iter().filter(|host| constraints.fits(host.context_length));
    let best = fitting.min_by(|a, b| {
        let busy = |host: &ModelHost| host.busy.max(shares(host));
        let rank = |host: &ModelHost| {
            (is_tried(host), !is_ready(host), constraints.is_tight(host.context_length), busy(host))
        };
        // The same choice comes out of the same facts, but not the same one on every node: else all would ask
        // the same host at once.
        let turn = |host: &ModelHost| distance(snapshot.here.0, host.node);
        rank(a).cmp(&rank(b)).then_with(|| (turn(a), &a.runtime).cmp(&(turn(b), &b.runtime)))
    });
    match best {
        // A host that is not ready either is no better than waiting here, unless nobody here comes up by
        // himself.
        Some(host) if own.is_empty() || (!is_tried(host) && (is_ready(host) || waits_in_vain)) => {
            let name = match asks_for {
                AsksFor::Model => host.model.clone(),
                AsksFor::Runtime => host.runtime.clone(),
            };
            Target::Remote { host: host.clone(), name }
        }
        // Its refusal says best what is wrong.
        Some(_) | None => {
            best_here.or_else(|| best_of(&mut own.iter())).map_or(Target::Unknown, Target::Local)
        }
    }
}

impl Constraints {
    /// Its context holds the request, as far as known.
    fn fits(&self, context_length: Option<u64>) -> bool {
        let is_larger = |tokens: u64| context_length.is_none_or(|context| context > tokens);
        self.prompt_tokens.is_none_or(is_larger)
    }

    /// Its context is likely to be too small. English text has about four bytes for each token, and other
    /// languages fewer.
    fn is_tight(&self, context_length: Option<u64>) -> bool {
        let tokens = u64::try_from(self.body_bytes / 4).unwrap_or(u64::MAX);
        context_length.is_some_and(|context| context < tokens)
    }
}

/// How far a runtime is from serving; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Readiness {
    Serves,
    ComesUp,
    WouldLoad,
    Ends,
    IsFull,
    Held,
    GivenUp,
}

fn readiness(served: &Served) -> Readiness {
    match served.state {
        RuntimeState::Quarantined | RuntimeState::Failed => Readiness::GivenUp,
        _ if served.is_held => Readiness::Held,
        _ if !served.has_room => Readiness::IsFull,
        RuntimeState::Ready => Readiness::Serves,
        RuntimeState::Degraded | RuntimeState::Warming | RuntimeState::Starting => Readiness::ComesUp,
        RuntimeState::Stopped | RuntimeState::Backoff => Readiness::WouldLoad,
        RuntimeState::Draining => Readiness::Ends,
    }
}

fn distance(one: NodeId, other: NodeId) -> [u8; 32] {
    let mut distance = *one.as_bytes();
    distance.iter_mut().zip(other.as_bytes()).for_each(|(byte, of_other)| *byte ^= of_other);
    distance
}

fn is_ready(host: &ModelHost) -> bool {
    [RuntimeState::Ready, RuntimeState::Degraded].iter().any(|state| state.word() == host.state)
}

/// Whom a request with this name could go to, here and elsewhere, in no order.
pub(super) fn meant<'k>(asked: &str, snapshot: Snapshot<'k>) -> (Vec<&'k Served>, Vec<&'k ModelHost>) {
    let Candidates { own, others, .. } = named(asked, snapshot);
    (own, others)
}

/// HTTP-10: what a name means here comes before what it means elsewhere, so that another node's names change
/// nothing for this one's clients.
fn named<'k>(asked: &str, snapshot: Snapshot<'k>) -> Candidates<'k> {
    let others = |is_meant: &dyn Fn(&ModelHost) -> bool| -> Vec<&'k ModelHost> {
        snapshot.others.iter().filter(|host| is_meant(host)).collect()
    };
    let by_model = others(&|host| host.model == asked);
    let own: Vec<&Served> = snapshot.own.iter().filter(|served| served.name == asked).collect();
    if !own.is_empty() {
        return Candidates { own, others: by_model, asks_for: AsksFor::Model };
    }
    if let Some(served) = snapshot.own.iter().find(|served| served.runtime.as_str() == asked) {
        // Its namesake elsewhere is a stand-in only with the same model.
        let namesakes = others(&|host| host.runtime == asked && host.model == served.name);
        return Candidates { own: vec![served], others: namesakes, asks_for: AsksFor::Runtime };
    }
    if !by_model.is_empty() {
        return Candidates { own, others: by_model, asks_for: AsksFor::Model };
    }
    let by_runtime = others(&|host| host.runtime == asked);
    if !by_runtime.is_empty() {
        return Candidates { own, others: by_runtime, asks_for: AsksFor::Runtime };
    }
    placed(asked, snapshot)
}

/// `node/runtime`, by the node's name or at least eight digits of its id.
fn placed<'k>(asked: &str, snapshot: Snapshot<'k>) -> Candidates<'k> {
    let (node, runtime) = asked.split_once('/').unwrap_or_default();
    let is_node = |id: NodeId, name: &str| is_node(node, id, name);
    let own = snapshot
        .own
        .iter()
        .filter(|served| served.runtime.as_str() == runtime && is_node(snapshot.here.0, snapshot.here.1));
    let others =
        snapshot.others.iter().filter(|host| host.runtime == runtime && is_node(host.node, &host.node_name));
    Candidates { own: own.collect(), others: others.collect(), asks_for: AsksFor::Runtime }
}

/// HTTP-10: a request without a model is for the only one that there is: here, else elsewhere.
fn unnamed(snapshot: Snapshot<'_>) -> Option<Candidates<'_>> {
    match snapshot.own {
        [only] => Some(Candidates {
            own: vec![only],
            others: snapshot.others.iter().filter(|host| host.model == only.name).collect(),
            asks_for: AsksFor::Model,
        }),
        [] => {
            let first = snapshot.others.first()?;
            let is_only = snapshot.others.iter().all(|host| host.model == first.model);
            is_only.then(|| Candidates {
                own: Vec::new(),
                others: snapshot.others.iter().collect(),
                asks_for: AsksFor::Model,
            })
        }
        _ => None,
    }
}

/// HTTP-23: those of them that a name means; without a name, all.
pub(super) fn absent(asked: Option<&str>, all: Vec<AbsentHost>) -> Vec<AbsentHost> {
    let Some(asked) = asked else { return all };
    let is_there = |host: &AbsentHost| {
        let place = asked.strip_suffix(host.runtime.as_str()).and_then(|rest| rest.strip_suffix('/'));
        place.is_some_and(|node| is_node(node, host.node, &host.node_name))
    };
    all.into_iter().filter(|host| host.model == asked || host.runtime == asked || is_there(host)).collect()
}

/// By its name, or at least eight digits of its id.
fn is_node(asked: &str, id: NodeId, name: &str) -> bool {
    !asked.is_empty() && (name == asked || (asked.len() >= 8 && id.to_string().starts_with(asked)))
}

/// HTTP-17: everything that a request may name, on this node and on others.
pub(super) fn names(own: Vec<String>, others: &[ModelHost]) -> Vec<String> {
    let mut names = own;
    for host in others {
        for name in [&host.model, &host.runtime] {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: NodeId = NodeId::from_bytes([0xaa; 32]);

    fn id(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    fn own(runtime: &str, model: &str, state: RuntimeState) -> Served {
        Served {
            name: model.to_owned(),
            runtime: runtime.parse().unwrap(),
            state,
            has_room: true,
            is_held: false,
            in_flight: 0,
            context_length: None,
        }
    }

    fn host(node: u8, runtime: &str, model: &str, state: &str, busy: u32) -> ModelHost {
        ModelHost {
            node: id(node),
            node_name: format!("box-{node}"),
            runtime: runtime.to_owned(),
            model: model.to_owned(),
            state: state.to_owned(),
            context_length: None,
            busy,
        }
    }

    /// `here by <runtime>`, `<node> as <name>`, `nowhere`, `not named`.
    fn target(
        asked: Option<&str>,
        own: &[Served],
        others: &[ModelHost],
        constraints: &Constraints,
    ) -> String {
        let snapshot = Snapshot { here: (HERE, "box-here"), own, others };
        match decide(asked, snapshot, constraints, |_| 0) {
            Target::Local(served) => format!("here by {}", served.runtime),
            Target::Remote { host, name } => format!("{} as {name}", host.node_name),
            Target::Unknown => "nowhere".to_owned(),
            Target::Ambiguous => "not named".to_owned(),
        }
    }

    fn first_way(asked: &str, own: &[Served], others: &[ModelHost]) -> String {
        target(Some(asked), own, others, &Constraints::default())
    }

    /// HTTP-17.
    #[test]
    fn this_node_comes_first_unless_its_runtime_is_given_up_held_ending_or_full() {
        let others = [host(1, "r9", "smol", "ready", 0)];
        use RuntimeState::*;
        for state in [Ready, Degraded, Starting, Warming, Stopped, Backoff] {
            assert_eq!(first_way("smol", &[own("r1", "smol", state)], &others), "here by r1", "{state:?}");
        }
        for state in [Quarantined, Failed, Draining] {
            assert_eq!(first_way("smol", &[own("r1", "smol", state)], &others), "box-1 as smol", "{state:?}");
        }
        let full = Served { has_room: false, ..own("r1", "smol", Ready) };
        assert_eq!(first_way("smol", std::slice::from_ref(&full), &others), "box-1 as smol");
        let held = Served { is_held: true, ..own("r1", "smol", Stopped) };
        assert_eq!(first_way("smol", &[held], &others), "box-1 as smol");
        // One of two that can is enough.
        assert_eq!(first_way("smol", &[full, own("r2", "smol", Warming)], &others), "here by r2");
    }

    /// HTTP-17: whatever one runtime of a model is, another one that would serve is not hidden by it.
    #[test]
    fn of_two_runtimes_of_a_model_the_one_that_would_serve_is_chosen() {
        use RuntimeState::*;
        let full = |state| Served { has_room: false, ..own("bad", "smol", state) };
        let held = |state| Served { is_held: true, ..own("bad", "smol", state) };
        let bad = [
            own("bad", "smol", Quarantined),
            own("bad", "smol", Failed),
            own("bad", "smol", Draining),
            full(Ready),
            full(Warming),
            held(Stopped),
            held(Draining),
        ];
        for bad in bad {
            for state in [Ready, Degraded, Starting, Warming, Stopped, Backoff] {
                let good = own("good", "smol", state);
                for both in [[bad.clone(), good.clone()], [good, bad.clone()]] {
                    assert_eq!(first_way("smol", &both, &[]), "here by good", "{both:?}");
                }
            }
        }
        let busy = Served { in_flight: 3, ..own("r1", "smol", Ready) };
        assert_eq!(first_way("smol", &[busy.clone(), own("r2", "smol", Ready)], &[]), "here by r2");
        assert_eq!(first_way("smol", &[busy, own("r2", "smol", Stopped)], &[]), "here by r1");
    }

    /// HTTP-17: a refusal here is final only when nobody else here would take it.
    #[test]
    fn who_did_not_take_it_is_not_asked_again_while_there_is_another() {
        let both = [own("r1", "smol", RuntimeState::Ready), own("r2", "smol", RuntimeState::Stopped)];
        let refused = |ids: &[&str]| Constraints {
            refused: ids.iter().map(|id| id.parse().unwrap()).collect(),
            ..Constraints::default()
        };
        assert_eq!(target(Some("smol"), &both, &[], &refused(&["r1"])), "here by r2");
        assert_eq!(target(Some("smol"), &both, &[], &refused(&["r1", "r2"])), "here by r1");
    }

    /// HTTP-17.
    #[test]
    fn a_prompt_goes_where_the_context_holds_it() {
        let sized = |id: &str, context| Served {
            context_length: Some(context),
            ..own(id, "smol", RuntimeState::Ready)
        };
        let both = [sized("small", 512), sized("large", 2048)];
        assert_eq!(first_way("smol", &both, &[]), "here by small");
        // An engine has counted.
        let counted = |tokens| Constraints { prompt_tokens: Some(tokens), ..Constraints::default() };
        assert_eq!(target(Some("smol"), &both, &[], &counted(600)), "here by large");
        let mut there = host(1, "r9", "smol", "ready", 0);
        there.context_length = Some(8192);
        assert_eq!(
            target(Some("smol"), &both, std::slice::from_ref(&there), &counted(2048)),
            "box-1 as smol"
        );
        // Nobody has counted, but it is long.
        let long = Constraints { body_bytes: 4_000, ..Constraints::default() };
        assert_eq!(target(Some("smol"), &both, &[], &long), "here by large");
        assert_eq!(target(Some("smol"), &both[..1], &[], &long), "here by small", "it is an estimate");
    }

    /// HTTP-17: who would only let it wait, too, is no better than a runtime here that comes up by itself.
    #[test]
    fn a_host_that_would_load_is_asked_where_nobody_here_comes_up_by_himself() {
        let warming = [host(1, "r9", "smol", "warming", 0)];
        let failed = [own("r1", "smol", RuntimeState::Failed)];
        assert_eq!(first_way("smol", &failed, &warming), "box-1 as smol");
        assert_eq!(first_way("smol", &[own("r1", "smol", RuntimeState::Draining)], &warming), "here by r1");
        assert_eq!(first_way("smol", &failed, &[]), "here by r1");
        let tried = Constraints { tried: vec![id(1)], ..Constraints::default() };
        assert_eq!(target(Some("smol"), &failed, &[host(1, "r9", "smol", "ready", 0)], &tried), "here by r1");
    }

    /// HTTP-17.
    #[test]
    fn a_refusal_here_leads_to_a_host_that_is_ready() {
        let ready = [own("r1", "smol", RuntimeState::Ready)];
        let refused = Constraints { refused: vec!["r1".parse().unwrap()], ..Constraints::default() };
        assert_eq!(
            target(Some("smol"), &ready, &[host(1, "r9", "smol", "ready", 0)], &refused),
            "box-1 as smol"
        );
        assert_eq!(
            target(Some("smol"), &ready, &[host(1, "r9", "other", "ready", 0)], &refused),
            "here by r1"
        );
    }

    /// HTTP-17.
    #[test]
    fn elsewhere_the_ready_come_first_then_the_least_busy() {
        let others = [
            host(1, "r", "smol", "stopped", 0),
            host(2, "r", "smol", "ready", 5),
            host(3, "r", "smol", "degraded", 2),
            host(4, "r", "other", "ready", 0),
        ];
        assert_eq!(first_way("smol", &[], &others), "box-3 as smol");
        assert_eq!(first_way("smol", &[], &others[..1]), "box-1 as smol", "it would load");
        // What this node sent there itself counts, though no card tells of it yet; and once, when one does.
        let snapshot = Snapshot { here: (HERE, "x"), own: &[], others: &others };
        for (shares, wanted) in [(6, 2), (4, 3)] {
            let of = |host: &ModelHost| if host.node == id(3) { shares } else { 0 };
            let target = decide(Some("smol"), snapshot, &Constraints::default(), of);
            assert!(matches!(target, Target::Remote { host, .. } if host.node == id(wanted)), "{shares}");
        }
    }

    /// HTTP-17.
    #[test]
    fn between_equals_each_node_has_a_choice_of_its_own() {
        let others = [host(1, "r", "smol", "ready", 0), host(2, "r", "smol", "ready", 0)];
        let chosen = |here: u8| {
            let snapshot = Snapshot { here: (id(here), "x"), own: &[], others: &others };
            match decide(Some("smol"), snapshot, &Constraints::default(), |_| 0) {
                Target::Remote { host, .. } => host.node,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((chosen(0x10), chosen(0x12)), (id(1), id(2)));
        assert_eq!(chosen(0x10), chosen(0x10));
    }

    /// HTTP-17: who was asked in vain is asked again only when there is nobody else.
    #[test]
    fn a_second_try_goes_to_another_host_where_there_is_one() {
        let others = [host(1, "r", "smol", "ready", 0), host(2, "r", "smol", "stopped", 9)];
        let tried = Constraints { tried: vec![id(1)], ..Constraints::default() };
        assert_eq!(target(Some("smol"), &[], &others, &tried), "box-2 as smol");
        assert_eq!(target(Some("smol"), &[], &others[..1], &tried), "box-1 as smol");
    }

    /// HTTP-10.
    #[test]
    fn a_name_means_here_what_it_meant_before_others_came() {
        let mine = [own("r1", "smol", RuntimeState::Failed)];
        // A model of another node that is called like a runtime of this one.
        assert_eq!(first_way("r1", &mine, &[host(1, "x", "r1", "ready", 0)]), "here by r1");
        // A namesake with another model is no stand-in; one with the same model is.
        assert_eq!(first_way("r1", &mine, &[host(1, "r1", "large", "ready", 0)]), "here by r1");
        assert_eq!(first_way("r1", &mine, &[host(1, "r1", "smol", "ready", 0)]), "box-1 as r1");
    }

    /// HTTP-17.
    #[test]
    fn elsewhere_a_model_a_runtime_or_a_place_may_be_named() {
        let mine = [own("r1", "smol", RuntimeState::Ready)];
        let others = [host(1, "r2", "org/large", "ready", 0), host(2, "r2", "org/large", "ready", 1)];
        for (asked, goes) in [
            ("org/large", "box-1 as org/large"),
            ("r2", "box-1 as r2"),
            ("box-2/r2", "box-2 as r2"),
            ("02020202/r2", "box-2 as r2"),
            ("box-here/r1", "here by r1"),
            ("aaaaaaaa/r1", "here by r1"),
            ("box-2/r1", "nowhere"),
            ("box-here/r2", "nowhere"),
            ("0202/r2", "nowhere"),
            ("/r2", "nowhere"),
            ("gpt", "nowhere"),
            ("", "nowhere"),
        ] {
            assert_eq!(first_way(asked, &mine, &others), goes, "{asked}");
        }
    }

    /// HTTP-10.
    #[test]
    fn without_a_name_the_only_model_is_meant() {
        let first = |own: &[Served], others: &[ModelHost]| target(None, own, others, &Constraints::default());
        let (mine, yours) = (own("r1", "smol", RuntimeState::Ready), host(1, "x", "large", "ready", 0));
        assert_eq!(first(std::slice::from_ref(&mine), std::slice::from_ref(&yours)), "here by r1");
        assert_eq!(first(&[mine, own("r2", "smol", RuntimeState::Ready)], &[]), "not named");
        assert_eq!(first(&[], &[yours.clone(), host(2, "y", "large", "ready", 1)]), "box-1 as large");
        assert_eq!(first(&[], &[yours, host(2, "y", "small", "ready", 0)]), "not named");
        assert_eq!(first(&[], &[]), "not named");
    }
}
