//! The fuzz corpus, read by the same functions as under libFuzzer, which is not needed for that.
//!
//! `ARW_UPDATE=1` writes the seeds anew. What a fuzz target broke on is added to its folder by hand, under a
//! name that says what it was.

#![expect(
    unreachable_pub,
    reason = "the targets of libFuzzer, in a crate of their own, call the same functions"
)]

#[cfg(test)]
#[path = "../fuzz/src/codec.rs"]
mod codec;
#[cfg(test)]
#[path = "../fuzz/src/datagram.rs"]
mod datagram;
#[cfg(test)]
#[path = "../fuzz/src/frame.rs"]
mod frame;
#[cfg(test)]
#[path = "../fuzz/src/handshake.rs"]
mod handshake;
#[cfg(test)]
#[path = "corpus/seeds.rs"]
mod seeds;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{codec, datagram, frame, handshake, seeds};

    fn folder(target: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
    }

    /// Feeds each file of a target's folder, and each of its beginnings up to a length.
    fn replay(target: &str, feed: fn(&[u8])) {
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty());
        for file in files {
            let bytes = fs::read(&file).unwrap();
            feed(&bytes);
            for length in 0..bytes.len().min(256) {
                feed(&bytes[..length]);
            }
        }
    }

    #[test]
    fn the_corpus_has_one_of_everything_as_it_is_written_today() {
        for (target, name, bytes) in seeds::all() {
            let path = folder(target).join(name);
            if std::env::var_os("ARW_UPDATE").is_some() {
                fs::create_dir_all(folder(target)).unwrap();
                fs::write(&path, &bytes).unwrap();
            }
            let kept = fs::read(&path).unwrap_or_default();
            assert!(
                kept == bytes,
                "{} is not what is written today; if that is meant: ARW_UPDATE=1",
                path.display()
            );
        }
    }

    #[test]
    fn no_frame_of_the_corpus_breaks_its_reader() {
        replay("frame", frame::feed);
    }

    #[test]
    fn no_control_message_of_the_corpus_breaks_its_reader() {
        replay("codec", codec::feed);
    }

    #[test]
    fn no_first_message_or_token_of_the_corpus_breaks_its_reader() {
        replay("handshake", handshake::feed);
    }

    #[test]
    fn no_datagram_of_the_corpus_breaks_its_reader() {
        replay("datagram", datagram::feed);
    }
}
