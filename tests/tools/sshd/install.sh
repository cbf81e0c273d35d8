#!/usr/bin/env bash
# See that OpenSSH's server is there for the tests, which start their own as they need them. Usage: install.sh
# Installs Debian's package when run as root, without ever starting the distribution's own service.
set -euo pipefail
sshd=${ROADSTEAD_SSHD:-/usr/sbin/sshd}
# What sshd itself needs to start: the user and the directory of its unprivileged half, which a service would make.
ready() { [[ -x $sshd ]] && { [[ $(id -u) -ne 0 ]] || { getent passwd sshd >/dev/null && mkdir -p -m 0755 /run/sshd; }; }; }
ready && exit 0
if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "error: $sshd is needed by the tests of SSH: install openssh-server (its service may stay off)" >&2
  exit 1
fi
echo "installing openssh-server, about 10 MB, once; its service stays off" >&2
# The package asks this program whether it may start services: 101 forbids it.
policy=/usr/sbin/policy-rc.d
kept=
[[ ! -e $policy ]] || { kept=$policy.before-sshd; mv "$policy" "$kept"; }
trap 'if [[ -n $kept ]]; then mv "$kept" "$policy"; else rm -f "$policy"; fi' EXIT
printf '#!/bin/sh\nexit 101\n' > "$policy"
chmod 0755 "$policy"
export DEBIAN_FRONTEND=noninteractive
apt-get install -y -qq --no-install-recommends openssh-server >/dev/null 2>&1 ||
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends openssh-server >/dev/null; }
# Nor is it to start with the machine: it was not there before.
! command -v systemctl >/dev/null || systemctl disable --quiet ssh.service ssh.socket 2>/dev/null || true
ready || { echo "error: the package openssh-server left no working $sshd" >&2; exit 1; }
