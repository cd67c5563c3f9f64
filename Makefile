# make test    everything that must hold before a change goes in
# make demo    a scene made from nothing, fitted, converted and rendered, in demo-out/
# make test-nerfstudio   the tests of what runs inside of nerfstudio, in build/nerfstudio
# make peers   build/peers, where fieldcast and what benchmarks/ compares it with can both be imported
#
# PYTHON=python3.12 picks the interpreter that .venv is made with; ARGS="-k vm -x" is passed on to pytest.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
TYPES := build/types/fieldcast
PEERS := build/peers/installed
NERFSTUDIO := build/nerfstudio/installed

.PHONY: env lint test demo peers nerfstudio test-nerfstudio

env: $(INSTALLED) $(TYPES)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --upgrade "pip>=24" "setuptools>=77"
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev]"
	touch $@

# The top level of the repository is the package, which type checkers cannot know: they follow this link.
$(TYPES):
	mkdir -p $(@D)
	ln -sfn ../.. $@

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest $(ARGS)

demo: env
	$(BIN)/fieldcast demo --force

peers: $(PEERS)

$(PEERS): pyproject.toml constraints.txt benchmarks/peers.txt
	test -x build/peers/bin/python || $(PYTHON) -m venv build/peers
	build/peers/bin/python -m pip install --upgrade "pip>=24" "setuptools>=77"
	build/peers/bin/python -m pip install --constraint constraints.txt --editable .
	build/peers/bin/python -m pip install --no-deps --requirement benchmarks/peers.txt
	touch $@

nerfstudio: $(NERFSTUDIO)

$(NERFSTUDIO): pyproject.toml constraints-nerfstudio.txt tests/nerfstudio/torchvision_on_cpu.py
	test -x build/nerfstudio/bin/python || $(PYTHON) -m venv build/nerfstudio
	build/nerfstudio/bin/python -m pip install --upgrade "pip>=24" "setuptools>=77"
	build/nerfstudio/bin/python -m pip install --constraint constraints-nerfstudio.txt \
		--editable ".[nerfstudio]" pytest pytest-timeout
	build/nerfstudio/bin/python tests/nerfstudio/torchvision_on_cpu.py
	touch $@

# They have settings of their own: nerfstudio warns of much, and the warnings of this project's tests are errors.
test-nerfstudio: nerfstudio
	build/nerfstudio/bin/python -m pytest --config-file tests/nerfstudio/pytest.ini tests/nerfstudio $(ARGS)
