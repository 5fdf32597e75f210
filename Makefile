# The errands of this repository. `make quickstart` and `make test` are all that a fresh machine needs.

CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto
# Panics of tests should say where; error messages of programs should not carry backtraces.
export RUST_BACKTRACE ?= 0

# Root can install and start everything, so for root nothing may be skipped.
ROOT := $(shell [ "$$(id -u)" = 0 ] && echo 1 || echo 0)

.PHONY: help quickstart test lint fmt docs unit nightly storm bench manifests swarm-plugin setup-test setup-bench setup-quickstart clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: setup-quickstart ## Build, then run the whole story on scratch volumes: back up, destroy, restore, undo, recover
	$(CARGO) build --release --locked
	quickstart/story

test: setup-test lint docs unit ## Everything CI runs: format, lints, documentation, and all tests against real servers

lint: ## Check format and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fmt: ## Format
	$(CARGO) fmt --all

docs: ## Build the documentation of the code; a broken link fails
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --workspace --no-deps --locked

unit: ## Run the tests alone, the real object stores included
	STRONGROOM_TEST_S3_REQUIRED=$(ROOT) tests/servers/with-s3 tests/setup/run-tests

# How many seeds; a failing one is printed with the command that looks at it again (docs/simulation.md).
SEEDS ?= 0..10000

nightly: ## Live through 10,000 simulated histories of the journal protocol (SEEDS=from..to for others); restore 1,000 targets of real databases
	STRONGROOM_SEEDS=$(SEEDS) $(CARGO) test --locked -p strongroom-repository --lib everybody_at_once -- --nocapture
	STRONGROOM_LEDGER_TARGETS=1000 $(CARGO) test --locked -p strongroom-restore --test ledger --test mariadb_ledger -- --nocapture

storm: setup-test ## Kill the driver 50 times under 64 callers, and at every pair of steps; a seed is printed
	STRONGROOM_STORM=200,64,50 STRONGROOM_EVERY_DEATH=1 tests/setup/run-tests -E 'binary(storm) + test(crashes)' --success-output final

bench: setup-test setup-bench ## Measure beside restic and borg (PEERS=all: also rustic and bupstash), volumes, changed blocks, memory (takes a while)
	$(CARGO) build --release --locked
	benches/peers $(PEERS)
	benches/run $(BENCH)

swarm-plugin: ## Make target/swarm-plugin, the folder that `docker plugin create` wants (docs/docker.md)
	$(CARGO) build --release --locked
	rm -rf target/swarm-plugin
	deploy/swarm/build $${CARGO_TARGET_DIR:-target}/release/strongroom target/swarm-plugin

manifests: ## Render deploy/kubernetes from the Helm chart
	tests/deploy/run render

setup-bench:
	@tests/setup/debian bench

setup-quickstart:
	@tests/setup/debian quickstart

setup-test:
	@tests/setup/debian test
	@tests/setup/python
	@tests/setup/nextest

clean: ## Remove what was built
	$(CARGO) clean
