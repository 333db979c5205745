#!/usr/bin/env bash
# Every benchmark, or those that the first arguments name: `bench.sh mailbox process --rounds 9`. Other arguments go to each of them
# (`--help` lists them). The figures also go into target/bench/NAME.json. Called by `just bench` with the parts of provide.sh at hand.
set -euo pipefail

# Where each lies, in the order of a full run. They run one after the other: two at once would measure each other.
declare -A package=([mailbox]=arw-actors [process]=arw-tests [gateway]=arw-tests [remote]=arw-transport [blob]=arw-transport)
names=()
while [ $# -gt 0 ] && [ -n "${package[$1]:-}" ]; do
    names+=("$1")
    shift
done
if [ ${#names[@]} -eq 0 ]; then
    if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
        printf 'dev: no benchmark is called %s; there are: mailbox process gateway remote blob\n' "$1" >&2
        exit 2
    fi
    names=(mailbox process gateway remote blob)
fi

target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
mkdir -p "$target/bench"

# Names the contender ractor_cluster to the benchmark `remote`, which goes on without one. Its package is apart from the workspace: see its Cargo.toml.
build_ractor_cluster() {
    local folder=transport/benches/remote/ractor_cluster
    if cargo build --release --locked --manifest-path "$folder/Cargo.toml" --target-dir "$target/bench-peers"; then
        export ARW_RACTOR_CLUSTER=$target/bench-peers/release/arw-bench-ractor-cluster
    else
        printf 'dev: ractor_cluster could not be built; the benchmark goes on without it\n' >&2
    fi
}

for name in "${names[@]}"; do
    [ "$name" != remote ] || build_ractor_cluster
    # The gateway's benchmark starts `arw` and the fake engine, which lie beside it.
    [ "$name" != gateway ] || cargo build --release -p arw-cli
    cargo bench -p "${package[$name]}" --bench "$name" -- --json "$target/bench/$name.json" "$@"
done
