# `make` prints what there is; every target makes its own environment first (.venv, by deploy/bootstrap.sh).
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
SEEDS ?= 1-50

# Where the real servers are required, get them first.
SERVERS := $(if $(CI)$(VITALANE_REQUIRE_SERVERS),tools)

.PHONY: help
help: ## print this
	@echo 'Vitalane: telemetry of shipments and patients into alerts that somebody can account for.'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: environment ## run everything on this machine for 60 s: a fleet, a ward, three incidents, and the books
	$(BIN)/vitalane demo --for 60s

.PHONY: test
test: environment $(SERVERS) ## run all tests; those that need Mosquitto or InfluxDB skip where `make tools` has not run
	$(BIN)/pytest -q -n auto -rs

.PHONY: scenarios
scenarios: environment ## rehearse every scenario with every fault (SEEDS=1-50) and print what was found, how soon, and what was told without a cause
	$(BIN)/vitalane simulate scenario --rehearse --seeds $(SEEDS) --faults all

.PHONY: check
check: environment ## format, lint, types, and the tests that need no server; under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q -n auto -m 'not servers and not long'

.PHONY: format
format: environment ## format the code and sort its imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: tools
tools: ## get Mosquitto and InfluxDB 1.8 for the tests, into a cache outside the repository
	@sh deploy/tools.sh

.PHONY: bench
bench: environment $(SERVERS) ## measure, print a table, write benchmarks/out/latest.json
	$(BIN)/python -m benchmarks

.PHONY: dashboards
dashboards: environment ## write the Grafana dashboards' JSON from their code
	$(BIN)/python -m dashboards.build

.PHONY: secrets
secrets: ## write .env for docker compose, with fresh random secrets
	@sh deploy/secrets.sh

.PHONY: lock
lock: environment ## resolve the dependencies anew within pyproject.toml's bounds
	@command -v uv >/dev/null 2>&1 || [ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@PATH="$$PATH:$(CURDIR)/$(BIN)" sh deploy/lock.sh

.PHONY: clean
clean: ## remove what make has made here: the environment, caches, measurements; data stays
	rm -rf .venv vitalane.egg-info build .pytest_cache .mypy_cache .ruff_cache .hypothesis benchmarks/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: environment
environment:
	@sh deploy/bootstrap.sh
