# kube-ovn-rs. Two commands for a fresh Debian machine, as root: `make demo` and `make test`.
# Each target installs its prerequisites with e2e/setup, which skips those that are installed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo demo-down test check e2e kernel bench image fuzz lab-up lab-down

NODES ?= 2
HOW ?=
LAB = target/debug/lab
CACHE = $(or $(KUBE_OVN_CACHE),/var/cache/kube-ovn-rs)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: ## Start a two-node cluster, unless one runs, and demonstrate it with real pods
	@$(LAB) exec n1 true 2>/dev/null || $(MAKE) --no-print-directory lab-up
	@e2e/demo

demo-down: lab-down ## Remove the cluster of the demo

test: ## Run all tests: check, the programs on real OVN and Open vSwitch, a part of kernel, and the e2e tests on a new cluster
	@$(MAKE) --no-print-directory check
	@e2e/setup node rootfs
	cargo test --package kube-ovn-cni --test node --quiet
	cargo test --package ovn-central --test member --package ovs-ovn --test node --quiet
	@e2e/setup lab kernel
	@e2e/kernel --short
	@$(MAKE) --no-print-directory e2e

check: ## Check format, lints and licences, and run the tests that need neither root nor a cluster
	@e2e/setup check deny
	cargo fmt --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	PATH="$(CACHE)/cargo-deny/bin:$$PATH" cargo deny --log-level error check bans licenses sources
	cargo test --workspace --exclude e2e --exclude kube-ovn-cni --exclude ovn-central --exclude ovs-ovn --quiet
	cargo test --package e2e --package kube-ovn-cni --package ovn-central --package ovs-ovn --lib --bins --quiet

e2e: ## Run the tests on a real cluster; E2E=name runs those whose name contains it
	@e2e/setup lab image
	@e2e/run $(E2E)

kernel: ## Run the tests on the kernel's Open vSwitch, in a virtual machine; KERNEL=name runs those whose name contains it
	@e2e/setup lab kernel
	@e2e/kernel $(KERNEL)

bench: ## Measure the programs on this machine, and print the figures with their limits; BENCH="--only restart,plugin --runs 1", --random or --tls
	@e2e/setup lab image
	@e2e/bench $(BENCH)

image: ## Build the image as an archive; IMAGE="--profile dev --name kube-ovn-rs:test"
	@e2e/setup image
	@images/build $(IMAGE)

fuzz: ## Fuzz the database client for FUZZ=60 seconds for each target; findings are in target/fuzz
	@e2e/setup fuzz
	@PATH="$(CACHE)/cargo-fuzz/bin:$$PATH" crates/ovsdb/fuzz/run $(or $(FUZZ),60)

lab-up: ## Start a lab with the network, and leave it running; NODES=2 or 3, HOW=--by-hand or --manifest
	@e2e/setup lab image
	@e2e/build
	@[ "$(HOW)" = --by-hand ] || images/build --profile dev
	@$(LAB) up --nodes $(NODES) $(HOW)

lab-down: ## Remove the lab with its state
	@if [ -x $(LAB) ]; then $(LAB) down; fi
