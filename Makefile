# `make run` and `make test` set up .venv by themselves; a second call installs nothing.
PYTHON ?= python3
VENV := .venv
# The extra that is installed already, so that no later call replaces it.
EXTRA ?= $(firstword $(foreach extra,cpu gpu,$(if $(wildcard $(VENV)/.installed-$(extra)-*),$(extra))) cpu)
DOMAIN ?=
PROFILE ?= mini
STUDY ?= mini
MODEL ?= base
PORT ?= 5000
PREFECT_PORT ?= 4200
MLFLOW_PORT ?= 5000
VERSION ?=
TESTS ?=

PY := $(VENV)/bin/python
RAFT := $(PY) -m flows.cli
STACK = $(RAFT) stack --prefect-port $(PREFECT_PORT) --mlflow-port $(MLFLOW_PORT) $(ARGS)
MODELS = $(RAFT) models --profile $(PROFILE) --domain $(or $(DOMAIN),$(error name a domain: DOMAIN=law))
LOCKS := requirements/$(EXTRA).lock requirements/dev.lock
INSTALLED := $(VENV)/.installed-$(EXTRA)-$(shell cat $(LOCKS) pyproject.toml | cksum | cut -d ' ' -f 1)
# torch alone has several builds of one version; all else is held by the hashes of its files.
TORCH := torch==2.13.0
INSTALL := pip install --quiet --disable-pip-version-check --no-deps

.PHONY: help run prepare retrain up down status models promote rollback test unit lint ui study bench
.PHONY: baseline bench-neighbours bench-facts mini-base
.PHONY: learning-rates chaos fuzz audit lock wheel clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

run: $(INSTALLED)  ## the pipeline: DOMAIN=law, DATA=file, LIMIT=rows, PROFILE=mini, EXTRA=cpu, ARGS="--set filter.tau=0.7"
	@$(RAFT) run --profile $(PROFILE) $(if $(DOMAIN),--domain $(DOMAIN)) $(if $(DATA),--data $(DATA)) $(if $(LIMIT),--limit $(LIMIT)) $(ARGS)

prepare: $(INSTALLED)  ## question-answer pairs from documents: DOCS=folder, OUT=pairs.jsonl, LIMIT=documents, PROFILE=mini
	@$(RAFT) documents --profile $(PROFILE) $(if $(DOCS),--documents '$(DOCS)') $(if $(OUT),--out $(OUT)) $(if $(LIMIT),--limit $(LIMIT)) $(ARGS)

retrain: $(INSTALLED)  ## train on today's rows and promote the model if it holds: DOMAIN=law, ARGS="--force"
	@$(RAFT) retrain --profile $(PROFILE) $(if $(DOMAIN),--domain $(DOMAIN)) $(if $(DATA),--data $(DATA)) $(ARGS)

up: $(INSTALLED)  ## Prefect's and MLflow's servers and the workers of this machine, with all deployments
	@$(STACK) up

down: $(INSTALLED)  ## end what `make up` started
	@$(STACK) down

status: $(INSTALLED)  ## what of it runs and works
	@$(STACK) status

models: $(INSTALLED)  ## the versions of a domain's model: DOMAIN=law
	@$(MODELS) list

promote: $(INSTALLED)  ## make a version the one in use: DOMAIN=law VERSION=2
	@$(MODELS) promote --version $(or $(VERSION),$(error name a version: VERSION=2))

rollback: $(INSTALLED)  ## go back to the version that was in use before: DOMAIN=law
	@$(MODELS) rollback

test: $(INSTALLED)  ## all tests, two files at a time: TESTS="-n 0 -k cache"
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

unit: $(INSTALLED)  ## the fast tests
	$(PY) -m pytest tests/unit

lint: $(INSTALLED)  ## style, types, and the direction of imports
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

ui: $(INSTALLED)  ## MLflow on http://127.0.0.1:$(PORT), opened on the runs
	@$(RAFT) ui --profile $(PROFILE) --port $(PORT)

study: $(INSTALLED)  ## the comparison of all methods: STUDY=mini, ARGS="--only 'llama/law/0/*'"
	@$(RAFT) study $(STUDY) $(ARGS)

bench: $(INSTALLED)  ## speed and memory as ratios, into docs/benchmarks.md: ARGS="--only objective", ARGS=--short
	$(PY) -m benchmarks $(ARGS)

baseline: $(INSTALLED)  ## what this commit computes and takes, to compare with another: ARGS="record --out FILE", ARGS="compare A B"
	$(PY) -m benchmarks.baseline $(ARGS)

bench-facts: $(INSTALLED)  ## the fact guard beside the plain cosine, on a folder of real data: DATA=folder
	$(PY) -m benchmarks.fact_guard --data $(or $(DATA),$(error name the folder: DATA=folder)) $(ARGS)

bench-neighbours: $(INSTALLED)  ## time, memory and recall of the neighbour search, up to a million vectors
	$(PY) -m benchmarks.neighbours $(ARGS)

chaos: $(INSTALLED)  ## kill 20 runs at random moments and see that nothing is lost: ARGS="--trials 5 --seed 1"
	$(PY) -m tests.chaos $(ARGS)

fuzz: $(INSTALLED)  ## what reads texts on texts of all kinds: ARGS="--texts 5000 --seed 1"
	$(PY) -m tests.properties $(ARGS)

audit:  ## known vulnerabilities of the pinned packages, as a report (needs the network)
	@test -x $(VENV)-audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/python -m $(INSTALL) --require-hashes -r requirements/audit.lock; }
	@$(VENV)-audit/bin/pip-audit --no-deps --disable-pip -r requirements/cpu.lock || true

mini-base: $(INSTALLED)  ## train an embedded model again: MODEL=base or peer (about 45 minutes on two cores)
	$(PY) -m raft_core.mini.train_base --model $(MODEL) --out raft_core/mini/$(MODEL)

learning-rates: $(INSTALLED)  ## choose each method's learning rate on validation splits
	@$(PY) -m flows.learning_rates --profile $(PROFILE) $(if $(DOMAIN),--domain $(DOMAIN)) $(ARGS)

wheel: $(INSTALLED)  ## the project as one file in dist/, with the profiles and the embedded models
	rm -rf build
	@$(PY) -c 'from setuptools.build_meta import build_wheel; print("dist/" + build_wheel("dist"))'

lock:  ## make the locks again (needs uv)
	requirements/lock.sh

clean:  ## remove the environment and all artifacts (a home that RAFT_HOME names stays)
	rm -rf $(VENV) $(VENV)-audit .raft

$(INSTALLED): $(LOCKS)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 13) else "RAFT needs Python 3.11 or 3.12, this is %d.%d: call make with PYTHON=python3.12" % v)'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
ifeq ($(EXTRA),cpu)
	$(PY) -m $(INSTALL) $(TORCH)
endif
	$(PY) -m $(INSTALL) --require-hashes $(foreach lock,$(LOCKS),-r $(lock))
ifeq ($(EXTRA),cpu)
	@# Where an index has a CUDA build alone, that needs its libraries.
	@$(PY) -c 'import torch' 2> /dev/null || $(PY) -m $(INSTALL) --require-hashes -r requirements/torch-cuda.lock
endif
	$(PY) -m $(INSTALL) --no-build-isolation --editable .
	rm -f $(VENV)/.installed-*
	touch $@
