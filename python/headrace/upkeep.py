"""What keeping a table in order tells: what expired and went, what holds the rest, what is damaged."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from headrace import _native


@dataclass(frozen=True)
class Holder:
    """What holds some files, of those that nothing before it in the list holds.

    ``by``: ``"newest"`` (the newest version), ``"retention"`` (versions within the time that the table keeps), ``"tag"``,
    ``"lease"`` (somebody reads or writes) or ``"grace"`` (nothing, once the grace period is over).
    """

    by: str
    name: str
    version: int
    versions: int
    files: int
    bytes: int


@dataclass(frozen=True)
class Collection:
    """What garbage collection did, or in a dry run would do.

    ``expired``: versions that expired by it; ``deleted_files`` and ``deleted_bytes``: what went; ``stubs``: expired versions of
    which a line in the log is left; ``holders``: what holds the rest; ``damaged``: versions that cannot be read, because of
    which nothing was deleted; ``dropped``: the table has no name any more, and all of it goes. The one whose ``table`` is ""
    tells of uploads to a bucket, begun a day ago by programs that died: ``deleted_files`` of them went.
    """

    table: str
    dropped: bool
    dry_run: bool
    version: int
    expired: int
    deleted_files: int
    deleted_bytes: int
    stubs: int
    holders: list[Holder]
    damaged: list[str]


@dataclass(frozen=True)
class Damage:
    """Something that is stored is not what it should be. ``version``: the newest that needs it, 0: none in particular."""

    object: str
    what: str
    version: int


@dataclass(frozen=True)
class Verification:
    """What reading everything that is stored found. True where nothing is damaged.

    ``table``: its name, "" for the catalog's refs; ``orphans``: bytes that no version needs, which collection deletes.
    """

    table: str
    versions: int
    files: int
    bytes: int
    damaged: list[Damage]
    orphans: int

    def __bool__(self) -> bool:
        return not self.damaged


def micros(duration: Any) -> int:
    """A length of time in microseconds: ``"30d"``, a ``timedelta``, or seconds.

    Raises:
        Invalid: the text is no length of time, or it is negative.
    """
    if isinstance(duration, datetime.timedelta):
        return _native.parse_duration(f"{duration.total_seconds():.6f}s")
    if isinstance(duration, str):
        return _native.parse_duration(duration)
    return _native.parse_duration(f"{float(duration):.6f}s")


def keep_micros(keep: Any) -> int:
    """The same; ``None`` or ``"forever"``: 0. No time at all: the newest version alone."""
    if keep is None or keep == "forever":
        return 0
    return max(1, micros(keep))


def collection(done: dict[str, Any]) -> Collection:
    """From what the native module gives."""
    return Collection(**{**done, "holders": [Holder(**holder) for holder in done["holders"]]})


def verification(found: dict[str, Any]) -> Verification:
    """From what the native module gives."""
    return Verification(**{**found, "damaged": [Damage(**damage) for damage in found["damaged"]]})
