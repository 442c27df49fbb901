# `make demo` trains and evaluates the demo, `make test` runs all tests. Both first create .venv from
# requirements.lock and build the C++ code.
.DELETE_ON_ERROR:
.PHONY: all demo test test-all sanitize sanitize-all check format bench docs wheel check-wheel lock clean FORCE

BIN := .venv/bin
# Prints only errors.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet

# The first Python that pyproject.toml allows, and the C++ compiler that CMake would use.
PYTHON = $(shell for python in python3 python3.13 python3.12 python3.11; do \
  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
  && echo $$python && break; done)
COMPILER = $(shell for name in $${CXX:-c++ g++ clang++}; do command -v $$name && break; done)

CPP := $(shell find cc -name '*.cc' -o -name '*.h')

all: .venv/ready

demo: .venv/ready
	@$(BIN)/keras-mtl demo

# The tests of a file share costly fixtures, so one process runs them. Files with slow tests start
# first, in the order of tests/conftest.py.
PYTEST = $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
# One more than processors, because some tests wait, but no more than memory allows.
WORKERS = $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n + 1 : 4)))

# Python reuses bytecode, whatever the environment says: pytest's takes each worker 5 s to make.
test test-all: export PYTHONDONTWRITEBYTECODE =
test: .venv/ready
	@$(MAKE) --no-print-directory --jobs 2 check sanitize
	$(PYTEST)

# Also the tests that repeat at a larger scale what those of `make test` protect, and all C++ tests
# under sanitizers. XLA optimizes as it does for users.
test-all: check sanitize-all
	XLA_FLAGS= $(PYTEST) -m ''

# The C++ tests of the engine under AddressSanitizer, without AMX, which takes long.
sanitize: .venv/ready
	@scripts/sanitize.sh $(BIN) address

# With UBSan and those of AMX, and those that start threads under ThreadSanitizer.
sanitize-all: .venv/ready
	@scripts/sanitize.sh $(BIN) amx
	@scripts/sanitize.sh $(BIN) thread

# Format, style and types, in seconds.
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

# Without the script that makes a corpus from hundreds of packages.
bench: .venv/ready
	@for script in $$(grep -l __main__ benchmarks/*.py | grep -v /build_); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# Builds the documentation site in build/site. A test does so, too.
docs: .venv/ready
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: .venv/ready
	@scripts/wheel.sh $(BIN)

# Tests the wheel in a new environment with only NumPy and SentencePiece. Requires a package index.
check-wheel: wheel
	@$(BIN)/python scripts/check_wheel.py dist

# Locks the versions of all packages. Requires uv, unlike all other targets.
lock:
	UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile --quiet --universal --python-version 3.11 \
	  --extra dev --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv build dist

# The lock file has all dependencies.
LOCKED := --no-compile --no-deps --require-hashes

# Installs the locked packages whenever the lock file has changed.
.venv/packages: requirements.lock
	$(if $(COMPILER),,$(error found no C++17 compiler. Install g++ 9 or clang++ 10 or newer, or \
	  set CXX to one))
	$(if $(PYTHON),,$(error found no Python 3.11, 3.12 or 3.13. Install one of them, or add its \
	  directory to PATH))
	@echo "Installing the locked packages into .venv: 4 GB, a few minutes, only once"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "error: $(PYTHON) cannot create a virtual \
	environment. Install its venv module (python3-venv on Debian and Ubuntu)" >&2; exit 1; }
	@# Two processes, each with half of the packages: pip spends half of the time waiting.
	@for part in 0 1; do awk -v part=$$part '/^[a-z]/ {n++} n % 2 == part' $< \
	  >.venv/packages-$$part.txt; done
	@$(PIP) install $(LOCKED) -r .venv/packages-0.txt & \
	  $(PIP) install $(LOCKED) -r .venv/packages-1.txt; second=$$?; wait $$! && exit $$second
	@# pip would compile on one core. Some packages contain templates that are no valid Python.
	@$(BIN)/python -m compileall -q -j 0 $(CURDIR)/.venv/lib >/dev/null 2>&1 || true
	@touch $@

# The names of the Python modules, which the installation in place maps to files.
.venv/modules: .venv/packages FORCE
	@find keras_mtl -name '*.py' | LC_ALL=C sort | cmp --silent - $@ \
	  || find keras_mtl -name '*.py' | LC_ALL=C sort >$@

FORCE:

# Builds the C++ code and installs the package whenever the C++ code, the metadata or the names of
# modules have changed.
.venv/ready: .venv/packages .venv/modules pyproject.toml $(shell find cc -type f)
	$(if $(COMPILER),,$(error found no C++17 compiler. Install g++ 9 or clang++ 10 or newer, or \
	  set CXX to one))
	@echo "Building the C++ code and installing keras_mtl in place"
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
