//! What it costs that another node serves the model: the same request to the node that has it, and to one
//! that has not.

use std::time::Duration;

use serde_json::json;

use crate::chat::{LATE_AT_MOST, Place, load};
use crate::kit::{Better, Figures, Options};
use crate::{ADDED_BY_NODE, FAKE, NEAR, Stage, THROUGH};

const STREAMS_PER_S: u32 = 200;
const LASTING_MS: usize = 5_000;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn measure(
    near: &Stage,
    far: &Stage,
    options: &Options,
    figures: &mut Figures,
    notes: &mut Vec<String>,
) {
    far.node.add_fake("one", FAKE, &["--tokens", "8"], json!({"auto_start": true})).await.unwrap();
    far.node.until("one", |row| row["state"] == "ready").await.unwrap();
    let token = near.node.post("/cluster/tokens", json!({})).await.unwrap().json()["token"].clone();
    assert_eq!(far.node.post("/cluster/join", json!({ "token": token })).await.unwrap().status, 200);
    tokio::time::timeout(PATIENCE, listed(near)).await.unwrap();
    let place = |stage: &Stage| Place {
        address: stage.node.address.clone(),
        authorization: format!("Bearer {}", stage.node.token),
    };
    let (direct, through) = (place(far), place(near));
    let lasting = Duration::from_millis(options.scaled(LASTING_MS) as u64);
    load(&direct, true, STREAMS_PER_S, lasting / 10).await;
    load(&through, true, STREAMS_PER_S, lasting / 10).await;
    let directly = load(&direct, true, STREAMS_PER_S, lasting).await;
    let over = load(&through, true, STREAMS_PER_S, lasting).await;
    let late = directly.late_p99.max(over.late_p99);
    if late > LATE_AT_MOST {
        notes
            .push(format!("far: the load generator itself was late by {late:?} (p99): the machine was busy"));
    }
    for (test, at) in [("far_first_token_p50", 0), ("far_first_token_p99", 1)] {
        let (a, b) = (directly.times[at], over.times[at]);
        figures.add(test, "ms", Better::Lower, NEAR, a);
        figures.add(test, "ms", Better::Lower, THROUGH, b);
        figures.add(test, "ms", Better::Lower, ADDED_BY_NODE, b - a);
    }
}

/// Resolves when the near node lists the model of the far one.
async fn listed(near: &Stage) {
    loop {
        let models = near.node.get("/v1/models").await.unwrap().json();
        if models["data"].as_array().unwrap().iter().any(|row| row["id"] == "one" && row["state"] == "ready")
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
