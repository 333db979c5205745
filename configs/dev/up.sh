#!/usr/bin/env bash
# Builds `arw`, runs a node in the foreground and, once it answers, gives it the model and the engine that provide.sh fetched.
# What is already there from an earlier run stays as it is. Arguments go to `arw up`.
set -euo pipefail

# How long the node may take to answer, and the engine to be ready after it.
ANSWER_WAIT_S=30
READY_WAIT=5m

state=${ARW_STATE_DIR:-state}
export ARW_STATE_DIR=$state
arw=${CARGO_TARGET_DIR:-target}/release/arw

say() { printf 'dev: %s\n' "$*" >&2; }

say "building arw (the first time takes some minutes)"
cargo build --release -p arw-cli

"$arw" up "$@" &
node=$!
# Ctrl-C reaches the node too, for it is in the same group; a TERM to us alone must be passed on.
trap 'kill -TERM "$node" 2>/dev/null || true' TERM
trap : INT

give_up() {
    say "$1"
    kill -TERM "$node" 2>/dev/null || true
    wait "$node" || true
    exit 1
}

for ((i = 0; i < ANSWER_WAIT_S * 10; i++)); do
    "$arw" status >/dev/null 2>&1 && break
    kill -0 "$node" 2>/dev/null || { wait "$node" && exit 0 || exit; }
    sleep 0.1
done
"$arw" status >/dev/null || give_up "the node did not answer within $ANSWER_WAIT_S s; what it printed is above"

if ! "$arw" model show smollm2 >/dev/null 2>&1; then
    "$arw" model import "$ARW_TEST_MODEL" --name smollm2 || give_up "the model could not be imported; the reason is above"
fi
# A newer engine lies elsewhere: a runtime that was added with another one is added anew.
engine="$ARW_ENGINE_PYTHON $ARW_ENGINE_SCRIPT"
added=$state/dev-engine
if [ "$engine" != "$(cat "$added" 2>/dev/null)" ] && "$arw" runtime show smollm2 >/dev/null 2>&1; then
    "$arw" runtime remove smollm2 || give_up "the runtime with the former engine could not be removed; the reason is above"
fi
if ! "$arw" runtime show smollm2 >/dev/null 2>&1; then
    "$arw" runtime add smollm2 --adapter llama_cpp --model smollm2 --auto-start -- \
        "$ARW_ENGINE_PYTHON" "$ARW_ENGINE_SCRIPT" --model '{model}' --socket '{socket}' ||
        give_up "the runtime could not be added; the reason is above"
    printf '%s\n' "$engine" >"$added"
fi
"$arw" runtime start smollm2 --wait "$READY_WAIT" || give_up "the engine did not get ready; \`$arw runtime logs smollm2\` has what it printed"

say "ready. In another terminal: ARW_STATE_DIR=$state $arw chat"

# `wait` also returns when a signal arrives: wait until the node has really ended.
while kill -0 "$node" 2>/dev/null; do
    code=0
    wait "$node" || code=$?
done
exit "${code:-0}"
