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
        table that was written at once. Rows, their ids and their order stay; earlier versions keep their files.

        Raises:
            Conflict: others changed the same rows again and again meanwhile.
            UnknownOutcome: the store never said whether the commit was taken.
        """
        return Compaction(**self._native.compact(why))

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
