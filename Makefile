# What a person does with this repository. `make help` lists it.
SHELL := bash
.DEFAULT_GOAL := help
stage := hack/stage.sh

.PHONY: help demo test test-hosts test-crash test-live bench bench-large lint fmt-check clippy doc deny drift crds manifests fmt clean controlplane

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## manifests become VMs and names in simulated clouds, and nothing again; then an app on a host (13 min cold, 2 min warm); KEEP=1 stays up, HOSTS=0 leaves the app out
	@KEEP=$(KEEP) deploy/demo/demo.sh

controlplane: ## build etcd, kube-apiserver, kube-controller-manager, kubectl and helm; install workerd, sshd, docker-compose and Caddy (9 min cold)
	@$(stage) "control plane" "7 min cold on 2 cores" tests/controlplane/build.sh
	@$(stage) "helm" "3 min cold on 2 cores" tests/tools/helm/build.sh
	@$(stage) "workerd" "seconds" tests/tools/workerd/build.sh
	@$(stage) "sshd" "seconds" tests/tools/sshd/install.sh
	@$(stage) "docker-compose" "half a minute" tests/tools/compose/build.sh
	@$(stage) "caddy" "seconds" tests/tools/caddy/build.sh

test: controlplane ## everything the README claims, against a real control plane and simulated clouds
	@$(stage) "build" "7 min cold on 2 cores" cargo build --workspace --all-targets
	@$(stage) "tests" "22 min on 2 cores" cargo test --workspace
	@$(stage) "ten thousand servers" "4 min on 2 cores" cargo test --test groups_storms -- --ignored
	@$(stage) "hosts, the short way" "6 min on 2 cores, 10 the first time" tests/vm/short.sh

test-hosts: ## container VMs with real cloud-init, OpenSSH and Docker, on Linux as root; installs Debian packages they need
	@$(stage) "packages" "1 min the first time" tests/vm/packages.sh
	@$(stage) "VM image" "3 min and 600 MB the first time on 2 cores" tests/vm/build-image.sh
	@$(stage) "control plane" "7 min cold on 2 cores" tests/controlplane/build.sh
	@$(stage) "build" "7 min cold on 2 cores" cargo test --test vms --test bootstrap --test deploy --test hosts --no-run
	@$(stage) "caddy" "seconds" tests/tools/caddy/build.sh
	@$(stage) "hosts" "25 min on 2 cores" tests/vm/with.sh bash -c \
	  'for test in vms bootstrap deploy hosts; do cargo test --test $$test -- --ignored || exit; done'

test-crash: controlplane ## kill the operator at every one of its writes, in every way: the full matrix
	@$(stage) "build" "7 min cold on 2 cores" cargo build --workspace --all-targets
	@$(stage) "crash matrix" "the test prints its size" cargo test --test crash -- --ignored --nocapture --test-threads 1

test-live: controlplane ## the main job at the real Cloudflare and, with a token, DigitalOcean: costs cents, see tests/live.rs
	@: $${ROADSTEAD_LIVE_ZONE:?set it to the domain of a throwaway Cloudflare zone} $${ROADSTEAD_LIVE_CLOUDFLARE_TOKEN:?set it to a token that may edit that zone}
	@$(stage) "build" "7 min cold on 2 cores" cargo build --workspace --all-targets
	@$(stage) "live" "1 min, or 5 with ROADSTEAD_LIVE_DIGITALOCEAN_TOKEN" cargo test --test live -- --ignored

bench: controlplane ## the figures of a thousand Nodes, a thousand groups, ten thousand probed servers and the router, as tables
	@$(stage) "build" "8 min cold on 2 cores" cargo bench --quiet --bench nodes --bench groups --bench probes --bench router --no-run
	@$(stage) "ten thousand targets" "1 min" cargo bench --quiet --bench probes
	@$(stage) "the router" "1 min" cargo bench --quiet --bench router
	@$(stage) "a thousand groups, a hundred thousand servers" "9 min" cargo bench --quiet --bench groups
	@$(stage) "a thousand Nodes" "8 min, 5 of them idle" cargo bench --quiet --bench nodes

bench-large: controlplane ## the figures of a resync of five thousand VMs, as a table
	@$(stage) "build" "8 min cold on 2 cores" cargo bench --quiet --bench nodes --no-run
	@$(stage) "five thousand VMs" "8 min" cargo bench --quiet --bench nodes -- large

lint: fmt-check clippy doc deny drift ## format, clippy, documentation, licences and sources, generated files

fmt-check:
	@$(stage) "format" "seconds" cargo fmt --all --check

clippy:
	@$(stage) "clippy" "5 min cold on 2 cores" cargo clippy --quiet --workspace --all-targets -- -D warnings

doc:
	@$(stage) "documentation" "5 min cold on 2 cores" env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps

deny:
	@$(stage) "licences and sources" "6 min the first time" hack/cargo-deny.sh

drift:
	@$(stage) "generated files" "3 min cold on 2 cores" hack/crds-drift.sh

crds: ## write crds/ from the Rust types
	cargo run --quiet -- crd --dir crds

manifests: ## render the chart's copy of crds/, and deploy/kubernetes, from crds/ and the chart
	@tests/tools/helm/build.sh
	charts/render.sh

fmt: ## format the Rust code
	cargo fmt --all

clean: ## remove everything that was built, the control plane's binaries too
	rm -rf target
