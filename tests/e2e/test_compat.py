"""Tables that earlier code wrote: they read as they did, and become tables of today by being used."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import headrace as hr
import numpy as np
import pytest
from conftest import ROOT

FIXTURES = sorted((ROOT / "tests" / "compat").glob("v*"))


@pytest.fixture(params=FIXTURES, ids=lambda folder: folder.name)
def old(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> pathlib.Path:
    shutil.copytree(request.param, tmp_path / "old")
    for path in (tmp_path / "old").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return tmp_path / "old"


def seen(shown: hr.Table | hr.Snapshot) -> list[dict[str, Any]]:
    def plain(value: Any) -> Any:
        if isinstance(value, hr.Blob):
            return bytes(value)
        if isinstance(value, np.ndarray):
            return value.tolist()
        return value

    return [{name: plain(value) for name, value in row.items()} for row in shown.scan(row_ids=True)]


FIRST = {
    "_row_id": 0,
    "id": 1,
    "tags": ["a", "b"],
    "where": {"lat": 0.0, "lon": 0.0},
    "vec": [1, 2, 3],
    "image": b"small",
}
SECOND = {"_row_id": 1, "id": 2, "tags": None, "where": None, "vec": None, "image": None}
THIRD = {
    "_row_id": 2,
    "id": 3,
    "tags": [],
    "where": {"lat": 1.5, "lon": -2.5},
    "vec": [7, 8, 9],
    "image": b"large" * 1000,
}
NEWEST = [
    FIRST | {"title": "one", "late": 10},
    SECOND | {"title": None, "late": 20},
    THIRD | {"title": None, "late": None},
]
GOLDEN = [FIRST | {"name": "one", "gone": 0.5}, SECOND | {"name": None, "gone": 0.5}]


def test_it_reads_as_it_did(old: pathlib.Path, headrace: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    catalog = hr.open(old)
    table = catalog["fixture"]
    assert seen(table) == NEWEST and seen(table.at("golden")) == GOLDEN
    assert [entry.version for entry in table.history()] == sorted(
        {*range(1, table.version + 1)} - reserved(table), reverse=True
    )
    assert table.verify() and all(catalog.verify())
    assert headrace("--catalog", str(old), "verify").returncode == 0
    query = "select id, title, late, tags[1] as tag, image.length as length from fixture where id <> 2 order by id"
    assert catalog.sql(query).to_pylist() == [
        {"id": 1, "title": "one", "late": 10, "tag": "a", "length": 5},
        {"id": 3, "title": None, "late": None, "tag": None, "length": 5000},
    ]


def reserved(table: hr.Table) -> set[int]:
    """Versions that history leaves out."""
    shown = {entry.version for entry in table.history()}
    return {*range(1, table.version + 1)} - shown


def test_it_becomes_one_of_today_by_being_used(old: pathlib.Path) -> None:
    table = hr.open(old)["fixture"]
    before = table.version

    def check(wanted: list[dict[str, Any]]) -> None:
        for opened in (table, hr.open(old)["fixture"]):
            assert seen(opened) == wanted
        assert seen(table.at("golden")) == GOLDEN and seen(table.at(before)) == NEWEST
        assert table.verify()

    fourth = dict.fromkeys(NEWEST[0]) | {"_row_id": 3, "id": 4, "image": b"new" * 2000, "title": "four"}
    table.append([{"id": 4, "image": b"new" * 2000, "title": "four"}], writer="w", sequence=1)
    rows = [dict(row) for row in [*NEWEST, fourth]]
    check(rows)
    assert table.append([{"id": 4}], writer="w", sequence=1).repeated

    assert table.update({"title": "updated", "vec": np.zeros(3, np.float32)}, "id = 2 or id = 3").rows == 2
    for row in rows[1:3]:
        row |= {"title": "updated", "vec": [0, 0, 0]}
    check(rows)

    assert table.add_columns(lambda batch: {"late": (batch["id"] * 10).astype(np.int32)}, inputs=["id"]).rows == 2, (
        "its holes are filled"
    )
    rows[2]["late"], rows[3]["late"] = 30, 40
    check(rows)

    assert table.delete("id = 1").rows == 1
    del rows[0]
    check(rows)

    done = table.merge([{"id": 3, "title": "merged"}, {"id": 5, "title": "five"}], on="id")
    assert (done.updated, done.added) == (1, 1)
    rows[1]["title"] = "merged"
    rows.append(dict.fromkeys(rows[0]) | {"_row_id": 4, "id": 5, "title": "five"})
    check(rows)

    assert table.compact().commits > 0
    check(rows)
    stream = hr.Stream(table, ["id", "title"], batch_size=2, seed=1, epochs=1)
    assert sorted(int(n) for batch in stream for n in batch["id"][batch["valid"]]) == [2, 3, 4, 5]

    table.tag("before", before)
    assert table.gc(keep=0, grace=0).expired > 3
    check(rows)
    with pytest.raises(hr.NotFound, match="expired"):
        table.at(2 if table.at("golden").version != 2 else 3)
    table.restore("golden")
    assert seen(table) == GOLDEN
    assert table.storage().unnamed.objects == 0


def test_rows_are_erased_from_files_of_then(old: pathlib.Path) -> None:
    table = hr.open(old)["fixture"]
    table.remove_tag("golden")
    table.delete("id = 3", purge=True)
    for _ in range(2):
        assert not table.gc(grace=0).damaged
    held = [path for path in old.rglob("*") if path.is_file() and b"large" * 10 in path.read_bytes()]
    assert not held and seen(table) == NEWEST[:2]
