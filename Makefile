# `make help` lists what there is. Needs make and a Python (3.11 or newer); everything else is installed into .venv-<version>.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
FRAMEWORK ?= fastapi
TESTS ?=
BENCH ?=

VERSION = $(eval VERSION := $(shell $(PYTHON) -c 'import sys; sys.version_info >= (3, 11) and print("%d.%d" % sys.version_info[:2])' 2>/dev/null))$(VERSION)
VENV ?= .venv-$(VERSION)
BIN = $(VENV)/bin
# Also for the isolated environment that builds the package: newer pips read the second name.
PIP = PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test lint types docs format pytest fuzz chaos bench bench-all real-arq clean require-python require-redis

help: ## List the targets
	@printf 'make <target> [PYTHON=python3.12] [FRAMEWORK=fastapi|litestar] [TESTS=tests/store] [BENCH=--quick]\n\n'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-10s %s\n", $$1, $$2 }'

demo: $(VENV)/.installed-demo ## Run the example app, a worker and a mail server; Ctrl-C stops all (FRAMEWORK=litestar for the other one)
	$(BIN)/python -m example_app.demo --framework $(FRAMEWORK)

test: require-redis lint docs pytest ## Lint, check types, build the docs and run all tests

lint: $(VENV)/.installed-test types ## Check style, formatting, layers and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: $(VENV)/.installed-test ## Check types (mypy and pyright)
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.installed-test ## Build the docs into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

pytest: require-redis real-arq ## Run the tests alone (TESTS=tests/store for a part)
	$(BIN)/python -m pytest -n 4 --dist worksteal $(TESTS) # most of them wait: for processes, leases, ticks

fuzz: require-redis ## The tests that make up their examples, with other examples each time
	ARQ_WEB_FUZZ=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m hypothesis $(or $(TESTS),tests)

chaos: require-redis ## Every fault on purpose, the slow ones too, and a table of what became of the jobs
	$(BIN)/python -m pytest -n 2 -m '' tests/chaos

bench: require-redis ## Us and the three best peers against each target, some twenty minutes (BENCH=--quick: one)
	$(BIN)/python -m benchmarks run $(BENCH)

bench-all: require-redis ## Every peer in every cell, some hours
	$(BIN)/python -m benchmarks run --systems all --cells all --pairs 3 --out bench-results-all.json $(BENCH)

# A real arq beside our own: it needs a redis-py older than ours. Without it the tests that compare with it are skipped.
real-arq: $(VENV)-arq028/.installed ## Make the environment with arq 0.28, from which tests migrate jobs

$(VENV)-arq028/.installed: tests/arq/constraints.txt | require-python
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(@D)/bin/python -m pip install --quiet --constraint $< arq msgpack
	@touch $@

format: $(VENV)/.installed-test ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean: ## Remove what make made: environments, caches, builds
	rm -rf .venv-[0-9]* site dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

require-python:
	@test -n "$(VERSION)" || { echo "arq_web needs Python 3.11 or newer$(if $(PYTHON),; '$(PYTHON)' is none). \
	Name one: make test PYTHON=python3.12" >&2; exit 1; }

# Says which Redis the tests will run on, or why they cannot.
require-redis: $(VENV)/.installed-test
	@$(BIN)/python -m tests.support.redis_server

$(VENV)/.installed-%: pyproject.toml constraints.txt | require-python
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[$*]'
	@touch $@
