# `make help` lists what there is. The settings below can be given on the command line or in the
# environment: `make run INPUT=texts OP=lowercase`, `PATTERN=req-rep WORKERS=5 make up`.

INPUT   ?= examples/input
OUT     ?= results
OP      ?= wordcount
PATTERN ?= push-pull
WORKERS ?=
FUZZ_SECONDS ?= 20
APP     ?= dispatch

# Recipes read the settings from the environment, so that no value needs quoting for the shell.
export INPUT OUT OP PATTERN WORKERS APP

# A fresh rustup puts cargo here, before the shell knows of it.
export PATH := $(PATH):$(HOME)/.cargo/bin

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BINARY := $(or $(CARGO_TARGET_DIR),target)/release/mutirao

.PHONY: help run build deps-test test test-memory verify fuzz fix bench compare up logs down test-compose deps clean

help: ## this list
	@printf 'mutirao: make TARGET [SETTING=VALUE ...]\n\n'
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) \
	  | while IFS=$$'\t' read -r target text; do printf '  %-14s %s\n' "$$target" "$$text"; done
	@printf '\nSettings (now): INPUT=%s OUT=%s OP=%s PATTERN=%s WORKERS=%s\n' \
	  "$$INPUT" "$$OUT" "$$OP" "$$PATTERN" "$${WORKERS:-(as many as fit)}"
	@printf 'PATTERN is push-pull, req-rep, pub-sub or broker. APP=echo, chat, election or storage starts another\n'
	@printf 'application with make up: TRANSPORT is zmq, tcp or udp, MESSAGE what the echo client says.\n'

run: build ## the whole trio in one process: INPUT through OP into OUT
	@$(BINARY) run "$$INPUT" --op "$$OP" --pattern "$$PATTERN" --out "$$OUT" \
	  $${WORKERS:+--workers "$$WORKERS"}
	@printf 'The results are in %s.\n' "$$OUT"

build: deps ## the binary, optimised
	@if [ -e $(BINARY) ]; then quiet=--quiet; else quiet=; echo 'Building; the first time takes a minute or two.'; fi; \
	cargo build --release --locked --package mutirao-apps $$quiet

test: deps-test ## every test
	@scripts/test.sh

test-memory: deps ## a file of 4 GiB through every role: takes 2 minutes and 13 GB of disk
	cargo test --package mutirao-apps --test all memory -- --ignored --nocapture

verify: deps ## format, lints, documentation and a little fuzzing; changes nothing
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets --all-features --locked -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --workspace --no-deps --document-private-items --locked
	@scripts/fuzz.sh $(FUZZ_SECONDS)

fuzz: deps ## makes up what arrives at broker, clients, workers, in a chat and in a storage cluster, for FUZZ_SECONDS
	@scripts/fuzz.sh $(FUZZ_SECONDS)

fix: deps ## formats, and repairs what the lints can
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all

bench: deps ## measures against loops over bare sockets and prints the ratios
	cargo bench --package mutirao-apps --bench suite

compare: build ## measures TCP, UDP and ZeroMQ side by side; the report is in OUT/compare
	@$(BINARY) compare --report "$$OUT/compare"

up: ## the trio in containers (with PATTERN=broker a broker, too), or APP=echo, chat, election, storage
	@scripts/compose.sh up

logs: ## what the containers say, until Ctrl-C
	@scripts/compose.sh logs --follow --tail=200

down: ## stops and removes the containers; the keys stay, and what a broker has kept
	@scripts/compose.sh down --remove-orphans

test-compose: ## the containers on a made-up job, killing some on the way
	@scripts/test-compose.sh

deps: ## installs what is missing to build (libzmq, a C linker)
	@scripts/deps.sh

# The tests also run the examples in Python.
deps-test:
	@scripts/deps.sh test

clean: ## removes what was built
	cargo clean
