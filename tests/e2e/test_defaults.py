"""Default values: what rows without a value of a column read as, without taking room."""

from __future__ import annotations

import datetime
import decimal
import pathlib
from typing import Any

import headrace as hr
import pyarrow as pa
import pytest

UTC = datetime.timezone.utc
DEFAULTS: list[tuple[str, Any]] = [
    ("bool", True),
    ("int8", -128),
    ("uint64", 2**64 - 1),
    ("int64", -(2**63)),
    ("float32", 0.1),
    ("float64", 1e-300),
    ("float64", float("inf")),
    ("string", 'it\'s = "é"\n'),
    ("string", ""),
    ("json", {"a": [1, 2]}),
    ("date", datetime.date(1969, 12, 31)),
    ("timestamp[us]", datetime.datetime(2026, 1, 2, 3, 4, 5, 6)),
    ("timestamp[ms, UTC]", datetime.datetime(1960, 1, 2, 3, 4, 5, 6_000, UTC)),
    ("time[us]", datetime.time(23, 59, 59, 999_999)),
    ("duration[us]", datetime.timedelta(days=-1, microseconds=5)),
    ("decimal(20, 3)", decimal.Decimal("-12.500")),
    ("decimal(50, 0)", decimal.Decimal(10**49)),
]


def files(folder: pathlib.Path) -> int:
    return sum(1 for path in folder.rglob("data/*") if path.is_file())


@pytest.mark.parametrize(("kind", "default"), DEFAULTS, ids=lambda value: str(value)[:20])
def test_rows_without_a_value_read_as_the_default(tmp_path: pathlib.Path, kind: str, default: Any) -> None:
    catalog = hr.init(tmp_path / "c", sync=False)
    table = catalog.create_table("t", {"k": "int64"})
    table.append([{"k": k} for k in range(5)])
    before = files(tmp_path)
    commit = table.add_column("d", kind, default=default)
    assert (commit.bytes, files(tmp_path)) == (0, before)
    table.append([{"k": 5}])  # without the column
    table.append([{"k": 6, "d": None}, {"k": 7, "d": default}])  # with a null, and with the value itself

    def look(table: hr.Table) -> None:
        rows = pa.table(table.scan())["d"].to_pylist()
        assert rows == [rows[7]] * 6 + [None, rows[7]]
        assert rows[7] is not None
        assert pa.table(table.take([6, 0, 5]))["d"].to_pylist() == [None, rows[7], rows[7]]
        assert table.count("d is null") == 1
        told = pa.table(catalog.sql("select d, count(*) n from t where d is not null group by d")).to_pylist()
        assert [row["n"] for row in told] == [7]

    look(table)
    look(hr.open(tmp_path / "c")["t"])
    table.compact()
    look(table)


def test_defaults_meet_every_kind_of_change(tmp_path: pathlib.Path) -> None:
    table = hr.init(tmp_path / "c", sync=False).create_table("t", {"k": "int64"})
    table.append([{"k": k} for k in range(10)])
    table.add_column("d", "int64", default=7, why="sevens")
    table.add_column("e", "int32")
    assert table.count("d = 7") == 10
    assert table.count("d > 7") == 0
    assert table.count("e is null") == 10
    table.update({"d": 1}, "k < 3")
    assert table.scan().to_arrow()["d"].to_pylist() == [1] * 3 + [7] * 7
    table.delete("k = 9")
    table.merge([{"k": 4, "d": 2}, {"k": 20}], on="k")
    assert sorted(table.scan().to_arrow()["d"].to_pylist(), key=str) == [1, 1, 1, 2, 7, 7, 7, 7, 7, None]
    table.compact()
    assert table.count("d = 7") == 5
    table.rename_column("d", "f")
    assert table.count("f = 7") == 5
    # Holes are holes: who computes the column later fills them.
    table.append([{"k": 30}])
    table.add_columns(lambda batch: {"f": batch["k"] * 2}, inputs=["k"])
    assert table.take([table.scan(row_ids=True).to_arrow()["_row_id"].to_pylist()[-1]])["f"].tolist() == [60]
    assert table.at("v2").columns == {"k": "int64"}


def test_what_has_no_default(tmp_path: pathlib.Path) -> None:
    table = hr.init(tmp_path / "c", sync=False).create_table("t", {"k": "int64"})
    version = table.version
    for kind, default in [("int8", 300), ("int8", "x"), ("date", "x"), ("no", 1)]:
        with pytest.raises(hr.Invalid):
            table.add_column("d", kind, default=default)
    for kind, default in [("list<int32>", [1]), ("tensor<float32>[2]", [1.0, 2.0]), ("binary", b"x"), ("blob", b"x")]:
        with pytest.raises((hr.Unsupported, hr.Invalid)):
            table.add_column("d", kind, default=default)
    with pytest.raises(hr.Invalid, match="already"):
        table.add_column("k", "int64", default=1)
    assert table.version == version
