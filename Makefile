PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: train test lint typecheck benchmark experiments-selection

train: $(STAMP)  ## train PPO on the embedded model and compare it with the heuristics
	$(BIN)/python -m refrag_rl.train agent=ppo

test: $(STAMP)  ## as many processes as cores, each of one thread
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(STAMP)
	$(BIN)/mypy

benchmark: $(STAMP)
	$(BIN)/python -m refrag_rl.benchmark rewards
	$(BIN)/python -m refrag_rl.benchmark pretrain

experiments-selection: $(STAMP)  ## remake experiments/selection; hours: see its README
	experiments/selection/run.sh all

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
