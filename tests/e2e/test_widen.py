"""Columns that become wider: every value stays, whoever reads it and however old its file is."""

from __future__ import annotations

import decimal
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import headrace as hr
import numpy as np
import pyarrow as pa
import pytest
from test_cli import Run

D = decimal.Decimal
# The least and largest values of the narrow type, nulls, and values near those that are asked for.
INTS = {
    kind: [None, np.iinfo(kind).min, np.iinfo(kind).max, 0, 1, 7, None, np.iinfo(kind).max - 1]
    for kind in ("int8", "int16", "int32", "uint8", "uint16", "uint32")
}
PAIRS = [
    *[("int8", wide) for wide in ("int16", "int32", "int64")],
    *[("int16", wide) for wide in ("int32", "int64")],
    ("int32", "int64"),
    *[("uint8", wide) for wide in ("uint16", "uint32", "uint64", "int16", "int32", "int64")],
    *[("uint16", wide) for wide in ("uint32", "uint64", "int32", "int64")],
    *[("uint32", wide) for wide in ("uint64", "int64")],
    ("float16", "float32"),
    ("float16", "float64"),
    ("float32", "float64"),
    ("decimal(5, 2)", "decimal(18, 2)"),
    ("decimal(18, 2)", "decimal(38, 2)"),
    ("decimal(18, 2)", "decimal(50, 2)"),
]
FLOATS = [None, -65504.0, 65504.0, 0.1, -0.0, float("inf"), float("-inf"), float("nan"), 6e-8, 1.5]
DECIMALS = [None, D("-999.99"), D("999.99"), D("0.01"), D("-0.01"), D("0.00"), D("1.50")]


def values_of(kind: str) -> list[Any]:
    return INTS.get(kind) or (FLOATS if kind.startswith("float") else DECIMALS)


def arrow_type(kind: str) -> pa.DataType:
    if kind.startswith("decimal"):
        digits, scale = (int(word) for word in kind[8:-1].split(","))
        return pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale)
    return {"float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64()}.get(kind) or getattr(pa, kind)()


def column(values: list[Any], kind: str) -> pa.Array:
    if kind == "float16":
        return pa.array([None if value is None else np.float16(value) for value in values], pa.float16())
    return pa.array(values, arrow_type(kind))


def larger(wide: str) -> Any:
    """A value that the narrow types do not have."""
    if wide.startswith("decimal"):
        return D("1234567.89")
    return 1e300 if wide == "float64" else 1e6 if wide == "float32" else int(np.iinfo(wide).max)


def same(got: hr.Table, wanted: hr.Table, wide: str) -> None:
    """Whatever is asked of both has one answer."""
    assert got.columns["v"] == wanted.columns["v"] == wide
    a, b = got.to_arrow(), wanted.to_arrow()
    assert a["v"].type == b["v"].type
    assert repr(a.to_pydict()) == repr(b.to_pydict())
    ids = list(range(len(a)))[::-2]
    assert repr(got.take(ids)["v"].tolist()) == repr(wanted.take(ids)["v"].tolist())
    finite = [value for value in [*values_of(wide), larger(wide)] if value is not None and math.isfinite(value)]
    for value in [] if wide == "decimal(50, 2)" else finite:  # filters take 38 digits at most
        for sign in ("=", "<", ">=", "<>"):
            where = f"v {sign} {value}"
            assert got.at().count(where) == wanted.at().count(where), where
    for where in ("v is null", "k > 3 and v is not null"):
        assert got.at().count(where) == wanted.at().count(where), where


@pytest.mark.parametrize(("narrow", "wide"), PAIRS, ids=lambda kind: kind.replace(" ", ""))
def test_every_pair_reads_as_if_it_had_always_been_wide(catalog: hr.Catalog, narrow: str, wide: str) -> None:
    """Against a table that was wide from the start; overlays, fills, compaction and restore before and after."""
    values = values_of(narrow)
    exact = column(values, narrow)
    count = len(values)
    got = catalog.create_table("got", {"k": np.arange(count), "v": exact})
    wanted = catalog.create_table("wanted", {"k": np.arange(count), "v": exact.cast(arrow_type(wide))})
    for table, kind in ((got, narrow), (wanted, wide)):
        table.update(lambda batch, kind=kind: {"v": column([values[1]], kind)}, "k = 3", inputs=["k"], columns=["v"])
        table.append({"k": np.arange(count, 2 * count)})  # holes
    before = got.version
    commit = got.widen("v", wide)
    assert got.at(before).columns["v"] == narrow and got.at(before).to_arrow()["v"].type == arrow_type(narrow)
    assert commit.version == before + 1 and got.history(1)[0].columns == [f"v: {narrow} -> {wide}"]
    same(got, wanted, wide)
    diff = got.diff(before, got.version)
    assert diff and diff.columns_retyped == {"v": (narrow, wide)} and diff.changed == 0 and diff.added == 0
    for table in (got, wanted):
        table.update(lambda batch: {"v": column([larger(wide)], wide)}, "k = 1", inputs=["k"], columns=["v"])
        table.append({"k": [100], "v": column([larger(wide)], wide)})
        table.add_columns(lambda batch: {"v": column([larger(wide)] * len(batch), wide)}, inputs=["k"])
    same(got, wanted, wide)
    assert got.diff(before, got.version).changed_in["v"] == count + 1
    for table in (got, wanted):
        table.compact()
    same(got, wanted, wide)
    assert got.verify()
    restored = got.restore(before)
    assert got.columns["v"] == narrow and got.at(restored.version).to_arrow()["v"].to_pylist()[0] is None
    got.restore(restored.version - 1)
    same(got, wanted, wide)


def test_inside_lists_structs_and_maps(catalog: hr.Catalog) -> None:
    kinds = pa.schema(
        [
            ("list", pa.list_(pa.int32())),
            ("struct", pa.struct([("a", pa.float32()), ("b", pa.string())])),
            ("map", pa.map_(pa.string(), pa.int16())),
        ]
    )
    rows = [
        {"list": [1, None, 2**31 - 1], "struct": {"a": 0.5, "b": "x"}, "map": [("k", -(2**15))]},
        {"list": None, "struct": None, "map": None},
        {"list": [], "struct": {"a": None, "b": None}, "map": [("a", 1), ("b", None)]},
    ] * 50
    table = catalog.create_table("t", pa.Table.from_pylist(rows, kinds))
    wide = {"list": "list<int64>", "struct": "struct<a: float64, b: string>", "map": "map<string, int64>"}
    for name, kind in wide.items():
        table.widen(name, kind)
        assert table.columns[name] == kind
    assert table.to_arrow().to_pylist() == rows
    taken = table.take([148, 1, 0])
    assert taken["list"].tolist() == [rows[place]["list"] for place in (148, 1, 0)]
    assert table.at().count("struct.a = 0.5") == 50
    more = [{"list": [2**40], "struct": {"a": 0.1, "b": "y"}, "map": [("z", 2**50)]}]
    table.append(pa.Table.from_pylist(more, table.to_arrow().schema))
    table.compact()
    assert table.to_arrow().to_pylist()[:150] == rows
    assert table.to_arrow().to_pylist()[150]["list"] == [2**40]
    assert catalog.sql("select max(list_max(list)) as m from t").to_arrow().to_pylist() == [{"m": 2**40}]


@pytest.mark.parametrize(
    ("kind", "to"),
    [
        ("int64", "int32"),
        ("int64", "float64"),
        ("int32", "uint64"),
        ("uint32", "int32"),
        ("float64", "float32"),
        ("decimal(5, 2)", "decimal(6, 3)"),
        ("decimal(5, 2)", "decimal(4, 2)"),
        ("string", "json"),
        ("bool", "int8"),
        ("date", "timestamp[us]"),
        ("tensor<float16>[2]", "tensor<float32>[2]"),
        ("list<int64>", "list<int32>"),
        ("struct<a: int32>", "struct<b: int64>"),
        ("map<int32, int32>", "map<int64, int32>"),
        ("int32", "int32"),
    ],
)
def test_what_is_not_wider_is_refused(catalog: hr.Catalog, kind: str, to: str) -> None:
    table = catalog.create_table("t", {"v": kind, "k": "int64"})
    with pytest.raises(hr.Invalid, match="cannot be widened to"):
        table.widen("v", to)
    assert table.version == 1 and table.columns["v"] == kind
    with pytest.raises(hr.NotFound):
        table.widen("w", to)


def test_a_default_stays_the_value_that_it_was(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", {"k": np.arange(3)})
    table.add_column("f", "float32", default=0.1)
    table.add_column("i", "int8", default=7)
    assert table.to_arrow()["f"].to_pylist() == [float(np.float32(0.1))] * 3
    before = table.version
    table.widen("f", "float64")
    table.widen("i", "int64")
    table.append({"k": [3], "i": [2**40]})
    assert table.to_arrow()["f"].to_pylist() == [float(np.float32(0.1))] * 4
    assert table.to_arrow()["i"].to_pylist() == [7, 7, 7, 2**40]
    assert table.diff(before, table.version).changed == 0


def test_who_writes_the_old_type_meanwhile(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    """An update is made again from the wider values; rows that came in the old type are refused."""
    table = catalog.create_table("t", {"k": np.arange(5, dtype=np.int32), "m": np.arange(5, dtype=np.int8)})
    other = hr.open(tmp_path / "catalog")["t"]

    def widened(name: str, kind: str) -> None:
        if other.columns[name] != kind:
            other.widen(name, kind)

    def slow(batch: hr.Batch) -> dict[str, Any]:
        widened("k", "int64")
        return {"k": np.asarray(batch["k"]) + 1}

    table.update(slow, "k = 2", inputs=["k"], columns=["k"])
    assert table.to_arrow()["k"].to_pylist() == [0, 1, 3, 3, 4]

    def rows() -> Iterator[pa.RecordBatch]:
        schema = pa.schema([("k", pa.int64()), ("m", pa.int8())])
        yield pa.record_batch([[5], [5]], schema=schema)
        widened("m", "int64")
        yield pa.record_batch([[6], [6]], schema=schema)

    kinds = pa.schema([("k", pa.int64()), ("m", pa.int8())])
    with pytest.raises(hr.Conflict, match="'m' became int64 meanwhile"):
        table.append(pa.RecordBatchReader.from_batches(kinds, rows()))
    table.append(pa.RecordBatchReader.from_batches(kinds, rows()))
    assert table.to_arrow()["m"].to_pylist() == [0, 1, 2, 3, 4, 5, 6]
    with pytest.raises(hr.Invalid, match="cannot be widened"):
        table.widen("k", "int64")


def test_the_shell(headrace: Run) -> None:
    headrace("init")
    headrace("sql", "select range::int as a from range(3)", "--into", "t")
    assert headrace("widen", "t", "a", "int64").returncode == 0
    assert "a int64" in " ".join(headrace("describe", "t").stdout.split())
    assert "was int32 and is int64" in headrace("diff", "t", "2", "3").stdout
    refused = headrace("widen", "t", "a", "int16")
    assert refused.returncode != 0 and "add-columns" in refused.stderr
    assert "only to int64" not in refused.stderr
