"""Protocol buffers, as far as event files and W&B's files need them: the fields of a message, one after the other."""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Value = int | bytes


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a position, and the position after it.

    Raises:
        ValueError: the bytes end before it does, or it has more than 64 bits.
    """
    number = shift = 0
    while shift < 70:
        if at >= len(data):
            raise ValueError("a message that is cut off")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise ValueError("a number of more than 64 bits")


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Each field's number, with an int (of a number without a sign, or the 64 or 32 bits of a fixed one) or bytes.

    Raises:
        ValueError: it is no message.
    """
    at, end = 0, len(data)
    while at < end:
        key, at = varint(data, at)
        wire = key & 7
        if wire == VARINT:
            number, at = varint(data, at)
            yield key >> 3, number
        elif wire == BYTES:
            length, at = varint(data, at)
            if length > end - at:
                raise ValueError("a message that is cut off")
            yield key >> 3, data[at : at + length]
            at += length
        elif wire in (FIXED64, FIXED32):
            width = 8 if wire == FIXED64 else 4
            if width > end - at:
                raise ValueError("a message that is cut off")
            yield key >> 3, int.from_bytes(data[at : at + width], "little")
            at += width
        else:
            raise ValueError(f"a field of wire type {wire}")


def signed(value: Value) -> int:
    """An int32 or int64 of a varint."""
    number = as_int(value)
    return number - (1 << 64) if number >> 63 else number


def as_int(value: Value) -> int:
    """The number; ValueError where the field holds bytes."""
    if not isinstance(value, int):
        raise ValueError("bytes where a number was expected")
    return value


def as_bytes(value: Value) -> bytes:
    """The bytes; ValueError where the field holds a number."""
    if not isinstance(value, bytes):
        raise ValueError("a number where bytes were expected")
    return value


def as_text(value: Value) -> str:
    """The text of a string."""
    return as_bytes(value).decode("utf-8", "replace")


def as_double(value: Value) -> float:
    """The number of a ``double``."""
    return float(struct.unpack("<d", struct.pack("<Q", as_int(value)))[0])


def as_float(value: Value) -> float:
    """The number of a ``float``."""
    return float(struct.unpack("<f", struct.pack("<I", as_int(value) & 0xFFFFFFFF))[0])


def seconds_of(value: Value) -> float:
    """A ``google.protobuf.Timestamp``, in seconds since 1970-01-01."""
    seconds = 0.0
    for number, part in fields(as_bytes(value)):
        seconds += signed(part) if number == 1 else signed(part) * 1e-9 if number == 2 else 0
    return seconds
