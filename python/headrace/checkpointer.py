"""Checkpoints of any training loop: all of its state, committed at once to its run, and found again by the run's next life.

with hr.run("probe") as run, hr.Checkpointer(run, model=model, optimizer=optimizer, stream=stream) as ckpt:
    for batch in ckpt.steps(stream):
        run.log({"loss": train_step(batch)}, step=ckpt.step)"""

from __future__ import annotations

import contextlib
import functools
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

from headrace import _native, checkpoint_files, errors, random_states, rank_exchange, run_values, state_holders
from headrace.checkpoint_files import Checkpoint, File
from headrace.errors import Corrupt, HeadraceError, Invalid, LimitExceeded, NotFound, Unavailable, UnknownOutcome
from headrace.runs import Run

DISTANT_SECONDS = 300.0  # that dropped files stay in a distant store, whose row may still be on the way there
_OURS = ("rng", "extra", "generators")


class Checkpointer:
    """Saves and restores everything that a training loop is made of, as checkpoints of its run.

    ``model``, ``optimizer``, ``scheduler``, ``scaler`` and ``others`` by any name (``ema=…``): objects with ``state_dict()`` and
    ``load_state_dict()``, dicts (of arrays, say: changed in place), and generators of random numbers (numpy's, torch's, Python's own).
    ``stream``: an ``hr.Stream``, which goes on at the very next row. ``rng``: Python's, numpy's and torch's own generators (CPU, CUDA)
    too. ``extra``: a dict for whatever else there is to keep.

    ``keep_last``: how many checkpoints are kept (None: all); ``keep_best``: a metric that the run logs (or ``save(metrics=…)`` gives) whose
    best checkpoint is kept as well, ``mode``: whether "min" or "max" is best. The files of those that are not kept are deleted at once (in
    a distant store five minutes later). ``every``: how often ``steps()`` saves: a number of steps, or a time ("10m").

    A checkpoint is there as a whole or not at all, whenever the process is killed and whatever disk is full: the one before goes
    only once the next one is committed. What is written is tensors (safetensors) and JSON; nothing is pickled, and
    nothing that is read can run.

    Ranks: all of them make a Checkpointer and call it in the same order. Rank 0 writes what is the same everywhere; each rank writes its
    generators and its stream. They talk by ``torch.distributed`` where it was initialised, else by ``gather``: a function from
    a rank's value to the list of all ranks' values, as mpi4py's ``comm.allgather``.

    Raises:
        Invalid: an object has no state, or an option is out of its range.
    """

    def __init__(
        self,
        run: Run,
        *,
        model: Any = None,
        optimizer: Any = None,
        scheduler: Any = None,
        scaler: Any = None,
        stream: Any = None,
        keep_last: int | None = 3,
        keep_best: str | None = None,
        mode: str = "min",
        every: int | str = "10m",
        rng: bool = True,
        gather: Callable[[Any], list[Any]] | None = None,
        **others: Any,
    ) -> None:
        if keep_last is not None and keep_last < 1:
            raise Invalid(f"keep_last is {keep_last}; it is at least 1, or None for all")
        if mode not in ("min", "max"):
            raise Invalid(f"mode is {mode!r}; it may be min or max")
        if taken := set(others) & {*_OURS}:
            raise Invalid(f"{', '.join(sorted(taken))}: a checkpoint has that already; take another name")
        given = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler, **others}
        self._holders = {name: holder for name, holder in given.items() if holder is not None}
        for name, holder in self._holders.items():
            state_holders.check(holder, name)
        if stream is not None and not (hasattr(stream, "state_dict") and hasattr(stream, "load_state_dict")):
            raise Invalid(f"stream is a {type(stream).__name__}; it has state_dict() and load_state_dict()")
        if hasattr(stream, "_as_input"):
            run.use(stream)
        self.extra: dict[str, Any] = {}
        self.step = 0
        self._run = run
        self._stream = stream
        self._keep = (keep_last, keep_best, mode)
        self._rng = rng
        self._gather = gather
        self._exchange: rank_exchange.Exchange | None = None
        self._schedule = _Schedule(every)
        self._kept: list[Checkpoint] = []
        self._protected: list[tuple[float, set[str]]] = []  # files of earlier rows: until when, and which
        self._named: set[str] = set()
        self._dead: set[str] = set()  # hashes of checkpoints that cannot be read
        self._restored = False
        self._looked = False  # what earlier lives left is among the kept
        self._made: set[str] = set()  # hashes of the checkpoints that this object saved
        self._saved = -1
        self._generators: Any = None  # where they stood, until the first batch is asked for
        self._batch: Any = None  # from a worker of a DataLoader, which says where the stream stands

    # ---- the loop

    def steps(self, batches: Iterable[Any] | None = None, *, until: int | None = None) -> Iterator[Any]:
        """Goes on where the last checkpoint was, and gives the batches of ``batches`` (default: the stream) one by one; what
        the loop's body does with one is a step, and ``ckpt.step`` its number, from 0. Saves as often as ``every`` says, and at the end.

        ``batches``: also ``stream.torch()``, or a ``DataLoader`` of ``stream.torch_dataset()``. ``until``: how many steps there are in all. Leave the loop early by
        ``ckpt.save()`` and ``break``.

        A checkpoint that cannot be written, since the disk is full or the store is away, is a warning: the last one stays, training
        goes on, and the next is tried in its turn. Of the one at the end it is the error.

        Raises:
            Invalid: there is no stream and nothing else was given; or as ``restore``.
            Corrupt, Unavailable: as ``restore``, and as ``save`` at the end.
        """
        if batches is None and (batches := self._stream) is None:
            raise Invalid("there is nothing to go over: give Checkpointer(…, stream=…), or steps(batches)")
        if not self._restored:
            self._restore_unless_saved()
        if until is not None and self.step >= until:
            return
        self._schedule.begin(self.step)
        iterator = iter(batches)
        self._set_generators()  # a DataLoader's iterator has drawn a seed for its workers
        for batch in iterator:
            number = self.step
            self._batch = batch if isinstance(batch, dict) and "state" in batch else None
            yield batch
            self.step = number + 1
            if self._schedule.asks(self.step) and self._schedule.due(self.step, self._of_first):
                self._try_to_save(number)
            if until is not None and self.step >= until:
                break
        if self.step > 0 and self._saved != self.step - 1:
            self.save(self.step - 1)

    def _restore_unless_saved(self) -> None:
        """What was saved before the loop, such as where it begins, is newer than anything that an earlier life left."""
        if not self._made:
            self.restore()
        elif any(str(one.entry["sha256"]) not in self._made for one in self._kept):
            raise Invalid(
                "save() came before restore(), and the run has checkpoints of earlier lives: call restore() first"
            )
        self._restored = True

    def _of_first(self, value: Any) -> Any:
        return self._ranks().all(value)[0]

    def _try_to_save(self, step: int) -> None:
        try:
            self.save(step)
        except (Unavailable, UnknownOutcome, LimitExceeded) as error:
            last = f"the last one is of step {self.last.step}" if self.last else "there is none yet"
            warnings.warn(f"step {step} has no checkpoint, and {last}: {error}", stacklevel=3)
            self._schedule.begin(step + 1)

    # ---- saving

    def save(
        self, step: int | None = None, *, metrics: Mapping[str, float] | None = None, batch: Any = None
    ) -> Checkpoint:
        """Commits a checkpoint of now: after the step with this number (default: ``ckpt.step``, in the body of ``steps()``). It is there,
        and survives whatever comes, when this returns.

        ``metrics``: said of it; the one of ``keep_best`` is by default the value that the run logged last. ``batch``: the last one that was
        used, where batches come from workers of a DataLoader.

        Raises:
            Unavailable: the disk is full, or the store cannot be reached. The checkpoints before stay.
            Invalid: a state holds what a checkpoint cannot, the stream cannot say where it stands, or the run is finished.
            Unsupported: a tensor is sharded over devices, sparse or quantized.
        """
        number = self.step if step is None else run_values.step(step)
        if number < 0:
            raise Invalid(f"the step is {number}; steps count from 0")
        said = self._metrics(metrics)
        parts = self._together(lambda: self._write(number, self._batch if batch is None else batch))
        files = [File(*one) for part in parts for one in part]
        entries = self._together(lambda: self._commit(number, said, files) if self._ranks().rank == 0 else None)[0]
        if self._ranks().rank != 0:
            self._kept = [Checkpoint(self._run._catalog, self._run.id, entry) for entry in entries]
        self._saved = number
        self._made.add(str(self._kept[-1].entry["sha256"]))
        self._schedule.begin(number + 1)
        return self._kept[-1]

    def _write(self, step: int, batch: Any) -> list[tuple[str, str, int]]:
        """This rank's files: name, hash, bytes."""
        ranks = self._ranks()
        generators = {n: s for n, h in self._holders.items() if (s := random_states.state_of(h)) is not None}
        states = {n: state_holders.state_of(h) for n, h in self._holders.items() if n not in generators}
        own: dict[str, Any] = {"generators": generators}
        if self._rng:
            own["rng"] = random_states.capture(ranks.world == 1)
        if self._stream is not None:
            worker = isinstance(batch, dict) and "state" in batch
            own["stream"] = self._stream.state_dict(batch) if worker else self._stream.state_dict()
        files = {checkpoint_files.of_rank(ranks.rank): own}
        if ranks.rank == 0:
            if "model" in states:
                files[checkpoint_files.MODEL] = {"model": states.pop("model")}
            files[checkpoint_files.TRAINING] = {**states, "extra": self.extra}
        of = {"headrace.run": self._run.id, "headrace.step": str(step)}

        def writing(states: Mapping[str, Any]) -> Callable[[BinaryIO], object]:
            return lambda file: checkpoint_files.write(file, states, of)

        return [self._store(name, writing(states), step) for name, states in files.items()]

    def _store(self, name: str, write: Callable[[BinaryIO], object], step: int) -> tuple[str, str, int]:
        place = checkpoint_files.place(self._run._catalog)
        try:
            # Without a name, so that nothing of it is left whenever this process is killed.
            with tempfile.TemporaryFile(prefix="headrace-", dir=place) as file:
                write(file)
                file.flush()
                sha256, size = self._run._writer.save_checkpoint_file(f"/proc/self/fd/{file.fileno()}")
        except HeadraceError:
            raise
        except OSError as error:
            where = place or tempfile.gettempdir()
            raise Unavailable(
                f"{name} of the checkpoint of step {step} cannot be written in {where}: {error}"
            ) from error
        return name, sha256, size

    def _commit(self, step: int, metrics: dict[str, Any], files: list[File]) -> list[dict[str, Any]]:
        """The row that makes it the run's; then what the run keeps no more goes. What it keeps now."""
        run = self._run
        self._look()
        manifest = checkpoint_files.manifest(run.id, step, self._ranks().world, files)
        _, sha256, size = self._store("manifest.json", lambda file: file.write(manifest.encode()), step)
        entry = {
            "kind": checkpoint_files.KIND,
            "name": f"checkpoint-{step}",
            "step": step,
            "sha256": sha256,
            "bytes": size + sum(one.bytes for one in files),
            "world": self._ranks().world,
            "time": max([time.time_ns() // 1000, *(one.time + 1 for one in self._kept)]),
            "metrics": run_values.as_json(metrics, "metrics"),
        }
        made = Checkpoint(run._catalog, run.id, entry)
        made._files = {one.name: one for one in files}
        kept = self._chosen([*(one for one in self._kept if one.step != step), made])
        gone = {one["name"] for one in run._outputs if one["kind"] == checkpoint_files.KIND}
        run._keep([one.entry for one in kept], gone)
        self._kept = kept
        self._sweep()
        return [one.entry for one in kept]

    def _look(self) -> None:
        """Takes in what the run keeps and this object does not know of: nobody has asked to restore it, or another one wrote it."""
        told = [one for one in self._run._outputs if one["kind"] == checkpoint_files.KIND]
        if not self._restored and not self._looked:
            told += checkpoint_files.kept(self._run._catalog, self._run.id)
            self._looked = True
        known = {one.entry["sha256"] for one in self._kept} | self._dead
        for entry in told:
            if entry["sha256"] not in known:
                known.add(entry["sha256"])
                self._kept.append(Checkpoint(self._run._catalog, self._run.id, entry))
        self._kept.sort(key=lambda one: one.time)

    def _metrics(self, given: Mapping[str, float] | None) -> dict[str, Any]:
        found = {key: run_values.number(value) for key, value in run_values.flat(given or {})}
        if wrong := [key for key, value in found.items() if value is None]:
            raise Invalid(f"metrics are numbers; {', '.join(wrong)} is none")
        best = self._keep[1]
        if best is not None and best not in found and (value := self._run._writer.last().get(best)) is not None:
            found[best] = value
        return found

    def _chosen(self, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
        last, metric, mode = self._keep
        if last is None:
            return checkpoints
        kept = checkpoints[-last:]
        best = checkpoint_files.best_of([one.entry for one in checkpoints], metric, mode) if metric else None
        return [one for one in checkpoints if one in kept or one.entry is best]

    def _sweep(self) -> None:
        """Deletes the files that no checkpoint names any more, which those of a save that was cut off are, too."""
        try:
            if checkpoint_files.last_life(self._run._catalog, self._run.id) > self._run.life:
                warnings.warn(
                    "another process goes on with this run; files of checkpoints are its to delete", stacklevel=2
                )
                return
            named: set[str] = set()
            for one in self._kept:
                named.add(str(one.entry["sha256"]))
                with contextlib.suppress(
                    Corrupt, NotFound
                ):  # of one whose manifest is damaged, nothing can be read anyway
                    named.update(file.sha256 for file in one.files.values())
            now, distant = time.monotonic(), "://" in self._run._catalog.location
            if distant:
                self._protected.append((now + DISTANT_SECONDS, self._named))
            self._named = named
            self._protected = [one for one in self._protected if one[0] > now]
            if not (distant and self._run._writer.trouble):
                self._run._writer.keep_checkpoint_files(sorted(named.union(*(one[1] for one in self._protected))))
        except HeadraceError as error:
            warnings.warn(f"files of earlier checkpoints are not deleted yet: {error}", stacklevel=2)

    # ---- going on

    def restore(self) -> int:
        """Goes on where the run's last checkpoint was: all states are set, and ``ckpt.step`` is the number of the next step; 0, and nothing is
        set, where the run has none. Of damaged checkpoints the one before is taken, with a warning.

        Returns:
            ``ckpt.step``.

        Raises:
            Corrupt: the run has checkpoints, and all are damaged.
            Invalid: it does not fit what it is to be loaded into, or has no state of it.
            Unavailable: the store cannot be reached.
        """
        run = self._run
        entries = self._together(
            lambda: checkpoint_files.kept(run._catalog, run.id) if self._ranks().rank == 0 else None
        )[0]
        self._kept = [Checkpoint(run._catalog, run.id, entry) for entry in entries]
        self._restored = True
        self.step, self._saved = 0, -1
        read: dict[str, Any] = {}
        while self._kept:
            checkpoint = self._kept[-1]
            try:
                self._together(functools.partial(self._read, checkpoint, read))
            except (Corrupt, NotFound) as error:
                warnings.warn(
                    f"the checkpoint of step {checkpoint.step} cannot be read, so the one before is taken: {error}",
                    stacklevel=2,
                )
                self._dead.add(str(self._kept.pop().entry["sha256"]))
                read.clear()
                continue
            self._together(functools.partial(self._apply, checkpoint, read))
            self.step, self._saved = checkpoint.step + 1, checkpoint.step
            break
        if entries and not self._kept:
            raise Corrupt(f"none of the {len(entries)} checkpoints of run {run.id} can be read")
        run._first_step = self.step
        return self.step

    def _read(self, checkpoint: Checkpoint, found: dict[str, Any]) -> None:
        """The states for this rank."""
        rank = self._ranks().rank
        own = checkpoint_files.of_rank(rank)
        if own in checkpoint.files:
            found.update(checkpoint._states_in(own))
        else:  # written by fewer ranks
            found["stream"] = checkpoint._states_in(checkpoint_files.of_rank(0)).get("stream")
        found.update(checkpoint._states_in(checkpoint_files.TRAINING))
        if "model" in self._holders and checkpoint_files.MODEL in checkpoint.files:
            found.update(checkpoint._states_in(checkpoint_files.MODEL))

    def _apply(self, checkpoint: Checkpoint, found: Mapping[str, Any]) -> None:
        source = f"the checkpoint of step {checkpoint.step} of run {self._run.id}"
        states = {**found, **(found.get("generators") or {})}
        fewer = "rng" not in found and "generators" not in found  # generators of this rank are as they were
        missing = [n for n, h in self._holders.items() if n not in states and not (fewer and random_states.state_of(h))]
        if self._stream is not None and not states.get("stream"):
            missing.append("stream")
        if missing:
            raise Invalid(f"{source} has no state of {', '.join(missing)}: it has {', '.join(sorted(states))}")
        unused = set(states) - {*self._holders, *_OURS, "stream"}
        if unused:
            warnings.warn(f"{source} has states that nothing takes: {', '.join(sorted(unused))}", stacklevel=4)
        for name, holder in self._holders.items():
            if name in states:
                state_holders.load(holder, states[name], name, source)
        if self._stream is not None:
            state_holders.load(self._stream, states["stream"], "stream", source)
        self.extra.clear()
        self.extra.update(states.get("extra") or {})
        self._generators = states.get("rng") if self._rng else None
        if self._generators:
            random_states.restore(self._generators)

    def _set_generators(self) -> None:
        if self._generators:
            random_states.restore(self._generators)
        self._generators = None

    # ---- what there is

    @property
    def last(self) -> Checkpoint | None:
        """The newest checkpoint; None before the first, and before ``restore``."""
        return self._kept[-1] if self._kept else None

    @property
    def best(self) -> Checkpoint | None:
        """The one with the best value of ``keep_best``; None where none has one."""
        _, metric, mode = self._keep
        entry = checkpoint_files.best_of([one.entry for one in self._kept], metric, mode) if metric else None
        return next((one for one in self._kept if one.entry is entry), None)

    @property
    def kept(self) -> list[Checkpoint]:
        """All that are kept, in the order in which they were written."""
        return list(self._kept)

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to do: what was saved is there."""

    def __repr__(self) -> str:
        return f"<hr.Checkpointer of run {self._run.id}: step {self.step}, {len(self._kept)} checkpoints>"

    # ---- ranks

    def _ranks(self) -> rank_exchange.Exchange:
        if self._exchange is None:
            self._exchange = rank_exchange.Exchange(self._gather)
        return self._exchange

    def _together(self, function: Callable[[], Any]) -> list[Any]:
        """What all ranks' calls give. Where one fails, all raise."""
        ranks = self._ranks()
        value: Any = None
        failure: Exception | None = None
        try:
            value = function()
        except Exception as error:
            failure = error
        told = ranks.all([value, None if failure is None else [type(failure).__name__, str(failure)]])
        if failure is not None:
            raise failure
        for rank, (_, trouble) in enumerate(told):
            if trouble is not None:
                raise getattr(errors, trouble[0], HeadraceError)(f"rank {rank}: {trouble[1]}")
        return [value for value, _ in told]


class _Schedule:
    """When ``steps()`` saves. Ranks ask at the same steps, and do what the first one says: their clocks are not the same."""

    def __init__(self, every: int | str) -> None:
        self._steps = every if isinstance(every, int) else 0
        self._seconds = 0.0 if isinstance(every, int) else _native.parse_duration(every) / 1e6
        if self._steps < (0 if self._seconds else 1):
            raise Invalid(f"every is {every!r}; it is a number of steps, at least 1, or a time, as in '10m'")
        self.begin(0)

    def begin(self, step: int) -> None:
        """A checkpoint is there, or was the beginning."""
        self._began, self._first = time.monotonic(), step
        self._next = (step // self._steps + 1) * self._steps if self._steps else step + 1

    def asks(self, step: int) -> bool:
        """Whether something has to be decided after so many steps."""
        return step >= self._next

    def due(self, step: int, of_first: Callable[[Any], Any]) -> bool:
        """Whether a checkpoint is to be written now."""
        if self._steps:
            self._next = step + self._steps
            return True
        passed = time.monotonic() - self._began
        done = step - self._first
        left = (self._seconds - passed) / max(passed / done, 1e-9)
        # As many steps as fit into what is left, and no more than have been done: their length may change.
        more = 0 if left <= 0 else max(1, min(done, math.ceil(left)))
        more = of_first(more)
        self._next = step + (more or 1)
        return not more
