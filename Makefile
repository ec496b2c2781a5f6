# make demo      install what is missing, then record a sample application, generate its profile, and run it confined
# make test      install what is missing, then run all tests
# make programs  install servers and tools of Debian, then run them under their profiles
# make packages  build the wheel, the sdist and the Debian package in dist/, and test each where nothing else is installed
# make man       write the manual pages to build/man
# make lint      ruff, mypy and clang-format
# make filters   compare many random seccomp profiles with their compiled filters
# make campaigns kill profgen 200 times at random moments, record 500 races of fork, exec and kill, and try new random
#                inputs in the property tests
# make bench     measure the figures of docs/performance.md
# All are safe to repeat. Root gets Debian packages installed; an ordinary user is told what is missing.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PYTEST_FLAGS ?=

.PHONY: demo test programs packages man lint filters campaigns bench clean

demo:
	sh tests/packages.sh demo
	@$(MAKE) --no-print-directory $(VENV)/.ready
	PROFGEN="$(CURDIR)/$(BIN)/profgen" sh sample_apps/demo.sh

test:
	sh tests/packages.sh test
	@$(MAKE) --no-print-directory $(VENV)/.ready
	sh tests/quadlet.sh $(VENV)/quadlet
	sh tests/wild.sh $(VENV)/wild
	$(BIN)/python -m pytest -q -p no:cacheprovider -n 2 --dist loadscope $(PYTEST_FLAGS)

programs:
	sh tests/packages.sh programs
	@$(MAKE) --no-print-directory $(VENV)/.ready
	sh tests/programs/apart.sh $(BIN)/python -m pytest -q -p no:cacheprovider -n 2 --dist loadscope tests/programs \
		$(PYTEST_FLAGS)

# The Debian package is built from the sdist, and its files bear the date of debian/changelog.
packages:
	sh tests/packages.sh packages
	@$(MAKE) --no-print-directory $(VENV)/.ready
	rm -rf dist build/deb
	SOURCE_DATE_EPOCH=$$(dpkg-parsechangelog -S Timestamp) $(BIN)/python -m hatchling build -d dist
	mkdir -p build/deb
	tar xf dist/profgen-*.tar.gz -C build/deb
	cd build/deb/profgen-* && PYTHON="$(CURDIR)/$(BIN)/python" dpkg-buildpackage --unsigned-source --unsigned-changes -b
	mv build/deb/*.deb dist/
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/packages $(PYTEST_FLAGS)

man: $(VENV)/.ready
	$(BIN)/python -m profiler.cli.manual build/man

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $$(find profiler -name '*.[ch]')

filters:
	sh tests/packages.sh test
	@$(MAKE) --no-print-directory $(VENV)/.ready
	PROFGEN_RANDOM_PROFILES=10000 $(BIN)/python -m pytest -q -p no:cacheprovider tests/unit/review/test_compiled.py

campaigns:
	sh tests/packages.sh test
	@$(MAKE) --no-print-directory $(VENV)/.ready
	PROFGEN_KILLS=100 PROFGEN_RACES=500 $(BIN)/python -m pytest -q -p no:cacheprovider -n 2 \
		tests/system/test_campaigns.py $(PYTEST_FLAGS)
	$(BIN)/python -m pytest -q -p no:cacheprovider -n 2 --hypothesis-profile=random tests/unit $(PYTEST_FLAGS)

bench:
	sh tests/packages.sh test
	@$(MAKE) --no-print-directory $(VENV)/.ready
	$(BIN)/python -m tests.bench

$(VENV)/.ready: pyproject.toml
	sh tests/packages.sh venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@

clean:
	rm -rf $(VENV) build dist profgen-demo .mypy_cache .ruff_cache .pytest_cache
