# Each target is a line or two. `make demo` is the main job, `make test` runs every test; both first
# make .venv from requirements.lock and build the C++ into it.
.DELETE_ON_ERROR:
.PHONY: all demo test sanitize check format bench docs wheel check-wheel lock clean

BIN := .venv/bin
# Quiet twice: errors alone.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet

# The first Python that pyproject.toml allows, and the C++ compiler that CMake would take.
PYTHON = $(shell for python in python3 python3.13 python3.12 python3.11; do \
  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
  && echo $$python && break; done)
COMPILER = $(shell for name in $${CXX:-c++ g++ clang++}; do command -v $$name && break; done)

CPP := $(shell find cc -name '*.cc' -o -name '*.h')

all: .venv/ready

demo: .venv/ready
	@$(BIN)/keras-mtl demo

# A file's tests share what is costly to make, so they stay together. Files with slow tests start
# first, in the order of tests/conftest.py.
test: check sanitize
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The C++ tests under AddressSanitizer with UBSan, and under ThreadSanitizer.
sanitize: .venv/ready
	@scripts/sanitize.sh $(BIN)

# Format, style and types; takes seconds.
check: .venv/ready
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	@$(BIN)/clang-format --dry-run --Werror $(CPP)
	$(BIN)/mypy

# Formats the code, and fixes what ruff can fix.
format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(CPP)

bench: .venv/ready
	@for script in $$(grep -l __main__ benchmarks/*.py); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# The documentation site, into build/site; a test builds it too.
docs: .venv/ready
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: .venv/ready
	@scripts/wheel.sh $(BIN)

# The wheel in an environment of its own, with NumPy and SentencePiece alone; needs a package index.
check-wheel: wheel
	@$(BIN)/python scripts/check_wheel.py dist

# The one set of versions that everybody gets. Needs uv; nothing else does.
lock:
	UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile --quiet --universal --python-version 3.11 \
	  --extra dev --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv build dist

# The locked packages; again only when the lock file changes.
.venv/packages: requirements.lock
	$(if $(COMPILER),,$(error keras_mtl needs a C++17 compiler and found none: install g++ 9 or \
	  clang++ 10 or newer, or set CXX to one))
	$(if $(PYTHON),,$(error keras_mtl needs Python 3.11, 3.12 or 3.13 and found none: install one \
	  of them, or put it on PATH))
	@echo "Installing the locked packages into .venv: 4 GB, some minutes, once"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "error: $(PYTHON) cannot make a virtual \
	environment: install its venv module (python3-venv on Debian and Ubuntu)" >&2; exit 1; }
	@$(PIP) install --require-hashes -r requirements.lock
	@touch $@

# The package in place, with its C++; again when the C++ or the metadata changes.
.venv/ready: .venv/packages pyproject.toml $(shell find cc -type f)
	$(if $(COMPILER),,$(error keras_mtl needs a C++17 compiler and found none: install g++ 9 or \
	  clang++ 10 or newer, or set CXX to one))
	@echo "Building the C++ and installing keras_mtl in place"
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
