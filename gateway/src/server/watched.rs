//! A client's connection, watched from both sides.
//!
//! Owns what tells [`Progress`] how far the client is: the bytes on the socket, and the requests and answers
//! of the service above it. hyper between them has one time for waiting and for reading a head; here these
//! are two. Refuses to decide anything.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tower::Service;

use super::admission::Stage;
use super::lasting::may_last;
use super::progress::{Patience, Progress};
use crate::problem::{Form, Kind, Problem, render_problem};

/// As long as a request to an engine often takes.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// The socket.
#[derive(Debug)]
pub(super) struct WatchedStream<S> {
    stream: S,
    progress: Arc<Progress>,
    patience: Patience,
    timer: Pin<Box<Sleep>>,
}

impl<S> WatchedStream<S> {
    pub(super) fn new(stream: S, progress: Arc<Progress>, patience: Patience) -> Self {
        Self { stream, progress, patience, timer: Box::pin(tokio::time::sleep(patience.idle)) }
    }

    /// HTTP-6: the time for an idle connection, and for a head from its first byte on.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((stage, deadline)) = self.progress.deadline(self.patience) else { return Poll::Pending };
        let deadline = self.progress.clock().instant(deadline);
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(match stage {
            // As if the client had closed it: hyper ends it in order.
            Stage::Idle => Ok(()),
            Stage::Head | Stage::Body | Stage::Working => Err(io::ErrorKind::TimedOut.into()),
        })
    }

    fn note_write(&self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &wrote {
            Poll::Pending => self.progress.fell_behind(),
            Poll::Ready(Ok(bytes)) => self.progress.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
        }
        wrote
    }
}

impl<S> Drop for WatchedStream<S> {
    fn drop(&mut self) {
        self.progress.ended();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                if let Some(bytes) = buf.filled().get(before..).filter(|bytes| !bytes.is_empty()) {
                    this.progress.received(bytes);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                this.progress.serve_in(cx.waker());
                this.poll_patience(cx)
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.note_write(wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.note_write(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has nothing left to write.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.progress.serve_in(cx.waker());
        this.progress.caught_up();
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// The service.
#[derive(Debug)]
pub(super) struct WatchedService<F> {
    pub(super) front: F,
    pub(super) progress: Arc<Progress>,
}

impl<F> hyper::service::Service<Request<Incoming>> for WatchedService<F>
where
    F: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
    F::Future: Send + 'static,
{
    type Response = Response<WatchedAnswer>;
    type Error = GivesWay;
    type Future = BoxFuture<'static, Result<Self::Response, GivesWay>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let progress = Arc::clone(&self.progress);
        if !progress.began(!http_body::Body::is_end_stream(request.body())) {
            return Box::pin(std::future::ready(Err(GivesWay)));
        }
        if !progress.admits(may_last(&request)) {
            let refused = crowded(request.uri().path());
            return Box::pin(std::future::ready(Ok(refused.map(|body| WatchedAnswer { body, progress }))));
        }
        let request = request.map(|body| Body::new(WatchedBody { body, progress: Arc::clone(&progress) }));
        let answering = self.front.clone().call(request);
        Box::pin(async move {
            let response = answering.await.unwrap_or_else(|never: Infallible| match never {});
            Ok(response.map(|body| WatchedAnswer { body, progress }))
        })
    }
}

/// HTTP-6.
fn crowded(path: &str) -> Response<Body> {
    let detail = "as many requests as this node serves at once are under way; the last connections are kept for health checks and control";
    let help = "try again in a moment, or raise `gateway.connections_max`";
    let problem = Problem::new(Kind::NotReady, detail, help).retry_after(RETRY);
    let mut response = render_problem(problem.into_response(), Form::of_path(path));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The connection is closed for another one before this request began: nothing was done.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection gives way to another one")]
pub(super) struct GivesWay;

/// A request's body.
#[derive(Debug)]
struct WatchedBody {
    body: Incoming,
    progress: Arc<Progress>,
}

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if frame.is_none() || this.body.is_end_stream() {
            this.progress.body_ended();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        self.progress.body_ended();
    }
}

/// An answer's body.
#[derive(Debug)]
pub(super) struct WatchedAnswer {
    body: Body,
    progress: Arc<Progress>,
}

impl http_body::Body for WatchedAnswer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for WatchedAnswer {
    fn drop(&mut self) {
        self.progress.answered();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use arw_actors::config::{GatewaySettings, MachineDefaults, NodeConfig};
    use arw_kit::clock::Clock;
    use futures_util::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::server::admission::{BEHIND, Places};
    use crate::server::progress::Room;
    use crate::server::serve_http;

    const PATIENCE: Patience = Patience { idle: Duration::from_secs(120), head: Duration::from_secs(10) };

    fn progress() -> Arc<Progress> {
        let room = Arc::new(Room::new(Places::of(4)));
        Arc::new(Progress::new(Clock::system(), room, IpAddr::from([127, 0, 0, 1])))
    }

    fn pair() -> (DuplexStream, WatchedStream<DuplexStream>, Arc<Progress>) {
        let (client, server) = tokio::io::duplex(64);
        let progress = progress();
        (client, WatchedStream::new(server, Arc::clone(&progress), PATIENCE), progress)
    }

    fn settings() -> GatewaySettings {
        let machine = MachineDefaults { state_dir: "/nowhere".into(), name: "test".to_owned() };
        let settings = NodeConfig::from_layers(&[], &machine).unwrap().config.gateway;
        assert_eq!((settings.idle_timeout, settings.header_read_timeout), (PATIENCE.idle, PATIENCE.head));
        settings
    }

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    /// A client of a connection with hyper on it, which answers a body after a while.
    fn serves(after: Duration, body: fn() -> Body) -> (DuplexStream, Arc<Progress>) {
        let (client, server) = tokio::io::duplex(1024);
        let (progress, settings) = (progress(), settings());
        let front = tower::service_fn(move |_: Request<Body>| async move {
            tokio::time::sleep(after).await;
            Ok(Response::new(body()))
        });
        tokio::spawn(serve_http(&settings, server, front, Arc::clone(&progress)));
        (client, progress)
    }

    /// Reads until this comes.
    async fn read_until(client: &mut DuplexStream, end: &[u8]) {
        let mut read = Vec::new();
        while !read.ends_with(end) {
            read.push(client.read_u8().await.unwrap());
        }
    }

    fn chunks(every: Duration) -> Body {
        let chunks = futures_util::stream::iter(0..3).then(move |_| async move {
            tokio::time::sleep(every).await;
            Ok::<_, Infallible>(Bytes::from_static(b"chunk"))
        });
        Body::from_stream(chunks)
    }

    /// HTTP-6: whether hyper finds the request at its first look or later, whether the answer is there at
    /// once, after a long while or bit by bit: the idle time begins with its end.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_silent_after_an_answer_is_let_go() {
        let whole = || Body::from("whole");
        let slow = || chunks(Duration::from_secs(1000));
        let at_once = || chunks(Duration::ZERO);
        type Answer = (fn() -> Body, &'static [u8]);
        let answers: [Answer; 4] =
            [(Body::empty, b"\r\n\r\n"), (whole, b"whole"), (slow, b"0\r\n\r\n"), (at_once, b"0\r\n\r\n")];
        for (body, end) in answers {
            for after_s in [0, 1000] {
                for silent_s in [0, 30] {
                    let (mut client, _) = serves(Duration::from_secs(after_s), body);
                    tokio::time::sleep(Duration::from_secs(silent_s)).await;
                    for _ in 0..2 {
                        client.write_all(ASK).await.unwrap();
                        read_until(&mut client, end).await;
                    }
                    let answered = tokio::time::Instant::now();
                    let ended =
                        tokio::time::timeout(Duration::from_secs(3600), client.read(&mut [0; 8])).await;
                    assert_eq!(ended.expect("it is let go").unwrap(), 0);
                    assert_eq!(answered.elapsed().as_secs(), 120, "{after_s} {silent_s}");
                }
            }
        }
    }

    /// HTTP-6: the same for a part of a head that came with the request before, or while that was answered.
    #[tokio::test(start_paused = true)]
    async fn half_a_head_behind_a_request_gets_its_time_and_no_more() {
        for is_late in [false, true] {
            let (mut client, _) = serves(Duration::from_secs(1000), || Body::from("whole"));
            client.write_all(ASK).await.unwrap();
            if is_late {
                tokio::time::sleep(Duration::from_secs(500)).await;
            }
            client.write_all(b"GET / HT").await.unwrap();
            read_until(&mut client, b"whole").await;
            let answered = tokio::time::Instant::now();
            let ended = tokio::time::timeout(Duration::from_secs(3600), client.read(&mut [0; 8])).await;
            assert_eq!(ended.expect("it is let go").unwrap_or(0), 0);
            assert_eq!(answered.elapsed().as_secs(), 10);
        }
    }

    /// HTTP-6.
    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_ends_after_its_idle_time() {
        let (_client, mut server, _) = pair();
        let started = tokio::time::Instant::now();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(started.elapsed().as_secs(), 120);
    }

    /// HTTP-6: also when the byte comes after a long while.
    #[tokio::test(start_paused = true)]
    async fn the_time_for_a_head_begins_with_its_first_byte() {
        let (mut client, mut server, progress) = pair();
        let started = tokio::time::Instant::now();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(100)).await;
            for byte in b"GET / HTTP/1.1" {
                client.write_all(&[*byte]).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            std::future::pending::<()>().await;
        });
        let mut read = Vec::new();
        let error = server.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!((started.elapsed().as_secs(), progress.row().stage), (110, Stage::Head));
        assert!(read.starts_with(b"GET / HTT"), "{read:?}");
    }

    /// HTTP-6: no time of the client's runs while this node works, and the idle time begins with the end of
    /// the answer.
    #[tokio::test(start_paused = true)]
    async fn a_long_answer_costs_the_client_no_time() {
        let (mut client, mut server, progress) = pair();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut head = [0; 18];
        server.read_exact(&mut head).await.unwrap();
        assert!(progress.began(false));
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, server.read(&mut [0; 8])).await.is_err());
        progress.answered();
        server.flush().await.unwrap();
        let started = tokio::time::Instant::now();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(started.elapsed().as_secs(), 120);
    }

    /// HTTP-6: on the way from the socket.
    #[tokio::test(start_paused = true)]
    async fn a_steady_reader_of_one_large_answer_is_never_long_behind() {
        let (mut client, mut server, progress) = pair();
        let reading = tokio::spawn(async move {
            let mut part = vec![0; 32 << 10];
            for _ in 0..64 {
                client.read_exact(&mut part).await.unwrap();
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            client
        });
        let answer = vec![7; 64 * (32 << 10)];
        let writing = tokio::spawn(async move { server.write_all(&answer).await.map(|()| server) });
        while !writing.is_finished() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let behind = progress.row().behind_since.map(|since| progress.clock().now().since(since));
            assert!(behind.is_none_or(|behind| behind < BEHIND), "{behind:?}");
        }
        let _ends = (reading.await.unwrap(), writing.await.unwrap().unwrap());
    }

    /// HTTP-6: an answer that hyper has, and the socket has not, is not idle.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_not_got_its_answer_yet_is_not_idle() {
        let (mut client, progress) = serves(Duration::ZERO, || Body::from(vec![b'x'; 4096]));
        client.write_all(ASK).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(progress.row().stage, Stage::Working);
        let mut rest = vec![0; 4096];
        client.read_exact(&mut rest).await.unwrap();
        read_until(&mut client, b"x").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((progress.row().stage, progress.row().behind_since), (Stage::Idle, None));
    }

    /// HTTP-6: slow readers of answers are seen.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_behind_until_it_has_taken_all() {
        let (mut client, mut server, progress) = pair();
        assert!(tokio::time::timeout(Duration::from_secs(1), server.write_all(&[7; 65])).await.is_err());
        assert!(progress.row().behind_since.is_some());
        client.read_exact(&mut [0; 64]).await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(progress.row().behind_since, None);
    }
}
