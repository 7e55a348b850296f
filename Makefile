# Everything that is installed lands under .venv/; nothing else on the machine changes.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench bench-prediction bench-null bench-detection bench-diagnosis proto golden docs gpu clean soak coverage

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Many tests wait for other processes: a worker more than there are cores.
WORKERS ?= $(shell echo $$((1 + $$(nproc))))
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

# --- set-up: each stamp is one environment -------------------------------------------------------

# The base: agent, coordinator, tap, tools and, where a C++ compiler is, the simulator.
.venv/base.stamp: pyproject.toml constraints.txt agent/tap/pyproject.toml native/simulator/pyproject.toml native/CMakeLists.txt $(wildcard native/src/* native/simulator/CMakeLists.txt native/simulator/src/*)
	@.ci/install-base "$(PYTHON)"
	@touch $@

# Made while there was no compiler; now there is one.
ifneq ($(wildcard .venv/without-simulator),)
ifneq ($(shell command -v $(if $(filter default,$(origin CXX)),c++,$(CXX))),)
.PHONY: .venv/base.stamp
endif
endif

# Other tools that read the simulated driver, unmodified.
.venv/peers.stamp: tests/simulator/peers.txt .venv/base.stamp
	@.ci/install-venv peers tests/simulator/peers.txt
	@touch $@

# A CUDA build of torch without its CUDA libraries: the simulator takes their place.
.venv/torch.stamp: tests/torch/requirements.txt .venv/base.stamp
	@.ci/install-venv torch tests/torch/requirements.txt --no-deps
	@touch $@

# The compilers that CuPy uses, of CUDA 12 and 13, for the kernels of the probes.
.venv/nvrtc.stamp: tests/native/nvrtc.txt .venv/base.stamp
	@.ci/install-venv nvrtc tests/native/nvrtc.txt --no-deps
	@touch $@

# --- for users -----------------------------------------------------------------------------------

demo: .venv/base.stamp ## play one incident from first fault to review (ARGS=--once plays it through)
	@$(BIN)/gpuward demo $(ARGS)

# --- for developers ------------------------------------------------------------------------------

test: .venv/base.stamp .venv/peers.stamp .venv/torch.stamp .venv/nvrtc.stamp ## run every test that this machine can run
	@$(BIN)/python -m pytest -m "not gpu" -n $(WORKERS) --dist worksteal $(ARGS)

check: .venv/base.stamp ## format, lint, types, architecture, contracts, documents, spelling
	@.ci/check

coverage: .venv/base.stamp ## branch coverage; the pure packages must be at 95 %
	@.ci/coverage

bench: .venv/base.stamp .venv/peers.stamp .venv/torch.stamp ## measure the budgets of docs/budgets.md; exits 1 when one is missed
	@$(BIN)/python tests/bench/run.py $(ARGS)

bench-prediction: .venv/base.stamp ## how well trouble with memory is foretold, and how often in vain; exits 1 on a miss
	@$(BIN)/python tests/bench/prediction.py $(ARGS)

# Less of the nodes is less of the latency too.
bench-null: .venv/base.stamp ## 100 GPU-days of healthy nodes, as much of latency: who cries wolf? (ARGS="--hours 2" for less)
	@$(BIN)/python tests/bench/null.py $(ARGS); nodes=$$?; \
	$(BIN)/python tests/bench/detection.py --null $(if $(findstring --hours,$(ARGS)),--quick); \
	latency=$$?; [ $$nodes -eq 0 ] && [ $$latency -eq 0 ]

bench-detection: .venv/base.stamp ## how soon a slow engine is noticed, and how often in vain (ARGS=--quick for less)
	@$(BIN)/python tests/bench/detection.py $(ARGS)

bench-diagnosis: .venv/base.stamp ## how often the cause of a slow-down is named right; half an hour (ARGS=--quick for less)
	@$(BIN)/python tests/bench/diagnosis.py $(ARGS)

soak: .venv/base.stamp ## a busy agent for two hours: memory, descriptors, log (ARGS="--minutes 1" for less)
	@$(BIN)/python tests/bench/soak.py $(ARGS)

proto: .venv/base.stamp ## regenerate protos/gpuward/v1 from its .proto files
	@.ci/generate-protos protos

golden: .venv/base.stamp ## rewrite golden files and generated documents from the code
	@$(BIN)/python -m pytest -q -m "not gpu" -k golden --golden-update
	@$(BIN)/python .ci/generate-docs docs

gpu: ## run the tests that need a real GPU, from source (RECORD=folder keeps what was seen)
	@$(PYTHON) tests/gpu/run.py $(if $(RECORD),--record "$(RECORD)") $(ARGS)

clean: ## remove everything that make has made
	rm -rf .venv build agent/tap/build native/simulator/build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
