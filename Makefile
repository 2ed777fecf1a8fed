.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Tests wait more than they compute: three processes keep two cores busy.
TEST_PROCESSES ?= 3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTENSION := $(VENV)/.native
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

.PHONY: help setup run native native-deny native-test test unit coverage faults appends fuzz fuzz-messages fuzz-native s3 tamper lint docs format protos lock bench clean

help: ## list these targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## make .venv with everything that running, testing and developing needs

$(READY): requirements.lock pyproject.toml
	@echo "making $(VENV) with everything that is needed: this takes a minute or two"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Built anew where its sources changed. Where it cannot be, everything runs without it.
$(EXTENSION): $(READY) $(wildcard native/src/*.rs) native/Cargo.toml native/Cargo.lock
	@if ! command -v cargo >/dev/null; then echo "cargo is not installed, so grpcio takes connections"; \
	else echo "building the listener in native code: this takes two minutes the first time"; touch $@; \
	$(BIN)/python -m tools.native || echo "it could not be built, so grpcio takes connections; make native tries again"; fi

run: setup $(EXTENSION) ## start the whole mesh here, with a development CA; Ctrl-C stops it; HOST=ADDRESS lets other machines reach it, PORT=FIRST takes other ports
	@$(BIN)/python -m deploy.dev $(if $(HOST),--host $(HOST)) $(if $(filter command,$(origin PORT)),--port $(PORT))

native: setup ## build the listener in native code, where cargo is there; everything runs without it
	@if command -v cargo >/dev/null; then $(BIN)/python -m tools.native && touch $(EXTENSION); \
	else echo "native: cargo is not installed, so grpcio takes connections"; fi

test: setup ## run every test
	$(BIN)/python -m pytest --numprocesses=$(TEST_PROCESSES) --dist=loadgroup --no-loadscope-reorder

native-deny: setup ## licences and sources of what our crates depend on, by native/deny.toml
	$(BIN)/python -m tools.cargo_deny

native-test: native ## run what tests meshes, security and faults, with every service on the native listener
	$(foreach service,CRYPTO KEYSTORE SECRETS AUDIT,STRONGROOM_$(service)__LISTENERS__ENGINE=native) \
		$(BIN)/python -m pytest --numprocesses=$(TEST_PROCESSES) --dist=loadgroup --no-loadscope-reorder \
		tests/mesh tests/security tests/faults

unit: setup ## run the tests that need no mesh; they end within a minute
	$(BIN)/python -m pytest --numprocesses=$(TEST_PROCESSES) tests/unit

coverage: setup ## what of services and client the tests without a mesh reach, line by line in .coverage_html
	$(BIN)/coverage run -m pytest -q tests/unit tests/vectors
	$(BIN)/coverage html --quiet --directory .coverage_html
	$(BIN)/coverage report

faults: setup ## kill rotations 2,000 times, at every step of every rotator
	STRONGROOM_FAULT_RUNS=200 $(BIN)/python -m pytest tests/faults/test_rotation_killed.py

appends: setup ## end the direct way into the audit log at 500 moments; STRONGROOM_APPEND_SEED chooses which
	STRONGROOM_APPEND_CUTS=500 $(BIN)/python -m pytest tests/faults/test_appends_cut.py

storm: setup ## failures of every kind over a replicated mesh for twenty minutes; STRONGROOM_STORM_SEED chooses which
	STRONGROOM_STORM_SECONDS=$${STRONGROOM_STORM_SECONDS:-1200} STRONGROOM_STORM_CALLS=$${STRONGROOM_STORM_CALLS:-100} \
		$(BIN)/python -m pytest -s tests/faults/storm/whole.py

fuzz: setup ## send hostile requests to every method for ten minutes; STRONGROOM_FUZZ_SEED chooses which
	STRONGROOM_FUZZ_SECONDS=600 $(BIN)/python -m pytest --timeout=1200 tests/security/test_fuzz.py tests/doors/test_hostile.py

fuzz-messages: setup ## fuzz header and body of encrypted messages, ten minutes each; STRONGROOM_FUZZ_SECONDS chooses how long; keeps the corpus
	$(BIN)/python -m tests.fuzz --seconds $${STRONGROOM_FUZZ_SECONDS:-600}

fuzz-native: setup ## fuzz what the native listener reads before Python has it; keeps the corpus
	$(BIN)/python -m tests.fuzz.native_calls --seconds $${STRONGROOM_FUZZ_SECONDS:-600}

s3: setup ## build an S3 store, SeaweedFS, and encrypt its objects under keys of the mesh; building takes minutes
	$(BIN)/python -m pytest tests/doors/s3_whole.py

tamper: setup ## write to every column of every store under a running mesh
	STRONGROOM_TAMPER_SECONDS=36000 STRONGROOM_TAMPER_SEED=0 $(BIN)/python -m pytest tests/security/test_stores.py tests/unit/audit/test_columns.py

lint: setup ## formatting, lints, types, layers, contracts, stubs, lock and the documentation's links
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/python -m tools.stubs --check
	$(BIN)/python -m tools.lock --check
	$(SITE) --quiet --site-dir $(VENV)/.site

docs: setup ## build the documentation as a site in site/, every link checked, without a network
	$(SITE) --site-dir site
	@echo "read it: site/index.html (search needs a server: $(BIN)/python -m http.server --bind 127.0.0.1 --directory site)"

format: setup ## format Python and protos
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format -w

protos: setup ## generate the Python stubs from protos/
	$(BIN)/python -m tools.stubs

lock: setup ## pin every dependency again, with hashes
	$(BIN)/python -m tools.lock

bench: setup ## run every benchmark, a table each
	$(BIN)/python -m bench

clean: ## remove the environment, caches and the development mesh's data
	rm -rf $(VENV) site .strongroom .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis .coverage .coverage_html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
