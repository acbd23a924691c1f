"""What people use: curl, Python's requests, and a browser."""

import io
import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from browser import Browser
from samples import PDF, PNG, TEXT, random_bytes, sha256, unique
from service import wait_for


def curl(*args, **options):
    return subprocess.run(
        ["curl", "-sS", *map(str, args)], capture_output=True, timeout=60, check=True, **options
    ).stdout


def test_curl(service, tmp_path):
    content = random_bytes(300_000)
    path = tmp_path / "Datei mit Leerzeichen.bin"
    path.write_bytes(content)
    form = json.loads(curl("--fail-with-body", "-F", f"file=@{path}",
                           service.url + "/api/files/upload"))
    put = json.loads(curl("--fail-with-body", "-T", path, service.url + "/api/files/upload/"))
    for file in (form, put):
        assert file["originalName"] == path.name and file["sha256"] == sha256(content)
        url = f"{service.url}/api/files/{file['id']}"
        assert curl("--fail-with-body", url) == content
        assert curl("--fail-with-body", "-r", "100-199", url) == content[100:200]
        assert curl("-o", "/dev/null", "-w", "%{http_code}", "-H",
                    f'If-None-Match: "{file["sha256"]}"', url) == b"304"
        head = curl("-I", url).decode().lower()
        assert head.startswith("http/1.1 200") and "accept-ranges: bytes" in head
        # HTTP/1.0 has neither chunks nor, here, a connection to keep.
        assert curl("--fail-with-body", "--http1.0", url) == content
    old = json.loads(curl("--fail-with-body", "--http1.0", "-T", path,
                          service.url + "/api/files/upload/"))
    assert old["sha256"] == sha256(content)
    # -J keeps the name of Content-Disposition, -C - goes on with what is there.
    url = f"{service.url}/api/files/{put['id']}"
    out = tmp_path / "out"
    out.mkdir()
    curl("--fail-with-body", "-OJ", url, cwd=out)
    assert [each.read_bytes() for each in out.iterdir()] == [content]
    part = tmp_path / "part"
    part.write_bytes(content[:1000])
    curl("--fail-with-body", "-C", "-", "-o", part, url)
    assert part.read_bytes() == content
    assert json.loads(curl("-X", "DELETE", url))["deleted"] is True
    assert curl("-o", "/dev/null", "-w", "%{http_code}", url) == b"404"


def test_requests(service):
    content = random_bytes(200_000)
    url = service.url + "/api/files"
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(
            url + "/upload", data={"metadata": '{"from":"requests"}', "visibility": "public"},
            files={"file": ("Bericht ü.pdf", io.BytesIO(PDF), "application/pdf")},
        )
        assert answer.status_code == 201, answer.text
        file = answer.json()
        assert file["originalName"] == "Bericht ü.pdf"
        assert file["mimeType"] == "application/pdf"
        assert file["metadata"] == {"from": "requests"}
        streamed = session.put(url + "/upload/streamed.bin", data=io.BytesIO(content))
        assert streamed.status_code == 201
        chunked = session.put(url + "/pipe/chunked.bin", data=iter([content[:5], content[5:]]))
        assert chunked.status_code == 201
        for each in (streamed.json(), chunked.json()):
            with session.get(f"{url}/{each['id']}", stream=True) as download:
                assert b"".join(download.iter_content(10_000)) == content
        page = session.get(url, params={"prefix": "Bericht", "sort": "-createdAt"}).json()
        assert file["id"] in [found["id"] for found in page["files"]]
        assert session.patch(f"{url}/{file['id']}", json={"visibility": "private"}).ok
        assert session.delete(f"{url}/{file['id']}").json()["deleted"] is True


@pytest.fixture(scope="module")
def browser():
    running = Browser()
    yield running
    running.close()


class Page(BaseHTTPRequestHandler):
    """A page of another origin."""

    def do_GET(self):
        body = b"<!DOCTYPE html><title>elsewhere</title><body></body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def elsewhere():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://{{host}}:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


FORM = """
document.body.innerHTML =
  '<form method="post" enctype="multipart/form-data">' +
  '<input name="visibility" value="public"><input type="file" name="file"></form>';
document.forms[0].action = arguments[0];
"""


def post_form(browser, action, path):
    """Fills the form on the open page, submits it, and returns the answer's text."""
    browser.run(FORM, action)
    browser.choose_file("input[type=file]", path)
    browser.run("document.forms[0].submit()")
    wait_for(lambda: browser.address() == action and browser.text(), "the form's answer", 20)
    return browser.text()


def test_browser_form_post(service, browser, tmp_path):
    content = random_bytes(100_000)
    path = tmp_path / 'Größe "a";b 日本.bin'
    path.write_bytes(content)
    browser.open(service.url + "/health")
    file = json.loads(post_form(browser, service.url + "/api/files/upload", path))
    # A browser writes " in a file name as %22 (HTML's multipart/form-data encoding).
    assert file["originalName"] == path.name.replace('"', "%22")
    assert file["sha256"] == sha256(content)
    assert file["visibility"] == "public"
    assert service.get(f"/api/files/{file['id']}").content == content


@pytest.mark.local("about origins, whatever the stores")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_browser_form_post_from_another_origin_is_refused(
    service, browser, elsewhere, tmp_path, host
):
    path = tmp_path / unique("foreign")
    path.write_bytes(TEXT)
    browser.open(elsewhere.format(host=host))
    problem = json.loads(post_form(browser, service.url + "/api/files/upload", path))
    assert problem["status"] == 403 and problem["code"] == "forbidden"
    assert service.get("/api/files", params={"prefix": path.name}).json()["total"] == 0


FETCH = """
const done = arguments[arguments.length - 1];
fetch(arguments[0]).then(a => a.text()).then(done, error => done('blocked: ' + error.name));
"""


@pytest.mark.local("about origins, whatever the stores")
def test_browser_page_of_another_origin_reads_nothing(service, browser, elsewhere):
    file = service.create(TEXT)
    browser.open(elsewhere.format(host="localhost"))
    for path in ("/api/files", f"/api/files/{file['id']}"):
        assert browser.run_async(FETCH, service.url + path).startswith("blocked: ")


IMAGE = """
const done = arguments[arguments.length - 1];
const image = new Image();
image.onload = () => done([image.naturalWidth, image.naturalHeight]);
image.onerror = () => done([0, 0]);
image.src = arguments[0];
document.body.appendChild(image);
"""


def test_browser_shows_an_inline_image_under_the_sandbox_headers(service, browser):
    file = service.create(PNG, "pixel.png", mime="image/png")
    url = f"{service.url}/api/files/{file['id']}?inline=1"
    headers = service.get(f"/api/files/{file['id']}?inline=1").headers
    assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert headers["Content-Disposition"].startswith("inline")
    browser.open(service.url + "/health")
    width, height = browser.run_async(IMAGE, url)
    assert width > 0 and height > 0
    # Opened by itself, in a document of its own.
    browser.open(url)
    assert browser.address() == url
    assert browser.run("return document.images[0].naturalWidth") > 0


FRAME = """
const done = arguments[arguments.length - 1];
window.hits = [];
window.addEventListener('message', event => window.hits.push(event.data));
const frame = document.createElement('iframe');
frame.onload = () => setTimeout(() => done(window.hits), 300);
if (arguments[0].startsWith('<'))
  frame.srcdoc = arguments[0];
else
  frame.src = arguments[0];
document.body.appendChild(frame);
setTimeout(() => done(window.hits), 1500);
"""


@pytest.mark.local("about origins, whatever the stores")
def test_browser_runs_no_uploaded_script(service, browser):
    script = b"<!DOCTYPE html><script>parent.postMessage('ran', '*')</script>"
    browser.open(service.url + "/health")
    assert browser.run_async(FRAME, script.decode()) == ["ran"], "the trap itself must work"
    for mime in ("text/html", "text/plain", "image/png", "image/svg+xml"):
        file = service.create(script, "page.html", mime=mime)
        browser.open(service.url + "/health")
        hits = browser.run_async(FRAME, f"{service.url}/api/files/{file['id']}?inline=1")
        assert hits == []
