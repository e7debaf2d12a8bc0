# Everything installs what it needs into the checkout: .venv, node_modules, static/dist, var.
# ARGS goes to the program: make demo ARGS=--once, make test ARGS="-k suppression -x".
# PYTHON=/path/to/python chooses the Python (3.11 or newer).
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh
PYTHON ?=
ARGS ?=
export PYTHON
# Where it is set, every process compiles all that it imports anew: six seconds instead of two, for
# each of the hundred that a demo or the tests start.
unexport PYTHONDONTWRITEBYTECODE

SETUP := @sh esp/stack/setup.sh
STACK := .venv/bin/python -m esp.stack

.PHONY: help demo test check bench format clean-demo assets screenshots

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1  /p' Makefile | awk '{ printf "  make %-11s", $$1; $$1 = ""; print }'

demo:  ## everything on this machine, with a campaign before your eyes (ARGS=--once ends after it)
	@DEMO_STARTED_AT=$$(date +%s.%N); export DEMO_STARTED_AT; \
	sh esp/stack/setup.sh embedded && exec $(STACK) demo $(ARGS)

test:  ## run the tests against real servers (ARGS goes to pytest)
	$(SETUP) dev
	@exec $(STACK) test $(ARGS)

check:  ## format, lint, types, import contracts, missing migrations, deploy checks
	$(SETUP) dev
	@exec $(STACK) check

bench:  ## measure everything on servers of its own, keep the results in bench/results (half an hour)
	$(SETUP) embedded
	@sh bench/run.sh $(ARGS)

format:  ## format the code
	$(SETUP) dev
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

assets:  ## install the front-end packages and build the style sheet
	$(SETUP) embedded
	@$(STACK) assets

screenshots:  ## take the README's pictures from a running demo (ARGS=address of the site)
	$(SETUP) dev
	@.venv/bin/python -m tests.browser.screenshots $(ARGS)

clean-demo:  ## forget the demo's data
	@if [ -x .venv/bin/python ]; then $(STACK) clean; else rm -rf var; fi
