//! Frames of a lane: whatever comes, reading ends, and what was read is written so that it means the same.

use arw_transport::frame::{FrameReader, FrameWriter, Header, Parsed};
use arw_transport::wire::Refused;

/// Reads the bytes as a node would, and asserts what must hold of any.
pub fn feed(bytes: &[u8]) {
    let mut rest = bytes;
    let (mut reader, mut again) = (FrameReader::default(), FrameReader::default());
    let mut writer = FrameWriter::with_capacity(128);
    loop {
        let length = match reader.read(rest) {
            Ok(Parsed::Frame { header, body }) => {
                let (end, body) = (body.end, &rest[body]);
                if matches!(header, Header::Refusal { .. }) {
                    let _ = Refused::from_body(body);
                }
                writer.write(&header, body).expect("a frame that was read can be written");
                let written = writer.take();
                let Ok(Parsed::Frame { header: read, body: same }) = again.read(&written) else {
                    panic!("a frame that was written can be read")
                };
                assert_eq!((read, &written[same]), (header, body));
                end
            }
            Ok(Parsed::Refused { length, .. }) => length,
            Ok(Parsed::Need(missing)) => {
                assert!(missing > 0);
                return;
            }
            Err(_) => return,
        };
        assert!(length > 0, "reading goes on");
        rest = &rest[length..];
    }
}
