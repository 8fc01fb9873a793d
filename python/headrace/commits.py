"""What commits tell: what one did, whose it was, and the line that is left of it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass


@dataclass(frozen=True)
class Commit:
    """What a commit did. ``repeated``: this writer's sequence number was there already, and nothing was added."""

    version: int
    rows: int
    bytes: int
    fragments: int
    repeated: bool


@dataclass(frozen=True)
class Writer:
    """A writer of exactly-once commits. ``sequence``: of its last one, which is in ``version``; -1: it made none."""

    name: str
    sequence: int
    version: int
    kept: bool


@dataclass(frozen=True)
class Merge(Commit):
    """What a merge did: ``rows`` is the sum of those ``updated``, ``deleted`` and ``added``."""

    updated: int
    deleted: int
    added: int


@dataclass(frozen=True)
class Compaction(Commit):
    """What compaction did: ``fragments`` came for those ``replaced``, in ``commits`` commits (0: nothing was to be done)."""

    commits: int
    replaced: int


@dataclass(frozen=True)
class HistoryEntry:
    """One version of a table: what happened, who did it, why, and how many rows there were after it. ``expired``: this is all
    that is left of it."""

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
    expired: bool
