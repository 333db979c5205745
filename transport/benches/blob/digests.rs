//! SHA-256 by the two crates that this repository has.

use bytes::Bytes;
use sha2::Digest as _;

type Digest = fn(&[u8]) -> [u8; 32];

pub(crate) const ALL: [(&str, Digest); 2] = [("aws-lc-rs", aws_lc), ("sha2", sha2)];

/// As much is hashed at once as of a blob.
const PART: usize = 256 << 10;

fn aws_lc(bytes: &[u8]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    bytes.chunks(PART).for_each(|part| context.update(part));
    context.finish().as_ref().try_into().unwrap()
}

fn sha2(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = sha2::Sha256::new();
    bytes.chunks(PART).for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

/// Bytes that are not all the same.
pub(crate) fn body(length: usize) -> Bytes {
    let word = |index: u64| index.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    (0..length.div_ceil(8) as u64).flat_map(word).take(length).collect::<Vec<u8>>().into()
}
