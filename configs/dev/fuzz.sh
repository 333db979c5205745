#!/usr/bin/env bash
# Feeds everything that reads bytes of strangers with made-up ones, each target for SECONDS (default 5). Without arguments every target.
#
#   ./dev fuzz [--seconds N] [TARGET…]
#
# The corpus lies in transport/fuzz/corpus; what is found on the way stays in a temporary folder, what breaks a target is kept and named.
# It needs no nightly compiler: coverage is asked for by plain compiler flags, and libFuzzer comes as a crate.
set -euo pipefail

seconds=5
targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --seconds)
        seconds=${2:?--seconds needs a number}
        shift 2
        ;;
    *)
        targets+=("$1")
        shift
        ;;
    esac
done
folder=transport/fuzz
if [ ${#targets[@]} -eq 0 ]; then
    for source in "$folder"/fuzz_targets/*.rs; do
        source=${source##*/}
        targets+=("${source%.rs}")
    done
fi

triple=$(rustc -vV | sed -n 's/^host: //p')
built=${CARGO_TARGET_DIR:-target}/fuzz
# A target triple keeps the flags away from build scripts, which run here.
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg=fuzzing" \
    cargo build --release --locked --manifest-path "$folder/Cargo.toml" --target "$triple" --target-dir "$built"

found=$(mktemp -d "${TMPDIR:-/tmp}/arw-fuzz.XXXXXX")
for target in "${targets[@]}"; do
    mkdir -p "$found/$target"
    printf 'fuzz: %s for %s s\n' "$target" "$seconds"
    corpus=$folder/corpus/$target
    if ! "$built/$triple/release/$target" "$found/$target" "$corpus" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=2048 -artifact_prefix="$found/broken-$target-" >"$found/$target.log" 2>&1; then
        tail -n 40 "$found/$target.log" >&2
        echo "fuzz: $target broke; the input is $(ls "$found"/broken-"$target"-* 2>/dev/null || echo unknown)" >&2
        exit 1
    fi
    tail -n 1 "$found/$target.log"
done
rm -rf -- "$found"
