# What a person does with this repository. `make help` lists it.
SHELL := bash
.DEFAULT_GOAL := help
stage := hack/stage.sh

.PHONY: help demo test test-crash lint fmt-check clippy doc deny drift crds manifests fmt clean controlplane

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## manifests become VMs and names in simulated clouds, and nothing again (12 min cold, 1 min warm); KEEP=1 stays up
	@KEEP=$(KEEP) deploy/demo/demo.sh

controlplane: ## build etcd, kube-apiserver, kube-controller-manager, kubectl and helm, install workerd for the tests (9 min cold)
	@$(stage) "control plane" "6 min cold on 2 cores" tests/controlplane/build.sh
	@$(stage) "helm" "3 min cold on 2 cores" tests/tools/helm/build.sh
	@$(stage) "workerd" "seconds" tests/tools/workerd/build.sh

test: controlplane ## everything the README claims, against a real control plane and simulated clouds
	@$(stage) "build" "7 min cold on 2 cores" cargo build --workspace --all-targets
	@$(stage) "tests" "10 min on 2 cores" cargo test --workspace

test-crash: controlplane ## kill the operator at every one of its writes, in every way: the full matrix
	@$(stage) "build" "7 min cold on 2 cores" cargo build --workspace --all-targets
	@$(stage) "crash matrix" "the test prints its size" cargo test --test crash -- --ignored --nocapture

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
