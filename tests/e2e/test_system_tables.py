"""Headrace's own tables lie in the schema ``hr``: a person's table is never in the way."""

from __future__ import annotations

import json
import pathlib

import headrace as hr
import pytest
from test_cli import Run

SCORES = {
    "request": "string", "time": "timestamp[us, UTC]", "name": "string", "value": "float64",
    "label": "string", "comment": "string", "source": "string", "who": "string",
}  # fmt: skip


def score(headrace: Run, catalog: hr.Catalog, request: str) -> None:
    done = headrace("--catalog", catalog.location, "score", request, "--value", "1", "--force")
    assert done.returncode == 0, done.stderr


def test_system_tables_are_shown_apart(headrace: Run, catalog: hr.Catalog) -> None:
    score(headrace, catalog, "first")
    catalog.create_table("zebras", {"n": [1]})
    assert catalog.tables() == ["zebras", "hr.scores"]
    listed = json.loads(headrace("--catalog", catalog.location, "ls", "--json").stdout)
    assert [(one["name"], one["kind"]) for one in listed] == [("zebras", "table"), ("hr.scores", "system")]
    for name in ("scores", "hr.scores"):
        assert catalog.sql(f"select request from {name}").to_pylist() == [{"request": "first"}]
        assert len(catalog[name]) == 1
    assert catalog.sql('select count(*) as n from "hr.scores@v2"').to_pylist() == [{"n": 1}]
    both = "select a.request as a, b.request as b from scores a join hr.scores b using (request)"
    assert catalog.sql(both).to_pylist() == [{"a": "first", "b": "first"}]

    # A person's table has the plain name, and nothing of ours comes into it.
    catalog.create_table("scores", {"game": ["chess"], "points": [3]})
    score(headrace, catalog, "second")
    assert catalog.sql("select * from scores").to_pylist() == [{"game": "chess", "points": 3}]
    assert {row["request"] for row in catalog.sql("select request from hr.scores").to_pylist()} == {"first", "second"}
    assert catalog.tables() == ["scores", "zebras", "hr.scores"]
    catalog.drop_table("scores")
    assert len(catalog["scores"]) == 2
    catalog.drop_table("scores")  # the system's, by its plain name
    assert catalog.tables() == ["zebras"]


def test_one_that_is_not_there_yet_is_said_to_be_missing(headrace: Run, catalog: hr.Catalog) -> None:
    with pytest.raises(hr.NotFound, match=r"there is no table 'hr\.runs'"):
        catalog.sql("select * from hr.runs")
    done = headrace("--catalog", catalog.location, "sql", "select * from hr.runs")
    assert done.returncode == 1 and "there is no table 'hr.runs'" in done.stderr
    with hr.run("first", id="first", catalog=catalog):  # looks for it there
        pass


def test_rows_that_no_commit_took_yet_have_all_types(catalog: hr.Catalog) -> None:
    """Lists of points and bytes of pictures, from spools as from files."""
    query = (
        "select key, unnest(steps) as step, unnest(values) as value from hr.metrics where steps is not null "
        "order by key, step"
    )
    media = "select key, data.inline as bytes, facts, caption from hr.media order by key"
    with hr.run("first", catalog=catalog, system=False):  # makes the tables
        pass
    run = hr.run("second", catalog=catalog, system=False)
    for step in (9, 1, 5, 2):
        run.log({"loss": step / 3, "nan": float("nan"), "words": f"text {step}"}, step=step)
    waiting, pictures = catalog.sql(query).to_pylist(), catalog.sql(media).to_pylist()
    assert [(row["key"], row["step"], row["value"]) for row in waiting if row["key"] == "loss"] == [
        ("loss", step, step / 3) for step in (1, 2, 5, 9)
    ]
    assert len(waiting) == 8 and len(pictures) == 4
    run.finish()
    assert repr(catalog.sql(query).to_pylist()) == repr(waiting)
    assert repr(catalog.sql(media).to_pylist()) == repr(pictures)


def test_the_schema_is_reserved(headrace: Run, catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    with pytest.raises(hr.Invalid, match="Headrace's own tables"):
        catalog.create_table("hr.mine", {"n": "int64"})
    (tmp_path / "rows.jsonl").write_text('{"n": 1}\n')
    for words in (
        ("sql", "select 1 as n", "--into", "hr.mine"),
        ("ingest", str(tmp_path / "rows.jsonl"), "--table", "hr.mine"),
    ):
        done = headrace("--catalog", catalog.location, *words)
        assert done.returncode == 1 and "Headrace's own tables" in done.stderr, done.stderr
    assert catalog.tables() == []


def test_an_older_table_is_carried_over(headrace: Run, catalog: hr.Catalog) -> None:
    """Its rows, versions and tags stay: it only gets its name."""
    older = catalog.create_table("scores", SCORES)
    older.append({"request": ["old"], "name": ["helpful"], "value": [0.5]})
    older.tag("before")
    assert catalog.sql("select request from scores").to_pylist() == [{"request": "old"}]
    score(headrace, catalog, "new")
    assert catalog.tables() == ["hr.scores"]
    now = catalog["scores"]
    assert {row["request"] for row in now.scan(["request"]).to_pylist()} == {"old", "new"}
    assert len(now.at("before")) == 1 and len(older) == 2
