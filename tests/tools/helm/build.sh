#!/usr/bin/env bash
# Build the pinned helm that the chart's tests run. Usage: build.sh [BIN_DIR]   (default: target/tools)
# Does nothing when BIN_DIR already holds a helm of exactly this go.mod.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${1:-$here/../../../target/tools}
mkdir -p "$bin"
bin=$(cd "$bin" && pwd)
exec 9>"$bin/.helm.lock"
flock 9
stamp=$(cd "$here" && cat go.mod go.sum build.sh | sha256sum | cut -d' ' -f1)
[[ -x $bin/helm && $(cat "$bin/.helm.stamp" 2>/dev/null) == "$stamp" ]] && exit 0
command -v go >/dev/null || { echo "error: Go is needed to build helm: install Go 1.26 or newer" >&2; exit 1; }
echo "building helm from its Go module: about 3 minutes the first time on 2 cores" >&2
version=$(cd "$here" && go list -m -f '{{.Version}}' helm.sh/helm/v4)
(cd "$here" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$version" \
  -o "$bin/helm" helm.sh/helm/v4/cmd/helm)
echo "$stamp" > "$bin/.helm.stamp"
