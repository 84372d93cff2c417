#!/usr/bin/env bash
# Builds the client for browsers into web/page/pkg, beside the page. Needs the target wasm32-unknown-unknown and wasm-bindgen's command
# in the version of the lock file. With --test its tests run too, in Node.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted="$(cargo metadata --locked --format-version 1 --filter-platform wasm32-unknown-unknown |
    grep -o '"name":"wasm-bindgen","version":"[^"]*"' | head -n 1 | cut -d '"' -f 8)"
if ! rustup target list --installed 2> /dev/null | grep -qx wasm32-unknown-unknown; then
    echo "the target is missing: rustup target add wasm32-unknown-unknown" >&2
    exit 1
fi
if [ "$(wasm-bindgen --version 2> /dev/null)" != "wasm-bindgen $wanted" ]; then
    echo "wasm-bindgen $wanted is missing: cargo install wasm-bindgen-cli --version $wanted" >&2
    exit 1
fi

# Vectors of 128 bits: every browser has them since 2023.
target="${CARGO_TARGET_DIR:-target}"
flags="-C target-feature=+simd128 ${RUSTFLAGS:-}"
RUSTFLAGS="$flags" CARGO_TARGET_DIR="$target" cargo build --locked --release --package lowkey-web --target wasm32-unknown-unknown
rm -rf web/page/pkg
wasm-bindgen --target web --no-typescript --out-dir web/page/pkg "$target/wasm32-unknown-unknown/release/lowkey_web.wasm"
# Not needed: others' notes in it.
rm -f web/page/pkg/package.json web/page/pkg/.gitignore
if [ "${1:-}" = --test ]; then
    # In Node, with what was built.
    RUSTFLAGS="$flags" CARGO_TARGET_DIR="$target" CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=wasm-bindgen-test-runner \
        cargo test --locked --release --package lowkey-web --target wasm32-unknown-unknown
fi
printf 'the client: %s bytes, %s compressed\n' "$(wc -c < web/page/pkg/lowkey_web_bg.wasm)" \
    "$(gzip -9 < web/page/pkg/lowkey_web_bg.wasm | wc -c)"
