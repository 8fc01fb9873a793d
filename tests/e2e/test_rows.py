"""Rows from Python objects: each value goes in as it was, or is refused with the reason."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import io
import pathlib
import uuid
from typing import Any

import headrace as hr
import numpy as np
import pyarrow as pa
import pytest
from headrace.rows import to_native
from PIL import Image

UTC = datetime.timezone.utc
EAST = datetime.timezone(datetime.timedelta(hours=2, minutes=30))


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    y: float


def arrow(values: list[Any]) -> pa.ChunkedArray:
    return pa.table(hr.Reader(to_native([{"x": value} for value in values])))["x"]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([datetime.datetime(2026, 1, 2, 3, 4, 5, 6), None], pa.timestamp("us"), None),
        ([datetime.datetime(1, 1, 1), datetime.datetime.max], pa.timestamp("us"), None),
        (
            [datetime.datetime(2026, 1, 2, 3, 4, 5, 6, EAST)],
            pa.timestamp("us", "UTC"),
            [datetime.datetime(2026, 1, 2, 0, 34, 5, 6, UTC)],
        ),
        ([datetime.date(1969, 12, 31), None], pa.date32(), None),
        ([datetime.time(23, 59, 59, 999999)], pa.time64("us"), None),
        ([datetime.timedelta(days=-1, microseconds=5)], pa.duration("us"), None),
        ([decimal.Decimal("12.50"), decimal.Decimal("-0.001"), 7], pa.decimal128(23, 3), None),
        ([decimal.Decimal("9" * 50), None], pa.decimal256(50, 0), None),
        ([decimal.Decimal("1E+3")], pa.decimal128(4, 0), None),
        ([uuid.UUID(int=5), "x"], pa.large_string(), [str(uuid.UUID(int=5)), "x"]),
        ([pathlib.Path("a/b"), "c"], pa.large_string(), ["a/b", "c"]),
        ([b"a", bytearray(b"b"), memoryview(b"c")], pa.large_binary(), [b"a", b"b", b"c"]),
        ([{3, 1, 2}, frozenset()], pa.list_(pa.int64()), [[1, 2, 3], []]),
        ([range(3), (1,)], pa.list_(pa.int64()), [[0, 1, 2], [1]]),
        ([Colour.RED, None], pa.large_string(), ["red", None]),
        ([Level.LOW, 2], pa.int64(), [1, 2]),
        ([Point(1, 2.5)], pa.struct([("x", pa.int64()), ("y", pa.float64())]), [{"x": 1, "y": 2.5}]),
        ([{"a": 1}, {"b": "x"}], pa.struct([("a", pa.int64()), ("b", pa.large_string())]), None),
        ([np.float32(0.1), None], pa.float32(), [float(np.float32(0.1)), None]),
        ([np.float16(0.5)], pa.float16(), None),
        ([np.float32(0.5), 1], pa.float64(), [0.5, 1.0]),
        ([np.int8(-3), np.int8(4)], pa.int8(), None),
        ([np.int8(-3), np.uint16(4)], pa.int64(), None),
        ([np.bool_(True), False], pa.bool_(), None),
        ([np.str_("s"), np.bytes_(b"s").decode()], pa.large_string(), None),
        ([2**63 - 1, -(2**63)], pa.int64(), None),
        ([2**63, 0], pa.uint64(), None),
        ([2**53, 2.5], pa.float64(), None),
        ([np.datetime64("2026-01-02T03:04:05.123456789"), None], pa.timestamp("ns"), None),
        ([np.datetime64("2026-01-02"), np.datetime64("NaT")], pa.date32(), [datetime.date(2026, 1, 2), None]),
        ([np.timedelta64(1500, "ms")], pa.duration("us"), [datetime.timedelta(seconds=1.5)]),
        ([None, None], pa.null(), None),
        ([[], [1.5, None]], pa.list_(pa.float64()), None),
        ([np.array([1, 2], np.int16), np.array([3], np.int16)], pa.list_(pa.int16()), [[1, 2], [3]]),
        ([np.arange(2.0), [3]], pa.list_(pa.float64()), [[0.0, 1.0], [3.0]]),
        ([np.array([[1, 2]]), np.array([[3]])], pa.list_(pa.list_(pa.int64())), [[[1, 2]], [[3]]]),
        ([np.ma.array([1.0, 2.0], mask=[False, True]), [3.0]], pa.list_(pa.float64()), [[1.0, None], [3.0]]),
        ([np.ma.array([1.5], np.float32), None], pa.list_(pa.field("item", pa.float32(), False), 1), [[1.5], None]),
        ([np.ma.masked, np.float32(0.5)], pa.float32(), [None, 0.5]),
        ([np.array(["a", None], object)], pa.list_(pa.large_string()), [["a", None]]),
        (["2026-01-02 03:04:05", "01234"], pa.large_string(), None),  # texts stay texts
    ],
)
def test_objects_are_what_they_were(values: list[Any], kind: pa.DataType, expected: list[Any] | None) -> None:
    made = arrow(values)
    assert made.type == kind
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        assert made.cast(pa.int64()).to_pylist() == [1767323045123456789, None]
    else:
        got = made.to_pylist()
        if expected is None and pa.types.is_struct(kind):
            got = [{key: value for key, value in row.items() if value is not None} for row in got]
        assert got == (values if expected is None else expected)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1, 2**64], "row 1: an integer has more than 64 bits"),
        ([-1, 2**63], r"row 1: an integer from 2\*\*63"),
        ([2.5, 9007199254740993], "row 1: an integer beside floats"),
        ([9007199254740993, 2.5], "row 0: an integer beside floats"),
        ([np.uint64(2**63 + 1), 0.5], "row 0: an integer beside floats"),
        ([1, "a"], r"row 1: a value of the type str beside int \(row 0\)"),
        ([True, 1], "type int beside bool"),
        ([b"x", "y"], "type str beside bytes"),
        ([datetime.datetime(2026, 1, 1), datetime.datetime(2026, 1, 1, tzinfo=UTC)], "all times a zone, or none"),
        ([decimal.Decimal(1), 0.5], "all of them Decimal, or all float"),
        ([decimal.Decimal("NaN")], "not finite"),
        ([datetime.time(1, tzinfo=UTC)], "with a zone"),
        (["\ud800"], "surrogate"),
        ([{1: 2}], "key that is not text"),
        ([{"a": [1, datetime.date(2026, 1, 1)]}], r"column 'x.a\[\]', row 0"),
        ([1 + 2j], "complex"),
        ([object()], "nothing that a column holds"),
        ([np.longdouble(1)], "longdouble"),
        ([datetime.timedelta.max], "does not fit"),
        ([{"a\0b": 1, "a": 2}], "a key with a NUL"),
        ([np.datetime64("20000-01-01")], "beyond the years"),
        ([np.datetime64(10**14, "s")], "beyond the years"),
        ([np.datetime64(10**17, "ms")], "beyond the years"),
        ([np.timedelta64(10**12, "D")], "longer than a timedelta"),
        ([np.timedelta64(1001, "ns")], "finer than the microseconds"),
    ],
)
def test_what_would_change_is_refused(values: list[Any], reason: str) -> None:
    with pytest.raises(hr.Invalid, match=reason):
        arrow(values)


def test_what_holds_itself_or_nests_without_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    deep: Any = 1
    for _ in range(30_000):
        deep = {"a": deep}
    for value in (endless, deep):
        with pytest.raises(hr.LimitExceeded, match=r"column 'x', row 0: .* nest deeper than 512"):
            arrow([value])
    del deep


def test_masked_columns_have_nulls(catalog: hr.Catalog) -> None:
    values = np.ma.array(np.arange(4, dtype=np.int16), mask=[0, 1, 0, 0])
    table = catalog.create_table("t", {"a": values, "b": np.ma.array(np.ones((4, 2), np.float32))})
    assert table.columns == {"a": "int16", "b": "tensor<float32>[2]"}
    assert [row["a"] for row in table.scan(["a"])] == [0, None, 2, 3]


def test_a_table_gives_back_what_rows_held(catalog: hr.Catalog) -> None:
    now = datetime.datetime.now()
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    rows = [
        {"t": now, "path": pathlib.Path("a"), "image": picture, "vec": np.array([[1, 2], [3, 4]], np.float32)},
        {"t": None, "path": None, "image": None, "vec": None},
    ]
    table = catalog.create_table("t", rows)
    assert table.columns == {
        "t": "timestamp[us]",
        "path": "string",
        "image": "blob",
        "vec": "tensor<float32>[2, 2]",
    }
    first, second = table.scan()
    assert first["t"] == now and first["vec"].tolist() == [[1, 2], [3, 4]]
    assert first["image"].media_type == "image/png" and np.array_equal(first["image"].decode(), np.asarray(picture))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(bytes(first["image"])))), np.asarray(picture))
    assert second["t"] is None and second["image"] is None and second["vec"] is None
    copy = catalog.create_table("copy", table.scan().to_pylist())  # cells go in as they came out
    assert bytes(copy.take([0])[0]["image"]) == bytes(first["image"]) and copy.columns == table.columns


def test_rows_come_from_anything_that_gives_them(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", ({"a": i, "b": str(i)} for i in range(3)))
    structured = np.array([(3, "3"), (4, "4")], dtype=[("a", "i8"), ("b", "U4")])
    table.append(structured)
    table.append({"a": pa.array([5]), "b": pa.chunked_array([["5"], []])})
    table.append({"a": np.array([6], ">i4"), "b": np.array(["6"])})
    assert [(row["a"], row["b"]) for row in table.scan()] == [(i, str(i)) for i in range(7)]
    before = table.version
    for nothing in ([], {}, (), iter([])):
        assert table.append(nothing).rows == 0
    assert table.version == before
    with pytest.raises(hr.Invalid, match="no rows"):
        catalog.create_table("empty", [])

    class Lazy:  # as polars' LazyFrame
        def collect_schema(self) -> None: ...

        def collect(self) -> pa.Table:
            return pa.table({"a": [7], "b": ["7"]})

    table.append(Lazy())
    times = np.array(["2026-01-01", "NaT"], "datetime64[ms]")
    catalog.create_table("times", {"at": times})
    assert [row["at"] for row in catalog["times"].scan()] == [datetime.datetime(2026, 1, 1), None]
    for wrong, message in [({"a": 5}, "a value for each row"), ({"a": "text"}, "a value for each row")]:
        with pytest.raises(hr.Invalid, match=message):
            table.append(wrong)
    with pytest.raises(hr.Invalid, match="row 1 is a int"):
        table.append([{"a": 1}, 5])


def test_an_unknown_column_is_refused_or_added(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", [{"a": 1}])
    with pytest.raises(hr.Invalid, match=r"has no column 'score'; append\(…, new_columns=True\).*'score': 'float64'"):
        table.append([{"a": 2, "score": 0.5}])
    table.append([{"a": 2, "score": 0.5}], new_columns=True)
    assert table.scan().to_pylist() == [{"a": 1, "score": None}, {"a": 2, "score": 0.5}]
    with pytest.raises(hr.Invalid):
        table.append([{"a": "text", "more": 1}], new_columns=True)
    assert list(table.columns) == ["a", "score"] and len(table) == 2
