#!/usr/bin/env bash
# Put what Roadstead runs on hosts into the registry of a running rig: the Caddy of tests/tools, and a `roadstead` binary
# with the libraries it is linked to; and a site that does what its variables say, of the rig's one static program.
# Usage: images.sh RIG ROADSTEAD
# Prints `caddy=`, `router=` and `site=` with the references, by digest.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=$2
source "$1/env"
engine() { env -u DOCKER_CONTEXT -u DOCKER_HOST docker --config "$VM_CLIENT" -H "unix://$VM_ENGINE" "$@"; }
"$here/../tools/caddy/build.sh"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Pushes the files below $scratch/$1 as an image of that name. The rest are arguments of `docker import`.
push() {
  local image=$VM_REGISTRY/roadstead/$1:rig
  tar -C "$scratch/$1" --numeric-owner --owner 0 --group 0 -c . | engine import "${@:2}" - "$image" >/dev/null
  engine push -q "$image" >/dev/null
  engine image inspect -f '{{index .RepoDigests 0}}' "$image"
  engine rmi "$image" >/dev/null
}

install -D -m 755 "$here/../../target/tools/caddy" "$scratch/caddy/usr/bin/caddy"
caddy=$(push caddy)
mkdir "$scratch/router"
# Its symbols are most of a binary that was built for tests, and are of no use there.
strip -o "$scratch/router/roadstead" "$binary"
chmod 755 "$scratch/router/roadstead"
ldd "$binary" | grep -o '/[^ ]*' | xargs -r -I{} cp -L --parents {} "$scratch/router"
router=$(push router)

mkdir "$scratch/site" "$scratch/site/bin"
cp -R "$here/site/." "$scratch/site"
app=$(engine create --network none "$VM_APP" 2>/dev/null)
engine cp "$app:/bin/busybox" "$scratch/site/bin/busybox"
engine rm "$app" >/dev/null
engine rmi "$VM_APP" >/dev/null
for program in sh awk cat httpd kill nc nslookup sleep wc; do ln -s busybox "$scratch/site/bin/$program"; done
site=$(push site -c 'EXPOSE 8080' -c 'ENTRYPOINT ["/bin/sh", "/serve"]')
printf 'caddy=%s\nrouter=%s\nsite=%s\n' "$caddy" "$router" "$site"
