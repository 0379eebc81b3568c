# The commands of a newcomer: make demo, make test. Everything else builds on `make install`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

.PHONY: install install-services demo demo-brain demo-nodules demo-longitudinal test test-slow test-all test-services lint ui lock clean

install: $(STAMP)

# torch first and with its own dependencies (they differ between CPU and CUDA builds); all else as locked.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock $$(grep '^torch==' requirements.lock)
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# What a service needs beside: Postgres, Ray, Kubernetes, object storage.
install-services: $(VENV)/.installed-services

$(VENV)/.installed-services: $(STAMP) services.lock
	$(BIN)/python -m pip install --quiet --no-deps --requirement services.lock
	@touch $@

demo: install
	$(BIN)/ct-assets demo

demo-brain: install
	$(BIN)/ct-assets brain demo

demo-longitudinal: install
	$(BIN)/ct-assets longitudinal demo

demo-nodules: install
	$(BIN)/ct-assets nodules demo

ui: install
	$(BIN)/ct-assets ui

# Fast tests, two at a time; what is marked slow (kills at every place, fuzzing, browser) has a target of its own.
test: install
	$(PYTEST) -m "not slow and not services" -n 2 --dist loadfile

test-slow: install
	$(PYTEST) -m "slow and not services" -n 2 --dist loadfile

test-all: test test-slow

# Servers on loopback, started by the tests; a test whose server is not installed is skipped and says so.
test-services: install-services
	$(PYTEST) -m services -n 2 --dist loadfile -rs --durations=15 ct_assets_tests

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Needs uv. Resolves for the oldest supported Python; local build suffixes are stripped, so that pip may
# take whichever build of torch the machine offers.
lock:
	printf '%s\n' "opencv-python; sys_platform == 'never'" > .lock-overrides.txt
	sed -i '/^torch==/d' requirements.lock services.lock
	uv pip compile --quiet --python-version 3.11 --no-header --no-annotate --override .lock-overrides.txt --extra dev pyproject.toml --output-file requirements.lock
	uv pip compile --quiet --python-version 3.11 --no-header --no-annotate --override .lock-overrides.txt --all-extras --constraint requirements.lock pyproject.toml --output-file services.lock
	sed -i 's/^\(torch==[0-9.]*\)+cpu/\1/' requirements.lock services.lock
	rm .lock-overrides.txt

clean:
	rm -rf $(VENV) build *.egg-info
