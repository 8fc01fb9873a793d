"""Our files and our filters beside stock pyarrow and stock DuckDB."""

from __future__ import annotations

import math
import os
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
    """Random filters that both sides can read.

    Over i, j (integers), x, y (float64), f (float32), s, t (text), n (text of integers), b, c (booleans).
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def number(self, depth: int) -> str:
        choice = self.random.randrange(12 if depth > 0 else 5)
        if choice < 2:
            return self.random.choice("ij" if choice == 0 else "xyf")
        if choice == 2:
            return str(self.random.randrange(-5, 6))
        if choice == 3:
            return f"{self.random.randrange(-5, 6)}.{self.random.choice(['0', '5', '25'])}e0"
        if choice == 4:
            return f"{self.random.randrange(-5, 6)}.{self.random.choice(['1', '5', '25', '30'])}"
        if choice == 9:
            return self.random.choice([f"abs({self.number(depth - 1)})", f"length({self.text()})", "n::int64"])
        if choice == 10:
            return f"coalesce({self.number(depth - 1)}, {self.number(depth - 1)})"
        if choice == 11:
            return f"case when {self.condition(0)} then {self.number(0)} else {self.number(0)} end"
        if choice == 8:
            return f"(- {self.number(depth - 1)})"
        if choice == 5 and depth == 2:
            return "cast(i as float64)" if self.random.random() < 0.5 else "b::int64"
        return f"({self.number(depth - 1)} {self.random.choice('+-*/%')} {self.number(depth - 1)})"

    def text(self) -> str:
        plain = self.random.choice(["s", "t", "'a'", "'b'", "'ab'", "''", "'É'", "i::string"])
        return self.random.choice([plain, plain, f"lower({plain})", f"upper({plain})", f"coalesce({plain}, 't')"])

    def condition(self, depth: int) -> str:
        choice = self.random.randrange(12 if depth > 0 else 8)
        compare = self.random.choice(["=", "!=", "<>", "<", "<=", ">", ">="])
        negated = self.random.choice(["", "not "])
        if choice < 2:
            return f"{self.number(2)} {compare} {self.number(2)}"
        if choice == 2:
            return f"{self.text()} {compare} {self.text()}"
        if choice == 3:
            either = ["b", "c", "true", "b = c", "b is null", "null", f"isnan({self.random.choice('xyf')})"]
            return self.random.choice([*either, f"b is {negated}distinct from c"])
        if choice == 4:
            return f"{self.number(1)} {negated}in ({self.number(1)}, {self.number(0)}, {self.random.choice(['null', '1', 'i'])})"
        if choice == 5:
            return f"{self.number(1)} {negated}between {self.number(0)} and {self.number(0)}"
        if choice == 6:
            if self.random.random() < 0.3:
                pattern = self.random.choice(["a!%", "!_%", "%!!", "!a_", "É%"])
                return f"{self.random.choice('st')} {negated}{self.random.choice(['like', 'ilike'])} '{pattern}' escape '!'"
            like = self.random.choice(["like", "ilike"])
            return f"{self.random.choice('st')} {negated}{like} '{self.random.choice(['a%', '%b', '_', '%a_%', '', '%', 'ab', 'é%'])}'"
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
            "f": pa.array(some([0.0, 0.1, 1.1, 2.5, -3.25, 0.3, math.nan, math.inf], rows), pa.float32()),
            "s": pa.array(some(["a", "b", "ab", "", "é", "ba", "A", "a%", "_"], rows)),
            "t": pa.array(some(["a", "b", "abc", "É", "a!"], rows)),
            "n": pa.array(some(["0", " 7", "-3", "+4 "], rows)),
            "b": pa.array(some([True, False], rows)),
            "c": pa.array(some([True, False], rows)),
        }
    )
    snapshot = catalog.create_table("t", source).at()
    connection = duckdb.connect()
    connection.register("t", source.append_column("_row_id", pa.array(range(rows))))
    generator = Generator(17)
    long = bool(os.environ.get("HEADRACE_TEST_LONG"))
    total = 100_000 if long else 30_000 if in_ci() else 4_000
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


NUMBERS = {
    "i8": [-128, -1, 0, 1, 127],
    "i16": [-32768, 0, 1, 300, 32767],
    "i32": [-(2**31), 0, 1, 16777217, 2**31 - 1],
    "i64": [-(2**63), 0, 1, 9007199254740993, 2**63 - 1],
    "u8": [0, 1, 255],
    "u16": [0, 1, 65535],
    "u32": [0, 1, 2**32 - 1],
    "u64": [0, 1, 9007199254740993, 2**63, 2**64 - 1],
    "f16": [0.0, 0.1, -0.1, 1.0, 2.5, math.nan, math.inf],
    "f32": [0.0, 0.1, -0.1, 1.0, 2.5, 16777216.0, 0.3, math.nan, math.inf, -math.inf],
    "f64": [0.0, 0.1, -0.1, 1.0, 2.5, 16777217.0, 0.3, 9007199254740992.0, math.nan, math.inf, -math.inf],
}
NUMBER_LITERALS = [
    *("0", "1", "-1", "255", "300", "16777217", "9007199254740993", "9223372036854775807", "18446744073709551615"),
    *("0.1", "-0.1", "0.10", ".5", "2.5", "1.0", "-0.0", "0.3", "127.5", "16777216.5", "9007199254740992.5"),
    *("123456789012345678901.5", "0.1234567890123456789", "1e-1", "0.1e0", "2.5e0", "1e3", "16777217e0", "0.3e0"),
    *("(0.1 + 0.2)", "(3 * 0.1)", "(1 / 10)", "(0.7 % 0.2)", "null"),
]
OTHERS: dict[str, tuple[pa.DataType, list[object], list[str]]] = {
    "b": (pa.bool_(), [True, False], ["true", "false", "null"]),
    "s": (pa.string(), ["", "a", "A", "é", "10", "9"], ["''", "'a'", "'10'", "'é'", "null"]),
    "d": (pa.date32(), [0, -1, 20000], ["'1970-01-01'", "date '2024-10-04'", "'1969-12-31'", "null"]),
    **{
        f"t_{unit}": (pa.timestamp(unit), [0, 1, 5], ["'1970-01-01'", "timestamp '1970-01-01 00:00:00.001'", "null"])
        for unit in ("s", "ms", "us", "ns")
    },
}


def predicates(column: str, literals: list[str]) -> list[str]:
    made = []
    for k, one in enumerate(literals):
        two = literals[(k + 1) % len(literals)]
        made += [f"{column} {op} {one}" for op in ("=", "<>", "<", "<=", ">", ">=")]
        made += [f"{one} < {column}", f"{column} in ({one}, {two})", f"{column} not in ({one})"]
        made += [f"{column} between {one} and {two}", f"{column} is not distinct from {one}"]
    return made


def test_every_column_type_beside_every_literal_means_what_it_means_in_duckdb(catalog: hr.Catalog) -> None:
    kinds = {"i": "int", "u": "uint", "f": "float"}
    columns = {
        name: pa.array(np.array(values, np.float16) if name == "f16" else values, kinds[name[0]] + name[1:])
        for name, values in NUMBERS.items()
    }
    columns |= {
        name: pa.array(values, pa.int32() if name == "d" else None).cast(kind)
        if name != "s" and name != "b"
        else pa.array(values, kind)
        for name, (kind, values, _) in OTHERS.items()
    }
    # One value after another and a null, in fragments of a few rows, so that statistics rule many out.
    rows = 12
    cells = {
        name: array.take(pa.array([k % len(array) if k < rows - 1 else None for k in range(rows)]))
        for name, array in columns.items()
    }
    source = pa.table(cells)
    table = catalog.create_table("t", source.slice(0, 3))
    for begin in range(3, rows, 3):
        table.append(source.slice(begin, 3))
    connection = duckdb.connect()
    theirs = source.set_column(source.column_names.index("f16"), "f16", source["f16"].cast(pa.float32()))
    connection.register("arrow_t", theirs.append_column("_row_id", pa.array(range(rows))))
    connection.sql("create table t as select * from arrow_t")
    texts = {name: predicates(name, NUMBER_LITERALS) for name in NUMBERS}
    texts |= {name: predicates(name, literals) for name, (_, _, literals) in OTHERS.items()}
    for left in NUMBERS:
        texts[left] += [f"{left} {op} {right}" for op in ("=", "<") for right in NUMBERS if "u64" not in (left, right)]
    wrong = []
    for conditions in texts.values():
        for text in conditions:
            try:
                want = [row for (row,) in connection.sql(f"select _row_id from t where {text} order by 1").fetchall()]
            except duckdb.Error:
                continue  # more than 38 digits
            try:
                got = [row["_row_id"] for row in table.scan(columns=["_row_id"], where=text)]
            except hr.HeadraceError as error:
                wrong.append((text, str(error), want))
                continue
            if got != want:
                wrong.append((text, got, want))
    assert not wrong, f"{len(wrong)}: {wrong[:10]}"


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
