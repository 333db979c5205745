//! The list of tensors: proves that all of them lie within the file.
//!
//! Owns the checks of names, shapes, types and offsets, and what is summed up over them. Keeps no list: a
//! header with many tensors costs time, not memory.

use std::collections::BTreeMap;
use std::io::Read;

use super::GgufError;
use super::input::Input;
use super::metadata::shown;
use super::tensor_type::{Known, TYPE_NUMBER_MAX, tensor_type};

/// The largest models (hundreds of experts in every layer) have some thousands.
const TENSORS_MAX: u64 = 65_536;
/// ggml is built with names of up to 63 bytes, some builds with 127.
const NAME_BYTES_MAX: u64 = 127;
/// ggml's tensors have up to four dimensions.
const DIMENSIONS_MAX: u32 = 4;
/// The least that one entry takes: name length, one name byte, dimension count, type, offset.
const ENTRY_BYTES_MIN: u64 = 8 + 1 + 4 + 4 + 8;

/// What the list of tensors adds up to.
#[derive(Debug)]
pub(super) struct Tensors {
    elements: u64,
    bytes_by_type: BTreeMap<u32, u64>,
    data_end: u64,
}

/// One entry of the list.
struct Tensor {
    name: String,
    kind: u32,
    elements: u64,
    /// `None` for a type that we cannot know.
    bytes: Option<u64>,
    offset: u64,
}

impl Tensors {
    /// Reads `count` entries and checks them against the file's length.
    pub(super) fn read<R: Read>(input: &mut Input<R>, count: u64, alignment: u64) -> Result<Self, GgufError> {
        if count > TENSORS_MAX {
            return Err(GgufError::TooLarge {
                what: "a tensor list".to_owned(),
                value: count,
                limit: TENSORS_MAX,
            });
        }
        input.expect(count, ENTRY_BYTES_MIN, "the list of tensors")?;
        let mut elements = 0_u64;
        let mut bytes_by_type = BTreeMap::new();
        let mut last: Option<(String, u64)> = None;
        // Where the next tensor has to begin; `None` behind one of unknown size.
        let mut expected = Some(0_u64);
        for _ in 0..count {
            let at = input.at();
            let tensor = read_entry(input)?;
            check_offset(&tensor, expected, alignment, at)?;
            let end = tensor.offset.checked_add(tensor.bytes.unwrap_or(0));
            expected = match (end, tensor.bytes) {
                (Some(end), Some(_)) => end.checked_next_multiple_of(alignment),
                (Some(_) | None, _) => None,
            };
            elements = elements.saturating_add(tensor.elements);
            let of_type: &mut u64 = bytes_by_type.entry(tensor.kind).or_default();
            *of_type = of_type.saturating_add(tensor.bytes.unwrap_or(tensor.elements));
            let end = end.unwrap_or(u64::MAX);
            if last.as_ref().is_none_or(|(_, before)| end >= *before) {
                last = Some((tensor.name, end));
            }
        }
        let data_start = input.at().next_multiple_of(alignment);
        let (name, end) = last.unwrap_or_default();
        let data_end = data_start.saturating_add(end);
        if data_end > input.len() {
            return Err(GgufError::Truncated {
                what: format!("the data of tensor `{name}`"),
                needed: data_end,
                len: input.len(),
            });
        }
        Ok(Self { elements, bytes_by_type, data_end })
    }

    /// How many numbers there are in all tensors.
    pub(super) fn elements(&self) -> u64 {
        self.elements
    }

    /// Where the last tensor ends, from the start of the file.
    pub(super) fn data_end(&self) -> u64 {
        self.data_end
    }

    /// The type that most bytes have.
    pub(super) fn dominant_type(&self) -> String {
        let largest = self.bytes_by_type.iter().max_by_key(|(_, bytes)| **bytes);
        match largest.map(|(kind, _)| (*kind, tensor_type(*kind))) {
            Some((_, Known::Yes(kind))) => kind.name.to_owned(),
            Some((number, Known::Removed(_) | Known::No)) => format!("type {number}"),
            None => "unknown".to_owned(),
        }
    }
}

fn read_entry<R: Read>(input: &mut Input<R>) -> Result<Tensor, GgufError> {
    const WHAT: &str = "the list of tensors";
    let at = input.at();
    let damaged = |what: String| GgufError::Malformed { at, what };
    let length = input.u64(WHAT)?;
    if length == 0 || length > NAME_BYTES_MAX {
        return Err(damaged(format!("a tensor name of {length} bytes (1 to {NAME_BYTES_MAX} are allowed)")));
    }
    let name = input.bytes(usize::try_from(length).unwrap_or(usize::MAX), WHAT)?;
    let name = String::from_utf8(name)
        .map(|name| shown(&name))
        .map_err(|_| damaged("a tensor name that is not UTF-8".to_owned()))?;
    let dimensions = input.u32(WHAT)?;
    if dimensions > DIMENSIONS_MAX {
        return Err(damaged(format!(
            "tensor `{name}` with {dimensions} dimensions (at most {DIMENSIONS_MAX})"
        )));
    }
    let mut elements = 1_u64;
    let mut row = 1_u64;
    for index in 0..dimensions {
        let extent = input.u64(WHAT)?;
        if index == 0 {
            row = extent;
        }
        // Signed in ggml: a size beyond i64 would wrap there.
        elements = elements
            .checked_mul(extent)
            .filter(|n| i64::try_from(*n).is_ok())
            .ok_or_else(|| damaged(format!("tensor `{name}` with more numbers than can be counted")))?;
    }
    let kind = input.u32(WHAT)?;
    let offset = input.u64(WHAT)?;
    let bytes = match tensor_type(kind) {
        Known::Yes(known) if !row.is_multiple_of(known.elements) => {
            return Err(damaged(format!(
                "tensor `{name}` with rows of {row} (type {} needs a multiple of {})",
                known.name, known.elements
            )));
        }
        Known::Yes(known) => Some(
            (elements / known.elements)
                .checked_mul(known.bytes)
                .ok_or_else(|| damaged(format!("tensor `{name}` with more bytes than can be counted")))?,
        ),
        Known::Removed(name) => return Err(GgufError::RemovedType { name }),
        Known::No if kind > TYPE_NUMBER_MAX => {
            return Err(damaged(format!("tensor `{name}` of impossible type {kind}")));
        }
        Known::No => None,
    };
    Ok(Tensor { name, kind, elements, bytes, offset })
}

/// Tensors lie one behind the other in the order of the list: llama.cpp refuses anything else.
fn check_offset(tensor: &Tensor, expected: Option<u64>, alignment: u64, at: u64) -> Result<(), GgufError> {
    let Tensor { name, offset, .. } = tensor;
    match expected {
        Some(expected) if *offset != expected => Err(GgufError::Malformed {
            at,
            what: format!("tensor `{name}` at offset {offset} instead of {expected}"),
        }),
        None if !offset.is_multiple_of(alignment) => Err(GgufError::Malformed {
            at,
            what: format!("tensor `{name}` at offset {offset}, not a multiple of {alignment}"),
        }),
        Some(_) | None => Ok(()),
    }
}
