# make demo    everything in one process, with a sample fleet being upgraded; ARGS="--continue" and the like are passed on
# make test    all tests, against a PostgreSQL of their own; prints the slowest ones
# make lint    formatting, spelling, clippy and rustdoc with warnings denied
# make doc     the documentation of the code, in target/doc
# make bench   benchmarks
# make openapi writes the OpenAPI document anew
# make ci      what a change must pass
#
# Each installs first what is missing.

CARGO ?= cargo
ARGS ?=

.PHONY: help demo test clients lint doc bench openapi ci install

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# An unoptimised build: on a fresh clone the time to the first look is what counts, and `make test` uses it, too.
demo: install
	$(CARGO) run --locked -- demo $(ARGS)

test: install clients
	@.ci/test

# Azure's own clients, from their registries; the tests say loudly which of them is not there.
clients:
	@tests/clients/install target/clients || [ -z "$$CI" ]

lint: install
	@.ci/tools
	$(CARGO) fmt --all -- --check
	target/tools/bin/typos
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(MAKE) doc

# With private items: the crates are a program's, and who reads their documentation works on them.
doc:
	$(CARGO) doc --locked --workspace --no-deps --document-private-items

bench: install
	$(CARGO) bench --locked --workspace --benches

openapi: install
	$(CARGO) run --locked -- openapi > openapi/fleets.json.new
	mv openapi/fleets.json.new openapi/fleets-2026-06-01.json

ci:
	.ci/run

install:
	@.ci/install
