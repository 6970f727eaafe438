#!/bin/sh
# Writes the two lock files with uv: requirements.lock (a checkout: with the tools) and deploy/runtime.lock (the image: the same versions
# without them). Neither names an index. Arguments go to uv, for example `--upgrade-package urllib3`.
set -eu

cd "$(dirname "$0")/.."

lock() {
    uv pip compile pyproject.toml --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal "$@"
}

lock --extra dev -o requirements.lock "$@"
lock --extra image -c requirements.lock -o deploy/runtime.lock
