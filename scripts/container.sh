#!/bin/sh
# Builds deploy/Containerfile with the builder at hand, and lets the image say its version. Without a builder, or where its
# base images cannot be had, it says so and does nothing.
set -eu
cd "$(dirname "$0")/.."

if command -v podman > /dev/null && podman info > /dev/null 2>&1; then
    builder=podman
elif command -v docker > /dev/null && docker info > /dev/null 2>&1; then
    builder=docker
else
    echo "skipped: neither podman nor docker runs here"
    exit 0
fi
for image in $(sed -n 's/^FROM \([^ ]*\).*/\1/p' deploy/Containerfile); do
    if ! $builder image inspect "$image" > /dev/null 2>&1 && ! $builder pull -q "$image"; then
        echo "skipped: $builder cannot get $image"
        exit 0
    fi
done
$builder build -f deploy/Containerfile -t lowkey-ci .
$builder run --rm --read-only --network none lowkey-ci --version
