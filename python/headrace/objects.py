"""What rows may hold beside Python's own numbers, texts, times and containers."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import enum
import io
import json
import os
import sys
import uuid
from typing import Any

import numpy as np

from headrace.blob import Blob


class Media(bytes):
    """Bytes that belong in a blob column."""


class Json:
    """A value for a column of JSON: whatever ``json`` can write. ``create_table("t", [{"meta": hr.Json({"a": 1})}])``."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Json({self.value!r})"


def json_text(value: Any) -> str:
    """The value as JSON text; TypeError or ValueError says why it has none."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_json_step)


def _json_step(value: Any) -> Any:
    if isinstance(value, Json):
        return value.value
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    if isinstance(value, (bytes, datetime.date, datetime.time, datetime.timedelta)):
        raise TypeError(f"JSON has no {type(value).__name__}; write it as text")
    step = plain(value)
    return value.tolist() if step is value else step  # an array of numbers


class Nanoseconds(datetime.datetime):
    """A time with the nanoseconds that ``datetime`` does not have."""

    nanosecond: int = 0


_UNITS = {"h": "s", "m": "s", "s": "s", "ms": "us", "us": "us", "ns": "ns", "Y": "D", "M": "D", "W": "D", "D": "D"}


def _in_unit(value: Any, dtype: str) -> Any:
    """As Python's own, None if it is not the same there: numpy wraps around, and cuts off."""
    other = value.astype(dtype)
    return other.item() if int(other.astype(value.dtype).astype("int64")) == int(value.astype("int64")) else None


def _datetime64(value: Any) -> Any:
    unit = _UNITS.get(np.datetime_data(value.dtype)[0])
    if np.isnat(value):
        return None
    if unit is None:
        raise ValueError(f"{value!r} is finer than nanoseconds, which no column holds")
    if unit != "ns":
        plain = _in_unit(value, f"datetime64[{unit}]")
        if not isinstance(plain, datetime.date):
            raise ValueError(f"{value!r} is beyond the years 1 to 9999; give the column as an Arrow array")
        return plain
    micros, nanos = divmod(int(value.astype("int64")), 1000)
    plain = np.datetime64(micros, "us").item()
    made = Nanoseconds(*plain.timetuple()[:6], plain.microsecond)
    made.nanosecond = nanos
    return made


def _timedelta64(value: Any) -> Any:
    if np.isnat(value):
        return None
    plain = _in_unit(value, "timedelta64[us]")
    if isinstance(plain, datetime.timedelta):
        return plain
    if np.datetime_data(value.dtype)[0] in ("ns", "ps", "fs", "as"):
        raise ValueError(f"{value!r} is finer than the microseconds that a duration has")
    raise ValueError(f"{value!r} is longer than a timedelta may be; give the column as an Arrow array")


def unmasked(array: Any) -> list[Any]:
    """What a masked array holds: None for what is masked."""
    if array.ndim > 1:
        return [unmasked(part) for part in array]
    return [None if hidden else value for value, hidden in zip(array.data, np.ma.getmaskarray(array), strict=True)]


def _array(array: Any) -> Any:
    if isinstance(array, np.ma.MaskedArray):
        if array.ndim == 0:
            return None if np.ma.getmaskarray(array)[()] else array.data[()]
        return _array(array.data) if not np.ma.is_masked(array) else unmasked(array)
    if array.ndim == 0:
        return array[()]
    if array.dtype.names:
        return [{name: row[name] for name in array.dtype.names} for row in array]
    if array.dtype.kind in "iuf" and array.dtype.itemsize <= 8:
        if array.flags.c_contiguous and array.dtype.isnative and type(array) is np.ndarray:
            return array
        return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", subok=False)
    return list(array)


def _picture(picture: Any) -> Media:
    encoded = io.BytesIO()
    try:
        picture.save(encoded, "PNG")  # without loss
    except OSError as error:
        raise ValueError(f"a picture of the mode {picture.mode} cannot be written as PNG; convert it first") from error
    return Media(encoded.getvalue())


def _object(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, collections.abc.Mapping):
        return dict(value)
    if isinstance(value, collections.abc.Set):
        try:
            return sorted(value)  # sets have no order of their own: the same set makes the same row
        except TypeError:
            return list(value)
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(value, pillow.Image):
        return _picture(value)
    if hasattr(value, "__array__"):
        return _array(np.asarray(value))
    if isinstance(value, collections.abc.Iterable) and not isinstance(value, type):
        return list(value)
    if type(value).__name__ == "NAType":
        return None
    raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__} is nothing that a column holds")


def plain(value: Any) -> Any:
    """A step from the value towards one of Python's own types, or an array of numbers; TypeError or ValueError says why
    there is none."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, Blob):
        return Media(value.read())
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, np.datetime64):
        return _datetime64(value)
    if isinstance(value, np.timedelta64):
        return _timedelta64(value)
    if isinstance(value, np.void) and value.dtype.names:
        return {name: value[name] for name in value.dtype.names}
    if isinstance(value, np.generic):
        raise TypeError(f"a {type(value).__name__} is nothing that a column holds; write it as text, or as two columns")
    return _object(value)
