# Everything a newcomer needs: `make run` and `make test`. Needs Python 3.11 or newer, make and a C compiler.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
PORT ?= 3002
# Test processes: two always, since races need company; more where there are more cores.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -lt 2 ] && n=2; echo $$n)

.PHONY: setup run screenshots test test-long lint openapi bench browser redis clean

setup: $(VENV)/.ready

# uv comes by pip, into a folder of its own, so that neither root nor a writable Python is needed.
.uv/bin/uv:
	@echo "Installing uv into .uv …"
	@$(PYTHON) -m pip install --quiet --target .uv uv || { $(PYTHON) -m venv .uv && .uv/bin/pip install --quiet uv; }

$(VENV)/.ready: pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	@echo "Installing Guildhall and its tools into $(VENV) …"
	@$(UV) sync --locked --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
	@touch $@

run: setup
	@$(BIN)/guildhall serve --demo --port $(PORT) --data-dir .data

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports --no-logo

# Tests of the pages run in a real browser: Debian's, fetched where it is missing and we may.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 \
	       && echo "Installing Chromium for the tests of the pages …" \
	       && { apt-get install -y -qq chromium >/dev/null 2>&1 \
	            || { apt-get update -qq && apt-get install -y -qq chromium >/dev/null 2>&1; }; } \
	  || echo "No Chromium here and no right to install it: the tests of the pages are left out."; }

# Events by way of Redis are tested with a real one, fetched where it is missing and we may.
redis:
	@command -v redis-server >/dev/null 2>&1 || command -v valkey-server >/dev/null 2>&1 \
	  || command -v redis-check-rdb >/dev/null 2>&1 \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 \
	       && echo "Installing Redis for the tests of events …" \
	       && { apt-get install -y -qq redis-tools >/dev/null 2>&1 \
	            || { apt-get update -qq && apt-get install -y -qq redis-tools >/dev/null 2>&1; }; } \
	  || echo "No Redis here and no right to install it: the tests with one are left out."; }

test: setup browser redis lint
	@$(BIN)/pytest -n $(JOBS) --dist loadgroup

test-long: setup browser redis lint
	@GUILDHALL_LONG=1 $(BIN)/pytest -n $(JOBS) --dist loadgroup --timeout 3600

# Writes docs/openapi and the pages of permissions, errors and settings again after a change of those.
openapi: setup
	@$(BIN)/python -m tests.house.refresh
	@$(BIN)/python -m tests.authz.page

# Pictures of the main pages, for the documentation.
screenshots: setup browser
	@$(BIN)/python -m tests.pages.screenshots

# Measures this service beside two others, for some minutes, and writes docs/performance.md.
bench: setup
	@$(UV) sync --locked --quiet --inexact --group bench
	@$(BIN)/python -m bench.recall
	@$(BIN)/python -m bench

clean:
	rm -rf $(VENV) .uv .data .pytest_cache .ruff_cache .hypothesis .import_linter_cache
