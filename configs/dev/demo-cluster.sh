#!/usr/bin/env bash
# Three nodes as processes on this machine, made one cluster: `first` makes it, `worker` serves a real model, `desk` answers clients.
# Shows the cluster and streams an answer of the worker's model through the desk. With `--keep` the nodes stay up until Ctrl-C.
set -euo pipefail

ANSWER_WAIT_S=30
SEEN_WAIT_S=30

keep=no
case ${1:-} in
--keep) keep=yes ;;
'') ;;
*)
    echo "usage: ./dev demo-cluster [--keep]" >&2
    exit 2
    ;;
esac

arw=${CARGO_TARGET_DIR:-target}/release/arw
places=$(mktemp -d "${TMPDIR:-/tmp}/arw-demo.XXXXXX")
nodes=()

say() { printf '\ndemo: %s\n' "$*" >&2; }
fail() {
    say "$1"
    tail -n 5 "$places"/*.log >&2 || true
    exit 1
}

end() {
    local pid
    for pid in "${nodes[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${nodes[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf -- "$places"
}
trap end EXIT
trap 'exit 130' INT TERM

# node NAME COMMAND…: a node in the background, on ports of its own choice; waits until it answers.
node() {
    local name=$1
    shift
    "$arw" "$@" --state-dir "$places/$name" --name "$name" --http 127.0.0.1:0 --cluster-listen 127.0.0.1:0 \
        >"$places/$name.log" 2>&1 </dev/null &
    nodes+=($!)
    local pid=$!
    for ((i = 0; i < ANSWER_WAIT_S * 10; i++)); do
        on "$name" status >/dev/null 2>&1 && return
        kill -0 "$pid" 2>/dev/null || fail "node $name ended"
        sleep 0.1
    done
    fail "node $name did not answer within $ANSWER_WAIT_S s"
}

on() {
    local name=$1
    shift
    "$arw" --state-dir "$places/$name" "$@"
}

say "building arw (the first time takes some minutes)"
cargo build --release -p arw-cli

say "three nodes: first, worker, desk"
node first up
token=$(on first cluster token create --uses 2)
export ARW_JOIN_TOKEN=$token
node worker join
node desk join
unset ARW_JOIN_TOKEN

say "the worker gets a model"
on worker model import "$ARW_TEST_MODEL" --name smollm2 >&2
on worker runtime add smollm2 --adapter llama_cpp --model smollm2 --auto-start -- \
    "$ARW_ENGINE_PYTHON" "$ARW_ENGINE_SCRIPT" --model '{model}' --socket '{socket}' --ctx-size 2048 >&2
on worker runtime start smollm2 --wait 5m >&2

say "what the desk sees: arw cluster status"
seen=no
for ((i = 0; i < SEEN_WAIT_S * 10; i++)); do
    if on desk cluster nodes -o json | grep -q '"state": *"ready"'; then
        seen=yes
        break
    fi
    sleep 0.1
done
[ $seen = yes ] || fail "the desk did not see the worker's runtime ready within $SEEN_WAIT_S s"
on desk cluster status

say "the desk has no model; it streams the worker's: arw chat --once"
on desk chat smollm2 --once "Write one short sentence about rivers."

if [ $keep = yes ]; then
    say "the nodes stay up until Ctrl-C. In another terminal, for example:
  $arw --state-dir $places/desk cluster status --watch
  $arw --state-dir $places/desk actors tree --node worker
  $arw --state-dir $places/first cluster remove desk"
    wait
fi
