//! Does a model fit into memory?
//!
//! Owns the estimate and the comparison. Refuses to know what is free (`hardware`), and what to evict when it
//! does not fit.
//!
//! The estimate is for main memory, with llama.cpp's defaults (16-bit KV cache, batches of 512 tokens, flash
//! attention):
//!
//! ```text
//! weights    the file's length                                     they are mapped, and all of them are used for each token
//! KV cache   kv_bytes_per_token × tokens                           allocated and touched at the start
//! compute    512 × 4 × (16 × embedding_length + tokens)            activations of one batch, and its attention mask
//! program    64 MiB                                                server, libraries, vocabulary, sampler, HTTP
//! ```
//!
//! `tokens` is context × parallel, rounded up to 256. Measured with SmolLM2-135M Q4_1 (98.4 MB, 23,040 bytes
//! of KV cache per token) on llama.cpp, resident in MB, just loaded and after a prompt that filled the
//! context:
//!
//! | tokens | loaded | filled | estimate |
//! |-------:|-------:|-------:|---------:|
//! | 512    | 164    | –      | 197      |
//! | 2,048  | 198    | 214    | 236      |
//! | 8,192  | 337    | 360    | 390      |
//!
//! So it errs upwards, by 8 to 10 % of a full context. It stays an upper bound for models with sliding
//! windows, whose cache is smaller. A server that returns logits for every token of a prompt takes more (512
//! × 4 × vocabulary), and so does the compute buffer on a graphics card; that is not counted here.

use super::record::ModelRecord;

/// How much main memory a runtime will take, in bytes, when it serves `record` to `parallel` requests at once
/// with `context_tokens` each (llama.cpp's `--ctx-size` is their product). Saturates: absurd numbers do not
/// fit anywhere.
#[must_use]
pub fn memory_needed(record: &ModelRecord, context_tokens: u64, parallel: u32) -> u64 {
    let tokens = context_tokens.max(1).saturating_mul(u64::from(parallel.max(1)));
    let tokens = tokens.checked_next_multiple_of(TOKENS_STEP).unwrap_or(u64::MAX);
    let kv_cache = record.kv_bytes_per_token.saturating_mul(tokens);
    let width = record.embedding_length.unwrap_or(0).saturating_mul(ACTIVATIONS);
    let compute = width.saturating_add(tokens).saturating_mul(BATCH_TOKENS * FLOAT_BYTES);
    record.size_bytes.saturating_add(kv_cache).saturating_add(compute).saturating_add(PROGRAM_BYTES)
}

/// Whether `needed` bytes can be taken from `free` so that `headroom` bytes stay.
///
/// ```
/// use arw_actors::model::fit::fits;
/// assert!(fits(700, 1_000, 300));
/// assert!(!fits(701, 1_000, 300));
/// ```
#[must_use]
pub fn fits(needed: u64, free: u64, headroom: u64) -> bool {
    needed.checked_add(headroom).is_some_and(|all| all <= free)
}

/// llama.cpp rounds the length of its cache up to this.
const TOKENS_STEP: u64 = 256;

/// Its physical batch (`--ubatch-size`).
const BATCH_TOKENS: u64 = 512;

/// Activations are 32-bit.
const FLOAT_BYTES: u64 = 4;

/// How many activations as wide as the model are alive at once in one layer, the feed-forward part counted by
/// its width.
const ACTIVATIONS: u64 = 16;

/// Measured: 49 to 54 MB of a server are neither weights nor cache nor batch.
const PROGRAM_BYTES: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gguf::GgufHeader;
    use crate::model::record::ModelHash;
    use crate::model::testkit::tiny_gguf;
    use arw_kit::moment::WallTime;

    /// SmolLM2-135M-Instruct.Q4_1, as its header says.
    fn smollm2() -> ModelRecord {
        let bytes = tiny_gguf("SmolLM2");
        let header = GgufHeader::read(&mut bytes.as_slice(), bytes.len() as u64).unwrap();
        let hash = ModelHash::from_digest(&[0; 32]);
        let mut record =
            ModelRecord::new(header, "smollm2".into(), hash, 98_362_432, WallTime::from_millis(0));
        record.embedding_length = Some(576);
        record.kv_bytes_per_token = 23_040;
        record
    }

    #[test]
    fn the_estimate_is_a_little_above_what_was_measured() {
        for (context, measured_mb) in [(512, 164), (2_048, 214), (8_192, 360)] {
            let estimated_mb = memory_needed(&smollm2(), context, 1) / 1_000_000;
            assert!(estimated_mb >= measured_mb, "{context}: {estimated_mb} < {measured_mb}");
            assert!(
                estimated_mb <= measured_mb * 125 / 100,
                "{context}: {estimated_mb} is far above {measured_mb}"
            );
        }
    }

    #[test]
    fn parallel_requests_have_a_context_each() {
        let record = smollm2();
        assert_eq!(memory_needed(&record, 2_048, 4), memory_needed(&record, 8_192, 1));
        assert_eq!(memory_needed(&record, 0, 0), memory_needed(&record, 256, 1));
    }

    #[test]
    fn absurd_numbers_fit_nowhere() {
        let mut record = smollm2();
        assert_eq!(memory_needed(&record, u64::MAX, u32::MAX), u64::MAX);
        record.size_bytes = u64::MAX;
        assert_eq!(memory_needed(&record, 2_048, 1), u64::MAX);
        assert!(!fits(u64::MAX, u64::MAX, 1));
    }

    proptest::proptest! {
        #[test]
        fn more_of_anything_never_needs_less(
            context in 0_u64..1 << 20, more in 0_u64..1 << 20, parallel in 0_u32..64, kv in 0_u64..1 << 24, size in 0_u64..1 << 40,
        ) {
            let mut record = smollm2();
            (record.kv_bytes_per_token, record.size_bytes) = (kv, size);
            let needed = memory_needed(&record, context, parallel);
            proptest::prop_assert!(needed > size);
            proptest::prop_assert!(memory_needed(&record, context + more, parallel) >= needed);
            proptest::prop_assert!(memory_needed(&record, context, parallel + 1) >= needed);
        }
    }
}
