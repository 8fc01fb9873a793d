"""TensorBoard's event files: a folder of them is a run.

Records are framed as TFRecord (length, its checksum, an ``Event``, its checksum). Scalars become points, as the writers of
TensorFlow 1 (``simple_value``), PyTorch and tensorboardX write them, and those of TensorFlow 2 (tensors with the plugin
``scalars``); hyperparameters (``hparams``) the config. A writer that was told to purge (``purge_step``) begins a new life.
"""

from __future__ import annotations

import pathlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from headrace.imported_run import FoundRun
from headrace.protobuf import Value, as_bytes, as_double, as_float, as_int, as_text, fields, signed

MARK = "events.out.tfevents"  # in the name of each event file
_MOST_BYTES = 1 << 30  # of a record: what is longer is damage
_CHECKED_BYTES = 1 << 16


def _crc_table() -> list[int]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return table


_TABLE = _crc_table()


def masked_crc32c(data: bytes) -> int:
    """The checksum of TFRecord and LevelDB: CRC-32C, rotated by 15 bits, plus a constant."""
    crc, table = 0xFFFFFFFF, _TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return (crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF


def records(path: pathlib.Path) -> Iterator[tuple[int, bytes, int]]:
    """Each record's position, its bytes, and the checksum that they should have. What is cut off at the end is left out.

    Raises:
        ValueError: a length does not have its checksum.
    """
    with path.open("rb") as file:
        at = 0
        while len(head := file.read(12)) == 12:
            length, checksum = struct.unpack("<QI", head)
            if masked_crc32c(head[:8]) != checksum or length > _MOST_BYTES:
                raise ValueError(f"{path}: damaged at byte {at}")
            body = file.read(length + 4)
            if len(body) < length + 4:
                return
            yield at, body[:-4], int.from_bytes(body[-4:], "little")
            at += 16 + length


# DataType → how a tensor's bytes hold it.
_TYPES = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "u1",
    5: "<i2",
    6: "i1",
    9: "<i8",
    10: "?",
    17: "<u2",
    19: "<f2",
    22: "<u4",
    23: "<u8",
}
_BFLOAT16, _HALF = 14, 19


def _packed(value: Value, wire: str) -> float:
    """The first of a repeated number: packed, or alone."""
    if wire == "varint":
        if isinstance(value, int):
            return float(signed(value))
        number, shift = 0, 0
        for byte in value:
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        return float(signed(number & 0xFFFFFFFFFFFFFFFF))
    if isinstance(value, int):
        return as_float(value) if wire == "<f" else as_double(value)
    return float(struct.unpack_from(wire, value)[0])


def scalar_of(tensor: bytes) -> float | None:
    """The number of a ``TensorProto`` that holds one; nothing where it holds texts, or more than one."""
    kind, size, content, value = 0, 1, b"", None
    for number, part in fields(tensor):
        if number == 1:
            kind = as_int(part)
        elif number == 2:  # shape: its dimensions, of which each has a size
            for which, dimension in fields(as_bytes(part)):
                if which == 2:
                    size *= next((signed(one) for name, one in fields(as_bytes(dimension)) if name == 1), 0)
        elif number == 4:
            content = as_bytes(part)
        elif number == 5:
            value = _packed(part, "<f")
        elif number == 6:
            value = _packed(part, "<d")
        elif number in (7, 10, 11, 13, 16, 17):
            value = _packed(part, "varint")
    if size != 1 or (kind not in _TYPES and kind != _BFLOAT16):
        return None
    if content:
        if kind == _BFLOAT16:
            return float(np.frombuffer(b"\0\0" + content[:2], "<f4")[0])
        return float(np.frombuffer(content, _TYPES[kind], count=1)[0])
    if value is not None and kind in (_HALF, _BFLOAT16):  # bits, as a whole number
        bits = int(value).to_bytes(2, "little")
        return float(np.frombuffer(bits, "<f2")[0] if kind == _HALF else np.frombuffer(b"\0\0" + bits, "<f4")[0])
    return 0.0 if value is None else value  # zeros are left out


def _plugin(metadata: bytes) -> tuple[str, bytes]:
    for number, part in fields(metadata):
        if number == 1:
            names = dict(fields(as_bytes(part)))
            return as_text(names.get(1, b"")), as_bytes(names.get(2, b""))
    return "", b""


def _struct_value(data: bytes) -> Any:
    """A ``google.protobuf.Value`` of a hyperparameter."""
    for number, part in fields(data):
        if number == 2:
            return as_double(part)
        if number == 3:
            return as_text(part)
        if number == 4:
            return bool(part)
    return None


def _hparams(content: bytes, run: FoundRun) -> None:
    for number, part in fields(content):
        if number == 3:  # session_start_info
            for which, one in fields(as_bytes(part)):
                if which == 1:
                    entry = dict(fields(as_bytes(one)))
                    run.config[as_text(entry.get(1, b""))] = _struct_value(as_bytes(entry.get(2, b"")))
        elif number == 4:  # session_end_info, with a Status: SUCCESS is 1, FAILURE 2
            ended = dict(fields(as_bytes(part)))
            run.state = {1: "finished", 2: "failed"}.get(as_int(ended.get(1, 0)), run.state)
            if 2 in ended:
                run.end = as_double(ended[2])


class _Reader:
    """The events of a run's files into the run."""

    def __init__(self, run: FoundRun) -> None:
        self.run = run
        self.life = 0
        self.any = False  # points, so far
        self.plugins: dict[str, str] = {}  # by tag: only the first value of a tag tells it

    def read(self, path: pathlib.Path) -> None:
        self.plugins = {}
        try:
            for at, record, checksum in records(path):
                # The checksum of large pictures, which are passed over, is not worth its time.
                if len(record) < _CHECKED_BYTES and masked_crc32c(record) != checksum:
                    raise ValueError(f"{path}: damaged at byte {at}")
                for point in self.event(record):
                    self.run.point(*point, life=self.life)
                    self.any = True
        except (ValueError, TypeError, struct.error) as error:
            self.run.complaints.append(f"{error}; the rest of the file is left out")

    def event(self, record: bytes) -> list[tuple[str, int, float, float]]:
        """The points of an event; what else it tells goes into the run."""
        time, step, summary = 0.0, 0, b""
        for number, part in fields(record):
            if number == 1:
                time = as_double(part)
            elif number == 2:
                step = signed(part)
            elif number == 5:
                summary = as_bytes(part)
            elif number == 7 and dict(fields(as_bytes(part))).get(1) == 1 and self.any:  # SessionLog.START
                self.life += 1
        if self.run.begin is None or time < self.run.begin:
            self.run.begin = time
        points = []
        for number, part in fields(summary):
            if number == 1:
                value = self.value(as_bytes(part))
                if value is not None:
                    points.append((value[0], step, time, value[1]))
        return points

    def value(self, data: bytes) -> tuple[str, float] | None:
        tag, found, tensor = "", None, None
        plugin, content, kind = "", b"", ""
        for number, part in fields(data):
            if number == 1:
                tag = as_text(part)
            elif number == 2:
                found = as_float(part)
            elif number == 8:
                tensor = as_bytes(part)
            elif number == 9:
                plugin, content = _plugin(as_bytes(part))
            elif number in (3, 4, 5, 6):
                kind = {3: "histograms", 4: "images", 5: "histograms", 6: "audio"}[number]
        if plugin:
            self.plugins[tag] = plugin
        plugin = self.plugins.get(tag, "")
        if plugin == "hparams":
            _hparams(content, self.run)
            return None
        if found is None and tensor is not None and plugin in ("scalars", ""):
            found = scalar_of(tensor)
        if found is None:
            self.run.passed_over[kind or plugin or "tensors"] += 1
            return None
        return tag, found


def find(path: pathlib.Path) -> Iterator[FoundRun]:
    """The runs below a folder, one for each folder that holds event files; or that of one event file."""
    top = path if path.is_dir() else path.parent
    folders: dict[pathlib.Path, list[pathlib.Path]] = {}
    for file in sorted(path.rglob(f"*{MARK}*")) if path.is_dir() else [path]:
        if file.is_file():
            folders.setdefault(file.parent, []).append(file)
    for folder, files in folders.items():
        name = str(folder.relative_to(top)) if folder != top else folder.resolve().name
        # Names of event files hold the time, the host and the process: they are the run's wherever its folder lies.
        origin = f"{folder.resolve().name}/{files[0].name}"
        run = FoundRun("tensorboard", origin=origin, name=name, project=top.resolve().name)
        reader = _Reader(run)
        for file in files:
            reader.read(file)
        yield run
