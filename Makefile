# `make demo` and `make test` need Python 3.11 or later and make, nothing else.
# Everything is installed into .venv, with the versions and hashes of constraints.txt.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m
UV_VERSION := 0.13.9

# The stamp's name follows from everything that decides what is installed. So a second
# run installs nothing, and a changed lock file or a moved checkout is noticed.
READY := $(VENV)/ready-$(shell { pwd; $(PYTHON) -V; cat pyproject.toml constraints.txt; } 2>&1 | cksum | cut -d ' ' -f 1)

SOAKED := $(addprefix tests/,faults/test_soak.py faults/test_crash_points.py faults/test_fuzz.py integration/test_ledger_model.py)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check lint types format schema docs bench audit mutations soak lock upgrade clean

help:  ## Print this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1@\2/p' Makefile | awk -F @ '{ printf "%-17s%s\n", $$1, $$2 }'

demo: $(READY)  ## Import the example grants into an embedded ledger and show balances
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" sh examples/demo.sh

test: check  ## Run everything: lint, types, import contracts, tests
	$(RUN) pytest -n auto

check: lint types  ## Lint, types and import contracts, without the tests

lint: $(READY)  ## Check style and import direction
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(VENV)/bin/lint-imports --no-logo

types: $(READY)  ## Check types (mypy strict)
	$(RUN) mypy

format: $(READY)  ## Lay out the Python code
	$(RUN) ruff format

schema: $(READY)  ## Make sql/schema.sql from the migrations
	$(RUN) tests.schema_dump > sql/schema.sql.new && mv sql/schema.sql.new sql/schema.sql

docs: $(READY)  ## Make completions/ and man/ from the commands
	$(RUN) generators

bench: $(READY)  ## Run every benchmarks/bench_*.py (minutes)
	@set -e; for driver in benchmarks/bench_*.py; do $(RUN) benchmarks.$$(basename $$driver .py); done

lock: $(VENV)/uv-$(UV_VERSION)  ## Bring constraints.txt in line with pyproject.toml
	$(COMPILE)

upgrade: $(VENV)/uv-$(UV_VERSION)  ## Lock the newest versions that pyproject.toml allows
	$(COMPILE) --upgrade

mutations: $(READY)  ## Turn off each guard in a copy, and see that its tests fail (half an hour)
	$(RUN) tests.mutations

# Needs the network, and its own environment: what audits is not to be among what is audited.
audit: $(READY)  ## Look for known weaknesses of the pinned packages; SECURITY.md says why one is passed over
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --require-hashes --requirement constraints.txt --ignore-vuln CVE-2025-69872

# What looks for faults by chance looks sixty times as long as in `make test`.
soak: $(READY)  ## Look for faults longer: eight processes in a storm, models, crash points, fuzz
	TOKENCTL_TEST_SCALE=$${TOKENCTL_TEST_SCALE:-60} $(RUN) pytest -n auto -rP $(SOAKED)

clean:  ## Remove the virtual environment, caches and build results (not the demo's ledger)
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One resolution for every supported Python and system, with the hashes of every wheel,
# and without the address of the index that it came from.
COMPILE = $(VENV)/uv-$(UV_VERSION)/bin/uv pip compile pyproject.toml --extra embedded --extra dev \
	--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" --quiet --output-file constraints.txt

$(VENV)/uv-$(UV_VERSION): | $(READY)
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# pip can't check the hash of a local folder, so the checkout itself goes in second,
# without build isolation: hatchling comes from constraints.txt too.
$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "tokenctl needs Python 3.11 or later, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1)." >&2; \
	  echo "Name another one, for example: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "'$(PYTHON)' cannot make virtual environments. On Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	@test "$$($(VENV)/bin/python -V 2>&1)" = "$$($(PYTHON) -V 2>&1)" && grep -qsF '$(CURDIR)' $(VENV)/bin/pip \
	  || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV) (half a minute the first time) ..."
	@$(RUN) pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	@$(RUN) pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/ready-*
	@touch $@
