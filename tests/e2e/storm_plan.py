"""What each process of the storm does: the steps of those that change rows, as a function of their number, and what the table holds
after them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np

SPAN = 1_000_000  # keys of one process
SLOTS = 120  # of those, keys that are merged again and again; those above are appended once


def picture(key: int, value: int) -> bytes:
    """What a row's blob holds: long enough to lie in a pack, another for every value."""
    return f"{key}:{value};".encode() * 300


def row(key: int, value: int) -> dict[str, Any]:
    vector = np.array([key % SPAN, value], np.float32)
    return {"k": key, "w": key // SPAN, "v": value, "vec": vector, "image": picture(key, value)}


@dataclass(frozen=True)
class Step:
    kind: str  # append, merge, update, delete, purge
    keys: tuple[int, ...] = ()
    modulus: int = 0  # update, delete: of the process's keys with key % modulus == rest
    rest: int = 0

    def where(self, process: int) -> str:
        return f"w = {process} and k % {self.modulus} = {self.rest}"

    def matches(self, process: int, key: int) -> bool:
        return key // SPAN == process and key % self.modulus == self.rest


def step_of(seed: int, process: int, number: int) -> Step:
    rng = random.Random(f"{seed}/{process}/{number}")
    base = process * SPAN
    kind = rng.choices(["append", "merge", "update", "delete", "purge"], [5, 4, 4, 3, 1])[0]
    if kind == "append":
        return Step(kind, tuple(base + SLOTS + number * 4 + i for i in range(rng.randrange(1, 4))))
    if kind == "merge":
        return Step(kind, tuple(base + slot for slot in rng.sample(range(SLOTS), rng.randrange(1, 6))))
    modulus = rng.choice([5, 7, 11])
    return Step(kind, (), modulus, rng.randrange(modulus))


def apply(
    step: Step, process: int, number: int, state: dict[int, int], rows: int, seen: list[dict[int, int]]
) -> dict[int, int]:
    """The state (key → value) after the step, of which the log says that it had ``rows``.

    Between the version that an update or a delete read, one of ``seen`` (newest first), and its commit, restores may bring rows
    back (like rows that are appended meanwhile, these are not its own) or take rows away (an update counts them all the same).
    """
    after = dict(state)
    if step.kind in ("append", "merge"):
        assert step.kind == "merge" or not after.keys() & set(step.keys), "an append that was there already"
        after |= dict.fromkeys(step.keys, number)
        return after
    for read in seen:
        found = [key for key in read if step.matches(process, key)]
        mine = [key for key in found if key in state]
        said = len(found) if step.kind == "update" else len(mine)
        if said == rows and (step.kind != "update" or all(state[key] == read[key] for key in mine)):
            break
    else:
        raise AssertionError(f"{step} of process {process} says {rows} rows, and no version had as many")
    for key in mine:
        if step.kind == "update":
            after[key] += 1
        else:
            del after[key]
    return after
