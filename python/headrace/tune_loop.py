"""The loop of a fine-tuning, in a process of its own: ``python -m headrace.tune_loop CONFIG``, which ``headrace tune`` and ``hr.tune`` start.

A step: rows of the stream as tokens, their loss and gradients piece by piece, one update of the adapters. The run has its
curves; a checkpoint has adapters, optimizer and the position in the stream, so a run that was killed goes on bit for bit."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import pathlib
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from headrace import _engine, _tune, program, tune_plan
from headrace.catalog import Catalog
from headrace.catalog import open as open_catalog
from headrace.checkpointer import Checkpointer
from headrace.errors import HeadraceError, Invalid, NotFound
from headrace.runs import Run, run
from headrace.sources import snapshot_named
from headrace.split import Split
from headrace.stream import Stream
from headrace.tune_batches import Piece, StepBatch, TokenBatches, pieces_of
from headrace.tune_config import TuneConfig
from headrace.tune_progress import Progress

ROWS_AT_ONCE = 64  # that are read from the stream
MOST_TOKENS = 2048  # of a row, where nothing else is said
NO_END = 1 << 30  # epochs, where a number of steps is what ends it
KIND = "tune"
VALIDATION = "val/loss"


class Adapters:
    """The adapters of a trainer as a checkpoint's ``model``."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        """Their values, over the trainer's own memory."""
        return dict(self._trainer.parameters())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes them over.

        Raises:
            Invalid: they are of other weights.
        """
        names = [name for name, _ in self._trainer.parameters()]
        if sorted(names) != sorted(state):
            raise Invalid("its adapters are of another model, or of other weights of it")
        self._trainer.set_parameters([np.ascontiguousarray(state[name], np.float32) for name in names])


class Optimizer:
    """Its optimizer as a checkpoint's ``optimizer``."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        """Its steps and moments, over the trainer's own memory."""
        steps, moments = self._trainer.moments()
        names = [name for name, _ in self._trainer.parameters()]
        return {"steps": steps, "moments": {name: list(pair) for name, pair in zip(names, moments, strict=False)}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes them over.

        Raises:
            Invalid: they are of other weights.
        """
        names = [name for name, _ in self._trainer.parameters()]
        moments = state["moments"]
        pairs = (
            [tuple(np.ascontiguousarray(one, np.float32) for one in moments[name]) for name in names] if moments else []
        )
        self._trainer.set_moments(int(state["steps"]), pairs)


def rate_of(config: TuneConfig, share: float) -> float:
    """The learning rate when this share of the training is done."""
    if share < config.warmup:
        return config.learning_rate * share / config.warmup
    left = (1 - share) / (1 - config.warmup)
    shape = {
        "constant": 1.0,
        "linear": left,
        "cosine": 0.5 * (1 + math.cos(math.pi * (1 - left))),
        "wsd": min(1.0, (1 - share) / 0.1),  # the last tenth
    }[config.schedule]
    return config.learning_rate * max(0.0, shape)


class Data:
    """The rows of a fine-tuning, and what they become."""

    def __init__(self, catalog: Catalog, config: TuneConfig) -> None:
        self.catalog = catalog
        # Of a file, the base's name is "".
        self.path, self.base, self.base_sha256 = _engine.find_model(config.model, catalog.location)
        self.snapshot = snapshot_named(catalog, config.data)
        # What is told once stays: a run that goes on has the same rows, whatever was committed since.
        self.config = config = dataclasses.replace(
            config,
            data=f"{config.data.partition('@')[0]}@v{self.snapshot.version}",
            max_tokens=config.max_tokens or min(MOST_TOKENS, _tune.trained_context(self.path)),
        )
        self.maker = _tune.sample_maker(self.path, config.to_dict())
        if missing := [name for name in self.maker.columns() if name not in self.snapshot.columns]:
            raise Invalid(
                f"{config.data} has no column {', '.join(missing)}; it has {', '.join(self.snapshot.columns)}"
            )
        share = config.validation
        self.split = Split(config.split_on, train=1 - share, val=share) if share else None

    def stream(self, part: str, epochs: int) -> Stream:
        """The rows of one side of the split: "train" or "val"."""
        where = self.split.where(part, self.config.where) if self.split else self.config.where
        return Stream(
            self.snapshot, self.maker.columns(), where=where, batch_size=ROWS_AT_ONCE, seed=self.config.seed,
            shuffle=part == "train", epochs=epochs, rank=0, world_size=1,
        )  # fmt: skip


class Tuning:
    """One fine-tuning, from its configuration to its adapter."""

    def __init__(self, catalog: Catalog, config: TuneConfig) -> None:
        self.data = Data(catalog, config)
        self.config = config = self.data.config
        self.snapshot = self.data.snapshot
        scale = (config.alpha or 0.0) / (math.sqrt(config.rank) if config.rslora else config.rank)
        self.trainer = _tune.open(
            self.data.path, config.precision, config.max_tokens or MOST_TOKENS, config.rank, scale,
            config.targets in ("all", "attention"), config.targets in ("all", "mlp"),
            [config.beta1, config.beta2, config.epsilon, config.weight_decay], config.seed, config.threads,
        )  # fmt: skip
        stream = self.data.stream("train", config.epochs if config.steps is None else NO_END)
        self.batches = TokenBatches(stream, self.data.maker.rows, config.batch_tokens, config.micro_tokens)
        self.epoch_rows = stream.num_rows or 0
        self.rows = self.epoch_rows * config.epochs
        self._validation: list[Piece] | None = None

    def done(self, rows: int, steps: int) -> float:
        """The share of the training that is done after so many rows and steps."""
        return steps / self.config.steps if self.config.steps is not None else min(1.0, rows / self.rows)

    def step(self, batch: StepBatch, number: int) -> dict[str, float]:
        """Learns from a batch. Its figures: the loss is the mean over all learned tokens of the step, however many pieces there are."""
        learned = batch.learned
        if learned == 0:
            return {}
        began = time.perf_counter()
        total = 0.0
        for piece in batch.pieces:
            loss, _ = self.trainer.step(piece.tokens, piece.starts, piece.targets, 1.0 / learned)
            total += loss
        if not math.isfinite(total):
            self.trainer.clear()
            raise Invalid(
                f"the loss of step {number} is {total}: nothing was learned from it. Its rows: "
                f"{', '.join(map(str, batch.row_ids[:20]))}{', …' if len(batch.row_ids) > 20 else ''}. A lower learning rate "
                "usually helps; the last checkpoint is there."
            )
        before, after = self.done(batch.before, number), self.done(batch.before + batch.rows, number + 1)
        rate = rate_of(self.config, (before + after) / 2)
        norm = self.trainer.update(rate, self.config.clip)
        seconds = time.perf_counter() - began
        return {
            "loss": total / learned, "learning_rate": rate, "gradient_norm": norm, "tokens": batch.tokens,
            "learned_tokens": learned, "tokens_per_second": batch.tokens / seconds, "epoch": (batch.before + batch.rows) / self.epoch_rows,
        }  # fmt: skip

    def validation(self) -> list[Piece]:
        """Rows that are kept back, as pieces; made once."""
        if self._validation is None:
            samples, tokens = [], 0
            if self.data.split:
                make = self.data.maker.rows
                with self.data.stream("val", 1) as stream:
                    for sample in (sample for batch in stream.arrow() for row in make(batch) for sample in row):
                        tokens += len(sample[1])
                        if tokens > self.config.validation_tokens:
                            break
                        samples.append(sample)
            self._validation = pieces_of(samples, self.config.micro_tokens)
        return self._validation

    def evaluate(self) -> float | None:
        """The loss over the rows that are kept back: the mean over their learned tokens. None where there are none."""
        total, count = 0.0, 0
        for piece in self.validation():
            loss, rows = self.trainer.evaluate(piece.tokens, piece.starts, piece.targets)
            total, count = total + loss, count + rows
        return total / count if count else None

    def facts(self) -> dict[str, Any]:
        """What is learned by what: for people."""
        facts = self.trainer.facts()
        weights = sum(values.size for _, values in self.trainer.parameters())
        kept = f", {self.config.validation:.0%} kept back" if self.data.split else ""
        return {
            "model": f"{self.config.model}, {facts['layers']} layers of {facts['width']}, {facts['precision']}, {facts['threads']} threads",
            "adapter": f"{self.config.out}: {weights:,} values (rank {self.config.rank}, alpha {self.config.alpha:g}, {self.config.targets})",
            "rows": f"{self.epoch_rows:,} of {self.config.data}{kept}",
            "steps": f"{self.config.steps}" if self.config.steps else f"{self.config.epochs} epochs, up to {self.config.batch_tokens:,} tokens each",
        }  # fmt: skip

    def save(self, run: Run, folder: pathlib.Path) -> dict[str, Any]:
        """The adapter as files of the run, and by its name in the catalog."""
        path = folder / f"{self.config.out}.gguf"
        texts = [
            ("general.description", f"{self.config.data} learned by {self.config.model}"),
            ("headrace.run", run.id),
            ("headrace.data", self.config.data),
        ]
        self.trainer.write_adapter(str(path), self.config.out, texts)
        saved = {"sha256": run.save(path.name, path), "file": path.name}
        return {**saved, **self.register(run, path)}

    def register(self, run: Run, path: pathlib.Path) -> dict[str, Any]:
        """The adapter by its name in the catalog, where its model has one. If that fails the run has it all the same."""
        data = self.data
        if not data.base:
            return {"model": None}
        program.announce()
        why = f"headrace tune, run {run.id}"
        try:
            name = _engine.add_adapter(
                data.catalog.location, str(path), data.base, self.config.out, why, f"run:{run.id}", data.base_sha256
            )
        except HeadraceError as error:  # the model was removed meanwhile, say
            return {"model": None, "unregistered": f"{data.base}:{self.config.out} is not in the catalog: {error}"}
        return {"model": name}


class Stop:
    """Ctrl-C and SIGTERM end the training after the step that is under way, and its checkpoint; once more, at once."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.asked = False

    def watch(self) -> None:
        """From now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._progress.say("stopping after this step; once more stops at once")


class Training:
    """A run of it."""

    def __init__(self, tuning: Tuning, record: Run, progress: Progress) -> None:
        config = tuning.config
        self._tuning, self._record, self._progress = tuning, record, progress
        self._stop = Stop(progress)
        self._validates = config.validation > 0 and config.evaluations > 0
        self._marks = [(i + 1) / config.evaluations for i in range(config.evaluations)] if self._validates else []
        self._ckpt = Checkpointer(
            record, model=Adapters(tuning.trainer), optimizer=Optimizer(tuning.trainer), stream=tuning.batches, rng=False,
            every=config.save_every, keep_last=config.keep_last, keep_best=VALIDATION if self._validates else None,
        )  # fmt: skip

    def validate(self, steps: int) -> None:
        """Looks at the rows that were kept back, after so many steps. Within a step's part of the loop, before its checkpoint: a later life
        has no reason to log it again, at a step that it does not make."""
        loss = self._tuning.evaluate() if self._validates else None
        if loss is not None:
            self._record.log({VALIDATION: loss}, step=max(0, steps - 1))
            self._progress.validated(loss, steps)
            self._ckpt.extra[VALIDATION] = loss

    def go(self) -> dict[str, Any]:
        """From the last checkpoint to the end."""
        tuning, ckpt = self._tuning, self._ckpt
        first = ckpt.restore()
        base = {"file": tuning.data.path, "bytes": os.stat(tuning.data.path).st_size}
        if ckpt.extra.setdefault("base", base) != base:
            raise Invalid(
                f"{tuning.config.model} is {base} now, and was {ckpt.extra['base']} when this run's last checkpoint was made"
            )
        self._stop.watch()
        if first == 0:
            self.validate(0)
        for batch in ckpt.steps(tuning.batches, until=tuning.config.steps):
            figures = tuning.step(batch, ckpt.step)
            if figures:
                self._record.log(figures, step=ckpt.step)
            before, after = tuning.done(batch.before, ckpt.step), tuning.done(batch.before + batch.rows, ckpt.step + 1)
            self._progress.step(ckpt.step, after, figures)
            if any(before < mark <= after for mark in self._marks):
                self.validate(ckpt.step + 1)
            if self._stop.asked:
                ckpt.save()
                raise KeyboardInterrupt
        if ckpt.step == 0:
            raise Invalid(f"no row of {tuning.config.data} gives anything to learn: {tuning.data.maker.counts()}")
        with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
            saved = tuning.save(self._record, pathlib.Path(folder))
        return {"run": self._record.id, "steps": ckpt.step, "val_loss": ckpt.extra.get(VALIDATION), **saved}


def train(config: TuneConfig, catalog: Catalog, resume: str | None, progress: Progress) -> dict[str, Any]:
    """Runs a fine-tuning to its end, from its last checkpoint where ``resume`` names its run."""
    tuning = Tuning(catalog, config)
    config = tuning.config
    progress.begin(tuning.facts())
    with run(
        config.name or config.out, config=config.to_dict(), project=config.project, tags=config.tags, id=resume, catalog=catalog,
        kind=KIND,
    ) as record:  # fmt: skip
        progress.run = record.id
        if not record._owner:
            raise Invalid(f"the run {record.id} is still going on, in another process")
        record.use(tuning.snapshot)
        result = Training(tuning, record, progress).go()
        record.summary["samples"] = tuning.data.maker.counts()
    return {**result, "base": config.model, "name": config.out}


def show(config: TuneConfig, catalog: Catalog, count: int, colours: bool) -> Iterator[str]:
    """Rows as the model will see them, what is learned marked."""
    data = Data(catalog, config)
    left = count
    for batch in data.stream("train", 1).arrow():
        for sample in (sample for row in data.maker.rows(batch) for sample in row):
            yield data.maker.render(*sample, colours)
            left -= 1
            if left == 0:
                return


def config_of(catalog: Catalog, run: str) -> tuple[str, TuneConfig]:
    """The id of a fine-tuning and what it was given; ``run``: the beginning of its id, or its name.

    Raises:
        NotFound: there is none, or more than one.
    """
    found: dict[str, dict[str, Any]] = {}
    if "hr.runs" in catalog.tables():
        query = "select id, config from hr.runs where kind = ? and (starts_with(id, ?) or name = ?) and config is not null order by time"
        for row in catalog.sql(query, [KIND, run, run]).to_pylist():
            known = json.loads(row["config"]) if isinstance(row["config"], str) else dict(row["config"])
            found[row["id"]] = {**found.get(row["id"], {}), **known}
    if len(found) != 1:
        raise NotFound(
            f"{'no fine-tuning' if not found else f'{len(found)} fine-tunings'} of the id or name {run!r}; headrace runs ls has them"
        )
    identity, values = next(iter(found.items()))
    return identity, TuneConfig.from_dict(values)


def main(words: Sequence[str]) -> int:
    """The process of ``headrace tune``: a catalog, what was given as JSON, and options."""
    parser = argparse.ArgumentParser("headrace tune")
    parser.add_argument("catalog")
    parser.add_argument("config")
    parser.add_argument("--resume")
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--error-json", action="store_true", help="errors on standard output, for hr.tune")
    given = parser.parse_args(words)
    progress = Progress(sys.stderr, given.quiet)
    try:
        catalog = open_catalog(given.catalog)
        values = json.loads(given.config)
        if given.resume and values:
            raise Invalid(f"--resume goes on with what its run was given; {', '.join(values)} cannot be given as well")
        identity, config = config_of(catalog, given.resume) if given.resume else (None, TuneConfig.from_dict(values))
        if given.show:
            for text in show(config, catalog, given.show, sys.stdout.isatty()):
                print(text)
            return 0
        if given.plan:
            planned = tune_plan.plan(Tuning(catalog, config))
            print(
                json.dumps(dataclasses.asdict(planned))
                if given.json
                else "\n".join(f"{k:<8} {v}" for k, v in planned.lines().items())
            )
            return 0
        result = train(config, catalog, identity, progress)
    except KeyboardInterrupt:
        progress.stop()
        print("headrace: interrupted; go on with: headrace tune --resume", progress.run or "RUN", file=sys.stderr)
        return 130
    except HeadraceError as error:
        progress.stop()
        if given.error_json:
            print(json.dumps({"kind": type(error).__name__, "error": str(error)}))
        else:
            print(f"headrace: {error}", file=sys.stderr)
        return 2 if isinstance(error, Invalid) and not progress.run else 1
    progress.result(result)
    if given.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
