"""The batches of a fine-tuning: rows of a stream as tokens, as many as a step takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from headrace.errors import Invalid
from headrace.stream import Stream

Sample = tuple[int, np.ndarray, np.ndarray]
"""A row's id, its tokens (int32) and which of them are learned (uint8)."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """Documents that are computed at once, one after the other. Nothing is padded."""

    tokens: np.ndarray  # (tokens) int32
    starts: np.ndarray  # (documents + 1) int64
    targets: np.ndarray  # (tokens) int32: the token to come, or -1 where nothing is learned

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Piece:
        """Each sample is a document of its own: no token of another is seen."""
        lengths = [len(tokens) for _, tokens, _ in samples]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        targets = np.full(int(starts[-1]), -1, np.int32)
        for start, (_, tokens, learn) in zip(starts, samples, strict=False):
            ahead = targets[start : start + len(tokens) - 1]
            ahead[:] = np.where(learn[1:] != 0, tokens[1:], -1)
        return cls(np.concatenate([tokens for _, tokens, _ in samples]).astype(np.int32), starts, targets)


@dataclasses.dataclass(frozen=True)
class StepBatch:
    """What one step learns from."""

    pieces: list[Piece]
    row_ids: list[int]
    before: int  # rows of the stream that earlier batches took
    rows: int  # rows that this one took, those without a sample among them

    @property
    def tokens(self) -> int:
        """Of all documents."""
        return sum(len(piece.tokens) for piece in self.pieces)

    @property
    def learned(self) -> int:
        """How many of them are learned."""
        return sum(int((piece.targets >= 0).sum()) for piece in self.pieces)


def pieces_of(samples: Sequence[Sample], most: int) -> list[Piece]:
    """Samples in their order, in pieces of ``most`` tokens; a longer sample is a piece of its own."""
    pieces: list[Piece] = []
    held: list[Sample] = []
    tokens = 0
    for sample in samples:
        if held and tokens + len(sample[1]) > most:
            pieces.append(Piece.of(held))
            held, tokens = [], 0
        held.append(sample)
        tokens += len(sample[1])
    if held:
        pieces.append(Piece.of(held))
    return pieces


class TokenBatches:
    """Steps of at most ``most`` tokens (a longer row is a step of its own) from a stream's rows, in its order, to its end. What a row
    gives, one sample or several, stays together.

    Its state is where the stream stood before the batch that is being used up, and how many of that batch's rows are: a row belongs to
    the step that learns from it, and to no other, whenever training stops."""

    def __init__(self, stream: Stream, make: Callable[[Any], list[list[Sample]]], most: int, piece: int) -> None:
        self._stream, self._make = stream, make
        self._most, self._piece = most, piece
        self._before = stream.state_dict()
        self._used = 0  # rows of the stream's batch after `_before`
        self._total = 0  # rows of all

    def state_dict(self) -> dict[str, Any]:
        """Where it stands: after the last step that it gave."""
        return {"stream": self._before, "used": self._used, "total": self._total}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on there.

        Raises:
            Invalid: it is no such state.
        """
        if not isinstance(state.get("used"), int):
            raise Invalid("that is no state of a fine-tuning's batches")
        self._stream.load_state_dict(state["stream"])
        self._before, self._used, self._total = dict(state["stream"]), int(state["used"]), int(state["total"])

    def _rows(self) -> Iterator[tuple[list[Sample], dict[str, Any], int]]:
        """What each row gives, and the state once the row is used."""
        skip = self._used
        before = self._before
        barren = 0  # rows since the last that gave something
        for batch in self._stream.arrow():
            rows = self._make(batch)
            after = self._stream.state_dict()
            for number, samples in enumerate(rows):
                if number >= skip:
                    barren = 0 if samples else barren + 1
                    if barren > (self._stream.num_rows or 0):
                        return  # a whole epoch of nothing, of a stream that may have no end
                    last = number + 1 == len(rows)
                    yield samples, after if last else before, 0 if last else number + 1
            before, skip = after, 0

    def __iter__(self) -> Iterator[StepBatch]:
        held: list[Sample] = []
        tokens = rows = 0
        stands: tuple[dict[str, Any], int] = (self._before, self._used)
        for samples, before, used in self._rows():
            size = sum(len(sample[1]) for sample in samples)
            if held and tokens + size > self._most:
                yield self._step(held, rows, stands)
                held, tokens, rows = [], 0, 0
            rows += 1
            stands = (before, used)
            held.extend(samples)
            tokens += size
        if held:
            yield self._step(held, rows, stands)

    def _step(self, held: list[Sample], rows: int, stands: tuple[dict[str, Any], int]) -> StepBatch:
        self._before, self._used = stands
        batch = StepBatch(pieces_of(held, self._piece), [row for row, _, _ in held], self._total, rows)
        self._total += rows
        return batch
