"""Tables: rows with stable ids, columns that arrive over years, a chain of immutable snapshots."""

from __future__ import annotations

import datetime
import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from headrace import _native, display, process
from headrace.errors import Invalid, NotFound
from headrace.hints import Hinted
from headrace.process import Own
from headrace.rows import Batch, Reader, Row, gathered, is_empty, to_native


@dataclass(frozen=True)
class Commit:
    """What a commit did. ``repeated``: this writer's sequence number was there already, and nothing was added."""

    version: int
    rows: int
    bytes: int
    fragments: int
    repeated: bool


@dataclass(frozen=True)
class HistoryEntry:
    """One version of a table: what happened, who did it, why, and how many rows there were after it."""

    version: int
    time: datetime.datetime
    kind: str
    who: str
    why: str
    how: str
    rows: int
    rows_after: int
    bytes: int
    columns: list[str]
    inputs: list[str]
    tags: list[str]


class Schema(dict[str, str]):
    """Column names and types."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(snapshot.columns)
        self._snapshot = snapshot

    def __arrow_c_schema__(self) -> object:
        return self._snapshot.__arrow_c_schema__()

    def __reduce__(self) -> Any:
        return dict, (dict(self),)

    def __repr__(self) -> str:
        width = max((len(name) for name in self), default=0)
        return "\n".join(f"{name:<{width}}  {kind}" for name, kind in self.items())


class _Shown(Hinted):
    """What a table and its versions have in common: what other libraries call their methods, and what notebooks show."""

    _elsewhere: ClassVar[dict[str, str]] = {
        "shape": "len(table) is the number of rows, table.columns the columns",
        "num_rows": "len(table)",
        "count_rows": "len(table), or count(where=…)",
        "dtypes": "table.schema",
        "describe": "table.schema, and `headrace describe` for bounds",
        "filter": "scan(where='…') reads the rows that a filter keeps",
        "where": "scan(where='…') reads the rows that a filter keeps",
        "select": "scan(columns=[…]) reads some columns",
        "search": "scan(where='…'), or catalog.sql('…')",
        "query": "scan(where='…'), or catalog.sql('…') with the table's name",
        "sql": "catalog.sql('…') with the table's name",
        "rows": "len(table) is their number; for row in table gives them",
        "tail": "table[-5:]",
        "sample": "hr.Stream(table) shuffles; catalog.sql('… using sample 5') draws rows",
        "iter_batches": "scan().batches()",
        "to_batches": "scan().batches()",
        "to_pylist": "scan().to_pylist()",
        "to_list": "scan().to_pylist()",
        "to_dicts": "scan().to_pylist()",
        "read": "scan(), take(row_ids) or table[:5]",
        "get": "take([row_id]) or table[0]",
        "add": "append(rows), or add_columns(…)",
        "insert": "append(rows)",
        "extend": "append(rows)",
        "write": "append(rows)",
        "add_column": "add_columns({'name': values}), or add_columns(function, inputs=[…])",
        "map": "add_columns(function, inputs=[…]) keeps the results; hr.Stream(table).map(function) passes them on",
        "apply": "add_columns(function, inputs=[…])",
        "drop": "drop_column(name), or catalog.drop_table(name)",
        "rename": "rename_column(old, new)",
        "versions": "history()",
        "log": "history()",
        "tags": "history() has the tags of each version",
        "checkout": "at(version)",
        "snapshot": "at() is the newest version, at(version) another",
    }

    def _html(self, caption: str, snapshot: Snapshot) -> str:
        names = dict(list(snapshot.columns.items())[: display.COLUMNS])
        rows = snapshot.take(range(min(len(snapshot), display.ROWS)), list(names))
        return display.table(caption, snapshot.columns, rows, len(snapshot) - len(rows))


class Snapshot(_Shown):
    """A table at one version. It never changes, whatever is committed later."""

    def __init__(self, view: _native.View) -> None:
        self._address = (view.location, view.prefix, view.version)
        self._own = Own(view, functools.partial(process.view, self._address))

    @property
    def _view(self) -> _native.View:
        return self._own.get()

    @property
    def version(self) -> int:
        """The version's number."""
        return self._view.version

    @property
    def columns(self) -> dict[str, str]:
        """Column names and types."""
        return dict(self._view.columns)

    def __len__(self) -> int:
        return self._view.rows

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        limit: int | None = None,
        *,
        batch_rows: int = 65536,
        row_ids: bool = False,
    ) -> Reader:
        """Rows in row-id order, as a stream.

        ``columns``: names, or fields such as ``image.width``; all by default. ``where``: a filter, as in
        ``image.width >= 512 and lang = 'en'`` (docs/guide/expressions.md). ``row_ids`` adds the column ``_row_id``.

        Raises:
            NotFound: a column is not there.
            Invalid: the filter is wrong; the message points at the place.
            Corrupt: while reading: bytes do not match their checksum.
        """
        return Reader(
            self._view.scan(list(columns or []), where or "", -1 if limit is None else limit, batch_rows, row_ids)
        )

    @property
    def schema(self) -> Schema:
        """Column names and types, as a dict that ``pyarrow.schema()`` takes too."""
        return Schema(self)

    def head(self, rows: int = 5) -> Batch:
        """The first rows."""
        return self.take(list(range(len(self))[:rows]))

    def __getitem__(self, key: slice | int) -> Any:
        """``table[:5]``, a Batch, and ``table[-1]``, a Row, by place in row-id order."""
        rows = range(len(self))
        if not isinstance(key, slice):
            place = rows[operator.index(key)]
            return self[place : place + 1][0]
        return self.take(list(rows[key]))

    def __iter__(self) -> Iterator[Row]:
        return iter(self.scan())

    def to_arrow(self) -> Any:
        """All rows as a ``pyarrow.Table``."""
        return self.scan().to_arrow()

    def to_pandas(self) -> Any:
        """All rows as a pandas DataFrame (by pyarrow)."""
        return self.scan().to_pandas()

    def to_polars(self) -> Any:
        """All rows as a polars DataFrame."""
        return self.scan().to_polars()

    def take(self, row_ids: Sequence[int], columns: Sequence[str] | None = None) -> Batch:
        """Rows by id, in the order asked for; repeats are allowed. ``NotFound`` names an id that no row has.

        Raises:
            NotFound: no row has the id, or a column is not there.
            Corrupt: bytes do not match their checksum.
        """
        return Batch(self._view.take([int(i) for i in row_ids], list(columns or [])))

    def count(self, where: str | None = None) -> int:
        """Rows that pass the filter.

        Raises:
            Invalid: the filter is wrong; the message points at the place.
        """
        return self._view.count(where or "")

    def files(self) -> list[tuple[str, int, int]]:
        """The data files as (path, first row id, rows): ordinary Parquet and Arrow files that any program may read."""
        return self._view.files()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.scan().__arrow_c_stream__()

    def __arrow_c_schema__(self) -> object:
        return self._view.arrow_schema()

    def __reduce__(self) -> Any:
        return _reopen, self._address

    def _repr_html_(self) -> str:
        return self._html(f"version {self.version}: {len(self):,} rows", self)

    def __repr__(self) -> str:
        return f"<Snapshot version {self.version}: {len(self):,} rows, {len(self.columns)} columns>"


def _reopen(location: str, prefix: str, version: int) -> Snapshot:
    return Snapshot(process.view((location, prefix, version)))


def _reopen_table(location: str, prefix: str, name: str) -> Table:
    return Table(_native.reopen_table(location, prefix, name), location)


class Table(_Shown):
    """A table by name. Reading it reads the newest version; ``at`` pins one."""

    def __init__(self, native: _native.Table, location: str) -> None:
        self._address = (location, native.prefix, native.name)
        self._own = Own(native, functools.partial(_native.reopen_table, *self._address))

    @property
    def _native(self) -> _native.Table:
        return self._own.get()

    def __reduce__(self) -> Any:
        return _reopen_table, self._address

    @property
    def name(self) -> str:
        """Its name in the catalog."""
        return self._native.name

    def at(self, version: int | str | datetime.datetime | None = None, *, tag: str | None = None) -> Snapshot:
        """A version by number, ``"v3"``, tag or time (the newest then); by default the newest. ``tag``: only a tag.

        Raises:
            NotFound: there is no such version or tag.
            TypeError: a version and a tag were given.
        """
        if tag is not None:
            if version is not None:
                raise TypeError("give a version or a tag, not both")
            tagged = next((entry for entry in self.history() if tag in entry.tags), None)
            if tagged is None:
                raise NotFound(f"{self.name} has no tag {tag!r}")
            version = tagged.version
        if isinstance(version, datetime.datetime):
            if version.tzinfo is not None:
                version = version.astimezone(datetime.timezone.utc).replace(tzinfo=None)
            version = version.isoformat()
        return Snapshot(self._native.at("" if version is None else str(version)))

    @property
    def version(self) -> int:
        """The newest version's number."""
        return self.at().version

    @property
    def columns(self) -> dict[str, str]:
        """Column names and types of the newest version."""
        return self.at().columns

    def __len__(self) -> int:
        return len(self.at())

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        limit: int | None = None,
        *,
        batch_rows: int = 65536,
        row_ids: bool = False,
    ) -> Reader:
        """``Snapshot.scan`` of the newest version."""
        return self.at().scan(columns, where, limit, batch_rows=batch_rows, row_ids=row_ids)

    def take(self, row_ids: Sequence[int], columns: Sequence[str] | None = None) -> Batch:
        """``Snapshot.take`` of the newest version."""
        return self.at().take(row_ids, columns)

    def count(self, where: str | None = None) -> int:
        """``Snapshot.count`` of the newest version."""
        return self.at().count(where)

    @property
    def schema(self) -> Schema:
        """Column names and types, as a dict that ``pyarrow.schema()`` takes too."""
        return Schema(self.at())

    def head(self, rows: int = 5) -> Batch:
        """The first rows."""
        return self.take(list(range(len(self))[:rows]))

    def __getitem__(self, key: slice | int) -> Any:
        """``table[:5]``, a Batch, and ``table[-1]``, a Row, by place in row-id order."""
        rows = range(len(self))
        if not isinstance(key, slice):
            place = rows[operator.index(key)]
            return self[place : place + 1][0]
        return self.take(list(rows[key]))

    def __iter__(self) -> Iterator[Row]:
        return iter(self.scan())

    def to_arrow(self) -> Any:
        """All rows as a ``pyarrow.Table``."""
        return self.scan().to_arrow()

    def to_pandas(self) -> Any:
        """All rows as a pandas DataFrame (by pyarrow)."""
        return self.scan().to_pandas()

    def to_polars(self) -> Any:
        """All rows as a polars DataFrame."""
        return self.scan().to_polars()

    def append(
        self, rows: Any, *, new_columns: bool = False, why: str = "", writer: str = "", sequence: int = -1
    ) -> Commit:
        """Appends rows in one commit: an Arrow table or stream, dicts in a list or from a generator, or a dict of columns.

        Any subset of the columns; those left out are holes. ``new_columns`` adds columns that the table does not have, in a
        commit of its own before the rows. No rows (``[]``) are no commit. With ``writer`` and ``sequence`` the append is
        exactly-once: a repeated (or lower) sequence number of that writer adds nothing.

        Raises:
            Invalid: a value does not fit its column; the message names column and row, and nothing is committed.
            Conflict: a column was dropped or retyped meanwhile; nothing is committed.
            UnknownOutcome: the store never said whether the commit was taken: look at ``history()`` before trying again.
        """
        rows = gathered(rows)
        if is_empty(rows):
            return Commit(version=self.version, rows=0, bytes=0, fragments=0, repeated=False)
        known = self.columns
        native = to_native(rows, known)
        added = _native.types_of(native, list(known))
        if added and not new_columns:
            raise Invalid(
                f"the table {self.name!r} has no column {', '.join(repr(name) for name, _ in added)}; "
                f"append(…, new_columns=True) adds it, as does add_columns({dict(added)!r}). "
                f"Its columns: {', '.join(known)}"
            )
        if added:
            self._native.add_empty_columns(added, why)
        try:
            return Commit(**self._native.append(native, why, writer, sequence))
        except BaseException:
            for name, _ in added:
                self._native.drop_column(name, "the rows that it was for were not taken")
            raise

    def add_columns(
        self,
        columns: Any,
        *,
        inputs: Sequence[str] | None = None,
        why: str = "",
    ) -> Commit:
        """Adds columns, writing only those.

        From data: an Arrow table, or a dict of columns, with a row for each row of the table, in row-id order.
        From a function: it gets a ``Batch`` of ``inputs`` and gives the new columns for it, in any form of data.
        From names and types (``{"score": "float64"}``): empty columns. Columns that exist have their holes filled, and a
        function is only called for those; where every row has a value, ``Invalid`` says so. Pictures become blobs.

        Raises:
            Invalid: the rows are not as many as the table has, a type differs, or no row has a hole to fill.
            Conflict: a column of that name came meanwhile.
            UnknownOutcome: the store never said whether the commit was taken.
        """
        known = self.columns
        if callable(columns) and not hasattr(columns, "__arrow_c_stream__"):
            function: Callable[[Batch], Any] = columns
            if inputs is None:
                raise TypeError("a function needs inputs=[…]: the columns that it reads")
            return Commit(
                **self._native.add_columns_from(
                    list(inputs), lambda batch: to_native(function(Batch(batch)), known), why
                )
            )
        if isinstance(columns, Mapping) and columns and all(isinstance(kind, str) for kind in columns.values()):
            return Commit(**self._native.add_empty_columns(list(columns.items()), why))
        return Commit(**self._native.add_columns(to_native(columns, known), why))

    def rename_column(self, old: str, new: str, *, why: str = "") -> Commit:
        """Renames a column: metadata only.

        Raises:
            NotFound: there is no such column.
            Invalid: the new name is taken.
            Conflict: the column was changed meanwhile.
        """
        return Commit(**self._native.rename_column(old, new, why))

    def drop_column(self, name: str, *, why: str = "") -> Commit:
        """Drops a column: metadata only; earlier versions keep it.

        Raises:
            NotFound: there is no such column.
            Conflict: the column was changed meanwhile.
        """
        return Commit(**self._native.drop_column(name, why))

    def tag(self, tag: str, version: int | str | None = None, *, move: bool = False, why: str = "") -> Commit:
        """Names a version (the newest by default). ``move``: take the tag from where it is.

        Raises:
            Invalid: another version has the tag and ``move`` is not set, or it is no name.
            NotFound: there is no such version.
        """
        return Commit(**self._native.tag(tag, "" if version is None else str(version), move, why))

    def remove_tag(self, tag: str) -> Commit:
        """Takes a tag away.

        Raises:
            NotFound: there is no such tag.
        """
        return Commit(**self._native.remove_tag(tag))

    def history(self, limit: int | None = None) -> list[HistoryEntry]:
        """What happened to the table, newest first."""
        epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
        entries = []
        for entry in self._native.history(-1 if limit is None else limit):
            time = epoch + datetime.timedelta(microseconds=entry.pop("time_us"))
            entries.append(HistoryEntry(time=time, **entry))
        return entries

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.scan().__arrow_c_stream__()

    def _repr_html_(self) -> str:
        snapshot = self.at()
        return self._html(f"{self.name}, version {snapshot.version}: {len(snapshot):,} rows", snapshot)

    def __repr__(self) -> str:
        snapshot = self.at()
        return (
            f"<Table {self.name!r} version {snapshot.version}: {len(snapshot):,} rows, {len(snapshot.columns)} columns>"
        )
