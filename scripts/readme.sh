#!/usr/bin/env bash
# Follows the README: the commands of its `sh` blocks, in order, with one state folder, as a newcomer would type them.
#
#     scripts/readme.sh            # builds as the README says
#     scripts/readme.sh FOLDER     # FOLDER has a built `lowkey`, which stands for target/release; cargo is left out
#
# `serve` runs in the background on a free port until the next one. A block that needs Python packages is skipped, with a
# word, where they are missing; `cargo test` always, for its length. The first command that fails ends the script with its code.
set -euo pipefail
repository="$(cd "$(dirname "$0")/.." && pwd)"
built="${1:+$(cd "$1" && pwd)}"

work="$(mktemp -d)"
server=
tidy() {
    if [ -n "$server" ]; then kill "$server" 2> /dev/null || true; fi
    rm -rf "$work"
}
trap tidy EXIT

# What is written lands here; what is read is the repository's.
mkdir "$work/here"
cd "$work/here"
ln -s "$repository/models" "$repository/examples" .
if [ -n "$built" ]; then
    mkdir target
    ln -s "$built" target/release
else
    ln -s "${CARGO_TARGET_DIR:-$repository/target}" target
fi
export LOWKEY_STATE="$work/state" LOWKEY_CACHE="$work/cache"

# A port that is free now.
port() {
    local try
    for try in $(seq 7117 7217); do
        if ! (exec 3<> "/dev/tcp/127.0.0.1/$try") 2> /dev/null; then
            echo "$try"
            return
        fi
    done
    echo "no port from 7117 to 7217 is free" >&2
    exit 1
}
port="$(port)"

# The commands, a blank line between blocks; nothing of blocks in other languages.
commands() {
    awk '/^```/ { shell = $0 == "```sh"; print ""; next } shell' "$repository/README.md"
}

packages() {
    python3 -c "import importlib.util as u, sys; sys.exit(any(u.find_spec(p) is None for p in sys.argv[1:]))" \
        torch onnx onnxscript onnxruntime PIL 2> /dev/null
}

# Starts a server in the background and waits until it listens.
start() {
    if [ -n "$server" ]; then
        kill "$server"
        wait "$server" 2> /dev/null || true
    fi
    : > "$work/serve.log"
    eval "exec $1 --listen 127.0.0.1:$port" > "$work/serve.log" 2>&1 &
    server=$!
    until grep -q '^listening on ' "$work/serve.log"; do
        if ! kill -0 "$server" 2> /dev/null; then
            cat "$work/serve.log"
            echo "the server did not start: $1"
            exit 1
        fi
        sleep 0.05
    done
    cat "$work/serve.log"
}

followed=0
skipping=
while IFS= read -r line; do
    command="$(sed 's/  *#.*//' <<< "$line")"
    if [ -z "$command" ]; then
        skipping=
        continue
    fi
    if [ -n "$skipping" ]; then
        echo "skipped: $command"
        continue
    fi
    echo "\$ $command"
    case "$command" in
        "cargo test"*) echo "skipped here: it is a step of its own" ;;
        "cargo run --release -- "*)
            if [ -n "$built" ]; then
                target/release/lowkey ${command#cargo run --release -- }
            else
                (cd "$repository" && eval "$command")
            fi
            ;;
        cargo*) if [ -z "$built" ]; then (cd "$repository" && eval "$command"); fi ;;
        "pip install"*)
            if packages; then echo "they are there"; else
                echo "skipped: not all of these Python packages are there"
                skipping=1
            fi
            ;;
        *"lowkey serve "*) start "$command" ;;
        *) eval "${command//127.0.0.1:7117/127.0.0.1:$port}" < /dev/null ;;
    esac
    followed=$((followed + 1))
done < <(commands)

if [ "$followed" -lt 5 ]; then
    echo "the README has only $followed commands: has its form changed?"
    exit 1
fi
echo "$followed commands of the README were followed"
