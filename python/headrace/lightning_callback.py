"""Lightning's logger and callback."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from headrace import frameworks, run_values, stream_feed
from headrace.errors import Invalid
from headrace.runs import Run
from headrace.stream import Stream

_lightning = frameworks.load(
    "lightning.pytorch", "pytorch_lightning", package="lightning", for_what="headrace.callbacks.LightningCallback"
)
_Callback: Any = _lightning.Callback
_Logger: Any = importlib.import_module(f"{_lightning.__name__}.loggers.logger").Logger
_rank_zero_only: Any = importlib.import_module(f"{_lightning.__name__}.utilities").rank_zero_only


class HeadraceLogger(_Logger):  # type: ignore[misc]
    """Lightning's metrics and hyperparameters, in a run.

        with hr.run("probe") as run:
            Trainer(logger=HeadraceLogger(), callbacks=[callback]).fit(module, callback.loader(), ckpt_path="last")

    ``run``: default the one that the program is in, else a new one, with ``name`` and what else ``hr.run`` takes. Checkpoints lie by the
    run's name and id, so that ``ckpt_path="last"`` finds them when a requeued job goes on with its run. Rank 0 logs."""

    def __init__(self, run: Run | None = None, *, name: str | None = None, prefix: str = "", **options: Any) -> None:
        super().__init__()
        self._given = run
        self._name = name
        self._prefix = prefix
        self._options = options

    @property
    def experiment(self) -> Run:
        """The run, begun when it is first asked for.

        Raises:
            Unavailable: the catalog cannot be reached.
        """
        if self._given is None:
            self._given = frameworks.run_of(None, self._name, **self._options)
        return self._given

    @property
    def name(self) -> str:
        """The run's name."""
        return self.experiment.name

    @property
    def version(self) -> str:
        """The run's id."""
        return self.experiment.id

    @_rank_zero_only  # type: ignore[untyped-decorator]
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Lightning calls it.

        Raises:
            Invalid: a value is none that a run keeps, or the run is finished.
            Unavailable: the disk is full.
        """
        self.experiment.log({f"{self._prefix}{key}": value for key, value in metrics.items()}, step=step)

    @_rank_zero_only  # type: ignore[untyped-decorator]
    def log_hyperparams(self, params: Any, *_: Any, **more: Any) -> None:
        """Lightning calls it: what the config does not say yet is added to it.

        Raises:
            Invalid: the run is finished.
        """
        values = run_values.as_json(params, "hyperparameters") if params is not None else {}
        frameworks.configure(self.experiment, {**(values if isinstance(values, dict) else {"params": values}), **more})

    @_rank_zero_only  # type: ignore[untyped-decorator]
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Lightning calls it: the summary's ``checkpoint`` and ``best_checkpoint`` are the paths of the newest and the best.

        Raises:
            Invalid: the run is finished.
        """
        for key, path in (
            ("checkpoint", getattr(checkpoint_callback, "last_model_path", "") or getattr(checkpoint_callback, "_last_checkpoint_saved", "")),
            ("best_checkpoint", getattr(checkpoint_callback, "best_model_path", "")),
        ):  # fmt: skip
            if path:
                self.experiment.summary[key] = str(path)


class LightningCallback(_Callback):  # type: ignore[misc]
    """Puts where a stream stands, the run's id, and each rank's generators of random numbers (Python's, numpy's, torch's; Lightning has none of
    them) into Lightning's own checkpoints, and goes on there: after the last batch that was trained on, whatever was read ahead.

    ``stream``: whose batches ``loader()`` gives to ``trainer.fit``. ``run``: default that of a ``HeadraceLogger`` of the trainer, else the one that the
    program is in."""

    def __init__(self, stream: Stream | None = None, *, run: Run | None = None) -> None:
        super().__init__()
        self._feed = stream_feed.Feed(stream) if stream is not None else None
        self._given = run
        self._earlier: Any = None
        self._generators = frameworks.Generators()

    def loader(self, convert: stream_feed.Convert | None = None) -> Any:
        """The stream's batches as a DataLoader: dicts of tensors, or what ``convert`` makes of one.

        Raises:
            Invalid: there is no stream.
        """
        if self._feed is None:
            raise Invalid("there is no stream: LightningCallback(stream)")
        self._feed.convert = convert
        return stream_feed.loader(self._feed)

    def _run(self, trainer: Any) -> Run | None:
        if self._given is None:
            loggers = [logger for logger in trainer.loggers if isinstance(logger, HeadraceLogger)]
            if loggers and trainer.is_global_zero:
                self._given = loggers[0].experiment
            else:
                from headrace.runs import current_run

                self._given = current_run()
        return self._given

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Lightning calls it."""
        self._generators.restore()
        run = self._run(trainer)
        if run is not None and trainer.is_global_zero:
            frameworks.use(run, self._feed.stream if self._feed else None)
            frameworks.came_from(run, self._earlier)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
        """Lightning calls it."""
        if self._feed is not None:
            self._feed.used()

    def state_dict(self) -> dict[str, Any]:
        """Lightning puts it into its checkpoint."""
        found: dict[str, Any] = {"run": self._given.id if self._given is not None else self._earlier}
        found["generators"] = self._generators.state()
        if self._feed is not None:
            found["stream"] = self._feed.state()
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning gives it from its checkpoint.

        Raises:
            Invalid: the stream's state is of another selection of rows.
        """
        self._earlier = state_dict.get("run")
        self._generators.load(state_dict.get("generators"))
        if self._feed is not None and "stream" in state_dict:
            self._feed.load(dict(state_dict["stream"]))
