# Two commands do everything on a fresh machine: `make demo` and `make test`. Each sets up what it needs by itself.
SHELL := /bin/sh
PY := .venv/bin/python
# With it set, every process of a test run would compile the tests anew, twenty seconds each.
unexport PYTHONDONTWRITEBYTECODE
SETUP := sh launcher/setup.sh

# A file's tests stay together: what they share is made once.
SPREAD := -n 2 --dist loadfile
UNIT = $(PY) -m pytest -m "not e2e and not qemu" $(SPREAD)

.DEFAULT_GOAL := help
.PHONY: help demo test types boots test-ceph test-older check bench fuzz image man lock clean distclean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "make %-10s %s\n", $$1, $$2}'

PLATFORM = snp
demo:  ## launch a protected VM, release its disk key, refuse three tampered ones; PLATFORM=tdx for a TD
	@$(SETUP) demo
	@$(PY) -m tests.e2e.demo --platform $(PLATFORM)

test: ## everything: lint, types, imports, unit, property, fuzz corpora, real QEMU, real boots
	@$(SETUP) test
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(MAKE) --no-print-directory -j 2 types boots
	@$(UNIT)

types:
	@$(PY) -m mypy

boots:
	@$(PY) -m pytest -m "e2e or qemu" $(SPREAD)

check: ## the quick half of `make test`: lint, types, import rule, unit tests
	@$(SETUP) dev
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-cache
	@$(UNIT)

test-ceph: ## disks on a real one-node Ceph cluster and a real NFS server; installs both (220 MB)
	@$(SETUP) ceph
	@PATH=$$PATH:/usr/sbin:/sbin $(PY) -m pytest tests/e2e/test_ceph.py tests/e2e/test_nfs.py

test-older: ## command lines and capabilities against Debian 13's QEMU 10.0, fetched into .cache (36 MB)
	@$(SETUP) test
	@$(PY) -m tests.fakes.older_qemu
	@$(PY) -m pytest tests/e2e/test_older_qemu.py

bench: ## side-by-side measurements as ratios; JSON in .cache/bench.json
	@$(SETUP) test
	@$(PY) -m bench

FUZZ_SECONDS ?= 60
fuzz: ## coverage-guided fuzzing of every parser, FUZZ_SECONDS each
	@$(SETUP) dev
	@for target in tests/fuzz/targets/[a-z]*.py; do \
	  name=$$(basename $$target .py); echo "== $$name"; \
	  $(PY) -m tests.fuzz $$name -max_total_time=$(FUZZ_SECONDS) -verbosity=0 || exit 1; done

image: ## the container image (both programs, non-root service) with buildah
	@sh launcher/container.sh

man: ## manual pages and shell completion of both programs, into .cache/man
	@$(PY) -m tools.manual .cache/man && echo "wrote .cache/man"

lock: ## renew the hash-locked dependency lists
	@$(SETUP) dev
	@sh launcher/lock.sh

clean: ## remove the virtual environment and test leftovers
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

distclean: clean ## also remove downloads and built images
	rm -rf .cache
