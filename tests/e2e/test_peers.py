"""Our files and our filters beside stock pyarrow and stock DuckDB."""

from __future__ import annotations

import math
import pathlib
import random

import duckdb
import headrace as hr
import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
from conftest import in_ci


def test_stock_readers_agree_cell_by_cell(catalog: hr.Catalog) -> None:
    rng = np.random.default_rng(1)
    rows = 5000
    source = pa.table(
        {
            "i": pa.array([None if x % 7 == 0 else int(x) for x in range(rows)], pa.int64()),
            "f": rng.random(rows).astype(np.float32),
            "s": pa.array([None if x % 5 == 0 else f"s{x % 50}" for x in range(rows)]),
            "l": pa.array([list(range(x % 4)) for x in range(rows)], pa.list_(pa.int32())),
            "t": pa.array([{"a": x, "b": None if x % 3 == 0 else str(x)} for x in range(rows)]),
            "when": pa.array(range(rows), pa.timestamp("us", "UTC")),
            "flag": pa.array([x % 2 == 0 for x in range(rows)]),
            "vec": pa.FixedSizeListArray.from_arrays(pa.array(rng.random(rows * 8, dtype=np.float32)), 8),
        }
    )
    table = catalog.create_table("t", source)
    table.append(source.slice(0, 100))
    table.add_columns({"extra": np.arange(rows + 100)})
    ours = pa.table(table.scan())
    files = sorted(table.at().files(), key=lambda file: file[1])
    for name in ours.column_names:
        pieces = []
        for path, _, _ in files:
            data = pq.read_table(path) if path.endswith(".parquet") else ipc.open_file(path).read_all()
            if name in data.column_names:
                pieces.append(data[name].combine_chunks().cast(ours[name].type))
        assert pa.chunked_array(pieces).combine_chunks().equals(ours[name].combine_chunks()), name
    parquet = [path for path, _, _ in files if path.endswith(".parquet") and "i" in pq.read_schema(path).names]
    stock = duckdb.sql(f"select sum(i), count(s), sum(t.a), count(*) from read_parquet({parquet!r})").fetchone()
    through_us = catalog.sql("select sum(i) as a, count(s) as b, sum(t.a) as c, count(*) as d from t").to_pylist()[0]
    assert stock == tuple(int(value) for value in through_us.values())


class Generator:
    """Random filters that both sides can read, over i, j (integers), x, y (floats), s, t (text), b, c (booleans)."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def number(self, depth: int) -> str:
        choice = self.random.randrange(9 if depth > 0 else 4)
        if choice < 2:
            return self.random.choice("ij" if choice == 0 else "xy")
        if choice == 2:
            return str(self.random.randrange(-5, 6))
        if choice == 3:
            return f"{self.random.randrange(-5, 6)}.{self.random.choice(['0', '5', '25'])}e0"
        if choice == 4:
            return f"(- {self.number(depth - 1)})"
        if choice == 5 and depth == 2:
            return "cast(i as float64)" if self.random.random() < 0.5 else "b::int64"
        return f"({self.number(depth - 1)} {self.random.choice('+-*/%')} {self.number(depth - 1)})"

    def text(self) -> str:
        return self.random.choice(["s", "t", "'a'", "'b'", "'ab'", "''", "'é'", "i::string"])

    def condition(self, depth: int) -> str:
        choice = self.random.randrange(12 if depth > 0 else 8)
        compare = self.random.choice(["=", "!=", "<>", "<", "<=", ">", ">="])
        negated = self.random.choice(["", "not "])
        if choice < 2:
            return f"{self.number(2)} {compare} {self.number(2)}"
        if choice == 2:
            return f"{self.text()} {compare} {self.text()}"
        if choice == 3:
            return self.random.choice(["b", "c", "true", "b = c", "b is null", "null"])
        if choice == 4:
            return f"{self.number(1)} {negated}in ({self.number(1)}, {self.number(0)}, {self.random.choice(['null', '1', 'i'])})"
        if choice == 5:
            return f"{self.number(1)} {negated}between {self.number(0)} and {self.number(0)}"
        if choice == 6:
            return f"{self.random.choice('st')} {negated}like '{self.random.choice(['a%', '%b', '_', '%a_%', '', '%', 'ab', 'é%'])}'"
        if choice == 7:
            return f"{self.random.choice(['i', 's', '(i + x)', '(j % 0)', 'c'])} is {negated}null"
        if choice == 8:
            return f"(not {self.condition(depth - 1)})"
        return f"({self.condition(depth - 1)} {self.random.choice(['and', 'or'])} {self.condition(depth - 1)})"


def test_filters_mean_what_they_mean_in_duckdb(catalog: hr.Catalog) -> None:
    rng = random.Random(3)

    def some(values: list[object], rows: int) -> list[object]:
        return [None if rng.random() < 0.2 else rng.choice(values) for _ in range(rows)]

    rows = 40
    source = pa.table(
        {
            "i": pa.array(some(list(range(-4, 5)), rows), pa.int64()),
            "j": pa.array(some([0, 1, 2, 3, 100], rows), pa.int64()),
            "x": pa.array(some([0.0, -0.0, 1.0, 2.5, -3.25, math.nan, math.inf, -math.inf], rows), pa.float64()),
            "y": pa.array(some([0.0, 1.0, 2.0, 0.5], rows), pa.float64()),
            "s": pa.array(some(["a", "b", "ab", "", "é", "ba"], rows)),
            "t": pa.array(some(["a", "b", "abc"], rows)),
            "b": pa.array(some([True, False], rows)),
            "c": pa.array(some([True, False], rows)),
        }
    )
    snapshot = catalog.create_table("t", source).at()
    connection = duckdb.connect()
    connection.register("t", source.append_column("_row_id", pa.array(range(rows))))
    generator = Generator(17)
    total = 100_000 if in_ci() else 4_000
    spelling = {"cast(i as float64)": "cast(i as double)", "::int64": "::bigint", "::string": "::varchar"}
    for begin in range(0, total, 100):
        filters = [generator.condition(2) for _ in range(100)]
        theirs = []
        for text in filters:
            for ours_name, their_name in spelling.items():
                text = text.replace(ours_name, their_name)
            theirs.append(f"({text})::boolean")
        columns = connection.sql(f"select {', '.join(theirs)} from t order by _row_id").fetchall()
        for k, text in enumerate(filters):
            want_true = [row for row in range(rows) if columns[row][k] is True]
            want_null = [row for row in range(rows) if columns[row][k] is None]
            got_true = [row["_row_id"] for row in snapshot.scan(columns=["_row_id"], where=text)]
            assert got_true == want_true, f"{text} (filter {begin + k})"
            if k % 4 == 0:
                got_null = [row["_row_id"] for row in snapshot.scan(columns=["_row_id"], where=f"({text}) is null")]
                assert got_null == want_null, f"({text}) is null (filter {begin + k})"


def test_format_fixtures_of_version_1_are_read_for_ever() -> None:
    folder = pathlib.Path(__file__).parent.parent / "compat" / "v1"
    catalog = hr.open(folder)
    table = catalog["fixture"]
    assert table.columns == {
        "id": "int64",
        "title": "string",
        "tags": "list<string>",
        "where": "struct<lat: float64, lon: float64>",
        "vec": "tensor<float32>[3]",
        "image": "blob",
        "late": "int32",
    }
    rows = table.scan().to_pylist()
    assert [row["id"] for row in rows] == [1, 2, 3]
    assert rows[0]["tags"] == ["a", "b"] and rows[1]["tags"] is None and rows[2]["where"] == {"lat": 1.5, "lon": -2.5}
    assert rows[0]["vec"].tolist() == [1.0, 2.0, 3.0] and rows[1]["vec"] is None
    assert bytes(rows[0]["image"]) == b"small" and bytes(rows[2]["image"]) == b"large" * 1000
    assert [row["late"] for row in rows] == [10, 20, None]
    assert len(table.at("golden")) == 2 and "name" in table.at("golden").columns
