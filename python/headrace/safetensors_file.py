"""Files of tensors in the format of safetensors: a header of JSON, then the bytes. Read without running anything that is in them.

Eight bytes with the header's length, the header (``{"name": {"dtype", "shape", "data_offsets"}, "__metadata__": {…texts}}``),
and the tensors' bytes side by side, little-endian and row by row."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import mmap
import os
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from headrace.errors import Corrupt, Invalid

METADATA = "__metadata__"
MOST_HEADER = 100_000_000  # bytes; the same as safetensors' own limit
_ALIGN = 8

# The format's names, numpy's (bfloat16 and the like are ml_dtypes'), torch's, and bytes of an element.
_TYPES = (
    ("BOOL", "bool", "bool", 1), ("U8", "uint8", "uint8", 1), ("I8", "int8", "int8", 1),
    ("U16", "uint16", "uint16", 2), ("I16", "int16", "int16", 2), ("U32", "uint32", "uint32", 4),
    ("I32", "int32", "int32", 4), ("U64", "uint64", "uint64", 8), ("I64", "int64", "int64", 8),
    ("F16", "float16", "float16", 2), ("BF16", "bfloat16", "bfloat16", 2), ("F32", "float32", "float32", 4),
    ("F64", "float64", "float64", 8), ("F8_E4M3", "float8_e4m3fn", "float8_e4m3fn", 1),
    ("F8_E5M2", "float8_e5m2", "float8_e5m2", 1), ("C64", "complex64", "complex64", 8),
)  # fmt: skip
_OF_NUMPY = {numpy: name for name, numpy, _, _ in _TYPES}
_OF_TORCH = {torch: name for name, _, torch, _ in _TYPES}
_TO_NUMPY = {name: numpy for name, numpy, _, _ in _TYPES}
_TO_TORCH = {name: torch for name, _, torch, _ in _TYPES}
_BYTES = {name: size for name, _, _, size in _TYPES}


@dataclasses.dataclass(frozen=True)
class Part:
    """A tensor that is to be written, or that was read: ``load()`` gives its bytes."""

    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], Any]

    @property
    def nbytes(self) -> int:
        """Bytes of it in the file."""
        return math.prod(self.shape) * _BYTES[self.dtype]


def of_numpy(array: Any) -> Part:
    """An array, which is read when it is written.

    Raises:
        Invalid: the format has no such type.
    """
    name = _OF_NUMPY.get(array.dtype.name)
    if name is None:
        raise Invalid(f"an array of {array.dtype} is not written: {', '.join(_OF_NUMPY)}")

    def load() -> Any:
        plain = np.ascontiguousarray(array)
        if plain.dtype.byteorder == ">" or (plain.dtype.byteorder == "=" and sys.byteorder == "big"):
            plain = plain.astype(plain.dtype.newbyteorder("<"))
        return plain.reshape(-1).view(np.uint8).data if plain.size else b""

    return Part(name, tuple(array.shape), load)


def of_torch(tensor: Any) -> Part:
    """A tensor, which is copied to the CPU when it is written.

    Raises:
        Invalid: the format has no such type.
    """
    name = _OF_TORCH.get(str(tensor.dtype).removeprefix("torch."))
    if name is None:
        raise Invalid(f"a tensor of {tensor.dtype} is not written: {', '.join(_OF_TORCH)}")
    byte = sys.modules["torch"].uint8

    def load() -> Any:
        if tensor.numel() == 0:
            return b""
        plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        return memoryview(plain.reshape(-1).view(byte).numpy())

    return Part(name, tuple(tensor.shape), load)


def to_numpy(part: Part) -> Any:
    """An array of its own memory."""
    name = _TO_NUMPY[part.dtype]
    try:
        dtype = np.dtype(name)
    except TypeError:
        dtype = np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
    return np.frombuffer(bytearray(part.load()), np.uint8).view(dtype).reshape(part.shape)


def to_torch(part: Part) -> Any:
    """A tensor on the CPU, of its own memory."""
    torch = importlib.import_module("torch")
    dtype = getattr(torch, _TO_TORCH[part.dtype])
    if part.nbytes == 0:
        return torch.empty(part.shape, dtype=dtype)
    return torch.frombuffer(bytearray(part.load()), dtype=torch.uint8).view(dtype).reshape(part.shape)


def write(file: BinaryIO, parts: Mapping[str, Part], metadata: Mapping[str, str]) -> None:
    """Writes the tensors, one after the other, so that no more than one of them is copied at a time.

    Raises:
        Invalid: the header would be longer than 100 MB, or a tensor has changed its size.
        OSError: the disk is full.
    """
    header: dict[str, Any] = {METADATA: dict(metadata)}
    at = 0
    # Wide elements first: each begins at a multiple of its size.
    ordered = sorted(parts.items(), key=lambda item: -_BYTES[item[1].dtype])
    for name, part in ordered:
        header[name] = {"dtype": part.dtype, "shape": list(part.shape), "data_offsets": [at, at + part.nbytes]}
        at += part.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGN)
    if len(text) > MOST_HEADER:
        raise Invalid(
            f"what is not tensors takes {len(text)} bytes, more than the {MOST_HEADER} that a file's header may have"
        )
    file.write(struct.pack("<Q", len(text)))
    file.write(text)
    for name, part in ordered:
        data = part.load()
        if len(data) != part.nbytes:
            raise Invalid(f"the tensor {name!r} has {len(data)} bytes; its shape says {part.nbytes}")
        file.write(data)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Part], dict[str, str]]:
    """The tensors of a file by name, whose bytes are read when they are asked for, and its texts.

    Raises:
        Corrupt: the file is not in this format.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    return parse(data, os.fspath(path))


def parse(data: Any, name: str) -> tuple[dict[str, Part], dict[str, str]]:
    """The same of bytes. ``name``: of what they are, for errors.

    Raises:
        Corrupt: they are not in this format.
    """
    size = len(data)
    if size < 8:
        raise Corrupt(f"{name} is no file of tensors: it has {size} bytes")
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(MOST_HEADER, size - 8):
        raise Corrupt(f"{name} is no file of tensors: its header would have {length} bytes")
    try:
        header = json.loads(data[8 : 8 + length].decode())
        metadata = header.pop(METADATA, {}) if isinstance(header, dict) else None
        if not isinstance(metadata, dict):
            raise Corrupt("the header is no object")
        _check(header, metadata, size - 8 - length)
    except (ValueError, RecursionError, Corrupt) as error:
        raise Corrupt(f"{name} is no file of tensors: {error}") from error

    def part(entry: dict[str, Any]) -> Part:
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        return Part(entry["dtype"], tuple(entry["shape"]), lambda: memoryview(data)[begin:end])

    return {name: part(entry) for name, entry in header.items()}, metadata


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _check(header: dict[str, Any], metadata: dict[str, Any], size: int) -> None:
    """Every tensor lies in the file, and no byte belongs to two or to none."""
    if not all(isinstance(value, str) for value in metadata.values()):
        raise Corrupt("its metadata is not of texts")
    ranges = []
    for name, entry in header.items():
        shape, offsets = (entry.get("shape"), entry.get("data_offsets")) if isinstance(entry, dict) else (None, None)
        if (
            not isinstance(shape, list)
            or not isinstance(offsets, list)
            or len(offsets) != 2
            or not all(map(_whole, [*shape, *offsets]))
            or str(entry.get("dtype")) not in _BYTES
        ):
            raise Corrupt(f"the tensor {name!r} is {str(entry)[:200]}")
        if offsets[1] - offsets[0] != math.prod(shape) * _BYTES[entry["dtype"]]:
            raise Corrupt(f"the tensor {name!r} has {offsets[1] - offsets[0]} bytes, which is not what its shape says")
        ranges.append((offsets[0], offsets[1]))
    at = 0
    for begin, end in sorted(ranges):
        if begin != at:
            raise Corrupt(f"its tensors do not follow each other: one ends at {at}, one begins at {begin}")
        at = end
    if at != size:
        raise Corrupt(f"its tensors have {at} bytes, and {size} are there")
