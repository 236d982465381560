# Two commands are enough: `make quickstart` installs hpo and runs a small study, `make test` installs and tests.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
TEST_PROCESSES ?= 2

.PHONY: install constraints docs picture quickstart test test-unit test-slow test-all chaos lint clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# Renew constraints.txt with the newest versions that pyproject.toml allows.
constraints:
	$(PYTHON) -m venv --clear build/constraints
	build/constraints/bin/python -m pip install --quiet --upgrade pip
	build/constraints/bin/python -m pip install --quiet --editable '.[dev]'
	(echo '# The exact versions that `make install` and the Dockerfile install (Linux, Python 3.11).'; \
	 echo '# Written by `make constraints`.'; \
	 build/constraints/bin/python -m pip list --format=freeze --exclude-editable --exclude pip) > constraints.txt

# Renew the pages that describe the command line and the study file.
docs: install
	$(BIN)/python -m hpo.cli.reference

# Renew the picture of the quickstart in the README.
picture: install
	$(BIN)/python -m benchmarks.picture docs/images/quickstart.svg

quickstart: install
	$(BIN)/hpo run studies/quickstart.toml

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One thread per process, or the processes would compete for the cores.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadgroup --durations=25

# Lint, then all tests but the slow ones.
test: lint
	$(PYTEST) -m "not slow"

test-unit: install
	$(PYTEST) -m "not slow" tests/unit

test-slow: install
	$(PYTEST) -m slow

# A second make, so that the parts run in this order under `make -j` too.
test-all:
	$(MAKE) test
	$(MAKE) test-slow

# Inject about 240 faults into running studies and print a table. Takes about twenty minutes.
chaos: install
	$(BIN)/python -m benchmarks.chaos

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
