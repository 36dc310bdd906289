# Everything here works from a bare checkout that has Python >= 3.10 (with venv) and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUNDLE := artifacts/nanonet-c

# tflite-runtime's last wheel wants Python <= 3.11 and NumPy < 2: an environment of its own.
OLD_VENV := .venv-tflite-runtime
OLD_PYTHONS := python3.11 python3.10 $(PYTHON)

# build/ is setuptools' scratch folder: files deleted from the tree would live on in it.
PLAIN := build/plain

.PHONY: demo test test-slow lint format types env old-env clean distclean

# No data is at hand in a bare checkout: masks are compared on generated frames, which are harder
# on int8 than real ones, so the demo asks for less than `verify` does.
demo: env ## The main job on the embedded default: export, check, measure, choose.
	$(BIN)/nanonet-edge export --variant c --int8 --fp32 --output $(BUNDLE)
	$(BIN)/nanonet-edge verify $(BUNDLE) --min-dice 0.95 --min-p5 0.88
	$(BIN)/nanonet-edge bench $(BUNDLE) --reference
	$(BIN)/nanonet-edge compare $(BUNDLE) --min-dice 0.95

test: env old-env ## The fast tests. NANONET_EDGE_TEST_DATA=DIR adds those on real images.
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: env old-env ## The tests that take more than 20 seconds each.
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint docker/*.Dockerfile; \
	else echo "make lint: no hadolint for this platform, the Dockerfiles were not checked"; fi

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: env ## mypy does not follow editable mappings, so it reads a plain install.
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --target $(PLAIN) .
	cd $(PLAIN) && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p nanonet_edge

env: $(VENV)/.stamp

$(VENV)/.stamp: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	{ echo "make: nanonet-edge needs Python >= 3.10; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all,dev]'
	@touch $@

old-env: $(OLD_VENV)/.stamp

# Optional: where it cannot be made, the tests that need it skip and say why.
$(OLD_VENV)/.stamp:
	@for python in $(OLD_PYTHONS); do \
	  if $$python -c 'import sys, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 12))' 2>/dev/null; then \
	    echo "$$python -m venv $(OLD_VENV)"; \
	    if $$python -m venv $(OLD_VENV) && $(OLD_VENV)/bin/python -m pip install --quiet \
	        --disable-pip-version-check 'tflite-runtime==2.14.0' 'numpy<2'; \
	    then touch $@; else echo "make: tflite-runtime cannot be installed here: its tests will skip"; fi; \
	    exit 0; \
	  fi; \
	done; echo "make: no Python 3.10 or 3.11 for tflite-runtime: its tests will skip"

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -not -path './$(OLD_VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(OLD_VENV) artifacts
