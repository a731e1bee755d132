# Everything runs from .venv, made from hashed lock files. `make` alone lists the targets.
PYTHON ?= python3
PORT ?= 8080
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help install run test check format bench test-engine run-engine sbom lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

install: $(STAMP) ## Make or refresh .venv with all that `make run` and `make test` need

$(STAMP): pyproject.toml requirements/dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@echo "Installing into $(VENV) (once; well under a minute with a near package index) ..." >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --no-deps --require-hashes --only-binary :all: -r requirements/dev.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

run: $(STAMP) ## Start the gateway on 127.0.0.1:8080 (PORT=...) with all it needs
	@exec $(BIN)/gateway dev --port $(PORT)

test: $(STAMP) ## Run the tests, on a real Postgres, a real Redis and a real small model, all started here
	@$(BIN)/python -m pytest $(ARGS)

check: $(STAMP) ## Format, lint, types, import contracts
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

format: $(STAMP) ## Rewrite the code as `make check` wants it
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(STAMP) ## Print the benchmark table: CPU of the gateway in ratio to nginx
	@$(BIN)/python -m bench $(ARGS)

test-engine: $(STAMP) ## Test against a real vLLM on the CPU (the first time prepares it: some minutes, 3 GB)
	@$(BIN)/python deploy/vllm-cpu/engine.py prepare
	@$(BIN)/python -m pytest tests/engine $(ARGS)

run-engine: $(STAMP) ## Like `make run`, with a real vLLM behind it (tiny model, 1,010,000 tokens)
	@exec $(BIN)/python deploy/vllm-cpu/engine.py run --port $(PORT)

sbom: $(STAMP) ## Write dist/sbom.json: what the image installs (CycloneDX)
	@mkdir -p dist && $(BIN)/python deploy/image/sbom.py > dist/sbom.json

lock: ## Resolve the lock files again (needs uv)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command 'make lock' pyproject.toml -o requirements/gateway.lock > /dev/null
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command 'make lock' --extra traces --extra s3 \
		pyproject.toml -o requirements/image.lock > /dev/null
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command 'make lock' --extra embedded --extra dev --extra parquet --extra s3 \
		--extra traces pyproject.toml requirements/embedded-model.in -o requirements/dev.lock > /dev/null
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command 'make lock' requirements/build.in -o requirements/build.lock > /dev/null
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command 'make lock' -c requirements/dev.lock \
		requirements/embedded-worker.in -o requirements/embedded-worker.lock > /dev/null

clean: ## Remove .venv and what `make run` keeps in ./var
	rm -rf $(VENV) var
