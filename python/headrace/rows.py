"""Rows, batches, and the streams they come in."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from headrace import _native, display, process
from headrace.errors import Invalid, Unsupported
from headrace.hints import Hinted
from headrace.objects import unmasked
from headrace.process import Own


class _Named(Hinted):
    """Names of columns are no attributes: says so."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            batch = self._batch if isinstance(self, Row) else self
            if not name.startswith("_") and name in batch.columns:
                this = type(self).__name__.lower()
                raise AttributeError(f"{name!r} is a column: {this}[{name!r}]", name=None, obj=None)
            return super().__getattr__(name)


class Row(_Named, Mapping[str, Any]):
    """One row: a mapping from column names to values. Blobs are ``Blob`` objects, tensors numpy arrays."""

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: Batch, index: int) -> None:
        self._batch = batch
        self._index = index

    def __getitem__(self, name: str) -> Any:
        return self._batch._native.cell(name, self._index)

    def __iter__(self) -> Iterator[str]:
        return iter(self._batch.columns)

    def __len__(self) -> int:
        return len(self._batch.columns)

    def __reduce__(self) -> Any:
        return dict, (dict(self),)

    def _repr_html_(self) -> str:
        return display.row(self)

    def __repr__(self) -> str:
        return f"Row({dict(self)!r})"


def _through(batch: _native.Batch) -> _native.Batch:
    address = batch.address()
    return batch if address is None else batch.through(process.view(address))


class Batch(_Named, Sequence[Row]):
    """Some rows in columns. ``batch["name"]`` is a whole column as numpy, ``batch[3]`` a row."""

    def __init__(self, native: _native.Batch) -> None:
        self._own = Own(native, functools.partial(_through, native))

    @property
    def _native(self) -> _native.Batch:
        return self._own.get()

    @property
    def columns(self) -> list[str]:
        """The columns' names."""
        return self._native.names

    def __len__(self) -> int:
        return self._native.num_rows

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.to_numpy(key)
        if isinstance(key, slice):
            return [Row(self, i) for i in range(*key.indices(len(self)))]
        index = int(key)
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"row {key} of {len(self)}")
        return Row(self, index)

    def __iter__(self) -> Iterator[Row]:
        return (Row(self, i) for i in range(len(self)))

    def to_numpy(self, name: str) -> npt.NDArray[Any]:
        """A column as an array of shape (rows, …): a view where there are no nulls; numbers with nulls become float64
        with NaN; everything else is an array of objects.

        Raises:
            KeyError: there is no such column.
        """
        column: npt.NDArray[Any] = self._native.to_numpy(name)
        return column

    def blobs(self, name: str) -> list[bytes | None]:
        """The bytes of a blob column, fetched together; None where it is null.

        Raises:
            KeyError: there is no such column.
            Invalid: it is no column of blobs.
            Corrupt: bytes do not match their checksum.
            Unavailable: the store cannot be reached.
        """
        return self._native.blobs(name)

    def to_pylist(self) -> list[dict[str, Any]]:
        """The rows as dicts."""
        return [dict(row) for row in self]

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        return self._native.arrow_array()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._native.arrow_stream()

    def _repr_html_(self) -> str:
        names = dict.fromkeys(self.columns, "")
        return display.table(f"{len(self):,} rows", names, self[: display.ROWS], len(self) - display.ROWS)

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} rows: {', '.join(self.columns)}>"


class Reader(Hinted):
    """A stream of rows. Iterate over rows, or over ``batches()``; or hand it to pyarrow, polars or DuckDB whole."""

    _elsewhere: ClassVar[dict[str, str]] = {
        "fetchall": "to_pylist() gives all rows as dicts",
        "fetchone": "next(iter(reader)) is the first row",
        "head": "table.head(5) gives a table's first rows; scan(limit=5) and a query with limit 5 read no more",
        "df": "to_pandas()",
        "pl": "to_polars()",
        "arrow": "to_arrow()",
        "to_list": "to_pylist()",
        "to_dicts": "to_pylist()",
        "collect": "to_pylist(), to_arrow(), to_pandas() or to_polars()",
    }

    def __init__(self, native: _native.Reader) -> None:
        self._held = native
        self._pid = os.getpid()

    @property
    def _native(self) -> _native.Reader:
        process.check(self._pid, "this Reader")
        return self._held

    @property
    def columns(self) -> list[str]:
        """The columns' names."""
        return self._held.names

    def batches(self) -> Iterator[Batch]:
        """The batches as they come.

        Raises:
            Corrupt: a file does not match its checksum or its format.
            Unavailable: the store cannot be reached.
        """
        while (batch := self._native.next()) is not None:
            yield Batch(batch)

    def __iter__(self) -> Iterator[Row]:
        for batch in self.batches():
            yield from batch

    def to_pylist(self) -> list[dict[str, Any]]:
        """All rows as dicts.

        Raises:
            Corrupt, Unavailable: as ``batches``.
        """
        return [dict(row) for row in self]

    def to_arrow(self) -> Any:
        """The rest as a ``pyarrow.Table``.

        Raises:
            Unsupported: pyarrow is not installed.
            Corrupt, Unavailable: as ``batches``.
        """
        return _module("pyarrow").table(self)

    def to_pandas(self) -> Any:
        """The rest as a pandas DataFrame (by pyarrow).

        Raises:
            Unsupported: pandas or pyarrow is not installed.
            Corrupt, Unavailable: as ``batches``.
        """
        _module("pandas")
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """The rest as a polars DataFrame.

        Raises:
            Unsupported: polars or pyarrow is not installed.
            Corrupt, Unavailable: as ``batches``.
        """
        return _module("polars").from_arrow(self.to_arrow())

    def __repr__(self) -> str:
        names = ", ".join(self.columns)
        return f"<Reader of {names}: rows to iterate over once; batches(), to_pylist(), to_arrow(), to_pandas() and to_polars() read it too>"

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._native.arrow_stream()

    def __arrow_c_schema__(self) -> object:
        return self._native.arrow_schema()


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unsupported(f"{name} is not installed ({error}); pip install {name}") from error


def _column(name: str, values: Any, kind: str = "") -> Any:
    if isinstance(values, np.ma.MaskedArray) and values.ndim >= 1:
        values = unmasked(values) if np.ma.is_masked(values) else values.data
    if isinstance(values, np.ndarray):
        if values.dtype.kind in "iuf" and values.ndim >= 1 and values.dtype.itemsize <= 8:
            return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
        if values.ndim == 0:
            raise Invalid(f"column {name!r} is one value; give one for each row")
    elif hasattr(values, "__arrow_c_stream__") or hasattr(values, "__arrow_c_array__"):
        return values
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise Invalid(f"column {name!r} is a {type(values).__name__}; give a list with a value for each row")
    return _native.column_of(name, list(values), kind)


def _from_rows(rows: list[Any], kinds: Mapping[str, str]) -> _native.Reader:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise Invalid(f"row {number} is a {type(row).__name__}, and the first is a dict")
    names = list(dict.fromkeys(name for row in rows for name in row))
    if strange := next((name for name in names if not isinstance(name, str)), None):
        raise Invalid(f"a column's name is text, not {strange!r}")
    columns = [_native.column_of(name, [row.get(name) for row in rows], kinds.get(name, "")) for name in names]
    return _native.from_columns(names, columns)


def is_empty(data: Any) -> bool:
    """No rows, and no columns either: ``[]``, ``{}``, or a generator that gave nothing."""
    return isinstance(data, (list, tuple, Mapping)) and not data


def gathered(data: Any) -> Any:
    """Rows from a generator as a list; a polars LazyFrame collected; everything else as it is."""
    if isinstance(data, Iterator) and not hasattr(data, "__arrow_c_stream__"):
        return list(data)
    if hasattr(data, "collect") and hasattr(data, "collect_schema"):
        return data.collect()
    return data


def to_native(data: Any, kinds: Mapping[str, str] = MappingProxyType({})) -> _native.Reader:
    """Rows in any form that ``append`` takes, as a native stream. ``kinds``: the types of a table's columns, where objects
    are taken as JSON.

    Anything with ``__arrow_c_stream__`` or ``__arrow_c_array__``, a polars LazyFrame, dicts in a list or from a generator, a
    structured numpy array, or a dict of columns (numpy arrays, Arrow arrays or lists).
    """
    data = gathered(data)
    if isinstance(data, Reader):
        return data._native
    if isinstance(data, Row):
        data = [data]
    if isinstance(data, Mapping):
        return _native.from_columns(
            list(data), [_column(name, values, kinds.get(name, "")) for name, values in data.items()]
        )
    if isinstance(data, np.ndarray) and data.dtype.names:
        return to_native({name: data[name] for name in data.dtype.names}, kinds)
    if isinstance(data, (list, tuple)) and data and isinstance(data[0], Mapping):
        return _from_rows(list(data), kinds)
    if is_empty(data):
        raise Invalid("there are no rows to take columns from")
    return _native.import_stream(data)
