"""The map of docs/ARCHITECTURE.md: what it names is there."""

import re

import pytest

from service import REPOSITORY

pytestmark = pytest.mark.local("about a document")

PAGE = (REPOSITORY / "docs/ARCHITECTURE.md").read_text()
ROOTS = ("shared", "fcgi-apps", "cli", "lighttpd", "tests", "docs", "infrastructure")
PATH = re.compile(rf"`((?:{'|'.join(ROOTS)})/[\w./-]+)(?::(\w+))?`")


def is_defined(function, text, path):
    if path.suffix == ".c":  # at the beginning of a line, with its parameters and a body
        return re.search(rf"^[a-z][^;{{}}()]*\b{function}\([^;]*?\)\n\{{", text, re.M)
    return re.search(rf"^{function}\(\) *\{{", text, re.M)


def test_every_place_of_the_map_exists():
    named = [place for place in PATH.findall(PAGE) if "NAME" not in place[0]]
    assert sum(bool(function) for _, function in named) > 40, named
    missing = []
    for name, function in named:
        path = REPOSITORY / name
        if not path.exists():
            missing.append(name)
        elif function and not is_defined(function, path.read_text(), path):
            missing.append(f"{name}:{function}")
    assert not missing


def test_tables_and_labels_of_the_recipes_exist():
    """Names in code style behind a file in the recipes: `storage_drivers`, `endpoints` and so on."""
    recipes = PAGE[PAGE.index("### How to add"):PAGE.index("## Many nodes")]
    sources = "".join(path.read_text() for root in ("shared", "fcgi-apps", "tests/support")
                      for path in (REPOSITORY / root).rglob("*.[ch]"))
    names = set(re.findall(r"`(\w*_\w+|endpoints|stores|drivers|statuses|STATUSES)`", recipes))
    assert len(names) >= 8, names
    unknown = [name for name in names if not re.search(rf"\b{name}\b", sources)
               and name not in ("_total",)]
    assert not unknown
