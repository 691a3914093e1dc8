#!/bin/sh
# Renew the three hash-locked dependency lists from pyproject.toml. The files name no index: pip's own settings decide.
set -eu
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools"
"$tools/bin/pip" install -q pip-tools
compile() {
  "$tools/bin/pip-compile" -q --upgrade --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
    --strip-extras --allow-unsafe --no-header "$@" pyproject.toml
}
# What the container image installs: a service wants its database and the fastest verification.
compile --extra postgres --extra fast -o requirements.lock
compile --extra build -o requirements-build.lock
compile --extra dev --extra fast -o requirements-dev.lock
