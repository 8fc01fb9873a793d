"""Columns of any type come back as they went in, by every way out of a table, or are refused before the commit."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import random
import subprocess
import uuid
from collections.abc import Callable
from typing import Any

import headrace as hr
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from type_tables import built, flat, holds, plain, random_table, same_types

UTC = datetime.timezone.utc


def lossy_in_sql(kind: pa.DataType) -> bool:
    """DuckDB's own type differs: values are equal, the type that comes back is the nearest one."""
    return holds(
        kind,
        lambda t: (
            pa.types.is_float16(t)
            or pa.types.is_decimal256(t)
            or pa.types.is_time32(t)
            or pa.types.is_duration(t)
            or (pa.types.is_timestamp(t) and t.tz is not None)
            or (pa.types.is_fixed_size_binary(t))
        ),
    )


@pytest.mark.parametrize("seed", range(12))
def test_any_types_come_back(catalog: hr.Catalog, seed: int) -> None:
    rows = 40
    given, kinds = random_table(seed, columns=8, rows=rows)
    table = catalog.create_table("t", given.slice(0, 25))
    table.append(given.slice(25))
    expected = [plain(flat(given, name)) for name in given.column_names]
    scanned = table.to_arrow()
    taken = pa.table(table.take(list(range(rows))[::-1]))
    for i, name in enumerate(given.column_names):
        assert same_types(scanned.schema.field(name).type, kinds[i]), (kinds[i], scanned.schema.field(name))
        assert plain(flat(scanned, name)) == expected[i], kinds[i]
        assert plain(flat(taken, name)) == expected[i][::-1], kinds[i]
    # One column at a time, read where others are not.
    for i, name in enumerate(given.column_names):
        alone = table.scan([name], where="_row_id >= 20").to_arrow()
        assert plain(flat(alone, name)) == expected[i][20:], kinds[i]


@pytest.mark.parametrize("seed", range(6))
def test_streams_give_back_what_tables_hold(catalog: hr.Catalog, seed: int) -> None:
    given, kinds = random_table(200 + seed, columns=6, rows=30)
    table = catalog.create_table("t", given)
    for i, name in enumerate(given.column_names):
        expected = plain(flat(given, name))
        number = pa.types.is_integer(kinds[i]) or pa.types.is_floating(kinds[i]) or pa.types.is_boolean(kinds[i])
        if number:  # arrays of numbers have no place for nulls
            expected = [value for value in expected if value is not None]
        where = f"{name} is not null" if number else None
        stream = hr.Stream(table, [name], where, batch_size=7, shuffle=False, epoch_end="short")
        batches = pa.Table.from_batches([pa.record_batch(batch) for batch in stream.arrow()])
        assert same_types(batches.schema.field(name).type, kinds[i]), kinds[i]
        assert plain(flat(batches, name)) == expected, kinds[i]


@pytest.mark.parametrize("seed", range(6))
def test_sql_gives_back_what_tables_hold(catalog: hr.Catalog, seed: int) -> None:
    given, kinds = random_table(100 + seed, columns=8, rows=30)
    catalog.create_table("t", given)
    catalog.sql("select * from t", into="copy")
    copy = catalog["copy"].to_arrow()
    original = catalog["t"].to_arrow()
    for i, name in enumerate(given.column_names):
        if lossy_in_sql(kinds[i]):
            continue
        assert same_types(copy.schema.field(name).type, kinds[i]), (kinds[i], copy.schema.field(name))
        assert plain(flat(copy, name)) == plain(flat(original, name)), kinds[i]


def one(catalog: hr.Catalog, values: list[Any], kind: pa.DataType) -> hr.Table:
    return catalog.create_table("t", pa.table({"x": built(values, kind)}))


@pytest.mark.parametrize(
    ("kind", "values", "back"),
    [
        (pa.float16(), [0.5, None], [0.5, None]),
        (pa.decimal256(40, 1), [decimal.Decimal("9" * 39 + ".5")], ["9" * 39 + ".5"]),
        (pa.time32("s"), [5], [datetime.time(0, 0, 5)]),
        (pa.duration("s"), [90_061], [datetime.timedelta(days=1, seconds=3661)]),
        (pa.duration("ns"), [5_000], [datetime.timedelta(microseconds=5)]),
        (pa.binary(3), [b"abc"], [b"abc"]),
        (pa.uuid(), [uuid.UUID(int=7).bytes], [uuid.UUID(int=7)]),
        (pa.json_(), ['{"a": [1]}'], [{"a": [1]}]),
        (pa.timestamp("ns", "UTC"), [1_000], [datetime.datetime(1970, 1, 1, 0, 0, 0, 1, UTC)]),
    ],
)
def test_values_in_sql(catalog: hr.Catalog, kind: pa.DataType, values: list[Any], back: list[Any]) -> None:
    one(catalog, values, kind)
    assert [row["x"] for row in catalog.sql("select x from t")] == back
    catalog.sql("select x from t", into="copy")
    assert [row["x"] for row in catalog["copy"].scan()] == back


@pytest.mark.parametrize(("kind", "value"), [(pa.duration("ns"), 1), (pa.timestamp("ns", "UTC"), 1)])
def test_sql_refuses_what_it_would_round(catalog: hr.Catalog, kind: pa.DataType, value: int) -> None:
    table = one(catalog, [value], kind)
    with pytest.raises(hr.Invalid, match="SQL cannot take the column 'x'"):
        catalog.sql("select x from t").to_pylist()
    assert plain(flat(table.to_arrow(), "x")) == [value]


def test_what_no_column_holds_is_refused_with_the_cast(catalog: hr.Catalog) -> None:
    refused = {
        "the type that it should have": pa.nulls(2),
        "a decimal whose scale": pa.array([decimal.Decimal(1000)], pa.decimal128(4, -3)),
        "cast it to one of the types": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]),
    }
    for advice, array in refused.items():
        with pytest.raises(hr.HeadraceError, match=advice):
            catalog.create_table("t", pa.table({"x": array}))
    assert catalog.tables() == []
    table = one(catalog, [datetime.date(2026, 1, 1)], pa.date32())
    with pytest.raises(hr.Invalid, match=r"row 1: a date64 that is no whole day"):
        table.append(pa.table({"x": pa.array([0, 1], pa.int64()).cast(pa.date64(), safe=False)}))
    json_table = catalog.create_table("j", pa.table({"x": built(["1"], pa.json_())}))
    with pytest.raises(hr.Invalid, match="row 1: it is not JSON"):
        json_table.append(pa.table({"x": ["{}", "{"]}))
    with pytest.raises(hr.HeadraceError, match="nests deeper than 512"):
        json_table.append(pa.table({"x": ["[" * 513 + "]" * 513]}))
    json_table.append(pa.table({"x": ["[" * 512 + "]" * 512]}))
    assert len(json_table) == 2


def test_an_interval_of_months_is_no_duration(catalog: hr.Catalog) -> None:
    catalog.create_table("t", [{"a": 1}])
    catalog.sql("select interval '36 hours' as d from t", into="hours")
    assert catalog["hours"].columns == {"d": "duration[us]"}
    assert catalog["hours"].scan().to_pylist() == [{"d": datetime.timedelta(hours=36)}]
    with pytest.raises(hr.Invalid, match="months"):
        catalog.sql("select interval '1 month' as d from t", into="months")
    assert catalog.tables() == ["hours", "t"]


def test_rows_of_python_objects(catalog: hr.Catalog) -> None:
    row = {
        "price": decimal.Decimal("12.50"),
        "at": datetime.time(23, 59, 59, 999_999),
        "took": datetime.timedelta(days=-1, microseconds=5),
        "id": uuid.UUID(int=5),
        "ids": [uuid.UUID(int=6), None],
        "meta": hr.Json({"id": uuid.UUID(int=7)}),
    }
    table = catalog.create_table("t", [row, dict.fromkeys(row)])
    assert table.columns == {
        "price": "decimal(4, 2)",
        "at": "time[us]",
        "took": "duration[us]",
        "id": "uuid",
        "ids": "list<uuid>",
        "meta": "json",
    }
    assert table.scan().to_pylist() == [{**row, "meta": {"id": str(uuid.UUID(int=7))}}, dict.fromkeys(row)]
    table.append([{"price": decimal.Decimal("0.1"), "at": None, "took": None}])
    assert table[-1]["price"] == decimal.Decimal("0.10")
    # Into a column of text a UUID goes as text, inside of lists too.
    texts = catalog.create_table("texts", columns={"id": "string", "ids": "list<string>"})
    texts.append([{"id": uuid.UUID(int=5), "ids": [uuid.UUID(int=6), "x"]}])
    assert texts[0]["id"] == str(uuid.UUID(int=5)) and texts[0]["ids"] == [str(uuid.UUID(int=6)), "x"]
    texts.append({"id": [uuid.UUID(int=8)], "ids": [[uuid.UUID(int=9)]]})
    assert texts[-1]["ids"] == [str(uuid.UUID(int=9))]


MESSAGES = [
    [{"role": "user", "content": "hi"}],
    [
        {
            "role": "user",
            "content": [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": "x"}}],
        }
    ],
    [
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "4"},
    ],
    [
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"n": 2**70, "deep": [[1, "a"], {}]}}],
        }
    ],
    [
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [{"type": "text", "text": "ok"}],
                    "is_error": False,
                }
            ],
        }
    ],
]


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def test_chats_of_every_shape_come_back(catalog: hr.Catalog) -> None:
    table = catalog.create_table("chats", [{"messages": messages} for messages in MESSAGES])
    assert "content: json" in table.columns["messages"]
    table.append([{"messages": [{"role": "user", "content": "plain text in a column of JSON"}]}])
    back = [row["messages"] for row in table.scan()]
    assert without_nulls(back[:-1]) == without_nulls(MESSAGES)
    assert back[-1][0]["content"] == "plain text in a column of JSON"
    copied = catalog.create_table("copy", table.to_arrow())
    assert [row["messages"] for row in copied.scan()] == back
    catalog.sql("select * from chats", into="selected")
    assert [row["messages"] for row in catalog["selected"].scan()] == back
    found = catalog.sql("select messages[1].content->>'$[0].type' as kind from chats").to_pylist()
    assert [row["kind"] for row in found] == [None, "text", None, "tool_use", "tool_result", None]


def test_json_columns(catalog: hr.Catalog, tmp_path: Any) -> None:
    metas: list[Any] = [
        {"lang": "en", "score": 0.5, "n": 2**65},
        {"lang": "de", "tags": ["a", "b"]},
        [1, "x"],
        "text",
        7,
        None,
    ]
    table = catalog.create_table("t", [{"meta": hr.Json(value)} for value in metas])
    assert table.columns == {"meta": "json"}
    assert [row["meta"] for row in table.scan()] == metas
    assert table.count("meta->>'lang' = 'en'") == 1
    assert table.count("(meta->>'$.score')::float64 > 0.25 and meta->>'$.tags[0]' is null") == 1
    assert table.count("meta->>'/tags/1' = 'b'") == 1
    assert table.count("meta->>'$.tags' is not null") == 1
    for text in ["meta->>'lang' = 'en'", "meta->>'$.tags[1]' = 'b'", "meta->>'/tags/0' in ('a', 'c')", "meta is null"]:
        where = text.replace("meta->>", "(meta->>").replace("' =", "') =").replace("' in", "') in")
        assert table.count(text) == catalog.sql(f"select count(*) as n from t where {where}").to_pylist()[0]["n"], text
    with pytest.raises(hr.NotFound, match=r"write meta->>'\$\.lang'"):
        table.count("meta.lang = 'en'")
    with pytest.raises(hr.Invalid, match="not a path into JSON"):
        table.count("meta->>'$.[' = 'en'")
    table.append([{"meta": {"later": [None]}}, {"meta": "a string stays a string"}])
    assert [row["meta"] for row in table.scan()][-2:] == [{"later": [None]}, "a string stays a string"]
    for bad, reason in [(math.nan, "JSON"), (b"x", "JSON|json"), (datetime.date(2026, 1, 1), "JSON|json")]:
        with pytest.raises(hr.Invalid, match=reason):
            table.append([{"meta": bad}])
    lines = catalog.sql("select meta from t order by _row_id").to_arrow()["meta"].to_pylist()
    assert json.loads(lines[0]) == metas[0] and "36893488147419103232" in lines[0]


def test_scalars_of_two_kinds_are_still_refused(catalog: hr.Catalog) -> None:
    with pytest.raises(hr.Invalid, match="type str beside int"):
        catalog.create_table("t", [{"x": 1}, {"x": "a"}])
    assert catalog.create_table("u", [{"x": {"a": 1}}, {"x": "a"}]).columns == {"x": "json"}


def test_filters_on_decimals_and_uuids_are_those_of_sql(catalog: hr.Catalog) -> None:
    rng = random.Random(5)
    numbers = [None if rng.random() < 0.1 else decimal.Decimal(rng.randint(-500, 500)).scaleb(-2) for _ in range(300)]
    ids = [uuid.UUID(int=rng.getrandbits(128)) for _ in range(300)]
    catalog.create_table(
        "t",
        pa.table({"d": pa.array(numbers, pa.decimal128(10, 2)), "u": built([i.bytes for i in ids], pa.uuid())}),
    )
    texts = [
        "d = 0.5",
        "d > 1",
        "d >= -0.255",
        "d <> 1.10",
        "d in (1, 2.5, -1.25)",
        "d between -1 and 1.005",
        "d is null",
    ]
    texts += ["d + 1 > 2.25", "abs(d) < 1", "d::double > 0.1e0", "d is distinct from 0.5", "d = 2"]
    texts += [f"u = '{ids[3]}'", f"u = '{str(ids[4]).upper()}'", f"u < '{ids[5]}'", f"u in ('{ids[6]}', '{ids[7]}')"]
    for where in texts:
        ours = catalog["t"].count(where)
        theirs = catalog.sql(f"select count(*) as n from t where {where}").to_pylist()[0]["n"]
        assert ours == theirs, where
    with pytest.raises(hr.Invalid, match="'abc' is not a UUID"):
        catalog["t"].count("u = 'abc'")


def test_names_that_sql_finds_hard(catalog: hr.Catalog) -> None:
    table = catalog.create_table("select", pa.table({"Name": [1], "name": [2], "order": [3], "two words": [4]}))
    assert table.scan(["name", "Name"]).to_pylist() == [{"name": 2, "Name": 1}]
    rows = catalog.sql('select * from "select"').to_pylist()
    assert sorted(value for row in rows for value in row.values()) == [1, 2, 3, 4]
    with pytest.raises(hr.Invalid, match='"select"'):
        catalog.sql("select * from select").to_pylist()


def test_times_that_python_lacks_are_numpys(catalog: hr.Catalog) -> None:
    """Nanoseconds are not cut off, and years after 9999 do not end a scan."""
    times: list[tuple[pa.DataType, int, Any]] = [
        (pa.timestamp("ns"), 1, np.datetime64(1, "ns")),
        (pa.timestamp("ns"), -999, np.datetime64(-999, "ns")),
        (pa.timestamp("ns"), -1_000, datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999)),
        (pa.timestamp("ns", "UTC"), 1, np.datetime64(1, "ns")),
        (pa.timestamp("us"), 253_402_300_799_999_999, datetime.datetime.max),
        (pa.timestamp("us"), 253_402_300_800_000_000, np.datetime64(253_402_300_800_000_000, "us")),
        (pa.timestamp("ms"), -62_135_596_800_000, datetime.datetime.min),
        (pa.timestamp("ms"), -62_135_596_800_001, np.datetime64(-62_135_596_800_001, "ms")),
        (pa.timestamp("s"), 10**14, np.datetime64(10**14, "s")),
        (pa.date32(), 2_932_896, datetime.date.max),
        (pa.date32(), 2_932_897, np.datetime64(2_932_897, "D")),
        (pa.date32(), -719_163, np.datetime64(-719_163, "D")),
        (pa.time64("ns"), 1_001, np.timedelta64(1_001, "ns")),
        (pa.time64("ns"), 86_399_999_999_000, datetime.time.max),
        (pa.duration("ns"), -1, np.timedelta64(-1, "ns")),
        (pa.duration("s"), 10**14, np.timedelta64(10**14, "s")),
        (pa.duration("us"), -1, datetime.timedelta(microseconds=-1)),
    ]
    columns = {str(i): pa.array([value, None], kind) for i, (kind, value, _) in enumerate(times)}
    table = catalog.create_table("t", pa.table(columns))
    first, second = table.scan().to_pylist()
    for i, (kind, _, expected) in enumerate(times):
        got = first[str(i)]
        assert type(got) is type(expected) and got == expected, (kind, got, expected)
        assert second[str(i)] is None
    assert table[0]["0"] == np.datetime64(1, "ns") and "1970" in repr(table.head()["0"])
    assert catalog.sql("select $1 as t", [np.datetime64(1_001, "ns")]).to_pylist() == [
        {"t": "1970-01-01T00:00:00.000001001"}
    ]


@pytest.mark.parametrize("terms", [199, 201, 401])
def test_conditions_of_many_terms(catalog: hr.Catalog, terms: int) -> None:
    """What a program writes, in filters and in SQL: chains of any length, or an error."""
    catalog.create_table("t", {"k": [1, 2]})
    for condition in (
        "k = 0" + " or k = 1" * terms,
        "k = 1" + " and k <> 2" * terms,
        "k = 1" + " or k = 3 and k = 4" * terms,
        "not (k = 2" + " or k = 3" * terms + ")",
    ):
        assert catalog["t"].count(condition) == 1
        assert catalog.sql(f"select k from t where {condition}").to_pylist() == [{"k": 1}]


def test_chains_of_thousands_and_chains_inside_of_chains(catalog: hr.Catalog) -> None:
    """60 deep, each of 150, is more than a filter's tree may be: nothing is pruned by it."""
    catalog.create_table("t", {"k": [1, 2]})
    long = "k = 0" + " or k = 1" * 9_000
    assert catalog.sql(f"select k from t where {long}").to_pylist() == [{"k": 1}]
    nested = "k = 1"
    for _ in range(60):
        nested = f"({nested}" + " or k = 3" * 150 + ") and k < 9"
    assert catalog.sql(f"select k from t where {nested}").to_pylist() == [{"k": 1}]


def test_a_table_without_rows(
    catalog: hr.Catalog, headrace: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Any
) -> None:
    pq.write_table(
        pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())}), tmp_path / "empty.parquet"
    )
    (tmp_path / "header.csv").write_text("a,b\n")
    assert headrace("init").returncode == 0
    done = headrace("ingest", "empty.parquet", "--table", "p")
    assert done.returncode == 0, done.stderr
    done = headrace("ingest", "header.csv", "--table", "c")
    assert done.returncode == 0, done.stderr
    shown = headrace("describe", "p", "--json")
    assert json.loads(shown.stdout)["rows"] == 0
    assert headrace("sql", "select count(*) as n from c", "--json").stdout == '{"n":0}\n'


def test_parquet_files_keep_json_uuids_and_microseconds(catalog: hr.Catalog, tmp_path: Any, headrace: Any) -> None:
    rows = [
        {
            "j": hr.Json({"n": 2**70}),
            "d": datetime.timedelta(microseconds=1_000_001),
            "u": i,
            "p": decimal.Decimal("0.10"),
        }
        for i in range(3)
    ]
    catalog.create_table("t", rows)
    query = "select j, d, ('00000000-0000-0000-0000-00000000000' || u)::uuid as u, p from t"
    done = headrace("--catalog", str(tmp_path / "catalog"), "sql", query, "-o", "t.parquet")
    assert done.returncode == 0, done.stderr
    plain_file = headrace(
        "--catalog",
        str(tmp_path / "catalog"),
        "sql",
        "select j, u::uuid as u from (select j, '00000000-0000-0000-0000-000000000007' as u from t)",
        "-o",
        "plain.parquet",
    )
    assert plain_file.returncode == 0, plain_file.stderr
    for name, columns in [
        ("t", {"j": "json", "d": "duration[us]", "u": "uuid", "p": "decimal(3, 2)"}),
        ("plain", {"j": "json", "u": "uuid"}),
    ]:
        catalog.ingest(str(tmp_path / f"{name}.parquet"), table=f"back_{name}")
        assert catalog[f"back_{name}"].columns == columns
    back = list(catalog["back_t"].scan())
    assert [row["j"] for row in back] == [{"n": 2**70}] * 3 and [row["u"].int for row in back] == [0, 1, 2]
    assert {row["d"] for row in back} == {datetime.timedelta(microseconds=1_000_001)}
    months = headrace(
        "--catalog", str(tmp_path / "catalog"), "sql", "select interval '1 month' as m", "-o", "m.parquet"
    )
    assert months.returncode != 0 and "months" in months.stderr and not (tmp_path / "m.parquet").exists()
