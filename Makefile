# Everything happens in .venv; `make run` and `make test` are the two commands of the README.
PYTHON ?= python3
BIN := .venv/bin
SCENARIO ?= experiments/spiky.yaml
ARGS ?=

.PHONY: run test bench setup setup-test lint types unit schema docs clean

setup: .venv/.installed
.venv/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

setup-test: .venv/.installed-test
.venv/.installed-test: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch .venv/.installed $@

run: setup  ## Install and run the main scenario.
	$(BIN)/python -m simulator.run $(SCENARIO) $(ARGS)

test: setup-test lint types unit  ## Install and run every check.

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

unit:
	$(BIN)/python -m pytest

bench: setup  ## Measure speed; some minutes.
	$(BIN)/python -m benchmarks.run $(ARGS)

docs:  ## Write the reference pages from the code.
	$(BIN)/python -m simulator.scenario.reference docs/reference

clean:
	rm -rf .venv results build dist *.egg-info
