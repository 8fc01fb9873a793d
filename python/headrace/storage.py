"""Where a table's bytes lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class Amount(NamedTuple):
    """Objects of the catalog's store, and their bytes."""

    objects: int
    bytes: int


@dataclass(frozen=True)
class Storage:
    """The objects of a table, each counted once by what holds it, as ``headrace du`` shows them; and what the newest version
    consists of."""

    version: int
    """The newest."""
    newest: Amount
    """Named by the newest version."""
    older: Amount
    """Named by older versions only: what expiring these frees."""
    history: Amount
    """Snapshots."""
    derived: Amount
    """Selections of streams and locks: made again where they are needed."""
    unnamed: Amount
    """Of no version: being written just now, or left behind by a crash."""
    columns: dict[str, int]
    """Bytes by column of the newest version, without media."""
    packs: Amount
    """Its media."""
    packs_live: int
    """The bytes of media that rows point at."""
    indexes: int
    """Ends of its data files, and their checksums."""
    replaced: int
    """Values in its data files that an update or a dropped column left behind."""
    used_last_by: dict[int, int]
    """By version: bytes that no newer one names. They go when it and all versions before it expire."""

    @property
    def total(self) -> Amount:
        """All objects."""
        parts = (self.newest, self.older, self.history, self.derived, self.unnamed)
        return Amount(sum(part.objects for part in parts), sum(part.bytes for part in parts))


def of_native(facts: dict[str, Any]) -> Storage:
    """What the native module measured."""
    parts: dict[str, Any] = {name: Amount(**facts[name]) for name in _AMOUNTS}
    return Storage(**{**facts, **parts})


_AMOUNTS = ("newest", "older", "history", "derived", "unnamed", "packs")
