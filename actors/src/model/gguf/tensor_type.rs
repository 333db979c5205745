//! The number formats of tensors: how many bytes they take and what they are called.
//!
//! Owns the tables of ggml's tensor types and llama.cpp's file types. Refuses to read files.

/// How a tensor's numbers are stored: `elements` at a time in blocks of `bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TensorType {
    pub(super) name: &'static str,
    pub(super) elements: u64,
    pub(super) bytes: u64,
}

/// What is known about a type number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Its size can be computed.
    Yes(TensorType),
    /// llama.cpp once had it and refuses it today.
    Removed(&'static str),
    /// Newer than this table: taken on trust, because the engine may be newer than ARW.
    No,
}

/// Type numbers above this are damage, not news: ggml has assigned some forty in three years.
pub(super) const TYPE_NUMBER_MAX: u32 = 255;

/// Looks a ggml tensor type up by its number.
pub(super) fn tensor_type(number: u32) -> Known {
    let (name, elements, bytes) = match number {
        0 => ("F32", 1, 4),
        1 => ("F16", 1, 2),
        2 => ("Q4_0", 32, 18),
        3 => ("Q4_1", 32, 20),
        4 => return Known::Removed("Q4_2"),
        5 => return Known::Removed("Q4_3"),
        6 => ("Q5_0", 32, 22),
        7 => ("Q5_1", 32, 24),
        8 => ("Q8_0", 32, 34),
        9 => ("Q8_1", 32, 36),
        10 => ("Q2_K", 256, 84),
        11 => ("Q3_K", 256, 110),
        12 => ("Q4_K", 256, 144),
        13 => ("Q5_K", 256, 176),
        14 => ("Q6_K", 256, 210),
        15 => ("Q8_K", 256, 292),
        16 => ("IQ2_XXS", 256, 66),
        17 => ("IQ2_XS", 256, 74),
        18 => ("IQ3_XXS", 256, 98),
        19 => ("IQ1_S", 256, 50),
        20 => ("IQ4_NL", 32, 18),
        21 => ("IQ3_S", 256, 110),
        22 => ("IQ2_S", 256, 82),
        23 => ("IQ4_XS", 256, 136),
        24 => ("I8", 1, 1),
        25 => ("I16", 1, 2),
        26 => ("I32", 1, 4),
        27 => ("I64", 1, 8),
        28 => ("F64", 1, 8),
        29 => ("IQ1_M", 256, 56),
        30 => ("BF16", 1, 2),
        31 => return Known::Removed("Q4_0_4_4"),
        32 => return Known::Removed("Q4_0_4_8"),
        33 => return Known::Removed("Q4_0_8_8"),
        34 => ("TQ1_0", 256, 54),
        35 => ("TQ2_0", 256, 66),
        36 => return Known::Removed("IQ4_NL_4_4"),
        37 => return Known::Removed("IQ4_NL_4_8"),
        38 => return Known::Removed("IQ4_NL_8_8"),
        39 => ("MXFP4", 32, 17),
        40 => ("NVFP4", 64, 36),
        41 => ("Q1_0", 128, 18),
        _ => return Known::No,
    };
    Known::Yes(TensorType { name, elements, bytes })
}

/// The name of a whole file's quantisation by llama.cpp's file type number (`general.file_type`).
pub(super) fn file_type_name(number: u64) -> Option<&'static str> {
    // Bit 1024 says "guessed by the loader"; it does not change the name.
    Some(match number & !1024 {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        4 => "Q4_1_SOME_F16",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4_MOE",
        39 => "NVFP4",
        40 => "Q1_0",
        _ => return None,
    })
}
