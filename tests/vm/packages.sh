#!/usr/bin/env bash
# Make sure that the programs of the rig are there. As root on Debian the missing ones are installed as packages, and
# none is started; elsewhere this says what is missing. Usage: packages.sh
set -euo pipefail

# PROGRAM PACKAGE: what the scripts of this directory call.
needed='dockerd docker.io
docker docker-cli
containerd containerd
runc runc
mmdebstrap mmdebstrap
docker-registry docker-registry
pebble pebble
pip python3-pip
gpg gpg
gpgconf gpgconf
ssh openssh-client
ssh-keygen openssh-client
openssl openssl
curl curl
ip iproute2
unshare util-linux
flock util-linux'

lacking() {
  while read -r program package; do
    command -v "$program" >/dev/null || echo "$package"
  done <<<"$needed" | sort -u
}

mapfile -t packages < <(lacking)
[[ ${#packages[@]} -gt 0 ]] || exit 0
if [[ $(id -u) -ne 0 || $(. /etc/os-release && echo "$ID") != debian ]]; then
  echo "error: container VMs need root and the programs of these Debian packages: ${packages[*]}" >&2
  exit 1
fi
echo "installing ${packages[*]}" >&2
# None of these may start as a service of the machine: the rig runs its own, with its own directories.
guard=/usr/sbin/policy-rc.d
if [[ ! -e $guard ]]; then
  printf '#!/bin/sh\nexit 101\n' >"$guard"
  chmod 755 "$guard"
  trap 'rm -f "$guard"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
# A release in which the client belongs to the engine's package has no package of its own for it.
if ! apt-cache show docker-cli >/dev/null 2>&1; then
  for index in "${!packages[@]}"; do
    [[ ${packages[index]} != docker-cli ]] || packages[index]=docker.io
  done
fi
# Recommended packages are left out: one of them mounts cgroups on the machine.
install() { apt-get -q -y --no-install-recommends install "${packages[@]}"; }
log=$(mktemp)
install >"$log" 2>&1 || { apt-get -q update >>"$log" 2>&1 && install >>"$log" 2>&1; } || {
  tail -20 "$log" >&2
  exit 1
}
rm -f "$log"
