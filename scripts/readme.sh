#!/usr/bin/env bash
# Follows the README: the commands of its `sh` blocks, in order, with one state folder, as a newcomer would type them.
#
#     scripts/readme.sh            # builds as the README says
#     scripts/readme.sh FOLDER     # FOLDER has a built `lowkey`, which stands for target/release; cargo is left out
#
# `serve` runs in the background on a free port until the next one. Where the Python packages of the example are missing, stored files
# take the place of those that it writes, and what follows is followed with them. `cargo test` is left out, for its length. The
# first command that fails ends the script with its code.
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

# What stands for the files of examples/pytorch.py: the network of other examples, quantised by onnxruntime too, and the first digit.
stored() {
    cp "$repository/examples/digits.onnx" mine.onnx
    base64 -d > image.png << 'END'
iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAOElEQVR42mNgcPn/X4kBBHb//18OZsxclfaOAQLK/0MZd1dBaMH/5Uog5YJn/gMBkAHU/v/M
bgYAy5gWlTCgMlcAAAAASUVORK5CYII=
END
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
left=0
skip() {
    echo "skipped: $1"
    left=$((left + 1))
}
while IFS= read -r line; do
    command="$(sed 's/  *#.*//' <<< "$line")"
    if [ -z "$command" ]; then continue; fi
    echo "\$ $command"
    case "$command" in
        "cargo test"*)
            skip "it is a step of its own"
            continue
            ;;
        "cargo run --release -- "*)
            if [ -n "$built" ]; then
                target/release/lowkey ${command#cargo run --release -- }
            else
                (cd "$repository" && eval "$command")
            fi
            ;;
        cargo*)
            if [ -n "$built" ]; then
                skip "it is built"
                continue
            fi
            (cd "$repository" && eval "$command")
            ;;
        "pip install"*)
            if packages; then skip "they are there"; else skip "not all of these Python packages are there"; fi
            continue
            ;;
        "python3 examples/pytorch.py")
            if packages; then eval "$command"; else
                skip "stored files take the place of what it writes"
                stored
                continue
            fi
            ;;
        *"lowkey serve "*) start "$command" ;;
        *) eval "${command//127.0.0.1:7117/127.0.0.1:$port}" < /dev/null ;;
    esac
    followed=$((followed + 1))
done < <(commands)

# The demo, two servers, two that ask them, an import and the path are always among them.
if [ "$followed" -lt 7 ]; then
    echo "only $followed commands of the README were followed: has its form changed?"
    exit 1
fi
echo "$followed commands of the README were followed, $left were skipped"
