# Targets of the stack around the service: monitoring, containers, packages. Included by Makefile.

INFRASTRUCTURE_VENV := .cache/venv-infrastructure
$(INFRASTRUCTURE_VENV)/installed: tests/infrastructure/requirements.txt
	@mkdir -p $(@D)
	python3 -m venv --clear $(INFRASTRUCTURE_VENV)
	$(INFRASTRUCTURE_VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

INFRASTRUCTURE_PYTEST := $(INFRASTRUCTURE_VENV)/bin/python -B -m pytest -c tests/infrastructure/pytest.ini \
	-p no:cacheprovider $(if $(TEST_REPORT),--junitxml='$(TEST_REPORT)')

.PHONY: infra infra-live
infra: $(INFRASTRUCTURE_VENV)/installed ## rules, dashboards, compose and other files of infrastructure/, without servers
	$(INFRASTRUCTURE_PYTEST) $(or $(T),tests/infrastructure/quick)

infra-live: $(INFRASTRUCTURE_VENV)/installed ## all queries on real Prometheus servers, an outage through a real Alertmanager
	@tests/servers/install prometheus alertmanager
	@$(MAKE) -s -j$(JOBS) build
	$(INFRASTRUCTURE_PYTEST) $(or $(T),tests/infrastructure/live)
