"""Annotation queues: what people are to judge, and by which rubric."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Label:
    """A label that people may give, and its key; "" for one that Headrace chooses."""

    label: str
    key: str = ""


@dataclass(frozen=True)
class Rubric:
    """What is asked of each item: one of ``labels``, or a number of ``range``. ``name``: of the scores."""

    name: str = "score"
    labels: tuple[Label | str, ...] = ()
    range: tuple[float, float] | None = None
    instructions: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        told: dict[str, Any] = {"name": self.name}
        if self.instructions:
            told["instructions"] = self.instructions
        if self.range is not None:
            told["range"] = list(self.range)
        if self.labels:
            labels = [Label(one) if isinstance(one, str) else one for one in self.labels]
            told["labels"] = [{"key": one.key, "label": one.label} for one in labels]
        return told

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Rubric:
        """Of what ``to_dict`` gave.

        Raises:
            KeyError: a label of it has no text.
        """
        spread = told.get("range")
        return cls(
            name=told.get("name", "score"),
            labels=tuple(Label(one["label"], one.get("key", "")) for one in told.get("labels", [])),
            range=None if spread is None else (float(spread[0]), float(spread[1])),
            instructions=told.get("instructions", ""),
        )


@dataclass(frozen=True)
class Queue:
    """A queue: the rows of ``sql``, each to be judged by ``overlap`` people.

    ``Catalog.create_queue`` makes it; from then on ``items`` and ``inputs`` (the versions that it read) tell what it came to.
    """

    name: str
    sql: str
    rubric: Rubric
    overlap: int = 1
    items: int = 0
    inputs: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        """The queue as a JSON text, which ``from_json`` reads."""
        told = {"name": self.name, "sql": self.sql, "rubric": self.rubric.to_dict(), "overlap": self.overlap}
        return json.dumps({**told, "items": self.items, "inputs": list(self.inputs)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Queue:
        """The queue of such a text.

        Raises:
            KeyError: it lacks a name, a query or a rubric.
        """
        told = json.loads(text)
        return cls(
            name=told["name"],
            sql=told["sql"],
            rubric=Rubric.from_dict(told["rubric"]),
            overlap=told.get("overlap", 1),
            items=told.get("items", 0),
            inputs=tuple(told.get("inputs", ())),
        )
