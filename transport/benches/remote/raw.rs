//! Frames with a length in front, on one bidirectional stream: no types, no actors, no deadlines.

use std::collections::VecDeque;

use bytes::{Buf as _, BufMut as _, BytesMut};
use quinn::{Connection, Endpoint, RecvStream, SendStream};

use crate::ends::{cpu_time, dial, endpoint, micros, millions, server};
use crate::kit::now;

/// Bytes of a length.
const LENGTH: usize = 4;
const FILL: [u8; 128] = [7; 128];
/// As much is written at once.
const BATCH: usize = 32 * 1024;
const SEED: u8 = 11;

pub(crate) struct Raw {
    connection: Connection,
    /// Bytes of a frame after its length.
    body: usize,
    _endpoint: Endpoint,
}

impl Raw {
    pub(crate) async fn start(body: usize) -> Self {
        let address = server(SEED, serve);
        let endpoint = endpoint(SEED + 1);
        Self { connection: dial(&endpoint, address, SEED).await, body, _endpoint: endpoint }
    }

    /// A stream whose server answers each frame, or counts them.
    async fn open(&self, answers: bool) -> (SendStream, RecvStream) {
        let (mut send, recv) = self.connection.open_bi().await.unwrap();
        send.write_all(&[u8::from(answers)]).await.unwrap();
        (send, recv)
    }

    pub(crate) async fn round_trips(&self, count: usize) -> [f64; 2] {
        let (mut send, mut recv) = self.open(true).await;
        let (mut out, mut read) = (BytesMut::new(), BytesMut::new());
        let mut samples = Vec::with_capacity(count);
        for _ in 0..count {
            let began = now();
            put(&mut out, self.body);
            send.write_chunk(out.split().freeze()).await.unwrap();
            while take_all(&mut read).0 == 0 {
                more(&mut recv, &mut read).await;
            }
            samples.push(began.elapsed());
        }
        [micros(&mut samples, 0.5), micros(&mut samples, 0.99)]
    }

    pub(crate) async fn one_way(&self, count: usize) -> f64 {
        let (mut send, mut recv) = self.open(false).await;
        let began = cpu_time();
        let mut out = BytesMut::new();
        for _ in 0..count {
            put(&mut out, self.body);
            if out.len() >= BATCH {
                send.write_chunk(out.split().freeze()).await.unwrap();
            }
        }
        send.write_chunk(out.split().freeze()).await.unwrap();
        send.finish().unwrap();
        let counted = recv.read_to_end(8).await.unwrap();
        assert_eq!(counted, (count as u64).to_le_bytes());
        millions(count, began)
    }

    pub(crate) async fn asks(&self, count: usize) -> (f64, f64) {
        let (mut send, mut recv) = self.open(true).await;
        let (mut out, mut read) = (BytesMut::new(), BytesMut::new());
        let mut asked = VecDeque::with_capacity(crate::IN_FLIGHT);
        let mut samples = Vec::with_capacity(count);
        let (mut sent, mut window) = (0, crate::IN_FLIGHT);
        let began = cpu_time();
        while samples.len() < count {
            for _ in 0..window.min(count - sent) {
                put(&mut out, self.body);
                asked.push_back(now());
                sent += 1;
            }
            send.write_chunk(out.split().freeze()).await.unwrap();
            more(&mut recv, &mut read).await;
            (window, _) = take_all(&mut read);
            samples.extend(asked.drain(..window).map(|asked| asked.elapsed()));
        }
        (millions(count, began), micros(&mut samples, 0.99))
    }
}

async fn serve(connection: Connection) {
    while let Ok((send, recv)) = connection.accept_bi().await {
        tokio::spawn(serve_stream(send, recv));
    }
}

async fn serve_stream(mut send: SendStream, mut recv: RecvStream) {
    let mut answers = [0];
    recv.read_exact(&mut answers).await.unwrap();
    let (mut read, mut out) = (BytesMut::new(), BytesMut::new());
    let mut counted = 0_u64;
    while more(&mut recv, &mut read).await {
        let (frames, body) = take_all(&mut read);
        counted += frames as u64;
        if answers == [1] {
            (0..frames).for_each(|_| put(&mut out, body));
            // A client that is done may be gone.
            if send.write_chunk(out.split().freeze()).await.is_err() {
                return;
            }
        }
    }
    if answers == [0] {
        send.write_all(&counted.to_le_bytes()).await.unwrap();
    }
}

fn put(out: &mut BytesMut, body: usize) {
    out.put_u32_le(u32::try_from(body).unwrap());
    out.put_slice(&FILL[..body]);
}

async fn more(recv: &mut RecvStream, read: &mut BytesMut) -> bool {
    match recv.read_chunk(usize::MAX, true).await {
        Ok(Some(chunk)) => {
            read.extend_from_slice(&chunk.bytes);
            true
        }
        Ok(None) | Err(_) => false,
    }
}

/// Takes whole frames off the front: how many, and how long the last one was.
fn take_all(read: &mut BytesMut) -> (usize, usize) {
    let (mut frames, mut last) = (0, 0);
    while let Some(length) = read.first_chunk::<LENGTH>() {
        let body = usize::try_from(u32::from_le_bytes(*length)).unwrap();
        if read.len() < LENGTH + body {
            break;
        }
        read.advance(LENGTH + body);
        (frames, last) = (frames + 1, body);
    }
    (frames, last)
}
