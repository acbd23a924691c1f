# Targets of the stack around the service: monitoring, containers, packages. Included by Makefile.

INFRASTRUCTURE_VENV := .cache/venv-infrastructure
$(INFRASTRUCTURE_VENV)/installed: tests/infrastructure/requirements.txt
	@mkdir -p $(@D)
	python3 -m venv --clear $(INFRASTRUCTURE_VENV)
	$(INFRASTRUCTURE_VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

INFRASTRUCTURE_PYTEST := $(INFRASTRUCTURE_VENV)/bin/python -B -m pytest -c tests/infrastructure/pytest.ini \
	-p no:cacheprovider $(if $(TEST_REPORT),--junitxml='$(TEST_REPORT)')

.PHONY: infra infra-live e2e-containers
infra: $(INFRASTRUCTURE_VENV)/installed ## rules, dashboards, compose and other files of infrastructure/, without servers
	$(INFRASTRUCTURE_PYTEST) $(or $(T),tests/infrastructure/quick)

infra-live: $(INFRASTRUCTURE_VENV)/installed ## all queries on real Prometheus servers, an outage through a real Alertmanager
	@tests/servers/install prometheus alertmanager
	@$(MAKE) -s -j$(JOBS) build
	$(INFRASTRUCTURE_PYTEST) $(or $(T),tests/infrastructure/live)

e2e-containers: $(INFRASTRUCTURE_VENV)/installed ## the images, built and run by a Docker engine started for it (as root)
	@infrastructure/scripts/install-deps.sh containers
	$(INFRASTRUCTURE_PYTEST) $(or $(T),tests/infrastructure/containers)

# ---- containers ----

COMPOSE ?= docker compose
COMPOSE_INFRASTRUCTURE := $(COMPOSE) -f docker/compose.infrastructure.yaml
COMPOSE_FULL := $(COMPOSE) -f docker/compose.production.yaml -f docker/compose.infrastructure.yaml

.PHONY: secrets infra-up infra-down infra-logs infra-health full-up full-down prod-up health
secrets: ## make the random secrets of the compose files, those missing only
	@infrastructure/scripts/make-secrets

infra-up: secrets ## start stores, monitoring and log servers in containers
	$(COMPOSE_INFRASTRUCTURE) up -d --wait

infra-down: ## end them; volumes stay
	$(COMPOSE_INFRASTRUCTURE) down

infra-logs: ## their output; T= for one service
	$(COMPOSE_INFRASTRUCTURE) logs --tail 100 --follow $(T)

infra-health: ## a line for each of these containers
	@COMPOSE='$(COMPOSE)' infrastructure/scripts/health-check.sh docker/compose.infrastructure.yaml

full-up: secrets ## build and start everything: gateway, backends, stores, monitoring
	$(COMPOSE_FULL) up -d --build --wait

full-down: ## end it; volumes stay
	$(COMPOSE_FULL) down

prod-up: secrets ## build and start gateway and backends alone; stores are elsewhere
	$(COMPOSE) -f docker/compose.production.yaml up -d --build --wait

health: ## a line for each container of the whole stack
	@COMPOSE='$(COMPOSE)' infrastructure/scripts/health-check.sh docker/compose.production.yaml \
		docker/compose.infrastructure.yaml
