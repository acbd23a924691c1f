"""Kibana's saved objects and their import. Kibana itself can't be had: its answers are made up, the objects
are held against the fields that the index template and the programs have."""

import http.server
import json
import re
import subprocess
import threading

import pytest

from monitoring import INFRASTRUCTURE, REPOSITORY

FOLDER = INFRASTRUCTURE / "kibana"
IMPORT = FOLDER / "import"


@pytest.fixture(name="objects", scope="module")
def saved_objects():
    lines = (FOLDER / "saved-objects.ndjson").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_each_kind_is_there_and_each_reference_leads_somewhere(objects):
    names = {(each["type"], each["id"]) for each in objects}
    assert len(names) == len(objects)
    assert {kind for kind, _ in names} == {"index-pattern", "search", "visualization", "dashboard"}
    seen = set()
    for each in objects:
        # Kibana imports in any order, a reader should not have to.
        assert all((to["type"], to["id"]) in seen for to in each["references"]), each["id"]
        seen.add((each["type"], each["id"]))
        # Kibana refuses objects that are newer than itself: these are for 8.19.
        assert each["coreMigrationVersion"] == "8.8.0"
        assert re.fullmatch(r"8\.\d\.0", each["typeMigrationVersion"])
    (view,) = [each for each in objects if each["type"] == "index-pattern"]
    assert view["attributes"]["title"] == "logs-*"
    assert view["attributes"]["timeFieldName"] == "@timestamp"


def test_json_in_json_is_json(objects):
    for each in objects:
        for name, value in each["attributes"].items():
            if name.endswith(("JSON", "State", "Map", "Attrs")):
                json.loads(value)
        meta = each["attributes"].get("kibanaSavedObjectMeta", {}).get("searchSourceJSON")
        if meta:
            source = json.loads(meta)
            assert source["query"]["language"] == "kuery"
            name = source.get("indexRefName")
            assert not name or name in {to["name"] for to in each["references"]}
        if each["type"] == "dashboard":
            panels = json.loads(each["attributes"]["panelsJSON"])
            assert ({f"{panel['panelIndex']}:{panel['panelRefName']}" for panel in panels}
                    == {to["name"] for to in each["references"]})


def test_every_field_is_one_of_ours(objects):
    template = json.loads((INFRASTRUCTURE / "elasticsearch/component-template.json").read_text())
    known = set(template["template"]["mappings"]["properties"])
    documented = (REPOSITORY / "docs/OPERATIONS.md").read_text()
    used = set()
    for each in objects:
        attributes = each["attributes"]
        used.update(attributes.get("columns", []))
        for aggregation in json.loads(attributes.get("visState", "{}")).get("aggs", []):
            used.update(filter(None, [aggregation["params"].get("field")]))
        meta = attributes.get("kibanaSavedObjectMeta", {}).get("searchSourceJSON", "{}")
        query = json.loads(meta).get("query", {}).get("query", "")
        used.update(re.findall(r"([\w.@]+) *[:>]", query))
    assert len(used) > 10
    for field in used - known:
        assert f"`{field}`" in documented, field


class Kibana:
    """Answers imports with `answer`; keeps what came."""

    def __init__(self, *answers):
        self.received = received = []
        answers = list(answers)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):  # pylint: disable=invalid-name
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append((self.path, dict(self.headers), body))
                status, text = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def run(self, *arguments, **environment):
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        done = subprocess.run([IMPORT, *arguments], capture_output=True, text=True, check=False,
                              env={"PATH": "/usr/bin:/bin", "KIBANA_URL": url, **environment})
        self.server.shutdown()
        self.server.server_close()
        return done


def test_the_import_sends_all_objects_and_waits_for_kibana(tmp_path):
    key = tmp_path / "key"
    key.write_text("c2VjcmV0\n")
    kibana = Kibana((503, "not ready"), (200, '{"successCount":13,"success":true}'))
    done = kibana.run("--wait", "20", KIBANA_API_KEY_FILE=str(key), KIBANA_SPACE="ops")
    assert done.returncode == 0 and done.stdout.startswith("imported "), done
    path, headers, body = kibana.received[-1]
    assert path == "/s/ops/api/saved_objects/_import?overwrite=true"
    assert headers["kbn-xsrf"] and headers["Authorization"] == "ApiKey c2VjcmV0"
    assert (FOLDER / "saved-objects.ndjson").read_bytes() in body


@pytest.mark.parametrize("answer", [
    (200, '{"success":false,"errors":[{"id":"x"}]}'), (401, "login"), (503, "no")])
def test_an_import_that_failed_says_so(answer):
    done = Kibana(answer).run()
    assert done.returncode == 1 and done.stderr.startswith("import: ")


def test_a_dry_run_sends_nothing(objects):
    kibana = Kibana((200, '{"success":true}'))
    done = kibana.run("--dry-run")
    assert done.returncode == 0 and not kibana.received
    for each in objects:
        assert f"  {each['type']} {each['id']}\n" in done.stdout
