"""Tables: rows with stable ids, columns that arrive over years, a chain of immutable snapshots."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from headrace import _native
from headrace.commits import Commit, HistoryEntry, Merge
from headrace.describe import Description
from headrace.diff import Diff
from headrace.errors import Invalid, NotFound
from headrace.maintained import Maintained
from headrace.process import Own
from headrace.rows import Batch, Reader, Row, gathered, is_empty, to_native
from headrace.snapshot import Schema, Snapshot
from headrace.storage import Storage, of_native


def _ids(where: str | None, row_ids: Sequence[int] | None) -> list[int] | None:
    if where is not None and row_ids is not None:
        raise TypeError("give a filter or row ids, not both")
    return None if row_ids is None else [int(i) for i in row_ids]


def _reopen_table(location: str, prefix: str, name: str) -> Table:
    return Table(_native.reopen_table(location, prefix, name), location)


class Table(Maintained):
    """A table by name. Reading it reads the newest version; ``at`` pins one."""

    def __init__(self, native: _native.Table, location: str) -> None:
        self._address = (location, native.prefix, native.name)
        self._own = Own(native, functools.partial(_native.reopen_table, *self._address))

    @property
    def _native(self) -> _native.Table:
        return self._own.get()

    def __reduce__(self) -> Any:
        return _reopen_table, self._address

    def _as_input(self) -> dict[str, Any]:
        return self.at()._as_input()

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
        return Snapshot(self._native.at("" if version is None else str(version)), self.name)

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
        """``Snapshot.scan`` of the newest version. Raises: as there."""
        return self.at().scan(columns, where, limit, batch_rows=batch_rows, row_ids=row_ids)

    def take(self, row_ids: Sequence[int], columns: Sequence[str] | None = None) -> Batch:
        """``Snapshot.take`` of the newest version. Raises: as there."""
        return self.at().take(row_ids, columns)

    def count(self, where: str | None = None) -> int:
        """``Snapshot.count`` of the newest version. Raises: as there."""
        return self.at().count(where)

    @property
    def schema(self) -> Schema:
        """Column names and types, as a dict that ``pyarrow.schema()`` takes too."""
        return Schema(self.at())

    def describe(self) -> Description:
        """``Snapshot.describe`` of the newest version. Raises: as there."""
        return self.at().describe()

    def diff(
        self,
        before: int | str | datetime.datetime,
        after: int | str | datetime.datetime | None = None,
        *,
        columns: Sequence[str] | None = None,
    ) -> Diff:
        """What differs between two versions (numbers, ``"v3"``, tags or times); by default the second is the newest.

        Rows are told apart by their ids and columns by theirs, so renames are no change. Where both versions have the same
        files, nothing is read. ``columns``: compare only the values of these.

        Raises:
            NotFound: there is no such version, or column.
        """
        return Diff(self.at(before), self.at(after), columns or ())

    def storage(self) -> Storage:
        """Where the table's bytes lie: by column of the newest version, by version, and of no version. Raises: Unavailable."""
        return of_native(_native.storage(self._native))

    def head(self, rows: int = 5) -> Batch:
        """``Snapshot.head`` of the newest version: the first rows. Raises: as there."""
        return self.at().head(rows)

    def __getitem__(self, key: slice | int) -> Any:
        """``table[:5]``, a Batch, and ``table[-1]``, a Row, by place in a scan."""
        return self.at()[key]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.scan())

    def to_arrow(self) -> Any:
        """All rows as a ``pyarrow.Table``. Raises: as ``Snapshot.to_arrow``."""
        return self.scan().to_arrow()

    def to_pandas(self) -> Any:
        """All rows as a pandas DataFrame (by pyarrow). Raises: as ``Snapshot.to_pandas``."""
        return self.scan().to_pandas()

    def to_polars(self) -> Any:
        """All rows as a polars DataFrame. Raises: as ``Snapshot.to_polars``."""
        return self.scan().to_polars()

    def append(
        self,
        rows: Any,
        *,
        new_columns: bool = False,
        why: str = "",
        writer: str = "",
        sequence: int = -1,
        since: int = 0,
    ) -> Commit:
        """Appends rows in one commit: an Arrow table or stream, dicts in a list or from a generator, or a dict of columns.

        Any subset of the columns; those left out are holes. ``new_columns`` adds columns that the table does not have, in a
        commit of its own before the rows. No rows (``[]``) are no commit. With ``writer`` and ``sequence`` the append is
        exactly-once: a repeated (or lower) sequence number of that writer adds nothing. A writer is who comes back under its
        name (a machine, a loader, not a process): the table knows its last sequence number for 30 days, and longer while it
        knows fewer than 4,096 (``keep_writer``). ``since``: a version that does not have this commit, noted before it was
        first tried; only a table that has forgotten writers asks for it.

        Raises:
            Invalid: a value does not fit its column; the message names column and row, and nothing is committed.
            Conflict: a column was dropped or retyped meanwhile; nothing is committed.
            UnknownOutcome: the store never said whether the commit was taken: look at ``history()`` before trying again.
                Or the table has forgotten writers since ``since``, this one perhaps among them.
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
            return Commit(**self._native.append(native, why, writer, sequence, since))
        except BaseException:
            for name, _ in added:
                self._native.drop_column(name, "the rows that it was for were not taken")
            raise

    def add_columns(
        self,
        columns: Any,
        *,
        inputs: Sequence[str] | None = None,
        at: Snapshot | None = None,
        why: str = "",
    ) -> Commit:
        """Adds columns, writing only those.

        From data: an Arrow table, or a dict of columns, with a row for each row of the table, in the order of a scan. Where others may
        commit meanwhile, or the table has a sort key, ``at`` is the snapshot whose rows these are: ``table.add_columns(made_of(snapshot), at=snapshot)``.
        From a function: it gets a ``Batch`` of ``inputs`` and gives the new columns for it, in any form of data.
        From names and types (``{"score": "float64"}``): empty columns. Columns that exist have their holes filled, and a
        function is only called for those; where every row has a value, ``Invalid`` says so. Pictures become blobs.

        Raises:
            Invalid: the rows are not as many as the table has, a type differs, no row has a hole to fill, or data for a table with
                a sort key has no ``at``.
            Conflict: a column of that name came meanwhile, or rows of ``at`` were sorted since.
            UnknownOutcome: the store never said whether the commit was taken.
        """
        known = self.columns
        if callable(columns) and not hasattr(columns, "__arrow_c_stream__"):
            function: Callable[[Batch], Any] = columns
            if inputs is None:
                raise TypeError("a function needs inputs=[…]: the columns that it reads")
            if at is not None:
                raise TypeError("a function is given the newest version's rows; at= is for data")
            return Commit(
                **self._native.add_columns_from(
                    list(inputs), lambda batch: to_native(function(Batch(batch)), known), why
                )
            )
        if isinstance(columns, Mapping) and columns and all(isinstance(kind, str) for kind in columns.values()):
            return Commit(**self._native.add_empty_columns(list(columns.items()), why))
        rows = None if at is None else at._view
        return Commit(**self._native.add_columns(to_native(columns, known), rows, why))

    def add_column(self, name: str, type: str, *, default: Any = None, why: str = "") -> Commit:
        """Adds a column without data. Its rows, and those that are appended without it, read as ``default`` (none: null), which
        takes no room in files. A null that is appended stays null. The default stays as it is; ``update`` changes values.

        Raises:
            Invalid: there is a column of that name, or the default is no value of the type.
            Unsupported: the type has no defaults: binary, uuid, float16, tensors, blobs, lists and what has parts.
            Conflict: a column of that name came meanwhile.
        """
        values = None if default is None else to_native([{name: default}], {name: type})
        return Commit(**self._native.add_column(name, type, values, why))

    def delete(
        self,
        where: str | None = None,
        *,
        row_ids: Sequence[int] | None = None,
        purge: bool = False,
        why: str = "",
        writer: str = "",
        sequence: int = -1,
        since: int = 0,
    ) -> Commit:
        """Deletes the rows that pass a filter (``"true"``: every row), or those with these ids.

        Earlier versions keep them, and ``restore`` brings them back; their ids are never given again. With ``purge`` the next
        ``gc`` takes their bytes out of the newest version's files, and lets every earlier version go but those with tags or
        refs; the files that hold the bytes are deleted a grace period later. ``rows`` of the result
        is how many there were; no row is no commit. With ``writer`` and ``sequence`` it is exactly-once, as ``append``.

        Raises:
            Invalid: the filter is wrong, or nothing says which rows.
            NotFound: no row has one of the ids; nothing is deleted.
            Conflict: others changed these rows again and again meanwhile.
            UnknownOutcome: the store never said whether the commit was taken.
        """
        return Commit(**self._native.delete(where or "", _ids(where, row_ids), purge, why, writer, sequence, since))

    def update(
        self,
        values: Any,
        where: str | None = None,
        *,
        row_ids: Sequence[int] | None = None,
        inputs: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        why: str = "",
        writer: str = "",
        sequence: int = -1,
        since: int = 0,
    ) -> Commit:
        """Gives the rows that pass a filter (``"true"``: every row), or those with these ids, new values.

        ``values``: a dict with one value for each column that changes (``{"label": "cat"}``), or a function with
        ``columns``, the names of those columns: it gets a ``Batch`` of ``inputs`` and gives as many rows, in any form of
        data. Only the columns that change are written, and of few rows only these.

        Raises:
            Invalid: a value does not fit its column, or nothing says which rows; nothing is changed.
            NotFound: a column is not there, or no row has one of the ids.
            Conflict: others changed these rows again and again meanwhile.
            UnknownOutcome: the store never said whether the commit was taken.
        """
        known = self.columns
        if callable(values):
            if columns is None:
                raise TypeError("a function needs columns=[…]: those that it changes")
            function: Callable[[Batch], Any] = values
        elif isinstance(values, Mapping):
            columns = list(values)

            def function(batch: Batch) -> Any:
                return {name: [value] * len(batch) for name, value in values.items()}

        else:
            raise TypeError("update() takes a dict with a value for each column, or a function")
        return Commit(
            **self._native.update(
                where or "",
                _ids(where, row_ids),
                list(inputs or []),
                list(columns),
                lambda batch: to_native(function(Batch(batch)), known),
                why,
                writer,
                sequence,
                since,
            )
        )

    def merge(
        self,
        rows: Any,
        on: str | Sequence[str],
        *,
        matched: str = "update",
        not_matched: str = "add",
        why: str = "",
        writer: str = "",
        sequence: int = -1,
        since: int = 0,
    ) -> Merge:
        """Brings rows in by a key (an upsert), in one commit: rows of the table whose key they have get their values, others
        are added.

        ``rows``: data as for ``append``, which is held in memory; ``on``: the key's columns. ``matched``: ``"update"``
        (columns that the rows do not have keep their values), ``"keep"`` or ``"delete"``. ``not_matched``: ``"add"`` or
        ``"ignore"``.

        Raises:
            Invalid: two of the rows have one key or one of them has none, or a value does not fit; nothing is changed.
            NotFound: the table has no such column.
            Conflict: others changed the table again and again meanwhile.
            UnknownOutcome: the store never said whether the commit was taken.
        """
        if matched not in ("update", "keep", "delete"):
            raise ValueError(f"matched is 'update', 'keep' or 'delete', not {matched!r}")
        if not_matched not in ("add", "ignore"):
            raise ValueError(f"not_matched is 'add' or 'ignore', not {not_matched!r}")
        rows = gathered(rows)
        if is_empty(rows):
            return Merge(self.version, 0, 0, 0, False, 0, 0, 0)
        key = [on] if isinstance(on, str) else list(on)
        native = to_native(rows, self.columns)
        return Merge(**self._native.merge(native, key, matched, not_matched == "add", why, writer, sequence, since))

    def restore(self, version: int | str | datetime.datetime, *, why: str = "") -> Commit:
        """Makes the rows, columns and values of an earlier version (or tag, or time) the newest. Those in between stay, and
        can be restored too.

        Raises:
            NotFound: there is no such version.
        """
        return Commit(**self._native.restore(str(self.at(version).version), why))

    def rename_column(self, old: str, new: str, *, why: str = "") -> Commit:
        """Renames a column: metadata only.

        Raises:
            NotFound: there is no such column.
            Invalid: the new name is taken.
            Conflict: the column was changed meanwhile.
        """
        return Commit(**self._native.rename_column(old, new, why))

    def widen(self, name: str, type: str, *, why: str = "") -> Commit:
        """Gives a column a wider type, ``"int64"`` for an ``int32``: metadata only, no value is written, and older versions
        read as they were. Integers, floats and decimals become wider, also inside lists, structs and maps, where ``type`` is
        the whole column's (``"list<float64>"``).

        Raises:
            NotFound: there is no such column.
            Invalid: not every value of the column's type is one of the other, or it has that type.
            Conflict: the column was changed meanwhile.
        """
        return Commit(**self._native.widen(name, type, why))

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
        """What happened to the table, newest first. Raises: Unavailable, where the store cannot be reached."""
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
