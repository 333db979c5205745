//! Answers made of one JSON value per line (`application/x-ndjson`).

use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::error::ClientError;
use super::http::innermost;

/// The JSON lines of one answer.
#[derive(Debug)]
pub(crate) struct JsonLines {
    body: Incoming,
    pending: Vec<u8>,
    ended: bool,
    url: String,
    idle_max: Duration,
}

/// A model's row with its longest names is far below this.
const LINE_BYTES_MAX: usize = 1 << 20;

impl JsonLines {
    pub(crate) fn new(response: Response<Incoming>, url: &str, idle_max: Duration) -> Self {
        Self { body: response.into_body(), pending: Vec::new(), ended: false, url: url.to_owned(), idle_max }
    }

    /// The next line; `None` when there is no more.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            if let Some(line) = take_line(&mut self.pending, self.ended) {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let garbled = |error: serde_json::Error| self.garbled(format!("a line is not JSON: {error}"));
                return serde_json::from_slice(&line).map(Some).map_err(garbled);
            }
            if self.ended {
                return Ok(None);
            }
            if self.pending.len() > LINE_BYTES_MAX {
                return Err(self.garbled(format!("a line is longer than {LINE_BYTES_MAX} bytes")));
            }
            let frame = tokio::time::timeout(self.idle_max, self.body.frame()).await;
            let frame =
                frame.map_err(|_| ClientError::Silent { url: self.url.clone(), waited: self.idle_max })?;
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.pending.extend_from_slice(&bytes);
                    }
                }
                Some(Err(error)) => {
                    return Err(ClientError::Unreachable { url: self.url.clone(), why: innermost(&error) });
                }
                None => self.ended = true,
            }
        }
    }

    fn garbled(&self, why: String) -> ClientError {
        ClientError::Garbled { url: self.url.clone(), why }
    }
}

fn take_line(pending: &mut Vec<u8>, ended: bool) -> Option<Vec<u8>> {
    if let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
        let rest = pending.split_off(end + 1);
        return Some(std::mem::replace(pending, rest));
    }
    (ended && !pending.is_empty()).then(|| std::mem::take(pending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_one_by_one_and_the_last_needs_no_end() {
        let mut pending = b"{}\n\n[1".to_vec();
        assert_eq!(take_line(&mut pending, false), Some(b"{}\n".to_vec()));
        assert_eq!(take_line(&mut pending, false), Some(b"\n".to_vec()));
        assert_eq!(take_line(&mut pending, false), None);
        assert_eq!(take_line(&mut pending, true), Some(b"[1".to_vec()));
        assert_eq!(take_line(&mut pending, true), None);
    }
}
