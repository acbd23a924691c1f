"""Bugsink's settings for tests: one process that digests a report before it answers, checks it
against the protocol's schema, keeps its data in BUGSINK_FOLDER and speaks with nobody."""

import os

from bugsink.settings.default import *  # noqa: F403
from bugsink.settings.default import DATABASES

FOLDER = os.environ["BUGSINK_FOLDER"]
SECRET_KEY = "of no use to anybody, as the server is on loopback and lives for a test"
ALLOWED_HOSTS = ["*"]
TIME_ZONE = "UTC"
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"

DATABASES["default"]["NAME"] = f"{FOLDER}/db.sqlite3"
DATABASES["snappea"]["NAME"] = f"{FOLDER}/snappea.sqlite3"
SNAPPEA = {"TASK_ALWAYS_EAGER": True, "WAKEUP_CALLS_DIR": f"{FOLDER}/wakeup", "PID_FILE": None}
BUGSINK = {
    "BASE_URL": "http://127.0.0.1",
    "VALIDATE_ON_DIGEST": "strict",
    "PHONEHOME": False,
    "INGEST_STORE_BASE_DIR": f"{FOLDER}/ingestion",
    **{f"MAX_EVENTS_PER_{period}": 1_000_000 for period in ("5_MINUTES", "HOUR", "MONTH")},
    **{f"MAX_EVENTS_PER_PROJECT_PER_{period}": 1_000_000
       for period in ("5_MINUTES", "HOUR", "MONTH")},
}
