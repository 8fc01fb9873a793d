"""Callbacks with which training frameworks log to a run, and go on with a stream exactly where their own checkpoint was.

===================  ==============================================================================================================
Lightning            ``HeadraceLogger`` (a logger), ``LightningCallback(stream)``: ``trainer.fit(module, callback.loader())``
transformers         ``HeadraceCallback(stream=…)``: ``callback.attach(Trainer(…)).train(resume_from_checkpoint=True)``
Composer             ``ComposerLogger(stream=…)``: a logger and callback; ``Trainer(train_dataloader=logger.loader(), …)``
any loop             ``hr.Checkpointer``
===================  ==============================================================================================================

Each is made when it is first asked for, and imports its framework then."""

from __future__ import annotations

import importlib
from typing import Any

_IN = {
    "HeadraceLogger": "lightning_callback",
    "LightningCallback": "lightning_callback",
    "HeadraceCallback": "trainer_callback",
    "ComposerLogger": "composer_callback",
}

__all__ = ["ComposerLogger", "HeadraceCallback", "HeadraceLogger", "LightningCallback"]  # noqa: F822


def __getattr__(name: str) -> Any:
    if name not in _IN:
        raise AttributeError(f"headrace.callbacks has no {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"headrace.{_IN[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
