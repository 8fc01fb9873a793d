"""The callback of transformers' Trainer."""

from __future__ import annotations

import inspect
import pathlib
from collections.abc import Mapping
from typing import Any

from headrace import frameworks, run_values, stream_feed
from headrace.runs import Run
from headrace.stream import Stream

_transformers = frameworks.load(
    "transformers", package="'transformers[torch]'", for_what="headrace.callbacks.HeadraceCallback"
)
_TrainerCallback: Any = _transformers.TrainerCallback
_KEY = "headrace"  # of trainer_state.json's callbacks
_LABELS = ("labels", "label", "label_ids")


class HeadraceCallback(_TrainerCallback):  # type: ignore[misc]
    """Logs what Trainer logs to a run (``train/loss``, ``eval/loss``, at its ``global_step``), with the arguments and the model's config; and puts
    where a stream stands, and the run's id, into Trainer's own checkpoints (``trainer_state.json``), to go on there.

        callback = HeadraceCallback(stream=stream)
        callback.attach(Trainer(model=model, args=arguments)).train(resume_from_checkpoint=True)

    ``run``: default the one that the program is in, else a new one, or the one whose checkpoint is resumed. ``artifacts``: save the best
    checkpoint (the last where none is best) among the run's artifacts when training ends. Rank 0 logs."""

    def __init__(self, run: Run | None = None, *, stream: Stream | None = None, artifacts: bool = False) -> None:
        self.run = run
        self._stream = stream
        self._feed = stream_feed.Feed(stream) if stream is not None else None
        self._artifacts = artifacts

    def attach(self, trainer: Any, convert: stream_feed.Convert | None = None) -> Any:
        """Adds itself to the trainer, which trains on the stream's batches from now on instead of a ``train_dataset``. Each rank reads its own
        part: the trainer does not share batches out.

        ``convert``: what the model is called with, of a batch (a dict of tensors); by default the columns that its ``forward`` names.

        Returns:
            The trainer.
        """
        if self._feed is not None:
            feed = self._feed
            feed.convert = convert or _named_in(trainer.model)
            trainer.get_train_dataloader = lambda: stream_feed.loader(feed)
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        return trainer

    # ---- Trainer calls these

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
        """The stream goes on where the checkpoint was, and the run gets its config.

        Raises:
            Invalid: the checkpoint's stream is of another selection of rows.
        """
        found = state.stateful_callbacks.get(_KEY, {}).get("attributes", {}) if state.global_step else {}
        if self._feed is not None and "stream" in found:
            self._feed.load(found["stream"])
            self._feed.skipped = 0 if args.ignore_data_skip else _thrown_away(args, state, len(self._feed))
        if state.is_world_process_zero:
            self.run = frameworks.run_of(self.run, args.run_name or None, found.get("run"))
            frameworks.came_from(self.run, found.get("run"))
            frameworks.use(self.run, self._stream)
            config = getattr(model, "config", None)
            frameworks.configure(self.run, run_values.as_json(args.to_dict(), "args"))
            if config is not None and hasattr(config, "to_dict"):
                frameworks.configure(self.run, {"model": config.to_dict()})
        self._note(state)

    def on_substep_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A batch is used whose gradients only add up."""
        if self._feed is not None:
            self._feed.used()

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A batch is used; what the next checkpoint says of the stream."""
        if self._feed is not None:
            self._feed.used()
        self._note(state)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **more: Any) -> None:
        """What Trainer logs.

        Raises:
            Unavailable: the disk is full.
        """
        if not state.is_world_process_zero:
            return
        if self.run is None:  # evaluate() without train()
            self.run = frameworks.run_of(None, args.run_name or None)
        values = {
            _key(key): number for key, value in (logs or {}).items() if (number := run_values.number(value)) is not None
        }
        if values:
            self.run.log(values, step=state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A checkpoint is written: its path is in the run's summary."""
        if self.run is not None and state.is_world_process_zero:
            self.run.summary["checkpoint"] = str(self._folder(args, state))
            if state.best_model_checkpoint:
                self.run.summary["best_checkpoint"] = str(state.best_model_checkpoint)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The best checkpoint becomes an artifact, if that is wanted.

        Raises:
            Unavailable: the disk is full, or the store cannot be reached.
        """
        if not self._artifacts or self.run is None or not state.is_world_process_zero:
            return
        folder = pathlib.Path(state.best_model_checkpoint or self._folder(args, state))
        if folder.is_dir():
            self.run.save("checkpoint", folder)

    # ---- what they share

    @staticmethod
    def _folder(args: Any, state: Any) -> pathlib.Path:
        return pathlib.Path(args.output_dir) / f"checkpoint-{state.global_step}"

    def _note(self, state: Any) -> None:
        attributes: dict[str, Any] = {"run": self.run.id if self.run is not None else None}
        if self._feed is not None:
            attributes["stream"] = self._feed.state()
        state.stateful_callbacks[_KEY] = {"args": {}, "attributes": attributes}


def _key(name: str) -> str:
    """As Trainer's other callbacks name them: eval_loss is eval/loss, loss is train/loss."""
    for side in ("eval", "test"):
        if name.startswith(f"{side}_"):
            return f"{side}/{name[len(side) + 1 :]}"
    return f"train/{name}"


def _thrown_away(args: Any, state: Any, batches: int) -> int:
    """How many batches Trainer skips at the beginning of the epoch in which it goes on."""
    accumulated: int = args.gradient_accumulation_steps
    updates = max(-(-batches // accumulated), 1)
    return int(state.global_step % updates) * accumulated


def _named_in(model: Any) -> stream_feed.Convert:
    names = {*inspect.signature(model.forward).parameters, *_LABELS}
    return lambda batch: {key: value for key, value in batch.items() if key in names}
