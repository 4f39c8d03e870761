# `make demo` and `make test` work on a fresh clone: each first sets up what it needs in .venv. `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python
CODE := swarm daemon edge origin player deploy loadtests tests
HOST ?= http://127.0.0.1:8080
USERS ?= 100
NETLAB ?= --rival both
FOR ?= 2m
PYTEST := -m pytest -n 2 --dist loadscope

.PHONY: help setup packages demo test check lint types unit-3.13 format lock show load bench bench-packages netlab cachetests clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

# Stamps make a second call instant, and a changed lock a new installation.
.venv/.stamp: requirements/dev.txt
	@deploy/setup.sh python

.venv-3.13/.stamp: requirements/dev.txt
	@deploy/setup.sh python-3.13

player/web/vendor/hls.min.mjs: package-lock.json
	@deploy/setup.sh player

setup: .venv/.stamp player/web/vendor/hls.min.mjs  ## virtual environment and hls.js; needs no root
	@:

packages:
	@deploy/setup.sh packages

demo: setup  ## a live and an on-demand stream through three edges; DEMO_SECONDS=20 ends by itself
	@$(PY) -m deploy.demo

test: setup packages  ## every test this machine allows; says what it skipped and why
	$(PY) $(PYTEST)

check: lint types test unit-3.13  ## what CI runs: lint, types, all tests, unit tests on Python 3.13 too

lint: .venv/.stamp  ## ruff
	.venv/bin/ruff check $(CODE)
	.venv/bin/ruff format --check $(CODE)

types: .venv/.stamp  ## mypy, strict
	.venv/bin/mypy $(CODE)

unit-3.13: .venv-3.13/.stamp
	@if [ -x .venv-3.13/bin/python ]; then .venv-3.13/bin/python $(PYTEST) tests/unit; fi

show: setup packages  ## one promise at full length: make show WHAT=plays-1
	@[ -n "$(WHAT)" ] || { echo "say what to show, for example: make show WHAT=plays-1" >&2; exit 2; }
	@$(PY) -m tests.show $(WHAT)

cachetests: setup  ## the public HTTP caching suite through one edge: make cachetests SUITE=checkout (else the npm package)
	@$(PY) -m tests.cachetests $(SUITE)

load: setup  ## Locust viewers against a running edge: make load HOST=http://edge-1:8080 USERS=100 FOR=2m
	.venv/bin/locust -f loadtests/locustfile.py --headless --host $(HOST) --users $(USERS) --spawn-rate 10 --run-time $(FOR)

bench-packages:
	@deploy/setup.sh bench

bench: setup bench-packages  ## one edge process against nginx and Varnish on the same core; BENCH="--kinds tls --sizes 1KiB"
	$(PY) -m loadtests.bench $(BENCH)

.venv-rivals/.stamp: requirements/rivals.txt
	@deploy/setup.sh rivals

netlab: setup packages .venv-rivals/.stamp  ## real edges on shaped links against the fluid limit and libtorrent: make netlab NETLAB="--edges 4 --runs 1"
	$(PY) -m loadtests.netlab $(NETLAB)

format: .venv/.stamp  ## ruff's formatter and its safe fixes
	.venv/bin/ruff check --fix $(CODE)
	.venv/bin/ruff format $(CODE)

# The locks hold versions and hashes only: no index address, so that plain pip takes them from any mirror.
UV_LOCK := .venv/bin/uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links
lock: .venv/.stamp  ## remakes requirements/*.txt and package-lock.json
	$(PY) -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV_LOCK) pyproject.toml -o requirements/run.txt
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV_LOCK) pyproject.toml --extra dev -o requirements/dev.txt
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV_LOCK) requirements/rivals.in -o requirements/rivals.txt
	npm install --package-lock-only --ignore-scripts --no-audit --no-fund

clean:  ## removes everything that set-up and tests made
	rm -rf .venv .venv-3.13 .venv-rivals node_modules player/web/vendor .mypy_cache .ruff_cache .pytest_cache .hypothesis .demo dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
