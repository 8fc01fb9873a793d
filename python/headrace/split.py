"""Stable splits: train, val and test by a hash of a key, so that no row changes sides when data grows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from headrace import _native

_DIGITS = 18
_ROUNDING = Decimal("1e-9")  # what a sum of shares may miss of 1

Share = float | str | Decimal | Fraction


def _digits(share: Share) -> str:
    if isinstance(share, Fraction):
        exact = Decimal(share.numerator) / Decimal(share.denominator)
    else:
        exact = Decimal(repr(float(share)) if isinstance(share, (int, float)) else share)
    if not exact.is_finite():
        raise ValueError(f"a share is a number from 0 to 1, not {share!r}")
    text = f"{exact:.{_DIGITS}f}"
    return text.rstrip("0").rstrip(".")


class Split(Mapping[str, str]):
    """Parts of a table that stay what they are: ``hr.Split("path", train=0.9, val=0.05, test=0.05)``.

    Which part a row is in is a hash of the key ``on`` and the ``seed``, and of nothing else. ``split["train"]`` is a filter,
    for whatever takes a ``where``: ``hr.Stream(photos, where=split["train"])``. ``on`` is a column, or what a filter can
    calculate: ``"path"``, ``"image.checksum"`` (copies of a picture stay together), ``"taken::date"``, ``"_row_id"``.

    Shares add up to 1 or less; what is missing is in no part, as are rows whose key is null. Names that Python does not take
    are given as a dict: ``hr.Split("path", {"in": 0.5, "out": 0.5})``.

    Raises:
        Invalid: the shares add up to more than 1, or a name has a comma, a colon or quotes.
        ValueError: a share is no number, or the seed is below 0.
    """

    def __init__(self, on: str, parts: Mapping[str, Share] | None = None, *, seed: int = 0, **named: Share) -> None:
        shares = {**(parts or {}), **named}
        if not shares:
            raise TypeError("a split needs parts, as in hr.Split('path', train=0.9, test=0.1)")
        if not 0 <= seed < 2**63:
            raise ValueError(f"a seed is a whole number from 0 to 2**63 - 1, not {seed!r}")
        if strange := next((name for name in shares if "," in name), None):
            raise ValueError(f"the name of a part has no commas: {strange!r}")
        self.on = on
        self.seed = seed
        self.parts = {name: _digits(share) for name, share in shares.items()}
        text = ", ".join(f"{name}:{share}" for name, share in self.parts.items())
        _native.check_split(text)
        #: The name of a row's part, for SQL: ``f"select {split.expression} as part, count(*) from photos group by 1"``.
        self.expression = f"hash_split({on}, '{text}', {seed})"

    def where(self, part: str, more: str | None = None) -> str:
        """The filter that keeps a part's rows, and of those the ones that pass another filter.

        Raises:
            KeyError: the split has no such part.
        """
        if part not in self.parts:
            raise KeyError(f"the split has no part {part!r}; it has {', '.join(self.parts)}")
        own = f"{self.expression} = '{part}'"
        return own if more is None else f"({more}) and {own}"

    def stratified(self, by: str) -> str:
        """An SQL expression for sides with exact shares within each value of ``by``, to be kept in a column.

        Such sides depend on the other rows, so they are right for the rows of one version: ``photos.add_columns(catalog.sql(
        f"select {split.stratified('label')} as side from photos order by _row_place"))``. Again, later, it fills the rows that have
        none, by their rank among all rows of their value; sides that were given stay.
        """
        rank = (
            f"row_number() over (partition by {by} order by hash_fraction({self.on}, {self.seed}) nulls last, _row_id)"
        )
        count = f"count({self.on}) over (partition by {by})"
        cases = [f"when {self.on} is null then null"]
        end = Decimal(0)
        for name, share in self.parts.items():
            end += Decimal(share)
            whole = end > 1 - _ROUNDING and name == list(self.parts)[-1]
            cases.append(
                f"when {rank} <= {'' if whole else f'round({end} * '}{count}{'' if whole else ')'} then '{name}'"
            )
        return f"case {' '.join(cases)} end"

    def __getitem__(self, part: str) -> str:
        return self.where(part)

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Split) and other.expression == self.expression

    def __hash__(self) -> int:
        return hash(self.expression)

    def __reduce__(self) -> Any:
        return _of, (self.on, self.parts, self.seed)

    def __repr__(self) -> str:
        shares = ", ".join(f"{name}={share}" for name, share in self.parts.items())
        return f"Split(on={self.on!r}, {shares}, seed={self.seed})"


def _of(on: str, parts: Mapping[str, Share], seed: int) -> Split:
    return Split(on, parts, seed=seed)
