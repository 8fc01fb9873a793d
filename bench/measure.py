"""Alternating timings and the lines of the result."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Line:
    """One row of the table: ours, theirs, the ratio, and what it must reach."""

    work: str
    ours: str
    theirs: str
    ratio: float
    target: str
    reached: bool

    def text(self) -> str:
        mark = "ok  " if self.reached else "MISS"
        return f"{mark} {self.work:74} ours {self.ours:>20}  theirs {self.theirs:>20}  ratio {self.ratio:8.3f}  must be {self.target}"

    def markdown(self) -> str:
        return f"| {self.work} | {self.ours} | {self.theirs} | {self.ratio:.3f} | {self.target} | {'yes' if self.reached else '**no**'} |"


def timed(function: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def alternate(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Medians of both, run in turn; the first round of each is a warm-up that does not count."""
    mine, rival = [], []
    for index in range(rounds + 1):
        a, b = (timed(ours), timed(theirs)) if index % 2 == 0 else reversed((timed(theirs), timed(ours)))
        if index:
            mine.append(a)
            rival.append(b)
    return statistics.median(mine), statistics.median(rival)


def at_most(work: str, ours: float, theirs: float, limit: float, unit: str = "ms") -> Line:
    scale = 1000 if unit == "ms" else 1
    ratio = ours / theirs
    return Line(
        work, f"{ours * scale:.2f} {unit}", f"{theirs * scale:.2f} {unit}", ratio, f"≤ {limit:g}", ratio <= limit
    )
