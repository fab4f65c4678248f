# make demo     a picture through Weighbridge in about a minute; no key needed
# make test     the tests, and what they need
# make test-postgres  the tests that need PostgreSQL, on the oldest and the newest that it may be; result into tests/results
# make prove    the proofs among the tests at their whole size: hours; results into tests/results
# make chaos    100,000 calls while everything fails that can, then the bill beside the upstream's own account; 20 minutes and more
# make serve    the server, with whatever weighbridge.toml says
# make check    ruff, mypy, import-linter
# make bench    processor time and latency beside nginx; with ARGS=--save into bench/results, docs and README
# make scale    the ledger in PostgreSQL with 10 million records: sizes, plans and times; 10 minutes and more, 20 GB of disk
# make chart    the Helm chart with each example of values: checked, and rendered into tests/deploy/rendered; needs helm
# make audit    asks for known vulnerabilities of what a server runs with
# make sbom     writes sbom.json: what a server runs with, with hashes, in CycloneDX
# make format   ruff's formatter
# make lock     pins requirements/*.txt anew
# make clean    removes what make has made
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-postgres prove chaos check format audit sbom bench scale chart lock clean

help:
	@sed -n 's/^# make /make /p' Makefile

demo: $(VENV)/.runs
	@$(BIN)/weighbridge demo $(ARGS)

serve: $(VENV)/.runs
	@$(BIN)/weighbridge serve $(ARGS)

test: $(VENV)/.tests
	@$(BIN)/python -m pytest $(ARGS)

test-postgres: $(VENV)/.tests
	@WEIGHBRIDGE_PROOFS=whole $(BIN)/python -m tests.postgres_versions $(ARGS)

prove: $(VENV)/.tests
	@WEIGHBRIDGE_PROOFS=whole $(BIN)/python -m pytest -m proof --timeout 0 $(ARGS)

chaos: $(VENV)/.tests
	@WEIGHBRIDGE_PROOFS=whole $(BIN)/python -m tests.chaos $(ARGS)

check: $(VENV)/.checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.checks
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

audit: $(VENV)/.audits
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off -r requirements/main.txt

sbom: $(VENV)/.audits
	@$(BIN)/python -W ignore::UserWarning -m cyclonedx_py requirements --pyproject pyproject.toml --mc-type application --output-reproducible -o sbom.json requirements/main.txt

bench: $(VENV)/.tests
	@$(BIN)/python -m bench $(ARGS)

scale: $(VENV)/.tests
	@$(BIN)/python -m bench.scale $(ARGS)

chart: $(VENV)/.tests
	@$(BIN)/python -m tests.deploy.chart

lock: $(VENV)/.checks
	@scripts/lock $(BIN)

clean:
	rm -rf $(VENV) node_modules tests/sdk/node_modules tests/postgres_versions/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The package itself is put on the path by a .pth file: nothing is built, nothing unpinned is fetched.
$(VENV)/.runs: requirements/main.txt scripts/venv scripts/install
	@scripts/venv $(PYTHON) $(VENV)
	@echo "Installing Weighbridge's dependencies into $(VENV) …"
	@$(PIP) -r requirements/main.txt
	@scripts/install $(VENV)
	@touch $@

$(VENV)/.tests: $(VENV)/.runs requirements/test.txt tests/sdk/package-lock.json scripts/test-tools
	@echo "Installing what the tests need …"
	@$(PIP) -r requirements/test.txt
	@scripts/test-tools $(BIN)
	@touch $@

$(VENV)/.checks: $(VENV)/.runs requirements/test.txt requirements/check.txt
	@$(PIP) -r requirements/test.txt -r requirements/check.txt
	@touch $@

$(VENV)/.audits: $(VENV)/.checks requirements/audit.txt
	@$(PIP) -r requirements/test.txt -r requirements/check.txt -r requirements/audit.txt
	@touch $@
