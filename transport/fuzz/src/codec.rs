//! Control messages: whatever comes, reading ends, and what was read is read again the same.

use arw_transport::wire::{Received, put, take};
use bytes::BytesMut;

/// Reads the bytes as a node would, and asserts what must hold of any.
pub fn feed(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    loop {
        let before = buffer.len();
        match take(&mut buffer) {
            Ok(Received::Message(message)) => {
                let mut again = BytesMut::new();
                put(&message, &mut again).expect("a message that was read can be written");
                assert_eq!(take(&mut again), Ok(Received::Message(message)));
                assert!(again.is_empty());
            }
            Ok(Received::Unknown { .. }) => {}
            Ok(Received::Need(missing)) => {
                assert!(missing > 0);
                return;
            }
            Err(_) => return,
        }
        assert!(buffer.len() < before, "reading goes on");
    }
}
