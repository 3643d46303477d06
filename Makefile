# "make demo" shows what this does, "make test" that it works; "make help" lists the rest.
# Both make .venv on first use, and again only after pyproject.toml or constraints.txt has changed.

PYTHON ?= python3
DATA ?= samples/artworks
ARGS ?=

VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

PACKAGING := pyproject.toml constraints.txt
# A stamp says: what this extra needs is installed. The demo needs no more than a user's installation.
RUNTIME := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
BENCH := $(VENV)/.installed-bench
# The tool that lists packages has some of its own, which are no part of the list.
SBOM := .venv-sbom

PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check $(if $(CI),--quiet) -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench sbom clean distclean

help:  ## List the targets
	@echo "Targets (PYTHON=$(PYTHON) makes .venv):"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1@\2/p' Makefile | awk -F@ '{ printf "%-18s%s\n", $$1, $$2 }'

demo: $(RUNTIME)  ## Index the sample artworks, scan the sample generated images, write report.html
	@rm -rf .demo report.html && mkdir .demo
	$(BIN)/detector index build samples/artworks --out .demo/art.index
	@# Exit code 1 means: something was found, which is what a demo is for.
	$(BIN)/detector scan samples/generated --index .demo/art.index --html report.html || test $$? -eq 1

test: $(DEV)  ## Run the tests; ARGS="-k name" goes to pytest
	$(BIN)/python -m pytest $(ARGS)

lint: $(DEV)  ## Check formatting, lint rules and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(DEV)  ## Format the code, and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(BENCH)  ## Measure speed and accuracy on DATA=folder beside peers
	$(BIN)/python -m tests.benchmarks "$(DATA)" $(ARGS)

sbom: $(RUNTIME)  ## List what is installed, with versions and licences, as CycloneDX in dist/ (best from a fresh clone)
	@test -x $(SBOM)/$(notdir $(BIN))/cyclonedx-py || $(PYTHON) -m venv $(SBOM)
	$(SBOM)/$(notdir $(BIN))/python -m pip install --disable-pip-version-check --quiet -c constraints.txt cyclonedx-bom
	@mkdir -p dist
	$(SBOM)/$(notdir $(BIN))/cyclonedx-py environment $(VENV) --pyproject pyproject.toml --output-format JSON \
	  --output-file "dist/replication_detector-$$($(BIN)/python -c 'import detector; print(detector.__version__)').cdx.json"
	@ls dist/*.cdx.json

clean:  ## Remove outputs and caches, keep .venv
	rm -rf .demo .bench report.html findings.jsonl build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find detector index samples tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## Remove .venv as well
	rm -rf $(VENV) $(SBOM)

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "$(PYTHON) is missing or older than Python 3.10. Name a newer one: make PYTHON=python3.12 …" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): $(PACKAGING) | $(VENV)/pyvenv.cfg
	@echo "Installing into $(VENV): a few minutes and gigabytes the first time, torch being most of it."
	$(PIP_INSTALL) -e .
	@touch $@

$(DEV): $(PACKAGING) | $(VENV)/pyvenv.cfg
	@echo "Installing into $(VENV): a few minutes and gigabytes the first time, torch being most of it."
	$(PIP_INSTALL) -e ".[test,dev]"
	@touch $(RUNTIME) $@

$(BENCH): $(PACKAGING) | $(VENV)/pyvenv.cfg
	$(PIP_INSTALL) -e ".[bench,test]"
	@touch $(RUNTIME) $@
