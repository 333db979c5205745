#!/usr/bin/env bash
# with.sh PART… -- COMMAND… — runs COMMAND where the parts of configs/dev/provide.sh are at hand, their places in ARW_*.
set -euo pipefail

# shellcheck source=configs/dev/provide.sh
. "${BASH_SOURCE[0]%/*}/provide.sh"

parts=(tools)
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    parts+=("$1")
    shift
done
[ $# -gt 1 ] || fail "usage: with.sh PART… -- COMMAND…"
shift
provide "${parts[@]}"
exec "$@"
