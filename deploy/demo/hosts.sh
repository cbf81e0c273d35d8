# Hosts and apps, on VMs that boot: containers with systemd, cloud-init, OpenSSH and Docker. Read by demo.sh, whose
# functions it uses, after everything before it is gone again.
#
# A Node's host is brought up over SSH, an app goes live on it over HTTPS with a certificate of a real ACME server, a
# second revision replaces it while a visitor keeps asking, and a broken third is refused while the second serves.

hosts_possible() { # or says why not
  [[ ${HOSTS:-1} != 0 ]] || { echo "HOSTS=0: the part with hosts and apps is left out"; return 1; }
  [[ -z $foreign_cluster ]] || { echo "the part with hosts and apps is left out in a cluster of yours"; return 1; }
  [[ $(uname -s)-$(uname -m) == Linux-x86_64 ]] || { echo "hosts and apps need Linux on x86-64: left out"; return 1; }
  [[ $(id -u) -eq 0 ]] || { echo "hosts and apps need root, for VMs as containers: left out"; return 1; }
  tests/vm/packages.sh || { echo "hosts and apps need Docker and the programs above: left out"; return 1; }
}

# What a visitor sees who knows the name, asks the public resolver for it, and trusts the ACME server's root.
browse() { # NAME PATH [OPTIONS…]
  local address
  address=$("$target/debug/cloudsim" query "$VM_RESOLVER" "$1" A)
  curl --silent --show-error --noproxy '*' --max-time 10 --cacert "$VM_ACME_ROOT" --resolve "$1:443:$address" \
    "${@:3}" "https://$1$2"
}
shows() { [[ $(browse "$1" / 2>/dev/null) == "$2" ]]; }
shown_page() {
  printf '  $ curl https://%s%s\n' "$1" "$2"
  browse "$1" "$2" --write-out '  (%{http_code}, and the certificate is good)\n' | sed 's/^/  /'
}

app() { # IMAGE
  kubectl apply -f - <<APP
apiVersion: roadstead.dev/v1alpha1
kind: AppDeployment
metadata: {name: shop, namespace: shop}
spec:
  target: {nodeRef: {name: web-1}}
  compose:
    inline: |
      services:
        web:
          image: $VM_APP
          expose: ["8080"]
  images: [{service: web, image: "$1"}]
  domains: [{name: shop.example.com}]
  startPeriod: 1s
  healthTimeout: 20s
  strategy: {drainTimeout: 2s}
APP
}
apps() { kubectl get appdeployments.roadstead.dev --namespace shop | sed 's/^/  /'; }
condition() { # TYPE FIELD
  kubectl get appdeployments.roadstead.dev shop --namespace shop -o jsonpath="{.status.conditions[?(@.type==\"$1\")].$2}"
}
stalled() { [[ $(condition Stalled status) == True ]]; }

hosts() {
  local started=$SECONDS
  say "hosts and apps: preparing the image of a VM (3 min and 600 MB the first time, then nothing)"
  tests/vm/build-image.sh >/dev/null
  tests/tools/caddy/build.sh

  say "starting the rig: an engine for VMs, a registry, an ACME server (5 s)"
  hold "$run/rig" tests/vm/with.sh sh -c 'echo "$ROADSTEAD_VM_RIG" && exec cat'
  rig_started() { [[ -s $run/rig ]] || { alive || fail "$(cat "$run/rig.err")"; false; }; }
  await 300 "the rig" rig_started
  local rig
  rig=$(cat "$run/rig")
  # shellcheck disable=SC1091
  source "$rig/env"
  local caddy router second broken images
  images=$(tests/vm/images.sh "$rig" "$target/debug/roadstead")
  caddy=$(sed -n 's/^caddy=//p' <<<"$images") router=$(sed -n 's/^router=//p' <<<"$images")
  second=$(tests/vm/web.sh "$rig" v2) broken=$(tests/vm/web.sh "$rig" v3 "cannot reach the database at db:5432")

  say "starting simulated clouds whose droplets are these VMs, and the operator (4 s)"
  end "$run/operator.pid" "$operator_child"
  hold "$run/vms.pid" tests/support/supervise.sh "$run/vms.log" "$target/debug/cloudsim" \
    --resolver "$VM_RESOLVER" --vms "$rig"
  await 20 "the simulator" grep -q '^{"' "$run/vms.log"
  grep -m1 '^{"' "$run/vms.log" >"$run/sim.json"
  sim_http=http://$(address http) authority=$(address dns)
  sim POST /cloudflare/zones '{"name": "example.com"}' >/dev/null
  sim POST /cloudflare/tokens "{\"value\": \"$cloudflare_token\"}" >/dev/null
  sim POST /digitalocean/tokens "{\"value\": \"$digitalocean_token\"}" >/dev/null
  start_operator --resolvers "$VM_RESOLVER" \
    --caddy-image "$caddy" --router-image "$router" --acme-directory "$VM_ACME" --acme-ca-file "$VM_AUTHORITY" \
    --probe-ca-file "$VM_ACME_ROOT" --probe-allow-cidr "$VM_SUBNET"

  say "applying a Zone, a Provider and a Node whose host is managed (half a minute)"
  kubectl apply -f deploy/examples/00-namespace.yaml -f deploy/examples/10-zone.yaml \
    -f deploy/examples/20-provider-digitalocean.yaml | sed 's/^/  /'
  local since=$SECONDS
  kubectl apply -f - <<'NODE' | sed 's/^/  /'
apiVersion: roadstead.dev/v1alpha1
kind: Node
metadata: {name: web-1, namespace: shop}
spec:
  providerRef: {name: do}
  zoneRef: {name: example-com}
  host: {manage: Caddy}
NODE
  kubectl wait --for=condition=Bootstrapped --timeout=180s --namespace shop nodes.roadstead.dev/web-1 | sed 's/^/  /'
  kubectl wait --for=condition=Ready --timeout=120s --namespace shop nodes.roadstead.dev/web-1 | sed 's/^/  /'
  echo "  after $((SECONDS - since)) s"
  kubectl get nodes.roadstead.dev --namespace shop | sed 's/^/  /'
  shown_page web-1.example.com /

  say "an app with two lines of Compose goes live (10 s)"
  since=$SECONDS
  app "$VM_APP" | sed 's/^/  /'
  kubectl wait --for=condition=Ready --timeout=120s --namespace shop appdeployments.roadstead.dev/shop | sed 's/^/  /'
  echo "  after $((SECONDS - since)) s"
  apps
  shown_page shop.example.com /

  say "a second revision replaces it, while a visitor keeps asking"
  # The visitor ends with this script, or when told to.
  : >"$run/visits"
  hold "$run/visitor" bash -c 'ask() { while :; do echo "$("$@" 2>&1 | tr "\n" " ")" >>"$0"; sleep 0.05; done; }
    ask "$@" & cat >/dev/null; kill $!' "$run/visits" \
    curl --silent --show-error --noproxy '*' --max-time 10 --cacert "$VM_ACME_ROOT" \
    --resolve "shop.example.com:443:$("$target/debug/cloudsim" query "$VM_RESOLVER" shop.example.com A)" \
    --write-out '%{http_code}' https://shop.example.com/
  since=$SECONDS
  app "$second" | sed 's/^/  /'
  await 60 "the second revision" shows shop.example.com v2
  kubectl wait --for=condition=Ready --timeout=60s --namespace shop appdeployments.roadstead.dev/shop | sed 's/^/  /'
  echo "  after $((SECONDS - since)) s"
  apps

  say "a broken third is refused, and the second serves on"
  app "$broken" | sed 's/^/  /'
  await 90 "the refusal" stalled
  apps
  printf '  Ready: %s\n' "$(condition Ready status), $(condition Ready reason)"
  condition Ready message | sed 's/^/    /'
  printf '\n  Available: %s\n' "$(condition Available status)"
  shown_page shop.example.com /
  echo "  what the visitor got all the while:"
  sort "$run/visits" | uniq -c | sed 's/^/  /'

  say "deleting it all"
  since=$SECONDS
  kubectl delete --wait=false --namespace shop appdeployments.roadstead.dev/shop nodes.roadstead.dev/web-1 | sed 's/^/  /'
  kubectl delete --wait=false -f deploy/examples/10-zone.yaml -f deploy/examples/20-provider-digitalocean.yaml | sed 's/^/  /'
  local kind
  for kind in appdeployments nodes zones providers; do
    kubectl wait --for=delete --timeout=120s -A --all "$kind.roadstead.dev" >/dev/null 2>&1 || true
    [[ -z $(kubectl get "$kind.roadstead.dev" -A -o name) ]] || fail "$kind are left: $(kubectl get "$kind.roadstead.dev" -A -o yaml)"
  done
  echo "  gone after $((SECONDS - since)) s: $(sim GET /digitalocean/droplets | count) droplets, $(sim GET /cloudflare/zones/example.com/records | count) records"
  echo "  the part with hosts and apps took $((SECONDS - started)) s"
}
count() {
  python3 -c '
import json, sys
value = json.load(sys.stdin)
print(len(value if isinstance(value, list) else next(entry for entry in value.values() if isinstance(entry, list))))'
}
