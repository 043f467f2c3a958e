# Everything happens in .venv; `make run` and `make test` are the two commands of the README.
PYTHON ?= python3
BIN := .venv/bin
SCENARIO ?= experiments/spiky.yaml
ARGS ?=
# What setup.py compiles, and what that depends on.
COMPILED := $(wildcard simulator/*.py simulator/cluster/replica.py $(foreach part,clients engines engines/vllm gateway \
	kv_cache records step_time,simulator/$(part)/*.py))

.PHONY: run test bench conservation validate-scheduler capture-test calibrate-cpu profiles heldout accuracy setup setup-test lint types \
	unit docs pure clean

setup: .venv/.installed
.venv/.installed: pyproject.toml setup.py $(COMPILED)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

setup-test: .venv/.installed-test
.venv/.installed-test: pyproject.toml setup.py $(COMPILED)
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

# A Python that has vLLM and the project's dependencies, and a folder that holds another release's vllm package.
VLLM_PYTHON ?= $(BIN)/python
VLLM_PATH ?=
SCHEDULES ?= 5000
validate-scheduler: setup  ## Compare the engines with vLLM's own scheduler; without vLLM, with its logs.
	$(VLLM_PYTHON) -m validation.scheduler --schedules $(SCHEDULES)
	$(if $(VLLM_PATH),$(VLLM_PYTHON) -m validation.scheduler --schedules $(SCHEDULES) --vllm-path $(VLLM_PATH))
	$(VLLM_PYTHON) -m validation.real_engine

capture-test: setup  ## Capture a tiny model with a real vLLM on this machine; two minutes.
	$(VLLM_PYTHON) -m pytest -m vllm tests/calibration/test_real_vllm.py

CALIBRATION ?= results/calibrate-cpu
calibrate-cpu: setup  ## Capture a tiny model with vLLM on this CPU, fit, simulate its loads, compare; under 10 minutes.
	$(VLLM_PYTHON) -m calibration.loop --plan cpu-tiny --out $(CALIBRATION)

TABLES ?=
profiles: setup  ## Remake the shipped profiles from the operator tables in TABLES.
	$(BIN)/python -m calibration.shipped --tables $(TABLES)

heldout: setup  ## Print the errors of composed profiles; TABLES as above.
	$(BIN)/python -m calibration.heldout --tables $(TABLES)

SCENARIOS ?= 1000
conservation: setup  ## Balance the books of random scenarios with every fault on; some minutes.
	$(BIN)/python -m validation.conservation --scenarios $(SCENARIOS) $(ARGS)

docs:  ## Write the reference pages from the code.
	$(BIN)/python -m simulator.scenario.reference docs/reference

accuracy: setup  ## Write docs/accuracy.md from the committed results of validation.
	$(BIN)/python -m validation.accuracy_page

pure:  ## Remove compiled modules: the Python files run as they are.
	rm -f *.so $$(find simulator -name '*.so')

clean: pure
	rm -rf .venv results build dist *.egg-info
