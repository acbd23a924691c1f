"""A real Bugsink (servers.py): an error tracker that speaks Sentry's protocol, on a free loopback
port. It checks every report against the protocol's schema; what it took is read from its database,
as its answer is 200 either way.

    with Bugsink() as tracker:
        project = tracker.project("name")
        Service(SENTRY_DSN=project.dsn)
        project.wait_for(1)[0]["tags"]["program"]
"""

import json
import shutil
import sqlite3
import urllib.parse
import urllib.request
import uuid

from servers import PROGRAMS, REPOSITORY, Server
from service import wait_for


class Bugsink(Server):
    name = program = "bugsink"
    stop_seconds = 5

    def __init__(self):
        super().__init__()
        template = (PROGRAMS / self.program).resolve().parent
        for database in ("db.sqlite3", "snappea.sqlite3"):
            shutil.copy(template / database, self.folder / database)

    def command(self):
        return [PROGRAMS / self.program, "gunicorn", "--bind", f"127.0.0.1:{self.port}",
                "--workers", "1", "--threads", "4", "--access-logfile", "-", "bugsink.wsgi"]

    def environment(self):
        return {"BUGSINK_FOLDER": str(self.folder), "DJANGO_SETTINGS_MODULE": "bugsink_conf",
                "PYTHONPATH": str(REPOSITORY / "tests" / "servers"),
                "PYTHONDONTWRITEBYTECODE": "1"}

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def answers(self):
        with urllib.request.urlopen(f"{self.endpoint}/health/ready", timeout=5) as answer:
            return answer.status == 200

    def query(self, statement, *values):
        connection = sqlite3.connect(self.folder / "db.sqlite3", timeout=10)
        try:
            with connection:
                connection.row_factory = sqlite3.Row
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def project(self, name="project"):
        """A new project of its own, like the one that the template has."""
        [row] = self.query("SELECT * FROM projects_project WHERE name = 'template'")
        key = uuid.uuid4().hex
        values = {**dict(row), "id": None, "name": f"{name} {key}", "slug": key, "sentry_key": key}
        self.query(f"INSERT INTO projects_project ({', '.join(values)}) "
                   f"VALUES ({', '.join('?' * len(values))})", *values.values())
        [row] = self.query("SELECT id FROM projects_project WHERE sentry_key = ?", key)
        return Project(self, row["id"], key)


class Project:
    def __init__(self, tracker, number, key):
        self.tracker, self.number, self.key = tracker, number, key
        self.dsn = self.dsn_at(tracker.endpoint)

    def dsn_at(self, endpoint):
        """The DSN by way of a proxy."""
        url = urllib.parse.urlsplit(endpoint)
        return f"{url.scheme}://{self.key}@{url.netloc}/{self.number}"

    def events(self):
        """What was taken, in its order: the reports as they were sent, with `issue` (what they were
        grouped into) added."""
        rows = self.tracker.query(
            "SELECT data, issue_id FROM events_event WHERE project_id = ? "
            "ORDER BY project_digest_order", self.number)
        return [{**json.loads(row["data"]), "issue": row["issue_id"]} for row in rows]

    def wait_for(self, count, seconds=20.0):
        """All events, as soon as there are so many."""
        try:
            return wait_for(lambda: len(found := self.events()) >= count and found,
                            f"{count} events", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}, but {len(self.events())}; the tracker's log ends:\n"
                                 f"{self.tracker.log_end()}") from None
