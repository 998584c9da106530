# On a machine with Python 3.11 (or newer) and pip, `make demo` and `make test` set up all they need, in .venv.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
LOCK := requirements/dev.lock
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format proto bench lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with exact versions of everything (the others do it when needed)

demo: $(READY) ## speech in, live captions out: server, client and embedded model on a bundled recording
	@$(BIN)/streamtrans demo $(ARGS)

test: $(READY) ## run all tests; ARGS="tests/wire -k stubs" runs some
	@$(BIN)/python -m pytest $(ARGS)

check: $(READY) ## lint, format, types, rooms, generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest tests/wire/test_stubs.py

format: $(READY) ## rewrite the sources in the common format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(READY) ## generate streamtrans/v1 from proto/
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. --grpc_python_out=. \
		proto/streamtrans/v1/streamtrans.proto

bench: $(READY) ## measure speed, memory and size here, into benchmarks/results; ARGS="realtime --streams 1" measures one
	@$(BIN)/streamtrans bench $(or $(ARGS),routine)

lock: $(READY) ## write requirements/dev.lock from what is installed in .venv
	$(BIN)/python requirements/lock.py

clean: ## remove caches and built packages (`rm -rf .venv` also starts the set-up anew)
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find streamtrans clients tests benchmarks requirements -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and alone, so that pip takes the build this machine is offered and the rest accepts it.
$(READY): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("streamtrans needs Python 3.11 or newer, this is %d.%d: say" \
		" make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		echo "making $(VENV)"; \
		$(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || { \
			$(PYTHON) -m venv --clear --without-pip $(VENV) && \
			$(PYTHON) -m pip --python $(BIN)/python --quiet install pip; \
		} || { echo "Python can't make environments here; Debian has that in the package python3-venv"; exit 1; }; \
	}
	@echo "installing torch (a few minutes the first time)"
	@$(PIP) install -c $(LOCK) "$$(grep '^torch==' $(LOCK))"
	@echo "installing everything else"
	@$(PIP) install -r $(LOCK)
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@
