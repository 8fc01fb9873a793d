"""What the docstrings say that calls raise, and that every public function of the data half says something."""

from __future__ import annotations

import inspect
import pathlib
import re
from collections.abc import Callable
from typing import Any

import headrace as hr
import pytest


@pytest.fixture
def catalog(tmp_path: pathlib.Path) -> hr.Catalog:
    made = hr.init(tmp_path / "c")
    made.create_table("t", [{"x": 1, "s": "a"}, {"x": 2, "s": "b"}])
    return made


CALLS: dict[str, tuple[type[Exception], Callable[[hr.Catalog], Any]]] = {
    "init": (hr.Invalid, lambda c: hr.init(c.location)),
    "open": (hr.NotFound, lambda c: hr.open(c.location + "-not")),
    "Catalog.table": (hr.NotFound, lambda c: c["no"]),
    "Catalog.create_table": (hr.Invalid, lambda c: c.create_table("t", {"x": "int64"})),
    "Catalog.create_table of no type": (hr.Invalid, lambda c: c.create_table("u", {"x": "int65"})),
    "Catalog.drop_table": (hr.NotFound, lambda c: c.drop_table("no")),
    "Catalog.gc": (hr.Invalid, lambda c: c.gc(grace="soon")),
    "Table.keep": (hr.Invalid, lambda c: c["t"].keep("a while")),
    "Table.gc": (hr.Invalid, lambda c: c["t"].gc(keep="-1d")),
    "Catalog.ingest": (hr.NotFound, lambda c: c.ingest(c.location + "/no.csv", table="u")),
    "Catalog.sql": (hr.Invalid, lambda c: c.sql("selec 1")),
    "Catalog.sql of a file": (hr.Unavailable, lambda c: c.sql("from read_text('/etc/hostname')")),
    "Catalog.sql of no table": (hr.NotFound, lambda c: c.sql("from nothing")),
    "Catalog.explain": (hr.Invalid, lambda c: c.explain("selec 1")),
    "Snapshot.scan": (hr.NotFound, lambda c: c["t"].scan(["no"])),
    "Snapshot.scan by a wrong filter": (hr.Invalid, lambda c: c["t"].scan(where="x >")),
    "Snapshot.take": (hr.NotFound, lambda c: c["t"].take([99])),
    "Snapshot.count": (hr.Invalid, lambda c: c["t"].count("x >")),
    "Table.at": (hr.NotFound, lambda c: c["t"].at(99)),
    "Table.at both": (TypeError, lambda c: c["t"].at(1, tag="v")),
    "Table.append": (hr.Invalid, lambda c: c["t"].append([{"x": "no number"}])),
    "Table.add_columns": (hr.Invalid, lambda c: c["t"].add_columns({"y": [1]})),
    "Table.add_columns that is full": (hr.Invalid, lambda c: c["t"].add_columns({"x": [1, 2]})),
    "Table.delete": (hr.Invalid, lambda c: c["t"].delete()),
    "Table.delete of no row": (hr.NotFound, lambda c: c["t"].delete(row_ids=[99])),
    "Table.update": (hr.Invalid, lambda c: c["t"].update({"x": "no number"}, "true")),
    "Table.update of no column": (hr.NotFound, lambda c: c["t"].update({"no": 1}, "true")),
    "Table.merge": (hr.Invalid, lambda c: c["t"].merge([{"x": 1}, {"x": 1}], on="x")),
    "Table.merge by no column": (hr.NotFound, lambda c: c["t"].merge([{"x": 1}], on="no")),
    "Table.restore": (hr.NotFound, lambda c: c["t"].restore(99)),
    "Table.rename_column": (hr.NotFound, lambda c: c["t"].rename_column("no", "y")),
    "Table.rename_column to a name that is taken": (hr.Invalid, lambda c: c["t"].rename_column("x", "s")),
    "Table.drop_column": (hr.NotFound, lambda c: c["t"].drop_column("no")),
    "Table.tag": (hr.NotFound, lambda c: c["t"].tag("a", 99)),
    "Table.tag that looks like a version": (hr.Invalid, lambda c: c["t"].tag("v3")),
    "Table.remove_tag": (hr.NotFound, lambda c: c["t"].remove_tag("no")),
}


@pytest.mark.parametrize("call", CALLS)
def test_calls_raise_what_their_docstrings_say(catalog: hr.Catalog, call: str) -> None:
    error, function = CALLS[call]
    with pytest.raises(error) as raised:
        list(function(catalog) or [])
    assert type(raised.value) is error, raised.value
    owner: Any = hr
    for part in call.split()[0].split("."):
        owner = getattr(owner, part)
    assert re.search(rf"^ +{error.__name__}: ", inspect.getdoc(owner) or "", re.M), (
        f"{call} does not say {error.__name__}"
    )


def test_the_folder_of_a_catalog_opens_it(tmp_path: pathlib.Path) -> None:
    hr.init(tmp_path / ".headrace").create_table("t", [{"x": 1}])
    assert hr.open(tmp_path).tables() == ["t"]


def test_stats_and_reports_are_documented_key_by_key(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    report = catalog.ingest(tmp_path / "a.csv", table="a")
    stream = hr.Stream(catalog["t"], ["x"], batch_size=1)
    list(stream)
    for function, keys in ((hr.Catalog.ingest, report), (hr.Stream.stats, stream.stats())):
        text = inspect.getdoc(function) or ""
        missing = [key for key in keys if f"``{key}``" not in text]
        assert not missing, f"{function.__qualname__} does not say what {missing} are"
