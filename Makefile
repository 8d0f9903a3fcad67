# `make run` and `make test` work on a fresh machine: the first one creates .venv.
PYTHON ?= python3
BIN := .venv/bin
# Coverage slows the tests down: CI measures it with COVERAGE=1.
COV := $(if $(COVERAGE),--cov --cov-report=)
# Compiled modules are cached, whatever the environment says: tests start hundreds of processes.
PYTEST := env -u PYTHONDONTWRITEBYTECODE PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -n 2 --dist worksteal --durations=10 $(COV)

.PHONY: run stack test test-all lint docs schema figures plots-page clean

run: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" stockpot run

# PostgreSQL (if it is installed), Prefect, MLflow and a worker, on this machine until Ctrl-C.
stack: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" python -m flows.stack

# All tests except examples, servers, most whole runs and long trainings.
test: .venv/installed
	$(if $(COVERAGE),$(BIN)/coverage erase)
	$(PYTEST)

# All tests of CI: `make test`, then the rest.
test-all: test
	$(PYTEST) $(if $(COVERAGE),--cov-append) -m "full and not slow"

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Generated files; a test compares them with the code.
schema: .venv/installed
	$(BIN)/python -c "from stockpot.config import json_schema; print(json_schema(), end='')" > docs/params.schema.json
	$(BIN)/python -c "from stockpot.config.reference import reference_page; print(reference_page(), end='')" > docs/reference/params.md

# Print README's table, from the results of `make run`; with --write the script updates README.
figures: .venv/installed
	$(BIN)/python benchmarks/readme_figures.py --write

# For `dvc plots` without a network: a page template that contains Vega's scripts, from vl-convert.
plots-page: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'vl-convert-python>=1.9,<2'
	mkdir -p .dvc/tmp
	$(BIN)/python -c "import vl_convert as vl; print('<!doctype html><meta charset=utf-8><title>dvc plots</title><script>(() => {' + vl.javascript_bundle('window.vegaEmbed = vegaEmbed;') + '})();</script>{plot_divs}')" > .dvc/tmp/plots.html
	$(BIN)/dvc config --local plots.html_template tmp/plots.html

.venv/installed: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv .stockpot .prefect checkpoints results site
