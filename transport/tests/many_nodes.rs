//! Many members in one process, each with its link, its stored membership and its picture of the cluster,
//! over real sockets on loopback.
//!
//! 24 by default. `ARW_MANY_NODES=200 cargo test --release -p arw-transport --test many_nodes -- --nocapture`
//! runs as many as you like and prints the figures.

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use arw_actors::cluster::{
        At, ClusterUpdate, ClusterView, MemberState, NodeCard, NodeRow, OwnNode, PeerStream, StreamService,
        TokenOrder, Transport as _,
    };
    use arw_kit::clock::Clock;
    use arw_transport::identity::{NodeId, NodeKey};
    use arw_transport::link::{Link, LinkOptions};
    use arw_transport::remote::Exports;
    use parking_lot::Mutex;
    use tempfile::TempDir;
    use tokio::sync::watch;
    use tokio::time::Instant;

    #[derive(Debug)]
    struct ServesNobody;

    impl StreamService for ServesNobody {
        fn serve(&self, _: NodeId, _: Box<dyn PeerStream>) {}
    }

    /// A whole member, but for its engines.
    struct Node {
        link: Arc<Link>,
        view: Arc<Mutex<ClusterView>>,
        card: watch::Sender<Arc<NodeCard>>,
        clock: Clock,
        id: NodeId,
        name: String,
        incarnation: u64,
        listens_at: SocketAddr,
    }

    /// What a row of a picture must say.
    type Expected = (NodeId, String, MemberState, u64, Option<SocketAddr>, bool);

    impl Node {
        /// `start` counts the starts of this node.
        fn start(folder: &TempDir, number: usize, start: u64, listen: SocketAddr) -> Self {
            let clock = Clock::system();
            let key = Arc::new(NodeKey::load_or_create(&folder.path().join("node.key")).unwrap());
            let (id, name, incarnation) = (key.id(), format!("node-{number:03}"), 1_000 * start);
            let own = OwnNode { id, name: name.clone(), incarnation, started_at: clock.wall() };
            let view = Arc::new(Mutex::new(ClusterView::new(own)));
            let card = watch::Sender::new(Arc::new(card_of(&name)));
            let told = Arc::clone(&view);
            let link = Link::open(LinkOptions {
                state_dir: folder.path().to_owned(),
                key,
                incarnation,
                name: name.clone(),
                listen,
                advertise: None,
                clock,
                tell: Arc::new(move |news: ClusterUpdate| {
                    told.lock().fold(At { now: clock.now(), wall: clock.wall() }, news);
                }),
                own_card: card.subscribe(),
                services: Arc::new(ServesNobody),
                exports: Arc::new(Exports::new()),
            });
            let link = link.unwrap();
            Self { link, view, card, clock, id, name, incarnation, listens_at: listen }
        }

        async fn join(&mut self, token: &str) {
            self.link.join(token.to_owned()).await.unwrap();
            self.learn_address();
        }

        fn learn_address(&mut self) {
            self.listens_at = self.link.status().listens_at.unwrap();
        }

        /// What is shown at `/state/cluster`.
        fn rows(&self) -> Vec<NodeRow> {
            self.view.lock().picture(self.clock.now(), &self.card.borrow()).nodes
        }

        /// Every row is right, and there is no other.
        fn shows(&self, expected: &[Expected]) -> bool {
            let rows = self.rows();
            rows.len() == expected.len()
                && rows.iter().zip(expected).all(|(row, expected)| {
                    let said = row.card.as_ref().is_some_and(|card| card.version == expected.1);
                    let (id, name, state, incarnation, address, is_connected) = expected;
                    row.node == *id
                        && row.name.as_ref() == Some(name)
                        && row.state == *state
                        && row.incarnation == *incarnation
                        && address.is_none_or(|address| row.address == Some(address))
                        && row.is_connected == *is_connected
                        && (said || !*is_connected)
                })
        }

        fn expected(&self) -> Expected {
            (self.id, self.name.clone(), MemberState::Up, self.incarnation, Some(self.listens_at), true)
        }
    }

    fn card_of(name: &str) -> NodeCard {
        NodeCard { version: name.to_owned(), ..NodeCard::default() }
    }

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    async fn until(what: &str, patience: Duration, nodes: &[Node], expected: &[Expected]) -> Duration {
        let since = Instant::now();
        loop {
            // One after the other: looking at all at once would hold them all up.
            let lacking = nodes.iter().find(|node| !node.shows(expected));
            let Some(lacking) = lacking else { return since.elapsed() };
            if since.elapsed() > patience {
                let rows = lacking.rows();
                let wrong = expected
                    .iter()
                    .filter(|it| !rows.iter().any(|row| row.node == it.0 && row.state == it.2));
                panic!(
                    "{what}: {} shows {} rows; not as they should be: {wrong:?}; {rows:#?}",
                    lacking.name,
                    rows.len(),
                    wrong = wrong.collect::<Vec<_>>()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    #[test]
    fn every_node_shows_every_other_as_it_is_through_deaths_and_returns() {
        let asked = std::env::var("ARW_MANY_NODES").ok().map(|text| text.parse().unwrap());
        let (count, patience) =
            (asked.unwrap_or(24), Duration::from_secs(if asked.is_some() { 300 } else { 20 }));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(live(count, patience, asked.is_some()));
    }

    async fn live(count: usize, patience: Duration, prints: bool) {
        let say = |text: String| {
            if prints {
                println!("{text}");
            }
        };
        let folders: Vec<TempDir> = (0..count).map(|_| tempfile::tempdir().unwrap()).collect();
        let (started, before) = (Instant::now(), resident_kib());
        let mut nodes: Vec<Node> =
            (0..count).map(|number| Node::start(&folders[number], number, 1, loopback())).collect();
        let order = TokenOrder {
            roles: vec!["worker".to_owned()],
            ttl: Duration::from_secs(600),
            uses_max: u32::try_from(count).unwrap(),
            addresses: Vec::new(),
        };
        let token = nodes[0].link.create_token(order).await.unwrap().token;
        nodes[0].learn_address();
        for node in &mut nodes[1..] {
            node.join(&token).await;
        }
        let joined = started.elapsed();
        let mut expected: Vec<Expected> = nodes.iter().map(Node::expected).collect();
        until("all are up", patience, &nodes, &expected).await;
        say(format!(
            "{count} nodes: all joined after {joined:?}, all pictures right after {:?}, {:.1} s of CPU",
            started.elapsed(),
            cpu_seconds()
        ));
        tokio::time::sleep(Duration::from_secs(if prints { 5 } else { 0 })).await;
        let kib = resident_kib().saturating_sub(before);
        say(format!(
            "{} KiB per node, {} KiB per end of a connection",
            kib / count,
            kib / (count * (count - 1))
        ));
        if prints {
            let (cpu, since) = (cpu_seconds(), Instant::now());
            tokio::time::sleep(Duration::from_secs(10)).await;
            say(format!(
                "at rest {:.0} % of a core",
                (cpu_seconds() - cpu) / since.elapsed().as_secs_f64() * 100.0
            ));
        }
        // Some die without a word, the last three.
        let dead: Vec<Node> = nodes.split_off(count - 3);
        for row in &mut expected[count - 3..] {
            (row.2, row.5) = (MemberState::Down, false);
        }
        drop(dead);
        let took = until("the dead are down", patience, &nodes, &expected).await;
        say(format!("three deaths are shown by all after {took:?}, their connections gone"));
        // One of them comes back, at its port.
        let address = expected[count - 1].4.unwrap();
        let back = Node::start(&folders[count - 1], count - 1, 2, address);
        expected[count - 1] = back.expected();
        nodes.push(back);
        let took = until("one is back", patience, &nodes[..count - 3], &expected).await;
        say(format!("a restart is shown by all after {took:?}"));
        for node in &nodes {
            node.link.stop().await;
        }
    }

    /// What this process has in memory, in KiB; 0 where the system does not tell.
    fn resident_kib() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        statm.split(' ').nth(1).and_then(|text| text.parse::<usize>().ok()).unwrap_or_default() * 4
    }

    /// The CPU time of this process; 0 where the system does not tell.
    fn cpu_seconds() -> f64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).filter_map(|text| text.parse::<f64>().ok()).sum::<f64>() / 100.0
    }
}
