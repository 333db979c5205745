#!/usr/bin/env bash
# Builds `arw` and runs a node in the foreground; beside it gives the node the model and the engine that provide.sh fetched.
# What is already there from an earlier run stays as it is. Arguments go to `arw up`.
set -euo pipefail

# How long the node may take to answer, and the engine to be ready after it.
ANSWER_WAIT_S=30
READY_WAIT=5m

# A --state-dir among the arguments holds for what sets the node up, too.
export ARW_STATE_DIR=${ARW_STATE_DIR:-state}
previous=
for argument in "$@"; do
    case $previous in --state-dir) ARW_STATE_DIR=$argument ;; esac
    case $argument in --state-dir=*) ARW_STATE_DIR=${argument#--state-dir=} ;; esac
    previous=$argument
done
arw=${CARGO_TARGET_DIR:-target}/release/arw

say() { printf 'dev: %s\n' "$*" >&2; }

# This shell becomes the node, so that signals and exit code are the node's own; what sets it up runs beside it.
node=$$

set_up() {
    for ((i = 0; i < ANSWER_WAIT_S * 10; i++)); do
        "$arw" status >/dev/null 2>&1 && break
        # It ended, and has said why.
        kill -0 "$node" 2>/dev/null || return 0
        sleep 0.1
    done
    "$arw" status >/dev/null || give_up "the node did not answer within $ANSWER_WAIT_S s"

    if ! "$arw" model show smollm2 >/dev/null 2>&1; then
        "$arw" model import "$ARW_TEST_MODEL" --name smollm2 >&2 || give_up "the model could not be imported"
    fi
    # A newer engine lies elsewhere: a runtime that was added with another one is added anew.
    local engine="$ARW_ENGINE_PYTHON $ARW_ENGINE_SCRIPT" added=$ARW_STATE_DIR/dev-engine
    if [ "$engine" != "$(cat "$added" 2>/dev/null)" ] && "$arw" runtime show smollm2 >/dev/null 2>&1; then
        "$arw" runtime remove smollm2 >&2 || give_up "the runtime with the former engine could not be removed"
    fi
    if ! "$arw" runtime show smollm2 >/dev/null 2>&1; then
        "$arw" runtime add smollm2 --adapter llama_cpp --model smollm2 --auto-start -- \
            "$ARW_ENGINE_PYTHON" "$ARW_ENGINE_SCRIPT" --model '{model}' --socket '{socket}' --ctx-size 2048 >&2 ||
            give_up "the runtime could not be added"
        printf '%s\n' "$engine" >"$added"
    fi
    "$arw" runtime start smollm2 --wait "$READY_WAIT" >&2 || give_up "the engine did not get ready"
    local http
    http=$(sed -n 's/.*"http":"\([^"]*\)".*/\1/p' "$ARW_STATE_DIR/node.json")
    cat >&2 <<READY

SmolLM2 is ready at $http. In another terminal:

  $arw --state-dir $ARW_STATE_DIR chat

  curl $http/v1/chat/completions -H 'Content-Type: application/json' \\
    -H "Authorization: Bearer \$(cat $ARW_STATE_DIR/admin.token)" \\
    -d '{"model": "smollm2", "messages": [{"role": "user", "content": "Say hello."}]}'

Ctrl-C stops the node.
READY
}

# The reason was printed by the command that failed.
give_up() {
    kill -0 "$node" 2>/dev/null || exit 0
    say "$1; stopping the node"
    kill -TERM "$node" 2>/dev/null
    exit 1
}

say "building arw (the first time takes some minutes)"
cargo build --release -p arw-cli
set_up </dev/null &
exec "$arw" up "$@"
