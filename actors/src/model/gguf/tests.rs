use std::io;

use proptest::prelude::*;

use super::*;
use crate::model::testkit::{GgufBuilder, GgufValue, tiny_gguf};

fn read(bytes: &[u8]) -> Result<GgufHeader, GgufError> {
    GgufHeader::read(&mut &bytes[..], bytes.len() as u64)
}

fn error(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

fn model() -> GgufBuilder {
    GgufBuilder::model("tiny")
}

#[test]
fn a_valid_model_says_what_it_is() {
    let bytes = tiny_gguf("tiny");
    let header = read(&bytes).unwrap();
    assert_eq!(
        header,
        GgufHeader {
            version: 3,
            architecture: "llama".into(),
            name: Some("tiny".into()),
            context_length: Some(128),
            embedding_length: Some(64),
            block_count: Some(2),
            vocabulary: 4,
            kv_bytes_per_token: 2 * (16 + 16) * 2,
            quantisation: "Q4_0".into(),
            parameters: 64 * 4 + 64,
            tensors: 2,
            chat_template: true,
            pooling: None,
            embedding: false,
            data_end: bytes.len() as u64,
        }
    );
}

#[test]
fn version_2_is_read_as_version_3() {
    assert_eq!(read(&model().version(2).build()).unwrap().version, 2);
}

#[test]
fn other_versions_are_refused_with_the_version() {
    assert_eq!(
        error(&model().version(1).build()),
        "GGUF version 1 is not supported (2 and 3 are): convert the model again with a current llama.cpp"
    );
    assert!(matches!(read(&model().version(4).build()), Err(GgufError::Version { version: 4 })));
    assert!(matches!(read(&model().version(0).build()), Err(GgufError::Version { version: 0 })));
}

#[test]
fn a_big_endian_file_is_told_apart() {
    let bytes = model().version(3_u32.swap_bytes()).build();
    assert!(matches!(read(&bytes), Err(GgufError::BigEndian)), "{}", error(&bytes));
}

#[test]
fn what_is_mistaken_for_a_model_is_named() {
    let said = |bytes: &[u8]| error(bytes);
    assert_eq!(said(b""), "the file is empty");
    assert!(said(b"GG").contains("only 2 bytes"));
    assert!(said(b"<!DOCTYPE html><html>").contains("an HTML page"));
    assert!(said(b"version https://git-lfs.github.com/spec/v1\noid sha256:").contains("Git LFS pointer"));
    assert!(said(b"PK\x03\x04 and so on").contains("ZIP archive or PyTorch"));
    assert!(said(b"lmgg\x51\x80\0\0").contains("old ggml file"));
    assert!(said(b"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}").contains("safetensors"));
    assert!(said(&[0; 4096]).contains("has not finished"));
    assert!(said(b"hello world").contains("68, 65, 6c, 6c"));
}

#[test]
fn every_cut_of_a_file_is_found_out() {
    let bytes = tiny_gguf("tiny");
    for cut in 0..bytes.len() {
        let error = read(&bytes[..cut]).unwrap_err();
        let expected = match cut {
            0 => matches!(error, GgufError::Empty),
            1..4 => matches!(error, GgufError::NotGguf { .. }),
            _ => matches!(error, GgufError::Truncated { len, .. } if len == cut as u64),
        };
        assert!(expected, "cut at {cut}: {error}");
    }
}

#[test]
fn a_truncated_file_says_how_long_it_should_be() {
    let bytes = tiny_gguf("tiny");
    let len = bytes.len();
    assert_eq!(
        error(&bytes[..len - 1]),
        format!(
            "truncated: the data of tensor `output_norm.weight` reaches to byte {len}, but the file ends at byte {}; download or copy it again",
            len - 1
        )
    );
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_truncated() {
    let bytes = tiny_gguf("tiny");
    let error = GgufHeader::read(&mut &bytes[..100], bytes.len() as u64).unwrap_err();
    assert!(matches!(error, GgufError::Truncated { .. }), "{error}");
}

#[test]
fn bytes_behind_the_last_tensor_do_no_harm() {
    let mut bytes = tiny_gguf("tiny");
    bytes.extend([0; 500]);
    assert!(read(&bytes).is_ok());
}

#[test]
fn every_value_type_is_passed_over() {
    let text = |t: &str| GgufValue::from(t);
    let builder = model()
        .key("x.u8", GgufValue::U8(1))
        .key("x.i8", GgufValue::I8(-1))
        .key("x.u16", GgufValue::U16(1))
        .key("x.i16", GgufValue::I16(-1))
        .key("x.u32", GgufValue::U32(1))
        .key("x.i32", GgufValue::I32(-1))
        .key("x.f32", GgufValue::F32(1.5))
        .key("x.bool", GgufValue::Bool(true))
        .key("x.text", text(&"long ".repeat(40_000)))
        .key("x.u64", GgufValue::U64(1))
        .key("x.i64", GgufValue::I64(-1))
        .key("x.f64", GgufValue::F64(1.5))
        .key("x.texts", GgufValue::Array(vec![text("a"), text(""), text("ccc")]))
        .key("x.floats", GgufValue::Array(vec![GgufValue::F64(0.0); 300]))
        .key("x.empty", GgufValue::Array(vec![]))
        .key("x.nested", GgufValue::Array(vec![GgufValue::Array(vec![text("a")]), GgufValue::Array(vec![])]))
        // Behind all of them: only read rightly when each was passed over exactly.
        .without("general.architecture")
        .key("general.architecture", text("llama"));
    assert_eq!(read(&builder.build()).unwrap().architecture, "llama");
}

#[test]
fn arrays_are_not_nested_without_end() {
    let mut value = GgufValue::Array(vec![GgufValue::U8(1)]);
    for _ in 0..3 {
        value = GgufValue::Array(vec![value]);
    }
    assert!(read(&model().key("x.deep", value.clone()).build()).is_ok());
    let deeper = GgufValue::Array(vec![value]);
    assert!(error(&model().key("x.deep", deeper).build()).contains("nested more than 4 deep"));
}

#[test]
fn a_kv_cache_may_differ_from_layer_to_layer() {
    let each = [0, 2, 0, 1].map(GgufValue::U32).to_vec();
    let builder = model()
        .key("llama.attention.head_count_kv", GgufValue::Array(each))
        .key("llama.attention.key_length", GgufValue::U32(10))
        .key("llama.attention.value_length", GgufValue::U32(6));
    assert_eq!(read(&builder.build()).unwrap().kv_bytes_per_token, 3 * (10 + 6) * 2);
}

#[test]
fn without_kv_heads_every_head_counts() {
    let header = read(&model().without("llama.attention.head_count_kv").build()).unwrap();
    assert_eq!(header.kv_bytes_per_token, 2 * 4 * (16 + 16) * 2);
    let header = read(&model().without("llama.attention.head_count").build()).unwrap();
    assert_eq!(header.kv_bytes_per_token, 0, "no head length is known");
}

#[test]
fn absurd_shapes_do_not_overflow() {
    let builder = model()
        .key("llama.attention.head_count_kv", GgufValue::U64(u64::MAX))
        .key("llama.block_count", GgufValue::U64(u64::MAX));
    assert_eq!(read(&builder.build()).unwrap().kv_bytes_per_token, u64::MAX);
    let none = model().key("llama.attention.head_count", GgufValue::U32(0));
    assert_eq!(read(&none.build()).unwrap().kv_bytes_per_token, 0);
}

#[test]
fn embedding_models_are_told_apart_from_rerankers() {
    let bert = |pooling: Option<u32>| {
        let bert = model().key("general.architecture", "bert".into());
        let bert = match pooling {
            Some(n) => bert.key("bert.pooling_type", GgufValue::U32(n)),
            None => bert,
        };
        read(&bert.build()).unwrap()
    };
    assert!(bert(None).embedding);
    assert_eq!(bert(None).kv_bytes_per_token, 0);
    assert_eq!(bert(Some(2)).pooling, Some(Pooling::First));
    assert!(!bert(Some(4)).embedding);
    let pooling_llama = model().key("llama.pooling_type", GgufValue::U32(3));
    assert!(read(&pooling_llama.build()).unwrap().embedding);
}

#[test]
fn the_quantisation_has_llama_cpps_name() {
    let named =
        |n: u32| read(&model().key("general.file_type", GgufValue::U32(n)).build()).unwrap().quantisation;
    assert_eq!(named(15), "Q4_K_M");
    assert_eq!(named(3), "Q4_1");
    assert_eq!(named(1), "F16");
    assert_eq!(named(1024 + 17), "Q5_K_M");
    assert_eq!(named(999), "F32", "an unknown number: the type that most bytes have");
    assert_eq!(read(&model().without("general.file_type").build()).unwrap().quantisation, "F32");
}

#[test]
fn a_tensor_type_of_the_future_is_taken_on_trust() {
    let builder = model().tensor("new", &[256], 77, 40).tensor("behind", &[8], 0, 32);
    assert!(read(&builder.build()).is_ok());
    assert!(error(&model().tensor("odd", &[8], 4_000, 32).build()).contains("impossible type 4000"));
}

#[test]
fn a_removed_tensor_type_says_what_to_do() {
    assert!(error(&model().tensor("old", &[64], 31, 36).build()).contains("Q4_0_4_4 was removed"));
}

#[test]
fn tensors_that_cannot_be_are_refused() {
    let said = |dimensions: &[u64], kind| error(&model().tensor("odd", dimensions, kind, 32).build());
    assert!(said(&[1, 1, 1, 1, 1], 0).contains("5 dimensions"));
    assert!(said(&[u64::MAX, 2], 0).contains("more numbers than can be counted"));
    assert!(said(&[i64::MAX as u64], 0).contains("more bytes than can be counted"));
    assert!(said(&[33], 2).contains("rows of 33 (type Q4_0 needs a multiple of 32)"));
    let long = "n".repeat(128);
    assert!(error(&model().tensor(&long, &[8], 0, 32).build()).contains("name of 128 bytes"));
    assert!(error(&model().tensor("", &[8], 0, 32).build()).contains("name of 0 bytes"));
}

#[test]
fn tensors_lie_one_behind_the_other() {
    let said = error(&model().tensor("x", &[8], 0, 32).at_offset(64).build());
    assert!(said.contains("tensor `x` at offset 64 instead of 416"), "{said}");
}

#[test]
fn the_alignment_of_the_file_is_followed() {
    let bytes = model().alignment(4096).build();
    assert_eq!(read(&bytes).unwrap().data_end, bytes.len() as u64);
    assert!(bytes.len() > 8192);
    for bad in [0, 3, 1 << 30] {
        assert!(
            error(&model().alignment(32).key("general.alignment", GgufValue::U32(bad)).build())
                .contains("alignment")
        );
    }
}

#[test]
fn files_of_another_kind_are_refused() {
    let part = model().key("split.count", GgufValue::U16(3));
    assert!(error(&part.build()).contains("one of 3 parts"));
    assert!(read(&model().key("split.count", GgufValue::U16(1)).build()).is_ok());
    assert!(error(&model().key("general.type", "adapter".into()).build()).contains("LoRA adapter"));
    let vocabulary = GgufBuilder::empty().key("general.architecture", "llama".into());
    assert!(error(&vocabulary.build()).contains("no tensors"));
}

#[test]
fn keys_without_which_nothing_goes_are_demanded() {
    assert!(
        error(&model().without("general.architecture").build()).contains("`general.architecture` is missing")
    );
    let said = error(&model().key("llama.context_length", "many".into()).build());
    assert_eq!(
        said,
        "the key `llama.context_length` holds a text instead of a number that is not negative: the conversion to GGUF went wrong"
    );
    let said = error(&model().key("llama.block_count", GgufValue::I32(-1)).build());
    assert!(said.contains("holds a negative number"), "{said}");
    assert!(
        error(&model().key("general.architecture", "a\u{1b}[2J".into()).build()).contains("short plain word")
    );
}

#[test]
fn a_key_may_not_come_twice() {
    let twice = model().repeated_key("llama.context_length", GgufValue::U32(4));
    assert!(error(&twice.build()).contains("`llama.context_length` again"));
}

#[test]
fn a_name_cannot_control_a_terminal() {
    let header = read(&model().key("general.name", "evil\u{1b}]0;title\u{7}".into()).build()).unwrap();
    assert_eq!(header.name.as_deref(), Some("evil\u{fffd}]0;title\u{fffd}"));
}

#[test]
fn counts_beyond_reason_are_refused_before_they_are_followed() {
    let mut bytes = tiny_gguf("tiny");
    bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(error(&bytes).contains("a tensor list of 18446744073709551615"));
    bytes[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(error(&bytes).contains("metadata of 18446744073709551615"));
}

/// A file that never ends: `head`, then one byte for ever. It counts what is taken from it.
struct Endless<'a> {
    head: &'a [u8],
    taken: u64,
}

impl Read for Endless<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = if self.head.is_empty() {
            out.fill(0);
            out.len()
        } else {
            self.head.read(out)?
        };
        self.taken += n as u64;
        Ok(n)
    }
}

#[test]
fn a_text_without_end_is_neither_kept_nor_followed() {
    let mut head = GgufBuilder::empty().build();
    head[16..24].copy_from_slice(&1_u64.to_le_bytes());
    for (kind, count) in [(8_u32, 1_u64 << 60), (9, 1 << 60)] {
        let mut head = head.clone();
        head.extend(12_u64.to_le_bytes());
        head.extend(b"general.name");
        head.extend(kind.to_le_bytes());
        if kind == 9 {
            head.extend(8_u32.to_le_bytes()); // texts
        }
        head.extend(count.to_le_bytes());
        let mut file = Endless { head: &head, taken: 0 };
        let error = GgufHeader::read(&mut file, u64::MAX).unwrap_err();
        assert!(matches!(error, GgufError::TooLarge { .. }), "{error}");
        assert!(file.taken < 1 << 20, "{} bytes were read", file.taken);
    }
}

#[test]
fn a_device_that_fails_is_not_called_a_damaged_file() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("medium error"))
        }
    }
    let error = GgufHeader::read(&mut Broken, 100).unwrap_err();
    assert_eq!(error.to_string(), "cannot be read: medium error");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_change_of_bytes_makes_the_reader_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = tiny_gguf("tiny");
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        match read(&bytes) {
            Ok(header) => prop_assert!(header.data_end <= bytes.len() as u64),
            Err(error) => prop_assert!(!error.to_string().is_empty() && error.to_string().len() < 600),
        }
    }

    #[test]
    fn no_eight_bytes_make_the_reader_panic(at in any::<prop::sample::Index>(), value in prop_oneof![
        Just(u64::MAX), Just(i64::MAX as u64), Just(1 << 63), Just(1 << 32), any::<u64>(), 0_u64..1000
    ]) {
        let mut bytes = tiny_gguf("tiny");
        let at = at.index(bytes.len() - 8);
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        if let Ok(header) = read(&bytes) {
            prop_assert!(header.data_end <= bytes.len() as u64);
        }
    }

    #[test]
    fn noise_behind_the_magic_is_an_error(noise in prop::collection::vec(any::<u8>(), 0..300), version in 2_u32..4) {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend(noise);
        prop_assert!(read(&bytes).is_err());
    }
}
