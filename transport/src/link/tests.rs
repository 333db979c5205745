use std::path::Path;

use arw_actors::cluster::{ClusterErrorKind, MemberState};
use arw_kit::mailbox::{Actor, Context, Fault, Reply};
use arw_kit::supervision::{ActorSpec, ActorSystem};
use parking_lot::Mutex as Lock;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::*;
use crate::frame::MessageType;
use crate::remote::{Offer, RemoteCall};

/// Everything here takes milliseconds; a loaded machine may need longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says the name of its node to whoever opens a stream.
#[derive(Debug)]
struct SaysItsName(String);

impl StreamService for SaysItsName {
    fn serve(&self, _: NodeId, mut stream: Box<dyn PeerStream>) {
        let name = self.0.clone();
        tokio::spawn(async move {
            stream.write_all(name.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        });
    }
}

#[derive(Default)]
struct News {
    told: Lock<Vec<ClusterUpdate>>,
    more: Notify,
}

struct Node {
    link: Arc<Link>,
    news: Arc<News>,
    card: watch::Sender<Arc<NodeCard>>,
    exports: Arc<Exports>,
    id: NodeId,
}

impl Node {
    /// `start` counts the starts of this node.
    fn start(folder: &Path, name: &str, start: u64) -> Self {
        let clock = Clock::system();
        let seconds = u64::try_from(clock.wall().as_millis() / 1000).unwrap();
        Self::try_start(folder, name, seconds + start, clock).unwrap()
    }

    fn try_start(folder: &Path, name: &str, incarnation: u64, clock: Clock) -> Result<Self, LinkError> {
        let key = Arc::new(NodeKey::load_or_create(&folder.join("node.key")).unwrap());
        let (id, news) = (key.id(), Arc::new(News::default()));
        let (card, own_card) = watch::channel(Arc::new(card_of(name)));
        let (teller, exports) = (Arc::clone(&news), Arc::new(Exports::new()));
        let link = Link::open(LinkOptions {
            state_dir: folder.to_owned(),
            key,
            incarnation,
            name: name.to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: None,
            clock,
            tell: Arc::new(move |told| {
                teller.told.lock().push(told);
                teller.more.notify_one();
            }),
            own_card,
            services: Arc::new(SaysItsName(name.to_owned())),
            exports: Arc::clone(&exports),
        })?;
        Ok(Self { link, news, card, exports, id })
    }

    async fn token(&self) -> String {
        self.link.create_token(order()).await.unwrap().token
    }

    /// Waits until something like this was told.
    async fn hears(&self, what: &str, is_it: impl Fn(&ClusterUpdate) -> bool) {
        let wait = async {
            while !self.news.told.lock().iter().any(&is_it) {
                self.news.more.notified().await;
            }
        };
        let heard = tokio::time::timeout(PATIENCE, wait).await;
        heard.unwrap_or_else(|_| panic!("{what} is not heard: {:#?}", self.news.told.lock()));
    }

    async fn hears_card(&self, of: NodeId, version: &str) {
        let is_it = |told: &ClusterUpdate| matches!(told, ClusterUpdate::Card { node, card, .. } if *node == of && card.version == version);
        self.hears("the card", is_it).await;
    }

    async fn hears_state(&self, of: NodeId, state: MemberState) {
        let is_it = |told: &ClusterUpdate| matches!(told, ClusterUpdate::Member(member) if member.node == of && member.state == state);
        self.hears(&format!("{state:?}"), is_it).await;
    }

    async fn says(&self, to: &Self) -> Result<String, OpenError> {
        let mut stream = self.link.open(to.id, PATIENCE).await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        Ok(said)
    }
}

fn card_of(version: &str) -> NodeCard {
    NodeCard { version: version.to_owned(), ..NodeCard::default() }
}

fn order() -> TokenOrder {
    TokenOrder {
        roles: vec!["worker".to_owned()],
        ttl: Duration::from_secs(60),
        uses_max: 1,
        addresses: Vec::new(),
    }
}

fn folders<const N: usize>() -> [TempDir; N] {
    std::array::from_fn(|_| tempfile::tempdir().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_opens_no_socket_and_says_what_would_help() {
    let [folder] = folders();
    let node = Node::start(folder.path(), "one", 1);
    assert_eq!(node.link.status(), TransportStatus::default());
    assert!(matches!(node.link.open(node.id, PATIENCE).await, Err(OpenError::Alone)));
    assert!(node.link.tokens().await.unwrap().is_empty());
    assert_eq!(node.link.leave().await.unwrap_err().kind, ClusterErrorKind::Conflict);
    assert!(!folder.path().join("cluster.json").exists() && !folder.path().join("cluster.key").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_become_a_cluster_and_see_each_others_cards_and_streams() {
    let [one, two] = folders();
    let (one, two) = (Node::start(one.path(), "one", 1), Node::start(two.path(), "two", 1));
    let created = one.link.create_token(order()).await.unwrap();
    assert!(created.is_first);
    let joined = two.link.join(created.token).await.unwrap();
    assert_eq!((joined.issuer, joined.roles), (one.id, vec!["worker".to_owned()]));
    one.hears_card(two.id, "two").await;
    two.hears_card(one.id, "one").await;
    assert_eq!(one.says(&two).await.unwrap(), "two");
    assert_eq!(two.says(&one).await.unwrap(), "one");
    two.card.send_replace(Arc::new(card_of("two, changed")));
    one.hears_card(two.id, "two, changed").await;
    let tokens = one.link.tokens().await.unwrap();
    assert_eq!((tokens[0].state, tokens[0].used[0].node), ("used", two.id));
    one.link.stop().await;
    two.link.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_one_again_after_a_restart_and_nobody_tells_it_how() {
    let [first, second] = folders();
    let one = Node::start(first.path(), "one", 1);
    let two = Node::start(second.path(), "two", 1);
    two.link.join(one.token().await).await.unwrap();
    one.hears_card(two.id, "two").await;
    two.link.stop().await;
    let two = Node::start(second.path(), "two again", 2);
    one.hears_card(two.id, "two again").await;
    two.hears_card(one.id, "one").await;
    one.link.stop().await;
    two.link.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_alone_and_comes_back_with_a_new_token_only() {
    let [first, second] = folders();
    let (one, two) = (Node::start(first.path(), "one", 1), Node::start(second.path(), "two", 1));
    let token = one.token().await;
    two.link.join(token.clone()).await.unwrap();
    one.hears_card(two.id, "two").await;
    one.link.remove(two.id).await.unwrap();
    two.hears("that it is alone", |told| *told == ClusterUpdate::Alone).await;
    one.hears("that it is gone", |told| matches!(told, ClusterUpdate::Forgotten { node } if *node == two.id))
        .await;
    assert!(!second.path().join("cluster.json").exists());
    assert_eq!(two.link.join(token).await.unwrap_err().kind, ClusterErrorKind::Refused);
    two.link.join(one.token().await).await.unwrap();
    two.hears_card(one.id, "one").await;
    // A node that nobody has seen for days is not shown, and can be removed all the same.
    one.link.remove(NodeId::from_bytes([1; 32])).await.unwrap();
    one.link.stop().await;
    two.link.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_a_membership_are_looked_at_without_a_change() {
    let [first, second] = folders();
    let one = Node::start(first.path(), "one", 1);
    let wall = Clock::system().wall();
    assert!(inspect(first.path(), one.id, wall).unwrap().is_none());
    one.token().await;
    let id = one.id;
    one.link.stop().await;
    let look = |at: WallTime| inspect(first.path(), id, at).unwrap().unwrap();
    let found = look(wall);
    assert_eq!((found.issuer, found.certificate.as_ref().unwrap().node), (id, id));
    assert!(matches!(found.cluster_key, Some(Ok(()))));
    let over = look(wall + CERTIFICATE_LIFETIME * 2).certificate;
    assert!(matches!(over, Err(CertificateError::Expired { .. })), "{over:?}");
    let other = inspect(first.path(), NodeId::from_bytes([1; 32]), wall).unwrap().unwrap();
    assert!(
        matches!(other.certificate, Err(CertificateError::OtherNode { .. })) && other.cluster_key.is_none()
    );

    let key = first.path().join(CLUSTER_KEY);
    ClusterKey::load_or_create(&second.path().join(CLUSTER_KEY)).unwrap();
    std::fs::rename(second.path().join(CLUSTER_KEY), &key).unwrap();
    assert!(matches!(look(wall).cluster_key, Some(Err(LinkError::OtherClusterKey { .. }))));
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(look(wall).cluster_key, Some(Err(LinkError::NoClusterKey { .. }))));
    assert!(!key.exists(), "looking makes nothing");
    std::fs::write(first.path().join("cluster.json"), "{").unwrap();
    assert!(inspect(first.path(), id, wall).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_is_seen_leaving_and_may_join_again_at_once() {
    let [first, second] = folders();
    let (one, two) = (Node::start(first.path(), "one", 1), Node::start(second.path(), "two", 1));
    two.link.join(one.token().await).await.unwrap();
    one.hears_card(two.id, "two").await;
    assert_eq!(one.link.leave().await.unwrap_err().kind, ClusterErrorKind::Conflict, "it made the cluster");
    two.link.leave().await.unwrap();
    one.hears_state(two.id, MemberState::Left).await;
    one.link.leave().await.unwrap();
    assert!(!first.path().join("cluster.key").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_made_the_cluster_lets_nodes_in_and_who_is_in_one_joins_no_other() {
    let [first, second, third] = folders();
    let (one, two) = (Node::start(first.path(), "one", 1), Node::start(second.path(), "two", 1));
    two.link.join(one.token().await).await.unwrap();
    let refused = two.link.create_token(order()).await.unwrap_err();
    assert_eq!(refused.kind, ClusterErrorKind::Conflict);
    assert!(refused.message.contains(&one.id.short()), "{refused}");
    assert_eq!(two.link.remove(one.id).await.unwrap_err().kind, ClusterErrorKind::Conflict);
    let other = Node::start(third.path(), "other", 1);
    let refused = two.link.join(other.token().await).await.unwrap_err();
    assert_eq!(refused.kind, ClusterErrorKind::Conflict);
    for node in [one, two, other] {
        node.link.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_makes_no_sense_makes_no_cluster() {
    let [folder] = folders();
    let node = Node::start(folder.path(), "one", 1);
    for order in [
        TokenOrder { roles: vec!["king".to_owned()], ..order() },
        TokenOrder { roles: Vec::new(), ..order() },
        TokenOrder { ttl: Duration::ZERO, ..order() },
        TokenOrder { uses_max: 0, ..order() },
        TokenOrder { addresses: vec!["192.0.2.1:1".parse().unwrap(); 9], ..order() },
    ] {
        assert_eq!(node.link.create_token(order).await.unwrap_err().kind, ClusterErrorKind::Bad);
    }
    assert!(!folder.path().join("cluster.json").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_is_no_token_and_a_node_that_is_not_there_are_told_apart() {
    let [first, second] = folders();
    let (one, two) = (Node::start(first.path(), "one", 1), Node::start(second.path(), "two", 1));
    assert_eq!(two.link.join("hello".to_owned()).await.unwrap_err().kind, ClusterErrorKind::Bad);
    let token = one.token().await;
    assert_eq!(two.link.join(token[..60].to_owned()).await.unwrap_err().kind, ClusterErrorKind::Bad);
    one.link.stop().await;
    assert_eq!(two.link.join(token).await.unwrap_err().kind, ClusterErrorKind::Unreachable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_maker_of_a_cluster_certifies_itself_anew_after_a_long_sleep() {
    let [folder] = folders();
    let one = Node::start(folder.path(), "one", 1);
    one.token().await;
    one.link.stop().await;
    let later = Clock::starting_at(Clock::system().wall() + Duration::from_secs(90 * 24 * 3600));
    let one = Node::try_start(folder.path(), "one", 2, later).unwrap();
    assert!(one.link.status().listens_at.is_some());
    one.token().await;
    one.link.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_maker_of_a_cluster_is_put_back_from_its_backup_and_members_take_it() {
    let [first, second, third] = folders();
    let backup = third.path().join("backup");
    let one = Node::start(first.path(), "one", 1);
    let two = Node::start(second.path(), "two", 1);
    let token = one.token().await;
    back_up(first.path(), &backup, Clock::system()).unwrap();
    two.link.join(token.clone()).await.unwrap();
    two.hears_card(one.id, "one").await;
    one.link.stop().await;
    let again = third.path().join("state");
    std::fs::create_dir(&again).unwrap();
    restore(&again, &backup, Clock::system()).unwrap();
    let again = Node::start(&again, "again", 2);
    // The member knows where the old machine was, and the new one nobody: somebody tells one of them, here by
    // a new token.
    assert_eq!(
        two.link.join(token).await.unwrap_err().kind,
        ClusterErrorKind::Conflict,
        "it is a member still"
    );
    let [fourth] = folders();
    let three = Node::start(fourth.path(), "three", 1);
    three.link.join(again.token().await).await.unwrap();
    again.hears_card(three.id, "three").await;
    for node in [two, three, again] {
        node.link.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_a_cluster_is_never_put_aside_for_a_new_one() {
    let [folder] = folders();
    let one = Node::start(folder.path(), "one", 1);
    // A cluster that cannot begin leaves no key behind that would stop the next try.
    let in_the_way = folder.path().join("cluster.json.new");
    std::fs::create_dir_all(in_the_way.join("folder")).unwrap();
    assert_eq!(one.link.create_token(order()).await.unwrap_err().kind, ClusterErrorKind::Failed);
    assert!(!folder.path().join("cluster.key").exists());
    std::fs::remove_dir_all(in_the_way).unwrap();
    one.token().await;
    one.link.stop().await;
    let key = std::fs::read(folder.path().join("cluster.key")).unwrap();
    std::fs::remove_file(folder.path().join("cluster.json")).unwrap();
    let one = Node::start(folder.path(), "one", 2);
    let refused = one.link.create_token(order()).await.unwrap_err();
    assert_eq!(refused.kind, ClusterErrorKind::Conflict);
    assert!(refused.help.contains("arw cluster restore"), "{}", refused.help);
    assert_eq!(std::fs::read(folder.path().join("cluster.key")).unwrap(), key);
    assert_eq!(one.link.status().listens_at, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_maker_of_a_cluster_says_what_to_do_and_lets_nobody_in() {
    // WIRE-25
    let [first, second, copy] = folders();
    let one = Node::start(first.path(), "one", 1);
    let two = Node::start(second.path(), "two", 1);
    two.link.join(one.token().await).await.unwrap();
    one.hears_card(two.id, "two").await;
    let knows = || {
        let text = std::fs::read_to_string(first.path().join("cluster.json")).unwrap();
        let stored: serde_json::Value = serde_json::from_str(&text).unwrap();
        stored["known"].as_array().unwrap().iter().any(|known| known["node"] == two.id.to_string())
    };
    let stored = async {
        while !knows() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stored).await.expect("who has joined is on disk");
    for file in ["node.key", "cluster.key", "cluster.json"] {
        std::fs::copy(first.path().join(file), copy.path().join(file)).unwrap();
    }
    let later = Node::start(copy.path(), "later", 2);
    two.hears_card(one.id, "later").await;
    let warned =
        |told: &ClusterUpdate| matches!(told, ClusterUpdate::Place(place) if !place.warnings.is_empty());
    one.hears("that it is out", warned).await;
    let refused = one.link.create_token(order()).await.unwrap_err();
    assert_eq!(refused.kind, ClusterErrorKind::Conflict);
    let elsewhere = later.link.status().listens_at.unwrap().to_string();
    assert!(refused.message.contains(&elsewhere) && refused.message.contains("copied"), "{refused}");
    let copied = |told: &ClusterUpdate| matches!(told, ClusterUpdate::Copies(copies) if copies.iter().any(|(node, ..)| *node == one.id));
    two.hears("that the node runs twice", copied).await;
    later.token().await;
    for node in [one, two, later] {
        node.link.stop().await;
    }
}

/// Doubles what it is asked, on another node.
#[derive(Serialize, Deserialize)]
struct Double(u64);
impl RemoteCall for Double {
    const TYPE: MessageType = MessageType(1);
    type Reply = u64;
}

enum DoublerMessage {
    Double(u64, Reply<u64>),
}
arw_kit::message!(DoublerMessage { Double });

struct Doubler;

impl Actor for Doubler {
    type Message = DoublerMessage;
    type Args = ();
    const KIND: &'static str = "doubler";

    async fn start((): &(), _: &mut Context<DoublerMessage>) -> Result<Self, Fault> {
        Ok(Self)
    }

    async fn handle(
        &mut self,
        DoublerMessage::Double(number, reply): DoublerMessage,
        _: &mut Context<DoublerMessage>,
    ) -> Result<(), Fault> {
        // Whoever asked may have gone.
        let _ = reply.send(number * 2);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_a_node_offers_is_asked_from_another_node_and_its_end_is_told() {
    let system = ActorSystem::new("test");
    let mut root = system.root();
    let doubler = root.actor(ActorSpec::<Doubler>::new("doubler", ()));
    system.start(root).await.unwrap();
    let [first, second] = folders();
    let (one, two) = (Node::start(first.path(), "one", 1), Node::start(second.path(), "two", 1));
    let offer = Offer::new("doubler", &doubler).call(
        |Double(number): Double, _, reply| DoublerMessage::Double(number, reply),
        |doubled: u64| doubled,
    );
    two.exports.offer(offer).unwrap();
    two.link.join(one.token().await).await.unwrap();
    one.hears_card(two.id, "two").await;
    let remote = one.link.remote().unwrap().handle(two.id, "doubler").unwrap();
    assert_eq!(remote.ask(&Double(21), PATIENCE).await.unwrap(), 42);
    let watched = remote.monitor().unwrap();
    system.shutdown(PATIENCE).await;
    let down = tokio::time::timeout(PATIENCE, watched).await.expect("its end is told");
    assert!(format!("{down:?}").contains("Stop"), "{down:?}");
    two.link.stop().await;
    assert!(remote.ask(&Double(1), PATIENCE).await.is_err());
    one.link.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_is_out_of_its_cluster_lets_nobody_in_or_out() {
    // WIRE-25
    let [one, two, copied] = folders();
    let issuer = Node::start(one.path(), "one", 1);
    let created = issuer.link.create_token(order()).await.unwrap();
    let member = Node::start(two.path(), "two", 1);
    member.link.join(created.token.clone()).await.unwrap();
    issuer.hears_state(member.id, MemberState::Up).await;
    for name in ["node.key", "cluster.key", "cluster.json"] {
        std::fs::copy(one.path().join(name), copied.path().join(name)).unwrap();
    }
    let stored = Stored::load(copied.path(), Clock::system()).unwrap().unwrap();
    let at = member.link.status().listens_at.unwrap();
    stored.remember(vec![(member.id, vec![at])], &std::collections::BTreeSet::new()).unwrap();
    let _copy = Node::start(copied.path(), "one", 100);
    let warns =
        |told: &ClusterUpdate| matches!(told, ClusterUpdate::Place(place) if !place.warnings.is_empty());
    issuer.hears("that it is out of its cluster", warns).await;
    let refused = [
        issuer.link.create_token(order()).await.unwrap_err(),
        issuer.link.revoke_token(created.row.id).await.unwrap_err(),
        issuer.link.remove(member.id).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind, ClusterErrorKind::Conflict);
        assert!(error.message.contains("out of its cluster"), "{error:?}");
    }
}
