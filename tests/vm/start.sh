#!/usr/bin/env bash
# Start a rig for container VMs: a Docker engine of its own, a network without a way out, a registry and an ACME server
# on it. Usage: start.sh [DIR]   (default: target/vm; stop.sh ends it)
# Prints the rig's directory. Its file `env` says where everything is:
#   VM_ENGINE       the engine's socket             VM_CLIENT      a configuration directory for the docker client
#   VM_IMAGE        the image of a VM               VM_NETWORK     the engine's network for VMs
#   VM_SUBNET       the network's addresses         VM_GATEWAY     this machine's address on it
#   VM_GROUP        the containers' control group   VM_RESOLVER    where VMs and the ACME server ask for names; free
#   VM_REGISTRY     the registry, over TLS          VM_APP         an image there that serves HTTP on port 8080
#   VM_ACME         the ACME server's directory     VM_ACME_ROOT   the root of the certificates it issues
#   VM_AUTHORITY    who signed the certificates of registry and ACME server
# Nothing of a Docker that the machine may have is used or changed: not its sockets, directories, bridges or rules.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ $vm =~ ^[A-Za-z0-9._/+-]{1,70}$ ]] ||
  fail "$vm is too long for the path of a socket, or has characters other than A-Z a-z 0-9 . _ / + -"
[[ $(id -u) -eq 0 ]] || fail "container VMs need root"
"$here/packages.sh"
image=$("$here/build-image.sh" "$vm/images")
! ours "$rig/engine.pid" >/dev/null || fail "a rig runs in $rig already: end it with tests/vm/stop.sh"
"$here/stop.sh" "$vm"
rm -rf "$logs"
mkdir -p "$rig"/{client,trust,registry,seeds} "$engine" "$logs"
chmod 700 "$rig"
trap 'tail -n 20 "$logs"/* >&2; "$here/stop.sh" "$vm"' EXIT

# Mounts of their own, that end with the engine whatever becomes of it. Among them are empty directories in place of
# those where it would find the machine's settings, leave a key, and meet the machine's containerd.
mkdir -p /etc/docker
cat >"$rig/containerd.toml" <<T
version = 2
root = "$engine/containerd"
state = "$rig/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "$rig/containerd.sock"
T
unshare --mount --propagation private sh -c '
  for at in /run /etc/docker; do mount -t tmpfs -o mode=755 tmpfs $at || exit; done
  containerd --config "$1/containerd.toml" --log-level warn &
  echo $! >"$1/containerd.pid"
  shift
  exec "$@"' sh "$rig" \
  dockerd --host "unix://$socket" --containerd "$rig/containerd.sock" --log-level warn \
  --data-root "$engine" --exec-root "$rig/run" --pidfile "$rig/engine.pid" \
  --bridge none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false --userland-proxy=false \
  --default-address-pool base=198.18.0.0/15,size=24 --insecure-registry 198.18.0.0/15 \
  --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$group" --oom-score-adjust 0 \
  </dev/null >"$logs/engine.log" 2>&1 &
await 60 engine version || fail "the engine did not start"

# A rig that was killed may have left some behind.
engine ps -aq | xargs -r env docker --config "$rig/client" -H "unix://$socket" rm -fv >/dev/null
engine network rm "$network" >/dev/null 2>&1 || true
name=roadstead-vm:$(basename "$image" .tar)
if ! engine image inspect "$name" >/dev/null 2>&1; then
  engine image prune -af >/dev/null
  engine import -c 'ENTRYPOINT ["/usr/local/sbin/vm-entrypoint"]' -c 'ENV container=docker' \
    -c 'VOLUME /var/lib/docker' "$image" "$name" >/dev/null
fi
# The engine finds addresses that nobody uses here, but gives a container one of our choice only where we chose all.
create() { engine network create --internal -o "com.docker.network.bridge.name=$bridge" "$@" "$network" >/dev/null; }
create
addresses='{{with index .IPAM.Config 0}}{{.Subnet}} {{.Gateway}}{{end}}'
read -r subnet gateway < <(engine network inspect -f "$addresses" "$network")
engine network rm "$network" >/dev/null
create --subnet "$subnet" --gateway "$gateway"
! bridges_are_filtered || forwarding_rule -I

# An authority for what VMs would find on the Internet.
cd "$rig"
ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
openssl req -x509 "${ec[@]}" -days 30 -subj '/CN=rig authority' -keyout authority.key \
  -out trust/authority.pem 2>/dev/null
openssl req "${ec[@]}" -subj "/CN=$gateway" -keyout server.key -out server.csr 2>/dev/null
openssl x509 -req -in server.csr -CA trust/authority.pem -CAkey authority.key -CAcreateserial -days 30 \
  -extfile <(echo "subjectAltName=IP:$gateway") -out server.pem 2>/dev/null

cat >registry.yml <<Y
version: 0.1
storage: {filesystem: {rootdirectory: "$rig/registry"}, delete: {enabled: true}}
http: {addr: "$gateway:5000", tls: {certificate: "$rig/server.pem", key: "$rig/server.key"}}
Y
cat >acme.json <<J
{"pebble": {"listenAddress": "$gateway:14000", "managementListenAddress": "$gateway:15000",
  "certificate": "$rig/server.pem", "privateKey": "$rig/server.key",
  "httpPort": 80, "tlsPort": 443, "ocspResponderURL": "", "externalAccountBindingRequired": false}}
J
docker-registry serve "$rig/registry.yml" </dev/null >"$logs/registry.log" 2>&1 &
echo $! >registry.pid
# It neither waits a while before it checks nor refuses some requests on purpose, as it does to try out clients.
PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0 pebble -config "$rig/acme.json" -dnsserver "$gateway:53" \
  </dev/null >"$logs/acme.log" 2>&1 &
echo $! >acme.pid
get() { curl -fsS --noproxy '*' --max-time 5 --cacert trust/authority.pem "$@"; }
await 30 get "https://$gateway:5000/v2/" || fail "the registry did not start"
await 30 get "https://$gateway:14000/dir" || fail "the ACME server did not start"
get "https://$gateway:15000/roots/0" >acme-root.pem

# A web server of one static program, which the VM's image has.
app=$gateway:5000/roadstead/web:v1
mkdir -p app/{bin,www}
tar -xf "$image" -O ./usr/bin/busybox >app/bin/busybox 2>/dev/null || tar -xf "$image" -O ./bin/busybox >app/bin/busybox
chmod 755 app/bin/busybox
echo v1 >app/www/index.html
tar -C app --numeric-owner --owner 0 --group 0 -c . | engine import -c 'EXPOSE 8080' \
  -c 'ENTRYPOINT ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]' - "$app" >/dev/null
engine push -q "$app" >/dev/null
engine rmi "$app" >/dev/null
rm -r app

cat >env.new <<E
VM_ENGINE=$socket
VM_CLIENT=$rig/client
VM_IMAGE=$name
VM_NETWORK=$network
VM_SUBNET=$subnet
VM_GATEWAY=$gateway
VM_GROUP=$group
VM_RESOLVER=$gateway:53
VM_REGISTRY=$gateway:5000
VM_APP=$app
VM_ACME=https://$gateway:14000/dir
VM_ACME_ROOT=$rig/acme-root.pem
VM_AUTHORITY=$rig/trust/authority.pem
E
mv env.new env
trap - EXIT
echo "$rig"
