# Every target makes .venv by itself when it is missing or older than what it is made from. Python compiles what it
# imports; of the ten thousand modules that are installed most never are (--no-compile).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FRAMEWORKS := .venv-frameworks
FRAMEWORKS_STAMP := $(FRAMEWORKS)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help gpu run test check check-all smoke bench lint torture torture-short injection injection-short readme fuzz fuzz-folders fuzz-folders-short planted frameworks standins

help: ## show what there is to make
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -qq --no-compile --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(FRAMEWORKS_STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(FRAMEWORKS)
	$(FRAMEWORKS)/bin/python -m pip install -qq --no-compile --constraint constraints.txt --editable '.[dev,all]'
	@touch $@

run: $(STAMP) ## train the optimizer study and show its tables
	$(BIN)/tunectl run studies/optimizer_comparison.yaml

test: $(STAMP) ## the test suite
	$(BIN)/pytest -q -n 2 --dist worksteal

lint: $(STAMP) ## format, lint, types and the import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

smoke: $(STAMP) ## run every study in studies/smoke, and each a second time
	$(BIN)/python scripts/smoke.py

readme: $(STAMP) ## the README's commands say what the README says
	$(BIN)/python scripts/readme.py

check: lint test smoke readme torture-short injection-short ## what CI runs

check-all: check frameworks standins planted torture injection fuzz-folders ## everything, also other tools and the slow proofs: planted flaws, 500 signals and 2,000 failing calls in a row of studies, damaged folders

frameworks: $(FRAMEWORKS_STAMP) ## what is written for other tools, read back by them, in a venv with all extras
	TUNECTL_FRAMEWORKS=required $(FRAMEWORKS)/bin/pytest -q -m frameworks

standins: $(STAMP) ## more kinds of training scripts (argparse, click, typer, Fire, absl, tyro, ...), from init to compare
	$(BIN)/pytest -q -n 2 -m standins

planted: $(STAMP) ## planted flaws must be found, in simulated studies and in the ones of studies/planted
	$(BIN)/python scripts/planted_flaws.py
	$(BIN)/python scripts/planted_boundaries.py
	$(BIN)/python scripts/planted_studies.py

torture: $(STAMP) ## kill, stop and interrupt runner, server, trials and loaders 500 times, compare the results
	$(BIN)/python scripts/torture.py --faults 500

torture-short: $(STAMP) ## the same with 40 faults, for CI
	$(BIN)/python scripts/torture.py --faults 40 --seconds 50 --seed 1 --no-orders

injection: $(STAMP) ## make calls of runner, server, workers and programs fail (full disk, EIO, ...), each kind 20 times; needs a C compiler
	$(BIN)/python scripts/fault_injection.py

injection-short: $(STAMP) ## the same for 45 seconds, for CI
	$(BIN)/python scripts/fault_injection.py --seconds 45 --seed 1 --short

fuzz: $(STAMP) ## many random studies, files and schedules (EXAMPLES=2000 for each of 16 tests)
	TUNECTL_FUZZ_EXAMPLES=$(or $(EXAMPLES),2000) $(BIN)/pytest -q -n 2 --timeout 0 tests/*/test_fuzz*.py

fuzz-folders-short: $(STAMP) ## the same with as many calls as half a minute allows, for CI
	$(BIN)/python scripts/fuzz_folders.py --seconds 25 --seed 1

fuzz-folders: $(STAMP) ## damage the files of study folders one by one, and call every command on them (CALLS=20000)
	$(BIN)/python scripts/fuzz_folders.py --calls $(or $(CALLS),20000)

gpu: $(STAMP) ## prove on a GPU what can be shown nowhere else; without one it says so
	$(BIN)/python scripts/prove_gpu.py

bench: $(STAMP) ## measure start-up, runner, loop, lines and scale, each beside a reference from the same run
	@for script in scripts/bench_*.py; do echo "$$script"; $(BIN)/python $$script || exit 1; done
