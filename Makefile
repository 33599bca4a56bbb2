# `make demo` and `make test` do all the set-up on a fresh Debian or Ubuntu with Python 3.11 or 3.12.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := demo
RESPONSES := demo-responses
export PYTHONNOUSERSITE := 1
# One more than cores: jobs of whole runs often wait, for SLURM or for each other.
WORKERS := $(shell expr $$(nproc) + 1)
PYTEST_OPTIONS := -n $(WORKERS) --max-worker-restart=2 --dist loadfile --no-loadscope-reorder

.PHONY: demo demo-responses test coverage test-demo lint docs setup

demo: setup $(DEMO)/bids
	$(BIN)/mettrail run $(DEMO)/bids $(DEMO)/out --settings config/demo.yaml
	@$(BIN)/python scripts/show_tables.py $(DEMO)/out

# Every kind of response once, true masks given.
demo-responses: setup $(RESPONSES)/bids
	$(BIN)/mettrail run $(RESPONSES)/bids $(RESPONSES)/out --settings config/responses.yaml
	@$(BIN)/python scripts/show_tables.py $(RESPONSES)/out

$(DEMO)/bids: | $(READY)
	$(BIN)/mettrail phantom --spec demo --seed 1 --out $@

$(RESPONSES)/bids: | $(READY)
	$(BIN)/mettrail phantom --spec responses --seed 1 --out $@

test: setup
	$(BIN)/python -m pytest $(PYTEST_OPTIONS) -m "not demo"

# How much of the library the tests run, but for whole runs, which counting slows most: .coverage/report.txt.
coverage: setup
	mkdir -p .coverage
	$(BIN)/python -m coverage run -m pytest $(PYTEST_OPTIONS) -m "not demo and not whole"
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report > .coverage/report.txt
	@tail -1 .coverage/report.txt

# The demonstration against its truth, with the shipped models and with true masks: a quarter of an hour on two cores.
test-demo: setup
	$(BIN)/python -m pytest -m demo

# Snakemake needs a dataset to look at the rules.
lint: setup $(DEMO)/bids
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint --configfile config/demo.yaml

# The documentation as a site: site/index.html.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The pins of a run once more, where conda can read them.
envs/python.yaml: requirements.txt
	sed -i '/^      - /d' $@
	sed -n 's/^[A-Za-z].*/      - &/p' requirements.txt >> $@

setup: $(READY)

$(READY): requirements.txt requirements-dev.txt pyproject.toml scripts/setup.sh
	@bash scripts/setup.sh $(VENV)
	@touch $@
