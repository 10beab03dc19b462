# Set-up, the main job and the tests. Plain pip and venv; `make setup PIP="uv pip"` works for those who like uv.
#   make quickstart    set up, then train a tiny InternVL2 with MPO on the sample pairs, on a CPU
#   make test          set up, then the tests
PYTHON ?= python3
VENV   ?= .venv
PIP    ?= $(VENV)/bin/pip
# Another wheel index for torch, for example a CUDA build: make setup TORCH_INDEX=https://download.pytorch.org/whl/cu128
TORCH_INDEX ?=
TORCH  ?= $(shell grep '^torch==' constraints.txt)
BIN    := $(VENV)/bin

# Idle threads sleep instead of spinning: beside other work a run that spins takes many times as long.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup quickstart miniature miniature-grid test test-fast servers lint types notebooks benchmark clean

setup: $(VENV)/.done

# torch goes in first and pinned: an unpinned one pulls gigabytes of CUDA libraries.
$(VENV)/.done: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

quickstart: setup
	rm -rf runs/quickstart
	$(BIN)/mpo quickstart

# In three processes, each with whole files, the longest first: one of two cores would often wait.
test: setup
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-fast: setup
	$(BIN)/python -m pytest -n 2 -m "not slow"

# The tests of servers against real ones, whose replies are recorded for later runs: make servers VLLM=ENV TRANSFORMERS=ENV
# with the folders of their environments.
servers: setup
	MPO_VLLM=$(VLLM) MPO_TRANSFORMERS=$(TRANSFORMERS) $(BIN)/python -m pytest tests/inference/test_real_servers.py

# The paper in miniature: a base, pairs, training by every loss, evaluation, on two CPU cores; resumes where it was.
miniature: setup
	$(BIN)/python benchmarks/miniature.py --output runs/miniature

# Two bases, three pair sets of each, and the conditions under which it may come out differently; resumes from the first.
miniature-grid: setup
	$(BIN)/python benchmarks/miniature.py --output runs/miniature --bases 2 --pair-sets 3 --conditions

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

notebooks: setup
	$(BIN)/python -m pytest tests/test_notebooks.py

benchmark: setup
	$(BIN)/python benchmarks/loader.py
	$(BIN)/python benchmarks/step.py --rounds 1
	$(BIN)/python benchmarks/index.py --records 1000000

# What was installed and built; runs/, with what was trained, stays.
clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
