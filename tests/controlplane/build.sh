#!/usr/bin/env bash
# Build the control plane that tests and the demo run: etcd, kube-apiserver, kube-controller-manager and kubectl.
# Usage: build.sh [BIN_DIR]   (default: target/controlplane/bin)
# Does nothing when BIN_DIR already holds binaries of exactly these sources. With KUBEBUILDER_ASSETS set, programs found
# there are used as they are, and only the missing ones are built (that set has no kube-controller-manager).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${1:-$here/../../target/controlplane/bin}
mkdir -p "$bin"
bin=$(cd "$bin" && pwd)

wanted=()
for name in etcd kube-apiserver kube-controller-manager kubectl; do
  [[ -n ${KUBEBUILDER_ASSETS:-} && -x $KUBEBUILDER_ASSETS/$name ]] || wanted+=("$name")
done

# Two test binaries may ask at once; the second waits, then finds everything built.
exec 9>"$bin/../build.lock"
flock 9
stamp=$(cd "$here" && cat go.mod go.sum build.sh cmd/*/main.go | sha256sum | cut -d' ' -f1)
missing=()
for name in ${wanted[@]+"${wanted[@]}"}; do
  [[ -x $bin/$name && $(cat "$bin/../$name.stamp" 2>/dev/null) == "$stamp" ]] || missing+=("$name")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

command -v go >/dev/null || {
  echo "error: Go is needed to build ${missing[*]}: install Go 1.26 or newer, or set KUBEBUILDER_ASSETS to a directory with etcd, kube-apiserver, kube-controller-manager and kubectl" >&2
  exit 1
}
echo "building ${missing[*]} from Go modules: about 6 minutes the first time on 2 cores, seconds afterwards" >&2
# Without gitMajor and gitMinor the version endpoint reports 0.0, and clients misbehave.
version=$(cd "$here" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v1.} minor=${minor%%.*}
ldflags="-s -w -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor"
for name in "${missing[@]}"; do
  started=$SECONDS
  (cd "$here" && CGO_ENABLED=0 go build -trimpath -ldflags "$ldflags" -o "$bin/$name" "./cmd/$name")
  echo "$stamp" > "$bin/../$name.stamp"
  echo "  $name: $((SECONDS - started)) s" >&2
done
