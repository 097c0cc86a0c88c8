# `make gate` shows what pytest-kvcache does, `make test` proves that it works.
# Needs Python 3.11 with pip; everything else goes into .venv, once.

VENV    := .venv
BIN     := $(VENV)/bin
MODELS  := gqa gqa-kbias
WORKERS ?= 2

comma := ,
space := $() $()
SUITES = suites --kv-models=$(subst $(space),$(comma),$(addprefix ref:,$(MODELS))) \
         --kv-policy=suites/reference-policy.toml -n $(WORKERS)
GATE   = $(SUITES) --kv-dtypes=fp8,auto --kv-report=build/report
GOLDEN = $(SUITES) --kv-golden-dir=golden --kv-report=build/report-golden -m kv_smoke

# The first interpreter of a version, on the path or under pyenv, that can make environments.
pyenvs      = $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/$(1).*/bin/python)
can-venv    = $(shell $(2) -c 'import ensurepip, sys, venv; sys.exit("%d.%d" % sys.version_info[:2] != "$(1)")' \
              2>/dev/null && echo $(2))
find-python = $(firstword $(foreach python,python$(1) python3 $(pyenvs),$(call can-venv,$(1),$(python))))
PYTHON     ?= $(call find-python,3.11)
NEWER      := 3.15 3.14 3.13 3.12

.PHONY: help
help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

.PHONY: gate gate-full gate-golden goldens
gate: models  ## judge fp8 on a healthy and a fragile reference model (smoke tier)
	$(BIN)/pytest $(GATE) -m kv_smoke
gate-full: models  ## the same with more and longer answers (full tier)
	$(BIN)/pytest $(GATE) -m kv_full
gate-golden: models  ## the same as gate with the baseline read from golden/, so that its engine need not start
	$(BIN)/pytest $(GOLDEN) --kv-dtypes=fp8 --kv-baseline=golden
goldens: models  ## refresh golden/ and show what changes
	$(BIN)/pytest $(GOLDEN) --kv-dtypes=auto --kv-golden-update=all

.PHONY: test test-fast test-vllm test-matrix test-oldest
test: test-fast test-vllm  ## run all of the project's own tests
test-fast: venv  ## run those that need no engine
	$(BIN)/pytest -m "not vllm" -n $(WORKERS) --dist loadfile
test-vllm: models  ## run those that start real engines
	$(BIN)/pytest -m vllm -n $(WORKERS) --dist loadfile
test-matrix: test-oldest  ## run the fast tests without an engine installed: oldest dependencies, newest Python
	@$(MAKE) --no-print-directory $(firstword $(foreach v,$(NEWER),$(if $(call find-python,$(v)),test-$(v))) nothing-newer)
.PHONY: nothing-newer
nothing-newer:
	@echo "no newer Python than 3.11 is here: that lane is left out"
test-oldest:
	@requirements/install.sh "$(PYTHON)" .venvs/oldest requirements/plugin.lock -r requirements/oldest.txt
	.venvs/oldest/bin/pytest -m "not vllm and not packaging" -n $(WORKERS)
test-3.%:
	@requirements/install.sh "$(call find-python,3.$*)" .venvs/3.$* requirements/plugin.lock
	.venvs/3.$*/bin/pytest -m "not vllm and not packaging" -n $(WORKERS)

.PHONY: detection
detection: venv  ## rebuild the detection benchmark: corpus, evaluation, tables and plots in docs/
	PYTHONPATH=benchmarks $(BIN)/python -m detection all

.PHONY: matrix
matrix: models  ## inject every fault into real engines, run every suite on them, and write docs/matrix.md
	PYTHONPATH=benchmarks $(BIN)/python -m matrix --workers $(WORKERS)

.PHONY: lint lock
lint: venv  ## check style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
lock:  ## resolve the newest versions into requirements/*.lock
	$(PYTHON) requirements/lock.py

.PHONY: venv models clean
venv:
	@requirements/install.sh "$(PYTHON)" $(VENV) requirements/cpu.lock
models: venv
	$(BIN)/kvcache models build $(MODELS)
clean:  ## remove all that these commands made here (reference models stay in the user's cache)
	rm -rf .venv .venvs .kvcache .benchmarks build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
