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
python3 -m venv "$folder/venv"
if ! "$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'maturin>=1.9,<2' 'numpy>=1.24' 'pytest>=8' 'mypy>=1.10' pillow; then
    echo "skipped: maturin and the packages that the tests need cannot be had"
    exit 0
fi
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx onnxruntime pandas scikit-learn ||
    echo "skipped: tests that need onnx, onnxruntime, pandas and scikit-learn"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nbclient nbformat ipykernel matplotlib ||
    echo "skipped: the notebook"
"$folder/venv/bin/maturin" build --quiet --release --locked --manifest-path python/Cargo.toml --target-dir target --out "$folder/dist"
wheel="$(ls "$folder"/dist/*.whl)"
printf '%s: %s bytes\n' "$(basename "$wheel")" "$(stat -c %s "$wheel")"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$wheel"
# From elsewhere, so that what is installed is what is tried.
cp -r python/tests python/notebooks "$folder"
repository="$PWD"
cd "$folder"
torch=no
if [ "${LOWKEY_SLOW:-}" = 1 ]; then
    if venv/bin/pip install --quiet --disable-pip-version-check 'torch>=2.4' 'safetensors>=0.4'; then
        torch=yes
    else
        echo "skipped: what needs torch"
    fi
fi
LOWKEY_WHEEL="$wheel" LOWKEY_REPOSITORY="$repository" venv/bin/python -m pytest -q tests
venv/bin/lowkey --version
if [ "$torch" = yes ]; then
    venv/bin/python -m mypy --strict --package lowkey
    venv/bin/python -m pytest -q "$repository/models/train"
else
    # Its classes are torch's.
    venv/bin/python -m mypy --strict --package lowkey --exclude 'lowkey/train/'
fi
