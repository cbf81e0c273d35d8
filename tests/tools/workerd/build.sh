#!/usr/bin/env bash
# Install the pinned workerd that runs the Worker in tests and demo. Usage: build.sh [BIN_DIR]   (default: target/tools)
# Does nothing when BIN_DIR already holds a workerd of exactly this lock file.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${1:-$here/../../../target/tools}
mkdir -p "$bin"
bin=$(cd "$bin" && pwd)
exec 9>"$bin/.workerd.lock"
flock 9
stamp=$(cd "$here" && cat package-lock.json build.sh | sha256sum | cut -d' ' -f1)
[[ -x $bin/workerd && $(cat "$bin/.workerd.stamp" 2>/dev/null) == "$stamp" ]] && exit 0
command -v npm >/dev/null || { echo "error: npm is needed to install workerd: install Node.js 20 or newer" >&2; exit 1; }
echo "installing workerd, about 120 MB, once" >&2
cp "$here"/{package.json,package-lock.json,.npmrc} "$(mkdir -p "$bin/workerd-npm" && echo "$bin/workerd-npm")"
(cd "$bin/workerd-npm" && npm ci --silent --ignore-scripts)
ln -sf "$(cd "$bin" && echo workerd-npm/node_modules/@cloudflare/workerd-linux-*/bin/workerd)" "$bin/workerd"
"$bin/workerd" --version >/dev/null || { echo "error: npm installed no workerd for this machine (linux x64, arm64)" >&2; exit 1; }
echo "$stamp" > "$bin/.workerd.stamp"
