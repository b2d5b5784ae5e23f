# The two commands: `make lab` opens the notebooks, `make test` runs every test.
# Each installs first what is missing (scripts/setup); a second run finds all in place.

.DEFAULT_GOAL := help
.PHONY: help setup setup-docs setup-tests lab app demo faults test test-hosts check quick format docs class bench test-debian13 test-fresh test-binder test-nbgrader words constraints clean

PYTHON_RUN := .venv/bin/python
NOTEBOOK := notebooks/00-quickstart.ipynb

# Jupyter and IPython keep their settings and sockets in the checkout, not in the home folder.
state := $(CURDIR)/build/jupyter
export JUPYTER_CONFIG_DIR ?= $(state)/config
export JUPYTER_DATA_DIR ?= $(state)/data
export JUPYTER_RUNTIME_DIR ?= $(state)/runtime
export IPYTHONDIR ?= $(state)/ipython

# So does a lab what it finds out about the machine.
export VMSNAP_CACHE ?= $(CURDIR)/build/cache

# Tests and notebooks start hundreds of Python processes: what Python has compiled is kept, also where a machine's own
# settings say otherwise.
unexport PYTHONDONTWRITEBYTECODE

# A mount namespace with daemons of root's takes root.
as_root := $(if $(filter 0,$(shell id -u)),,sudo -n env CI=$(CI) PYTHONDONTWRITEBYTECODE=1)

help:  ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup:  ## install what is missing: system packages, and Python packages into .venv
	@scripts/setup
	@mkdir -p $(state)

lab: setup  ## open JupyterLab on the quickstart notebook
	@scripts/lab $(NOTEBOOK)

app: setup  ## open the lab panel alone, as a page in the browser
	@scripts/app

demo: setup  ## run the quickstart without a browser: figures as text, and build/quickstart.html
	@$(PYTHON_RUN) scripts/demo.py $(NOTEBOOK) build/quickstart.html

setup-docs:
	@scripts/setup --docs
	@mkdir -p $(state)

setup-tests:
	@scripts/setup --tests
	@mkdir -p $(state)

test: setup-tests  ## run all tests except those of test-hosts (on other Debian releases: make test-debian13, make test-fresh)
	scripts/run-tests -n 4 --dist loadfile --no-loadscope-reorder -m "not hosts"

test-hosts: setup-tests  ## run the tests of real hosts: private system libvirt daemons, some over TCP (root, or sudo)
	$(as_root) scripts/run-tests -n 2 --dist loadfile --no-loadscope-reorder -m hosts tests/hosts

check: setup  ## ruff, mypy, the direction of imports and the quick tests
	$(PYTHON_RUN) -m ruff check .
	$(PYTHON_RUN) -m ruff format --check .
	$(PYTHON_RUN) -m mypy
	$(PYTHON_RUN) -m pytest -q -m quick

quick: setup  ## only the quick tests
	$(PYTHON_RUN) -m pytest -q -m quick

format: setup  ## fix and format the code with ruff
	$(PYTHON_RUN) -m ruff check --fix .
	$(PYTHON_RUN) -m ruff format .

docs: setup-docs  ## build the documentation in both languages as build/docs/index.html; a warning is an error
	$(PYTHON_RUN) scripts/docs.py build/docs
	@echo build/docs/index.html

class: setup  ## generate the slides of the course and the cheat sheet in build/class, in both languages
	$(PYTHON_RUN) scripts/slides.py build/class
	$(PYTHON_RUN) scripts/cheat_sheet.py build/class

bench: setup  ## run the benchmarks
	@set -e; for bench in benchmarks/bench_*.py; do echo "== $$bench"; $(PYTHON_RUN) $$bench; done

faults: setup-tests  ## inject RUNS=300 faults (SEED=1) into all verbs, then run RUNS/2 verbs on random hosts; print the runs, the losses, and how to repeat one (ONLY='…')
	PYTHONPATH=tests $(PYTHON_RUN) -m support.faults $(if $(ONLY),--only '$(ONLY)',--runs $(or $(RUNS),300) --seed $(or $(SEED),1))
	$(if $(ONLY),,$(as_root) env PYTHONPATH=tests $(PYTHON_RUN) -m support.random_host --runs $$(($(or $(RUNS),300) / 2)) --seed $(or $(SEED),1))

test-debian13:  ## run the tests of snapshots and live merges on Debian 13 (root, debootstrap); T="arguments of pytest"
	@scripts/debian13 $(T)

test-fresh:  ## install and test on fresh Debian 12 and 13 systems (root, debootstrap)
	@scripts/fresh-machine 12 13

test-binder:  ## build binder/ as repo2docker does, in a fresh Ubuntu, and run the quickstart there (root, debootstrap)
	@scripts/test-binder

test-nbgrader: setup  ## let nbgrader generate and grade the exercises, both solved and untouched (installs it into build/)
	@$(PYTHON_RUN) scripts/nbgrader_check.py

words: setup  ## take new and changed messages into the catalogues of vmsnap_nb/words
	@$(PYTHON_RUN) scripts/catalogues.py

constraints: setup  ## write the installed versions to constraints.txt
	@mkdir -p build
	@{ sed -n '/^#/p' constraints.txt; $(PYTHON_RUN) -m pip list --disable-pip-version-check --format freeze \
	   --exclude-editable --exclude pip --exclude setuptools; } > build/constraints.txt
	@mv build/constraints.txt constraints.txt

clean:  ## remove what was built, except .venv
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
