"""Keeping a table in order: retention, garbage collection beside readers and writers, verification, repair."""

from __future__ import annotations

import datetime
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

import headrace as hr
import numpy as np
import pytest
from conftest import wait_for

Headrace = Callable[..., "subprocess.CompletedProcess[str]"]


def files(folder: pathlib.Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file() and path.suffix in (".parquet", ".arrow", ".pack"))


def numbers(table: hr.Table | hr.Snapshot) -> list[int]:
    return [row["n"] for row in table.scan(["n"])]


def history(catalog: hr.Catalog) -> hr.Table:
    """A table whose older versions hold most of its files."""
    table = catalog.create_table("t", {"n": "int64", "v": "tensor<float32>[4]"})
    for part in range(4):
        table.append({"n": np.arange(part * 10, part * 10 + 10), "v": np.ones((10, 4), np.float32)})
    table.delete("n < 5")
    table.update({"n": -1}, "n = 7")
    table.compact()
    return table


def test_versions_expire_and_their_files_go(tmp_path: pathlib.Path, catalog: hr.Catalog, headrace: Headrace) -> None:
    folder = tmp_path / "catalog"
    table = history(catalog)
    table.tag("golden", version=3)
    rows, golden = numbers(table), numbers(table.at("golden"))
    before = files(folder)
    assert headrace("--catalog", "catalog", "keep", "t").stdout == "'t' keeps all its versions\n"
    kept = table.gc(grace=0)
    assert (kept.expired, kept.deleted_files) == (0, 0)
    assert [holder.by for holder in kept.holders] == ["newest", "retention"]

    assert "keeps its versions for 30 days" in headrace("--catalog", "catalog", "keep", "t", "30d").stdout
    assert table.gc(grace=0).expired == 0
    table.keep(datetime.timedelta(0))
    time.sleep(0.01)
    plan = table.gc(grace=0, dry_run=True)
    assert plan.dry_run and plan.expired > 5 and plan.deleted_files > 3 and files(folder) == before
    shown = headrace("--catalog", "catalog", "gc", "t", "--grace", "0s", "--dry-run").stdout
    assert "would expire" in shown and "tag 'golden' (v3)" in shown and "the newest version" in shown
    refused = headrace("--catalog", "catalog", "gc", "t", "--grace", "0s", check=False)
    assert refused.returncode == 1 and "--yes" in refused.stderr

    (done,) = json.loads(headrace("--catalog", "catalog", "gc", "t", "--grace", "0s", "--yes", "--json").stdout)
    assert done["deleted"]["files"] == plan.deleted_files and done["damaged"] == []
    assert files(folder) < before
    assert numbers(table) == rows
    assert numbers(table.at("golden")) == golden
    with pytest.raises(hr.NotFound, match=r"version 5 of table 't' has expired; it keeps v3, v\d+ and all"):
        table.at(5)
    entries = {entry.version: entry for entry in table.history()}
    assert entries[5].expired and entries[5].kind == "append" and entries[5].rows_after == 40
    assert not entries[3].expired and not entries[max(entries)].expired
    assert "expired" in headrace("--catalog", "catalog", "log", "t").stdout
    assert table.verify() and catalog.verify()


def test_words_that_are_no_length_of_time(catalog: hr.Catalog, headrace: Headrace) -> None:
    table = catalog.create_table("t", {"n": "int64"})
    for bad in ("soon", "30", "-1d", "1 month"):
        with pytest.raises(hr.Invalid, match="length of time"):
            table.keep(bad)
        with pytest.raises(hr.Invalid, match="length of time"):
            table.gc(grace=bad)
        failed = headrace("--catalog", "catalog", "keep", "t", bad, check=False)
        assert failed.returncode in (1, 2) and failed.stderr
    with pytest.raises(hr.Invalid):
        table.keep(datetime.timedelta(seconds=-1))


def test_dropped_tables_go(tmp_path: pathlib.Path, catalog: hr.Catalog, headrace: Headrace) -> None:
    history(catalog)
    catalog.drop_table("t")
    time.sleep(0.01)
    assert [(one.table, one.deleted_files) for one in catalog.gc() if one.dropped] == [("t", 0)], "a day's grace"
    assert "t (dropped)" in headrace("--catalog", "catalog", "gc", "--grace", "0s", "--yes").stdout
    assert files(tmp_path / "catalog") == 0
    assert not list((tmp_path / "catalog" / "tables").rglob("*.json"))


def test_what_is_purged_is_nowhere(tmp_path: pathlib.Path, catalog: hr.Catalog, headrace: Headrace) -> None:
    faces = [bytes([65 + i]) * 5000 for i in range(6)]
    catalog.create_table("faces", {"image": "blob", "name": "string"}).append(
        {"image": faces, "name": [f"name {i}" for i in range(6)]}
    )
    (tmp_path / "face").write_bytes(faces[3])
    assert headrace("--catalog", "catalog", "verify", "faces", "--absent", "face").returncode == 1
    said = headrace("--catalog", "catalog", "delete", "faces", "--where", "name = 'name 3'", "--purge", "--yes").stdout
    assert "can be read in versions up to v" in said
    for _ in range(2):
        time.sleep(0.01)
        headrace("--catalog", "catalog", "gc", "faces", "--grace", "0s", "--yes")
    shown = headrace("--catalog", "catalog", "verify", "faces", "--absent", "face")
    assert shown.returncode == 0 and "absent: no file holds these bytes" in shown.stdout
    stored = b"".join(path.read_bytes() for path in (tmp_path / "catalog").rglob("*") if path.is_file())
    assert faces[3] not in stored and faces[2] in stored
    assert [row["name"] for row in catalog["faces"]] == [f"name {i}" for i in (0, 1, 2, 4, 5)]
    assert catalog["faces"].verify()
    wrong = headrace("--catalog", "catalog", "verify", "faces", "--absent", "no such file")
    assert wrong.returncode == 1 and "neither a file nor a blob's checksum" in wrong.stderr


READER = """
import pickle, sys
import headrace as hr
table = hr.open(sys.argv[1])["t"]
snapshot = table.at()
stream = hr.Stream(table, ["n"], batch_size=2, seed=1, epochs=1)
seen = []
for batch in stream:
    seen += [int(n) for n in batch["n"]]
    if len(seen) == 4:
        print("reading", flush=True)
        sys.stdin.readline()
        # A worker of this job opens the version, which has expired meanwhile.
        assert sorted(row["n"] for row in pickle.loads(pickle.dumps(snapshot))) == list(range(20))
print(sorted(seen), flush=True)
"""

WRITER = """
import sys
import headrace as hr
table = hr.open(sys.argv[1])["t"]
def slow(batch):
    print("writing", flush=True)
    sys.stdin.readline()
    return {"twice": [2 * n for n in batch["n"]]}
table.add_columns(slow, inputs=["n"])
print("written", flush=True)
"""


def beside(script: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def leases(folder: pathlib.Path) -> int:
    return sum(1 for path in (folder / "leases").rglob("*.json"))


def test_streams_and_slow_writers_are_left_alone(
    tmp_path: pathlib.Path, catalog: hr.Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream of a version that expires under it, and a column that is computed for long, while all that can go goes."""
    monkeypatch.setenv("HEADRACE_LEASE_AFTER", "0")
    folder = tmp_path / "catalog"
    table = catalog.create_table("t", {"n": "int64"})
    for part in range(5):
        table.append({"n": np.arange(part * 4, part * 4 + 4)})
    reader = beside(READER, str(folder))
    assert reader.stdout is not None and reader.stdout.readline() == "reading\n"
    wait_for(lambda: leases(folder) > 0, "the stream takes a lease")
    table.delete("n < 10")
    table.compact()
    writer = beside(WRITER, str(folder))
    assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
    wait_for(lambda: leases(folder) >= 3, "the writer takes leases")  # of what it reads, and of what it will write
    done = table.gc(keep=0, grace=0)
    assert done.expired > 3
    assert any(holder.by == "lease" for holder in done.holders), done
    out, _ = writer.communicate("\n")
    assert out == "written\n"
    out, _ = reader.communicate("\n")
    assert out == str(list(range(20))) + "\n"
    assert [row["twice"] for row in table.scan()] == [2 * row["n"] for row in table.scan()]
    wait_for(lambda: leases(folder) == 0, "who ends lets go")
    time.sleep(0.01)
    assert table.gc(keep=0, grace=0).deleted_files > 0
    assert table.verify()


def test_damage_is_named_and_the_exit_code_says_so(
    tmp_path: pathlib.Path, catalog: hr.Catalog, headrace: Headrace
) -> None:
    table = history(catalog)
    assert headrace("--catalog", "catalog", "verify").returncode == 0
    newest = {name.rpartition("/")[2] for name, *_ in table.at()._view.files()}
    (path,) = (one for one in (tmp_path / "catalog").rglob("*.arrow") if one.name in newest)
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    found = table.verify()
    assert not found and path.name in found.damaged[0].object and found.damaged[0].version == table.version
    failed = headrace("--catalog", "catalog", "verify", check=False)
    assert failed.returncode == 1 and path.name in failed.stdout and "1 damaged" in failed.stdout
    (one, refs) = json.loads(headrace("--catalog", "catalog", "verify", "--json", check=False).stdout)
    assert one["damaged"][0]["object"].endswith(path.name) and refs["table"] is None
    path.write_bytes(whole)
    assert table.verify()


def test_a_table_that_does_not_open_is_rolled_back(
    tmp_path: pathlib.Path, catalog: hr.Catalog, headrace: Headrace
) -> None:
    table = history(catalog)
    rows = numbers(table.at(table.version - 1))
    newest = min((tmp_path / "catalog" / "tables").rglob("snapshots/*.json"))
    newest.chmod(0o644)
    newest.write_bytes(newest.read_bytes()[:50])
    with pytest.raises(hr.Corrupt):
        len(hr.open(tmp_path / "catalog")["t"])
    failed = headrace("--catalog", "catalog", "repair", "t", check=False)
    assert failed.returncode == 1 and "--yes" in failed.stderr
    shown = headrace("--catalog", "catalog", "repair", "t", "--yes").stdout
    assert "is as it was at v" in shown
    table = hr.open(tmp_path / "catalog")["t"]
    assert numbers(table) == rows
    table.append({"n": np.array([99]), "v": np.ones((1, 4), np.float32)})
    assert len(table) == len(rows) + 1


def test_a_program_of_small_commits_keeps_its_table_in_order(tmp_path: pathlib.Path, catalog: hr.Catalog) -> None:
    catalog.create_table("t", {"n": "int64"})
    table = hr.open(tmp_path / "catalog")["t"]
    for n in range(200):
        table.append([{"n": n}])
    wait_for(lambda: any(entry.kind == "compact" for entry in table.history()), "it is compacted")
    assert [row["n"] for row in table] == list(range(200))
    compacted = [entry for entry in table.history() if entry.kind == "compact"]
    assert {entry.how for entry in compacted} == {"upkeep"} and len(compacted) < 20
    assert table.verify()
