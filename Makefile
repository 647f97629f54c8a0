# Every target sets up what it needs: `make demo` or `make test` on a fresh checkout is enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
READY := .venv/.ready
# Bytecode is made of what is imported, not of all of torch and numba: it halves the time.
PIP_INSTALL := $(BIN)/pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt
TYPES := build/types/clipshards
# A file's tests share what they made, and stay in one process.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile

.PHONY: demo test test-deep test-floors check format docs clean

demo: $(INSTALLED)
	$(BIN)/clipshards demo

test: $(READY)
	$(BIN)/pytest -m "not deep" $(PARALLEL)

test-deep: $(READY)
	$(BIN)/pytest $(PARALLEL)

check: $(READY) $(TYPES)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPES)/packer $(TYPES)/readers $(TYPES)/tools
	$(BIN)/mypy tests benchmarks
	$(BIN)/pytest -q tests/test_imports.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	$(BIN)/python tests/test_docs.py > docs/cli.tmp && mv docs/cli.tmp docs/cli.md

# The oldest dependencies that pyproject.toml allows, in an environment of their own.
test-floors: constraints-floors.txt
	$(PYTHON) -m venv .venv-floors
	.venv-floors/bin/pip install --no-compile --quiet --disable-pip-version-check -c constraints-floors.txt -e ".[test]"
	.venv-floors/bin/pytest -m "not deep" $(PARALLEL)

# The folders are packages of `clipshards` only once installed; the links show them to mypy so.
$(TYPES):
	mkdir -p $(TYPES)
	for top in packer readers tools; do ln -sfn ../../../$$top $(TYPES)/$$top; done

$(INSTALLED): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) -e .
	touch $(INSTALLED)

$(READY): $(INSTALLED)
	$(PIP_INSTALL) -e ".[dev]"
	touch $(READY)

clean:
	rm -rf .venv .venv-floors build *.egg-info demo-data
