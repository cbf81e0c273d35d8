#!/usr/bin/env bash
# Measure bootstraps and deploys on container VMs, or say why that is not possible on this machine. Usage: vms.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cannot() {
  echo "NOT MEASURED: bootstraps and deploys, which need container VMs, and those need $1."
  exit 0
}
[[ $(uname -s)-$(uname -m) == Linux-x86_64 ]] || cannot "Linux on x86-64"
[[ $(id -u) -eq 0 ]] || cannot "root"
tests/vm/packages.sh || cannot "the programs of these packages"
tests/vm/build-image.sh >/dev/null
tests/vm/with.sh cargo bench --quiet --bench hosts -- vms
