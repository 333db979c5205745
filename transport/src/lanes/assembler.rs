//! Pieces of a stream to frames.
//!
//! Owns the beginning of a frame whose rest has not come yet: at most one frame is kept. Whole frames are
//! read where they lie. Refuses to know streams.

use crate::frame::{FrameError, FrameReader, FrameRefusal, Header, Parsed};

/// Puts frames together.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    partial: Vec<u8>,
    reader: FrameReader,
}

/// What came.
#[derive(Debug)]
pub(super) enum Incoming<'piece> {
    Frame { header: Header, body: &'piece [u8] },
    Refused(FrameRefusal),
}

impl Assembler {
    /// Tells `each` about every frame that `piece` completes.
    pub(super) fn feed(
        &mut self,
        mut piece: &[u8],
        each: &mut impl FnMut(Incoming<'_>),
    ) -> Result<(), FrameError> {
        while !self.partial.is_empty() {
            match next(&mut self.reader, &self.partial, each)? {
                Next::Needs(missing) => {
                    let (taken, rest) = piece.split_at(missing.min(piece.len()));
                    if taken.is_empty() {
                        return Ok(());
                    }
                    self.partial.extend_from_slice(taken);
                    piece = rest;
                }
                // Never more was kept than one frame.
                Next::Ends(_) => self.partial.clear(),
            }
        }
        while !piece.is_empty() {
            match next(&mut self.reader, piece, each)? {
                Next::Ends(at) => piece = &piece[at..],
                Next::Needs(_) => {
                    self.partial.extend_from_slice(piece);
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

enum Next {
    Needs(usize),
    Ends(usize),
}

fn next(
    reader: &mut FrameReader,
    bytes: &[u8],
    each: &mut impl FnMut(Incoming<'_>),
) -> Result<Next, FrameError> {
    Ok(match reader.read(bytes)? {
        Parsed::Need(missing) => Next::Needs(missing),
        Parsed::Frame { header, body } => {
            let end = body.end;
            each(Incoming::Frame { header, body: &bytes[body] });
            Next::Ends(end)
        }
        Parsed::Refused { refusal, length } => {
            each(Incoming::Refused(refusal));
            Next::Ends(length)
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::{Address, FRAME_BYTES_MAX, FrameWriter, MARK, MessageType, TargetActor};

    fn tell(message: u32) -> Header {
        Header::Tell { to: Address { actor: TargetActor(1), message: MessageType(message) }, trace: None }
    }

    fn number(header: &Header) -> u32 {
        let Header::Tell { to, .. } = header else { panic!("{header:?}") };
        to.message.0
    }

    proptest! {
        #[test]
        fn frames_come_out_once_and_in_order_however_the_stream_is_cut(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
            cuts in proptest::collection::vec(1..500_usize, 1..10),
        ) {
            let mut writer = FrameWriter::with_capacity(0);
            for (number, body) in (0..).zip(&bodies) {
                writer.write(&tell(number), body).unwrap();
            }
            let sent = writer.take();
            let mut assembler = Assembler::default();
            let (mut read, mut rest, mut cuts) = (Vec::new(), &sent[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                rest = later;
                assembler.feed(piece, &mut |incoming| match incoming {
                    Incoming::Frame { header, body } => read.push((number(&header), body.to_vec())),
                    Incoming::Refused(refusal) => panic!("{refusal}"),
                }).unwrap();
                prop_assert!(assembler.partial.len() < FRAME_BYTES_MAX);
            }
            let expected: Vec<_> = (0..).zip(bodies).collect();
            prop_assert_eq!(read, expected);
            prop_assert!(assembler.partial.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic_or_keep_more_than_a_frame(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20),
        ) {
            let mut assembler = Assembler::default();
            // A beginning that is right lets the rest be looked at.
            let mut outcome = assembler.feed(&[MARK], &mut |_| {});
            for piece in pieces {
                if outcome.is_err() {
                    break;
                }
                outcome = assembler.feed(&piece, &mut |_| {});
                prop_assert!(assembler.partial.len() <= FRAME_BYTES_MAX);
            }
        }
    }

    #[test]
    fn what_a_newer_version_adds_is_refused_by_itself() {
        // WIRE-3
        let mut writer = FrameWriter::with_capacity(0);
        writer.write(&tell(1), b"one").unwrap();
        writer.write(&tell(2), b"two").unwrap();
        let mut bytes = writer.take().to_vec();
        bytes[0] |= 0x0F;
        let mut came = Vec::new();
        let mut note = |incoming: Incoming<'_>| {
            came.push(match incoming {
                Incoming::Frame { header, .. } => Ok(number(&header)),
                Incoming::Refused(refusal) => Err(refusal.answer_to),
            });
        };
        Assembler::default().feed(&bytes, &mut note).unwrap();
        assert_eq!(came, [Err(None), Ok(2)]);
    }
}
