# make help lists what there is. Everything happens in .venv at the root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo smoke test test-all check format

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

setup: $(BIN)/.installed-dev  ## virtual environment with everything the tests need

demo: $(BIN)/.installed  ## all tasks, your own picture (EXEMPLAR=photo.jpg), a short training (TASK=figures, FROM_SCRATCH=1) and its table
	$(BIN)/python scripts/demo.py $(if $(TASK),--task $(TASK)) $(if $(EXEMPLAR),--exemplar "$(EXEMPLAR)") \
		$(if $(FROM_SCRATCH),--from-scratch) --out outputs/demo

smoke: $(BIN)/.installed  ## one translation with the shipped weights
	$(BIN)/python scripts/sample.py --benchmark faces --pairs 4 --out outputs/smoke

test: setup  ## the tests, below ten minutes on two cores: one process per core, a file's tests in one process
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-all: setup  ## the slow ones too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m ''

check: setup  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup  ## apply the format and the safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
