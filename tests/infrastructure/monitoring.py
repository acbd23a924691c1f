"""The monitoring files as they are committed: alerts, recording rules, their cases, dashboards, runbooks;
and every PromQL expression in them. check() lists what breaks a rule."""

import json
import re
import sys
from pathlib import Path

import promql_parser
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
INFRASTRUCTURE = REPOSITORY / "infrastructure"
PROMETHEUS = INFRASTRUCTURE / "prometheus"
DASHBOARDS = INFRASTRUCTURE / "grafana" / "dashboards"
RUNBOOKS = "docs/OPERATIONS.md"
SEVERITIES = ("critical", "warning")
PROMETHEUS_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
LOG_SOURCE = {"type": "elasticsearch", "uid": "${logs}"}
# What Grafana puts in for its variables, and what these are for a check of the syntax.
GRAFANA = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "1h"}
METRIC_SOURCES = ("http", "files", "storage", "metadata", "upload", "download", "auth", "process",
                  "log_lines", "sentry", "otel", "gateway", "swept", "sweeps", "uploads")


def rules(name):
    """The rules of a file, in order."""
    groups = yaml.safe_load((PROMETHEUS / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts():
    return rules("alerts.yml")


def cases():
    """{alert: [whether it has to fire]}"""
    found = {}
    for path in sorted((PROMETHEUS / "tests").glob("*.yml")):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                found.setdefault(case["alertname"], []).append(bool(case["exp_alerts"]))
    return found


def anchors(text):
    """Those of a Markdown file's headings, as Git hosts make them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def panels(dashboard):
    """All of them, those in closed rows too."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def dashboards():
    """{file name: dashboard}"""
    return {path.name: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def without_variables(expression, values=None):
    for name, value in {**GRAFANA, **(values or {})}.items():
        expression = expression.replace(name, value)
    return re.sub(r"\$\{?\w+\}?", ".*", expression)


def dashboard_expressions():
    """(where, expression as written) of each query to Prometheus."""
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel.get("targets", []):
                if "expr" in target:
                    yield f"{name}: {panel['title']}", target["expr"]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query" and variable["datasource"] == PROMETHEUS_SOURCE:
                inner = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
                yield f"{name}: variable {variable['name']}", inner[1] if inner else "("


def rule_expressions():
    for rule in rules("recording.yml"):
        yield rule["record"], rule["expr"]
    for rule in alerts():
        yield rule["alert"], rule["expr"]


def document_expressions():
    """Code blocks marked promql in the documents."""
    for path in sorted((REPOSITORY / "docs").rglob("*.md")) + sorted(INFRASTRUCTURE.rglob("*.md")):
        for block in re.findall(r"^```promql\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE):
            for line in block.splitlines():
                if line.strip() and not line.startswith("#"):
                    yield path.name, line


def selectors(node):
    """The vector selectors of a parsed expression, each with the functions and aggregations around
    it."""
    found = []

    def walk(each, around):
        kind = type(each).__name__
        if kind == "VectorSelector":
            found.append((each, around))
        elif kind == "MatrixSelector":
            found.append((each.vector_selector, around))
        elif kind == "Call":
            for argument in each.args:
                walk(argument, [*around, each.func.name])
        elif kind == "BinaryExpr":
            walk(each.lhs, around)
            walk(each.rhs, around)
        elif hasattr(each, "expr"):
            walk(each.expr, around)

    walk(node, [])
    return found


# ---- the rules ----

def check_alerts(problems):
    seen = set()
    known = cases()
    documents = {}
    for rule in alerts():
        name = rule["alert"]
        if name in seen:
            problems.append(f"alert {name}: there are two")
        seen.add(name)
        if "for" not in rule:
            problems.append(f"alert {name}: no `for`")
        if rule.get("labels", {}).get("severity") not in SEVERITIES:
            problems.append(f"alert {name}: no severity")
        for part in ("summary", "description", "runbook_url"):
            if not rule.get("annotations", {}).get(part):
                problems.append(f"alert {name}: no {part}")
        fires = known.get(name, [])
        if True not in fires or False not in fires:
            problems.append(f"alert {name}: no case that fires, or none that does not")
        path, _, anchor = rule.get("annotations", {}).get("runbook_url", "").partition("#")
        if path != RUNBOOKS or anchor != name.lower():
            problems.append(f"alert {name}: its runbook is not {RUNBOOKS}#{name.lower()}")
            continue
        text = documents.setdefault(path, (REPOSITORY / path).read_text())
        if not re.search(rf"^### {name}\n+\S", text, re.MULTILINE):
            problems.append(f"alert {name}: {RUNBOOKS} has no runbook for it")
    for name in set(known) - seen:
        problems.append(f"case for the unknown alert {name}")
    text = (REPOSITORY / RUNBOOKS).read_text()
    section = re.search(r"^## Alerts\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^### (.+)$", section[1], re.MULTILINE):
        if heading not in seen:
            problems.append(f"{RUNBOOKS}: runbook {heading} of no alert")
    for anchor in re.findall(r"\]\(#([\w-]+)\)", section[1]):
        if anchor not in anchors(text):
            problems.append(f"{RUNBOOKS}: link to #{anchor}, which is not there")


def check_inhibitions(problems):
    """Alertmanager's rules name alerts that exist."""
    names = {rule["alert"] for rule in alerts()}
    text = (INFRASTRUCTURE / "alertmanager" / "alertmanager.yml").read_text()
    for rule in yaml.safe_load(text)["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            pattern = re.fullmatch(r'alertname=~?"(.*)"', matcher)[1]
            for alternative in pattern.split("|"):
                if not any(re.fullmatch(alternative, name) for name in names):
                    problems.append(f"alertmanager.yml: no alert is called {alternative}")


def check_query(where, expression, problems):
    try:
        parsed = promql_parser.parse(without_variables(expression))
    except ValueError as error:
        problems.append(f"{where}: {error}: {expression}")
        return
    if re.search(r"\[\d+[smhd]", expression) and "$__range" not in expression:
        problems.append(f"{where}: a fixed range instead of $__rate_interval: {expression}")
    for selector, around in selectors(parsed):
        labels = {matcher.name for matcher in selector.matchers.matchers}
        recorded = ":" in (selector.name or "")
        if "job" not in labels or ("instance" not in labels and not recorded):
            problems.append(f"{where}: {selector.name} without job and instance")
        counts = re.search(r"_(total|bucket|sum|count)$", selector.name or "") and not recorded
        if counts and not {"rate", "increase", "irate"} & set(around):
            problems.append(f"{where}: {selector.name} without rate or increase")


def check_panel(name, panel, problems):
    where = f"{name}: {panel.get('title') or 'a panel without title'}"
    if panel["type"] == "row":
        return
    for part in ("title", "description"):
        if not panel.get(part):
            problems.append(f"{where}: no {part}")
    if panel["type"] in ("text", "alertlist"):
        return
    if panel["type"] != "logs" and not panel["fieldConfig"]["defaults"].get("unit"):
        problems.append(f"{where}: no unit")
    if not panel.get("targets"):
        problems.append(f"{where}: no target")
    if panel["datasource"] not in (PROMETHEUS_SOURCE, LOG_SOURCE):
        problems.append(f"{where}: its data source is not a variable")
    for target in panel.get("targets", []):
        if target.get("datasource") != panel["datasource"]:
            problems.append(f"{where}: a target of another data source")
        if "expr" in target:
            check_query(where, target["expr"], problems)


def check_dashboards(problems):
    seen = {}
    for name, dashboard in dashboards().items():
        for part, value in (("id", None), ("editable", False), ("schemaVersion", 39),
                            ("timezone", "utc")):
            if dashboard.get(part, "missing") != value:
                problems.append(f"{name}: {part} is not {value}")
        for part in ("uid", "title", "description"):
            if not dashboard.get(part) or (part, dashboard[part]) in seen:
                problems.append(f"{name}: no {part} of its own")
            seen[part, dashboard.get(part)] = name
        numbers = [panel["id"] for panel in panels(dashboard)]
        if len(set(numbers)) != len(numbers):
            problems.append(f"{name}: panels with the same id")
        variables = {each["name"]: each for each in dashboard["templating"]["list"]}
        wanted = {target["datasource"]["uid"] for panel in panels(dashboard)
                  for target in panel.get("targets", [])}
        if "${datasource}" in wanted:
            for variable in ("datasource", "job", "instance"):
                if variable not in variables:
                    problems.append(f"{name}: no variable {variable}")
        for variable in variables.values():
            if variable["type"] == "query" and variable.get("refresh") != 2:
                problems.append(f"{name}: variable {variable['name']} is not refreshed on time change")
        for panel in panels(dashboard):
            check_panel(name, panel, problems)


def check():
    problems = []
    check_alerts(problems)
    check_inhibitions(problems)
    check_dashboards(problems)
    for where, expression in [*rule_expressions(), *document_expressions()]:
        try:
            promql_parser.parse(expression)
        except ValueError as error:
            problems.append(f"{where}: {error}")
    return problems


if __name__ == "__main__":
    found = check()
    print("\n".join(found) or f"{len(alerts())} alerts, {len(dashboards())} dashboards: nothing to say")
    sys.exit(1 if found else 0)
