"""Catalogs: where tables live, and SQL over them."""

from __future__ import annotations

import datetime
import decimal
import functools
import json
import os
import pathlib
import threading
import uuid
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from headrace import _native, checkpoint_files, upkeep
from headrace.checkpoint_files import Checkpoint
from headrace.commits import Commit
from headrace.errors import Invalid, NotFound
from headrace.hints import Hinted
from headrace.process import Own
from headrace.queues import Queue
from headrace.rows import Reader, to_native
from headrace.table import Table
from headrace.upkeep import Collection, Verification


def _find() -> str:
    named = os.environ.get("HEADRACE_CATALOG")
    if named:
        return named
    here = pathlib.Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".headrace" / "catalog.json").exists():
            return str(folder / ".headrace")
    return str(here / ".headrace")


def init(location: str | os.PathLike[str] = ".headrace", *, sync: bool = True) -> Catalog:
    """Makes a catalog in a folder or at ``s3://bucket/prefix``. ``sync=False`` skips fsync: for scratch data only.

    Raises:
        Invalid: there is a catalog already.
        Unavailable: the folder or the bucket cannot be written.
    """
    return Catalog(_native.Catalog.init(os.fspath(location), sync))


def open(location: str | os.PathLike[str] | None = None, *, create: bool = False, upkeep: bool = True) -> Catalog:
    """Opens a catalog: the one named, or the ``.headrace/`` in the folder named, else ``HEADRACE_CATALOG``, else the nearest
    ``.headrace/`` upwards.

    ``create`` makes it if it is not there. ``upkeep``: small files that the commits of this process leave are joined in the
    background, and once an hour what has expired is collected from tables with a retention that this process commits to; with
    a fifth of one thread's time at most.

    Raises:
        NotFound: there is no catalog.
        Unsupported: it was made by a newer version, whose features are named.
        Corrupt: its description does not match its checksum.
        Unavailable: the store cannot be reached.
    """
    path = _find() if location is None else os.fspath(location)
    if "://" not in path and not (pathlib.Path(path) / "catalog.json").exists():
        inside = pathlib.Path(path) / ".headrace"  # the folder that `headrace init` was called in
        path = str(inside) if (inside / "catalog.json").exists() else path
    if create and "://" not in path and not (pathlib.Path(path) / "catalog.json").exists():
        try:
            init(path)
        except Invalid:
            if not (pathlib.Path(path) / "catalog.json").exists():
                raise  # else another process made it meanwhile
    try:
        return Catalog(_native.Catalog.open(path, upkeep), upkeep)
    except NotFound as error:
        if location is None and not os.environ.get("HEADRACE_CATALOG"):
            raise NotFound(
                f"there is no catalog in {pathlib.Path.cwd()} or above it; make one with hr.init(), or name one: hr.open(location)"
            ) from error
        if "://" not in path and not pathlib.Path(path).exists():
            raise NotFound(
                f"there is no folder {path}; hr.open({path!r}, create=True) makes a catalog there"
            ) from error
        raise


def _only_asks(query: str) -> bool:
    """Whether it is one that leaves nothing behind in an engine, as SET and CREATE TEMP TABLE do."""
    return (
        query.lstrip(" \t\r\n(").lower().startswith(("select", "with", "from", "describe", "summarize"))
        and ";" not in query
    )


class _Engines:
    """SQL engines that have answered: to begin with a new one costs more than most questions."""

    MOST = 4

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._kept: list[_native.Sql] = []

    def take(self, catalog: _native.Catalog) -> _native.Sql:
        """One whose last rows nobody holds any more, or a new one."""
        with self._lock:
            if self._pid != os.getpid():  # a fork: their threads are not here
                for engine in self._kept:
                    _native.abandon(engine)
                self._kept, self._pid = [], os.getpid()
            for index, engine in enumerate(self._kept):
                if engine.idle:
                    return self._kept.pop(index)
        return catalog.engine("", 0, False)

    def give(self, engine: _native.Sql) -> None:
        """For a later question."""
        with self._lock:
            self._kept.append(engine)
            del self._kept[: -self.MOST]


class Catalog(Hinted):
    """An opened catalog. Safe to use from many threads."""

    _elsewhere: ClassVar[dict[str, str]] = {
        "open_table": "catalog['name'] or catalog.table('name')",
        "get_table": "catalog['name'] or catalog.table('name')",
        "list_tables": "tables()",
        "table_names": "tables()",
        "list": "tables()",
        "ls": "tables()",
        "create": "create_table(name, columns)",
        "drop": "drop_table(name)",
        "delete": "drop_table(name)",
        "delete_table": "drop_table(name)",
        "query": "sql('…')",
        "execute": "sql('…')",
        "add": "ingest(files, table=…), or create_table(name, rows)",
        "path": "location",
        "close": "nothing needs to be closed",
    }

    def __init__(self, native: _native.Catalog, upkeep: bool = True) -> None:
        self._location = native.location
        self._own = Own(native, functools.partial(_native.Catalog.open, self._location, upkeep))
        self._engines = _Engines()

    @property
    def _native(self) -> _native.Catalog:
        return self._own.get()

    def __reduce__(self) -> Any:
        return open, (self._location,)

    @property
    def location(self) -> str:
        """Where it is."""
        return self._location

    def tables(self) -> list[str]:
        """The tables' names.

        Raises:
            Unavailable: the store cannot be reached.
        """
        return self._native.table_names()

    def table(self, name: str) -> Table:
        """A table by name; ``NotFound`` tells which there are.

        Raises:
            NotFound: there is no such table; the message names those that there are.
        """
        return Table(self._native.table(name), self._location)

    def __getitem__(self, name: str) -> Table:
        return self.table(name)

    def create_table(self, name: str, columns: Any, *, types: Mapping[str, str] | None = None, why: str = "") -> Table:
        """Makes a table.

        ``columns``: types by name (``{"path": "string", "image": "blob", "vec": "tensor<float32>[384]"}``), an Arrow
        schema, or rows in any form that ``append`` takes, which become its first rows. ``types``: of some of the rows' columns,
        instead of what the rows say, as in ``{"vec": "tensor<float32>[384]"}`` for lists of one length.

        Raises:
            Invalid: the name is taken or is no name, a type does not exist, or a row does not fit its column.
            UnknownOutcome: the store never said whether the rows were taken.
        """
        if isinstance(columns, Mapping) and columns and all(isinstance(kind, str) for kind in columns.values()):
            return Table(self._native.create_table(name, list(columns.items()), why), self._location)
        if hasattr(columns, "__arrow_c_schema__") and not hasattr(columns, "__arrow_c_stream__"):
            return Table(self._native.create_table(name, _native.types_of_schema(columns), why), self._location)
        rows = to_native(columns)
        wanted = dict(types or {})
        kinds = [(column, wanted.pop(column, kind)) for column, kind in _native.types_of(rows, [])]
        if wanted:
            raise Invalid(f"the rows have no column {', '.join(map(repr, wanted))}; they have {', '.join(dict(kinds))}")
        table = Table(self._native.create_table(name, kinds, why), self._location)
        try:
            table.append(Reader(rows), why=why)
        except BaseException:
            self.drop_table(name)  # it never held a row
            raise
        for hint in _tensor_hints(table):
            warnings.warn(hint, stacklevel=2)
        return table

    def drop_table(self, name: str) -> None:
        """Removes the name. The data stays until garbage collection.

        Raises:
            NotFound: there is no such table.
            Conflict: it was changed meanwhile.
        """
        self._native.drop_table(name)

    def artifact(self, sha256: str, to: str | os.PathLike[str]) -> pathlib.Path:
        """Writes a file that a run saved to ``to``, by its hash (``sha256:`` before it or not).

        Raises:
            NotFound: there is no such artifact.
            Invalid: this is no hash.
            Corrupt: the store holds other bytes than the hash says; nothing was written.
        """
        self._native.fetch_artifact(sha256.removeprefix("sha256:"), os.fspath(to))
        return pathlib.Path(to)

    def checkpoints(self, run: str) -> list[Checkpoint]:
        """The checkpoints that a run keeps, by its id, in the order in which they were written (``hr.Checkpointer`` writes them).

        Raises:
            Unavailable: the store cannot be reached.
        """
        return [Checkpoint(self, run, entry) for entry in checkpoint_files.kept(self, run)]

    def gc(
        self,
        *,
        keep: str | float | datetime.timedelta | None = None,
        grace: str | float | datetime.timedelta = "1d",
        dry_run: bool = False,
    ) -> list[Collection]:
        """``Table.gc`` of every table, and what is left of dropped ones.

        Raises:
            Invalid: ``keep`` or ``grace`` is no length of time.
        """
        for_all = None if keep is None else upkeep.keep_micros(keep)
        done = self._native.gc(for_all, upkeep.micros(grace), dry_run)
        return [upkeep.collection(one) for one in done]

    def verify(self, *, newest: bool = False) -> list[Verification]:
        """``Table.verify`` of every table, and of the catalog's refs (the last one, whose ``table`` is "").

        Raises:
            Unavailable: the store cannot be reached.
        """
        return [upkeep.verification(one) for one in self._native.verify(newest)]

    def ingest(
        self,
        *sources: str | os.PathLike[str],
        table: str,
        format: str = "",
        types: Mapping[str, str] | None = None,
        on_error: str = "skip",
        delimiter: str = "",
        names: Sequence[str] = (),
        header: bool | None = None,
        encoding: str = "",
        again: bool = False,
        on_change: str = "skip",
        on_copy: str = "add",
        shuffle: bool = False,
        why: str = "",
    ) -> dict[str, Any]:
        """Takes files and folders into a table, as ``headrace ingest`` does. The report has ``errors``: one for each
        file or row that could not be taken in, and ``notices``: what was left out without being an error.

        ``types``: the types of columns, ``{"zip": "string", "meta": "json"}``; the others' come from all of their values.
        ``on_error``: leave out rows that cannot be taken in ("skip"), or take nothing of their file and raise
        ``Invalid`` when the others are in ("fail"). ``on_change``: whether files that changed since they were taken
        in are left out ("skip"), taken as new rows ("add"), or taken in place of the rows that they became when they were
        last taken in ("replace": those go with the same commit). ``on_copy``: whether files with the same bytes as one that was
        taken in under another name are taken in ("add"), left out ("skip"), or become rows that share its bytes ("link",
        of photographs). ``shuffle``: photographs in random order instead of by path.

        CSV: ``delimiter`` (one character), ``names`` of the columns of a file without a header, ``header`` (whether the
        first row holds names; by default where no names are given). CSV and JSON: ``encoding`` ("utf-8", "utf-16",
        "latin-1").

        Returns:
            ``table`` and ``version`` (after it); ``files`` taken in, ``skipped`` because they are in the table, ``refused`` (with
            ``on_error="fail"``); ``rows``, ``bytes`` and ``seconds``; ``errors``: dicts of ``path``, ``code`` and ``error``; ``changed``: paths
            of files that changed since they were taken in, ``replaced``: of how many the earlier rows went; ``same_bytes``: dicts of ``path`` and ``as``, files whose bytes are in the table
            under another path; ``notices``: texts.

        Raises:
            Invalid: an option is wrong, or with ``on_error="fail"`` a file holds rows that cannot be taken in.
            NotFound: a source is not there.
            UnknownOutcome: the store never said whether the rows were taken; the same call again takes nothing twice.
        """
        report = self._native.ingest(
            [os.fspath(source) for source in sources],
            table,
            {
                "format": format,
                "types": dict(types or {}),
                "on_error": on_error,
                "delimiter": delimiter,
                "names": list(names),
                "header": header,
                "encoding": encoding,
                "again": again,
                "on_change": on_change,
                "on_copy": on_copy,
                "shuffle": shuffle,
            },
            why,
        )
        if report["refused"]:
            first = report["errors"][0]
            raise Invalid(
                f"nothing was taken of {report['refused']} files: {first['path']}: {first['error']} (on_error is 'fail')"
            )
        return report

    def sql(
        self,
        query: str,
        params: Sequence[Any] | Mapping[str, Any] = (),
        *,
        into: str | None = None,
        memory: str = "",
        threads: int = 0,
        why: str = "",
        allow_files: bool = False,
    ) -> Any:
        """Rows of a query, as a ``Reader`` that streams; with ``into``, a new table with its lineage, and the commit.

        Any table by name; ``"photos@v3"`` for a version; media facts as fields, as in ``image.width``. ``params``: a
        list for each ``?`` in turn, or a dict for each ``$name``. Columns of one name become ``id``, ``id_1``.
        ``allow_files``: the query may read and write files that are not the catalog's, as in ``read_parquet('x.parquet')``.

        Raises:
            Invalid: the query is wrong.
            Unavailable: it reads or writes files without ``allow_files``.
            NotFound: a table is not there.
            LimitExceeded: it needs more memory than ``memory``.
        """
        values = _params(params)
        if into is not None:
            engine = self._native.engine(memory, threads, allow_files)
            return Commit(**engine.into(self._native, query, into, why, values))
        if memory or threads or allow_files or not _only_asks(query):
            return Reader(self._native.engine(memory, threads, allow_files).query(query, values))
        engine = self._engines.take(self._native)
        reader = Reader(engine.query(query, values))
        self._engines.give(engine)
        return reader

    def score(
        self,
        target: str,
        value: float | bool | None = None,
        *,
        label: str = "",
        comment: str = "",
        name: str = "score",
        against: str = "",
        source: str = "program",
        who: str = "",
        judge: str = "",
        repeat: int = 0,
        run: str = "",
        seconds: float | None = None,
        supersedes: str = "",
        withdraw: bool = False,
    ) -> str:
        """Judges an answer, a run, a row, …: one row of ``hr.scores``; ``scores_now`` has the last of each. Its id.

        ``target``: ``"run:0193…"``, ``"row:photos@v7:42"`` (kinds: request, span, trace, session, run, sample, row); without a
        kind, a request. The same target, name, who, judge and ``repeat`` are one score, which the last row of it counts for;
        ``withdraw`` takes it back, ``supersedes`` replaces another one by its id. ``against``: what the target is compared
        with, of the same kind. ``source``: person, model, program or user. ``who``: by default you. Targets are not looked up.

        Raises:
            Invalid: the target is none, or nothing is said of it.
        """
        row: dict[str, Any] = {"name": name, "source": source, "repeat": repeat}
        texts = {"label": label, "comment": comment, "who": who, "judge": judge, "run": run, "supersedes": supersedes}
        row.update({key: text for key, text in texts.items() if text})
        if value is not None:
            row["value"] = float(value)
        if seconds is not None:
            row["seconds"] = float(seconds)
        if withdraw:
            row["state"] = "withdrawn"
        elif value is None and not label and not comment:
            raise Invalid("a score has a value, a label or a comment")
        if source not in ("person", "model", "program", "user"):
            raise Invalid(f"source is person, model, program or user, not {source!r}")
        return self._native.score(target, against, json.dumps(row))

    def create_queue(self, queue: Queue, *, why: str = "") -> Queue:
        """Makes an annotation queue: its query runs now, and the queue keeps the rows. ``headrace label NAME`` works on it.

        Each row is an item, and what it is about stands in one of its columns: ``_row_id`` of the one table that is read (a plain
        select is given it), ``id`` of traces or runs, or ``target`` (``"row:photos@v7:42"``).

        Raises:
            Invalid: the query is wrong or gives no rows, nothing says what its rows are, or the rubric asks for nothing;
                or there is a queue of this name.
        """
        return Queue.from_json(self._native.create_queue(queue.to_json(), why))

    def queues(self) -> list[Queue]:
        """The annotation queues, by name.

        Raises:
            Unavailable: the store cannot be reached.
        """
        return [Queue.from_json(text) for text in self._native.queues()]

    def explain(self, query: str) -> str:
        """Runs the query and tells what it did and what was read of our files.

        Raises:
            Invalid: the query is wrong.
            NotFound: a table is not there.
        """
        return self._native.engine("", 0, False).explain(query)

    def __repr__(self) -> str:
        return f"<Catalog {self.location}: {', '.join(self.tables()) or 'no tables'}>"


LOOKED_AT = 100  # rows
_OF_TENSORS = {f"list<{kind}>": kind for kind in ("float32", "float16")}


def _tensor_hints(table: Table) -> list[str]:
    """What to say of columns of lists that are all of one length."""
    hints = []
    snapshot = table.at()
    for column, kind in snapshot.columns.items():
        if kind not in _OF_TENSORS:
            continue
        cells = snapshot._first(LOOKED_AT, [column])[column]
        lengths = {len(cell) for cell in cells if cell is not None}
        if len(lengths) == 1 and (length := lengths.pop()) > 1:
            tensor = f"tensor<{_OF_TENSORS[kind]}>[{length}]"
            hints.append(
                f"the column {column!r} is a {kind}, and each row that was looked at has {length} numbers: as a {tensor} it is one array "
                f"for numpy, streams and array_cosine_distance: create_table({table.name!r}, …, types={{{column!r}: {tensor!r}}})"
            )
    return hints


def _params(given: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
    """Named values in the types that SQL is given: times and other numbers travel as text or as Python's own."""
    if isinstance(given, (str, bytes)):
        raise TypeError("params is a list of values or a dict of names and values; for one text write [text]")
    pairs = given.items() if isinstance(given, Mapping) else ((str(i), value) for i, value in enumerate(given, 1))
    named: dict[str, Any] = {}
    for name, value in pairs:
        if isinstance(value, np.datetime64):
            value = None if np.isnat(value) else str(value)
        elif isinstance(value, np.generic) and not isinstance(value, (bool, int, float, str)):
            value = value.item()  # numpy's
        if isinstance(value, (datetime.date, datetime.time)):
            value = value.isoformat()
        elif isinstance(value, (decimal.Decimal, uuid.UUID, os.PathLike)):
            value = str(value)
        if value is not None and not isinstance(value, (bool, int, float, str)):
            raise TypeError(
                f"the parameter {name!r} is a {type(value).__name__}; SQL takes text, numbers, times and None"
            )
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"the parameter {name!r}, {value}, does not fit 64 bits; give it as text and cast it")
        named[name] = value
    return named
