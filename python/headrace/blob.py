"""Media bytes and their facts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from headrace import _native, display, process
from headrace.hints import Hinted


def decode_image(data: bytes, *, upright: bool = True) -> npt.NDArray[np.uint8]:
    """Decodes JPEG, PNG or WebP bytes to an array of shape (height, width, 3), RGB, uint8.

    ``upright`` applies the EXIF orientation.

    Raises:
        Unsupported: the bytes are none of these formats.
        Corrupt: they are cut off or damaged.
        LimitExceeded: the header claims more pixels than may be decoded.
    """
    return _native.decode_image(data, upright)


class Blob(Hinted):
    """A cell of a blob column: facts at once, bytes when asked for (``bytes(blob)`` or ``blob.read()``)."""

    _elsewhere: ClassVar[dict[str, str]] = {
        "shape": "blob.height and blob.width; blob.decode() is the picture's array",
        "size": "len(blob) is its bytes, blob.width and blob.height its pixels",
        "show": "a notebook shows the cell itself; PIL.Image.fromarray(blob.decode()).show() elsewhere",
        "bytes": "bytes(blob) or blob.read()",
        "data": "bytes(blob) or blob.read()",
    }

    def __init__(
        self, facts: Mapping[str, Any], read: Callable[[], bytes | None], address: tuple[str, str, int]
    ) -> None:
        self._facts = facts
        self._read = read
        self._address = address
        self._pid = os.getpid()

    @property
    def media_type(self) -> str | None:
        """For example ``image/jpeg``; None if unknown."""
        media_type: str | None = self._facts["media_type"]
        return media_type

    @property
    def width(self) -> int | None:
        """Pixels, as displayed: after the EXIF orientation is applied."""
        width: int | None = self._facts["width"]
        return width

    @property
    def height(self) -> int | None:
        """Pixels, as displayed: after the EXIF orientation is applied."""
        height: int | None = self._facts["height"]
        return height

    def __len__(self) -> int:
        return int(self._facts["length"] or 0)

    def read(self) -> bytes:
        """The bytes, checked against their checksum.

        Raises:
            Corrupt: the bytes do not match their checksum.
            Unavailable: the store cannot be reached.
        """
        if os.getpid() != self._pid:
            self._read, self._pid = _reader(self._facts, self._address), os.getpid()
        return self._read() or b""

    def __bytes__(self) -> bytes:
        return self.read()

    def decode(self, *, upright: bool = True) -> npt.NDArray[np.uint8]:
        """The picture as an array of shape (height, width, 3), RGB, uint8. See ``decode_image``.

        Raises:
            Corrupt: the picture is damaged or cut off.
            Unsupported: its format is none of JPEG, PNG and WebP.
            LimitExceeded: it claims more pixels than may be decoded.
        """
        return decode_image(self.read(), upright=upright)

    def _repr_png_(self) -> bytes | None:
        return display.thumbnail(self, display.PICTURE)

    def __reduce__(self) -> Any:
        return _at, (dict(self._facts), self._address)

    def __repr__(self) -> str:
        size = f"{self.width}×{self.height} " if self.width else ""
        return f"<Blob {self.media_type or 'bytes'} {size}{len(self)} bytes>"


def _reader(facts: Mapping[str, Any], address: tuple[str, str, int]) -> Callable[[], bytes | None]:
    return lambda: _native.read_blob(process.view(address), dict(facts))


def _at(facts: dict[str, Any], address: tuple[str, str, int]) -> Blob:
    return Blob(facts, _reader(facts, address), address)
