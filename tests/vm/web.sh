#!/usr/bin/env bash
# Put another version of the rig's web server into its registry. Usage: web.sh RIG VERSION [LINE]
# Its page says VERSION. With LINE it serves nothing: it complains with that line, and ends.
# Prints the image's name.
set -euo pipefail
version=$2 line=${3:-}
source "$1/env"
engine() { env -u DOCKER_CONTEXT -u DOCKER_HOST docker --config "$VM_CLIENT" -H "unix://$VM_ENGINE" "$@"; }
image=${VM_APP%:*}:$version
page=$(mktemp)
trap 'rm -f "$page"' EXIT
echo "$version" >"$page"
chmod 644 "$page"
engine pull -q "$VM_APP" >/dev/null
container=$(engine create --network none "$VM_APP")
engine cp "$page" "$container:/www/index.html" >/dev/null
change=()
[[ -z $line ]] || change=(-c "ENTRYPOINT [\"/bin/busybox\", \"sh\", \"-c\", \"echo starting $version; echo '$line' >&2; exit 1\"]")
engine commit ${change[@]+"${change[@]}"} "$container" "$image" >/dev/null
engine rm "$container" >/dev/null
engine push -q "$image" >/dev/null
engine rmi "$image" >/dev/null
echo "$image"
