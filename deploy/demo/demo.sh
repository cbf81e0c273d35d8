#!/usr/bin/env bash
# The whole of Roadstead in a minute: manifests become VMs and names in simulated clouds, and nothing again.
#
# Starts a Kubernetes control plane of its own, a simulator of Cloudflare, DigitalOcean and DNS, two web servers, and the
# operator with its REST API; applies deploy/examples/ and a ServerGroup over the two behind a Worker, which real workerd
# runs, shows what came of it, kills one of them and shows where the group and its Worker point then, deletes all, and shows
# that nothing is left. Then, where containers can be VMs, an app on a host that boots: hosts.sh. Touches loopback only,
# and a bridge of its own for VMs.
#   HOSTS=0           leave that last part out
#   KEEP=1            stay up afterwards (before the deletion), with the commands to use it; Ctrl-C ends it
#   DEMO_KUBECONFIG=F use the cluster of that file instead, after asking; DEMO_YES=1 answers the question. KUBECONFIG is
#                     never used: a demo must not land in whatever cluster happens to be exported.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
unset KUBECONFIG
run=$(mktemp -d "${TMPDIR:-/tmp}/roadstead-demo-XXXXXX")
children=()
applied=()
foreign_cluster=

say() { printf '\n==> %s\n' "$*"; }
# Also where what is being tried is kept silent.
exec 8>&2
fail() { echo "error: $*" >&8; exit 1; }

# Ends exactly what this script started, and waits for it: afterwards no process of the demo remains.
cleanup() {
  local status=$?
  trap - EXIT
  trap '' INT TERM HUP
  exec 2>&8
  if [[ $status -ne 0 && $status -ne 130 && -s $run/operator.log ]]; then
    echo "--- the operator's last lines ---" >&2
    tail -n 25 "$run/operator.log" >&2
  fi
  if [[ -n $foreign_cluster && ${#applied[@]} -gt 0 ]]; then
    # In a cluster that is not ours the objects must go while the operator still runs: their finalizers need it.
    echo "removing the demo's objects from the cluster" >&2
    kubectl delete servergroups.roadstead.dev --namespace roadstead-groups --all --timeout=60s >/dev/null 2>&1 || true
    delete_examples "${applied[@]}" >/dev/null 2>&1 || echo "warning: some objects of deploy/examples are still in the cluster" >&2
  fi
  # Every supervisor kills its program when this pipe closes; that happens too if this script is killed with -9.
  exec 7>&-
  local pid
  for pid in ${children[@]+"${children[@]}"}; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$run"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

for program in cargo curl python3 openssl; do command -v "$program" >/dev/null || fail "$program is needed: install it"; done
bin=$root/target/controlplane/bin
kubectl() { "${kubectl:-$bin/kubectl}" --kubeconfig "$kubeconfig" "$@"; }
sim() { # METHOD PATH [JSON]: the simulator's own controls
  curl --silent --show-error --fail-with-body -X "$1" "$sim_http/sim$2" ${3:+-H 'content-type: application/json' -d "$3"}
}
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    (exec 4<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}
# Waits for a condition instead of for a time: SECONDS DESCRIPTION COMMAND…
await() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [[ $SECONDS -lt $end ]] || fail "waited too long for $what"
    sleep 0.2
  done
}

say "building the control plane (6 min the first time, then nothing)"
tests/controlplane/build.sh
[[ -z ${KUBEBUILDER_ASSETS:-} || ! -x $KUBEBUILDER_ASSETS/kubectl ]] || kubectl=$KUBEBUILDER_ASSETS/kubectl

say "installing workerd (seconds the first time, then nothing)"
tests/tools/workerd/build.sh

say "building the operator and the simulator (5 min the first time, then seconds)"
cargo build --quiet --workspace --bins
target=${CARGO_TARGET_DIR:-$root/target}

mkfifo "$run/hold"
exec 7<> "$run/hold"
alive() { kill -0 "${children[-1]}" 2>/dev/null; } # the one started last
# Runs a program that ends with this script. In a process group of its own: a Ctrl-C is for this script, which then ends
# all of them. SCRIPT must end when its stdin does; it must not hold the pipe's other end itself.
hold() { # OUT SCRIPT ARGUMENTS…
  local out=$1
  shift
  set -m
  "$@" < "$run/hold" > "$out" 2> "$out.err" 7>&- 8>&- &
  children+=($!)
  set +m
}

# Ends a program under supervision, and forgets it.
end() { # PIDFILE CHILD
  local index
  kill "$(cat "$1")"
  wait "$2" 2>/dev/null || true
  for index in "${!children[@]}"; do [[ ${children[index]} != "$2" ]] || unset "children[index]"; done
}

if [[ -n ${DEMO_KUBECONFIG:-} ]]; then
  kubeconfig=$DEMO_KUBECONFIG
  [[ -r $kubeconfig ]] || fail "DEMO_KUBECONFIG=$kubeconfig is not readable"
  context=$(kubectl config current-context)
  say "using your cluster: context $context of $kubeconfig"
  echo "The demo installs Roadstead's CRDs there and the objects of deploy/examples, in the namespaces shop,"
  echo "roadstead-groups and roadstead-system, and deletes the objects at its end. The clouds stay simulated."
  kubectl get namespace roadstead-system >/dev/null 2>&1 && fail "$context already has a namespace roadstead-system: the demo would meddle with it"
  if [[ ${DEMO_YES:-} != 1 ]]; then
    [[ -t 0 ]] || fail "nobody to ask: set DEMO_YES=1 to use context $context"
    read -r -p "Use context $context? Type yes: " answer
    [[ $answer == yes ]] || exit 0
  fi
  foreign_cluster=1
else
  say "starting etcd, kube-apiserver and kube-controller-manager (5 s)"
  hold "$run/controlplane.out" tests/controlplane/start.sh "$bin" "$run/controlplane"
  started() { grep -q '^ready ' "$run/controlplane.out" || { alive || fail "$(cat "$run/controlplane.out.err")"; false; }; }
  await 90 "the control plane" started
  kubeconfig=$(sed -n 's/^ready //p' "$run/controlplane.out")
fi

say "starting the simulated Cloudflare, DigitalOcean and DNS (1 s)"
hold "$run/sim.pid" tests/support/supervise.sh "$run/sim.log" \
  "$target/debug/cloudsim" --http 127.0.0.1:0 --dns 127.0.0.1:0 --resolver 127.0.0.1:0 \
  --workers 127.0.0.1:0 --workerd "$root/target/tools/workerd"
await 20 "the simulator" grep -q '^{"' "$run/sim.log"
grep -m1 '^{"' "$run/sim.log" > "$run/sim.json"
address() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$run/sim.json" "$1"; }
sim_http=http://$(address http) authority=$(address dns) resolver=$(address resolver) edge=$(address workers)
cloudflare_token=$(openssl rand -hex 20) digitalocean_token=dop_v1_$(openssl rand -hex 32)
sim POST /cloudflare/zones '{"name": "example.com"}' >/dev/null
permissions='["zone:read", "dns:write", "workers:write", "workers_routes:write"]'
sim POST /cloudflare/tokens "{\"value\": \"$cloudflare_token\", \"permissions\": $permissions}" >/dev/null
sim POST /digitalocean/tokens "{\"value\": \"$digitalocean_token\"}" >/dev/null
echo "zone example.com at $authority, public resolver at $resolver, Workers at $edge, control at $sim_http/sim"

say "installing the CRDs and the two credentials"
kubectl apply --server-side -f crds/ | sed 's/^/  /'
kubectl wait --for=condition=Established --timeout=30s -f crds/ >/dev/null
kubectl create namespace roadstead-system >/dev/null
kubectl create namespace roadstead-groups >/dev/null 2>&1 || kubectl get namespace roadstead-groups >/dev/null
for service in cloudflare digitalocean; do
  token=${service}_token
  # By standard input, so that no token is ever a process's argument.
  kubectl apply -f - <<SECRET | sed 's/^/  /'
apiVersion: v1
kind: Secret
metadata: {name: $service, namespace: roadstead-system, labels: {roadstead.dev/credential: $service}}
stringData: {token: "${!token}"}
SECRET
done

say "starting two web servers for a group (1 s)"
origin() { # NAME PORT
  mkdir -p "$run/pages/$1"
  echo "$1" > "$run/pages/$1/index.html"
  hold "$run/$1.pid" tests/support/supervise.sh "$run/$1.log" \
    python3 -m http.server "$2" --bind 127.0.0.1 --directory "$run/pages/$1"
  await 20 "the web server $1" curl --silent --fail "http://127.0.0.1:$2/"
}
first=127.0.0.1:$(free_port)
origin first "${first#*:}"
second=127.0.0.1:$(free_port)
origin second "${second#*:}"
second_child=${children[-1]}
echo "$first and $second"

say "starting the operator (2 s)"
metrics=127.0.0.1:$(free_port)
gateway=127.0.0.1:$(free_port)
ready() { curl --silent --fail "http://$metrics/readyz" || { alive || fail "the operator ended"; false; }; }
start_operator() { # FURTHER SETTINGS…
  KUBECONFIG=$kubeconfig hold "$run/operator.pid" tests/support/supervise.sh "$run/operator.log" \
    "$target/debug/roadstead" run --namespace roadstead-system --cluster-id demo \
    --cloudflare-api "$sim_http/cloudflare/client/v4" --digitalocean-api "$sim_http/digitalocean" \
    --metrics-addr "$metrics" --authority "$authority" \
    --settle-time 2s --ttl-wait-cap 2s --resync 10s --orphan-interval 30s "$@"
  operator_child=${children[-1]}
  await 60 "the operator to be ready" ready
}
start_operator --resolvers "$resolver" --probe-allow-cidr 127.0.0.0/8 \
  --gateway-addr "$gateway" --gateway-namespace roadstead-groups --gateway-zone example-com --signup open \
  --history-file "$run/history.sqlite"

# The Secrets of the examples hold placeholders for your own tokens; the simulated ones are in place already.
shopt -s nullglob
examples=(deploy/examples/*.yaml)
[[ ${#examples[@]} -gt 0 ]] || fail "deploy/examples holds no manifest"
cat > "$run/web-servers.yaml" <<GROUP
apiVersion: roadstead.dev/v1alpha1
kind: ServerGroup
metadata: {name: web-servers, namespace: shop}
spec:
  zoneRef: {name: example-com}
  slug: demo
  members:
    - {address: 127.0.0.1, port: ${first#*:}, scheme: http}
    - {address: 127.0.0.1, port: ${second#*:}, scheme: http}
  probe: {interval: 1s, timeout: 1s, fall: 2, rise: 1}
  slb: {workerName: demo-lb, route: demo.example.com/*}
GROUP
examples+=("$run/web-servers.yaml")
delete_examples() {
  local file arguments=()
  for file in "$@"; do arguments+=(-f "$file"); done
  kubectl delete --ignore-not-found --wait=false "${arguments[@]}"
  kubectl wait --for=delete --timeout=120s "${arguments[@]}" 2>&1 | grep -v 'no matching resources' || true
}

say "applying deploy/examples ($(basename -a "${examples[@]}" | tr '\n' ' '))"
started=$SECONDS
for file in "${examples[@]}"; do
  applied+=("$file")
  kubectl apply -f "$file" | sed 's/^/  /'
done
# Its token may do that here; the examples leave it to you.
kubectl patch zones.roadstead.dev example-com --type merge \
  -p '{"spec": {"cloudflare": {"workers": {"tokenSecretRef": {"name": "cloudflare"}, "allowedNamespaces": {"from": "All"}}}}}' |
  sed 's/^/  /'

kinds=()
for kind in zones providers nodes environments servergroups; do
  [[ -z $(kubectl get "$kind.roadstead.dev" -A -o name 2>/dev/null) ]] || kinds+=("$kind.roadstead.dev")
done
say "waiting for ${kinds[*]} to be Ready (20 s)"
for kind in "${kinds[@]}"; do
  kubectl wait --for=condition=Ready --timeout=120s -A --all "$kind" | sed 's/^/  /'
done
echo "  all Ready after $((SECONDS - started)) s"

say "what there is now"
for kind in "${kinds[@]}" hostnameclaims.roadstead.dev; do
  kubectl get -A "$kind" 2>/dev/null | sed 's/^/  /'
  echo
done

say "what the zone's name server answers (the authority at $authority)"
mapfile -t names < <(kubectl get nodes.roadstead.dev -A -o jsonpath='{range .items[*]}{.status.fqdn}{"\n"}{end}' | sed '/^$/d' | sort -u)
for name in ${names[@]+"${names[@]}"}; do
  printf '  %-32s A  %s\n' "$name" "$("$target/debug/cloudsim" query "$authority" "$name" A | tr '\n' ' ')"
done

listed() { "$target/debug/cloudsim" query "$authority" _wrap.demo.example.com TXT | tr -d '"'; }
discovered() { curl --silent --fail "http://$gateway/dns/demo"; }
lists() { [[ $(listed) == "$1" ]]; }
origins() { # what the Worker spreads requests over
  sim GET /cloudflare/workers/main/demo-lb | python3 -c '
import json, sys
print(next(binding["text"] for binding in json.load(sys.stdin)["bindings"] if binding["name"] == "ORIGINS"))'
}
leads_to() { [[ $(origins) == *":$1" && $(origins) != *,* ]]; }
spread() { # who answers ten requests to the Worker
  for _ in {1..10}; do curl --silent -H 'host: demo.example.com' "http://$edge/"; done | sort | uniq -c | xargs
}
shown() {
  printf '  %-32s TXT  %s\n  %-32s HTTP %s\n' _wrap.demo.example.com "$(listed)" "http://$gateway/dns/demo" "$(discovered)"
  printf '  %-32s has  %s\n  %-32s ten requests: %s\n' "Worker demo-lb" "$(origins)" "http://demo.example.com/" "$(spread)"
}
both=$(printf '%s\n' "$first" "$second" | sort -t: -k2n | paste -sd,)
say "a group of two servers: where its clients go, and where they go when one dies"
await 30 "the group to list both servers" lists "$both"
shown
killed=$SECONDS
end "$run/second.pid" "$second_child"
await 30 "the group to list the living server alone" lists "$first"
await 30 "the Worker to lead to the living server alone" leads_to "${first#*:}"
echo "  $second is killed; $((SECONDS - killed)) s later:"
shown

journal() { # the calls to both clouds, counted; ids are cut out so that like calls fall together
  sim GET /journal | python3 -c '
import collections, json, re, sys
entries = json.load(sys.stdin)
entries = entries if isinstance(entries, list) else entries["entries"]
calls = collections.Counter()
for entry in entries:
    path = entry["path"].split("?")[0]
    path = re.sub(r"/([0-9a-f]{32}|[0-9]{4,}|roadstead:[^/]*|roadstead%3A[^/]*)(?=/|$)", "/<id>", path)
    calls[entry["cloud"], entry["method"], path, entry["status"]] += 1
for (cloud, method, path, status), count in sorted(calls.items()):
    print(f"  {count:4} x {cloud:13} {method:6} {path} -> {status}")'
}
say "what the clouds were asked so far"
journal

if [[ ${KEEP:-} == 1 ]]; then
  say "KEEP=1: everything stays up until Ctrl-C"
  echo "  export KUBECONFIG=$kubeconfig PATH=\"$(dirname "${kubectl:-$bin/kubectl}"):\$PATH\""
  echo "  kubectl get zones,providers,rnode,environments,servergroups,hostnameclaims -A"
  echo "  $target/debug/cloudsim query $authority ${names[0]:-example.com}"
  echo "  API=http://$gateway AUTHORITY=${authority%:*} PORT=${authority##*:}   # README, \"The REST API\"; without dig:"
  echo "  $target/debug/cloudsim query $authority _wrap.<slug>.example.com TXT"
  echo "  curl -H 'host: demo.example.com' http://$edge/          # through the Worker"
  echo "  curl $sim_http/sim/journal          # every request to the simulated clouds"
  echo "  curl http://$metrics/metrics"
  echo "  tail -f $run/operator.log"
  trap 'exit 0' INT
  wait -n "${children[@]}" || true
  fail "one of the demo's processes ended"
fi

mapfile -t shuffled < <(printf '%s\n' "${applied[@]}" | shuf)
say "deleting the manifests in an order of chance: $(basename -a "${shuffled[@]}" | tr '\n' ' ')(30 s)"
started=$SECONDS
delete_examples "${shuffled[@]}" | sed 's/^/  /'
left=$(for kind in "${kinds[@]}"; do kubectl get -A "$kind" -o name; done)
[[ -z $left ]] || fail "still in the cluster after $((SECONDS - started)) s: $left"
echo "  gone after $((SECONDS - started)) s"
applied=()

say "what is left outside"
sim GET /cloudflare/zones/example.com/records > "$run/records.json"
sim GET /digitalocean/droplets > "$run/droplets.json"
for name in ${names[@]+"${names[@]}"}; do
  printf '  %-32s A  %s\n' "$name" "$("$target/debug/cloudsim" query "$authority" "$name" A | tr '\n' ' ')"
done
python3 - "$run/records.json" "$run/droplets.json" <<'PY'
import json, sys

def items(path):
    value = json.load(open(path))
    if isinstance(value, dict):
        value = next(entry for entry in value.values() if isinstance(entry, list))
    return value

records, droplets = items(sys.argv[1]), items(sys.argv[2])
print(f"  DNS records: {len(records)}, droplets: {len(droplets)}")
for thing in records + droplets:
    print("  left:", thing)
sys.exit(1 if records or droplets else 0)
PY
sim GET /cloudflare/workers/main/demo-lb >/dev/null 2>&1 && fail "the Worker demo-lb is left"
echo "  Workers: 0"
claims=$(kubectl get hostnameclaims.roadstead.dev 2>/dev/null)
if [[ -n $claims ]]; then
  echo "  tombstones in the cluster, which keep other namespaces from the names until the records' TTL is over:"
  echo "$claims" | sed 's/^/    /'
  held=$(kubectl get hostnameclaims.roadstead.dev -o jsonpath='{range .items[?(@.status.state!="Tombstone")]}{.metadata.name} {end}')
  [[ -z $held ]] || fail "claims without an owner: $held"
fi
say "what the clouds were asked in all"
journal

source deploy/demo/hosts.sh
if hosts_possible; then hosts; fi

say "nothing is left; ending every process of the demo"
