"""Batches as torch has them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

Batch = dict[str, Any]


def loaded() -> Any:
    """The torch module, which the program has imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        raise RuntimeError("import torch first; Headrace never imports it by itself")
    return torch


def to_torch(torch: Any, batch: Batch) -> Batch:
    """The batch with tensors over its memory where torch has the type."""
    return {
        name: torch.from_dlpack(value) if hasattr(value, "__dlpack__") and _fits_torch(value) else value
        for name, value in batch.items()
    }


def _fits_torch(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "name", "") not in ("uint16", "uint32", "uint64")


def dataset_class(torch: Any) -> Any:
    """The dataset's class, made late since torch is imported by the program only."""

    class StreamDataset(torch.utils.data.IterableDataset):  # type: ignore[misc]
        """A stream's epoch as torch's DataLoader wants it."""

        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __iter__(self) -> Iterator[Batch]:
            info = torch.utils.data.get_worker_info()
            if info is None:
                return (to_torch(torch, batch.to_dict()) for batch in self.stream._epoch())
            batches = self.stream._worker(info.id, info.num_workers)
            return (to_torch(torch, batch) for batch in batches)

        def __len__(self) -> int:
            return int(self.stream._steps_left())

        def __reduce__(self) -> Any:
            return _rebuild_dataset, (self.stream,)

    return StreamDataset


def _rebuild_dataset(stream: Any) -> Any:
    return dataset_class(loaded())(stream)
