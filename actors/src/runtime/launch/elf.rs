//! Whether a file is a program that this kernel would execute.
//!
//! Owns the checks that the kernel makes of an ELF header. They are made here first because the C library
//! hands what the kernel refuses to a shell, which then fails in words of its own. Refuses to know what is in
//! the program.

/// As many bytes as [`check`] wants to see of a file.
pub(super) const HEADER_BYTES: usize = 64;

pub(super) const MAGIC: &[u8] = b"\x7fELF";

const PROGRAM_HEADER_BYTES: u64 = 56;

/// Why the kernel would refuse a file that begins with `header` and has `length` bytes.
pub(super) fn check(header: &[u8], length: u64) -> Result<(), &'static str> {
    const DAMAGED: &str = "it is damaged or cut off";
    let header: &[u8; HEADER_BYTES] =
        header.get(..HEADER_BYTES).and_then(|h| h.try_into().ok()).ok_or(DAMAGED)?;
    let two = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let [_, _, _, _, word, order, ..] = header;
    if (*word, *order) != (2, 1) || own_machine().is_some_and(|own| own != two(18)) {
        return Err("it was built for another processor");
    }
    // 2: executable, 3: position-independent. A library is of kind 3 as well, but then has no use as a
    // program.
    if !matches!(two(16), 2 | 3) {
        return Err("it is a part of a program, not a program");
    }
    let mut offset = [0_u8; 8];
    offset.copy_from_slice(&header[32..40]);
    let table_bytes = u64::from(two(56)) * PROGRAM_HEADER_BYTES;
    let table_end = u64::from_le_bytes(offset).checked_add(table_bytes).ok_or(DAMAGED)?;
    let whole = u64::from(two(54)) == PROGRAM_HEADER_BYTES && table_bytes > 0 && table_end <= length;
    if whole { Ok(()) } else { Err(DAMAGED) }
}

/// The number of this machine's processor in ELF headers.
fn own_machine() -> Option<u16> {
    Some(match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        "riscv64" => 243,
        _ => return None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The smallest file that passes.
    pub(in super::super) fn smallest() -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(HEADER_BYTES, 0);
        bytes[16] = 3;
        bytes[18..20].copy_from_slice(&own_machine().unwrap_or_default().to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes.resize(HEADER_BYTES + 56, 0);
        bytes
    }

    #[test]
    fn this_program_passes() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(check(&bytes[..HEADER_BYTES], bytes.len() as u64), Ok(()));
        assert_eq!(check(&smallest(), 120), Ok(()));
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused() {
        let changed = |at: usize, value: u8| {
            let mut bytes = smallest();
            bytes[at] = value;
            check(&bytes, 120)
        };
        let (foreign, damaged) = (Err("it was built for another processor"), Err("it is damaged or cut off"));
        assert_eq!([changed(4, 1), changed(5, 2), changed(18, 0xee)], [foreign; 3]);
        assert_eq!(changed(16, 1), Err("it is a part of a program, not a program"));
        assert_eq!([changed(54, 55), changed(56, 0), changed(33, 1), changed(39, 0xff)], [damaged; 4]);
        assert_eq!([check(&smallest(), 119), check(b"\x7fELF", 4)], [damaged; 2]);
    }
}
