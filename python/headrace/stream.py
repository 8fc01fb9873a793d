"""Streams: rows and columns straight into training, in an order that any number of machines can go on with."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from headrace import _native, process, ranks, runs, tensors
from headrace.errors import Invalid
from headrace.hints import Hinted, argument
from headrace.snapshot import Snapshot
from headrace.sources import Mixture, Pack, bytes_of, snapshot_of
from headrace.table import Table
from headrace.transforms import ImageSteps

Batch = dict[str, Any]


def _environment(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else otherwise


class Epoch:
    """One epoch of a stream: batches, as the stream gives them."""

    def __init__(self, stream: Stream, number: int) -> None:
        self._stream = stream
        self.number = number

    def __iter__(self) -> Iterator[Batch]:
        return (batch.to_dict() for batch in self._left())

    def __len__(self) -> int:
        return self._stream._steps_left()

    def arrow(self) -> Iterator[ArrowBatch]:
        """As ``Stream.arrow``.

        Raises:
            Invalid: as there.
        """
        return (ArrowBatch(batch) for batch in self._left())

    def torch(self) -> Iterator[Batch]:
        """As ``Stream.torch``.

        Raises:
            RuntimeError, Invalid: as there.
        """
        torch = tensors.loaded()
        return (tensors.to_torch(torch, batch.to_dict()) for batch in self._left())

    def _left(self) -> Iterator[_native.StreamBatch]:
        return self._stream._epoch() if self._stream._stands_in() == self.number else iter(())

    def __repr__(self) -> str:
        return f"<Epoch {self.number} of {self._stream!r}>"


def _pack_options(pack: Pack) -> dict[str, Any]:
    if pack.overflow not in ("split", "truncate"):
        raise Invalid(f"Pack's overflow is {pack.overflow!r}; it may be split or truncate")
    return {
        "pack_tokens": pack.tokens,
        "pack_lengths": pack.lengths or "",
        "pack_length": pack.length,
        "pack_window": pack.window or 0,
        "pack_truncate": pack.overflow == "truncate",
    }


class Stream(Hinted):
    """Batches of the wanted rows and columns, shuffled, decoded and collated on threads of its own.

        stream = hr.Stream(table.at(tag="v3"), columns=["image", "caption", "vec"], where="image.width >= 512",
                           image=hr.RandomResizedCrop(224) | hr.HorizontalFlip(), batch_size=64, seed=17)
        for batch in stream: ...                 # one epoch; the next loop is the next epoch

    With ``epochs=4`` one loop goes over all four; ``epochs()`` gives them one by one. A loop that is left early (``break``) is gone on
    with by the next one; ``restart()`` goes back to the epoch's beginning.

    A batch is a dict: pictures with steps as arrays (batch, 3, height, width), media without steps as a list of uint8 arrays of
    their bytes, numbers and tensors as arrays, text and everything else as lists; besides ``valid`` (False where the last batch
    is filled up), ``position`` and ``row_id``. Arrays are views of the batch's own memory.

    ``rank`` and ``world_size`` (by default RANK and WORLD_SIZE) share each step's positions among machines. The sequence
    of rows does not depend on any machine's memory. It is the same for every world size that divides 48 (on a local disk for every
    world size, unless the columns read in pages have more than 512 MiB); a ``state_dict()`` goes on at any other.
    In a job of torchrun or Slurm (or one that HEADRACE_JOB names) a rank that would see other rows than the first one is refused.

    ``epoch_end``: ``pad`` fills the last batch with rows that are not valid, ``drop`` leaves it out, ``short`` makes it shorter,
    ``wrap`` goes on with the next epoch inside it. With ``epochs`` nothing is read ahead for later ones. ``on_error`` of samples that cannot be made: ``raise``, ``mask`` (not valid)
    or ``substitute`` (another row, the same in every run). ``weights``: a column; rows are drawn in proportion to it, with
    replacement. ``memory``: for batches and pages (a quarter of the machine by default, at most 4 GiB). ``cache``: a folder that
    keeps up to ``cache_size`` of what was fetched from a distant store, over epochs and for all processes of the machine.
    ``image=…`` and the like give the steps of a column by its name.

    Raises:
        NotFound: there is no such column, or a tokenizer's model is not there.
        Invalid: an option is out of its range (``rank``, ``batch_size``, ``memory``, …), a filter or the steps of a picture are wrong, or
            this rank would see other rows than the first one.
        Unsupported: a column cannot be put into batches.
        TypeError: there is no such argument.

    While it is iterated: Corrupt and Unavailable, where a sample cannot be read (see ``on_error``) or the store is not there.
    """

    _elsewhere: ClassVar[dict[str, str]] = {
        "set_epoch": "restart(epoch) goes to an epoch's beginning; epochs follow each other by themselves",
        "reset": "restart()",
        "shuffle": "Stream(…, shuffle=…, seed=…)",
        "batch": "Stream(…, batch_size=…)",
        "filter": "Stream(…, where='…')",
        "dataset": "torch_dataset()",
        "dataloader": "DataLoader(stream.torch_dataset(), batch_size=None)",
        "to_torch": "torch()",
        "state": "state_dict()",
        "save": "state_dict() is what to save",
        "load": "load_state_dict(state)",
    }

    def __init__(
        self,
        data: Table | Snapshot | Mixture,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        *,
        batch_size: int = 64,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        shuffle: bool = True,
        epoch_end: str = "pad",
        epochs: int | None = None,
        on_error: str = "raise",
        weights: str | None = None,
        pack: Pack | None = None,
        window: int = 0,
        lanes: int = 0,
        block: int = 0,
        threads: int = 0,
        prefetch: int = 0,
        memory: int | str | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_size: int | str = "20GB",
        store_deadline: float = 60,
        **images: ImageSteps,
    ) -> None:
        for name, steps in images.items():
            if not isinstance(steps, ImageSteps):
                raise TypeError(f"Stream has no argument {name!r}; {argument(name, Stream.__init__)}")
        if not 0 <= seed < 2**64:
            raise Invalid(f"the seed is {seed}; it must be from 0 to 2**64 - 1")
        options: dict[str, Any] = {
            "columns": list(columns or []),
            "images": [(name, steps.to_json()) for name, steps in images.items()],
            "batch_size": batch_size,
            "seed": seed,
            "rank": _environment("RANK", 0) if rank is None else rank,
            "world_size": _environment("WORLD_SIZE", 1) if world_size is None else world_size,
            "local_rank": _environment("LOCAL_RANK", 0),
            "local_world_size": _environment("LOCAL_WORLD_SIZE", 1),
            "epochs": epochs or 0,
            "shuffle": shuffle,
            "epoch_end": epoch_end,
            "on_error": on_error,
            "weights": weights or "",
            "window": window,
            "lanes": lanes,
            "block": block,
            "threads": threads,
            "prefetch": prefetch,
            "memory": bytes_of(memory),
            "cache": os.fspath(cache) if cache else "",
            "cache_size": bytes_of(cache_size) if cache else 0,
            "store_deadline": float(store_deadline),
        }
        if pack is not None:
            options |= _pack_options(pack)
        if isinstance(data, Mixture):
            inputs = [(snapshot_of(source[0]), source[2] if len(source) > 2 else where) for source in data.sources]
            stages = {0: [float(source[1]) for source in data.sources], **data.schedule}
            options["mixture"] = [(int(start), [float(w) for w in stages[start]]) for start in sorted(stages)]
            options["stop"] = data.stop
        else:
            inputs = [(snapshot_of(data), where)]
        self._inputs = inputs
        self._options: dict[str, Any] = options
        self._tokenize = pack.tokenize if pack is not None else None
        self._pid = os.getpid()
        self._away = mmap.mmap(-1, 1)  # set by workers that make this stream's batches in other processes
        self._mapped: str | None = None  # the state after the last batch that a map gave
        self._native = self._open()
        ranks.check(inputs, options, json.loads(self._native.state()))
        runs.note_input(self)

    def _as_input(self) -> dict[str, Any]:
        """What a run notes of it."""
        options = self._options
        entry: dict[str, Any] = {
            "kind": "stream",
            "sources": [snapshot._as_input() | ({"where": where} if where else {}) for snapshot, where in self._inputs],
        }
        for name in ("columns", "batch_size", "seed", "shuffle", "weights", "mixture", "images"):
            if options.get(name) not in (None, "", [], False):
                entry[name] = options[name]
        return entry

    def _open(self, **more: Any) -> _native.Stream:
        if self._tokenize is not None:
            more["pack_tokenizer"] = self._tokenize._open()
        return _native.Stream.open(
            [(snapshot._view, where or "") for snapshot, where in self._inputs], {**self._options, **more}
        )

    # ------------------------------------------------------------ iteration

    def _epoch(self) -> Iterator[_native.StreamBatch]:
        """The rest of the epoch."""
        if os.getpid() != self._pid:
            self._reopen()
        native, pid = self._native, os.getpid()
        while (batch := native.next()) is not None:
            yield batch
            process.check(pid, "this loop over a stream")

    def _batches(self) -> Iterator[_native.StreamBatch]:
        """The rest of the epochs that were asked for; of this epoch where no number was given."""
        yield from self._epoch()
        while self._stands_in() < self._options["epochs"]:
            yield from self._epoch()

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches():
            yield batch.to_dict()

    def epochs(self) -> Iterator[Epoch]:
        """The epochs one by one, for a program that does something between them:

            for epoch in stream.epochs():
                for batch in epoch: ...
                validate(epoch.number)

        From the one that it stands in to the last that was asked for; without end where no number was given. An inner loop that
        is left early goes on with the next epoch.

        Raises:
            Invalid: the stream is closed.
        """
        while not self._options["epochs"] or self._stands_in() < self._options["epochs"]:
            number = self._stands_in()
            yield Epoch(self, number)
            if self._stands_in() == number:
                self.restart(number + 1)

    def _stands_in(self) -> int:
        return int(json.loads(self._native.state())["epoch"])

    def restart(self, epoch: int | None = None) -> None:
        """Goes back to the beginning of the epoch it stands in, or to that of the epoch with this number (from 0).

        Raises:
            Invalid: there is no such epoch.
        """
        state = self.state_dict()
        state["position"] = 0
        if "pack" in state:
            state["pack"][2] = 0
        if epoch is not None:
            state["epoch"] = epoch
        self.load_state_dict(state)

    def arrow(self) -> Iterator[Any]:
        """The batches as objects with ``__arrow_c_array__``: ``pyarrow.record_batch(batch)``.

        Raises:
            Invalid: the stream is closed.
        """
        for batch in self._batches():
            yield ArrowBatch(batch)

    def torch(self) -> Iterator[Batch]:
        """The batches with tensors instead of arrays, over the same memory.

        Raises:
            RuntimeError: torch was not imported before: Headrace never imports it by itself.
            Invalid: the stream is closed.
        """
        torch = tensors.loaded()
        for batch in self._batches():
            yield tensors.to_torch(torch, batch.to_dict())

    def read_into(self, buffers: Mapping[str, Any]) -> Batch | None:
        """The next batch, with these columns copied into arrays of the caller's (pinned memory, say), and given back as those;
        None at the end of the epoch.

        Raises:
            Invalid: the batch has no such column, a buffer has another shape or type or cannot be written to, or the stream is closed.
        """
        import numpy as np

        if os.getpid() != self._pid:
            self._reopen()
        native = self._native.next()
        if native is None:
            return None
        batch = native.to_dict()
        for name, target in buffers.items():
            if name not in batch:
                raise Invalid(f"the batch has no column {name!r}; it has {', '.join(batch)}")
            source = np.asarray(batch[name])
            view = np.asarray(target)
            if view.shape != source.shape or view.dtype != source.dtype:
                raise Invalid(
                    f"the buffer for {name!r} is {view.dtype}{list(view.shape)}; the batch has {source.dtype}{list(source.shape)}"
                )
            if not np.shares_memory(view, target) and not hasattr(target, "__dlpack__"):
                raise Invalid(f"the buffer for {name!r} is not memory that can be written to")
            np.copyto(view, source)
            batch[name] = target
        return batch

    def map(self, function: Callable[[Batch], Any], *, workers: int = 0) -> Iterator[Any]:
        """The batches through a function of a batch: here, or in ``workers`` programs of their own (started afresh, not forked; the
        function travels by cloudpickle, batches over memory files). Order and states stay the same.

        Raises:
            Exception: what the function raised, where the batch would have come.
        """
        if workers <= 0:
            return (function(batch) for batch in self)
        from headrace.workers import map_in_workers

        return map_in_workers(self, function, workers)

    def __len__(self) -> int:
        """Batches left in the epochs that were asked for; in this epoch where no number was given."""
        wanted: int = self._options["epochs"]
        later = wanted - self._stands_in() - 1
        if wanted and later < 0:
            return 0
        return self._steps_left() + max(later, 0) * self._native.steps_of_epoch

    def _steps_left(self) -> int:
        steps = self._native.steps_left
        if steps < 0:
            raise TypeError("this stream has no fixed number of batches")
        return steps

    # ------------------------------------------------------------ where it stands

    def state_dict(self, batch: Batch | None = None) -> dict[str, Any]:
        """Where the stream stands: after the last batch that it gave. Under 200 bytes as JSON; ``load_state_dict`` at any
        world size goes on there. With batches from a DataLoader's workers: ``state_dict(batch)``, after that batch.

        Raises:
            Invalid: the stream's batches are made by workers and no batch was given, or the batch came from none.
        """
        if batch is not None:
            if "state" not in batch:
                raise Invalid("this batch did not come from a worker of torch_dataset(); call state_dict() without it")
            return dict(json.loads(batch["state"]))
        if self._away[0]:
            raise Invalid(
                "this stream's batches are made in DataLoader workers, so it does not know where they stand; "
                "call state_dict(batch) with the last batch that was used"
            )
        return dict(json.loads(self._mapped or self._native.state()))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on after the batch that the state was taken at.

        Raises:
            Invalid: it is no ``state_dict()``, or one of another selection of rows.
        """
        self._native.load(json.dumps(dict(state)))
        self._mapped = None
        self._away[0] = 0

    @property
    def epoch(self) -> int:
        """The epoch that it stands in, from 0."""
        return int(self.state_dict()["epoch"])

    @property
    def position(self) -> int:
        """Samples of this epoch, of all ranks together, that lie before it."""
        return int(self.state_dict()["position"])

    @property
    def num_rows(self) -> int | None:
        """Samples of an epoch; None if it has no end."""
        return None if self._native.length < 0 else self._native.length

    def plan(self, count: int = 10) -> list[dict[str, int]]:
        """The next ``count`` positions (of all ranks together), without touching data.

        Returns:
            For each position ``epoch``; ``position`` in it; ``source``, the number of a mixture's table (0 without one); ``ordinal`` of the row
            among those selected; and its ``row_id``.
        """
        names = ("epoch", "position", "source", "ordinal", "row_id")
        return [dict(zip(names, sample, strict=True)) for sample in self._native.plan(count)]

    def stats(self) -> dict[str, Any]:
        """What it did so far: samples, bytes, seconds, share of the time waited, and the bottleneck by name.

        Returns:
            ``samples``, ``batches`` and ``seconds`` of this run; ``samples_per_second``; ``waited_seconds`` and ``waited_share``: the caller's
            wait for batches; ``decode_seconds`` (of all ``threads`` together), ``decode_share`` and ``fetch_seconds``; ``media_bytes`` read and
            ``batch_bytes`` made; ``chunk_hits`` and ``chunk_misses`` of pages kept in memory; ``cache_hit_bytes`` and ``cache_miss_bytes`` of the
            ``cache`` folder; ``bad`` samples and ``bad_rows``, the first of their row ids; ``packed_tokens`` in ``packed_slots``; ``memory_bytes`` now
            and ``memory_peak``; ``bottleneck``: "fetch", "decode", "consumer" and the like.
        """
        stats = self._native.stats()
        seconds = stats["seconds"] or 1e-9
        stats["samples_per_second"] = stats["samples"] / seconds
        stats["waited_share"] = stats["waited_seconds"] / seconds
        stats["decode_share"] = stats["decode_seconds"] / (seconds * stats["threads"])
        return stats

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends its threads at once. Iterating again afterwards is an error."""
        self._native.close()

    # ------------------------------------------------------------ torch

    def torch_dataset(self) -> Any:
        """An IterableDataset for ``DataLoader(stream.torch_dataset(), batch_size=None)`` (torch must be imported before).

        With ``num_workers`` above 0 each worker opens the stream for itself and they take turns, so the order stays; 0 is the
        recommended way, since a stream has threads of its own. Batches from workers hold a ``state`` for ``state_dict(batch)``.

        Raises:
            RuntimeError: torch was not imported before.
        """
        torch = tensors.loaded()
        made: Any = tensors.dataset_class(torch)(self)
        return made

    def _reopen(self) -> None:
        """In a forked child: everything afresh, since threads do not come along."""
        state = self._native.state()
        self._native = self._open()
        self._native.load(state)
        self._pid = os.getpid()

    def _worker(self, worker: int, workers: int) -> Iterator[Batch]:
        self._away[0] = 1
        if os.getpid() != self._pid or self._options.get("workers") != workers or self._options.get("worker") != worker:
            self._options |= {"worker": worker, "workers": workers, "threads": self._options["threads"] or 1}
            self._reopen()
        for batch in self._epoch():
            yield {**batch.to_dict(), "state": batch.state}

    def __getstate__(self) -> dict[str, Any]:
        self._away[0] = 1
        state = self._native.state()
        return {"inputs": self._inputs, "options": self._options, "tokenize": self._tokenize, "state": state}

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        self._inputs = pickled["inputs"]
        self._options = pickled["options"]
        self._tokenize = pickled["tokenize"]
        self._pid = os.getpid()
        self._away = mmap.mmap(-1, 1)
        self._mapped = None
        self._native = self._open()
        self._native.load(pickled["state"])

    def __repr__(self) -> str:
        state = json.loads(self._native.state())
        return f"<Stream over {self.num_rows} rows: epoch {state['epoch']}, position {state['position']}>"


class ArrowBatch:
    """A batch that speaks the Arrow C data interface."""

    def __init__(self, batch: _native.StreamBatch) -> None:
        self._batch = batch

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        return self._batch.arrow_array()
