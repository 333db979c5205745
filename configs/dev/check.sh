#!/usr/bin/env bash
# What CI runs, phase by phase, quick ones first. Called by `just check`.
set -euo pipefail

PHASES=(fmt-check spelling dependencies lint doc test fuzz)

times=()
for phase in "${PHASES[@]}"; do
    printf '\n==> %s\n' "$phase"
    began=$SECONDS
    if ! just "$phase"; then
        printf '\n==> %s failed after %d s; run it alone: ./dev %s\n' "$phase" $((SECONDS - began)) "$phase" >&2
        exit 1
    fi
    times+=("$phase $((SECONDS - began)) s")
done

printf '\n==> all phases passed in %d s:' "$SECONDS"
printf ' %s;' "${times[@]}"
printf '\n'
