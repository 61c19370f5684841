# make quickstart   set up, train the built-in suite, show its board
# make test         set up, run the tests
# make browser      set up what make test needs, with Debian's package chromium, to look at pages in a browser
# make bench        set up with TRL, measure the speed of training: hours, see halobench/bench
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
QUICKSTART := .halobench/quickstart

.PHONY: setup quickstart test browser lint leaderboard bench

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "halobench needs Python 3.11 or later; name it with make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

quickstart: setup
	$(BIN)/halobench run quickstart --results $(QUICKSTART)
	$(BIN)/halobench results diff results $(QUICKSTART)

test: setup
	$(BIN)/python -m pytest

browser: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[browser]"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

leaderboard: setup
	$(BIN)/halobench leaderboard

bench: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python -m halobench.bench
	$(BIN)/python -m halobench.bench --models S --precisions fp32 --contestants halobench halobench-bare --rounds 20
	$(BIN)/python -m halobench.bench.sampling
