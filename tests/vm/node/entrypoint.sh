#!/bin/sh
# Process 1 of a VM. Does what the machine and the network do for a real one before it boots, then becomes systemd.
# RIG_NAMESERVER: the address of the only name server. /rig/authority.pem: an authority to trust as public ones are.
set -eu
mount --make-rshared /

# The container engine's own name server is out of reach for the containers that run in here.
printf 'nameserver %s\noptions timeout:1 attempts:2\n' "$RIG_NAMESERVER" >/etc/resolv.conf

# The rig works without the machine's packet filter: what keeps a VM in is that it knows no way out.
ip route del default 2>/dev/null || true

anchor=/usr/local/share/ca-certificates/rig.crt
if [ -s /rig/authority.pem ] && [ ! -e "$anchor" ]; then
  mkdir -p "${anchor%/*}"
  cp /rig/authority.pem "$anchor"
  cat "$anchor" >>/etc/ssl/certs/ca-certificates.crt
fi

if [ -d /sys/fs/cgroup/memory ]; then
  # systemd would activate every hierarchy of version 1 that it finds free, and with that for the whole machine.
  for controllers in perf_event hugetlb net_cls,net_prio; do
    at=/sys/fs/cgroup/$controllers
    grep -q " $at " /proc/mounts || { mkdir -p "$at" && mount -t tmpfs none "$at"; }
  done
  # Containers in here belong below the VM's own group, or its memory limit and its removal would pass them by.
  group=$(awk -F: '$2 == "memory" { print $3 }' /proc/self/cgroup)/inner
  mkdir -p /run/systemd/system/docker.service.d
  printf '[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// --containerd=%s --cgroup-parent=%s\n' \
    /run/containerd/containerd.sock "$group" >/run/systemd/system/docker.service.d/cgroup.conf
fi
# From 256 on systemd takes version 1 only if told so, in a container by an argument.
exec /lib/systemd/systemd --log-target=journal SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1
