"""Lists, maps and what has them inside: rows come as pyarrow has them, and a take reads the pages of its rows alone."""

from __future__ import annotations

import datetime
import decimal
import pathlib
import random
import uuid
from typing import Any

import headrace as hr
import pyarrow as pa
import pyarrow.compute
import pytest

ROWS = 9_000  # 5 pages of one row group

TYPES: dict[str, pa.DataType] = {
    "numbers": pa.list_(pa.int64()),
    "texts": pa.list_(pa.list_(pa.string())),
    "points": pa.struct([("a", pa.int32()), ("l", pa.list_(pa.struct([("x", pa.float64()), ("y", pa.string())])))]),
    "map": pa.map_(pa.string(), pa.list_(pa.int32())),
    "maps": pa.list_(pa.map_(pa.int16(), pa.struct([("b", pa.bool_()), ("d", pa.date32())]))),
    "money": pa.list_(pa.decimal128(20, 3)),
    "whens": pa.list_(pa.timestamp("s", "UTC")),
    "waits": pa.list_(pa.duration("ms")),
    "times": pa.struct([("t", pa.list_(pa.time32("s"))), ("u", pa.binary(16))]),
    "deep": pa.list_(pa.list_(pa.list_(pa.list_(pa.uint8())))),
    "bytes": pa.list_(pa.binary()),
    "plain": pa.int64(),
}
UTC = datetime.timezone.utc


def value(draw: random.Random, kind: pa.DataType, null: float = 0.1) -> Any:
    if draw.random() < null:
        return None
    if pa.types.is_map(kind):
        size = draw.choice([0, 1, 1, 3])
        return [(value(draw, kind.key_type, 0), value(draw, kind.item_type)) for _ in range(size)]
    if pa.types.is_list(kind):
        return [value(draw, kind.value_type) for _ in range(draw.choice([0, 0, 1, 2, 5]))]
    if pa.types.is_struct(kind):
        return {field.name: value(draw, field.type) for field in kind}
    number = draw.randrange(100)
    simple = {
        pa.string(): "é" * (number % 4) + str(number),
        pa.binary(): bytes([number]) * (number % 5),
        pa.binary(16): uuid.UUID(int=number).bytes,
        pa.decimal128(20, 3): decimal.Decimal(number - 50).scaleb(-3),
        pa.timestamp("s", "UTC"): datetime.datetime.fromtimestamp(number - 50, UTC),
        pa.duration("ms"): datetime.timedelta(milliseconds=number - 50),
        pa.time32("s"): datetime.time(1, 2, number % 60),
        pa.date32(): datetime.date(1970, 1, 1 + number % 28),
        pa.bool_(): number % 2 == 0,
        pa.float64(): number / 8,
    }
    return simple.get(kind, number)


def columns(seed: int, rows: int) -> pa.Table:
    draw = random.Random(seed)
    made = {}
    for name, kind in TYPES.items():
        values = [value(draw, kind) for _ in range(rows)]
        if name in ("texts", "map") and rows > 5_000:  # whole pages without a value, and without a list
            values[2_048:4_096] = [None] * 2_048
            values[4_096:6_144] = [[]] * 2_048
        made[name] = pa.array(values, kind)
    return pa.table(made)


def same(got: Any, wanted: pa.Table) -> None:
    got = pa.table(got)
    got.validate(full=True)
    for name in wanted.column_names:
        assert got[name].to_pylist() == wanted[name].to_pylist(), name


@pytest.mark.parametrize("seed", [1, 2])
def test_nested_rows_are_those_that_went_in(tmp_path: pathlib.Path, seed: int) -> None:
    rows = columns(seed, ROWS)
    table = hr.init(tmp_path / "c", sync=False).create_table("t", rows)
    draw = random.Random(seed)
    same(table.scan(), rows)
    for many in (1, 2, 40, 3_000):
        ids = [draw.randrange(ROWS) for _ in range(many)]  # some twice, in any order
        same(table.take(ids), rows.take(ids))
    for first, last in [(0, 1), (2_047, 2_049), (2_048, 4_096), (4_000, 6_200), (ROWS - 1, ROWS)]:
        same(table.take(list(range(first, last))), rows.slice(first, last - first))
    same(table.scan(where="plain < 7"), rows.filter(pa.compute.less(rows["plain"], 7)))
    table.delete("plain >= 50")
    alive = rows.filter(pa.compute.fill_null(pa.compute.less(rows["plain"], 50), fill_value=True))
    same(table.scan(), alive)
    table.compact()
    same(table.scan(), alive)


def test_leaves_whose_pages_end_at_different_rows(tmp_path: pathlib.Path) -> None:
    draw = random.Random(3)
    kind = pa.list_(pa.struct([("x", pa.int8()), ("y", pa.binary())]))
    values = [[{"x": i % 100, "y": draw.randbytes(700)} for _ in range(draw.randrange(5))] for i in range(4_000)]
    rows = pa.table({"v": pa.array(values, kind)})
    table = hr.init(tmp_path / "c", sync=False).create_table("t", rows)
    for ids in ([0, 1_500, 2_047, 2_048, 3_999], list(range(1_000, 2_500)), list(range(0, 4_000, 7))):
        same(table.take(ids), rows.take(ids))


def test_a_take_reads_pages_not_row_groups(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "requests"
    catalog = hr.init(tmp_path / "c", sync=False)
    values = [list(range(i, i + 100)) for i in range(60_000)]
    catalog.create_table("t", pa.table({"v": pa.array(values, pa.list_(pa.int64()))}))

    def took(ids: list[int]) -> float:
        """How many times 2,048 rows of this column a take fetches that finds nothing in memory."""
        log.write_text("")
        table = hr.open(f"slow:latency=0ms,log={log}:{catalog.location}")["t"]
        same(table.take(ids), pa.table({"v": [values[i] for i in ids]}))
        fetched = sum(int(line.split()[2]) for line in log.read_text().splitlines() if ".parquet" in line)
        return fetched / (2_048 * 100 * 8)

    assert 0.1 < took([30_000]) < 1.5
    assert took([2_047, 2_048]) < 2.5
    assert 0.3 < took([100, 20_000, 59_999, 59_998]) < 3.5
