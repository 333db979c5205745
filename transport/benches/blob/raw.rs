//! A body on a bare QUIC stream: written without a copy, read as it comes.

use bytes::Bytes;
use quinn::{Connection, Endpoint};

use crate::ends::{dial, endpoint, server};

const SEED: u8 = 11;
/// As much is written at once as of a blob.
const PART: usize = 256 << 10;

pub(crate) struct Raw {
    connection: Connection,
    length: usize,
    _endpoint: Endpoint,
}

impl Raw {
    pub(crate) async fn start(body: Bytes) -> Self {
        let length = body.len();
        let address = server(SEED, |connection| serve(connection, body));
        let endpoint = endpoint(SEED + 1);
        Self { connection: dial(&endpoint, address, SEED).await, length, _endpoint: endpoint }
    }

    pub(crate) async fn fetch(&self, is_hashed: bool) {
        let (mut send, mut recv) = self.connection.open_bi().await.unwrap();
        send.write_all(&[3]).await.unwrap();
        send.finish().unwrap();
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut received = 0;
        while let Some(chunk) = recv.read_chunk(usize::MAX, true).await.unwrap() {
            received += chunk.bytes.len();
            if is_hashed {
                context.update(&chunk.bytes);
            }
        }
        assert_eq!(received, self.length);
        std::hint::black_box(context.finish());
    }
}

async fn serve(connection: Connection, body: Bytes) {
    while let Ok((mut send, _recv)) = connection.accept_bi().await {
        for at in (0..body.len()).step_by(PART) {
            send.write_chunk(body.slice(at..body.len().min(at + PART))).await.unwrap();
        }
        send.finish().unwrap();
    }
}
