# `make install` first; everything else depends on it and does it when needed.
# Nothing is installed outside this folder.

SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3; do \
	$$each -c '$(SUITABLE)' 2>/dev/null && command -v $$each && break; done)
BIN := .venv/bin

.DEFAULT_GOAL := install
.PHONY: install demo serve test fmt clean

install: .venv/.installed .tools/.anvil

# The stamp is written last, so an interrupted installation is done again, and from nothing: what
# it left may be half a pip.
.venv/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(SUITABLE)' \
		|| { echo "Python 3.11, 3.12 or 3.13 is needed; name one: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# anvil is the local chain of the demo and the tests; the service itself does without it.
.tools/.anvil: scripts/anvil.py .venv/.installed
	$(BIN)/python -m scripts.anvil
	@mkdir -p .tools && touch $@

# nginx is what some tests put in front of the service; without it they are left out.
.tools/.nginx: scripts/nginx.py .venv/.installed
	$(BIN)/python -m scripts.nginx
	@mkdir -p .tools && touch $@

# ethers and viem check in the tests that any wallet library verifies an event.
.tools/.node: scripts/node_libraries.py .venv/.installed
	$(BIN)/python -m scripts.node_libraries
	@mkdir -p .tools && touch $@

# EXIT=1 ends the demo after its last step instead of leaving it running.
demo: install
	$(BIN)/python -m scripts.demo $(if $(EXIT),--exit)

serve: .venv/.installed
	$(BIN)/ivxp-ledger serve

test: install
	-@$(MAKE) --no-print-directory .tools/.nginx .tools/.node
	$(BIN)/python -m scripts.check

fmt: .venv/.installed
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# Only what can be made again: the ledger in ./data, its guard and its keys are never removed.
clean:
	rm -rf .venv .tools build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
