"""Composer's logger and callback."""

from __future__ import annotations

from typing import Any

from headrace import frameworks, run_values, stream_feed
from headrace.errors import Invalid
from headrace.runs import Run
from headrace.stream import Stream

_loggers = frameworks.load("composer.loggers", package="mosaicml", for_what="headrace.callbacks.ComposerLogger")
_LoggerDestination: Any = _loggers.LoggerDestination
_dist = frameworks.load("composer.utils.dist", package="mosaicml", for_what="headrace.callbacks.ComposerLogger")


class ComposerLogger(_LoggerDestination):  # type: ignore[misc]
    """Composer's metrics and hyperparameters in a run; and where a stream stands, with the run's id, in Composer's own checkpoints.

        logger = ComposerLogger(stream=stream)
        Trainer(model, train_dataloader=logger.loader(), loggers=logger, spin_dataloaders=False, autoresume=True, …).fit()

    ``spin_dataloaders=False``: the stream goes on by itself, so that nothing is to be skipped. ``run``: default the one that the program
    is in, else a new one, with Composer's ``run_name``. Rank 0 logs."""

    def __init__(self, run: Run | None = None, *, stream: Stream | None = None) -> None:
        self.run = run
        self._stream = stream
        self._feed = stream_feed.Feed(stream) if stream is not None else None
        self._earlier: Any = None
        self._generators = frameworks.Generators()

    def loader(self, convert: stream_feed.Convert | None = None) -> Any:
        """The stream's batches as a DataLoader: dicts of tensors, or what ``convert`` makes of one (a tuple of inputs and targets, say).

        Raises:
            Invalid: there is no stream.
        """
        if self._feed is None:
            raise Invalid("there is no stream: ComposerLogger(stream=…)")
        self._feed.convert = convert
        return stream_feed.loader(self._feed)

    # ---- Composer calls these

    def init(self, state: Any, logger: Any) -> None:
        """The run begins."""
        if _dist.get_global_rank() == 0:
            self.run = frameworks.run_of(self.run, state.run_name)

    def fit_start(self, state: Any, logger: Any) -> None:
        """The stream becomes an input of the run."""
        if self.run is not None:
            frameworks.use(self.run, self._stream)
            frameworks.came_from(self.run, self._earlier)

    def batch_start(self, state: Any, logger: Any) -> None:
        """The first batch after a checkpoint: Composer itself sets generators back only where it skips batches."""
        self._generators.restore()

    def batch_end(self, state: Any, logger: Any) -> None:
        """A batch is used."""
        if self._feed is not None:
            self._feed.used()

    def log_hyperparameters(self, hyperparameters: dict[str, Any]) -> None:
        """What the config does not say yet is added to it."""
        if self.run is not None:
            frameworks.configure(self.run, run_values.as_json(hyperparameters, "hyperparameters"))

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Numbers at Composer's count of batches.

        Raises:
            Unavailable: the disk is full.
        """
        values = {key: number for key, value in metrics.items() if (number := run_values.number(value)) is not None}
        if self.run is not None and values:
            self.run.log(values, step=step)

    def state_dict(self) -> dict[str, Any]:
        """Composer puts it into its checkpoint."""
        found: dict[str, Any] = {"run": self.run.id if self.run is not None else self._earlier}
        found["generators"] = self._generators.state()
        if self._feed is not None:
            found["stream"] = self._feed.state()
        return found

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Composer gives it from its checkpoint.

        Raises:
            Invalid: the stream's state is of another selection of rows.
        """
        self._earlier = state.get("run")
        self._generators.load(state.get("generators"))
        if self._feed is not None and "stream" in state:
            self._feed.load(dict(state["stream"]))
