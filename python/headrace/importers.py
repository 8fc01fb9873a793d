"""Runs of other trackers, as runs of ours: TensorBoard's event files, W&B's offline folders, MLflow's SQLite database.

    for run in importers.import_runs("wandb"):
        print(run.name, run.points)

``python -m headrace.importers PATH`` does the same. Nothing of the trackers is needed to read what they wrote.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from headrace import _native, mlflow_database, run_identity, run_values, runs, tensorboard_files, wandb_files
from headrace.catalog import Catalog
from headrace.errors import HeadraceError, Invalid, NotFound
from headrace.imported_run import FoundRun, Series

_RUNS_A_COMMIT = 50
_UNTOLD = "imported; nothing tells how it ended"


@dataclasses.dataclass(frozen=True)
class Imported:
    """What became of one run of another tracker's."""

    id: str  # of our run
    name: str
    tracker: str  # "tensorboard", "wandb" or "mlflow"
    points: int
    new: bool  # False: it had been imported before, and was left as it is
    passed_over: Mapping[str, int]  # kinds of values that are not imported, such as images, and how many
    complaints: tuple[str, ...]  # what could not be read, and where


def find(path: str | os.PathLike[str]) -> Iterator[FoundRun]:
    """The runs at a path, one at a time: of a file, or of all files of the three trackers below a folder.

    Raises:
        NotFound: there is no such path.
        Invalid: it is a file of none of them, or a database that is not MLflow's.
    """
    place = pathlib.Path(path)
    try:
        yield from _find(place)
    except OSError as error:
        raise NotFound(f"cannot read {place}: {error.strerror or error}") from error
    except ValueError as error:
        raise Invalid(str(error)) from error


def _find(place: pathlib.Path) -> Iterator[FoundRun]:
    if place.is_dir():
        yield from tensorboard_files.find(place)
        yield from wandb_files.find(place)
        for file in sorted(place.rglob("mlflow.db")):
            yield from mlflow_database.find(file)
        return
    with place.open("rb") as opened:
        head = opened.read(len(mlflow_database.MAGIC))
    if head == mlflow_database.MAGIC:
        yield from mlflow_database.find(place)
    elif place.suffix == ".wandb":
        yield from wandb_files.find(place)
    elif tensorboard_files.MARK in place.name:
        yield from tensorboard_files.find(place)
    else:
        raise ValueError(f"{place} is no event file of TensorBoard, no .wandb file of W&B and no database of MLflow")


def import_runs(
    path: str | os.PathLike[str], *, catalog: Catalog | str | os.PathLike[str] | None = None
) -> Iterator[Imported]:
    """Imports the runs at a path, and tells of each as it is done: stop asking, and the rest is not imported.

    ``path``: a file or a folder, as ``find`` takes it. ``catalog``: as ``hr.run`` takes it. A run that was imported before is
    left as it is; one whose import was cut off is imported again.

    Raises:
        NotFound: there is no such path.
        Invalid: it is a file of no tracker that is known.
    """
    where = catalog if isinstance(catalog, Catalog) else runs._open_or_make(catalog)
    known = _imported(where)
    waiting = 0
    writer = None
    try:
        for found in find(path):
            identity = _id(found.tracker, found.origin)
            new = identity not in known
            if new:
                known.add(identity)
                waiting += 1
                writer = _write(where, identity, found)
                if waiting % _RUNS_A_COMMIT == 0:
                    writer.commit()
            yield Imported(
                identity,
                found.name,
                found.tracker,
                found.points(),
                new,
                dict(found.passed_over),
                tuple(found.complaints),
            )
    finally:
        if writer is not None and waiting % _RUNS_A_COMMIT:
            writer.commit()


def _id(tracker: str, origin: str) -> str:
    """The same whenever the run is found."""
    return hashlib.sha256(f"import\0{tracker}\0{origin}".encode(errors="replace")).hexdigest()[:32]


def _imported(catalog: Catalog) -> set[str]:
    try:
        return {row["id"] for row in catalog.sql("select distinct id from hr.runs where kind = 'import'").to_pylist()}
    except NotFound:
        return set()


def _write(catalog: Catalog, identity: str, found: FoundRun) -> Any:
    """Points first, then the row of the run: where there is a row, there is all of it. Points of an import that was cut off are
    an earlier life of it. Committed by whoever commits next."""
    first = run_identity.next_life(None)
    lives = sorted({life for series in found.series.values() for life in series.lives}) or [0]
    for life in lives:
        writer = _native.RunWriter(catalog.location, identity, 0, first + life, False, False)
        for key, series in found.series.items():
            _write_series(writer, key, series, life)
        if life == lives[-1]:
            writer.record(json.dumps(_row(identity, first + life, found), ensure_ascii=False))
        writer.close(False)
    return writer


def _write_series(writer: Any, key: str, series: Series, life: int) -> None:
    chosen = np.asarray(series.lives) == life
    if not chosen.any():
        return
    steps = np.asarray(series.steps, np.int64)[chosen]
    micros = np.round(np.asarray(series.seconds, np.float64)[chosen] * 1e6).astype(np.int64)
    writer.log_series(key, steps, micros, np.asarray(series.values, np.float64)[chosen])


def _row(identity: str, life: int, found: FoundRun) -> dict[str, Any]:
    last = {key: series.values[-1] for key, series in found.series.items() if not key.startswith(runs.SYSTEM)}
    row = {
        "id": identity,
        "life": life,
        "time": time.time_ns() // 1000,
        "kind": "import",
        "name": found.name,
        "project": found.project,
        "parent": _id(found.tracker, found.parent) if found.parent else None,
        "state": found.state or "finished",
        "reason": None if found.state else _UNTOLD,
        "started": _micros(found.begin),
        "ended": _micros(found.end),
        "who": found.who,
        "host": found.host,
        "code": {"commit": found.commit} if found.commit else None,
        "command": [found.command] if found.command else None,
        "env": {"imported_from": {"tracker": found.tracker, "origin": found.origin}},
        "config": run_values.as_json(found.config, "config"),
        "summary": run_values.as_json({**last, **found.summary}, "summary"),
        "tags": found.tags,
        "notes": found.notes,
    }
    return {key: value for key, value in row.items() if value not in (None, "")}


def _micros(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)


def main(words: list[str] | None = None) -> int:
    """The command: what was imported, a line for each run; exit code 1 where something could not be read."""
    parser = argparse.ArgumentParser(
        prog="headrace runs import", description=__doc__.partition("\n")[0] if __doc__ else ""
    )
    parser.add_argument("path", help="a file of theirs, or a folder that holds some")
    parser.add_argument("--catalog", help="the catalog that gets them (default: as everywhere)")
    parser.add_argument("--json", action="store_true", help="a JSON object for each run")
    given = parser.parse_args(words)
    whole = True
    none = True
    try:
        for run in import_runs(given.path, catalog=given.catalog):
            none = False
            whole &= not run.complaints
            if given.json:
                print(json.dumps(dataclasses.asdict(run), ensure_ascii=False), flush=True)
                continue
            said = f"{run.points:,} points" if run.new else "there already"
            rest = ", ".join(f"{count:,} {kind}" for kind, count in sorted(run.passed_over.items()))
            print(
                f"{run.id[:8]}  {run.tracker:11}  {run.name}: {said}{f'; not imported: {rest}' if rest else ''}",
                flush=True,
            )
            for complaint in run.complaints:
                print(f"  {complaint}", file=sys.stderr)
    except HeadraceError as error:
        print(f"headrace: {error}", file=sys.stderr)
        return 1
    if none:
        print(f"headrace: there are no runs of TensorBoard, W&B or MLflow in {given.path}", file=sys.stderr)
    return 0 if whole and not none else 1


if __name__ == "__main__":
    sys.exit(main())
