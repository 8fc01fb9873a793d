"""Answers of a model: one, or those of many prompts, a bounded number at a time."""

from __future__ import annotations

import collections
import datetime
import json
import os
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.errors import HeadraceError

IN_FLIGHT = 64  # requests that the engine has at once, of a list of prompts
PATIENCE = 2.0  # seconds before a terminal shows progress
REDRAW = 0.2


@dataclass(frozen=True)
class Delta:
    """A piece of an answer as it comes. The last has ``finish``: end, stop, length, cancelled or timeout."""

    text: str
    tokens: list[int]
    finish: str = ""
    usage: dict[str, Any] | None = None


@dataclass(frozen=True)
class Answer:
    """A whole answer. ``value`` is what a schema asked for, None without one (or where the answer was cut off); ``id`` is
    its row in ``traces``, "" where there is none.

    ``finish``: "end" (the model's own), "stop" (a stop string), "length" (``max_tokens``, or the context's end). ``logprobs``, where they were
    asked for: of each token its logarithm and those of the likeliest ones.

    ``usage``: ``prompt_tokens``, of which ``cached_tokens`` came from the cache; ``answer_tokens``, of which a grammar left no choice about
    ``forced_tokens``; ``drafted_tokens`` and how many of them were right, ``accepted_tokens``; ``preemptions``; and the seconds that it took:
    ``queue_seconds`` until it began, ``prefill_seconds``, ``decode_seconds``, and ``grammar_seconds`` of compiling its schema.
    """

    text: str
    tokens: list[int]
    finish: str
    usage: dict[str, Any] = field(repr=False)
    logprobs: list[tuple[float, list[tuple[int, float]]]] = field(default_factory=list, repr=False)
    value: Any = None
    id: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.text


def _new_id() -> str:
    """A UUIDv7 without dashes (RFC 9562): begins with the time."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62 | (random & (1 << 62) - 1)
    return uuid.UUID(int=value).hex


class Pending:
    """An answer that is being given."""

    def __init__(self, prompt: Any, reader: Any) -> None:
        self.prompt = prompt
        self.reader = reader
        self.id = _new_id()
        self.started = datetime.datetime.now(datetime.timezone.utc)

    def wait(self, with_logprobs: bool, value: Callable[[str, str], Any]) -> Answer:
        """The whole answer."""
        text, finish = "", ""
        tokens: list[int] = []
        logprobs: list[Any] = []
        usage: dict[str, Any] = {}
        while (piece := self.reader.next()) is not None:
            text += piece[0]
            tokens += piece[1]
            logprobs += piece[2]
            finish, usage = piece[3] or finish, piece[5] or usage
        return Answer(text, tokens, finish, usage, logprobs if with_logprobs else [], value(text, finish))


class Progress:
    """How many answers are there: told to a function, or shown on a terminal where it takes longer."""

    def __init__(self, total: int, told: Callable[[int, int], Any] | bool | None) -> None:
        self._total = total
        self._tell = told if callable(told) else None
        self._draws = told is True or (told is None and sys.stderr.isatty())
        self._begin = time.monotonic()
        self._drawn = self._begin + PATIENCE - REDRAW
        self._line = False

    def at(self, done: int) -> None:
        """`done` answers are there."""
        if self._tell is not None:
            self._tell(done, self._total)
        now = time.monotonic()
        if not self._draws or now - self._drawn < REDRAW:
            return
        self._drawn, self._line = now, True
        left = (now - self._begin) / max(done, 1) * (self._total - done)
        known = done > IN_FLIGHT  # the first answers, which ran together, say little about the others
        sys.stderr.write(f"\r{done:,} of {self._total:,} answers{f', about {left:.0f} s left' if known else ''} \x1b[K")
        sys.stderr.flush()

    def end(self) -> None:
        """Takes the line away."""
        if self._line:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def gather(
    prompts: Sequence[Any],
    submit: Callable[[Any], Pending],
    wait: Callable[[Pending], Answer],
    told: Callable[[int, int], Any] | bool | None,
    keep: Callable[[Pending, Answer], Answer],
) -> list[Answer]:
    """The prompts' answers in their order, with ``IN_FLIGHT`` of them asked for at a time.

    What ends it early (Ctrl-C, a prompt that is too long) is raised with the answers that were whole by then as its
    ``answers``, None for the others.
    """
    answers: list[Answer | None] = [None] * len(prompts)
    progress = Progress(len(prompts), told)
    waiting: collections.deque[tuple[int, Pending]] = collections.deque()

    def take() -> None:
        place, pending = waiting.popleft()
        try:
            answers[place] = keep(pending, wait(pending))
        except BaseException:
            pending.reader.cancel()
            raise
        progress.at(place + 1)

    try:
        for place, prompt in enumerate(prompts):
            if len(waiting) == IN_FLIGHT:
                take()
            waiting.append((place, submit(prompt)))
        while waiting:
            take()
    except BaseException as error:
        for _, pending in waiting:
            pending.reader.cancel()
        for place, pending in waiting:
            answers[place] = _whole(pending, wait, keep)
        error.answers = answers  # type: ignore[attr-defined]
        done = sum(answer is not None for answer in answers)
        if hasattr(error, "add_note"):
            error.add_note(
                f"{done:,} of {len(prompts):,} answers are whole: this exception's .answers, with None for the others"
            )
        raise
    finally:
        progress.end()
    return [answer for answer in answers if answer is not None]


def _whole(
    pending: Pending, wait: Callable[[Pending], Answer], keep: Callable[[Pending, Answer], Answer]
) -> Answer | None:
    """The answer, if it had ended before it was cancelled."""
    try:
        answer = wait(pending)
    except (HeadraceError, ValueError):
        return None
    return None if answer.finish in ("", "cancelled") else keep(pending, answer)


_FINISH = {"end": "stop", "stop": "stop"}  # as the server's rows have it


def trace_row(pending: Pending, answer: Answer, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The answer as a row of ``traces``."""
    usage = answer.usage
    ended = datetime.datetime.now(datetime.timezone.utc)
    seconds = (ended - pending.started).total_seconds()
    is_text = isinstance(pending.prompt, str)
    sampling = {name: value for name, value in options.items() if isinstance(value, (str, int, float, list))}
    return {
        "id": pending.id,
        "started": _micros(pending.started),
        "ended": _micros(ended),
        "endpoint": "python",
        "model": model,
        "time": _micros(ended),
        "trace_id": pending.id,
        "span_id": pending.id[16:],
        "name": f"{'text_completion' if is_text else 'chat'} {model}",
        "kind": "internal",
        "operation": "text_completion" if is_text else "chat",
        "service": "python",
        "provider": "headrace",
        "key": str(options.get("key") or ""),
        "stream": False,
        **({"prompt": pending.prompt} if is_text else {"input": json.dumps(list(pending.prompt), default=str)}),
        "sampling": json.dumps(sampling),
        "max_tokens": options.get("max_tokens"),
        "finish": _FINISH.get(answer.finish, answer.finish),
        "answer": answer.text,
        **{name: usage[name] for name in _USAGE if name in usage},
        "total_seconds": seconds,
    }


_USAGE = (
    "prompt_tokens", "cached_tokens", "answer_tokens", "forced_tokens", "preemptions", "queue_seconds", "prefill_seconds", "decode_seconds",
)  # fmt: skip


def _micros(time: datetime.datetime) -> int:
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (time - epoch) // datetime.timedelta(microseconds=1)


class Record:
    """Rows of ``traces`` that are committed together, at most every ``SECONDS``."""

    SECONDS = 30.0

    def __init__(self, commit: Callable[[str], None]) -> None:
        self._commit = commit
        self._rows: list[dict[str, Any]] = []
        self._last = time.monotonic()

    def add(self, row: dict[str, Any]) -> None:
        """One more row."""
        self._rows.append(row)
        if time.monotonic() - self._last >= self.SECONDS:
            self.flush()

    def flush(self) -> None:
        """Commits what there is. A catalog that cannot be written to costs the rows, not the answers."""
        rows, self._rows = self._rows, []
        self._last = time.monotonic()
        if not rows:
            return
        try:
            self._commit(json.dumps(rows))
        except HeadraceError as error:
            warnings.warn(f"{len(rows)} answers are not in `traces`: {error}", stacklevel=2)


def pieces(reader: Any) -> Iterator[Delta]:
    """The pieces of an answer as they come."""
    try:
        while (piece := reader.next()) is not None:
            yield Delta(piece[0], piece[1], piece[3], piece[5])
    finally:
        reader.cancel()
