# The verbs of the project. Bare `make` lists them.
PYTHON ?= python3
PORT ?= 8000
UV ?= uv

VENV := .venv
BIN := $(VENV)/bin
PACKAGES := guideline fhir_mappings cards cds_service

# Stamps: an unchanged lock file means nothing to install.
RUN_READY := $(VENV)/.ready-to-run
DEV_READY := $(VENV)/.ready-to-develop

.DEFAULT_GOAL := help
.PHONY: help run test slow exhaustive fuzz check format page mutate samples bench sbom lock clean

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUN_READY) ## the service in demo mode on http://127.0.0.1:8000 (PORT=9000 for another port)
	@exec $(BIN)/jaki-cds serve --demo --host 127.0.0.1 --port $(PORT)

test: $(DEV_READY) ## every quick test
	$(BIN)/python -m pytest -n auto --dist worksteal

slow: $(DEV_READY) ## the long tests that make test leaves out
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow

exhaustive: $(DEV_READY) ## the tests that take many minutes, for a release
	$(BIN)/python -m pytest -n auto --dist worksteal -m exhaustive
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'not slow and not exhaustive' --hypothesis-profile=thorough

fuzz: $(DEV_READY) ## fuzzes JSON, tokens, URLs and doses, guided by coverage (SECONDS=600 for longer)
	$(BIN)/python tests/fuzz.py --seconds $(or $(SECONDS),60)

check: $(DEV_READY) ## formatter, linter, type checker, security linter, table lint, layer test
	$(BIN)/ruff format --check $(PACKAGES) tests
	$(BIN)/ruff check $(PACKAGES) tests
	$(BIN)/mypy --strict $(PACKAGES)
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive $(PACKAGES)
	$(BIN)/jaki-cds lint
	$(BIN)/python -m pytest -q tests/test_layers.py

format: $(DEV_READY) ## lets the formatter and the linter correct what they can
	$(BIN)/ruff format $(PACKAGES) tests
	$(BIN)/ruff check --fix $(PACKAGES) tests

page: $(DEV_READY) ## regenerates the generated pages of docs/ and samples/
	$(BIN)/python -m cds_service.settings docs/settings.md
	$(BIN)/python -m guideline.render docs/guideline.md
	$(BIN)/python -m guideline.coverage docs/coverage.md
	$(BIN)/python -m fhir_mappings.render docs/facts.md
	$(BIN)/python -m cds_service.conformance tests/conformance.csv docs/conformance.md
	$(BIN)/python -m cds_service.samples_index samples

mutate: $(DEV_READY) ## makes the tables wrong in one place at a time; an example must notice each
	$(BIN)/python -m guideline.mutate

samples: $(DEV_READY) ## answers every sample case anew and stores the answers (git diff shows what changed)
	$(BIN)/jaki-cds replay samples --update

bench: $(DEV_READY) ## the benchmark table (QUICK=1: half a minute; RUNS=3; PROFILE=200: where a call's time goes; SOAK=20000; SCALING=1)
	$(BIN)/python tests/bench.py $(if $(QUICK),--quick) $(if $(RUNS),--runs $(RUNS)) $(if $(PROFILE),--profile '$(PROFILE)') \
		$(if $(SOAK),--soak $(SOAK)) $(if $(SCALING),--scaling)

sbom: $(DEV_READY) ## build/sbom.json: each package that is shipped, version and licence (CycloneDX)
	@rm -rf build/shipped build/sbom && mkdir -p build && $(PYTHON) -m venv --without-pip build/shipped
	@$(BIN)/python -m pip --python build/shipped/bin/python install --quiet --disable-pip-version-check \
		--require-hashes -r requirements.lock
	@$(PYTHON) -m venv build/sbom
	@build/sbom/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-sbom.lock
	@build/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file build/sbom.json build/shipped/bin/python
	@$(BIN)/python tests/sbom.py requirements.lock build/sbom.json

lock: ## makes the lock files anew from pyproject.toml (needs uv)
	printf 'setuptools>=77\n' | $(UV) pip compile pyproject.toml - --quiet --universal --python-version 3.11 \
		--generate-hashes --no-strip-extras --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
		--output-file requirements.lock
	printf 'setuptools>=77\n' | $(UV) pip compile pyproject.toml - --quiet --universal --python-version 3.11 \
		--generate-hashes --no-strip-extras --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
		--extra dev --constraint requirements.lock --output-file requirements-dev.lock
	printf 'cyclonedx-bom>=7.0\n' | $(UV) pip compile - --quiet --universal --python-version 3.11 \
		--generate-hashes --no-strip-extras --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
		--output-file requirements-sbom.lock

clean: ## removes everything that was made here, .venv included
	rm -rf $(VENV) .bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo 'make: $(PYTHON) is not Python 3.11, 3.12 or 3.13. Name one: make PYTHON=python3.12 ...' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUN_READY): requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEV_READY): requirements-dev.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@ $(RUN_READY)
