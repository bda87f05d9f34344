# farmhand: every command of the README and of CONTRIBUTING. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
PREFIX ?= /usr
DESTDIR ?=
TIME ?= 20
KILLS ?= 200
SEED ?= 1
ONLY ?=
TARGET := $(or $(CARGO_TARGET_DIR),target)
RACKBENCH := $(TARGET)/debug/rackbench
FARMHAND := $(TARGET)/debug/farmhand

.PHONY: help build setup demo demo-check test lint usbtest check-usb check-adb-server check-rollout check-line proof-rollout proof-outage sim bench fuzz deb check-deb install peers

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

build: ## the daemon and the bench tools, unoptimised
	$(CARGO) build --workspace --bins

setup: ## install what the tests need (as root; otherwise says the command)
	firmware-tools/setup-tests.sh

demo: build ## a virtual rack and the real daemon on it, until Ctrl-C: no server, no account, no hardware, no root
	$(RACKBENCH) demo --farmhand $(FARMHAND)

demo-check: build setup ## the same rack, driven without a person: one STEP line for each verb of the mission
	$(RACKBENCH) demo-check --farmhand $(FARMHAND)

test: setup ## all tests, twelve kills in rollouts, the story of the demo, the USB testbed, and 20 s of fuzzing for each parser and core
	KILLS=12 $(CARGO) test --workspace
	$(MAKE) peers
	@if [ "$$(uname -m)" = x86_64 ]; then $(MAKE) usbtest; else echo "NOT RUN: usbtest, which emulates an x86-64 host" >&2; fi
	JOBS=$$((2 * $$(nproc))) $(MAKE) fuzz TIME=20

lint: ## formatting, clippy, and the pure library by itself
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) check --quiet --lib --no-default-features

peers: demo-check ## Python's protobuf, by protoc's descriptors, on every frame that the demo's centre saw
	tests/peers/run.sh

usbtest: ## Google's adbd (32 of them), our phones and QEMU's hub trees, on a real USB stack in emulation: CHECK and RESULT lines
	firmware-tools/usbtest/run.sh

check-usb: usbtest ## the same: fails when a check is missing

check-adb-server: build ## programs that nobody here wrote (Google's adb 29, 34 and 36, adbutils, adbkit and others) against the adb server: CHECK lines; ONLY=raw,role picks some
	tests/peers/adb_server/run.sh $(FARMHAND) $(RACKBENCH) $(ONLY)

check-rollout: build setup ## every point of a rollout, by the command line, on virtual racks: CHECK lines; make check-rollout [ONLY=refused]
	$(RACKBENCH) rollout-check --farmhand $(FARMHAND) --proof "$(MAKE) --no-print-directory proof-rollout KILLS=12" $(if $(ONLY),--only $(ONLY))

check-line: build setup ## every point of the line to the central server, on virtual racks with agents: CHECK and RESULT lines; make check-line [ONLY=relay]
	$(RACKBENCH) line-check --farmhand $(FARMHAND) --proof "$(CARGO) test" $(if $(ONLY),--only $(ONLY))

proof-rollout: ## kill -9 in the middle of rollouts, at each named place and at random instants: make proof-rollout [KILLS=200] [SEED=1]
	KILLS=$(KILLS) SEED=$(SEED) $(CARGO) test --test kills -- --nocapture

proof-outage: ## kill -9 ten times while the central server is away and comes back, 64 agents with 10,000 notices each, four kinds of server
	PHONES=$(or $(PHONES),64) NOTICES=$(or $(NOTICES),10000) KILLS=$(if $(filter command line,$(origin KILLS)),$(KILLS),10) \
	  $(CARGO) test --release --test outage -- --nocapture

sim: ## the whole rack in simulation: make sim SEEDS=10000, or SEED=42 to replay one
	$(CARGO) test --release --test sim -- --nocapture

bench: ## what a user feels, in figures: make bench [ONLY=codec]
	benches/run.sh "$(ONLY)"

fuzz: ## every parser and core under cargo-fuzz: make fuzz [TIME=600] [ONLY=adb]
	fuzz/run.sh $(TIME) $(ONLY)

deb: ## the Debian package
	firmware-tools/make-deb.sh

check-deb: ## the package as a user meets it: lintian, sandbox, install and purge in a fresh root
	firmware-tools/check-deb.sh

install: ## build and install on this machine (as root): binary, unit, udev rule, user
	$(CARGO) build --release --bin farmhand
	install -Dm755 $(TARGET)/release/farmhand $(DESTDIR)$(PREFIX)/bin/farmhand
	install -Dm644 systemd/farmhand.service $(DESTDIR)$(PREFIX)/lib/systemd/system/farmhand.service
	install -Dm644 systemd/farmhand.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/farmhand.conf
	install -Dm644 systemd/farmhand.modules-load $(DESTDIR)$(PREFIX)/lib/modules-load.d/farmhand.conf
	install -Dm644 udev/70-farmhand.rules $(DESTDIR)$(PREFIX)/lib/udev/rules.d/70-farmhand.rules
	test -e $(DESTDIR)/etc/farmhand/farmhand.toml || install -Dm640 src/config/example.toml $(DESTDIR)/etc/farmhand/farmhand.toml
	@if [ -z "$(DESTDIR)" ]; then systemd-sysusers farmhand.conf; chgrp farmhand /etc/farmhand/farmhand.toml; udevadm control --reload; systemctl daemon-reload; \
	  echo "installed: edit /etc/farmhand/farmhand.toml, then: systemctl enable --now farmhand"; fi
