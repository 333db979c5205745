//! Illegal instructions: which CPU feature a build wants and this machine lacks.
//!
//! Owns the two sets of names, llama.cpp's and the kernel's. Refuses to read `/proc/cpuinfo`.

use std::collections::BTreeSet;

use super::{ExitFacts, signal_name, signals};
use crate::runtime::launcher::{Cause, Diagnosis};

pub(super) fn illegal_instruction(facts: &ExitFacts<'_>) -> Diagnosis {
    let name = signal_name(signals::SIGILL);
    let build = facts.log_lines.iter().find(|line| line.contains("system_info"));
    let missing = build.map(|line| missing_features(line, facts.cpu_flags)).unwrap_or_default();
    let detail = if missing.is_empty() {
        format!("killed by {name}: it uses an instruction that this CPU does not have")
    } else {
        format!("killed by {name}: it was built for {}, which this CPU does not have", missing.join(", "))
    };
    let hint = if build.is_some() {
        "use a build for this CPU (a portable or dynamic-backend build works everywhere)"
    } else {
        "use a build for this CPU; started with `-lv 5` a llama-server prints the features it was built for"
    };
    Diagnosis { cause: Cause::CpuFeatureMissing, detail, hint: Some(hint.into()), permanent: true }
}

/// The features that a llama.cpp `system_info` line says were built in and that `cpu_flags` lacks, in the
/// line's order.
///
/// ```
/// use arw_actors::runtime::diagnosis::missing_features;
/// let flags = ["avx", "avx2"].map(String::from).into();
/// let line = "system_info: n_threads = 2 / 2 | CPU : AVX = 1 | AVX2 = 1 | AVX512 = 1 | AMX_INT8 = 0 | LLAMAFILE = 1 |";
/// assert_eq!(missing_features(line, &flags), ["AVX512"]);
/// ```
#[must_use]
pub fn missing_features(system_info: &str, cpu_flags: &BTreeSet<String>) -> Vec<String> {
    if cpu_flags.is_empty() {
        return Vec::new();
    }
    system_info
        .split(['|', ':'])
        .filter_map(|part| part.split_once('='))
        .filter(|(_, value)| value.trim() == "1")
        .map(|(name, _)| name.trim())
        .filter(|name| kernel_names(name).is_some_and(|names| !names.iter().any(|n| cpu_flags.contains(*n))))
        .map(str::to_owned)
        .collect()
}

/// What `/proc/cpuinfo` calls a feature of llama.cpp; any one of the names will do. `None`: not a CPU
/// feature.
fn kernel_names(feature: &str) -> Option<&'static [&'static str]> {
    Some(match feature {
        "SSE3" => &["pni"],
        "SSSE3" => &["ssse3"],
        "AVX" => &["avx"],
        "AVX_VNNI" => &["avx_vnni"],
        "AVX2" => &["avx2"],
        "F16C" => &["f16c"],
        "FMA" => &["fma"],
        "BMI2" => &["bmi2"],
        "AVX512" => &["avx512f"],
        "AVX512_VBMI" => &["avx512vbmi"],
        "AVX512_VNNI" => &["avx512_vnni"],
        "AVX512_BF16" => &["avx512_bf16"],
        "AMX_INT8" => &["amx_int8"],
        "NEON" => &["asimd", "neon"],
        "ARM_FMA" => &["asimd", "vfpv4"],
        "FP16_VA" => &["asimdhp"],
        "DOTPROD" => &["asimddp"],
        "MATMUL_INT8" => &["i8mm"],
        "SVE" => &["sve"],
        "SME" => &["sme"],
        _ => return None,
    })
}
