"""What people's files hold comes in as it was, or its row is refused with the reason."""

from __future__ import annotations

import datetime
import decimal
import json
import pathlib
import random
import subprocess
import uuid
from collections.abc import Callable
from typing import Any

import headrace as hr
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

CHATS: list[list[dict[str, Any]]] = [
    # OpenAI
    [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
    [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "https://x.org/a.png", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"n": 1.50}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
        {"role": "assistant", "content": "A cat.", "refusal": None, "annotations": []},
    ],
    # Anthropic
    [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "…", "signature": "s"},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Köln", "days": [1, 2.5]}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sun"}]},
                {"type": "tool_result", "tool_use_id": "t2", "content": "none", "is_error": True},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
            ],
        },
    ],
    [],
]


def rows_of(table: hr.Table) -> list[dict[str, Any]]:
    return [dict(row) for row in table]


def ingest(catalog: hr.Catalog, path: pathlib.Path, table: str, **options: Any) -> dict[str, Any]:
    return catalog.ingest(path, table=table, **options)


@pytest.mark.parametrize("rows", [CHATS, CHATS[:1], CHATS[:2], CHATS[2:]], ids=["all", "plain", "openai", "anthropic"])
def test_messages_of_every_shape_come_back_equal(catalog: hr.Catalog, tmp_path: pathlib.Path, rows: list[Any]) -> None:
    lines = [{"id": i, "messages": messages} for i, messages in enumerate(rows)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert ingest(catalog, tmp_path / "a.jsonl", "t")["errors"] == []
    assert rows_of(catalog.table("t")) == lines
    got = catalog.sql("select messages from t order by id").to_arrow()
    assert got.num_rows == len(lines)


def number(rng: random.Random) -> Any:
    return rng.choice(
        [
            rng.randint(-5, 5),
            rng.choice([2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**30, 2**53 + 1, 2**53]),
            rng.random(),
            rng.random() * 10.0 ** rng.randint(-310, 300),
            rng.choice([0.1, 1e300, 5e-324, 1.7976931348623157e308, -0.0, 2.5, 0.30000000000000004]),
        ]
    )


def value(rng: random.Random, depth: int) -> Any:
    kind = rng.randint(0, 4 if depth > 3 else 7)
    if kind == 0:
        return None
    if kind == 1:
        return rng.random() < 0.5
    if kind in (2, 3):
        return number(rng)
    if kind == 4:
        return rng.choice(["", "a", "ß\u2028", "\U0001f600", '"\\\n\t\x7f', "null", "01234", "\u0000", "é" * 40])
    if kind == 5:
        return [value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    keys = rng.choice([["a", "b"], ["a"], ["x", "y", "z"], [], ["A", "a"], ["a b", 'q"', "é"], [""]])
    return {key: value(rng, depth + 1) for key in keys}


def column(rng: random.Random) -> Callable[[], Any]:
    """Values of one column: of one kind, or of any."""
    kind = rng.randint(0, 7)
    if kind == 0:
        return lambda: rng.randint(-(2**63), 2**63 - 1)
    if kind == 1:
        return lambda: rng.choice([0, 2**64 - 1, 2**63])
    if kind == 2:
        return lambda: number(rng)
    if kind == 3:
        return lambda: rng.choice([[], [1.5], [rng.random(), None]])
    if kind == 4:
        return lambda: {"a": rng.randint(0, 9), "b": {"c": rng.choice(["x", None]), "d": [True]}}
    if kind == 5:
        return lambda: rng.choice([None, "x", "yy"])
    return lambda: value(rng, 0)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b)


@pytest.mark.parametrize("seed", range(60))
def test_any_json_comes_back_as_python_reads_it(catalog: hr.Catalog, tmp_path: pathlib.Path, seed: int) -> None:
    rng = random.Random(seed)
    makers = {f"c{i}": column(rng) for i in range(rng.randint(1, 6))}
    rows = []
    for _ in range(rng.choice([1, 3, 200])):
        rows.append({name: make() for name, make in makers.items() if rng.random() < 0.9})
    ascii_only = rng.random() < 0.5
    form = seed % 4
    path = tmp_path / ("a.jsonl" if form == 0 else "a.json")
    if form == 0:
        text = "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows)
    elif form == 1:
        text = json.dumps(rows, ensure_ascii=ascii_only)
    elif form == 2:
        text = json.dumps(rows, indent=2, ensure_ascii=ascii_only)
    else:
        text = "\n".join(json.dumps(row, indent=1, ensure_ascii=ascii_only) for row in rows)
    path.write_text(text, encoding="utf-16" if seed % 5 == 0 else "utf-8")
    report = catalog.ingest(path, table="t") if any(v is not None for row in rows for v in row.values()) else None
    if report is None:
        return
    assert report["errors"] == []
    got = rows_of(catalog.table("t"))
    assert len(got) == len(rows)
    for i, row in enumerate(json.loads(json.dumps(rows))):
        for name in makers:
            assert same(row.get(name), got[i].get(name)), (i, name, row.get(name), got[i].get(name))


def test_one_odd_value_costs_at_most_its_row(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n' * 100_000 + '{"a": "x"}\n')
    assert ingest(catalog, path, "late")["rows"] == 100_001
    assert catalog.table("late").columns["a"] == "json"
    assert catalog.table("late")[100_000]["a"] == "x"
    cases = {
        "bool": ('{"a": true}\n{"a": 0}\n', "json", [True, 0]),
        "list": ('{"a": [1, "x"]}\n', "list<json>", [[1, "x"]]),
        "big": ('{"a": 9007199254740993}\n{"a": 2.5}\n', "json", [9007199254740993, 2.5]),
        "unsigned": ('{"a": 9223372036854775808}\n{"a": 1}\n', "uint64", [9223372036854775808, 1]),
        "huge": ('{"a": 18446744073709551616}\n', "json", [18446744073709551616]),
    }
    for name, (text, kind, values) in cases.items():
        path.write_text(text)
        assert ingest(catalog, path, name, on_change="add")["errors"] == []
        assert catalog.table(name).columns["a"] == kind
        assert [row["a"] for row in catalog.table(name)] == values
    path.write_text('{"a": 1}\n{"a": 2, "a": 3}\n{"a": 4}\n')
    report = ingest(catalog, path, "twice", on_change="add")
    assert report["rows"] == 2 and [e["path"] for e in report["errors"]] == ["a.jsonl:2"]
    assert "'a' is in one object twice" in report["errors"][0]["error"]


def test_a_column_keeps_the_type_that_it_has(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1, "s": "x", "o": {"k": 1}}\n')
    ingest(catalog, path, "t")
    path.write_text('{"a": 2.5}\n{"s": 5}\n{"a": 2, "o": {"k": 2}}\n{"o": {"z": 2}}\n{"o": {}}\n')
    report = ingest(catalog, path, "t", on_change="add")
    assert [e["path"] for e in report["errors"]] == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:4"]
    assert [row["o"] for row in catalog.table("t")] == [{"k": 1}, {"k": 2}, {"k": None}]
    path.write_text('{"id": 1, "meta": {"a": 1}}\n{"id": "x", "meta": {"a": 1}}\n')
    report = ingest(catalog, path, "u", on_change="add", types={"meta": "json", "id": "string"})
    assert catalog.table("u").columns == {"id": "string", "meta": "json"}
    assert [e["path"] for e in report["errors"]] == ["a.jsonl:1"]
    failed = ingest(catalog, path, "u", again=True, types={"id": "int64"})
    assert "cannot change" in failed["errors"][0]["error"]


def test_arrays_are_read_whole_and_faults_are_told(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    rows = [{"a": i, "b": {"c": [i]}} for i in range(1000)]
    text = json.dumps(rows, indent=2)
    (tmp_path / "whole.json").write_text(text)
    assert json.loads(headrace("ingest", "whole.json", "-t", "w", "--json").stdout)["rows"] == 1000
    (tmp_path / "cut.json").write_text(text[: len(text) // 2])
    report = json.loads(headrace("ingest", "cut.json", "-t", "c", "--json").stdout)
    assert 400 < report["rows"] < 600
    assert report["errors"][-1]["path"] == f"cut.json[{report['rows'] + 1}]"
    assert "ends inside" in report["errors"][-1]["error"]
    (tmp_path / "one.json").write_text(json.dumps(rows[0], indent=2))
    assert json.loads(headrace("ingest", "one.json", "-t", "o", "--json").stdout)["rows"] == 1
    piped = headrace("ingest", "-", "-t", "p", "--json", input=text)
    assert json.loads(piped.stdout)["rows"] == 1000


def test_all_or_nothing_of_a_file(headrace: Run, catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    headrace("init")
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\nx\n')
    (tmp_path / "good.jsonl").write_text('{"a": 2}\n')
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3\n")
    out = headrace("ingest", "bad.jsonl", "good.jsonl", "ragged.csv", "-t", "t", "--on-error", "fail", "--json")
    report = json.loads(out.stdout)
    assert out.returncode == 1 and report["rows"] == 1 and report["refused"] == 2 and report["files"] == 1
    assert headrace("ingest", "good.jsonl", "-t", "t", "--on-error", "nonsense").returncode == 2
    with pytest.raises(hr.Invalid, match=r"bad\.jsonl:2"):
        ingest(catalog, tmp_path / "bad.jsonl", "t", on_error="fail")
    assert catalog.tables() == ["t_errors"]
    # Larger than what is kept in memory.
    (tmp_path / "large.jsonl").write_text(
        '{"a": "' + "x" * 1000 + '"}\n' + ('{"a": "' + "y" * 1000 + '"}\n') * 80_000 + "x"
    )
    with pytest.raises(hr.Invalid):
        ingest(catalog, tmp_path / "large.jsonl", "l", on_error="fail")
    assert ingest(catalog, tmp_path / "large.jsonl", "l")["rows"] == 80_001
    assert len(catalog.table("l")) == 80_001


def test_csv_options(headrace: Run, catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    headrace("init")
    (tmp_path / "n.csv").write_bytes("1;é\n2;x\n".encode("latin-1"))
    named = ingest(catalog, tmp_path / "n.csv", "n", names=["a", "b"], delimiter=";", encoding="latin-1")
    assert named["rows"] == 2 and rows_of(catalog.table("n"))[0] == {"a": 1, "b": "é"}
    ingest(catalog, tmp_path / "n.csv", "m", header=False, encoding="latin-1", types={"column1": "string"})
    assert rows_of(catalog.table("m"))[0] == {"column1": "1", "column2": "é"}
    ingest(catalog, tmp_path / "n.csv", "r", header=True, names=["a", "b"], encoding="latin-1")
    assert rows_of(catalog.table("r")) == [{"a": 2, "b": "x"}]
    with pytest.raises(hr.Invalid, match="one character"):
        ingest(catalog, tmp_path / "n.csv", "n", delimiter=";;")
    words = ["ingest", "n.csv", "-t", "n", "--encoding", "latin-1", "--names", "a,b"]
    assert headrace(*words).returncode == 0
    assert json.loads(headrace("sql", "select * from n limit 1", "--json").stdout) == {"a": 1, "b": "é"}
    (tmp_path / "j.csv").write_text('a\n"{""x"": 1.50}"\nnonsense\n')
    out = ingest(catalog, tmp_path / "j.csv", "j", types={"a": "json"})
    assert [e["path"] for e in out["errors"]] == ["j.csv:3"]
    assert rows_of(catalog.table("j")) == [{"a": {"x": 1.5}}]


def test_types_that_no_text_shows_are_taken_where_they_are_named(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    types = {"price": "decimal(8, 2)", "at": "time[ms]", "id": "uuid"}
    (tmp_path / "a.jsonl").write_text(
        '{"price": 1.50, "at": "10:00:00.125", "id": "550e8400-e29b-41d4-a716-446655440000"}\n'
        '{"price": "2.25"}\n{"price": 1.505}\n{"at": "25:00:00"}\n{"id": "550e"}\n'
    )
    report = ingest(catalog, tmp_path / "a.jsonl", "t", types=types)
    assert [e["path"] for e in report["errors"]] == [f"a.jsonl:{line}" for line in (3, 4, 5)]
    first, second = rows_of(catalog.table("t"))
    assert first == {
        "price": decimal.Decimal("1.50"),
        "at": datetime.time(10, 0, 0, 125_000),
        "id": uuid.UUID("550e8400-e29b-41d4-a716-446655440000"),
    }
    assert second == {"price": decimal.Decimal("2.25"), "at": None, "id": None}
    (tmp_path / "a.csv").write_text("price,at\n1.50,10:00:00\n1.505,10:00:00\n1,25:00:00\n")
    report = ingest(catalog, tmp_path / "a.csv", "c", types={"price": "decimal(8, 2)", "at": "time[s]"})
    assert [e["path"] for e in report["errors"]] == ["a.csv:3", "a.csv:4"]
    assert rows_of(catalog.table("c")) == [{"price": decimal.Decimal("1.50"), "at": datetime.time(10)}]


def test_columns_without_values_are_told(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    pq.write_table(pa.table({"a": [1, 2], "n": pa.nulls(2)}), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text('{"a": 1, "n": null}\n')
    (tmp_path / "c.csv").write_text("a,n\n1,\n")
    for name in ("a.parquet", "b.jsonl", "c.csv"):
        table = name.replace(".", "_")
        notices = ingest(catalog, tmp_path / name, table)["notices"]
        assert len(notices) == 1 and "'n'" in notices[0] and "--type n=" in notices[0]
        assert list(catalog.table(table).columns) == ["a"]
        kept = ingest(catalog, tmp_path / name, table + "2", types={"n": "list<string>"})
        assert kept["notices"] == [] and catalog.table(table + "2").columns["n"] == "list<string>"
    assert "nn" in ingest(catalog, tmp_path / "b.jsonl", "x", types={"nn": "string"})["notices"][1]


def test_parquet_rows_that_do_not_fit_are_refused(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    small = catalog.create_table("t", {"n": "int32", "f": "float64", "when": "timestamp[us]"})
    wide = pa.table(
        {
            "n": pa.array([1, 5_000_000_000, 3, None]),
            "f": pa.array([1, 2, 2**53 + 1, 4]),
            "when": pa.array([1, 1000, 1000, 1000], pa.timestamp("ns")),
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(wide, path)
    report = ingest(catalog, path, "t")
    assert [e["path"] for e in report["errors"]] == [f"a.parquet:row {i}" for i in range(3)]
    assert "5000000000 is no value of int32" in report["errors"][1]["error"]
    assert rows_of(small) == [{"n": None, "f": 4.0, "when": datetime.datetime(1970, 1, 1, 0, 0, 0, 1)}]
    with pytest.raises(hr.Invalid, match="column 'n', row 1: 5000000000 is no value of int32"):
        small.append(wide.select(["n"]))
    with pytest.raises(hr.Invalid, match="9007199254740993"):
        small.append(wide.select(["f"]))
    assert len(small) == 1


@pytest.mark.parametrize(
    ("kind", "array", "words"),
    [
        ("int64", pa.array(["5"]), "cast it"),
        ("string", pa.array([5]), "cast it"),
        ("int64", pa.array([True]), "cast it"),
        ("timestamp[us]", pa.array([5]), "cast it"),
        ("timestamp[us]", pa.array([5], pa.timestamp("us", "UTC")), "at time zone"),
        ("timestamp[us, UTC]", pa.array([5], pa.timestamp("us")), "at time zone"),
        ("date", pa.array([5], pa.timestamp("us")), "cast it"),
    ],
)
def test_columns_of_another_kind_are_refused(
    catalog: hr.Catalog, tmp_path: pathlib.Path, kind: str, array: pa.Array, words: str
) -> None:
    table = catalog.create_table("t", {"c": kind})
    with pytest.raises(hr.Invalid, match=words):
        table.append(pa.table({"c": array}))
    pq.write_table(pa.table({"c": array}), tmp_path / "a.parquet")
    report = ingest(catalog, tmp_path / "a.parquet", "t")
    assert report["rows"] == 0 and words in report["errors"][0]["error"]
    report = ingest(catalog, tmp_path / "a.parquet", "u", types={"c": kind})
    assert report["rows"] == 0 and words in report["errors"][0]["error"]
