"""Tables with a sort key: rows that belong together lie together, and everything else is as before."""

from __future__ import annotations

import json
import pathlib
import random
from typing import Any

import headrace as hr
import numpy as np
import pytest
from split_reference import xxh3_64
from test_cli import Run


def make(catalog: hr.Catalog, rows: int = 6000, runs: int = 12) -> hr.Table:
    """Runs that log in turns, in small commits."""
    table = catalog.create_table("metrics", {"run": "string", "step": "int64", "vec": "tensor<float32>[2]"})
    for begin in range(0, rows, rows // 4):
        steps = list(range(begin, begin + rows // 4))
        random.Random(begin).shuffle(steps)
        vectors = np.array([[step, -step] for step in steps], np.float32)
        table.append({"run": [f"run-{step % runs}" for step in steps], "step": steps, "vec": vectors})
    return table


def by_id(table: hr.Table | hr.Snapshot, where: str | None = None) -> dict[int, Any]:
    return {row["_row_id"]: row for row in table.scan(["run", "step"], where=where, row_ids=True).to_pylist()}


def test_sorted_rows_keep_their_ids(catalog: hr.Catalog) -> None:
    table = make(catalog)
    rows = by_id(table)
    before = table.at()
    table.sort_by("run", "step")
    assert table.sort_key == ["run", "step"]
    assert table.compact().fragments == 1
    assert by_id(table) == rows
    listed = [(row["run"], row["step"]) for row in table.scan().to_pylist()]
    assert listed == sorted(listed)
    assert table[0]["step"] == 0 and table[-1]["run"] == "run-9"
    picks = random.Random(1).sample(sorted(rows), 50)
    assert [row["step"] for row in table.take(picks).to_pylist()] == [rows[i]["step"] for i in picks]
    assert not table.diff(before.version, table.version)
    # A filtered scan reads the run's pages.
    one = catalog.sql("select count(*) as n, min(step) as low from metrics where run = 'run-7'").to_pylist()
    assert one == [{"n": 500, "low": 7}]


def test_sql_puts_values_to_their_rows(headrace: Run, catalog: hr.Catalog) -> None:
    table = make(catalog, 2000)
    table.sort_by("run")
    table.compact()
    for words in (
        ("update", "metrics", "--set", "step = step * 10", "--where", "step % 2 = 0"),
        ("add-columns", "metrics", "step + 1 as next, run || '!' as loud"),
    ):
        done = headrace("--catalog", catalog.location, *words)
        assert done.returncode == 0, done.stderr
    places = {"place": list(range(len(table)))}
    with pytest.raises(hr.Invalid, match="say of which snapshot's rows"):
        table.add_columns(places)
    table.add_columns(places, at=table.at())
    for place, row in enumerate(table.scan(["run", "step", "next", "loud", "place"], row_ids=True).to_pylist()):
        assert row["next"] == row["step"] + 1 and row["loud"] == row["run"] + "!" and row["place"] == place
    ids = {row["_row_id"]: row["step"] for row in catalog.sql("select _row_id, step from metrics").to_pylist()}
    assert ids == {i: row["step"] for i, row in by_id(table).items()}
    places = [row["p"] for row in catalog.sql("select _row_place as p from metrics order by p").to_pylist()]
    assert places == sorted(places)
    # Both virtual columns stay out of `*`.
    assert set(catalog.sql("select * from metrics limit 1").to_pylist()[0]) == {
        "run", "step", "vec", "next", "loud", "place"
    }  # fmt: skip


def test_streams_give_every_row_once_with_its_id(catalog: hr.Catalog) -> None:
    table = make(catalog, 2000)
    table.sort_by("run")
    table.compact()
    table.delete("step % 10 = 3")
    steps = {i: row["step"] for i, row in by_id(table).items()}
    for where in (None, "run in ('run-1', 'run-4')"):
        seen: dict[int, int] = {}
        for batch in hr.Stream(table, ["step", "vec"], where, batch_size=64, seed=3):
            for i, step, vec, valid in zip(batch["row_id"], batch["step"], batch["vec"], batch["valid"], strict=True):
                if valid:
                    assert int(i) not in seen and vec[0] == step
                    seen[int(i)] = int(step)
        assert seen == {i: step for i, step in steps.items() if where is None or step % 12 in (1, 4)}


def test_files_that_change_lose_their_own_rows(catalog: hr.Catalog, tmp_path: Any) -> None:
    """Items are replaced by ranges of row ids, which lie anywhere once they are sorted."""
    lines = tmp_path / "lines"
    lines.mkdir()
    for name in ("a", "b", "c"):
        (lines / f"{name}.jsonl").write_text("".join(f'{{"k": "{i}{name}"}}\n' for i in range(50)))
    catalog.ingest(lines, table="texts")
    table = catalog["texts"]
    table.sort_by("k")
    table.compact()
    (lines / "b.jsonl").write_text('{"k": "new"}\n')
    catalog.ingest(lines, table="texts", on_change="replace")
    keys = sorted(row["k"] for row in table.scan(["k"]).to_pylist())
    assert keys == sorted([f"{i}{name}" for name in "ac" for i in range(50)] + ["new"])


def test_the_shell(headrace: Run, catalog: hr.Catalog) -> None:
    make(catalog, 400)

    def sort(*words: str) -> tuple[int, str]:
        done = headrace("--catalog", catalog.location, *words)
        return done.returncode, done.stdout + done.stderr

    assert sort("sort", "metrics") == (0, "'metrics' is sorted by nothing\n")
    assert "is sorted by run, step; headrace compact sorts" in sort("sort", "metrics", "run", "step")[1]
    assert json.loads(sort("sort", "metrics", "--json")[1])["sort"] == ["run", "step"]
    assert "sort" in sort("log", "metrics")[1]
    assert sort("compact", "metrics")[0] == 0
    assert "no column 'nothing'" in sort("sort", "metrics", "nothing")[1]
    assert "name columns of numbers" in sort("sort", "metrics", "vec")[1]
    assert sort("sort", "metrics", "run", "--none")[0] == 1
    assert sort("sort", "metrics", "--none") == (0, "'metrics' is sorted by nothing\n")


def test_a_key_that_cannot_be(catalog: hr.Catalog) -> None:
    table = make(catalog, 40)
    with pytest.raises(hr.Invalid, match="rows are not sorted by 'vec'"):
        table.sort_by("vec")
    with pytest.raises(hr.Invalid, match="twice"):
        table.sort_by("run", "run")
    with pytest.raises(hr.NotFound):
        table.sort_by("none")
    with pytest.raises(hr.Invalid, match="every table's own"):
        table.add_columns({"_row_place": [0] * 40})
    table.sort_by("run", "step")
    table.drop_column("run")
    assert table.sort_key == ["step"]
    table.sort_by()
    assert table.sort_key == []


def test_values_for_rows_that_were_sorted_meanwhile_are_refused(catalog: hr.Catalog) -> None:
    table = make(catalog, 400)
    table.sort_by("run")
    before = table.at()
    doubled = {"doubled": [row["step"] * 2 for row in before.scan(["step"]).to_pylist()]}
    table.compact()
    with pytest.raises(hr.Conflict, match="rewritten meanwhile"):
        table.add_columns(doubled, at=before)
    now = table.at()
    doubled = {"doubled": [row["step"] * 2 for row in now.scan(["step"]).to_pylist()]}
    table.add_columns(doubled, at=now)
    assert table.count("doubled = step * 2") == 400


def test_a_restored_type_that_has_no_order_leaves_the_key(catalog: hr.Catalog) -> None:
    table = catalog.create_table("halves", {"half": "float16", "n": "int64"})
    for _ in range(2):
        table.append({"half": np.array([3, 2, 1], np.float16), "n": [3, 2, 1]})
    narrow = table.version
    table.widen("half", "float32")
    table.sort_by("half", "n")
    table.restore(narrow)
    assert table.sort_key == ["n"]
    table.compact()
    assert [row["n"] for row in table.scan().to_pylist()] == [1, 1, 2, 2, 3, 3]


def test_a_table_of_before_may_have_a_column_of_that_name(headrace: Run, catalog: hr.Catalog) -> None:
    """Its values must not be taken for the places of rows."""
    table = catalog.create_table("old", {"a": "int64", "_row_plane": "int64"})
    table.append({"a": list(range(10)), "_row_plane": list(range(1000, 990, -1))})
    newest = min(pathlib.Path(catalog.location, "tables").glob("*/snapshots/*"))
    snapshot = newest.read_bytes().partition(b'"snapshot":')[2][:-1].replace(b"_row_plane", b"_row_place")
    newest.chmod(0o644)
    newest.write_bytes(b'{"xxh3":"%016x","snapshot":%s}' % (xxh3_64(snapshot), snapshot))
    table = hr.open(catalog.location)["old"]
    assert table.columns == {"a": "int64", "_row_place": "int64"}
    for words in (("add-columns", "old", "a + 1 as next"), ("update", "old", "--set", "a = a + 1", "--where", "a < 5")):
        done = headrace("--catalog", catalog.location, *words)
        assert done.returncode == 1 and "rename it first" in done.stderr
    with pytest.raises(hr.Invalid, match="rename it first"):
        hr.Stream(table, ["a"], "a > 6", batch_size=4)
    table.rename_column("_row_place", "mine")
    done = headrace("--catalog", catalog.location, "add-columns", "old", "a + 1 as next")
    assert done.returncode == 0, done.stderr
    assert table.count("next = a + 1") == 10
    assert sum(len(batch["a"]) for batch in hr.Stream(table, ["a"], "a > 6", batch_size=3)) == 3
