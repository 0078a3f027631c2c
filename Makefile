# gencourse: `make help` lists the commands. Each makes its own environment in .venv the first time it is called.

SHELL       := bash
CONSTRAINTS ?= constraints.txt# exact pins; `make CONSTRAINTS= test` takes the newest versions that pyproject.toml allows
PROFILE     ?= auto
PORT        ?= 8000
BIN         := .venv/bin
PIP         := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
# The first interpreter that is new enough; `make PYTHON=/path/to/python book` decides otherwise.
PYTHON      ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
                 $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
NOTEBOOKS    = $(wildcard book/*.ipynb exercises/*.ipynb solutions/*.ipynb)
CHROMIUM     = command -v chromium || command -v chromium-browser || command -v google-chrome
apt          = { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "Installing $(1)" && apt-get update -qq && \
                 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(1) >/dev/null; } || \
               { echo "$(2): install $(1) (Debian, Ubuntu: sudo apt-get install $(1))."; exit 1; }
say          = @printf '\n== %s\n' "$(1)"

.PHONY: help book test serve pdf zip run format bench lint types unit notebooks pages chromium bubblewrap
.NOTPARALLEL:
test unit notebooks pages: export OMP_NUM_THREADS = 1  # two workers with two threads each would fight for two cores

help:  ## list these commands
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

book: .venv/book  ## render the book from its stored outputs into _build/html
	$(call say,Rendering the book)
	@$(BIN)/python -m tools.pages --check
	@$(BIN)/jupyter-book build . --all -W --keep-going -n --quiet
	@echo "The book is at _build/html/index.html; make serve shows it at http://localhost:$(PORT)"

serve: book  ## render, then show the book at http://localhost:8000
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

pdf: book .venv/test chromium  ## print the book: _build/gencourse.pdf
	$(call say,Printing the book)
	@$(BIN)/python -m tools.pdf

zip: book  ## pack the book for reading without a network: _build/gencourse-VERSION.zip
	@$(BIN)/python -m tools.bundle

run: .venv/book  ## execute a chapter and store its outputs: make run CHAPTER=09-vae PROFILE=cpu
	@test -n "$(CHAPTER)" || { echo "Which chapter? For example: make run CHAPTER=09-vae PROFILE=cpu"; exit 2; }
	@$(BIN)/python -m tools.notebooks run "$(CHAPTER)" --profile "$(PROFILE)"

format: .venv/test  ## format code and notebooks, renew what is generated
	@$(BIN)/ruff check --fix --quiet; $(BIN)/ruff format --quiet
	@$(BIN)/python -m tools.notebooks normalise
	@$(BIN)/gencourse release --all
	@$(BIN)/python -m tools.pages
	@$(BIN)/python -m tools.logo

bench: .venv/book  ## measure speed: training steps, data on the device
	@for file in benchmarks/*.py; do printf '\n== %s\n' "$$file"; $(BIN)/python "$$file" || exit 1; done

test: .venv/test chromium bubblewrap lint types unit notebooks book pages  ## everything that continuous integration runs
	$(call say,All tests passed)

# The stages of `make test`, in its order.
lint: .venv/test
	$(call say,Format and lint)
	@$(BIN)/ruff format --check --quiet && $(BIN)/ruff check --quiet
	@$(BIN)/python -m tools.notebooks check

types: .venv/test
	$(call say,Types)
	@$(BIN)/mypy

unit: .venv/test bubblewrap
	$(call say,Unit tests)
	@$(BIN)/pytest -n 2 --dist worksteal --ignore tests/book

notebooks: .venv/test
	$(call say,Notebooks in the smoke profile)
	@GENCOURSE_PROFILE=smoke TQDM_DISABLE=1 $(BIN)/pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=1800 \
	    --nbval-sanitize-with=tests/nbval.cfg -n 2 --dist loadscope $(NOTEBOOKS)

pages: .venv/test chromium book
	$(call say,Rendered pages)
	@$(BIN)/pytest tests/book

# What Debian has and pip does not: installed where that is allowed (root with apt), asked for where it is not.
chromium:
	@{ $(CHROMIUM); } >/dev/null || $(call apt,chromium,The page tests need a browser)

bubblewrap:
	@command -v bwrap >/dev/null || $(call apt,bubblewrap,The tests of the grader need its sandbox)

# The lowest versions that the library says it works with, as pins: `make CONSTRAINTS=lowest.txt unit`.
lowest.txt: pyproject.toml
	@$(PYTHON) -c 'import tomllib; asked = tomllib.load(open("$<", "rb"))["project"]["dependencies"]; \
	    print(*(one.replace(">=", "==") for one in asked), sep="\n")' > $@

# Environments: .venv/book and .venv/test are stamps. A second call installs nothing unless the versions asked for change.
.venv/bin/python:
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	    "gencourse needs Python 3.11 or newer; $(or $(PYTHON),none) was found. Name one: make PYTHON=/path/to/python book"; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python's venv module is missing (Debian, Ubuntu: apt-get install python3-venv)."; exit 1; }

.venv/book .venv/test: .venv/%: .venv/bin/python pyproject.toml $(CONSTRAINTS)
	@echo "Installing what the $* needs (a few minutes the first time)"
	@$(PIP) torch  # first and alone, so that the build at hand is the one the rest is resolved against
	@$(PIP) --editable '.[$*]'
	@touch $@
