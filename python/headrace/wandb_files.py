"""W&B's offline folders: ``wandb/offline-run-…/run-ID.wandb``; files of one id are the lives of one run.

A file is a header (``:W&B``, 0xBEE1, version 0) and a log as LevelDB frames it: blocks of 32 KiB of chunks, each with a
checksum, a length and a kind (whole, first, middle, last). Records are protocol buffers, their values JSON.
"""

from __future__ import annotations

import pathlib
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from headrace.imported_run import FoundRun, number_of, value_of
from headrace.protobuf import Value, as_bytes, as_text, fields, seconds_of, signed

_BLOCK, _CHUNK_HEAD = 32768, 7
_HEAD = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(path: pathlib.Path) -> Iterator[bytes]:
    """The records of a file. What is cut off at the end is left out.

    Raises:
        ValueError: it is no such file, or a chunk does not have its checksum.
    """
    data = path.read_bytes()
    if data[: len(_HEAD)] != _HEAD:
        raise ValueError(f"{path} is no file of W&B's that can be read here")
    at, record = len(_HEAD), b""
    while at + _CHUNK_HEAD <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _CHUNK_HEAD:
            at += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, at)
        if kind == 0 and length == 0:  # room that was set aside, or the rest of a block
            at += left
            continue
        chunk = data[at + _CHUNK_HEAD : at + _CHUNK_HEAD + length]
        if len(chunk) < length:
            return
        if zlib.crc32(bytes([kind]) + chunk) != checksum or kind > _LAST:
            raise ValueError(f"{path}: damaged at byte {at}")
        record = chunk if kind in (_WHOLE, _FIRST) else record + chunk
        if kind in (_WHOLE, _LAST):
            yield record
        at += _CHUNK_HEAD + length


def _items(data: bytes, field: int) -> Iterator[tuple[str, Any]]:
    """The items of a message such as ``HistoryRecord``: (key, JSON value). Parts of a nested key are joined by dots."""
    for number, part in fields(data):
        if number != field:
            continue
        keys: list[str] = []
        text = ""
        for which, value in fields(as_bytes(part)):
            if which in (1, 2):
                keys.append(as_text(value))
            elif which == 16:
                text = as_text(value)
        yield ".".join(key for key in keys if key), value_of(text)


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Nested numbers under keys with dots, as W&B shows them; what has a ``_type`` is one value."""
    if isinstance(value, dict) and "_type" not in value:
        for name, part in value.items():
            yield from _flat(f"{key}.{name}", part)
    else:
        yield key, value


class _Reader:
    """The records of a run's files into the run."""

    def __init__(self, run: FoundRun) -> None:
        self.run = run
        self.life = -1

    def read(self, path: pathlib.Path) -> None:
        self.life += 1
        try:
            for record in records(path):
                for number, part in fields(record):
                    self.record(number, part)
        except ValueError as error:
            self.run.complaints.append(f"{error}; the rest of the file is left out")

    def record(self, number: int, part: Value) -> None:
        if number == 2:
            self.history(as_bytes(part))
        elif number == 3:
            for key, value in _items(as_bytes(part), 1):
                if not key.startswith("_"):
                    self.run.summary[key] = value
        elif number == 5:
            self.config(as_bytes(part))
        elif number == 7:
            self.stats(as_bytes(part))
        elif number == 17:
            self.about(as_bytes(part))
        elif number == 18:
            code = next((signed(value) for which, value in fields(as_bytes(part)) if which == 1), 0)
            self.run.state = "finished" if code == 0 else "failed"

    def history(self, data: bytes) -> None:
        items = dict(_items(data, 1))
        step = items.get("_step")
        for number, part in fields(data):
            if number == 2:
                step = next((signed(value) for which, value in fields(as_bytes(part)) if which == 1), 0)
        seconds = number_of(items.get("_timestamp"))
        # Pictures, histograms and the like have several items, of which one tells what they are.
        media = {key.removesuffix("._type") + ".": str(value) for key, value in items.items() if key.endswith("._type")}
        self.run.passed_over.update(media.values())
        for key, whole in items.items():
            if key.startswith("_") or key.startswith(tuple(media)):
                continue
            for name, value in _flat(key, whole):
                number_ = number_of(value)
                if number_ is None:
                    kind = value.get("_type", "values") if isinstance(value, dict) else type(value).__name__
                    self.run.passed_over[str(kind)] += 1
                else:
                    self.run.point(name, int(step or 0), seconds or 0.0, number_, self.life)
        if seconds is not None:
            self.run.end = max(self.run.end or 0.0, seconds)

    def stats(self, data: bytes) -> None:
        """System metrics, at whole seconds since the run began."""
        seconds = next((seconds_of(part) for number, part in fields(data) if number == 2), 0.0)
        begin = self.run.begin if self.run.begin is not None else seconds
        for key, value in _items(data, 3):
            number = number_of(value)
            if number is not None:
                self.run.point(f"sys/{key}", int(seconds - begin), seconds, number, self.life)

    def config(self, data: bytes) -> None:
        for key, value in _items(data, 1):
            if key and not key.startswith("_"):
                self.run.config[key] = value

    def about(self, data: bytes) -> None:
        """A ``RunRecord``. Later ones of a file tell what changed, and may leave out the rest."""
        run = self.run
        for number, part in fields(data):
            if number == 3:
                run.project = as_text(part)
            elif number == 4:
                self.config(as_bytes(part))
            elif number == 8:
                run.name = as_text(part)
            elif number == 9:
                run.notes = as_text(part)
            elif number == 10 and as_text(part) not in run.tags:
                run.tags.append(as_text(part))
            elif number == 13:
                run.host = as_text(part)
            elif number == 17 and run.begin is None:
                run.begin = seconds_of(part)
            elif number == 21:
                run.commit = next((as_text(value) for which, value in fields(as_bytes(part)) if which == 2), "")


def _id_of(path: pathlib.Path) -> str:
    return path.stem.removeprefix("run-")


def find(path: pathlib.Path) -> Iterator[FoundRun]:
    """The runs of a file, or of all that lie below a folder."""
    files = sorted(path.rglob("run-*.wandb")) if path.is_dir() else [path]
    lives: dict[str, list[pathlib.Path]] = {}
    for file in files:
        if file.is_file() and not file.parent.is_symlink():  # "latest-run" is a link to one of them
            lives.setdefault(_id_of(file), []).append(file)
    for origin, of_run in lives.items():
        run = FoundRun("wandb", origin=origin, name=origin)
        reader = _Reader(run)
        for file in of_run:
            reader.read(file)
        yield run
