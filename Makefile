# make demo           train a phase mask on synthetic faces; the result is a run folder in runs/
# make test           every check that a change must pass
# make coverage       all tests, and which lines they reach
# make quick          the fast tests alone: under a minute on two free cores
# make firmware-host  build the reference firmware for this machine
# make firmware-avr   build it for an ATmega1284P
# make bench-tools    Debian packages for tests with emulated firmware, cameras and screens (needs root)
# make slow-tests     measure which tests `make quick` leaves out
# make constraints    write constraints.txt from what the environment holds now
# make clean          remove the environment and the caches; runs/ stays

PYTHON ?= $(or $(shell for python in python3.11 python3.12 python3.13; do command -v $$python && break; done),python3.11)
VENV ?= .venv

# The build of torch, installed before anything else; a plain `torch` brings gigabytes of CUDA on Linux. The CPU build
# is the default and any other has to be asked for: make demo TORCH=torch==2.13.0+cu130.
# See "PyTorch" in README.md and docs/decisions/0003-torch-cpu-pin.md.
ifeq ($(shell uname -s),Darwin)
TORCH ?= torch==2.13.0
else
TORCH ?= torch==2.13.0+cpu
endif

# The versions that the last green commit was tested with, so that a green commit stays green. `make test CONSTRAINTS=`
# takes the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
DEMO_ARGS ?= --budget quick --seed 0
# Two processes; what a file sets up is set up once.
PYTEST_ARGS ?= -n 2 --dist loadfile

# One thread a process: the arrays of the tests are small, and threads that wait for each other cost more than they give.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

BENCH_TOOLS := gcc make libc6-dev gcc-avr avr-libc libsimavr-dev libaravis-0.8-0 xvfb x11-xserver-utils libgl1 libgl1-mesa-dri

.DEFAULT_GOAL := help
.PHONY: help demo test quick coverage slow-tests lint types imports unit constraints clean firmware-host firmware-avr bench-tools
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(VENV)/.stamp-run
	@$(BIN)/optishield weights verify sface >/dev/null 2>&1 || $(BIN)/optishield weights fetch sface
	$(BIN)/optishield train-mask $(DEMO_ARGS)

test: lint types imports unit

lint: $(VENV)/.stamp-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.stamp-dev
	$(BIN)/mypy

imports: $(VENV)/.stamp-dev
	$(BIN)/lint-imports

# The slowest tests are printed at the end.
unit: $(VENV)/.stamp-dev
	$(TEST_ENV) $(BIN)/python -m pytest $(PYTEST_ARGS) --durations=50 --durations-min=2

# Apart from `make test`, since counting lines takes time of its own.
coverage: $(VENV)/.stamp-dev
	$(TEST_ENV) $(BIN)/python -m pytest $(PYTEST_ARGS) --cov --cov-report=term:skip-covered

# What was measured to be slow is left out (tests/tiers.py): most of what trains, renders or starts other programs.
quick: $(VENV)/.stamp-dev
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

# Which tests are slow is measured: after a run on a quiet machine, look at the difference and commit it.
slow-tests: $(VENV)/.stamp-dev
	rm -f tests/slow_tests.txt
	$(TEST_ENV) $(BIN)/python -m pytest $(PYTEST_ARGS) --record-slow
	for again in 1 2; do $(TEST_ENV) $(BIN)/python -m pytest $(PYTEST_ARGS) -m 'not slow' --record-slow || exit 1; done

constraints: $(VENV)/.stamp-dev
	$(PIP) freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

firmware-host:
	$(MAKE) -C firmware_bridge/fw host

firmware-avr:
	$(MAKE) -C firmware_bridge/fw avr

# Without them the tests that need them are skipped and say which package is missing.
bench-tools:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(BENCH_TOOLS) >/dev/null

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/.stamp-venv:
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) here; install it, or name a Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "error: $(PYTHON) is Python " + sys.version.split()[0] + "; version 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.stamp-torch: $(VENV)/.stamp-venv $(CONSTRAINTS)
	@$(INSTALL) '$(TORCH)' || { echo "error: pip cannot install $(TORCH); tell pip where PyTorch's wheels are (README.md, PyTorch), or choose another build with make TORCH=..." >&2; exit 1; }
	@$(BIN)/python scripts/check_torch.py '$(TORCH)'
	touch $@

$(VENV)/.stamp-run: $(VENV)/.stamp-torch pyproject.toml
	$(INSTALL) --editable '.[evaluate,protect]'
	touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-torch pyproject.toml
	$(INSTALL) --editable '.[dev]'
	touch $@ $(VENV)/.stamp-run
