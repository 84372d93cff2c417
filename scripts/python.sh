#!/usr/bin/env bash
# Builds the Python package's wheel and tries it in a fresh virtual environment: its tests, and its types. With LOWKEY_SLOW=1 also what
# needs torch. Says so and ends well where there is no Python, or packages cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! python3 -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' 2> /dev/null; then
    echo "skipped: no Python 3.10 or later with venv"
    exit 0
fi
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
name=start
began=$SECONDS
# Starts a part and says how long the one before it took.
part() {
    [ "$name" = start ] || printf '  %s: %d s\n' "$name" $((SECONDS - began))
    name=$*
    began=$SECONDS
}

part packages
python3 -m venv "$folder/venv"
# What is never imported needs no compiling.
get=("$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile)
needed=('maturin>=1.9,<2' 'numpy>=1.24' 'pytest>=8' 'mypy>=1.18' pillow)
tested=(onnx onnxruntime pandas 'scikit-learn>=1.6')
notebook=(nbclient nbformat ipykernel matplotlib)
# At once where all can be had, and else as much as can.
if ! "${get[@]}" "${needed[@]}" "${tested[@]}" "${notebook[@]}"; then
    if ! "${get[@]}" "${needed[@]}"; then
        echo "skipped: maturin and the packages that the tests need cannot be had"
        exit 0
    fi
    "${get[@]}" "${tested[@]}" || echo "skipped: tests that need onnx, onnxruntime, pandas and scikit-learn"
    "${get[@]}" "${notebook[@]}" || echo "skipped: the notebook"
fi
part "the wheel"
"$folder/venv/bin/maturin" build --quiet --release --locked --manifest-path python/Cargo.toml --target-dir target --out "$folder/dist"
wheel="$(ls "$folder"/dist/*.whl)"
printf '%s: %s bytes\n' "$(basename "$wheel")" "$(stat -c %s "$wheel")"
"${get[@]}" "$wheel"
# From elsewhere, so that what is installed is what is tried.
cp -r python/tests python/notebooks "$folder"
repository="$PWD"
cd "$folder"
torch=no
if [ "${LOWKEY_SLOW:-}" = 1 ]; then
    part torch
    if "${get[@]}" 'torch>=2.4' 'safetensors>=0.4'; then
        torch=yes
    else
        echo "skipped: what needs torch"
    fi
fi
part tests
LOWKEY_WHEEL="$wheel" LOWKEY_REPOSITORY="$repository" venv/bin/python -m pytest -q tests
venv/bin/lowkey --version
part types
# The stub against what was built.
venv/bin/python -m mypy.stubtest lowkey._lowkey --ignore-disjoint-bases
if [ "$torch" = yes ]; then
    venv/bin/python -m mypy --strict --package lowkey
    venv/bin/python -m pytest -q "$repository/models/train"
else
    # Its classes are torch's; what it asks of the rest is checked without.
    venv/bin/python -m mypy --strict --package lowkey --exclude 'lowkey/train/'
    venv/bin/python -m mypy --ignore-missing-imports --package lowkey.train
fi
part the end
