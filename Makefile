PYTHON ?= python3
PORT ?= 5000
ARGS ?=

# What .venv is made from: its Python, its place and the lock. The scripts in .venv/bin break when it is moved.
MADE_FROM = { .venv/bin/python -ISc 'import sys; print(sys.version_info[:2], sys.executable)' && \
	cat requirements.lock; } 2>/dev/null

# A process for each core, but no more than the memory holds
AT_ONCE = -n logical --maxprocesses 4 --dist worksteal

.PHONY: help setup repro test test-long test-browser faults bench tune compare doctor ui lint format lock clean-checkpoints clean
.PHONY: python-ok anew

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

setup: ## Make .venv from requirements.lock, if it is missing or stale (PYTHON=python3.12 picks another Python)
	@test -L .venv || $(MADE_FROM) | cmp -s - .venv/.from-lock 2>/dev/null || $(MAKE) --no-print-directory anew

repro: setup ## Run what must run of the pipeline: prepare, train, validate, evaluate (ARGS="..." for dvc repro)
	@.venv/bin/dvc repro $(ARGS)
	@.venv/bin/python -m src.reuse

test: setup ## Run the tests, all but those that need a browser or much time (ARGS="..." for pytest)
	@exec .venv/bin/python -m pytest tests -m "not browser and not faults and not long" $(AT_ONCE) $(ARGS)

test-long: setup ## Run those that take longest, too (ARGS="..." for pytest)
	@exec .venv/bin/python -m pytest tests -m "long and not faults" $(AT_ONCE) $(ARGS)

test-browser: setup ## Run the tests that need chromium and its driver (ARGS="..." for pytest)
	@exec .venv/bin/python -m pytest tests -m browser $(ARGS)

faults: setup ## Kill real trainings, fill disks, cut the way to MLflow, and compare; long (ARGS="--quick", or --help)
	@exec .venv/bin/python -m tests.faults $(ARGS)

bench: setup ## Measure against other tools, side by side; long, on a quiet machine (ARGS="--quick", or --help)
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -c requirements.lock -r bench/requirements.txt
	@for name in loop tracking checkpoint startup scaling sweep pruning quality; do .venv/bin/python -m bench.$$name $(ARGS) || exit; done

tune: setup ## Search for better params, write them into params.yaml, run the pipeline (ARGS="--trials 50")
	@exec .venv/bin/python -m src.tune --repro $(ARGS)

compare: setup ## Show the newest runs, what differs and what is best (ARGS="RUN RUN" puts runs side by side)
	@exec .venv/bin/python -m src.compare $(ARGS)

doctor: setup ## Check the set-up and everything that is kept (ARGS="--fix" mends what can be mended)
	@exec .venv/bin/python -m src.doctor $(ARGS)

ui: ## Open the MLflow UI on this machine only (PORT=5000)
	@test -f mlflow.db || { echo "no runs yet: make repro" >&2; exit 1; }
	@$(MAKE) --no-print-directory setup
	@echo "MLflow UI: http://127.0.0.1:$(PORT) (Ctrl-C ends it)"
	@exec env MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false .venv/bin/mlflow server \
		--backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port $(PORT) --workers 1

lint: setup ## Check style and types: ruff and mypy
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

format: setup ## Rewrite the code in the project's style
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

# Made with the oldest Python that is supported: a newer one may get versions that the oldest no longer runs.
# What torch brings for CUDA stays out, as does its build's tag: each machine gets the build its pip is set up for.
lock: python-ok ## Make requirements.lock anew from pyproject.toml, with the newest versions (needs Python 3.11)
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "the lock is made with Python 3.11: make lock PYTHON=python3.11" >&2; exit 1; }
	@echo "Installing the newest versions in .venv-lock to see which they are. This takes a few minutes."
	@rm -rf .venv-lock && "$(PYTHON)" -m venv .venv-lock
	@.venv-lock/bin/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*p["dependencies"], *p["optional-dependencies"]["dev"], sep="\n")' > .venv-lock/wanted.txt
	@.venv-lock/bin/python -m pip install -qq --disable-pip-version-check -r .venv-lock/wanted.txt
	@.venv-lock/bin/python -m pip freeze --all --exclude pip > .venv-lock/frozen.txt
	@{ grep '^#' requirements.lock; sed 's/^\(torch==[^+]*\)+.*/\1/' .venv-lock/frozen.txt | \
		grep -vE '^(nvidia-|cuda-|triton==)' | LC_ALL=C sort -f; } > .venv-lock/requirements.lock
	@mv .venv-lock/requirements.lock requirements.lock && rm -rf .venv-lock
	@echo "requirements.lock is new: make test"

clean-checkpoints: ## Remove all checkpoints; trainings then start from their first epoch
	@test ! -d models/checkpoints || find models/checkpoints -name 'epoch-*' -delete

clean: ## Remove .venv and caches; data, models, reports and MLflow's runs stay
	@rm -rf .venv .venv-lock .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find src stages tests bench -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

python-ok:
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "$(PYTHON) is not there: install Python 3.11 or newer, or name it: make setup PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is older: make setup PYTHON=python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make a venv: install that part of it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }

# PYTHON may be the one of an activated .venv, so its base is asked for before .venv goes. Without --no-compile pip
# spends half of its time on bytecode, most of it for modules that nothing here imports. Python keeps that of those that
# are, but not with PYTHONDONTWRITEBYTECODE, as in many containers, where each process would compile them all again;
# files of packages that are no Python of this version do not compile, and are not needed.
anew: python-ok
	@echo "Making .venv from requirements.lock. This takes a few minutes, longer where torch is still to download."
	@base=$$("$(PYTHON)" -c 'import sys; print(sys._base_executable)') && rm -rf .venv && "$$base" -m venv .venv
	@.venv/bin/python -m pip install -qq --disable-pip-version-check --no-compile -r requirements.lock
	@test -z "$$PYTHONDONTWRITEBYTECODE" || \
		PYTHONWARNINGS=ignore .venv/bin/python -m compileall -q -j 0 -x '/tests/|/testing/_internal/' .venv/lib || true
	@$(MADE_FROM) > .venv/from-lock.part && mv .venv/from-lock.part .venv/.from-lock
