# `make demo` and `make test` set themselves up: they need python3 (3.10 or newer, with its venv module) and make.
PYTHON = python3
VENV = .venv
IN = $(VENV)/bin

.PHONY: demo test lint bench torture fuzz clean

demo: $(VENV)/.demo
	@$(IN)/muawrap demo

test: $(VENV)/.dev
	$(IN)/python -m pytest -n auto --dist worksteal $(ARGS)

lint: $(VENV)/.dev
	$(IN)/ruff check .
	$(IN)/ruff format --check .
	$(IN)/mypy

bench: $(VENV)/.dev
	$(IN)/python -m tests.bench $(ARGS)

torture: $(VENV)/.dev
	$(IN)/python -m tests.torture $(ARGS)

fuzz: $(VENV)/.fuzz
	$(IN)/python -m tests.fuzz $(if $(TIME),--time $(TIME)) $(ARGS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml
	$(IN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(IN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(VENV)/.fuzz: $(VENV)/bin/python pyproject.toml
	$(IN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-ci-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
