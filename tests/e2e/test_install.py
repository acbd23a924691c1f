"""What a stranger finds: after `make install`, in the documents, and in a fresh clone."""

import os
import re
import shutil
import subprocess

import pytest

from service import REPOSITORY

pytestmark = pytest.mark.local("about files")

LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)|\]\(#([^)\s]+)\)")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(["make", "-s", "install", f"DESTDIR={folder}", "PREFIX=/usr/local"],
                   cwd=REPOSITORY, check=True, capture_output=True, timeout=300)
    return folder / "usr/local"


def headings(path):
    """The anchors that GitHub makes of a page's headings."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            for title in re.findall(r"^#+ (.*)$", text, re.M)}


def broken_links(page, root):
    for target, anchor, own in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists():
            yield f"{page.relative_to(root)}: {target}"
        elif path.suffix == ".md" and (anchor or own) and (anchor or own) not in headings(path):
            yield f"{page.relative_to(root)}: {target}#{anchor or own}"


def test_documents_and_infrastructure_are_installed(installed):
    documents = installed / "share/doc/coffer"
    for name in ("README.md", "CHANGES.md", "CONTRIBUTING.md", "LICENSE", "docs/API.md",
                 "docs/OPERATIONS.md", "docs/SECURITY.md", "docs/ARCHITECTURE.md"):
        assert (documents / name).is_file(), name
    assert list((documents / "docs/decisions").glob("00*.md"))
    example = documents / "env.example"
    assert example.read_text() == (REPOSITORY / ".env.example").read_text()
    infrastructure = installed / "share/coffer/infrastructure"
    for name in ("prometheus/alerts.yml", "minio/policy.json", "logrotate/coffer",
                 "elasticsearch/README.md"):
        assert (infrastructure / name).is_file(), name
    assert os.access(infrastructure / "elasticsearch/ship", os.X_OK)
    assert not os.access(infrastructure / "logrotate/coffer", os.X_OK)
    # The file of settings that is to be copied is one that the admin command reads.
    done = subprocess.run([installed / "bin/coffer", "--env-file", example, "config"],
                          capture_output=True, text=True, check=False, cwd=installed)
    assert done.returncode == 0 and "GATEWAY_PORT=5921" in done.stdout, done


def test_links_of_the_documents_lead_somewhere(installed):
    documents = installed / "share/doc/coffer"
    pages = list(documents.rglob("*.md"))
    assert len(pages) > 20
    assert not [link for page in pages for link in broken_links(page, documents)]


def test_the_file_for_logrotate(tmp_path):
    """Its command is one that coffer-serve knows; logrotate itself reads it."""
    text = (REPOSITORY / "infrastructure/logrotate/coffer").read_text()
    assert "nocreate" in text and "delaycompress" in text
    assert "copytruncate" not in re.sub(r"#.*", "", text)
    assert re.search(r"coffer-serve --env-file \S+ reopen", text)
    logrotate = shutil.which("logrotate", path="/usr/sbin:/usr/bin")
    assert logrotate, "logrotate is needed (make deps-test)"
    own = tmp_path / "coffer"  # the user need not exist here
    own.write_text(re.sub(r"^ *su .*\n", "", text, flags=re.M))
    own.chmod(0o644)
    done = subprocess.run([logrotate, "-d", "-s", tmp_path / "state", own], check=False,
                          capture_output=True, text=True)
    assert done.returncode == 0 and "error:" not in done.stderr, done.stderr


def test_hooks_refuse_what_lint_would(tmp_path):
    """In a clone: `make hooks`, then a commit of C that is not laid out, and of a script with a fault."""
    def run(*words):
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, env={
            **os.environ, "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org"})

    for name in ("shared/base", "fcgi-apps", "cli", "tests"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("Makefile", "infrastructure.mk", "VERSION", ".clang-format", "shared/base/errors.h"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    shutil.copytree(REPOSITORY / "tests/support", tmp_path / "tests/support")
    for words in (("git", "init", "-q"), ("make", "hooks"), ("git", "add", "-A"),
                  ("git", "commit", "-q", "--no-verify", "-m", "all")):
        assert run(*words).returncode == 0, words
    (tmp_path / "shared/base/new.c").write_text("int  x ;\n")
    (tmp_path / "run.sh").write_text('#!/bin/sh\nrm $1/*\n')
    run("git", "add", "-A")
    refused = run("git", "commit", "-q", "-m", "new")
    assert refused.returncode != 0
    assert "shared/base/new.c" in refused.stderr and "SC2086" in refused.stderr
    (tmp_path / "shared/base/new.c").write_text("int x;\n")
    (tmp_path / "run.sh").write_text('#!/bin/sh\necho "$1"\n')
    run("git", "add", "-A")
    taken = run("git", "commit", "-q", "-m", "new")
    assert taken.returncode == 0, taken
