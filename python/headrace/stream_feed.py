"""A stream's batches for a framework's own loop, which may ask for more of them than it has used."""

from __future__ import annotations

import collections
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

from headrace import tensors
from headrace.stream import Stream

Convert = Callable[[dict[str, Any]], Any]


class Feed:
    """One epoch after the other. ``state()`` is where the stream stood after the last batch that was *used*: whoever uses one
    says so by ``used()``."""

    def __init__(self, stream: Stream, convert: Convert | None = None) -> None:
        self.stream = stream
        self.convert = convert
        self.skipped = 0  # batches of nothing that the next epoch begins with, for a loop that throws so many away
        self._given: collections.deque[str] = collections.deque()  # states after those that are not used yet
        self._state: str | None = None
        self._told = False  # somebody says what is used
        self._begin = ""  # the state when this epoch was begun

    def __len__(self) -> int:
        """Batches of a whole epoch: a framework that goes on in its middle counts from its beginning."""
        steps = int(self.stream._native.steps_of_epoch)
        if steps < 0:
            raise TypeError("this stream has no fixed number of batches")
        return steps

    def __iter__(self) -> Iterator[Any]:
        torch = tensors.loaded()
        skipped, self.skipped = self.skipped, 0
        for _ in range(skipped):
            yield {}
        stream = self.stream
        if self._given and self._told:  # asked for and never used
            stream.load_state_dict(json.loads(self._state or self._begin))
        self._given.clear()
        self._begin = json.dumps(stream.state_dict())
        if stream._native.steps_left == 0:  # a loop that counts its batches has not asked whether there is one more
            stream._native.next()
        for batch in stream._epoch():
            self._given.append(batch.state)
            found = tensors.to_torch(torch, batch.to_dict())
            yield found if self.convert is None else self.convert(found)

    def used(self, batches: int = 1) -> None:
        """The next of the batches that were given, and those after it, are done."""
        self._told = True
        for _ in range(min(batches, len(self._given))):
            self._state = self._given.popleft()

    def state(self) -> dict[str, Any]:
        """After the last batch that was used."""
        known = self._state or (self._begin if self._given else "")
        return dict(json.loads(known)) if known else self.stream.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        """Goes on there.

        Raises:
            Invalid: it is of another selection of rows.
        """
        self.stream.load_state_dict(state)
        self._given.clear()
        self._state = None
        self._told = True


@functools.cache
def _dataset_class(torch: Any) -> Any:
    class FeedDataset(torch.utils.data.IterableDataset):  # type: ignore[misc]
        """A feed as torch's DataLoader wants it."""

        def __init__(self, feed: Feed) -> None:
            self.feed = feed

        def __iter__(self) -> Iterator[Any]:
            return iter(self.feed)

        def __len__(self) -> int:
            return len(self.feed)

    return FeedDataset


def loader(feed: Feed) -> Any:
    """A DataLoader of its batches, in this process: the stream has threads of its own.

    Raises:
        RuntimeError: torch was not imported before.
    """
    torch = tensors.loaded()
    # A generator of its own: each iterator draws a seed for workers, which there are none of, and the program's would move by it.
    return torch.utils.data.DataLoader(_dataset_class(torch)(feed), batch_size=None, generator=torch.Generator())
