# make demo | test | check | bench | faults | arm | container    each makes .venv, and again when what it is made from changes
# make demo ARGS="--seconds 20"               ARGS goes to the command; PYTHON names the interpreter to make .venv with
# make bench-learning ARGS="--data DIR"       gateways that learn together; DIR may hold more sets to measure on
# make bench-jobs                             questions to 100 million readings on two gateways, over slow links
# make faults ARGS="gateway-kill --whole"     one scenario; without ARGS all, an hour, going on where it was interrupted

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# What pip installs has its bytecode; compiling anew is half of a start, and tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check format bench bench-learning bench-jobs faults arm container clean
help:
	@sed -n 's/^# make/make/p' Makefile

demo: $(READY)
	@$(BIN)/fieldgate demo $(ARGS)

test: $(READY)
	@$(BIN)/python -m pytest -n 2 $(ARGS)

check: $(READY)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy --strict

format: $(READY)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY)
	@$(BIN)/python -m tests.bench $(ARGS)

bench-learning: $(READY)
	@$(BIN)/python -m tests.bench learning cascade learning_fleet $(ARGS)

bench-jobs: $(READY)
	@$(BIN)/python -m tests.bench work jobs $(ARGS)

faults: $(READY)
	@$(BIN)/python -m tests.faults.run $(or $(ARGS),all)

arm: $(READY)
	@deploy/arm.sh $(BIN)/python

container: $(READY)
	@deploy/container.sh $(BIN)/python

clean:
	rm -rf $(VENV) build dist cloud/web/vendor

$(READY): pyproject.toml cloud/web/package-lock.json deploy/build_web.py deploy/venv.sh
	@deploy/venv.sh $(PYTHON) $(VENV)
	@touch $@
