"""A table at one version: rows read by filter, by id and by place."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from headrace import _native, display, process
from headrace.describe import Description
from headrace.hints import Hinted
from headrace.process import Own
from headrace.rows import Batch, Reader, Row


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


class Shown(Hinted):
    """What a table and its versions have in common: what other libraries call their methods, and what notebooks show."""

    _elsewhere: ClassVar[dict[str, str]] = {
        "shape": "len(table) is the number of rows, table.columns the columns",
        "num_rows": "len(table)",
        "count_rows": "len(table), or count(where=…)",
        "dtypes": "table.schema",
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
        "upsert": "merge(rows, on='key')",
        "merge_insert": "merge(rows, on='key')",
        "remove": "delete(where='…'), or delete(row_ids=[…])",
        "rollback": "restore(version)",
        "insert": "append(rows)",
        "extend": "append(rows)",
        "write": "append(rows)",
        "add_column": "add_columns({'name': values}), or add_columns(function, inputs=[…])",
        "map": "add_columns(function, inputs=[…]) keeps the results; hr.Stream(table).map(function) passes them on",
        "split": "where=hr.Split('path', train=0.9, test=0.1)['train'] keeps one side, for good",
        "train_test_split": "where=hr.Split('path', train=0.9, test=0.1)['train'] keeps one side, for good",
        "random_split": "where=hr.Split('path', train=0.9, test=0.1)['train'] keeps one side, for good",
        "compare": "table.diff(before, after) compares two versions",
        "info": "describe() has the columns, table.storage() the bytes",
        "nbytes": "table.storage().newest.bytes",
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
        rows = snapshot._first(display.ROWS, list(names))
        return display.table(caption, snapshot.columns, rows, len(snapshot) - len(rows))


class Snapshot(Shown):
    """A table at one version. It never changes, whatever is committed later."""

    def __init__(self, view: _native.View, name: str | None = None) -> None:
        self._address = (view.location, view.prefix, view.version)
        self._name = name  # of the table, where it was opened by one
        self._own = Own(view, functools.partial(process.view, self._address))

    @property
    def _view(self) -> _native.View:
        return self._own.get()

    def _as_input(self) -> dict[str, Any]:
        """What a run notes of it."""
        location, prefix, version = self._address
        entry = {
            "kind": "table",
            "name": self._name,
            "version": version,
            "table": prefix.removeprefix("tables/").rstrip("/"),
        }
        return {key: value for key, value in entry.items() if value is not None} | {"catalog": location}

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
        """Rows in the order in which they lie, as a stream: that of their ids, except where compaction has sorted them.

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

    def describe(self) -> Description:
        """The columns with their types, nulls and bounds, as far as statistics know them; nothing is read.

        Raises:
            Unavailable: the store cannot be reached.
        """
        return Description(self._view)

    def _first(self, rows: int, columns: list[str]) -> Batch:
        return self.take(self._view.ids_at(list(range(min(len(self), rows)))), columns)

    def head(self, rows: int = 5) -> Batch:
        """The first rows.

        Raises:
            Corrupt: a file does not match its checksum or its format.
            Unavailable: the store cannot be reached.
        """
        return self._first(rows, [])

    def __getitem__(self, key: slice | int) -> Any:
        """``table[:5]``, a Batch, and ``table[-1]``, a Row, by place in a scan."""
        rows = range(len(self))
        if not isinstance(key, slice):
            place = rows[operator.index(key)]
            return self[place : place + 1][0]
        return self.take(self._view.ids_at(list(rows[key])))

    def __iter__(self) -> Iterator[Row]:
        return iter(self.scan())

    def to_arrow(self) -> Any:
        """All rows as a ``pyarrow.Table``.

        Raises:
            Unsupported: pyarrow is not installed.
            Corrupt, Unavailable: as ``head``.
        """
        return self.scan().to_arrow()

    def to_pandas(self) -> Any:
        """All rows as a pandas DataFrame (by pyarrow).

        Raises:
            Unsupported: pandas or pyarrow is not installed.
            Corrupt, Unavailable: as ``head``.
        """
        return self.scan().to_pandas()

    def to_polars(self) -> Any:
        """All rows as a polars DataFrame.

        Raises:
            Unsupported: polars or pyarrow is not installed.
            Corrupt, Unavailable: as ``head``.
        """
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
        """The data files as (path, first row id, rows): ordinary Parquet and Arrow files that any program may read.

        Deleted rows are still in them, and values that an update gave to few rows lie in other files (docs/format).

        Raises:
            Unavailable: the store cannot be reached.
        """
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
