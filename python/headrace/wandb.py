"""Scripts written for Weights & Biases, kept by Headrace: ``import headrace.wandb as wandb``.

``init``, ``log``, ``finish``, ``config``, ``summary``, ``run``, ``save``, ``Image``, ``Audio``, ``Histogram``, ``Table``, ``Html``,
``define_metric`` and ``watch`` do what these scripts expect of them, as far as a run keeps it; any other name says that it does
not exist here. Nothing is sent anywhere."""

from __future__ import annotations

import builtins
import contextlib
import os
import pathlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headrace import run_media, run_values
from headrace import runs as _runs
from headrace.errors import Invalid
from headrace.run_media import Audio
from headrace.runs import Run

__all__ = [
    "Audio", "Histogram", "Html", "Image", "Table", "config", "define_metric", "finish", "init", "log", "save", "summary", "watch",
]  # fmt: skip


class _Current:
    """The config or the summary of the run of now."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def _fields(self) -> Any:
        return getattr(_run(), self._name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fields(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._fields()[name] = value

    def __getitem__(self, key: str) -> Any:
        return self._fields()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._fields()[key] = value

    def update(self, values: Any, **_: Any) -> None:
        """Sets many at once: a mapping, or ``argparse``'s namespace."""
        for key, value in run_values.as_json(values, "config").items():
            self._fields()[key] = value


config = _Current("config")
summary = _Current("summary")


def __getattr__(name: str) -> Any:
    if name == "run":
        return _runs.current_run()
    raise AttributeError(f"headrace.wandb has no {name!r}; it has {', '.join(sorted(__all__))}")


def _run() -> Run:
    current = _runs.current_run()
    if current is None:
        raise Invalid("there is no run: call wandb.init() first")
    return current


def init(
    project: str | None = None,
    name: str | None = None,
    config: Any = None,
    id: str | None = None,
    tags: Iterable[str] | None = None,
    notes: str | None = None,
    group: str | None = None,
    job_type: str | None = None,
    resume: Any = None,
    dir: str | os.PathLike[str] | None = None,
    mode: str | None = None,
    reinit: Any = None,
    **others: Any,
) -> Run:
    """Begins a run, as ``hr.run()``. A group and a job type become tags.

    Raises:
        Invalid: ``resume="must"`` without an id, or the config holds itself.
        Unavailable: the catalog cannot be reached, or this machine's disk is full.
    """
    if mode == "disabled":
        warnings.warn('mode="disabled" is kept all the same: the run stays on this machine', stacklevel=2)
    for name_ in others:
        if name_ not in {"entity", "save_code", "settings", "force", "sync_tensorboard", "monitor_gym", "anonymous"}:
            raise TypeError(f"headrace.wandb.init() has no argument {name_!r}")
    if resume == "must" and id is None:
        raise Invalid('resume="must" needs the id of the run')
    current = _runs.current_run()
    if current is not None:
        if not reinit:
            return current
        current.finish()
    labels = [*(tags or ()), *(f"group:{group}" for _ in (1,) if group), *(f"job:{job_type}" for _ in (1,) if job_type)]
    return _runs.run(name, config=config, project=project, tags=labels, notes=notes or "", id=id, catalog=dir)


def log(data: Mapping[str, Any], step: int | None = None, commit: bool | None = None, **_: Any) -> None:
    """As ``run.log``. Nested values are joined by a dot, as W&B does; ``commit=False`` keeps the step for the next call.

    Raises:
        Invalid: there is no run, or a value is nothing that a run keeps.
        Unavailable: the disk is full.
    """
    current = _run()
    if step is None and (commit is False or _Pending.step is not None):
        _Pending.step = current.step + 1 if _Pending.step is None else _Pending.step
        step = _Pending.step
        if commit is not False:
            _Pending.step = None
    current.log(dict(run_values.flat(data, ".")), step)


class _Pending:
    """The step of calls with ``commit=False``."""

    step: int | None = None


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """Ends the run: ``failed`` where the exit code is not 0.

    Raises:
        Unavailable: the store cannot be reached; what was logged stays on this machine, and is committed later.
    """
    current = _runs.current_run()
    _Pending.step = None
    if current is not None:
        current.finish("failed" if exit_code else "finished", f"exit code {exit_code}" if exit_code else None)


def save(path: str | os.PathLike[str], base_path: str | None = None, policy: str = "live") -> list[str]:
    """Keeps the files that a pattern names, as they are now.

    Raises:
        Invalid: there is no run.
        NotFound: the pattern names no file.
        Unavailable: the store cannot be reached.
    """
    text = os.fspath(path)
    found = sorted(builtins.map(str, pathlib.Path().glob(text))) if not os.path.isabs(text) else [text]
    return [_run().save(os.path.relpath(one, base_path) if base_path else one, one) for one in found or [text]]


def define_metric(name: str, step_metric: str | None = None, **_: Any) -> None:
    """Nothing: every metric has all of its points, and SQL joins one with another."""


def watch(*_: Any, **__: Any) -> None:
    """Not kept: says so. ``wandb.log({"weights": wandb.Histogram(w)})`` keeps a distribution.

    Warns:
        UserWarning: always.
    """
    warnings.warn("gradients are not kept by themselves; log hr.Histogram(parameter.grad)", stacklevel=2)


def Image(data_or_path: Any, caption: str | None = None, **_: Any) -> run_media.Image:
    """A picture; boxes and masks are not kept."""
    return run_media.Image(data_or_path, caption)


def Histogram(
    sequence: Any = None, np_histogram: Sequence[Any] | None = None, num_bins: int = 64
) -> run_media.Histogram:
    """A histogram of values, or one that numpy made.

    Raises:
        Invalid: the counts and the edges do not belong together.
    """
    if np_histogram is not None:
        return run_media.Histogram(np_histogram[0], edges=[float(edge) for edge in np_histogram[1]])
    return run_media.Histogram(sequence, num_bins)


class Table(list[dict[str, Any]]):
    """Rows with columns: ``Table(columns=["a"], data=[[1]])``; ``add_data`` adds one."""

    def __init__(self, columns: Sequence[str] | None = None, data: Any = None, dataframe: Any = None) -> None:
        super().__init__()
        self.columns = list(columns or ())
        if dataframe is not None:
            self.columns = [str(column) for column in dataframe.columns]
            data = dataframe.values.tolist()
        for row in data if data is not None else ():
            self.add_data(*row)

    def add_data(self, *values: Any) -> None:
        """A row.

        Raises:
            Invalid: it has more or fewer values than there are columns.
        """
        if len(values) != len(self.columns):
            raise Invalid(f"a row of {len(values)} values for {len(self.columns)} columns: {', '.join(self.columns)}")
        self.append(dict(zip(self.columns, values, strict=True)))


def Html(data: str, inject: bool = True) -> str:
    """Kept as text."""
    with contextlib.suppress(OSError, ValueError):
        if len(data) < 4096 and pathlib.Path(data).is_file():
            return pathlib.Path(data).read_text()
    return data
