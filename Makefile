# `make demo` and `make test` set up all they need: a virtual environment from pinned requirements, in .venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo paper-demo test test-all test-cluster wheel-test lint format bench gpu clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	OPEN_PRUNE_ROOT=.demo/runs OPEN_PRUNE_DATASETS=.demo/datasets $(RUN) open_prune.py train --default_hparams=digits_resnet_8
	OPEN_PRUNE_ROOT=.demo/runs OPEN_PRUNE_DATASETS=.demo/datasets $(RUN) open_prune.py branch train oneshot --default_hparams=digits_resnet_8 --strategy=snip10
	@echo
	@OPEN_PRUNE_ROOT=.demo/runs $(RUN) open_prune.py ls

# A figure and a table of 34 runs on the digits; the README shows this figure.
paper-demo: $(VENV)/installed
	OPEN_PRUNE_ROOT=.demo/runs OPEN_PRUNE_DATASETS=.demo/datasets $(RUN) open_prune.py paper demo --out=.demo/paper
	@echo
	@cat .demo/paper/demo_table.md
	cp .demo/paper/demo.png docs/figures/demo.png

test: $(VENV)/installed-dev
	$(RUN) -m pytest -n 2 --dist worksteal -m "not slow and not cluster"

test-all: $(VENV)/installed-dev
	$(RUN) -m pytest -n 2 --dist worksteal

# The executors slurm and ray, each on a real cluster on this machine; what cannot be started is skipped, with the reason.
CLUSTER_TESTS ?= tests/platforms/test_slurm.py tests/platforms/test_ray.py
test-cluster: $(VENV)/installed-cluster
	$(RUN) -m pytest -n 0 -m cluster -rs --durations=5 $(CLUSTER_TESTS)

# The wheel in a new virtual environment, beside Hugging Face datasets: minutes, and 6 GB for as long.
wheel-test: $(VENV)/installed-dev
	$(RUN) -m pytest tests/test_setup.py --in_new_environment -s --durations=8

lint: $(VENV)/installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) .ci/words.py

format: $(VENV)/installed-dev
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(VENV)/installed
	$(RUN) -m benchmarks $(ONLY)

# What only a GPU can show, in at most nine minutes; `make gpu FLAGS=--dry_run` says what it measures.
gpu: $(VENV)/installed-dev
	$(RUN) -m benchmarks.gpu $(FLAGS)

clean:
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "open_prune needs Python 3.11 to 3.13; choose with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.txt $(VENV)/bin/python
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/installed-dev: requirements-dev.txt requirements.txt $(VENV)/bin/python
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	touch $@ $(VENV)/installed

$(VENV)/installed-cluster: requirements-cluster.txt $(VENV)/installed-dev
	$(RUN) -m pip install --quiet -r requirements-cluster.txt
	touch $@
