# Everything a developer does. Only Python 3.11+ and make are needed; `make help` lists the targets.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

STAMP := $(VENV)/installed.txt
LOCK_STAMP := .venv-lock/installed.txt
AUDIT_STAMP := .venv-audit/installed.txt
SDK_STAMP := .venv-sdk/installed.txt
MUTATION_STAMP := .venv-mutation/installed.txt

.DEFAULT_GOAL := help
.PHONY: help env run test simulate lint bench reliability drills soak mutants mutation audit format lock schema readme clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(STAMP) ## create .venv from the hash-pinned lock (does nothing when it is current)

$(STAMP): requirements/test.txt
	@$(PYTHON) -c "import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else 'Python 3.11, 3.12 or 3.13 is needed; try: make PYTHON=python3.12')"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --quiet --require-hashes -r requirements/test.txt
	@cp requirements/test.txt $@

run: env ## start the bot, e.g. make run ARGS="--for 60"
	$(BIN)/python -m src.bot $(ARGS)

test: env ## run all tests; 90 % branch coverage overall, 100 % in the engine
	$(BIN)/python -m pytest --cov --timeout=120 --numprocesses auto --dist worksteal $(ARGS)
	$(BIN)/python -m coverage report --include='src/engine/*' --fail-under=100

simulate: env ## live seeded faults in virtual time, e.g. make simulate ARGS="--seeds 300 --hours 0.0834 --jobs 2"
	$(BIN)/python -m src.bot simulate $(ARGS)

lint: env ## check style, types and the arrows between rooms
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy --strict src scripts
	$(BIN)/lint-imports

mutation: $(MUTATION_STAMP) ## mutation scores of the modules on which money depends, e.g. make mutation ARGS="--only pnl"
	$(dir $(MUTATION_STAMP))$(notdir $(BIN))/python -m tests.reliability.mutation $(ARGS)

$(MUTATION_STAMP): requirements/mutation.txt
	$(PYTHON) -m venv --clear $(dir $@)
	$(dir $@)$(notdir $(BIN))/python -m pip install --quiet --quiet --require-hashes -r requirements/mutation.txt
	@cp requirements/mutation.txt $@

mutants: env ## break the bot in every known way and see the simulation notice it, e.g. make mutants ARGS="--jobs 4"
	$(BIN)/python -m tests.reliability.mutants $(ARGS)

bench: env $(SDK_STAMP) ## run the benchmarks and print one table, e.g. make bench ARGS="order rest --quick"
	@$(BIN)/python -m benchmarks $(ARGS)

$(SDK_STAMP): requirements/bench-sdk.txt
	$(PYTHON) -m venv --clear $(dir $@)
	$(dir $@)$(notdir $(BIN))/python -m pip install --quiet --quiet --require-hashes -r requirements/bench-sdk.txt
	@cp requirements/bench-sdk.txt $@

reliability: env $(if $(filter full,$(SIZE)),$(MUTATION_STAMP)) ## run the reliability tools and write RELIABILITY.md; SIZE=full is what a release gets
	$(BIN)/python -m tests.reliability.everything --size $(or $(SIZE),quick) $(ARGS)

drills: env ## kill, stop and freeze the real bot, e.g. make drills ARGS="--count 20"
	$(BIN)/python -m tests.reliability.drills kill9 --count 200 $(ARGS)
	$(BIN)/python -m tests.reliability.drills stop --count 60 $(ARGS)
	$(BIN)/python -m tests.reliability.drills frozen --count 40 $(ARGS)

soak: env ## run the bot at ten times the usual message rate and watch its memory, e.g. ARGS="--minutes 30"
	$(BIN)/python -m tests.reliability.soak $(ARGS)

format: env ## rewrite the code in the project's style
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

readme: env ## check both READMEs; ARGS="--write" renews their tables, ARGS="--run" runs their commands
	$(BIN)/python scripts/check_readme.py $(ARGS)

schema: env ## rewrite config.schema.json
	$(BIN)/python -m src.config --schema > config.schema.json.new
	mv config.schema.json.new config.schema.json

lock: $(LOCK_STAMP) ## regenerate requirements/*.txt, e.g. make lock ARGS="--upgrade"
	$(dir $(LOCK_STAMP))$(notdir $(BIN))/python scripts/lock.py $(ARGS)

$(LOCK_STAMP): requirements/lock.txt
	$(PYTHON) -m venv --clear $(dir $@)
	$(dir $@)$(notdir $(BIN))/python -m pip install --quiet --require-hashes -r requirements/lock.txt
	@cp requirements/lock.txt $@

audit: env $(AUDIT_STAMP) ## look for known vulnerabilities in what the bot runs on (says so when nobody can be asked)
	PATH="$(CURDIR)/$(dir $(AUDIT_STAMP))$(notdir $(BIN)):$$PATH" \
		$(BIN)/python -m pytest -q -rs tests/security/test_supply.py -k known_vulnerability

$(AUDIT_STAMP): requirements/audit.txt
	$(PYTHON) -m venv --clear $(dir $@)
	$(dir $@)$(notdir $(BIN))/python -m pip install --quiet --require-hashes -r requirements/audit.txt
	@cp requirements/audit.txt $@

clean: ## remove the environments and caches (never data/)
	rm -rf .venv .venv-audit .venv-lock .venv-mutation .venv-sdk .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
