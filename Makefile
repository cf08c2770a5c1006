# Each command sets up what it needs in .venv:
#   make demo    tracks the nuclei of the shipped samples
#   make test    runs every check: style, types, layers, tests
#   make docs    builds the documentation site into build/site; warnings are errors
# Another Python: make demo PYTHON=python3.12

PYTHON ?= python3
OUT ?= demo-output
BIN := .venv/bin
READY := .venv/.ready
# Windows open on the display, else on one in memory (xvfb-run); without either, the tests that need one are skipped.
SCREEN := $(if $(or $(DISPLAY),$(WAYLAND_DISPLAY)),,$(if $(shell command -v xvfb-run),xvfb-run -a -s "-screen 0 1400x1000x24"))
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

.PHONY: help demo test docs clean

help:
	@sed -n '2,4s/^# *//p' Makefile

demo: $(READY)
	@$(BIN)/napari-sam2 demo --out $(OUT)

test: $(READY)
	@echo "style"  && $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "types"  && $(BIN)/mypy
	@echo "layers" && $(BIN)/lint-imports --no-cache
	@echo "tests"  && $(SCREEN) $(BIN)/python -m pytest
	@echo "make test: style, types, layers and tests passed"

docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "make docs: build/site/index.html"

# Set up again if the requirements changed; an interrupted set-up leaves no stamp.
$(READY): pyproject.toml .ci/setup .ci/torch_source.py
	@.ci/setup $(PYTHON)
	@touch $@

clean:
	rm -rf .venv $(OUT) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
