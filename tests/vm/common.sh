# What start.sh and stop.sh agree on. Sourced, with the directory of the rig's files in $1 (default: target/vm).
#
#   images/    the image of a VM (build-image.sh)
#   engine/    what the rig's own Docker engine stores; kept from start to start, so that images are imported once
#   logs/      of the last start; kept
#   rig/       the running rig: `env` with its addresses, the engine's socket, process ids, certificates

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
vm=${1:-$here/../../target/vm}
mkdir -p "$vm"
vm=$(cd "$vm" && pwd -P)
rig=$vm/rig
engine=$vm/engine
logs=$vm/logs
socket=$rig/docker.sock
# Names that no other rig of the machine has: of the bridge (at most 15 characters) and of the control groups.
id=$(sha256sum <<<"$vm" | cut -c1-8)
bridge=rsvm-$id
group=roadstead-vm-$id
network=roadstead

fail() {
  echo "error: $*" >&2
  exit 1
}

# The rig's engine and no other, whatever the person's own settings say.
engine() { env -u DOCKER_CONTEXT -u DOCKER_HOST docker --config "$rig/client" -H "unix://$socket" "$@"; }

# Waits up to $1 seconds for a command to succeed.
await() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [[ $SECONDS -lt $end ]] || return 1
    sleep 0.1
  done
}

# The process of a process id file, if it is one of this rig's: a number alone may belong to somebody else by now.
ours() {
  local pid
  pid=$(cat "$1" 2>/dev/null) && [[ -n $pid ]] || return 1
  tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$rig/" && echo "$pid"
}

# Also when its parent has yet to learn of it.
ended() { ! grep -q . "/proc/$1/cmdline" 2>/dev/null; }

# The machine filters what crosses a bridge by its forwarding rules. A firewall that drops what it does not know
# then has to be told of ours.
bridges_are_filtered() {
  [[ $(cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null) == 1 ]] && command -v iptables >/dev/null
}
forwarding_rule() { iptables -w "$1" FORWARD -i "$bridge" -o "$bridge" -j ACCEPT; }
