#!/usr/bin/env bash
# Every test, or those that the arguments name. Called by `just test` with the parts of provide.sh at hand.
set -euo pipefail

# Tests that lack something write their name and why into this file: none is skipped silently.
ARW_SKIP_LOG=$(mktemp "${TMPDIR:-/tmp}/arw-skipped.XXXXXX")
export ARW_SKIP_LOG
trap 'rm -f "$ARW_SKIP_LOG"' EXIT

if [ $# -gt 0 ]; then
    cargo nextest run "$@"
else
    # The end-to-end tests start `arw`. Built together with the tests it shares their dependencies; built on its own it
    # would compile them again with other features.
    cargo build --workspace --bins --tests
    cargo nextest run --workspace
    # nextest does not run the examples in the documentation.
    cargo test --workspace --doc --quiet
fi

if [ -s "$ARW_SKIP_LOG" ]; then
    sort -u "$ARW_SKIP_LOG" >&2
    # What a machine does not allow (network namespaces, without root) is no part that could be provided.
    if [ "${CI:-}" = true ] && grep -qv ': this machine does not allow it: ' "$ARW_SKIP_LOG"; then
        echo "tests were skipped, which CI does not take for passed" >&2
        exit 1
    fi
fi
