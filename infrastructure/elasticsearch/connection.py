"""Settings and requests of the programs in this folder. Settings come from the environment, or
from the files that --env-file names (NAME=value lines; the environment wins):

    ELASTICSEARCH_URL                  http://127.0.0.1:9200
    ELASTICSEARCH_API_KEY              the encoded API key; or
    ELASTICSEARCH_USER, ELASTICSEARCH_PASSWORD
    ELASTICSEARCH_CA_FILE              PEM file of https authorities; the system's when unset

A secret may also be in a file: ELASTICSEARCH_API_KEY_FILE, ELASTICSEARCH_PASSWORD_FILE. None is
ever an argument, so `ps` shows none.
"""

import base64
import http.client
import json
import os
import ssl
import urllib.parse

URL = "http://127.0.0.1:9200"


class SettingsError(Exception):
    """What the operator set is wrong; the text says what to change."""


class Unreachable(Exception):
    """No whole answer came."""


def read_env_file(path):
    """Puts a file's NAME=value lines into the environment, where nothing has that name yet."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: {error}") from None
    for number, line in enumerate(lines, 1):
        line = line.strip().removeprefix("export ")
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip().isidentifier():
            raise SettingsError(f"{path}, line {number}: not NAME=value")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        os.environ.setdefault(name.strip(), value)


def secret(name):
    """The setting NAME, or the first line of the file that NAME_FILE names; empty when unset."""
    value, path = os.environ.get(name, ""), os.environ.get(f"{name}_FILE", "")
    if value and path:
        raise SettingsError(f"{name} and {name}_FILE are both set")
    if path:
        try:
            with open(path, encoding="utf-8") as file:
                value = file.readline().strip()
        except (OSError, ValueError) as error:
            raise SettingsError(f"{name}_FILE: {error}") from None
        if not value:
            raise SettingsError(f"{name}_FILE: {path} is empty")
    return value


def authorization():
    """The Authorization header's value, or None without credentials."""
    key, password = secret("ELASTICSEARCH_API_KEY"), secret("ELASTICSEARCH_PASSWORD")
    user = os.environ.get("ELASTICSEARCH_USER", "")
    if key and (user or password):
        raise SettingsError("set ELASTICSEARCH_API_KEY, or ELASTICSEARCH_USER and "
                            "ELASTICSEARCH_PASSWORD, not both")
    if bool(user) != bool(password):
        raise SettingsError("ELASTICSEARCH_USER and ELASTICSEARCH_PASSWORD belong together")
    value = f"ApiKey {key}" if key else None
    if user:
        value = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    if value and not (value.isascii() and value.isprintable()):
        raise SettingsError("ELASTICSEARCH_API_KEY has characters that no API key has")
    return value


class Elasticsearch:
    """One connection, kept open between requests. Not for several threads."""

    def __init__(self, timeout=60):
        text = os.environ.get("ELASTICSEARCH_URL") or URL
        try:
            url = urllib.parse.urlsplit(text)
            self.port = url.port
        except ValueError as error:
            raise SettingsError(f"ELASTICSEARCH_URL: {error}") from None
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
            raise SettingsError("ELASTICSEARCH_URL is not like http://HOST:9200 or https://HOST")
        if url.username is not None or url.password is not None:
            raise SettingsError("ELASTICSEARCH_URL holds a user: set ELASTICSEARCH_USER and "
                                "ELASTICSEARCH_PASSWORD instead")
        self.host, self.prefix, self.timeout = url.hostname, url.path.rstrip("/"), timeout
        self.name = f"{url.scheme}://{url.netloc}{self.prefix}"
        self.authorization = authorization()
        self.tls = self.tls_context() if url.scheme == "https" else None
        self.connection = None

    @staticmethod
    def tls_context():
        path = os.environ.get("ELASTICSEARCH_CA_FILE") or None
        try:
            return ssl.create_default_context(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"ELASTICSEARCH_CA_FILE: {path}: {error}") from None

    def connect(self):
        if self.tls:
            return http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout,
                                               context=self.tls)
        return http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)

    def request(self, method, path, body=None, content_type="application/json"):
        """(status, JSON of the answer, or None when it isn't JSON). Unreachable when there is no
        whole answer; nothing is tried again here."""
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        if self.authorization:
            headers["Authorization"] = self.authorization
        try:
            self.connection = self.connection or self.connect()
            self.connection.request(method, self.prefix + path, body, headers)
            answer = self.connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"{self.name}: {error or type(error).__name__}") from None
        try:
            return answer.status, json.loads(content)
        except ValueError:
            return answer.status, None

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None


def reason(status, answer):
    """One line for people of why Elasticsearch, or what stands before it, refused a request."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict):
        causes = [error, *(error.get("root_cause") or [])]
        error = next((f"{each.get('type')}: {each['reason']}" for each in causes
                      if each.get("reason")), error.get("type"))
    hint = {401: "; are the credentials right?", 403: "; may this user do that?"}.get(status, "")
    return " ".join(f"status {status}{': ' + str(error) if error else ''}{hint}".split())[:1000]
