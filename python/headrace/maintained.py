"""What a table is asked to be kept in order: small files, old versions, known writers, damage."""

from __future__ import annotations

import datetime

from headrace import _native, upkeep
from headrace.commits import Commit, Compaction, Writer
from headrace.snapshot import Shown
from headrace.upkeep import Collection, Verification


class Maintained(Shown):
    """The part of ``Table`` that is about its files and versions."""

    @property
    def _native(self) -> _native.Table:
        raise NotImplementedError

    def compact(self, *, why: str = "") -> Compaction:
        """Writes small fragments into larger ones, and updates and deletes into the files: scans are as fast as those of a
        table that was written at once. Where the table has a sort key (``sort_by``), rows are sorted by it. Rows and their ids
        stay; earlier versions keep their files.

        Raises:
            Conflict: others changed the same rows again and again meanwhile.
            UnknownOutcome: the store never said whether the commit was taken.
        """
        return Compaction(**self._native.compact(why))

    def sort_by(self, *columns: str, why: str = "") -> Commit:
        """By what ``compact``, and the background that joins small files, sort rows from now on: numbers, text, bytes, dates,
        times or uuids; the first column is the first. None: by nothing.

        Rows that are asked for together then lie together: a filter on the first columns reads their pages alone. Rows keep
        their ids; a scan gives them in the order in which they lie.

        Raises:
            NotFound: there is no such column.
            Invalid: values of a column have no order, or it is named twice.
            Conflict: a column was dropped or renamed meanwhile.
        """
        return Commit(**self._native.sort_by(list(columns), why))

    @property
    def sort_key(self) -> list[str]:
        """The columns by which compaction sorts the rows; empty: by none. Raises: Unavailable."""
        return self._native.sort_key()

    def keep(self, time: str | float | datetime.timedelta | None, *, why: str = "") -> Commit:
        """How long a version stays once a newer one is there: ``"30d"``, a ``timedelta``, seconds, or ``"forever"``. The
        newest, and versions with tags or refs, stay whatever their age. Nothing goes before ``gc``.

        Raises:
            Invalid: that is no length of time.
        """
        return Commit(**self._native.retain(upkeep.keep_micros(time), why))

    def writers(self) -> list[Writer]:
        """Who has committed with ``writer`` and ``sequence``, as far as the table knows, and whose names it keeps. Raises: Unavailable."""
        return [Writer(*writer) for writer in self._native.writers()]

    def keep_writer(self, name: str, keep: bool = True, *, why: str = "") -> Commit:
        """Never forgets a writer, however long it is away; one that has not committed yet begins here. ``keep=False``: as
        others again.

        Raises:
            NotFound: no writer of that name is known, and it is not to be kept.
        """
        return Commit(**self._native.change_writer(name, "keep" if keep else "release", why))

    def forget_writer(self, name: str, *, why: str = "") -> Commit:
        """Forgets a writer: what it, or another unknown one, commits from now on needs ``since``.

        Raises:
            NotFound: no writer of that name is known.
        """
        return Commit(**self._native.change_writer(name, "forget", why))

    def gc(
        self,
        *,
        keep: str | float | datetime.timedelta | None = None,
        grace: str | float | datetime.timedelta = "1d",
        dry_run: bool = False,
    ) -> Collection:
        """Expires versions that the table does not keep (``keep``: instead of its own, this time), and deletes the files that
        no version has needed for ``grace``, with those that killed writers left. What is being read or written stays. With
        ``dry_run`` it only tells.

        Raises:
            Invalid: ``keep`` or ``grace`` is no length of time.
            UnknownOutcome: the store never said whether the commit was taken.
        """
        kept = None if keep is None else upkeep.keep_micros(keep)
        return upkeep.collection(self._native.gc(kept, upkeep.micros(grace), dry_run))

    def verify(self, *, newest: bool = False) -> Verification:
        """Reads everything that is stored, of every version that is kept (``newest``: of that one), and checks it: every
        checksum and every reference. Damage is told, not raised. Raises: Unavailable.
        """
        return upkeep.verification(self._native.verify(newest))
