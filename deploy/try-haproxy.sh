#!/usr/bin/env bash
# Two servers that share a key behind HAProxy, one killed under load: every client gets every answer, and all are right.
# deploy/try-haproxy.sh [LOWKEY]: the command, target/release/lowkey unless named. CLIENTS (6), COUNT (30) answers each.
set -euo pipefail
cd "$(dirname "$0")/.."
lowkey=${1:-target/release/lowkey}
command -v haproxy > /dev/null || { echo "skipped: no haproxy (apt-get install haproxy)" >&2; exit 77; }
clients=${CLIENTS:-6} count=${COUNT:-30}
work=$(mktemp -d)
pids=()
# How long each wait may last, in seconds.
longest=60
trap 'kill "${pids[@]}" 2> /dev/null || true; wait 2> /dev/null || true; rm -rf "$work"' EXIT

# until_so WHAT COMMAND...: waits until the command succeeds; after $longest seconds, or once the process $pid is gone, it gives up.
until_so() {
    local what=$1 end=$((SECONDS + longest))
    shift
    until "$@"; do
        if [ "$SECONDS" -ge "$end" ] || ! kill -0 "$pid" 2> /dev/null; then
            echo "no $what" >&2
            cat "$work"/*.err >&2
            exit 1
        fi
        sleep 0.05
    done
}

# server NAME: on one state folder; its address lies in $work/NAME.address afterwards.
server() {
    "$lowkey" serve --model digits --listen 127.0.0.1:0 --sessions 32 --cache "$work/cache" --state "$work/state" \
        > "$work/$1.out" 2> "$work/$1.err" &
    pid=$!
    pids+=("$pid")
    until_so "server $1" grep -qs digest "$work/$1.out"
    sed -n 's/^listening on //p' "$work/$1.out" > "$work/$1.address"
}
server a
doomed=$pid
server b
if [ "$(grep -o 'digest.*' "$work/a.out")" != "$(grep -o 'digest.*' "$work/b.out")" ]; then
    echo "servers of one folder publish different models" >&2
    exit 1
fi

front=127.0.0.1:$((20000 + RANDOM % 10000))
LOWKEY_FRONT=$front LOWKEY_A=$(< "$work/a.address") LOWKEY_B=$(< "$work/b.address") \
    haproxy -db -f deploy/haproxy.cfg > "$work/haproxy.out" 2> "$work/haproxy.err" &
pid=$!
pids+=("$pid")
listens() {
    (: <> "/dev/tcp/${front/://}") 2> /dev/null
}
until_so haproxy listens

# Eight rows of eight values, 0 to 15, for each image; and the answers that one client alone gets from the server that stays.
seq $((64 * count)) | awk '{ printf "%s%s", ($1 * $1 + 7 * $1) % 16, $1 % 64 ? "," : "\n" }' > "$work/images.csv"
ask() {
    "$lowkey" infer --server "$1" --input "$work/images.csv" --count "$count" --no-store --json "${@:2}"
}
answers() {
    sed 's/.*"logits":\(\[[^]]*\]\).*/\1/' "$1"
}
ask "$(< "$work/b.address")" > "$work/right"
running=()
for client in $(seq "$clients"); do
    ask "$front" --retry 10 > "$work/client.$client" 2> "$work/client.$client.err" &
    running+=($!)
done
# Under load: when the first answers are there.
under_load() {
    [ "$(cat "$work"/client.? | wc -l)" -ge $((clients * 2)) ]
}
until_so load under_load
kill -KILL "$doomed"
failed=0
for pid in "${running[@]}"; do wait "$pid" || failed=$((failed + 1)); done
wrong=0
for client in $(seq "$clients"); do
    cmp -s <(answers "$work/client.$client") <(answers "$work/right") || wrong=$((wrong + 1))
done
again=$(cat "$work"/client.*.err | grep -c 'trying again' || true)
echo "$clients clients, $count answers each, one of two servers killed: $again times again, $failed failed, $wrong wrong or missing"
[ "$failed" -eq 0 ] && [ "$wrong" -eq 0 ] && [ "$again" -gt 0 ]
