# Tasks of this project. Run them as `./dev TASK`, which installs what they need; `./dev` alone lists them.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments

with := "configs/dev/with.sh"

# Lists the tasks
[private]
default:
    @just --justfile "{{ justfile() }}" --list --unsorted

# Builds and runs a node that serves a real small model on real llama.cpp, until Ctrl-C; ARGS go to `arw up`
up *args:
    @{{ with }} engine model -- configs/dev/up.sh "$@"

# Runs three nodes as one cluster on this machine, one with a real model, and streams its answer through another; --keep leaves them up
demo-cluster *args:
    @{{ with }} engine model -- configs/dev/demo-cluster.sh "$@"

# Builds the program `arw` (target/release/arw)
build *args:
    cargo build --release -p arw-cli "$@"

# Runs every test; with ARGS only those that they name, for example `./dev test -p arw-kit mailbox`
test *args:
    @{{ with }} engine model clients promtool network -- configs/dev/test.sh "$@"

# What CI runs: format, spelling, dependencies, lints, documentation, every test, a little fuzzing
check:
    @{{ with }} engine model clients promtool network -- configs/dev/check.sh

# Formats the code
fmt:
    cargo fmt --all

# Checks that the code is formatted
fmt-check:
    cargo fmt --all --check

# Lints everything; a warning is an error
lint *args:
    cargo clippy --workspace --all-targets --all-features "$@" -- -D warnings

# Feeds the readers of other nodes' bytes with made-up ones; `./dev fuzz --seconds 600 frame` does so for longer
fuzz *args:
    @{{ with }} -- configs/dev/fuzz.sh "$@"

# Checks the spelling
spelling:
    @{{ with }} -- typos

# Checks licences, sources and banned crates of all dependencies
dependencies:
    @{{ with }} -- cargo deny --all-features check bans licenses sources

# Checks the dependencies for known security advisories; needs their database from the network
advisories:
    @{{ with }} -- cargo deny --all-features check advisories

# Checks the rules that are written in this repository (layers, files, numbered rules)
tidy:
    @{{ with }} -- cargo nextest run -p arw-tests --test tidy

# Builds the documentation of the code; `./dev doc --open` shows it
doc *args:
    RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings" cargo doc --workspace --no-deps "$@"

# Runs the benchmarks, peers included; with NAMES only those: `./dev bench mailbox`, `./dev bench gateway --rounds 9`, `./dev bench mailbox --help`
bench *args:
    @{{ with }} erlang -- configs/dev/bench.sh "$@"

# Prints the Python and the script that run the engine
engine:
    @{{ with }} engine -- bash -c 'echo "$ARW_ENGINE_PYTHON $ARW_ENGINE_SCRIPT"'

# Prints where the test model lies
model:
    @{{ with }} model -- bash -c 'echo "$ARW_TEST_MODEL"'

# Removes what was built
clean:
    cargo clean

# Removes what ./dev fetched: tools, engine, model
clean-cache:
    cd -- "${ARW_DEV_CACHE:?run this as ./dev clean-cache}" && rm -rf -- tools-* engine-* clients-* model-* promtool erlang lock
