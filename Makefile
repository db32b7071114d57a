# Bootstrap and convenience: every other target is handed to Snakemake, with all cores.
#   make tables/table2.tex     build .venv if needed, then the table
#   make env | install         the environment in .venv | into the active interpreter (conda)
#   make test | lint | smoke   tests | style, types and workflow checks | the whole DAG, tiny models
#   make check | reference     compare with the committed reference run | write it from a run
#   make paper                 all of it as a PDF, where LaTeX is

PYTHON ?= python3
VENV ?= .venv
CORES ?= all
TORCH := torch==2.13.0
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
# Snakemake keeps a cache in the home folder; where that cannot be written, here.
ifneq ($(shell test -w "$$HOME" && echo yes),yes)
export XDG_CACHE_HOME ?= $(CURDIR)/.snakemake/cache
endif

.DEFAULT_GOAL := help
.PHONY: help env install test lint smoke all check reference paper FORCE
.SUFFIXES:
Makefile: ;

help:
	@sed -n '2,6s/^# *//p' Makefile

env: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(MAKE) install PYTHON=$(BIN)/python
	touch $@

# torch first and by version: its build differs by platform. The rest is pinned by hash.
install:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .

# Side by side, one thread each: tiny models gain nothing from threads.
WORKERS ?= 2
test: env
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: env
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache
	snakefmt --check Snakefile workflow/rules
	snakemake --lint

# Tiny models gain nothing from threads: jobs run side by side instead.
ONE_THREAD := $(addsuffix =1,compute_truth compute_jets compute_ranking_jets compute_baseline \
	compute_top compute_hessians compute_sweep compute_convergence compute_probes compute_attention compute_features \
	sample_texts train_autoencoder assess_autoencoders measure_costs compute_sets \
	compute_spectrum)
smoke: env
	snakemake --cores $(CORES) --configfile config/smoke.yaml --set-threads $(ONE_THREAD)

all: env
	snakemake --cores $(CORES)

# Runs what is stale, then says file by file how the run agrees with the committed reference.
# ONLY="tables/table2.tex …" takes these alone; RUN=FOLDER is a run in another folder.
check: env
	targets=$$(python workflow/reference.py targets $(ONLY)) && \
	snakemake --cores $(CORES) $$targets && python workflow/reference.py check $(ONLY)

reference: env
	python workflow/reference.py write $(if $(RUN),--run "$(RUN)") $(ONLY)
	python workflow/write_snippets.py

paper: env
	snakemake --cores $(CORES) paper/replication.pdf

docs/dag.svg: env FORCE
	python workflow/draw_dag.py $@

tables/% figures/% results/% paper/% data/models/%: env FORCE
	snakemake --cores $(CORES) $@

.DEFAULT:
	@$(MAKE) --no-print-directory env
	snakemake --cores $(CORES) $@

FORCE: ;
