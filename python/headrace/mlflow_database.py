"""MLflow's database where it is SQLite (``mlflow.db``): each run, with its params, tags and metrics."""

from __future__ import annotations

import contextlib
import math
import pathlib
import shutil
import sqlite3
import tempfile
import urllib.parse
from collections.abc import Iterator
from typing import Any

from headrace.imported_run import FoundRun

MAGIC = b"SQLite format 3\0"
_STATES = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}
_TAGS = {"mlflow.user": "who", "mlflow.source.git.commit": "commit", "mlflow.source.name": "command", "mlflow.note.content": "notes",
         "mlflow.parentRunId": "parent"}  # fmt: skip
_LARGEST = 1.7976931348623157e308  # how MLflow keeps infinity in databases


def _value(value: float, is_nan: int) -> float:
    if is_nan:
        return math.nan
    return math.copysign(math.inf, value) if abs(value) >= _LARGEST else float(value)


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _tell(run: FoundRun, database: sqlite3.Connection) -> None:
    """What params, tags and metrics tell of a run."""
    for key, text in database.execute("select key, value from params where run_uuid = ? order by key", (run.origin,)):
        run.config[key] = text
    for key, text in database.execute("select key, value from tags where run_uuid = ? order by key", (run.origin,)):
        if key in _TAGS:
            setattr(run, _TAGS[key], text)
        elif not key.startswith("mlflow."):
            run.tags.append(f"{key}={text}" if text else key)
    for key, value, milliseconds, step, is_nan in database.execute(
        "select key, value, timestamp, step, is_nan from metrics where run_uuid = ? order by key, timestamp, step",
        (run.origin,),
    ):
        run.point(key, step, milliseconds / 1000, _value(value, is_nan))
    for key, series in run.series.items():
        run.summary[key] = series.values[-1]


def _runs(database: sqlite3.Connection) -> Iterator[FoundRun]:
    rows: list[tuple[Any, ...]] = database.execute(
        "select r.run_uuid, r.name, e.name, r.user_id, r.status, r.start_time, r.end_time from runs r "
        "left join experiments e on r.experiment_id = e.experiment_id where r.lifecycle_stage = 'active' order by r.start_time"
    ).fetchall()
    for origin, name, project, who, status, begin, end in rows:
        run = FoundRun("mlflow", origin=origin, name=name or origin, project=project or "", who=who or "")
        run.begin, run.end, run.state = _seconds(begin), _seconds(end), _STATES.get(status, "")
        _tell(run, database)
        yield run


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """The database for reading. What a killed program left half-written is taken back in a copy: the file is not ours."""
    with contextlib.ExitStack() as stack:
        uri = f"file:{urllib.parse.quote(str(path.resolve()))}?mode=ro"
        database = stack.enter_context(contextlib.closing(sqlite3.connect(uri, uri=True)))
        try:
            database.execute("select count(*) from sqlite_master")
        except sqlite3.OperationalError as error:
            if "readonly" not in str(error):  # SQLITE_READONLY_ROLLBACK: it has to be written to before it can be read
                raise
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for end in ("", "-journal", "-wal"):
                file = path.with_name(path.name + end)
                if not end or file.exists():
                    shutil.copy(file, folder / file.name)
            database = stack.enter_context(contextlib.closing(sqlite3.connect(folder / path.name)))
        yield database


def find(path: pathlib.Path) -> Iterator[FoundRun]:
    """The runs of a database that were not deleted, oldest first.

    Raises:
        ValueError: it is no database of MLflow's.
    """
    try:
        with _opened(path) as database:
            yield from _runs(database)
    except sqlite3.Error as error:
        raise ValueError(f"{path} is no database of MLflow's that can be read here: {error}") from error
