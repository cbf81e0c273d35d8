#!/usr/bin/env bash
# Fail if crds/ is not what `roadstead crd` writes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
cargo run --quiet -- crd --dir "$fresh"
diff -ru crds "$fresh" || { echo "error: crds/ is out of date: run \`make crds\` and commit the result" >&2; exit 1; }
