# `make` prints the targets. Everything runs from a fresh clone on a machine with Python 3.11 to 3.13, git and make.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test test-images interop-tools check fuzz stress-rootfs bench docs tcb clean

help:  ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

$(READY): pyproject.toml uv.lock tools/bootstrap
	@tools/bootstrap $(PYTHON)
	@touch $@

demo: $(READY)  ## install what is needed and run the main job end to end in simulation (needs root)
	@$(BIN)/enclave-cc demo --install $(DEMO_ARGS)

test: $(READY)  ## install what is needed and run the tests; what the machine cannot run is skipped with its reason
	@tools/install-test-packages
	@$(BIN)/python -m pytest $(TEST_ARGS)

test-images: $(READY)  ## compare whole images, up to a gigabyte of Debian's packages, with what umoci makes of them (needs root)
	@ENCLAVE_CC_WHOLE_IMAGES=1 $(BIN)/python -m pytest tests/enclave/rootfs/test_whole_images.py

interop-tools:  ## install the programs that the interoperability tests drive (cosign through Go, the rest through apt)
	@tools/install-interop-tools

check: $(READY)  ## format, lint, types, layers
	@$(BIN)/ruff format --check --quiet . || { echo 'run: .venv/bin/ruff format .'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports --no-logo >/tmp/enclave-cc-layers.$$$$ 2>&1 || { cat /tmp/enclave-cc-layers.$$$$; rm -f /tmp/enclave-cc-layers.$$$$; exit 1; }; rm -f /tmp/enclave-cc-layers.$$$$
	@$(BIN)/mypy

fuzz: $(READY)  ## mutate inputs of the parsers, a minute each (FUZZ_ARGS="tar erofs --seconds 600"); crashes go to fuzz-crashes
	@$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

stress-rootfs: $(READY)  ## write 2 GiB to an encrypted scratch under a memory limit of 32 MiB (minutes; needs root)
	@ENCLAVE_CC_STRESS_MIB=2048 $(BIN)/python -m pytest -q --timeout 2400 tests/enclave/rootfs/mounting/writable/test_memory_pressure.py

bench: $(READY)  ## measure (one: make bench-NAME); rows to bench/results, plots to bench/plots, summary to bench/RESULTS.md
	@$(BIN)/python -m bench $(BENCH_ARGS)

bench-%: $(READY)
	@$(BIN)/python -m bench $*

docs: $(READY)  ## write the generated pages and pictures again
	@$(BIN)/python tools/docs.py

tcb: $(READY)  ## print the size of the trusted computing base and the packages allowed inside it
	@$(BIN)/python tools/tcb.py

clean:  ## remove the virtual environment and every cache
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
