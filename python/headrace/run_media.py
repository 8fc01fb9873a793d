"""What a run keeps beside numbers: pictures, sounds, histograms, tables, texts. Each is a row of ``hr.media``."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import mimetypes
import os
import pathlib
import sys
import wave
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace import _native, display, run_values
from headrace.blob import Blob
from headrace.errors import Invalid
from headrace.rows import Reader, to_native

MOST_NUMBERS = 65_536  # of an array of integers
MOST_TABLE_ROWS = 10_000  # of a table that is logged; more belong into a table of the catalog
_INTEGERS = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
GREY, RGB, RGBA = 1, 3, 4  # channels of a picture


@dataclasses.dataclass(frozen=True)
class Histogram:
    """How values are spread: ``counts[i]`` of them lie between ``edges[i]`` and ``edges[i + 1]``, the last edge included; ``nans``
    are in no bin, nor are infinities.

    ``hr.Histogram(weights)`` counts any array or tensor into 64 bins of equal width."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    nans: int = 0

    def __init__(self, values: Any, bins: int = 64, *, edges: Sequence[float] | None = None) -> None:
        if edges is not None:
            counts = tuple(int(count) for count in values)
            if len(edges) != len(counts) + 1:
                raise Invalid(f"{len(counts)} counts have {len(counts) + 1} edges, not {len(edges)}")
            self._set(tuple(float(edge) for edge in edges), counts, 0)
            return
        flat = _array(values).reshape(-1).astype(np.float64)
        finite = flat[np.isfinite(flat)]
        counted, found = np.histogram(finite, bins=bins)
        self._set(tuple(found.tolist()), tuple(counted.tolist()), int(np.isnan(flat).sum()))

    def _set(self, edges: tuple[float, ...], counts: tuple[int, ...], nans: int) -> None:
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "nans", nans)


@dataclasses.dataclass(frozen=True)
class Image:
    """A picture to log, with a caption: an array of shape (height, width), (height, width, 1 | 3 | 4) or (3, height, width) of
    uint8, or of floats from 0 to 1; a tensor, a Pillow picture, a ``Blob``, a file's path or bytes."""

    data: Any
    caption: str | None = None


@dataclasses.dataclass(frozen=True)
class Audio:
    """A sound to log: samples from -1 to 1 of shape (n,) or (n, channels), ``rate`` of them a second; or a file's path or bytes."""

    data: Any
    rate: int = 16_000
    caption: str | None = None


@dataclasses.dataclass(frozen=True)
class Item:
    """A row of ``hr.media`` on its way."""

    kind: str
    format: str
    data: bytes = b""
    caption: str | None = None
    text: str | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    width: int | None = None
    height: int | None = None

    def row(self) -> dict[str, Any]:
        """Its columns, but for the bytes and for where it belongs."""
        row: dict[str, Any] = {"kind": self.kind, "format": self.format}
        for name in ("caption", "text", "width", "height"):
            if (value := getattr(self, name)) is not None:
                row[name] = value
        if self.facts:
            row["facts"] = dict(self.facts)
        if self.data:
            row["sha256"] = hashlib.sha256(self.data).hexdigest()
        return row


def _array(values: Any) -> npt.NDArray[Any]:
    if hasattr(values, "detach"):  # a tensor, wherever it lies
        values = values.detach()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
        return np.asarray(values.cpu().numpy())
    return np.asarray(values)


def _is_picture(value: Any) -> bool:
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(value, pillow.Image):
        return True
    if not hasattr(value, "__array__") and not hasattr(value, "detach"):
        return False
    shape, kind = tuple(getattr(value, "shape", ())), str(getattr(value, "dtype", ""))
    if not kind.endswith("uint8"):
        return False
    return len(shape) == 2 or (len(shape) == 3 and (shape[2] in (GREY, RGB, RGBA) or shape[0] in (GREY, RGB)))


def _pixels(values: Any) -> npt.NDArray[np.uint8]:
    array = _array(values)
    if array.ndim == 3 and array.shape[0] in (GREY, RGB) and array.shape[2] not in (GREY, RGB, RGBA):
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (GREY, RGB, RGBA) or 0 in array.shape:
        raise Invalid(
            f"an array of shape {tuple(_array(values).shape)} is no picture: (height, width), (height, width, 3) or (3, height, width)"
        )
    if array.dtype.kind == "f":
        array = np.clip(np.nan_to_num(array), 0, 1) * 255 + 0.5
    elif array.dtype.kind == "b":
        array = array * 255
    elif array.dtype != np.uint8:
        raise Invalid(f"a picture of {array.dtype}: give uint8, or floats from 0 to 1")
    array = array.astype(np.uint8)
    if array.shape[2] == RGBA:  # on white
        alpha = array[:, :, 3:].astype(np.float32) / 255
        array = (array[:, :, :3] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _bytes_of(data: Any) -> bytes | None:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    if isinstance(data, Blob):
        return data.read() or b""
    if isinstance(data, (str, os.PathLike)):
        return pathlib.Path(data).read_bytes()
    return None


def _picture(data: Any, caption: str | None) -> Item:
    encoded = _bytes_of(data)
    if encoded is not None:
        kind, width, height = _native.probe_image(encoded)
        return Item("image", kind, encoded, caption, width=width, height=height)
    if hasattr(data, "save") and hasattr(data, "mode"):  # Pillow's
        out = io.BytesIO()
        data.save(out, "PNG")
        return Item("image", "image/png", out.getvalue(), caption, width=data.width, height=data.height)
    pixels = _pixels(data)
    return Item("image", "image/png", display.png(pixels), caption, width=pixels.shape[1], height=pixels.shape[0])


def _sound(sound: Audio) -> Item:
    encoded = _bytes_of(sound.data)
    if encoded is not None:
        name = os.fspath(sound.data) if isinstance(sound.data, (str, os.PathLike)) else ""
        return Item("audio", mimetypes.guess_type(name)[0] or "application/octet-stream", encoded, sound.caption)
    samples = _array(sound.data).astype(np.float64)
    if samples.ndim == 1:
        samples = samples[:, None]
    if samples.ndim != 2:
        raise Invalid(f"samples of shape {samples.shape} are no sound: (n,) or (n, channels)")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        file.writeframes((np.clip(np.nan_to_num(samples), -1, 1) * 32767).round().astype("<i2").tobytes())
    facts = {"rate": sound.rate, "channels": samples.shape[1], "seconds": samples.shape[0] / sound.rate}
    return Item("audio", "audio/wav", out.getvalue(), sound.caption, facts=facts)


def _table(rows: Any) -> Item:
    listed: list[list[Any]] = []
    reader = Reader(to_native(rows))
    for row in reader:
        if len(listed) == MOST_TABLE_ROWS:
            raise Invalid(
                f"a table of more than {MOST_TABLE_ROWS:,} rows is logged; append it to a table of the catalog, and run.use() that"
            )
        listed.append([run_values.as_json(value, name) for name, value in row.items()])
    text = json.dumps({"columns": list(reader.columns), "rows": listed}, ensure_ascii=False)
    return Item("table", "application/json", text=text, facts={"rows": len(listed), "columns": list(reader.columns)})


def _is_numbers(value: Any) -> bool:
    """Whether it is an array of integers of one dimension, such as the ids of a batch's rows."""
    if not hasattr(value, "__array__") and not hasattr(value, "detach"):
        return False
    shape, kind = tuple(getattr(value, "shape", ())), str(getattr(value, "dtype", "")).removeprefix("torch.")
    return len(shape) == 1 and shape[0] <= MOST_NUMBERS and kind in _INTEGERS


def _is_table(value: Any) -> bool:
    if hasattr(value, "__arrow_c_stream__") or type(value).__name__ == "DataFrame":
        return True
    return isinstance(value, Sequence) and bool(value) and all(isinstance(row, Mapping) for row in value)


def items(value: Any) -> Iterator[Item] | None:
    """What a value becomes; None if it is none of these."""
    if isinstance(value, (list, tuple)) and value and not _is_table(value):
        parts = [items(part) for part in value]
        if any(part is None for part in parts):
            return None
        return (item for part in parts if part is not None for item in part)
    found = _one(value)
    return None if found is None else iter([found])


def _one(value: Any) -> Item | None:
    if isinstance(value, Image):
        return _picture(value.data, value.caption)
    if isinstance(value, Audio):
        return _sound(value)
    if isinstance(value, Histogram):
        facts = {
            "edges": [edge if math.isfinite(edge) else str(edge) for edge in value.edges],
            "counts": list(value.counts),
        }
        return Item("histogram", "application/json", facts=facts | ({"nans": value.nans} if value.nans else {}))
    if isinstance(value, str):
        return Item("text", "text/plain", text=value)
    if isinstance(value, Blob) or _is_picture(value):
        return _picture(value, None)
    if _is_numbers(value):
        return Item(
            "array", "application/json", text=json.dumps(_array(value).tolist()), facts={"length": int(value.shape[0])}
        )
    if _is_table(value):
        return _table(value)
    return None
