"""``hr.tune``: a fine-tuning from Python, in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from headrace import errors
from headrace.catalog import Catalog
from headrace.catalog import open as open_catalog
from headrace.errors import HeadraceError, Invalid
from headrace.tune_config import TuneConfig

# Threads that wait for each other sleep soon: on a busy machine, spinning ones keep the others from the processor.
ENVIRONMENT = {"GOMP_SPINCOUNT": "30000"}


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What came of a fine-tuning: ``run`` (its id), ``steps``, ``val_loss`` over the rows that were kept back (None: none were), ``base`` and
    ``name`` of the adapter, ``model``, by which the catalog knows it: ``hr.Model(tuned.model)`` (None: the base is a file, which has no name), and its
    file, an artifact of the run: ``catalog.artifact(tuned.sha256, "adapter.gguf")``."""

    run: str
    steps: int
    val_loss: float | None
    base: str
    name: str
    file: str
    sha256: str
    model: str | None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tuned:
        """Of what ``headrace tune --json`` prints; what it says besides is left out."""
        return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls)})


def tune(
    config: TuneConfig | None = None,
    *,
    catalog: Catalog | str | os.PathLike[str] | None = None,
    resume: str | None = None,
    quiet: bool = False,
    **values: Any,
) -> Tuned:
    """Teaches a model from the rows of a table; comes back when it is done.

        tuned = hr.tune(model="smol", data="support@v12", prompt="question", answer="answer", out="support")

    ``config``, or its values by name. ``catalog``: as ``hr.run`` has it. ``resume``: the id or name of a fine-tuning that ended early: it goes on
    from its last checkpoint, with what it was given then. The training is a process of its own, so that what this one has
    loaded (torch, say) and what it computes with do not meet; its progress is on standard error, unless ``quiet``.

    Raises:
        Invalid: a value is out of its range, the rows give nothing to learn, or the loss is no number any more.
        Unsupported: the model is of an architecture that the trainer does not compute.
        NotFound: there is no such model, table, version or run.
        Unavailable: the disk is full, or the catalog cannot be reached.
        HeadraceError: the process was killed.
    """
    if config is not None and values:
        raise Invalid(f"give a TuneConfig or its values, not both: {', '.join(values)}")
    if resume is None:
        config = TuneConfig.from_dict(values) if config is None else config
    elif config is not None or values:
        raise Invalid("resume goes on with what its run was given; nothing else can be given")
    opened = catalog if isinstance(catalog, Catalog) else open_catalog(catalog)
    words = [opened.location, config.to_json() if config else "{}", "--json", "--error-json"]
    words += ["--resume", resume] if resume else []
    words += ["--quiet"] if quiet else []
    with subprocess.Popen(
        [sys.executable, "-m", "headrace.tune_loop", *words], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            out, _ = process.communicate()
        except KeyboardInterrupt:  # the process has heard it, too, and ends its step and its run
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            raise
    lines = out.splitlines()
    said = json.loads(lines[-1]) if lines else {}
    if process.returncode == 0:
        return Tuned.from_dict(said)
    kind = getattr(errors, str(said.get("kind")), HeadraceError)
    raise kind(said.get("error") or f"the training's process ended with {process.returncode}")
