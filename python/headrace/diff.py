"""What differs between two versions of a table."""

from __future__ import annotations

from collections.abc import Sequence

from headrace import _native, display
from headrace.rows import Reader
from headrace.snapshot import Snapshot

_SHOWN = 10


class Diff:
    """Rows and columns that differ between the versions ``before`` and ``after``, counted; ``rows()`` gives them."""

    def __init__(self, before: Snapshot, after: Snapshot, columns: Sequence[str] = ()) -> None:
        self._columns = list(columns)
        self.before = before
        self.after = after
        counts = _native.diff_counts(before._view, after._view, self._columns)
        #: Rows that only ``after`` has.
        self.added: int = counts["added"]
        #: Rows that only ``before`` has.
        self.deleted: int = counts["deleted"]
        #: Rows of both with another value in some column that both have.
        self.changed: int = counts["changed"]
        #: All other rows of both.
        self.same: int = counts["same"]
        #: How many rows changed, by column (those where some did).
        self.changed_in: dict[str, int] = counts["changed_in"]
        #: Names and types of columns that only ``after`` has.
        self.columns_added: dict[str, str] = counts["columns_added"]
        #: … that only ``before`` has.
        self.columns_dropped: dict[str, str] = counts["columns_dropped"]
        #: Old names of columns, and their new ones.
        self.columns_renamed: dict[str, str] = counts["columns_renamed"]
        #: Types before and after of columns that were widened (``table.widen``).
        self.columns_retyped: dict[str, tuple[str, str]] = counts["columns_retyped"]

    def rows(self) -> Reader:
        """The rows that differ, by id: ``row_id``, ``change`` (``"added"``, ``"deleted"``, ``"changed"``) and ``columns``, the
        names of those whose values changed. Their values: ``diff.after.take(ids)``, ``diff.before.take(ids)``.

        Raises:
            Corrupt: while reading: bytes do not match their checksum.
        """
        return Reader(_native.diff_rows(self.before._view, self.after._view, self._columns))

    def __bool__(self) -> bool:
        """Whether anything differs."""
        columns = self.columns_added or self.columns_dropped or self.columns_renamed or self.columns_retyped
        return bool(self.added or self.deleted or self.changed or columns)

    def _words(self) -> str:
        words = [
            f"{self.added:,} rows added, {self.deleted:,} deleted, {self.changed:,} changed, {self.same:,} the same"
        ]
        words += [f"+ {name} ({kind})" for name, kind in self.columns_added.items()]
        words += [f"- {name}" for name in self.columns_dropped]
        words += [f"{old} is now {new}" for old, new in self.columns_renamed.items()]
        words += [f"{name} was {old} and is {new}" for name, (old, new) in self.columns_retyped.items()]
        words += [f"{name} changed in {count:,}" for name, count in self.changed_in.items()]
        return "; ".join(words)

    def _repr_html_(self) -> str:
        caption = f"version {self.before.version} to {self.after.version}: {self._words()}"
        first = next(self.rows().batches(), None)
        shown = [] if first is None else first[:_SHOWN]
        kinds = {"row_id": "int64", "change": "string", "columns": "list<string>"}
        return display.table(caption, kinds, shown, self.added + self.deleted + self.changed - len(shown))

    def __repr__(self) -> str:
        return f"<Diff version {self.before.version} to {self.after.version}: {self._words()}>"
