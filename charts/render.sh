#!/usr/bin/env bash
# Renders what is derived from the chart and the definitions: the chart's copy of crds/, and the plain manifests.
# Usage: charts/render.sh [OUT_DIR]. Without OUT_DIR it updates deploy/kubernetes. HELM names the helm to use; without it
# the one `make` built, else the one on the PATH.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
built=$root/target/tools/helm
[ -x "$built" ] || built=helm
helm=${HELM:-$built}
chart=$root/charts/roadstead
out=${1:-$root/deploy/kubernetes}

if [ $# -eq 0 ]; then
  rm -f "$chart"/files/crds/*.yaml
  cp "$root"/crds/*.yaml "$chart/files/crds/"
fi

mkdir -p "$out"
render() { "$helm" template roadstead "$chart" --namespace roadstead-system "$@"; }
header='# Rendered from charts/roadstead by charts/render.sh; do not edit.'

{ echo "$header"; render --show-only templates/crds.yaml; } > "$out/crds.yaml"
{ echo "$header"; render --set crds.install=false; } > "$out/operator.yaml"
cat > "$out/namespace.yaml" <<NAMESPACE
$header
apiVersion: v1
kind: Namespace
metadata:
  name: roadstead-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
NAMESPACE
cat > "$out/kustomization.yaml" <<KUSTOMIZATION
$header
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - namespace.yaml
  - crds.yaml
  - operator.yaml
KUSTOMIZATION
