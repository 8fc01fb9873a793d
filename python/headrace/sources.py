"""What a stream goes over: tables, mixtures of them, packed documents."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.errors import Invalid
from headrace.model import Tokenize
from headrace.snapshot import Snapshot
from headrace.table import Table

if TYPE_CHECKING:
    from headrace.catalog import Catalog


@dataclass(frozen=True)
class Pack:
    """Documents of tokens packed into rows of ``length``.

    ``tokens``: a column of lists of whole numbers. ``lengths``: a column of how many each has (add it once; packing is
    planned from it without reading tokens). Or ``tokens`` is a column of texts, and ``tokenize`` makes tokens of them as they
    stream, called ``tokens`` in batches; every rank then tokenizes all documents, since all plan the same rows: with many ranks, store the tokens.
    ``window`` rows are planned together (8,192; of texts 1,024). Longer documents go on in another row, or are cut off with
    ``overflow="truncate"``.
    """

    tokens: str
    length: int
    lengths: str | None = None
    window: int | None = None
    overflow: str = "split"
    tokenize: Tokenize | None = None


@dataclass(frozen=True)
class Mixture:
    """Several tables in one stream, by weights.

    ``sources``: (table or snapshot, weight), or (table, weight, where). ``schedule``: {position: weights} of later stages.
    ``stop``: ``never`` (sources repeat), ``first`` or ``last`` (when the first or the last of them is used up).
    """

    sources: Sequence[tuple[Any, ...]]
    schedule: Mapping[int, Sequence[float]] = field(default_factory=dict)
    stop: str = "never"


def bytes_of(size: int | str | None) -> int:
    """A size as a number of bytes; 0 for None."""
    if size is None:
        return 0
    if isinstance(size, int):
        return size
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", size, re.IGNORECASE)
    if not match:
        raise Invalid(f"{size!r} is no size; write it as 500MB, 2GB or a number of bytes")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** " KMGT".index(match[2].upper() or " "))


def snapshot_of(data: Table | Snapshot) -> Snapshot:
    """The snapshot, or the table's newest."""
    if isinstance(data, Table):
        return data.at()
    if isinstance(data, Snapshot):
        return data
    raise TypeError(f"a stream goes over a table, a snapshot (table.at(…)) or a Mixture, not {type(data).__name__}")


def snapshot_named(catalog: Catalog, name: str) -> Snapshot:
    """``"photos"``, ``"photos@v7"``, ``"photos@golden"`` (a tag) or ``"photos@2026-11-22"``.

    Raises:
        NotFound: there is no such table, version or tag.
    """
    table, _, version = name.partition("@")
    return catalog.table(table).at(version or None)
