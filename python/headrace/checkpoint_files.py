"""Checkpoints of runs: what one consists of, which the run keeps, and how they are read.

A checkpoint is committed by one row of its run, whose ``outputs`` name its manifest by hash; the manifest names the files. They lie
below ``checkpoints/<run>/``, belong to that run alone, and go once no checkpoint that it keeps names them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import mmap
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headrace import safetensors_file
from headrace.errors import Corrupt, Invalid, NotFound, Unsupported
from headrace.state_tree import Decoder, Encoder

if TYPE_CHECKING:
    from headrace.catalog import Catalog

KIND = "checkpoint"
FORMAT = 1
STATE = "headrace.state"  # the key of a file's metadata under which its states are

MODEL, TRAINING = "model.safetensors", "training.safetensors"


def of_rank(rank: int) -> str:
    """The name of the file that has a rank's own states."""
    return f"rank-{rank}.safetensors"


@dataclasses.dataclass(frozen=True)
class File:
    """One file of a checkpoint."""

    name: str
    sha256: str
    bytes: int


class Checkpoint:
    """A checkpoint that a run keeps: ``ckpt.last``, ``ckpt.best``, ``catalog.checkpoints(run)``.

    ``run``: its id; ``step``: the last one that was done; ``metrics``: what was said of it; ``bytes`` of all files; ``time``: when it was
    written, microseconds since 1970; ``world``: how many ranks wrote it."""

    def __init__(self, catalog: Catalog, run: str, entry: Mapping[str, Any]) -> None:
        self._catalog = catalog
        self.entry = dict(entry)
        self.run = run
        self.step = int(entry["step"])
        self.metrics: dict[str, Any] = dict(entry.get("metrics") or {})
        self.bytes = int(entry["bytes"])
        self.time = int(entry.get("time") or 0)
        self.world = int(entry.get("world") or 1)
        self._files: dict[str, File] | None = None

    @property
    def files(self) -> dict[str, File]:
        """Its files by name: ``model.safetensors``, ``training.safetensors`` and one of each rank.

        Raises:
            NotFound: the run does not keep it any more.
            Corrupt: its manifest is damaged.
            Unsupported: a newer version wrote it.
            Unavailable: the store cannot be reached.
        """
        if self._files is None:
            text = self._content(str(self.entry["sha256"]))[:].decode(errors="replace")
            self._files = files_of(text, self.run, self.step)
        return self._files

    def fetch(self, name: str, to: str | os.PathLike[str]) -> pathlib.Path:
        """Writes one of its files to ``to``: ``checkpoint.fetch("model.safetensors", "best.safetensors")``.

        Raises:
            NotFound: it has no such file, or the run does not keep it any more.
            Corrupt: the store holds other bytes than the hash says; nothing was written.
            Unavailable: the store cannot be reached, or the disk is full.
        """
        found = self.files.get(name)
        if found is None:
            raise NotFound(f"{self!r} has no file {name!r}; it has {', '.join(self.files)}")
        self._fetch(found.sha256, pathlib.Path(to))
        return pathlib.Path(to)

    def states(self, *names: str) -> dict[str, Any]:
        """The states in some of its files (default: all of rank 0), by name: ``{"model": …, "optimizer": …}``. Tensors are on the CPU.

        Raises:
            NotFound: it has no such file, or the run does not keep it any more.
            Corrupt: the store holds other bytes than the hash says, or they are no states.
            Unavailable: the store cannot be reached, or the disk is full.
        """
        found: dict[str, Any] = {}
        for name in names or (MODEL, TRAINING, of_rank(0)):
            if names or name in self.files:
                found.update(self._states_in(name))
        return found

    def load(self, **objects: Any) -> None:
        """Takes states over into objects, ``checkpoint.load(model=model)``, and nothing else: to evaluate a checkpoint, or to begin
        another run with it.

        Raises:
            Invalid: the checkpoint has no such state, or it does not fit the object.
            NotFound, Corrupt, Unavailable: as ``fetch``.
        """
        from headrace import state_holders

        states = self.states()
        for name, target in objects.items():
            if name not in states:
                raise Invalid(f"{self!r} has no state of {name!r}; it has {', '.join(states)}")
            state_holders.load(target, states[name], name, repr(self))

    def _states_in(self, name: str) -> dict[str, Any]:
        found = self.files.get(name)
        if found is None:
            raise NotFound(f"{self!r} has no file {name!r}; it has {', '.join(self.files)}")
        parts, metadata = safetensors_file.parse(self._content(found.sha256), f"{name} of {self!r}")
        if STATE not in metadata:
            raise Corrupt(f"{name} of {self!r} holds no states")
        try:
            structure = json.loads(metadata[STATE])
        except (ValueError, RecursionError) as error:
            raise Corrupt(f"{name} of {self!r}: {error}") from error
        states = Decoder(parts).decode(structure)
        if not isinstance(states, dict):
            raise Corrupt(f"{name} of {self!r} holds no states by name")
        return states

    def _content(self, sha256: str) -> Any:
        """The bytes of an object of the run. In a folder of this machine they are read where they lie, so that nothing is left over of a
        process that is killed meanwhile."""
        where = place(self._catalog)
        path = pathlib.Path(where or "") / "checkpoints" / _encoded(self.run) / sha256
        if where is None or not path.is_file() or not path.stat().st_size:
            with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
                path = pathlib.Path(folder) / "object"
                self._fetch(sha256, path)
                return _mapped(path)
        data = _mapped(path)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Corrupt(f"{path} has other bytes than its name says")
        return data

    def _fetch(self, sha256: str, to: pathlib.Path) -> None:
        try:
            self._catalog._native.fetch_checkpoint_file(self.run, sha256, os.fspath(to))
        except NotFound as error:
            raise NotFound(f"{self!r} is not kept any more: {error}") from error

    def __repr__(self) -> str:
        return f"<hr.Checkpoint of run {self.run}: step {self.step}, {self.bytes} bytes>"


def _encoded(run: str) -> str:
    """As keys have it (table/keys.h)."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else f"%{ord(c):02X}" for c in run)


def _mapped(path: pathlib.Path) -> Any:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""


def place(catalog: Catalog) -> str | None:
    """Where files are written for a moment: beside the catalog where that is a folder, since whatever is kept must fit there anyway."""
    location = catalog.location
    return location if "://" not in location and os.path.isdir(location) and os.access(location, os.W_OK) else None


def write(file: Any, states: Mapping[str, Any], of: Mapping[str, str]) -> None:
    """Writes states by name. Those of a model alone have the tensors' own names, so that others read it, too.

    Raises:
        Invalid, Unsupported: a state is none that a checkpoint holds.
        OSError: the disk is full.
    """
    encoder = Encoder()
    if list(states) == ["model"]:
        structure = {"model": encoder.encode(states["model"], "")}
    else:
        structure = {name: encoder.encode(state, name) for name, state in states.items()}
    metadata = {"format": "pt", STATE: json.dumps(structure, ensure_ascii=False, separators=(",", ":")), **of}
    safetensors_file.write(file, encoder.parts, metadata)


def manifest(run: str, step: int, world: int, files: Sequence[File]) -> str:
    """What a checkpoint consists of, as JSON."""
    return json.dumps(
        {
            "format": FORMAT,
            "run": run,
            "step": step,
            "world": world,
            "files": [dataclasses.asdict(file) for file in files],
        },
        ensure_ascii=False,
        indent=1,
    )


def files_of(text: str, run: str, step: int) -> dict[str, File]:
    """The files that a manifest names.

    Raises:
        Corrupt: it is none.
        Unsupported: a newer version wrote it.
    """
    try:
        read = json.loads(text)
        if read["format"] > FORMAT:
            raise Unsupported(
                f"the checkpoint of step {step} of run {run} has format {read['format']}; this version reads {FORMAT}"
            )
        files = [File(str(one["name"]), str(one["sha256"]), int(one["bytes"])) for one in read["files"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Corrupt(f"the manifest of the checkpoint of step {step} of run {run} cannot be read: {error}") from error
    return {file.name: file for file in files}


def kept(catalog: Catalog, run: str) -> list[dict[str, Any]]:
    """What the run's rows say of the checkpoints that it keeps, in the order in which they were written. The row with the newest one
    says it, not the newest row: another process of the run may tell again what it once knew. Of two lives that wrote at once, as where
    a machine was taken for dead, the later one's counts."""
    if "hr.runs" not in catalog.tables():
        return []
    rows = catalog.sql("select life, state, outputs from hr.runs where id = ? order by time", [run]).to_pylist()
    owned = {row["life"] for row in rows if row["state"] is not None}  # only owners tell a state
    found: list[dict[str, Any]] = []
    newest = (0, 0)
    for row in rows:
        told = list(_checkpoints(row["outputs"]))
        if told and (at := (row["life"] or 0 if row["life"] in owned else 0, _newest(told))) >= newest:
            found, newest = told, at
    return found


def last_life(catalog: Catalog, run: str) -> int:
    """The number of the last life that an owner of the run began; 0 where nothing is known of it."""
    if "hr.runs" not in catalog.tables():
        return 0
    query = "select max(life) as life from hr.runs where id = ? and state is not null"
    return catalog.sql(query, [run]).to_pylist()[0]["life"] or 0


def _newest(entries: Sequence[Mapping[str, Any]]) -> int:
    return max((int(entry.get("time") or 0) for entry in entries), default=0)


def _checkpoints(outputs: Any) -> Iterator[dict[str, Any]]:
    for output in outputs if isinstance(outputs, list) else ():
        if isinstance(output, dict) and output.get("kind") == KIND:
            yield output


def best_of(entries: Sequence[Mapping[str, Any]], metric: str, mode: str) -> Mapping[str, Any] | None:
    """The entry with the best finite value; of equal ones the first."""
    best: Mapping[str, Any] | None = None
    for entry in entries:
        value = (entry.get("metrics") or {}).get(metric)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            continue
        if best is None or (value < best["metrics"][metric] if mode == "min" else value > best["metrics"][metric]):
            best = entry
    return best
