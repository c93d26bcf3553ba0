# medrail's commands for people with make. Everything runs in .venv; nothing is installed outside this folder.
# Other interpreter or a smaller torch:  make setup PYTHON=python3.12 TORCH_OPTIONS="--index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
TORCH_OPTIONS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help setup demo test test-quick test-all test-nightly lint bench docs lock clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## own virtual environment with everything that is locked

# The project's own file decides: nothing is redone until a lock or pyproject.toml changes.
$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "medrail needs Python 3.11 or newer; found " + sys.version.split()[0] + ". Try: make setup PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "no virtual environment: on Debian or Ubuntu, apt-get install python3-venv"; exit 1; }
	@echo "installing the locked packages into $(VENV) (some minutes the first time) ..."
	@$(PIP) install "$$(grep -E '^torch==' requirements/dev.txt)" $(TORCH_OPTIONS)
	@$(PIP) install -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## the whole way on real images, then the page
	$(BIN)/medrail demo

test: $(READY) ## what a developer runs before a commit (under 10 minutes on 2 cores)
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -m "not slow and not nightly" -n 2

test-quick: $(READY) ## the quick tests of what you are working on: make test-quick ROOM=prepare
	$(BIN)/python -m pytest -m "not slow and not nightly" -x -q tests/$(ROOM)

test-all: $(READY) ## the slow tests too (what CI runs)
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -m "not nightly" -n 2

test-nightly: $(READY) ## everything: also what repeats a slow test with more examples, or on larger networks
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n 2

lint: $(READY) ## formatting, style, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## measure, and write benchmarks/results and docs/benchmarks.md
	$(BIN)/python benchmarks/run_all.py

docs: $(READY) ## regenerate the pages that are made from the code
	$(BIN)/python docs/make_reference.py

# Indexes and local folders of one machine never enter a lock, nor does torch's local version.
LOCK := $(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options --no-annotate --no-header
lock: $(READY) ## resolve the locks anew
	$(LOCK) --extra serve --extra train --extra slim --extra dev -c requirements/constraints.txt -o requirements/dev.txt pyproject.toml
	$(LOCK) --extra serve --extra train -c requirements/dev.txt -o requirements/train.txt pyproject.toml
	$(LOCK) --extra serve -c requirements/dev.txt -o requirements/serve.txt pyproject.toml
	$(LOCK) --extra serve --extra train --extra slim -c requirements/dev.txt -o requirements/slim.txt pyproject.toml
	$(LOCK) --extra serve --extra openvino -c requirements/dev.txt -o requirements/openvino.txt pyproject.toml
	sed -i 's/^\(torch==[0-9.]*\)+.*/\1/' requirements/dev.txt requirements/train.txt requirements/slim.txt

clean: ## remove the virtual environment and caches (never data or runs)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
