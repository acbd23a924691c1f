"""Names of right-to-left languages, and the characters that make a name look like another."""

import json
from urllib.parse import quote

import pytest

from forms import FILE, refused, send
from multipart import join, part
from problems import check_problem
from samples import TEXT

pytestmark = pytest.mark.local("stores what every store takes")

ACCEPTED = ["צילום \u200f12.00.png", "\u200eIMG-1.jpg", "تقرير\u061c1.pdf", "a\u200e\u200f\u061c", "שלום.txt",
            "می\u200cخواهم.txt", "👨\u200d👩.txt", "Screenshot 3.04\u202fPM.png", "Cafe\u0301.txt",
            "soft\u00adhyphen", "a\u200bb", "\ufeffbom", "word\u2060joiner", "❤\ufe0f", "a\u034fb",
            "ᠮ\u180eᠠ", "\U000e0067tag"]
REFUSED = {
    "a\u202egpj.exe": "U+202E (right-to-left override)", "a\u202db": "U+202D (left-to-right override)",
    "\u202ax": "U+202A", "x\u202b": "U+202B", "a\u202cb": "U+202C", "a\u2066b": "U+2066",
    "a\u2067b": "U+2067", "a\u2068b": "U+2068", "a\u2069b": "U+2069 (pop directional isolate)",
    "\u200fa\u202e": "U+202E", "a\u0085b": "U+0085 (control character)", "a\x7fb": "U+007F",
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_names_that_are_accepted(service, name):
    answer = service.put(f"/api/files/upload/{quote(name)}", data=TEXT)
    assert answer.status_code == 201, answer.text
    file = answer.json()
    path = file["links"]["download"]
    assert file["originalName"] == name
    assert quote(name) in service.head(path).headers["Content-Disposition"]
    page = service.get("/api/files", params={"prefix": name}).json()
    assert file["id"] in [each["id"] for each in page["files"]]
    form = send(service, join([part(FILE.format(name), TEXT)]))
    assert form.status == 201 and json.loads(form.body)["originalName"] == name
    renamed = service.patch(path, json={"originalName": "2" + name})
    assert renamed.status_code == 200 and renamed.json()["originalName"] == "2" + name


@pytest.mark.parametrize("name", REFUSED)
def test_names_that_are_refused_by_the_character(service, nothing_stored, name):
    for route in ("upload", "pipe"):
        answer = service.put(f"/api/files/{route}/{quote(name)}", data=TEXT)
        problem = check_problem(answer, 400, "bad_name")
        assert REFUSED[name] in problem["detail"]
    assert REFUSED[name].encode() in refused(
        service, join([part(FILE.format(name), TEXT)]), code="bad_name").body


def test_rename_to_a_refused_name(service):
    path = service.create(TEXT, "a.txt")["links"]["download"]
    answer = service.patch(path, json={"originalName": "a\u202eb"})
    assert "U+202E" in check_problem(answer, 400, "bad_name")["detail"]
    answer = service.patch(path, json={"originalName": "a/b"})
    assert "U+002F (slash)" in check_problem(answer, 400, "bad_name")["detail"]
    assert service.get(path + "/meta").json()["originalName"] == "a.txt"
