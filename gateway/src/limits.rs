//! How much and how slowly a client may send.
//!
//! Owns the limits on heads, bodies and event streams. Connections and the time for heads are `server.rs`'s.
//! Refuses to know what is in a body.

use std::sync::Arc;
use std::time::Duration;

use arw_actors::config::GatewaySettings;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{HeaderMap, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::OwnedSemaphorePermit;

use crate::problem::{Kind, Problem};
use crate::shared::Shared;

/// HTTP-6: a head beyond the limit is refused in words; hyper cuts off what is far beyond (`server.rs`).
pub(crate) fn check_head(uri: &Uri, headers: &HeaderMap, bytes_max: u64) -> Result<(), Problem> {
    // Name, value, `: ` and the line's end.
    let headers: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let bytes = u64::try_from(headers + target).unwrap_or(u64::MAX);
    if bytes <= bytes_max {
        return Ok(());
    }
    let detail = format!("the address and headers take {bytes} bytes; at most {bytes_max} are allowed");
    Err(Problem::new(
        Kind::HeadTooLarge,
        detail,
        "send fewer or shorter headers; `gateway.header_max_bytes` sets the limit",
    ))
}

/// HTTP-6: reads a whole body within its limits of size and time.
pub(crate) async fn read_body(body: Body, settings: &GatewaySettings) -> Result<Bytes, Problem> {
    let bytes_max = settings.body_max_bytes;
    // Known beforehand when the client says so: then not a byte is read in vain.
    if body.size_hint().lower() > bytes_max {
        return Err(too_large(bytes_max));
    }
    let limited = Limited::new(body, usize::try_from(bytes_max).unwrap_or(usize::MAX));
    let read = tokio::time::timeout(settings.body_read_timeout, limited.collect()).await;
    match read {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(bytes_max)),
        Ok(Err(_)) => Err(broken_off()),
        Err(_) => Err(too_slow(settings)),
    }
}

/// The same for another node, which hears of a refusal only after it has sent all: what is beyond the limit
/// is read and dropped, for as long as a body may take.
pub(crate) async fn read_body_of_node(mut body: Body, settings: &GatewaySettings) -> Result<Bytes, Problem> {
    let bytes_max = settings.body_max_bytes;
    let read = async {
        if body.size_hint().lower() <= bytes_max {
            let limited = Limited::new(&mut body, usize::try_from(bytes_max).unwrap_or(usize::MAX));
            match limited.collect().await {
                Ok(collected) => return Ok(collected.to_bytes()),
                Err(error) if error.is::<LengthLimitError>() => {}
                Err(_) => return Err(broken_off()),
            }
        }
        while let Some(Ok(_)) = body.frame().await {}
        Err(too_large(bytes_max))
    };
    tokio::time::timeout(settings.body_read_timeout, read).await.unwrap_or_else(|_| Err(too_slow(settings)))
}

fn broken_off() -> Problem {
    let detail = "the body broke off before its end";
    Problem::new(Kind::BadJson, detail, "send the whole body; check the connection and Content-Length")
}

fn too_slow(settings: &GatewaySettings) -> Problem {
    let seconds = settings.body_read_timeout.as_secs_f64();
    let detail = format!("the body did not arrive within {seconds} s");
    Problem::new(Kind::BodyTooSlow, detail, "send it faster, or raise `gateway.body_read_timeout`")
}

fn too_large(bytes_max: u64) -> Problem {
    let detail = format!("the body is larger than {bytes_max} bytes");
    Problem::new(Kind::BodyTooLarge, detail, "send less at once, or raise `gateway.body_max_bytes`")
        .with("bytes_max", bytes_max)
}

/// HTTP-6: the right to hold one event stream open.
pub(crate) fn stream_permit(shared: &Shared) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(&shared.event_streams).try_acquire_owned().map_err(|_| {
        let detail = format!(
            "{} event streams are open, the most that this node allows",
            shared.settings.event_streams_max
        );
        let help =
            "close some, or raise `gateway.event_streams_max`; polling with `?after=&wait=` needs none";
        Problem::new(Kind::TooManyStreams, detail, help).retry_after(STREAM_RETRY)
    })
}

/// HTTP-16: the same for another node, out of a number of its own: nodes leave the streams of this one's
/// clients alone.
pub(crate) fn peer_stream_permit(shared: &Shared) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(&shared.peer_event_streams).try_acquire_owned().map_err(|_| {
        let detail = "other nodes have as many event streams open as this one allows them";
        let help = "close some, or raise `gateway.event_streams_max` there; nodes get half as many";
        Problem::new(Kind::TooManyStreams, detail, help).retry_after(STREAM_RETRY)
    })
}

/// Streams are open for minutes; asking again every few seconds finds a free one soon enough.
const STREAM_RETRY: Duration = Duration::from_secs(5);
