//! Frames of a lane: whatever comes, reading ends, and what was read is written as the same bytes mean.

use arw_transport::frame::{FrameWriter, Kind, Taken, take};
use arw_transport::wire::Refused;
use bytes::BytesMut;

/// Reads the bytes as a node would, and asserts what must hold of any.
pub fn feed(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    loop {
        let before = buffer.len();
        match take(&mut buffer, |message| message.0 % 2 == 0) {
            Ok(Taken::Frame { header, body }) => {
                if header.kind == Kind::Refusal {
                    let _ = Refused::from_body(&body);
                }
                let mut writer = FrameWriter::with_capacity(body.len() + 128);
                // Only what a reader takes can be written.
                writer.write(&header, &body).expect("a frame that was read can be written");
                let mut again = BytesMut::from(&writer.take()[..]);
                let Ok(Taken::Frame { header: read, body: same }) = take(&mut again, |_| true) else {
                    panic!("a frame that was written can be read")
                };
                assert_eq!((read, same), (header, body));
            }
            Ok(Taken::Refused(_)) => {}
            Ok(Taken::Need(missing)) => {
                assert!(missing > 0);
                return;
            }
            Err(_) => return,
        }
        assert!(buffer.len() < before, "reading goes on");
    }
}
