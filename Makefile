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
override RUN := runs/quickstart
CONFIGS := --config configs/base.yaml --config configs/recipe/mpo.yaml --config configs/recipe/quickstart.yaml

# Idle threads sleep instead of spinning: beside other work a run that spins takes many times as long.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup quickstart miniature miniature-grid test test-fast lint types notebooks benchmark clean

setup: $(VENV)/.done

# torch goes in first and pinned: an unpinned one pulls gigabytes of CUDA libraries.
$(VENV)/.done: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

quickstart: setup
	rm -rf $(RUN)
	$(BIN)/mpo data shard --meta examples/mmpr_sample/meta.json --output $(RUN)/shards --validation 0.125 --shard_megabytes 0.3
	$(BIN)/mpo data show $(RUN)/shards/train --output $(RUN)/pairs.html
	$(BIN)/mpo model tiny --output $(RUN)/model
	$(BIN)/mpo fit $(CONFIGS)
	@echo
	@echo "What to do next:"
	@echo "  look at the pairs      open $(RUN)/pairs.html"
	@echo "  look at the curves     open $(RUN)/version_0/curves.png"
	@echo "  score unseen pairs     $(BIN)/mpo test $(CONFIGS) --ckpt_path $(RUN)/version_0/checkpoints/last.ckpt"
	@echo "  go on where it ended   add: --trainer.max_epochs 16 --ckpt_path last"
	@echo "  another loss           add: --config configs/recipe/ablation/orpo.yaml"
	@echo "  your own pairs         $(BIN)/mpo data shard --meta META --output SHARDS --validation 0.01"
	@echo "  the paper's recipe     $(BIN)/mpo fit --config configs/base.yaml --config configs/recipe/mpo.yaml --model.policy MODEL --data.train SHARDS/train"

# In three processes, each with whole files, the longest first: one of two cores would often wait.
test: setup
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-fast: setup
	$(BIN)/python -m pytest -n 2 -m "not slow"

# The paper in miniature: a base, pairs, training by every loss, evaluation, on two CPU cores; goes on where it was.
miniature: setup
	$(BIN)/python benchmarks/miniature.py --output runs/miniature

# Two bases, three pair sets of each, and the conditions under which it may come out differently; goes on from the first.
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
