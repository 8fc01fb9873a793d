"""What an importer finds: a run with its points, whichever tracker wrote it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Series:
    """The points of one key, in the order in which they were logged; lists of equal length.

    ``lives`` counts resumes: the points of a life supersede those of earlier ones from its first step on.
    """

    steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # since 1970-01-01, UTC
    values: list[float] = field(default_factory=list)
    lives: list[int] = field(default_factory=list)

    def add(self, step: int, seconds: float, value: float, life: int = 0) -> None:
        """One more point."""
        self.steps.append(step)
        self.seconds.append(seconds)
        self.values.append(value)
        self.lives.append(life)


@dataclass
class FoundRun:
    """One run of another tracker's."""

    tracker: str  # "tensorboard", "wandb" or "mlflow"
    origin: str  # which run it is there, the same whenever it is found: its id, or its folder
    name: str
    project: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    notes: str = ""
    who: str = ""
    host: str = ""
    command: str = ""
    commit: str = ""  # of the code
    parent: str = ""  # the origin of another
    begin: float | None = None  # seconds since 1970-01-01, UTC
    end: float | None = None  # None: nothing tells that it ended
    state: str = ""  # "finished", "failed", "killed", or empty where nothing tells
    series: dict[str, Series] = field(default_factory=dict)
    passed_over: Counter[str] = field(default_factory=Counter)  # kinds of values that are not imported, and how many
    complaints: list[str] = field(default_factory=list)  # what could not be read, and where

    def point(self, key: str, step: int, seconds: float, value: float, life: int = 0) -> None:
        """One more point of a key."""
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series()
        series.add(step, seconds, value, life)

    def points(self) -> int:
        """How many it has, of all keys."""
        return sum(len(series.steps) for series in self.series.values())


def number_of(value: Any) -> float | None:
    """A number, or nothing. ``NaN`` and ``Infinity`` are numbers, however JSON was made to hold them; truth values are 0 and 1."""
    if isinstance(value, (bool, int, float)):
        return float(value)
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    return None


def value_of(text: str) -> Any:
    """JSON, or the text where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text
