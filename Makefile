# Two commands matter: `make run` shows the whole thing, `make test` checks it. Both need Python 3.11 and make, no more.
#   make run                 the demo; stays up until Ctrl-C     make run ARGS=--once    exits when done
#   make test                lint, types, import contracts, branch coverage of core, tests
#   make bench               measurements; prints ratios
#   make proof-inbound       100,000 webhooks against a connector that is killed 20 times: nothing lost, nothing twice
#   make proof-events        200 users, 100 events each, every kind of fault: each due event arrives once and in order
#   make prove               the crash test: 1,000 kills amid 100,000 webhooks, edits, events and faults; ARGS="--store URL"
#   make fmt                 formats and mends what can be mended

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=

.PHONY: run test bench proof-inbound proof-events prove fmt clean

run: $(VENV)/.installed
	$(BIN)/connector demo $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n 2 tests/core --cov=connector.core --cov-branch --cov-fail-under=100 --cov-report=term:skip-covered
	$(BIN)/pytest -n 5 --dist worksteal --ignore=tests/core $(ARGS)

bench: $(VENV)/.installed-dev
	$(BIN)/python -m tests.benchmarks $(ARGS)

proof-inbound: $(VENV)/.installed-dev
	$(BIN)/python -m tests.proofs inbound $(ARGS)

proof-events: $(VENV)/.installed-dev
	$(BIN)/python -m tests.proofs events $(ARGS)

prove: $(VENV)/.installed
	$(BIN)/connector prove --kills 1000 --events 100000 $(ARGS)

fmt: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV)

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.11 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[postgres]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed pyproject.toml
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@
