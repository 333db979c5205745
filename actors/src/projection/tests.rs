use arw_kit::moment::WallTime;
use futures_util::FutureExt;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn fields(value: Value) -> Map<String, Value> {
    Map::from_iter([("items".to_owned(), value)])
}

fn model() -> ReadModel {
    ReadModel::new("items", 3, Clock::starting_at(WallTime::from_millis(0)), fields(json!([])))
}

fn body(snapshot: &Snapshot) -> Value {
    serde_json::from_slice(&snapshot.body).unwrap()
}

fn at(version: u64) -> Version {
    Version { epoch: 3, version }
}

/// A client as `spec/http.md` describes it: keeps a body, applies patches, and checks what it is told.
#[derive(Default)]
struct Client {
    body: Option<Value>,
    version: Option<Version>,
    lagged: u64,
    resyncs: Vec<ResyncReason>,
    seen: u64,
}

impl Client {
    fn take(&mut self, update: &Update) {
        match update {
            Update::Snapshot { snapshot, resync } => {
                self.body = Some(body(snapshot));
                self.version = Some(snapshot.id());
                self.resyncs.extend(resync);
                self.seen += 1;
            }
            Update::Patch { from, to, patch } => {
                assert_eq!(Some(*from), self.version, "the patch fits what the client has");
                let patch: json_patch::Patch = serde_json::from_slice(patch).unwrap();
                json_patch::patch(self.body.as_mut().unwrap(), &patch).unwrap();
                self.version = Some(*to);
                self.seen += 1;
            }
            Update::Lag { missed } => self.lagged += missed,
        }
    }

    fn drain(&mut self, subscription: &mut Subscription) {
        while let Some(update) = subscription.next().now_or_never() {
            self.take(&update);
        }
    }

    fn assert_current(&self, model: &ReadModel) {
        let current = model.current();
        assert_eq!(self.body.as_ref(), Some(&body(&current)));
        assert_eq!(self.version, Some(current.id()));
    }
}

#[test]
fn a_body_has_its_envelope_and_a_version_for_each_change() {
    let model = model();
    let first = model.current();
    assert_eq!(
        body(&first),
        json!({"epoch": 3, "version": 1, "generated_at": "1970-01-01T00:00:00.000Z", "items": []})
    );
    assert_eq!((&*first.etag, first.id()), ("\"3.1\"", at(1)));
    assert!(!model.publish(fields(json!([]))), "nothing changed");
    assert!(Arc::ptr_eq(&first, &model.current()));
    assert!(model.publish(fields(json!([1]))));
    assert_eq!(body(&model.current())["version"], 2);
    let impostor = Map::from_iter([("items".to_owned(), json!([1])), ("version".to_owned(), json!(99))]);
    assert!(!model.publish(impostor), "the envelope is ours alone");
    assert!(model.publish(Map::new()), "a field that goes is a change");
    assert!(body(&model.current()).get("items").is_none());
}

#[test]
fn readers_share_one_rendering() {
    let model = model();
    let (mut one, mut two) = (model.subscribe(None), model.subscribe(None));
    one.next().now_or_never();
    two.next().now_or_never();
    model.publish(fields(json!(["x"])));
    let patch_of = |subscription: &mut Subscription| match subscription.next().now_or_never() {
        Some(Update::Patch { patch, .. }) => patch,
        other => panic!("{other:?}"),
    };
    assert_eq!(patch_of(&mut one).as_ptr(), patch_of(&mut two).as_ptr());
}

#[test]
fn a_reader_that_keeps_up_gets_every_version() {
    let (model, mut client) = (model(), Client::default());
    let mut subscription = model.subscribe(None);
    client.drain(&mut subscription);
    for number in 0..400 {
        model.publish(fields(json!([number])));
        client.drain(&mut subscription);
        client.assert_current(&model);
    }
    assert_eq!((client.seen, client.lagged, client.resyncs.len()), (401, 0, 0));
}

#[test]
fn a_slow_reader_leaps_and_is_told_how_far() {
    let (model, mut client) = (model(), Client::default());
    model.publish(fields(json!({"list": vec!["some longer content"; 50], "n": -1})));
    let mut subscription = model.subscribe(None);
    client.drain(&mut subscription);
    let content = |number: u32| fields(json!({"list": vec!["some longer content"; 50], "n": number}));
    (0..4).for_each(|number| assert!(model.publish(content(number))));
    assert_eq!(subscription.next().now_or_never(), Some(Update::Lag { missed: 3 }));
    let update = subscription.next().now_or_never().unwrap();
    assert!(
        matches!(&update, Update::Patch { from, to, .. } if (*from, *to) == (at(2), at(6))),
        "{update:?}"
    );
    client.take(&update);
    client.assert_current(&model);
    // Far behind, patches would be longer than a whole body.
    (10..500).for_each(|number| assert!(model.publish(content(number))));
    assert_eq!(subscription.next().now_or_never(), Some(Update::Lag { missed: 489 }));
    assert!(matches!(subscription.next().now_or_never(), Some(Update::Snapshot { resync: None, .. })));
    assert_eq!(subscription.next().now_or_never(), None);
}

#[test]
fn coming_back_works_from_a_kept_version_and_says_why_where_it_cannot() {
    let model = model();
    let filler = "x".repeat(2_000);
    let content = |number: u32| fields(json!({"filler": filler, "n": number}));
    (0..5).for_each(|number| assert!(model.publish(content(number))));
    let first = |resume| model.subscribe(Some(resume)).next().now_or_never();
    let patched = first(at(4));
    assert!(
        matches!(&patched, Some(Update::Patch { from, to, .. }) if (*from, *to) == (at(4), at(6))),
        "{patched:?}"
    );
    assert_eq!(first(at(6)), None, "nothing to tell");
    let resync = |resume| match first(resume) {
        Some(Update::Snapshot { resync, .. }) => resync,
        other => panic!("{other:?}"),
    };
    assert_eq!(resync(Version { epoch: 2, version: 6 }), Some(ResyncReason::Epoch));
    assert_eq!(resync(at(99)), Some(ResyncReason::Gap), "a version that never was");
    (10..1_000).for_each(|number| assert!(model.publish(content(number))));
    assert_eq!(resync(at(6)), Some(ResyncReason::Gap));
}

#[test]
fn patches_that_are_kept_have_a_bound_in_bytes() {
    let model = model();
    for number in 0..100_u32 {
        let large: String = char::from_digit(number % 10, 10).unwrap().to_string().repeat(20_000);
        model.publish(fields(json!([large])));
    }
    let history = format!("{:?}", model.shared.history.lock().way_from(100));
    assert!(history.starts_with("Patch"), "the newest step is kept");
    assert_eq!(model.shared.history.lock().way_from(50), history::CatchUp::Snapshot);
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_answers_at_a_change_or_after_its_time() {
    let model = model();
    let patience = Duration::from_secs(30);
    assert_eq!(model.wait_newer(None, patience).await.unwrap().id(), at(1));
    assert_eq!(model.wait_newer(Some(Version { epoch: 2, version: 1 }), patience).await.unwrap().id(), at(1));
    assert_eq!(model.wait_newer(Some(at(1)), patience).await, None);
    let waiter = tokio::spawn({
        let model = model.clone();
        async move { model.wait_newer(Some(at(1)), patience).await }
    });
    model.until_subscribed().await;
    model.publish(fields(json!([1])));
    assert_eq!(waiter.await.unwrap().unwrap().id(), at(2));
}

#[tokio::test]
async fn a_sampler_rests_until_somebody_looks() {
    let model = model();
    assert!(!model.has_subscribers());
    assert_eq!(model.until_subscribed().now_or_never(), None);
    let (one, two) = (model.subscribe(None), model.subscribe(None));
    model.until_subscribed().await;
    drop(one);
    assert!(model.has_subscribers());
    drop(two);
    assert!(!model.has_subscribers());
    assert!(model.wait_newer(Some(at(1)), Duration::ZERO).await.is_none());
    assert!(!model.has_subscribers(), "a waiter that gave up no longer counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_beside_a_busy_publisher_ends_at_the_newest_version() {
    let (model, mut client) = (model(), Client::default());
    let mut subscription = model.subscribe(None);
    let publisher = std::thread::spawn({
        let model = model.clone();
        move || (0..3_000).for_each(|number| assert!(model.publish(fields(json!([number, number % 7])))))
    });
    while client.version != Some(at(3_001)) {
        let update = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.unwrap();
        client.take(&update);
    }
    publisher.join().unwrap();
    client.assert_current(&model);
    // The first body stands for all versions before it; from there on each version is shown or counted as
    // missed.
    assert!(client.seen + client.lagged <= 3_001);
}

fn json_value() -> impl Strategy<Value = Value> {
    let key =
        prop_oneof![Just("a"), Just("b"), Just("a/b"), Just("~1"), Just(""), Just("-"), Just("0"), Just("ü")];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0_u8..4).prop_map(Value::from),
        (0_u8..4).prop_map(|number| Value::from(f64::from(number) / 2.0)),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..4)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<(&'static str, Value)>),
    Read,
    Reconnect,
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    let content =
        proptest::collection::vec((prop_oneof![Just("items"), Just("more"), Just("~/")], json_value()), 0..3);
    prop_oneof![
        5 => content.prop_map(Step::Publish),
        2 => Just(Step::Read),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// For any sequence of contents and any reader that lags, leaves and comes back: snapshot + patches =
    /// newest snapshot, and every version is either shown or counted as missed.
    #[test]
    fn snapshot_and_patches_lead_to_the_newest_snapshot(steps in proptest::collection::vec(step(), 1..40)) {
        let (model, mut client) = (model(), Client::default());
        let mut subscription = model.subscribe(None);
        for step in steps {
            match step {
                Step::Publish(content) => {
                    let content: Map<String, Value> =
                        content.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
                    let before = body(&model.current());
                    let published = model.publish(content.clone());
                    let after = body(&model.current());
                    prop_assert_eq!(published, before != after);
                    prop_assert!(content.iter().all(|(key, value)| &after[key] == value));
                }
                Step::Read => {
                    client.drain(&mut subscription);
                    client.assert_current(&model);
                }
                Step::Reconnect => subscription = model.subscribe(client.version),
                Step::Forget => {
                    client = Client::default();
                    subscription = model.subscribe(None);
                }
            }
        }
        client.drain(&mut subscription);
        client.assert_current(&model);
    }
}
