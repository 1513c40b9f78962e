# One entry for every task. The environment is made on first use and kept until pyproject.toml
# changes; PYTHON=… picks the interpreter, VENV=… the place.
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: help
help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

.PHONY: demo
demo:  ## Install what is needed, then show the main job with a real model
	@scripts/venv $(VENV) starter,demo
	@$(BIN)/python scripts/demo.py

.PHONY: test
test: venv  ## Run the whole test suite
	$(PYTEST) $(PYTEST_FLAGS)

.PHONY: test-fast
test-fast: venv  ## Run the tests that take no more than a moment
	$(PYTEST) -m "not slow and not engine" $(PYTEST_FLAGS)

.PHONY: lint
lint: venv  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .typing/pannier tests scripts

.PHONY: docs
docs: venv  ## Rewrite docs/cli.md from the commands' help texts
	$(BIN)/python scripts/cli_docs.py > docs/cli.md

.PHONY: clients
clients: venv  ## Try the API with other people's clients, and write docs/clients.md
	@test -x .venv-clients/bin/python || $(BIN)/python -m venv .venv-clients
	@$(BIN)/python scripts/extra.py clients | xargs -d '\n' .venv-clients/bin/pip install --quiet
	@if command -v npm >/dev/null; then npm install --silent --prefix .venv-clients ollama; fi
	$(BIN)/python tests/clients/run.py --python .venv-clients/bin/python --modules .venv-clients $(CLIENTS_FLAGS)

.PHONY: wheel
wheel: venv  ## Build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

.PHONY: venv
venv:  ## Make the development environment
	@scripts/venv $(VENV) starter,test,lint
