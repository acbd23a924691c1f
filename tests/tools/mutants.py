#!/usr/bin/env python3
"""Plants known faults, one at a time, and checks that the tests of `make test` find each of them.

    tests/tools/mutants.py            all of them: a line each, exit code 1 when one is not found
    tests/tools/mutants.py NAME...    these only
    tests/tools/mutants.py --list     what there is

A fault is planted in a copy of the tree (build/mutants), so that nothing here changes. Each names the
tests that are expected to find it: suites of `make unit` and `make contract`, or end-to-end tests.
They are run once without a fault first, and must pass. A test that hangs has found the fault.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TREE = REPOSITORY / "build" / "mutants"
SANITIZED = ("SANITIZER=address,undefined", "CRASH_POINTS=1")
BUILD = "build/address-undefined-crash"
SERVERS = {"unit": ("ferretdb",), "contract": ("seaweedfs", "minio", "ferretdb")}
SECONDS = 900  # for one run of all that is named, without a fault
HANG_SECONDS = 300  # for the tests that should find one fault


@dataclass(frozen=True)
class Mutant:
    name: str
    kind: str       # of fault
    file: str       # below shared/
    old: str        # stands there once
    new: str
    stage: str      # unit, contract or e2e
    tests: str      # suites, or arguments of pytest


MUTANTS = (
    # base
    Mutant("number_above_maximum", "off by one", "base/text.c",
           "if (value < min || value > max)", "if (value < min || value > max + 1)",
           "unit", "text"),
    Mutant("address_prefix_rounded", "off by one", "base/address.c",
           "return rest == 0 ||", "return rest <= 1 ||", "unit", "address"),
    Mutant("full_disk_is_500", "wrong status", "base/errors.c",
           'ROW_OURS(507, "disk_full"', 'ROW_OURS(500, "disk_full"', "unit", "errors"),
    # http
    Mutant("range_starts_at_size", "off by one", "http/range_condition.c",
           "if (range.first >= size ||", "if (range.first > size ||", "unit", "range condition"),
    Mutant("weak_tag_is_strong", "wrong comparison", "http/range_condition.c",
           "if (tag->is_weak && comparison == COMPARE_STRONG)",
           "if (tag->is_weak && comparison == COMPARE_WEAK)", "unit", "range condition"),
    Mutant("quote_in_disposition", "unescaped output", "http/disposition.c",
           "code_point < 0x7F && code_point != '\"' &&", "code_point < 0x7F &&",
           "unit", "disposition"),
    Mutant("header_with_line_end", "unescaped output", "http/response.c",
           "if (!token_is(str_of(name)) || has_control(value)) {",
           "if (!token_is(str_of(name)) || (has_control(value) && value.len == 0)) {",
           "unit", "response"),
    Mutant("boundary_without_its_end", "off by one", "http/multipart.c",
           "memcmp(found, delimiter.data, len) == 0)", "memcmp(found, delimiter.data, len - 1) == 0)",
           "unit", "multipart"),
    # access
    Mutant("owner_not_checked", "missing owner check", "access/principal.c",
           "strcmp(file->owner, principal->owner) == 0);", "file->owner[0] != '\\0');",
           "e2e", "tests/e2e/test_access_table.py::test_another_owners_file_looks_like_none"),
    Mutant("revoked_token_works", "missing check", "access/principal.c",
           "return same && !expired && token->revoked_ms == 0;", "return same && !expired;",
           "unit", "access_token"),
    Mutant("foreign_origin_may_change", "missing check", "access/origin.c",
           "if (given && !origin_is_own(origin, request->host))",
           "if (given && origin.len == 0 && !origin_is_own(origin, request->host))",
           "unit", "origin"),
    Mutant("key_of_another_request", "missing check", "access/idempotency.c",
           "if (strcmp(idempotency->record.fingerprint, fingerprint) == 0)",
           "if (strncmp(idempotency->record.fingerprint, fingerprint, 0) == 0)",
           "e2e", "tests/e2e/test_idempotency.py::test_the_same_key_with_another_request_is_422"),
    # files
    Mutant("digest_not_compared", "missing check", "files/files_create.c",
           "        code = asserted_digests_check(&request->asserted, upload->sha256, upload->md5, err);\n",
           "        code = ERR_OK;\n", "e2e", "tests/e2e/test_files_upload.py::test_wrong_digest_is_422_and_nothing_stored"),
    Mutant("row_before_bytes", "order of writes", "files/files_create.c",
           """        code = storage_put_commit(creation.put, creation.upload.sha256, creation.file.tag, err);
    if (code == ERR_OK)
        code = record_file(&creation, err);
""",
           """        code = record_file(&creation, err);
    if (code == ERR_OK)
        code = storage_put_commit(creation.put, creation.upload.sha256, creation.file.tag, err);
""", "e2e", "tests/e2e/test_fault_crash.py::test_f1_upload_killed_at tests/e2e/test_fault_crash.py::test_f2_delete_killed_at"),
    Mutant("bytes_before_mark", "order of writes", "files/files_remove.c",
           """        code = mark(files, &file, expected_version, err);
    if (code != ERR_OK)
        return code;
    remove_bytes(files, file.id, file.key);
""",
           """        remove_bytes(files, file.id, file.key);
    if (code == ERR_OK)
        code = mark(files, &file, expected_version, err);
    if (code != ERR_OK)
        return code;
""", "e2e", "tests/e2e/test_fault_crash.py::test_f1_upload_killed_at tests/e2e/test_fault_crash.py::test_f2_delete_killed_at"),
    Mutant("file_larger_than_maximum", "off by one", "files/upload_sink.c",
           "sink->options->max_size - result->size)", "sink->options->max_size - result->size + 1)",
           "unit", "upload_sink"),
    Mutant("cursor_not_signed", "missing check", "files/files_list.c",
           "if (CRYPTO_memcmp(mac, bytes + len, MAC_BYTES) != 0)",
           "if (CRYPTO_memcmp(mac, bytes + len, 0) != 0)", "unit", "files_cursor"),
    Mutant("cache_lock_lost", "lost unlock", "files/object_cache.c",
           """        found = true;
    }
    pthread_mutex_unlock(&cache->lock);
    return found;""",
           """        return true;
    }
    pthread_mutex_unlock(&cache->lock);
    return found;""", "unit", "object_cache"),
    Mutant("sweep_without_grace", "live data removed", "files/files_sweep.c",
           ".modified_before_ms = now_ms - sweep.grace_ms,",
           ".modified_before_ms = now_ms + sweep.grace_ms,",
           "unit", "files"),
    # storage
    Mutant("folder_not_synced", "missing sync", "storage/fs/storage_fs_put.c",
           "if (put->fs->is_durable && put->fs->calls->fsync(put->shard_fd) != 0)",
           "if (put->fs->is_durable && put->shard_fd < 0)", "unit", "storage_fs storage_fs_faults"),
    Mutant("file_not_synced", "missing sync", "storage/fs/storage_fs_put.c",
           "if (put->fs->is_durable && put->fs->calls->fsync(put->fd) != 0)",
           "if (put->fs->is_durable && put->fd < 0)", "unit", "storage_fs storage_fs_faults"),
    Mutant("folder_stays_open", "leaked descriptor", "storage/fs/storage_fs_put.c",
           """    if (put->shard_fd >= 0)
        close(put->shard_fd);
    free(put);""",
           "    free(put);", "unit", "storage_fs storage_fs_faults"),
    Mutant("s3_object_of_another_tag", "missing check", "storage/s3/storage_s3_get.c",
           "if (code == ERR_OK && *get->tag && strcmp(get->tag, head.stat.tag) != 0)\n"
           "        code = changed(err, \"tag\");\n    if (code == ERR_OK)\n        code = check_range",
           "if (code == ERR_OK)\n        code = check_range", "contract", "storage"),
    Mutant("s3_short_body_is_whole", "silent truncation", "storage/s3/storage_s3_get.c",
           "if (code != ERR_OK || *ret_len > 0)\n        return code;\n    return err_set_internal(err, get->is_counted",
           "if (code != ERR_OK || *ret_len <= wanted)\n        return code;\n    return err_set_internal(err, get->is_counted",
           "unit", "storage_s3 storage_s3_answers storage_s3_quirks files_download"),
    Mutant("libs3_range_outside", "off by one", "storage/libs3/storage_libs3_transfer.c",
           "get->end = wanted->length < 0 ? get->size : wanted->offset + wanted->length;",
           "get->end = wanted->length < 0 ? get->size : wanted->offset + wanted->length + 1;",
           "contract", "storage"),
    # metadata
    Mutant("sqlite_not_synced", "missing sync", "metadata/sqlite/metadata_sqlite.c",
           "\"PRAGMA synchronous=%s; ", "\"PRAGMA synchronous=normal; -- %s\\n",
           "unit", "metadata_sqlite"),
    Mutant("sqlite_update_of_old_version", "lost update", "metadata/sqlite/metadata_sqlite.c",
           "\" WHERE id = ?1 AND version = ?2 AND status <> 1\"",
           "\" WHERE id = ?1 AND ?2 = ?2 AND status <> 1\"", "contract", "metadata"),
    Mutant("sqlite_expired_is_read", "wrong condition", "metadata/sqlite/metadata_sqlite.c",
           "FROM files WHERE id = ?1 AND status <> 1\"\n                     \" AND (expires_ms = 0 OR expires_ms > ?2)\"",
           "FROM files WHERE id = ?1 AND status <> 1\"\n                     \" AND (expires_ms = 0 OR expires_ms >= ?2)\"",
           "contract", "metadata"),
    Mutant("sqlite_lead_not_handed_on", "lost wake-up", "metadata/sqlite/metadata_sqlite_writer.c",
           "        db->queue_first->leads = true;\n", "", "contract", "metadata"),
    Mutant("mongodb_delete_of_other_version", "lost update", "metadata/mongodb/metadata_mongodb_files.c",
           "    if (version != 0)\n        mongodb_put_version(filter, version);\n", "    (void)version;\n",
           "unit", "metadata_mongodb metadata_mongodb_mark"),
    # net
    Mutant("line_end_to_store", "unescaped output", "net/http_client.c",
           "if ((unsigned char)value.data[i] < 0x20 || value.data[i] == 0x7F)\n            return false;\n    return true;",
           "if (value.data[i] == 0x7F)\n            return false;\n    return true;",
           "unit", "http_client"),
    Mutant("signature_of_raw_query", "unescaped output", "net/sigv4.c",
           "        text_percent_encode(query[i].value, \"\", out);",
           "        buf_append_str(out, query[i].value);", "unit", "sigv4"),
    # observe
    Mutant("log_line_forged", "unescaped output", "observe/log.c",
           "return byte >= 0x20 && byte != '\"'", "return (byte >= 0x20 || byte == '\\n') && byte != '\"'",
           "unit", "log"),
    Mutant("label_not_escaped", "unescaped output", "observe/metrics_text.c",
           'size_t plain = strcspn(value, "\\n\\"\\\\");', 'size_t plain = strcspn(value, "\\n\\\\");',
           "unit", "metrics"),
    Mutant("token_in_log", "leaked secret", "observe/log_redact.c",
           "    {SECRET_WORD, TEXT(\"bearer\")},\n", "", "unit", "log_redact"),
    Mutant("report_limit_of_others", "wrong condition", "observe/report.c",
           "if (is_for_errors(str_cut(&limit, ':')) && seconds > longest)",
           "if (!is_for_errors(str_cut(&limit, ':')) && seconds > longest)", "unit", "report_limits"),
    # app
    Mutant("slow_client_lives", "missing limit", "app/watchdog.c",
           "bool slow = received - watch->window_received < wanted;",
           "bool slow = received < watch->window_received - wanted;", "unit", "watchdog"),
    Mutant("padding_is_content", "wrong framing", "app/fcgi.c",
           "body->padding_left = header[6];", "body->padding_left = 0;", "unit", "fcgi_body"),
)


def run(arguments, seconds=SECONDS, **options):
    """(whether it succeeded, what it wrote); a command that hangs is ended with all it started."""
    process = subprocess.Popen(arguments, cwd=TREE, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace", start_new_session=True, **options)
    try:
        output, _ = process.communicate(timeout=seconds)
        return process.returncode == 0, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 15)
        try:
            output, _ = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, _ = process.communicate()
        return False, f"{output}\nno end after {seconds} s"


def copy_tree():
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            cwd=REPOSITORY, check=True, capture_output=True).stdout
    wanted = {name for name in listed.decode().split("\0")
              if name and (REPOSITORY / name).is_file()}
    for name in wanted:
        source, target = REPOSITORY / name, TREE / name
        if target.is_file() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    for folder in ("shared", "tests", "fcgi-apps", "cli", "lighttpd"):
        for path in (TREE / folder).rglob("*"):
            if path.is_file() and str(path.relative_to(TREE)) not in wanted:
                path.unlink()
    if not (TREE / ".cache").exists():
        (TREE / ".cache").symlink_to(REPOSITORY / ".cache")


def build(stage):
    make = ["make", "-s", f"-j{os.cpu_count()}"]
    if stage != "e2e":
        return run([*make, *SANITIZED, f"{BUILD}/tests/{stage}/run"], 1800)
    for arguments in (["build"], ["CRASH_POINTS=1", "build"], ["tools"]):
        done, output = run([*make, *arguments], 1800)
        if not done:
            return done, output
    return True, ""


def test(stage, tests, seconds):
    if stage == "e2e":
        return run([".cache/venv/bin/python", "-B", "-m", "pytest", "-c", "tests/e2e/pytest.ini",
                    "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile", "--maxfail=1", *tests.split()], seconds)
    return run(["tests/servers/serve", *SERVERS[stage], "--", f"{BUILD}/tests/{stage}/run",
                *tests.split()], seconds)


def built_and_passed(stage, tests, seconds=SECONDS):
    built, output = build(stage)
    if not built:
        sys.exit(f"{output}\nmutants: this does not compile")
    return test(stage, tests, seconds)


def try_mutant(mutant):
    path = TREE / "shared" / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        sys.exit(f"mutants: {mutant.name}: {text.count(mutant.old)} places in {mutant.file} have\n{mutant.old}")
    started = time.monotonic()
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        passed, _ = built_and_passed(mutant.stage, mutant.tests, HANG_SECONDS)
    finally:
        path.write_text(text)
    print(f"{'NOT FOUND' if passed else 'found':9} {mutant.name:32} {mutant.kind:20} "
          f"{mutant.stage} {mutant.tests} ({time.monotonic() - started:.0f} s)", flush=True)
    return not passed


def main(names):
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    if names == ["--list"]:
        for mutant in MUTANTS:
            print(f"{mutant.name:32} {mutant.kind:20} shared/{mutant.file}")
        return 0
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        sys.exit(f"mutants: unknown: {' '.join(sorted(unknown))}; see --list")
    copy_tree()
    for stage in dict.fromkeys(mutant.stage for mutant in chosen):
        tests = " ".join(dict.fromkeys(
            test for mutant in chosen if mutant.stage == stage for test in mutant.tests.split()))
        passed, output = built_and_passed(stage, tests)
        if not passed:
            sys.exit(f"{output[-8000:]}\nmutants: these fail without a fault: {stage} {tests}")
    found = sum(try_mutant(mutant) for mutant in chosen)
    print(f"{found} of {len(chosen)} faults found")
    return 0 if found == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
