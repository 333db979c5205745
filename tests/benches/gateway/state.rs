//! Reading a view as fast as it goes, beside a loop that writes the same bytes.

use std::time::Duration;

use arw_tests::node::NodeProcess;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::kit::{Better, Figures, Options, now};
use crate::peers::Engine;
use crate::{ARW, FAKE, RAW};

const CLIENTS: usize = 64;
const LASTING_MS: usize = 3_000;
const PATH: &str = "/state/actors";
/// The body that the target speaks of has 20 KB.
const BODY_BYTES: usize = 20_000;

pub(crate) async fn measure(node: &NodeProcess, options: &Options, figures: &mut Figures) {
    let mut body = node.get(PATH).await.unwrap().body;
    for number in 0..200 {
        if body.len() >= BODY_BYTES {
            break;
        }
        node.add_fake(&format!("r{number}"), FAKE, &[], json!({})).await.unwrap();
        // The view follows a little later.
        tokio::time::sleep(Duration::from_millis(60)).await;
        body = node.get(PATH).await.unwrap().body;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body.json");
    std::fs::write(&file, &body).unwrap();
    let raw = Engine::role("--raw-answers", file.to_str().unwrap());
    let lasting = Duration::from_millis(options.scaled(LASTING_MS) as u64);
    for (contender, address, pid) in [(RAW, &raw.address, raw.pid()), (ARW, &node.address, node.pid())] {
        load(address, lasting / 10).await;
        let before = cpu_time(pid);
        let began = now();
        let answers = load(address, lasting).await;
        let took = began.elapsed();
        let cpu = cpu_time(pid).saturating_sub(before);
        let per_second = answers as f64 / took.as_secs_f64();
        figures.add("state_requests", "requests/s, 64 clients", Better::Higher, contender, per_second);
        let micros = cpu.as_secs_f64() * 1e6 / answers as f64;
        figures.add("state_cpu_per_request", "µs of CPU", Better::Lower, contender, micros);
    }
    figures.add("state_bytes", "bytes", Better::Lower, PATH, body.len() as f64);
}

/// Answers that all clients got, each asking as soon as it was answered.
async fn load(address: &str, lasting: Duration) -> u64 {
    let until = now() + lasting;
    let request = format!("GET {PATH} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (address, request) = (address.to_owned(), request.clone());
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(&address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut answers = 0;
                let mut buffer = vec![0; 64 * 1024];
                while now() < until {
                    stream.write_all(request.as_bytes()).await.unwrap();
                    read_answer(&mut stream, &mut buffer).await;
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    let mut answers = 0;
    for client in clients {
        answers += client.await.unwrap();
    }
    answers
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    let mut whole = None;
    while whole.is_none_or(|whole| filled < whole) {
        let read = stream.read(&mut buffer[filled..]).await.unwrap();
        assert_ne!(read, 0, "the server closed the connection");
        filled += read;
        if whole.is_none() {
            whole = length(&buffer[..filled]);
        }
    }
}

/// Bytes of head and body, once the head is there.
fn length(answer: &[u8]) -> Option<usize> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..end]).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let body =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
    Some(end + body.unwrap())
}

/// CPU time that a process has used, in steps of 10 ms.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let field = |number: usize| -> u64 { fields.split_whitespace().nth(number).unwrap().parse().unwrap() };
    // utime and stime, in clock ticks of which Linux has had a hundred a second for as long as it has told
    // them here.
    Duration::from_millis((field(11) + field(12)) * 10)
}
