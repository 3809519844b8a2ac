# Every target sets up what it needs, in .venv; the first call takes a few minutes.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
WORKERS ?= 2

.PHONY: demo test test-slow mutants lint types evidence bench guide methods diffusers-table peers train-digits-unet train-digits clean

demo: .venv/.demo
	$(BIN)/python examples/draw_digits.py

test: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

test-slow: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m slow

mutants: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutation/run_mutants.py

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev
	$(BIN)/mypy

evidence: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m evidence --full

methods: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python docs/write_methods.py --check

peers: .venv/.peers
	OMP_NUM_THREADS=1 $(BIN)/python docs/write_peers.py

bench: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks

guide: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.choosing
	$(BIN)/python docs/write_methods.py

diffusers-table: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python docs/write_diffusers.py

train-digits-unet: .venv/.test
	$(BIN)/python examples/train_digits_unet.py

train-digits: .venv/.demo
	$(BIN)/urn train digits --out runs/digits

clean:
	rm -rf .venv out runs

.venv/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

# k-diffusion without what it needs for training: its samplers are all that is looked at
.venv/.peers: .venv/.test
	$(PIP) --no-deps k-diffusion
	$(PIP) torchsde torchdiffeq
	touch $@

# an extra of pyproject.toml, on top of the base
.venv/.demo .venv/.test .venv/.dev: .venv/.%: .venv/.base
	$(PIP) -e ".[$*]"
	touch $@
