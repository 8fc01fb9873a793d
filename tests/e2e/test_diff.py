"""Diffs of versions: from Python, in SQL, on the command line."""

from __future__ import annotations

import io
import json
import pathlib
import subprocess
from collections.abc import Callable
from typing import Any

import headrace as hr
import numpy as np
import pytest
from PIL import Image

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def _people(catalog: hr.Catalog) -> hr.Table:
    """Version 2: four people; 3: one gone, one older; then a column, a name, and a new one."""
    table = catalog.create_table("people", {"name": ["ada", "bob", "cyd", "dan"], "age": [36, 41, 29, 52]})
    assert table.version == 2
    table.delete("name = 'bob'")
    table.update({"age": 30}, "name = 'cyd'")
    table.add_columns({"city": "string"})
    table.rename_column("name", "who")
    table.append([{"who": "eve", "age": 23, "city": "x"}])
    return table


def _picture(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (8, 8), shade).save(out, "png")
    return out.getvalue() + bytes(5000)


def test_rows_and_columns_are_counted_and_shown(catalog: hr.Catalog) -> None:
    table = _people(catalog)
    diff = table.diff("v2")
    assert (diff.added, diff.deleted, diff.changed, diff.same) == (1, 1, 1, 2)
    assert diff.changed_in == {"age": 1} and diff.columns_added == {"city": "string"}
    assert diff.columns_renamed == {"name": "who"} and diff.columns_dropped == {}
    assert [dict(row) for row in diff.rows()] == [
        {"row_id": 1, "change": "deleted", "columns": None},
        {"row_id": 2, "change": "changed", "columns": ["age"]},
        {"row_id": 4, "change": "added", "columns": None},
    ]
    back = table.diff(table.version, 2)
    assert (back.added, back.deleted, back.changed) == (1, 1, 1) and back.columns_dropped == {"city": "string"}
    assert back.columns_renamed == {"who": "name"}
    assert not table.diff(2, 2) and table.diff(2)
    assert not table.diff(table.version) and list(table.diff(table.version).rows()) == []
    assert "1 rows added, 1 deleted, 1 changed, 2 the same; + city (string); name is now who" in repr(diff)
    assert "<table" in diff._repr_html_() and "changed" in diff._repr_html_()
    with pytest.raises(hr.NotFound):
        table.diff("v99")


def test_diffs_can_be_asked_in_sql(catalog: hr.Catalog) -> None:
    table = _people(catalog)
    counted = catalog.sql("select change, count(*) as n from diff('people', 'v2') group by 1 order by 1").to_pylist()
    assert counted == [{"change": "added", "n": 1}, {"change": "changed", "n": 1}, {"change": "deleted", "n": 1}]
    joined = catalog.sql(
        "select d.columns, a.age as was, b.age as is_now from diff('people', '2', $to) d "
        'join "people@2" a on a._row_id = d.row_id join people b on b._row_id = d.row_id',
        {"to": str(table.version)},
    ).to_pylist()
    assert joined == [{"columns": ["age"], "was": 29, "is_now": 30}]
    table.tag("now")
    assert catalog.sql("select count(*) as n from diff('people', 'v2', 'now')").to_pylist() == [{"n": 3}]
    assert catalog.sql("select * from diff('people', 'v2')", into="changes").rows == 3
    for query, error in {
        "select * from diff('nobody', 'v1')": hr.NotFound,
        "select * from diff('people', 'v99')": hr.NotFound,
        "select * from diff('people', null)": hr.Invalid,
        "select * from diff('people')": hr.Invalid,
    }.items():
        with pytest.raises(error):
            catalog.sql(query).to_pylist()


def test_diffs_are_longer_than_a_batch(catalog: hr.Catalog, headrace: Run) -> None:
    table = catalog.create_table("t", {"k": np.arange(50_000), "x": np.zeros(50_000)})
    version = table.version
    table.update({"x": 1.0}, "k % 7 = 0")
    table.delete("k % 11 = 0")
    table.append({"k": np.arange(50_000, 90_000), "x": np.zeros(40_000)})
    expected = {
        "added": 40_000,
        "changed": len([k for k in range(0, 50_000, 7) if k % 11]),
        "deleted": len(range(0, 50_000, 11)),
    }
    sql = catalog.sql(
        f"select change, count(*) as n, sum(row_id)::bigint as s from diff('t', '{version}') group by 1 order by 1"
    )
    assert {row["change"]: row["n"] for row in sql} == expected
    diff = table.diff(version)
    assert {"added": diff.added, "changed": diff.changed, "deleted": diff.deleted} == expected
    shown = headrace("--catalog", catalog.location, "diff", "t", str(version), "-n", "-1").stdout.splitlines()[4:]
    marks = {"+": "added", "-": "deleted", "~": "changed"}
    assert [(line.split()[1], marks[line[0]]) for line in shown] == [
        (str(r["row_id"]), r["change"]) for r in diff.rows()
    ]
    assert "~ 7  x: 0 → 1" in shown and "- 11  k=11  x=0" in shown and "+ 50003  k=50003  x=0" in shown


def test_pictures_that_moved_are_the_same(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", {"n": "int64", "image": "blob"})
    for part in range(4):
        table.append([{"n": part * 10 + i, "image": _picture(part * 10 + i)} for i in range(10)])
    before = table.version
    table.update(lambda batch: {"image": [_picture(200)] * len(batch)}, "n in (3, 17)", inputs=["n"], columns=["image"])
    table.update({"n": 5}, "n = 5")  # the value that was there
    table.update(
        lambda batch: {"image": [_picture(8)]}, "n = 8", inputs=["n"], columns=["image"]
    )  # the same bytes, elsewhere
    assert [row["row_id"] for row in table.diff(before).rows()] == [3, 17]
    table.compact()
    assert table.history()[0].kind == "compact"
    diff = table.diff(before)
    assert [(row["row_id"], row["columns"]) for row in diff.rows()] == [(3, ["image"]), (17, ["image"])]
    assert diff.changed_in == {"image": 2} and diff.same == 38
    table.restore(before)
    assert not table.diff(before)


def test_values_that_compare_equal_are_the_same(catalog: hr.Catalog) -> None:
    nan = float("nan")
    table = catalog.create_table("t", {"x": [nan, 0.0, 1.0, None], "l": [[1, None], [], None, [2]]})
    version = table.version
    table.update(
        lambda batch: {"x": [nan, -0.0, 1.0, None], "l": [[1, None], [], None, [2]]},
        "true",
        inputs=["x"],
        columns=["x", "l"],
    )
    assert table.version == version + 1
    assert not table.diff(version)
    table.update(lambda batch: {"l": [[1, 0], None, [], [2]]}, "true", inputs=["x"], columns=["l"])
    assert [row["row_id"] for row in table.diff(version).rows()] == [0, 1, 2]


def test_diffs_on_the_command_line(catalog: hr.Catalog, headrace: Run) -> None:
    _people(catalog)
    location = ["--catalog", catalog.location]
    shown = headrace(*location, "diff", "people", "v2")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines() == [
        "people: version 2 to 8",
        "rows: 1 added, 1 deleted, 1 changed, 2 the same",
        "columns: name is now who, + city (string)",
        "changed: age of 1",
        "",
        "- 1  name=bob  age=41",
        "~ 2  age: 29 → 30",
        "+ 4  who=eve  age=23  city=x",
    ]
    few = headrace(*location, "diff", "people", "v2", "v8", "-n", "1").stdout
    assert "… and 2 more" in few and "+ 4" not in few
    found: dict[str, Any] = json.loads(headrace(*location, "--json", "diff", "people", "v2", "-n", "-1").stdout)
    assert found["rows"] == {"added": 1, "deleted": 1, "changed": 1, "same": 2}
    assert found["columns"] == {
        "added": {"city": "string"},
        "dropped": {},
        "renamed": {"name": "who"},
        "retyped": {},
        "changed": {"age": 1},
    }
    assert found["changes"] == [
        {"row_id": 1, "change": "deleted", "before": {"name": "bob", "age": 41}},
        {"row_id": 2, "change": "changed", "before": {"age": 29}, "after": {"age": 30}},
        {"row_id": 4, "change": "added", "after": {"who": "eve", "age": 23, "city": "x"}},
    ]
    none = headrace(*location, "diff", "people", "v2", "-n", "0").stdout.splitlines()
    assert none[-1] == "changed: age of 1"
    same = headrace(*location, "diff", "people", "v8")
    assert same.stdout.splitlines()[1] == "rows: 0 added, 0 deleted, 0 changed, 4 the same"
    assert headrace(*location, "diff", "people", "v99").returncode == 1


def test_damage_is_told_and_no_difference(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", {"k": np.arange(5000), "x": np.zeros(5000)})
    version = table.version
    table.update(lambda batch: {"x": batch["k"] * 0.5}, "true", inputs=["k"], columns=["x"])
    for path, _, _ in table.at().files():
        data = bytearray(pathlib.Path(path).read_bytes())
        for at in range(200, len(data) - 200, 500):
            data[at] ^= 0xFF
        pathlib.Path(path).chmod(0o644)
        pathlib.Path(path).write_bytes(bytes(data))
    again = hr.open(catalog.location)
    with pytest.raises(hr.Corrupt):
        again["t"].diff(version)
    with pytest.raises(hr.Corrupt):
        again.sql(f"select count(*) from diff('t', '{version}')").to_pylist()


def test_columns_can_be_chosen(catalog: hr.Catalog, headrace: Run) -> None:
    table = catalog.create_table("t", {"a": [1, 2, 3], "b": [1, 2, 3], "vec": np.zeros((3, 4), np.float32)})
    version = table.version
    table.update({"a": 9}, row_ids=[0])
    table.update({"b": 9}, row_ids=[1])
    table.delete(row_ids=[2])
    diff = table.diff(version, columns=["b", "vec"])
    assert (diff.deleted, diff.changed_in) == (1, {"b": 1}) and [row["row_id"] for row in diff.rows()] == [1, 2]
    assert table.diff(version).changed == 2
    shown = headrace("--catalog", catalog.location, "diff", "t", str(version), "-c", "a").stdout
    assert "changed: a of 1" in shown and "~ 1" not in shown
    with pytest.raises(hr.NotFound, match="'aa'"):
        table.diff(version, columns=["aa"])
