PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/pip
FOLDERS := arcpipe augment train infer submissions kaggle_kernels
SOURCES := $(sort $(shell find $(FOLDERS) -type f -not -path '*/__pycache__/*' -not -name '.*'))
REQUIREMENTS := pyproject.toml constraints.txt

# Any of these does for the tests of the report's page.
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable

# setuptools builds in the source tree: what it leaves there would bring deleted modules back.
BUILD_LEFTOVERS := build *.egg-info

.PHONY: help quickstart test types tests browser format clean FORCE

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: $(VENV)/.package  ## install into .venv and run the whole pipe on a few ARC tasks
	$(BIN)/arcpipe quickstart $(ARGS)

test: browser $(VENV)/.dev $(VENV)/.package  ## install into .venv; lint, types, tests of what is installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory -j 2 types tests

# Both of what is installed, at the same time: alone the one would leave a core idle for a minute.
types:
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml -p arcpipe

tests:
	cd $(VENV) && PYTHONSAFEPATH=1 ARCPIPE_TEST_INSTALLED=1 \
		bin/python -m pytest --config-file=../pyproject.toml --rootdir=.. \
		-n 2 --dist loadfile --no-loadscope-reorder ../tests $(ARGS)

browser:
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit 0; done; \
	as_root=; [ "$$(id -u)" = 0 ] || as_root="sudo -n"; \
	install="$$as_root apt-get install -y --no-install-recommends chromium"; \
	$$install || { $$as_root apt-get update && $$install; } || \
		echo "there is no Chromium here and it could not be installed: the tests of the report's page" \
			"will be skipped (on Debian or Ubuntu: apt install chromium)" >&2

format: $(VENV)/.dev  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) $(BUILD_LEFTOVERS) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(FOLDERS) benchmarks tests -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "arcpipe needs Python 3.11 or newer, found $$($(PYTHON) -V 2>&1): make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv module: install it (on Debian or Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

# A list of the sources with their checksums, new when a source changed, came or went.
$(VENV)/.sources: FORCE | $(VENV)/.created
	@cksum $(SOURCES) | cmp -s - $@ || cksum $(SOURCES) > $@

# Builds with the venv's own setuptools (a pinned one, and no download at each change of a source).
# Changed sources alone leave the dependencies as they are.
$(VENV)/.package: $(REQUIREMENTS) $(VENV)/.sources
	rm -rf $(BUILD_LEFTOVERS)
	$(if $(filter $(REQUIREMENTS),$?),$(PIP) install -c constraints.txt setuptools)
	$(PIP) install --no-build-isolation \
		$(if $(filter $(REQUIREMENTS),$?),-c constraints.txt,-q --no-deps --force-reinstall) .
	rm -rf $(BUILD_LEFTOVERS)
	touch $@

$(VENV)/.dev: $(REQUIREMENTS) | $(VENV)/.package
	$(PIP) install --no-build-isolation -c constraints.txt '.[dev]'
	rm -rf $(BUILD_LEFTOVERS)
	touch $@
