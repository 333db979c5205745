use serde_json::json;

use super::*;
use crate::runtime::machine::RuntimeState;
use crate::testkit::fixed_runtimes::FixedRuntimes;
use crate::testkit::sources::sources;
use arw_kit::supervision::ActorSpec;

/// Shows the address, of which nothing tells, and how many runtimes there are.
fn view(pace: Pace) -> View {
    View {
        name: "view",
        pace,
        changes: |sources| *sources.runtimes.changes().borrow(),
        changed: |sources| next_change(sources.runtimes.changes()),
        render: |sources| {
            let (http, runtimes) = (sources.http.lock().clone(), sources.runtimes.rows().len());
            Map::from_iter([("http".to_owned(), json!(http)), ("runtimes".to_owned(), json!(runtimes))])
        },
    }
}

struct Stage {
    _folder: tempfile::TempDir,
    system: ActorSystem,
    sources: Arc<Sources>,
    fixed: FixedRuntimes,
    views: Views,
}

impl Stage {
    async fn with(pace: Pace) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (sources, fixed, _) = sources(folder.path()).await;
        let list = vec![view(pace)];
        let views = Views::new(3, &list, &sources);
        let system = ActorSystem::new("node");
        let mut root = system.root();
        let args = ViewsArgs { views: views.clone(), list, sources: Arc::clone(&sources) };
        root.actor(ActorSpec::<ViewsActor>::new("views", args));
        system.start(root).await.unwrap();
        Self { _folder: folder, system, sources, fixed, views }
    }

    fn model(&self) -> &ReadModel {
        &self.views.shared.published[0].model
    }

    /// What a reader of the newest version sees, without asking for a newer one.
    fn shown(&self) -> (u64, Value) {
        let snapshot = self.model().current();
        let body: Value = serde_json::from_slice(&snapshot.body).unwrap();
        (snapshot.version, json!([body["http"], body["runtimes"]]))
    }

    async fn add(&self, id: &str) {
        let spec = json!({"id": id, "adapter": "process", "program": "x"});
        self.fixed.add(serde_json::from_value(spec).unwrap(), RuntimeState::Ready).await;
    }

    async fn end(self) {
        self.system.shutdown(PATIENCE).await;
        self.sources.system.shutdown(PATIENCE).await;
    }
}

const PATIENCE: Duration = Duration::from_secs(5);
const MOMENT: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_change_is_published_at_once_and_what_follows_once_in_an_interval() {
    let stage = Stage::with(Pace::Changes).await;
    stage.add("a").await;
    tokio::time::sleep(MOMENT).await;
    assert_eq!(stage.shown(), (2, json!(["", 1])));
    for id in ["b", "c"] {
        stage.add(id).await;
        tokio::time::sleep(MOMENT).await;
        assert_eq!(stage.shown(), (2, json!(["", 1])));
    }
    tokio::time::sleep(PUBLISH_INTERVAL).await;
    assert_eq!(stage.shown(), (3, json!(["", 3])));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_streams_is_rendered_when_somebody_asks() {
    let stage = Stage::with(Pace::WhileWatched).await;
    stage.add("a").await;
    tokio::time::sleep(PATIENCE).await;
    assert_eq!(stage.shown().0, 1);
    let reader = stage.model().subscribe(None);
    // What changed before it came is found by itself.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stage.shown(), (2, json!(["", 1])));
    drop(reader);
    stage.add("b").await;
    tokio::time::sleep(PATIENCE).await;
    assert_eq!(stage.shown().0, 2);
    stage.views.fresh("view").unwrap();
    assert_eq!(stage.shown(), (3, json!(["", 2])));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_changes_without_telling_is_looked_at_while_somebody_streams_it() {
    for pace in
        [Pace::ChangesAndEvery(Duration::from_secs(1)), Pace::WhileWatchedAndEvery(Duration::from_secs(1))]
    {
        let stage = Stage::with(pace).await;
        *stage.sources.http.lock() = "here".to_owned();
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(stage.shown().0, 1, "{pace:?}");
        let _reader = stage.model().subscribe(None);
        tokio::time::sleep(Duration::from_millis(1_010)).await;
        assert_eq!(stage.shown(), (2, json!(["here", 0])), "{pace:?}");
        stage.end().await;
    }
}
