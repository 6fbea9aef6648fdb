# Everything happens in a virtual environment inside the checkout; nothing else is needed but Python 3.11 or newer.
PYTHON ?= python3
# Byte code is kept, whatever the environment says: most tests that start a process would spend their time compiling.
unexport PYTHONDONTWRITEBYTECODE
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Four processes, for most tests wait for somebody most of the time; that they pass together is part of what they test.
PYTEST := $(BIN)/python -m pytest --numprocesses=4
# More for pytest: make test ARGS="-k proxy"
ARGS   ?=
# What make coverage counts: all of the package, or parts of it by their paths.
COVER  ?= --cov

.PHONY: demo test check coverage bench docs clean

demo: $(STAMP)            ## the main job: what breaks in the standard library's own HTTP handler, and on which kind of server
	@echo "servertest check http.server:SimpleHTTPRequestHandler --exchanges fixtures/transcripts/http-simple.wire"
	@cd fixtures/www && "$(CURDIR)/$(BIN)/servertest" check http.server:SimpleHTTPRequestHandler \
	  --exchanges ../transcripts/http-simple.wire; status=$$?; \
	if [ $$status -eq 1 ]; then echo "(exit status 1: something was found, and it is the handler's; 3 would be a breakage of servertest)"; \
	else exit $$status; fi

test: $(STAMP)            ## run the tests
	$(PYTEST) $(ARGS)

check: $(STAMP)           ## lint, types, layers
	$(BIN)/python -m pytest -m quality tests/meta

coverage: $(STAMP)        ## run the tests and show which branches they take
	$(PYTEST) $(COVER) --cov-branch --cov-report=term $(ARGS)

bench: $(STAMP)           ## print the table of ratios to the standard module and to peers
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.swarm --engines

docs: $(STAMP)            ## run every snippet of README and docs
	$(BIN)/python -m pytest tests/docs

clean:
	rm -rf .venv* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "servertest needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@
