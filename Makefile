# Needs make and Python 3.11 or newer, nothing else. `make` alone lists the verbs.
.DEFAULT_GOAL := help
SHELL := /bin/sh
# A recipe that fails must not leave a target that looks made.
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Which interpreter makes the environment; when empty, scripts/find_python.sh looks for one.
PYTHON ?=
PYTEST_ARGS ?=
# What `make lock` passes on: --upgrade, or --upgrade-package NAME.
LOCK_ARGS ?=
# What `make faults` passes on: --cases N, --seed S, --from N, --jobs N, --case NAME.
FAULTS_ARGS ?=

# What ruff reads; what mypy reads strictly.
LINTED := .
TYPED := app stripe_sandbox main.py sandbox_mode.py scripts

.PHONY: help install run test test-all test-mongodb test-stripe-mock test-stripe faults check lint types format coverage lock image-check clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## Make .venv and install the locked packages

$(STAMP): requirements-dev.lock
	@python=$$(PYTHON='$(PYTHON)' sh scripts/find_python.sh) && "$$python" scripts/make_venv.py $(VENV) $<

run: $(STAMP) ## Serve with the Stripe sandbox and the embedded store (PORT=8004 by default)
	@$(BIN)/python main.py --sandbox

# A process for each processor; one that is done takes over tests from another. They stay in their order, so that
# a file's programs and browser are seldom started twice.
ALL_AT_ONCE := -n auto --dist worksteal
# On our sandbox and the embedded store, whatever the other suites find in the environment.
OFFLINE := env -u STRIPE_TEST_KEY -u TEST_MONGODB_URL $(BIN)/python -m pytest

# A narrowed run has the slow tests that it names, and stays in one process, where a debugger can be used.
test: $(STAMP) ## The tests for every change; PYTEST_ARGS="-k refund -x" narrows them
	$(OFFLINE) $(or $(PYTEST_ARGS),$(ALL_AT_ONCE) -m 'not slow')

test-all: $(STAMP) ## These and the slow tests: packaging, whole programs, more faults
	$(OFFLINE) $(ALL_AT_ONCE) $(PYTEST_ARGS)

test-mongodb: $(STAMP) ## The integration, api and fault tests on a real database server
	$(BIN)/python scripts/test_mongodb.py $(if $(IF_ANY),--if-any) $(PYTEST_ARGS)

test-stripe-mock: $(STAMP) ## Every request to Stripe, judged by Stripe's own mock
	$(BIN)/python scripts/test_stripe_mock.py $(if $(IF_ANY),--if-any) $(PYTEST_ARGS)

test-stripe: $(STAMP) ## The ways to pay in Stripe's test mode (STRIPE_TEST_KEY=sk_test_...)
	@test -n "$$STRIPE_TEST_KEY" || { echo 'Set STRIPE_TEST_KEY to a secret key of test mode.' >&2; exit 2; }
	$(BIN)/python -m pytest -v --force-enable-socket tests/stripe_test_mode $(PYTEST_ARGS)

faults: $(STAMP) ## The fault laboratory's deep set; FAULTS_ARGS="--cases 1000 --jobs 2", see docs/faults.md
	$(BIN)/python -m tests.faults.deep $(FAULTS_ARGS)

check: lint types ## lint and types

lint: $(STAMP) ## ruff, its formatter in checking mode, hadolint
	$(BIN)/ruff check $(LINTED)
	$(BIN)/ruff format --check $(LINTED)
	$(BIN)/hadolint Dockerfile

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy $(TYPED)

format: $(STAMP) ## Fix what ruff can fix, and format the code
	$(BIN)/ruff check --fix $(LINTED)
	$(BIN)/ruff format $(LINTED)

coverage: $(STAMP) ## The test suite with branch coverage, and the lines it missed
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

image-check: $(STAMP) ## Run the Dockerfile's steps without Docker and look at the result
	$(BIN)/python scripts/check_image_steps.py

# The runtime lock comes first and binds the other, so that tests run on the versions that are shipped.
# One resolution for every Python and system (--universal): the same files serve the laptop and the image.
UV_COMPILE := .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

lock: $(STAMP) ## Re-make both locks from requirements*.txt (LOCK_ARGS=--upgrade for newer versions)
	@test -x .venv-lock/bin/uv || { $(BIN)/python -m venv .venv-lock && .venv-lock/bin/python -m pip install --quiet 'uv>=0.9,<1'; }
	$(UV_COMPILE) $(LOCK_ARGS) --output-file requirements.lock requirements.txt
	$(UV_COMPILE) $(LOCK_ARGS) --constraints requirements.lock --output-file requirements-dev.lock requirements-dev.txt

clean: ## Remove the environment, the caches and the reports
	rm -rf .servers $(VENV) $(VENV).guard .venv-lock .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov
	find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
