# `make demo` is the quickest way in, `make test` checks a change; `make` alone lists everything.

PYTHON ?= python3
BIN := .venv/bin
MADE := .venv/made
PEERS := .venv/peers
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help env demo test lint bench docs

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(MADE) ## make .venv; PYTHON=python3.12 chooses the interpreter

demo: $(MADE) ## hear what the bundled models do
	$(BIN)/hiss demo

test: $(MADE) ## run every test, two at a time
	$(ONE_THREAD) $(BIN)/pytest -n 2

lint: $(MADE) ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(PEERS) ## compare our network with its peers: speed, and quality at equal training time
	$(BIN)/python benchmarks/networks.py
	@if [ -n "$$HISS_DATA" ]; then $(BIN)/python benchmarks/quality.py; \
	else echo "HISS_DATA, the folder of the data packs, is not set, so that quality is not compared"; fi

docs: $(MADE) ## write the documentation to site/
	@# An announcement of the theme, about another program.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# torch goes in first and alone: the build that is chosen then, such as a CPU build from a folder of wheels, stays.
$(MADE): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# One peer asks for torchaudio, which its network never uses and which needs CUDA: hence --no-deps.
$(PEERS): $(MADE) benchmarks/requirements.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m pip install --quiet --no-deps --requirement benchmarks/requirements.txt
	@touch $@
