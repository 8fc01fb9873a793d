"""What notebooks show: tables of bounded size with small pictures, as HTML and PNG."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.errors import HeadraceError

ROWS = 10
COLUMNS = 20
TEXT = 120  # characters of a cell
NUMBERS = 4  # of an array
THUMBNAIL = 96  # pixels of the longer side
PICTURE = 512
MOST_PIXELS = 64_000_000  # of a picture that is decoded to be shown
PNG_CHANNELS_RGB, PNG_BITS = 2, 8


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """An array (height, width, 3) as a PNG file (RFC 2083)."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = np.zeros((height, 1 + width * 3), np.uint8)  # each begins with its filter: none
    lines[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, PNG_BITS, PNG_CHANNELS_RGB, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines.tobytes(), 6))
        + chunk(b"IEND", b"")
    )


def shrunk(pixels: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """The picture with at most `side` pixels on its longer side, by means of whole blocks."""
    height, width, channels = pixels.shape
    block = -(-max(height, width) // side)
    rows, columns = min(block, height), min(block, width)
    pixels = pixels[: height // rows * rows, : width // columns * columns]
    blocks = pixels.reshape(height // rows, rows, width // columns, columns, channels)
    return np.asarray(blocks.mean((1, 3)).round(), dtype=np.uint8)


def thumbnail(blob: Any, side: int) -> bytes | None:
    """A picture's PNG; None where it is none, or cannot be shown."""
    if not (blob.media_type or "").startswith("image/") or (blob.width or 0) * (blob.height or 0) > MOST_PIXELS:
        return None
    try:
        return png(shrunk(blob.decode(), side))
    except (HeadraceError, OSError):
        return None  # the cell's text says what it is; reading it says what is wrong


def cell(value: Any) -> str:
    """A cell as HTML."""
    if hasattr(value, "media_type"):
        small = thumbnail(value, THUMBNAIL)
        if small is not None:
            data = base64.b64encode(small).decode()
            return f'<img src="data:image/png;base64,{data}" title="{html.escape(repr(value), quote=True)}">'
    if isinstance(value, np.ndarray) and value.size > NUMBERS:
        few = ", ".join(str(number) for number in value.reshape(-1)[:NUMBERS])
        return html.escape(f"{value.dtype} {value.shape} [{few}, …]")
    if value is None:
        return "<i>null</i>"
    text = value if isinstance(value, str) else repr(value) if isinstance(value, (bytes, list, dict)) else str(value)
    return html.escape(text if len(text) <= TEXT else text[: TEXT - 1] + "…")


def table(caption: str, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]], more: int = 0) -> str:
    """Rows as an HTML table: `columns` are names and types (which may be ""), `more` the rows that are not among them."""
    names = list(columns)[:COLUMNS]
    head = "".join(_head(name, columns[name]) for name in names)
    if len(columns) > COLUMNS:
        head += f"<th>… {len(columns) - COLUMNS:,} more columns</th>"
    body = "".join("<tr>" + "".join(f"<td>{cell(row[name])}</td>" for name in names) + "</tr>" for row in rows)
    if more > 0:
        body += f'<tr><td colspan="{max(len(names), 1)}">… {more:,} more rows</td></tr>'
    return (
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _head(name: str, kind: str) -> str:
    return f"<th>{html.escape(name)}" + (f"<br><small>{html.escape(kind)}</small>" if kind else "") + "</th>"


def row(values: Mapping[str, Any]) -> str:
    """One row as an HTML table with a line for each column."""
    names: Sequence[str] = list(values)[:COLUMNS]
    lines = "".join(f"<tr><th>{html.escape(name)}</th><td>{cell(values[name])}</td></tr>" for name in names)
    if len(values) > COLUMNS:
        lines += f"<tr><th>… {len(values) - COLUMNS:,} more columns</th></tr>"
    return f"<table><tbody>{lines}</tbody></table>"
