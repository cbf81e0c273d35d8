#!/usr/bin/env bash
# End a rig and remove what it left on the machine: VMs, processes, bridge, rule, control groups. Nothing happens if
# there is none. Usage: stop.sh [DIR]   (default: target/vm)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if ours "$rig/engine.pid" >/dev/null; then
  engine ps -aq | xargs -r env docker --config "$rig/client" -H "unix://$socket" rm -fv >/dev/null || true
  engine network rm "$network" >/dev/null 2>&1 || true
fi
for file in acme registry engine containerd; do
  pid=$(ours "$rig/$file.pid") || continue
  kill "$pid" 2>/dev/null || true
  await 20 ended "$pid" || kill -KILL "$pid" 2>/dev/null || true
done

# After an engine that was killed: what ran in its containers is in its control groups, what held them names its socket.
mapfile -t groups < <(find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name "$group" 2>/dev/null)
in_groups() { find "${groups[@]}" -name cgroup.procs -exec cat {} + 2>/dev/null; }
if [[ ${#groups[@]} -gt 0 ]]; then
  for directory in /proc/[0-9]*; do
    if tr '\0' ' ' 2>/dev/null <"$directory/cmdline" | grep -qF -- "-address $rig/containerd.sock"; then
      kill -KILL "${directory#/proc/}" 2>/dev/null || true
    fi
  done
  none_left() {
    in_groups | sort -u | xargs -r kill -KILL 2>/dev/null
    ! in_groups | grep -q .
  }
  await 20 none_left || echo "warning: processes are left in ${groups[*]}" >&2
  find "${groups[@]}" -depth -type d -exec rmdir {} + 2>/dev/null || true
fi
! ip link show "$bridge" >/dev/null 2>&1 || ip link del "$bridge"
while command -v iptables >/dev/null && forwarding_rule -D 2>/dev/null; do :; done
rm -rf --one-file-system "$rig"
