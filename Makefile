# One entry for every task. VENV is made on first use; `make help` lists the targets.
VENV ?= .venv
PY := $(VENV)/bin/python

.PHONY: lint
lint:
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy .typing/pannier tests
