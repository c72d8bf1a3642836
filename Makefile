# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# DVC runs the stages' commands through the shell: they have to find custom-gaze.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo deps experiments fuzz test types tests test-long test-matrix test-stories test-remote mlflow lock

# What the demo asks for beside params.yaml: its second session, and less of what takes long.
DEMO_PERSON := 17
DEMO_CHANGES := -S 'evaluate.sessions=[demo-day2]' -S augment.samples=4

demo: .venv/installed
	@custom-gaze demo --if-missing --person $(DEMO_PERSON) --session demo-day1 --day 1 --grid 5x5
	@custom-gaze demo --if-missing --person $(DEMO_PERSON) --session demo-day2 --day 2 --grid 4x4
	@if dvc status --quiet dvc.yaml && grep -qs demo-day2 data/index.csv; \
	then echo "Everything is up to date: nothing to do."; \
	else dvc exp run $(DEMO_CHANGES); fi
	@echo; custom-gaze report

# Each experiment's figures, and the parameters that differ.
experiments: .venv/installed
	@custom-gaze experiments

# One process more than cores, since tests of DVC and sshd wait for other processes; a thread each.
PYTEST := OMP_NUM_THREADS=1 pytest --dist worksteal --maxprocesses 5 \
  -n $$(( $$(getconf _NPROCESSORS_ONLN) + 1 ))

test: .venv/installed
	@ruff check .
	@ruff format --check .
	@sh tests/install_debian.sh
	@$(MAKE) --no-print-directory --jobs 2 types tests

types: .venv/installed
	@mypy

# MARKED='not long or story' adds the two long stories, as .ci/run does.
MARKED := not long
tests: .venv/installed
	@$(PYTEST) -m '$(MARKED)'

# A week of one person, and `custom-gaze remote` from end to end.
test-stories: .venv/installed
	@sh tests/install_debian.sh
	@$(PYTEST) -m story

# What `make test` leaves out: these stories, the whole pipeline in a clone, the benches' quick forms,
# the largest networks, SLURM, and whatever is killed at each of its steps.
test-long: .venv/installed
	@sh tests/install_debian.sh
	@$(PYTEST) -m long

# The tests of numbers as other processors compute them, with other threads and other seeds.
test-matrix: .venv/installed
	@$(BIN)/python tests/matrix.py

# Files mutated by the thousand: what `make test` tries a few hundred times.
fuzz: .venv/installed
	@FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-10000} $(PYTEST) tests/common/test_fuzz.py

# `custom-gaze remote` alone, against real sshd processes on loopback.
test-remote: .venv/installed
	@sh tests/install_debian.sh
	@$(PYTEST) tests/remote

# Write into dvc.yaml and pretrain/dvc.yaml which code each stage depends on.
deps: .venv/installed
	@$(BIN)/python tests/stage_deps.py

mlflow: .venv/installed
	@custom-gaze mlflow

# Resolve pyproject.toml anew, for every platform and Python at once.
lock: .venv/installed
	@$(BIN)/python -m pip install --quiet uv==0.13.9
	@uv pip compile --quiet --universal --python-version 3.10 --extra dev --no-header pyproject.toml -o requirements.txt

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("custom-gaze needs Python 3.10 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	@touch $@
