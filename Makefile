# make fit    sets up, trains the quick net by the robust recipe on the embedded data, tests it, writes its report
# make test   sets up, checks style and types, runs the tests
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup fit test

setup: $(BIN)/gfnet

# `--upgrade-strategy only-if-needed` (pip's default) keeps a torch that is already in .venv: put another build there
# first, say one for your CUDA, and it stays.
$(BIN)/gfnet: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

fit: setup
	$(BIN)/gfnet fit --config base.yaml --config quick.yaml --config robust.yaml
	$(BIN)/gfnet test
	$(BIN)/gfnet report

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest
