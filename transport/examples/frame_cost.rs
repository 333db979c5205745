//! What writing and reading a frame costs, on one core.
//!
//! `cargo run --release -p arw-transport --example frame_cost`

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Instant;

use arw_transport::frame::{
    Address, CallId, FrameReader, FrameWriter, Header, MessageType, Parsed, TargetActor, Trace,
};

const FRAMES: u32 = 2_000_000;
/// What a lane's writer sends at once.
const BATCH: u32 = 64;

#[expect(clippy::print_stdout, reason = "it is there to be read")]
fn main() {
    println!("{:>6} {:>6} {:>14} {:>14} {:>14}", "body", "trace", "write", "read", "value");
    for (body, has_trace) in [(0, false), (100, false), (100, true), (1024, false), (16 * 1024, false)] {
        let (write, read, value) = measure(body, has_trace);
        println!("{body:>6} {has_trace:>6} {write:>11.1} ns {read:>11.1} ns {value:>11.1} ns");
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
/// Nanoseconds per frame: written with a body of bytes, read, written with a body that is encoded from a
/// value.
fn measure(body: usize, has_trace: bool) -> (f64, f64, f64) {
    let body = vec![7_u8; body];
    let value = (42_u64, "a short text".to_owned(), Some(7_u32));
    let to = Address { actor: TargetActor(7), message: MessageType(11) };
    let trace = has_trace.then_some(Trace { trace_id: [1; 16], span_id: [2; 8], flags: 1 });
    let mut writer = FrameWriter::with_capacity(64 * 1024);
    let mut reader = FrameReader::default();
    let frames = if body.len() > 4096 { FRAMES / 10 } else { FRAMES };
    let (mut writing, mut reading, mut encoding) = (0, 0, 0);
    for batch in 0..frames / BATCH {
        let call = CallId { slot: batch, generation: NonZeroU32::MIN };
        let header = Header::Ask { to, trace, call, deadline_ms: 1500 };
        let start = Instant::now();
        for _ in 0..BATCH {
            writer.write(black_box(&header), black_box(&body)).unwrap_or_default();
        }
        let sent = writer.take();
        writing += start.elapsed().as_nanos();
        let mut rest = &sent[..];
        let start = Instant::now();
        while let Ok(Parsed::Frame { header, body }) = reader.read(rest) {
            black_box((header, &rest[body.clone()]));
            rest = &rest[body.end..];
        }
        reading += start.elapsed().as_nanos();
        let start = Instant::now();
        for _ in 0..BATCH {
            writer.write_value(black_box(&header), black_box(&value)).unwrap_or_default();
        }
        black_box(writer.take());
        encoding += start.elapsed().as_nanos();
    }
    let per_frame = |total: u128| total as f64 / f64::from(frames / BATCH * BATCH);
    (per_frame(writing), per_frame(reading), per_frame(encoding))
}
