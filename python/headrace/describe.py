"""What is known of a table's columns without reading them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from headrace import _native, display

_EPOCH = datetime.datetime(1970, 1, 1)
_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}


@dataclass(frozen=True)
class ColumnFacts:
    """A column, or a field of one (``image.width``).

    ``nulls``, ``min`` and ``max`` come from statistics: ``None`` where they do not say. Where ``exact`` is false, deleted rows
    and values that were replaced count too; of long texts, bounds may be cut.
    """

    name: str
    type: str
    nulls: int | None
    min: Any
    max: Any
    exact: bool


def _value(kind: str, value: Any) -> Any:
    try:
        if kind == "date" and value is not None:
            return (_EPOCH + datetime.timedelta(days=value)).date()
        if kind.startswith("timestamp[") and value is not None:
            unit = kind[len("timestamp[") :].split(",")[0].rstrip("]")
            if unit in _UNITS:
                zone = datetime.timezone.utc if "," in kind else None
                return (_EPOCH + datetime.timedelta(microseconds=value * _UNITS[unit])).replace(tzinfo=zone)
        return bool(value) if kind == "bool" and value is not None else value
    except OverflowError:
        return value  # beyond what datetime holds


class Description(list[ColumnFacts]):
    """The columns of a version, in order, with what statistics say of them. Prints as a table."""

    def __init__(self, view: _native.View) -> None:
        super().__init__(
            ColumnFacts(name, kind, nulls, _value(kind, low), _value(kind, high), exact)
            for name, kind, nulls, low, high, exact in _native.describe(view)
        )
        self._rows = view.rows

    def _cells(self) -> list[dict[str, Any]]:
        def nulls(column: ColumnFacts) -> str:
            return "" if column.nulls is None else f"{'' if column.exact else '≤ '}{column.nulls:,}"

        def bound(value: Any) -> str:
            return "" if value is None else str(value)

        return [
            {"column": c.name, "type": c.type, "nulls": nulls(c), "min": bound(c.min), "max": bound(c.max)}
            for c in self
        ]

    def __reduce__(self) -> Any:
        return list, (list(self),)

    def _repr_html_(self) -> str:
        names = dict.fromkeys(("column", "type", "nulls", "min", "max"), "")
        return display.table(f"{self._rows:,} rows", names, self._cells())

    def __repr__(self) -> str:
        lines = [["column", "type", "nulls", "min", "max"], *(list(cells.values()) for cells in self._cells())]
        widths = [max(len(line[i]) for line in lines) for i in range(5)]
        return "\n".join(
            "  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )
