"""What a fine-tuning would take: ``headrace tune … --plan``. Tokens and steps are counted, and time and memory are measured on this
machine, with a few steps whose gradients nothing is done with."""

from __future__ import annotations

import dataclasses
import resource
import time
from typing import TYPE_CHECKING, Any

from headrace.tune_batches import StepBatch, TokenBatches
from headrace.tune_progress import duration

if TYPE_CHECKING:
    from headrace.tune_loop import Tuning

MEASURED_SECONDS = 6.0  # at least, and one step


@dataclasses.dataclass(frozen=True)
class Plan:
    """Of one fine-tuning on this machine. ``seconds``: of training, and of the validations in it; ``memory``: bytes, at most."""

    rows: int
    samples: str  # what was cut and left out
    tokens: int
    learned_tokens: int
    steps: int
    tokens_per_second: float
    seconds: float
    validation_seconds: float
    memory: int

    def lines(self) -> dict[str, str]:
        """For people."""
        return {
            "rows": f"{self.rows:,}",
            "tokens": f"{self.tokens:,}, of which {self.learned_tokens:,} are learned",
            "steps": f"{self.steps:,}",
            "speed": f"{self.tokens_per_second:,.0f} tokens a second",
            "time": f"{duration(self.seconds)} and {duration(self.validation_seconds)} of validation",
            "memory": f"{self.memory / 1e9:.1f} GB",
            "data": self.samples,
        }


def plan(tuning: Tuning) -> Plan:
    """Counts all batches of the training, and measures some."""
    config, data = tuning.config, tuning.data
    tokens = learned = steps = 0
    first: list[StepBatch] = []
    longest: StepBatch | None = None
    stream = data.stream("train", 1)
    epoch_steps = 0
    for batch in TokenBatches(stream, data.maker.rows, config.batch_tokens, config.micro_tokens):
        epoch_steps += 1
        tokens += batch.tokens
        learned += batch.learned
        if len(first) < 8:
            first.append(batch)
        if longest is None or batch.tokens > longest.tokens:
            longest = batch
    samples = str(data.maker.counts()).strip()
    times = config.epochs if config.steps is None else config.steps / max(1, epoch_steps)
    steps = config.steps if config.steps is not None else epoch_steps * config.epochs
    speed = _tokens_per_second(tuning, [*first, *([longest] if longest else [])])
    evaluation = _validation_seconds(tuning) * (config.evaluations + 1 if config.evaluations else 0)
    total = round(tokens * times)
    return Plan(
        rows=tuning.epoch_rows, samples=samples, tokens=total, learned_tokens=round(learned * times), steps=steps,
        tokens_per_second=speed, seconds=total / speed if speed else 0.0, validation_seconds=evaluation,
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )  # fmt: skip


def _tokens_per_second(tuning: Tuning, batches: list[StepBatch]) -> float:
    """Of whole steps: forward, backward and update with a rate of 0, which changes nothing."""
    warm = False
    done, spent = 0, 0.0
    for batch in batches:
        if not batch.learned:
            continue
        began = time.perf_counter()
        for piece in batch.pieces:
            tuning.trainer.step(piece.tokens, piece.starts, piece.targets, 1.0 / batch.learned)
        tuning.trainer.update(0.0, tuning.config.clip)
        if warm or len(batches) == 1:
            done += batch.tokens
            spent += time.perf_counter() - began
        warm = True
        if spent > MEASURED_SECONDS:
            break
    return done / spent if spent else 0.0


def _validation_seconds(tuning: Tuning) -> float:
    """Of one look at the rows that are kept back, from its first pieces."""
    pieces: list[Any] = tuning.validation()
    done, spent = 0, 0.0
    for piece in pieces:
        began = time.perf_counter()
        tuning.trainer.evaluate(piece.tokens, piece.starts, piece.targets)
        spent += time.perf_counter() - began
        done += len(piece.tokens)
        if spent > MEASURED_SECONDS / 3:
            break
    return spent * sum(len(piece.tokens) for piece in pieces) / done if done else 0.0
