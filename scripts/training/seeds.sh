#!/usr/bin/env bash
# Private trainings of NET on MNIST, from start to end, beside the same in float32: how many of the test images are right.
#
#     scripts/training/seeds.sh NET DATA [COUNT]          A or D; DATA has the four MNIST files, .gz; COUNT is 3 unless given
#
# EPOCHS=1, RATE=4: of each training. LOWKEY=target/release/lowkey and PYTHON=python3, which has numpy: what runs it.
# A party draws its weights, order and coins itself, so no two trainings begin alike: compare means. An epoch of A takes 162 s
# for both parties on two cores, one of D as long (docs/training.md).
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
net=$1 data=$(realpath "$2") count=${3:-3} epochs=${EPOCHS:-1} rate=${RATE:-4}
cd "$(dirname "$0")/../.."
lowkey=$(realpath "${LOWKEY:-target/release/lowkey}") python=${PYTHON:-python3}
folder=$(mktemp -d)
owner=
trap '[ -z "$owner" ] || kill "$owner" 2> /dev/null || true; rm -rf "$folder"' EXIT

# The number behind "NAME": in the last object of a file.
field() { tail -n 1 "$2" | sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p"; }

private() {
    rm -f "$folder"/*
    : > "$folder/own"
    "$lowkey" train --listen 127.0.0.1:0 --net "$net" --weights-to both -o "$folder/own.lowkey" > "$folder/own" 2>&1 &
    owner=$!
    until address=$(sed -n 's/^listening on //p' "$folder/own") && [ -n "$address" ]; do
        kill -0 "$owner" 2> /dev/null || { cat "$folder/own" >&2; exit 1; }
        sleep 0.1
    done
    "$lowkey" train --server "$address" --net "$net" --weights-to both -o "$folder/theirs.lowkey" --data "$data" \
        --epochs "$epochs" --rate "$rate" --json > "$folder/theirs"
    wait "$owner"
    owner=
    cmp "$folder/own.lowkey" "$folder/theirs.lowkey"
}

mean() { awk '{ sum += $1; squares += $1 * $1 } END { m = sum / NR; v = squares / NR - m * m
    printf "%.2f +- %.2f %%", m, sqrt((v > 0 ? v : 0) * (NR > 1 ? NR / (NR - 1) : 0)) }'; }

privates=() floats=()
for ((seed = 1; seed <= count; seed++)); do
    private
    privates+=("$(field accuracy "$folder/theirs")")
    floats+=("$($python scripts/training/twin.py "$data" --net "$net" --float --seed "$seed" --epochs "$epochs" \
        --lr ${rate//,/ } | sed -n 's/.*test \([0-9.]*\) %.*/\1/p' | tail -n 1)")
    printf '%s, %d: private %.2f %% in %.0f s and %.2f GB, float32 %.2f %%\n' "$net" "$seed" "${privates[-1]}" \
        "$(field seconds "$folder/theirs")" "$(field bytes "$folder/theirs" | awk '{ print $1 / 1e9 }')" "${floats[-1]}"
done
printf '%s after %d epochs, %d trainings: private %s, float32 %s\n' "$net" "$epochs" "$count" \
    "$(printf '%s\n' "${privates[@]}" | mean)" "$(printf '%s\n' "${floats[@]}" | mean)"
