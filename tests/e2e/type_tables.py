"""Arrow tables of any types, nested, with nulls and extremes; and their values without rounding."""

from __future__ import annotations

import datetime
import decimal
import math
import random
import uuid
from collections.abc import Callable
from typing import Any

import pyarrow as pa

Case = tuple[pa.DataType, pa.DataType, Callable[[random.Random], Any]]  # given, expected, a value


def whole(bits: int, signed: bool) -> Callable[[random.Random], int]:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return lambda rng: rng.choice([low, high, 0, 1, rng.randint(low, high)])


def real(rng: random.Random) -> float:
    return rng.choice([0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, -2.0, 1024.0])


def text(rng: random.Random) -> str:
    return rng.choice(["", "a", "ß", "日本", "x" * 50, "\x00", 'say "hi"', "NULL", "01234"])


def number(precision: int, scale: int) -> Callable[[random.Random], decimal.Decimal]:
    top = 10**precision - 1
    context = decimal.Context(prec=100)
    return lambda rng: decimal.Decimal(rng.choice([0, 1, -1, top, -top, rng.randint(-top, top)])).scaleb(
        -scale, context
    )


def json_text(rng: random.Random) -> str:
    values = ["null", "1", '"x"', "[1, 2.50]", '{"a": {"b": [true]}, "n": 12345678901234567890123}', '"ünï"']
    return rng.choice(values)


def scalars() -> list[Case]:
    same: list[tuple[pa.DataType, Callable[[random.Random], Any]]] = [
        (pa.bool_(), lambda rng: rng.random() < 0.5),
        *[(getattr(pa, f"int{bits}")(), whole(bits, True)) for bits in (8, 16, 32, 64)],
        *[(getattr(pa, f"uint{bits}")(), whole(bits, False)) for bits in (8, 16, 32, 64)],
        (pa.float16(), real),
        (pa.float32(), real),
        (pa.float64(), real),
        (pa.string(), text),
        (pa.binary(), lambda rng: text(rng).encode() + b"\xff"),
        (pa.binary(5), lambda rng: rng.randbytes(5)),
        (pa.date32(), lambda rng: rng.choice([datetime.date(1, 1, 1), datetime.date(9999, 12, 31)])),
        *[(pa.time32(unit), lambda rng: rng.randint(0, 86_399)) for unit in ("s", "ms")],
        *[(pa.time64(unit), lambda rng: rng.randint(0, 86_399_999_999) // 1000 * 1000) for unit in ("us", "ns")],
        *[(pa.timestamp(unit), lambda rng: rng.randint(-(10**9), 10**9) * 1000) for unit in ("s", "ms", "us", "ns")],
        *[(pa.timestamp(unit, "UTC"), lambda rng: rng.randint(-(10**9), 10**9) * 1000) for unit in ("ms", "us", "ns")],
        *[(pa.duration(unit), lambda rng: rng.randint(-(10**9), 10**9) * 1000) for unit in ("s", "ms", "us", "ns")],
        *[(pa.decimal128(p, s), number(p, s)) for p, s in ((1, 0), (4, 4), (18, 2), (19, 5), (38, 0), (38, 37))],
        (pa.decimal256(39, 2), number(39, 2)),
        (pa.decimal256(76, 10), number(76, 10)),
        (pa.uuid(), lambda rng: uuid.UUID(int=rng.getrandbits(128)).bytes),
        (pa.json_(), json_text),
    ]
    widths: list[Case] = [
        (pa.large_string(), pa.string(), text),
        (pa.string_view(), pa.string(), text),
        (pa.large_binary(), pa.binary(), lambda rng: rng.randbytes(3)),
        (pa.date64(), pa.date32(), lambda rng: datetime.date(2026, 1, rng.randint(1, 31))),
        (pa.dictionary(pa.int8(), pa.string()), pa.string(), lambda rng: rng.choice(["a", "b"])),
        (pa.dictionary(pa.uint32(), pa.large_string()), pa.string(), lambda rng: rng.choice(["a", "b"])),
        (pa.decimal32(7, 2), pa.decimal128(7, 2), number(7, 2)),
        (pa.decimal64(16, 2), pa.decimal128(16, 2), number(16, 2)),
    ]
    return [(kind, kind, make) for kind, make in same] + widths


def nested(rng: random.Random, depth: int) -> Case:
    if depth == 0 or rng.random() < 0.4:
        return rng.choice(scalars())
    given, expected, make = nested(rng, depth - 1)
    shape = rng.choice(["list", "large_list", "struct", "map"])

    def maybe(made: Callable[[random.Random], Any]) -> Callable[[random.Random], Any]:
        return lambda r: None if r.random() < 0.2 else made(r)

    if shape == "struct":
        other_given, other_expected, other = nested(rng, depth - 1)
        return (
            pa.struct([("a", given), ("b c", other_given)]),
            pa.struct([("a", expected), ("b c", other_expected)]),
            lambda r: {"a": maybe(make)(r), "b c": maybe(other)(r)},
        )
    if shape == "map":
        return (
            pa.map_(pa.string(), given),
            pa.map_(pa.string(), expected),
            lambda r: [(f"k{i}", maybe(make)(r)) for i in range(r.randint(0, 3))],
        )
    wrap = pa.list_ if shape == "list" else pa.large_list
    return wrap(given), pa.list_(expected), lambda r: [maybe(make)(r) for _ in range(r.randint(0, 3))]


def storage(kind: pa.DataType) -> pa.DataType:
    """The type below extension types, which is what pyarrow builds arrays of."""
    if isinstance(kind, pa.BaseExtensionType):
        return storage(kind.storage_type)
    if pa.types.is_map(kind):
        return pa.map_(storage(kind.key_type), storage(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, storage(field.type)) for field in kind])
    if pa.types.is_large_list(kind):
        return pa.large_list(storage(kind.value_type))
    if pa.types.is_list(kind):
        return pa.list_(storage(kind.value_type))
    return kind


def built(values: list[Any], kind: pa.DataType) -> pa.Array:
    plain = storage(kind)
    if pa.types.is_dictionary(plain):
        array = pa.array(values, plain.value_type).cast(plain)
    elif pa.types.is_decimal32(plain) or pa.types.is_decimal64(plain):
        array = pa.array(values, pa.decimal128(plain.precision, plain.scale)).cast(plain)
    else:
        array = pa.array(values, plain)
    return array if plain == kind else rewrapped(array, kind)


def rewrapped(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, rewrapped(array, kind.storage_type))
    if array.type == kind:
        return array
    if pa.types.is_struct(kind):
        fields = [rewrapped(array.field(i), kind.field(i).type) for i in range(kind.num_fields)]
        return pa.StructArray.from_arrays(fields, fields=list(kind), mask=array.is_null())
    mask = array.is_null()
    if pa.types.is_map(kind):
        keys = rewrapped(array.keys, kind.key_type)
        return pa.MapArray.from_arrays(
            array.offsets, keys, rewrapped(array.items, kind.item_type), type=kind, mask=mask
        )
    maker = pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
    return maker.from_arrays(array.offsets, rewrapped(array.values, kind.value_type), type=kind, mask=mask)


def plain(array: pa.Array) -> list[Any]:
    """Values as Python objects without rounding: times as integers, NaN and the sign of zero as text."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return plain(array.storage)
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind) or pa.types.is_time64(kind):
        return array.view(pa.int64()).to_pylist()
    if pa.types.is_time32(kind):
        return array.view(pa.int32()).to_pylist()
    if pa.types.is_floating(kind):
        return [None if value is None else repr(float(value)) for value in array.to_pylist()]
    if pa.types.is_struct(kind):
        columns = {field.name: plain(array.field(i)) for i, field in enumerate(kind)}
        return [
            {name: column[i] for name, column in columns.items()} if array[i].is_valid else None
            for i in range(len(array))
        ]
    if pa.types.is_map(kind):
        pairs = list(zip(plain(array.keys), plain(array.items), strict=True))
        offsets = array.offsets.to_pylist()
        return [pairs[offsets[i] : offsets[i + 1]] if array[i].is_valid else None for i in range(len(array))]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        values, offsets = plain(array.values), array.offsets.to_pylist()
        return [values[offsets[i] : offsets[i + 1]] if array[i].is_valid else None for i in range(len(array))]
    return array.to_pylist()


def flat(table: pa.Table, name: str) -> pa.Array:
    column = table[name].combine_chunks()
    return column if isinstance(column, pa.Array) else column.chunk(0)


def same_types(got: pa.DataType, expected: pa.DataType) -> bool:
    """Up to the names of a list's items and whether parts may be null."""
    if isinstance(expected, pa.BaseExtensionType):
        return isinstance(got, pa.BaseExtensionType) and got.extension_name == expected.extension_name
    if pa.types.is_struct(expected):
        return [f.name for f in got] == [f.name for f in expected] and all(
            same_types(a.type, b.type) for a, b in zip(got, expected, strict=True)
        )
    if pa.types.is_map(expected):
        return same_types(got.key_type, expected.key_type) and same_types(got.item_type, expected.item_type)
    if pa.types.is_list(expected):
        return pa.types.is_list(got) and same_types(got.value_type, expected.value_type)
    return bool(got == expected)


def random_table(seed: int, columns: int, rows: int) -> tuple[pa.Table, list[pa.DataType]]:
    rng = random.Random(seed)
    arrays, kinds = [], []
    for _ in range(columns):
        given, expected, make = nested(rng, 2)
        values = [None if rng.random() < 0.15 else make(rng) for _ in range(rows)]
        arrays.append(built(values, given))
        kinds.append(expected)
    return pa.table(arrays, names=[f"c{i}" for i in range(columns)]), kinds


def holds(kind: pa.DataType, test: Callable[[pa.DataType], bool]) -> bool:
    if test(kind):
        return True
    if isinstance(kind, pa.BaseExtensionType):
        return holds(kind.storage_type, test)
    return any(holds(kind.field(i).type, test) for i in range(kind.num_fields))
