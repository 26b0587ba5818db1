PYTHON ?= $(shell command -v python3.11 || echo python3)
BIN := .venv/bin

.PHONY: generate test

generate: .venv/installed
	$(BIN)/python jobs/generate.py

test: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/pytest

.venv/installed: pyproject.toml .constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint .constraints.txt --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --constraint .constraints.txt --editable '.[test]'
	touch $@
