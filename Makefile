# make demo    everything in one process, with a sample fleet being upgraded; ARGS="--continue" and the like are passed on
# make test    all tests, against a PostgreSQL of their own
# make lint    formatting, and clippy with warnings denied
# make bench   benchmarks
# make openapi writes the OpenAPI document anew
# make ci      what a change must pass
#
# Each installs first what is missing.

CARGO ?= cargo
ARGS ?=

.PHONY: help demo test clients lint bench openapi ci install

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# An unoptimised build: on a fresh clone the time to the first look is what counts, and `make test` uses it, too.
demo: install
	$(CARGO) run --locked -- demo $(ARGS)

test: install clients
	$(CARGO) test --locked --workspace

# Azure's own clients, from their registries; the tests say loudly which of them is not there.
clients:
	@tests/clients/install target/clients || [ -z "$$CI" ]

lint: install
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

bench: install
	$(CARGO) bench --locked --workspace --benches

openapi: install
	$(CARGO) run --locked -- openapi > openapi/fleets.json.new
	mv openapi/fleets.json.new openapi/fleets-2026-06-01.json

ci:
	.ci/run

install:
	@.ci/install
