"""What the ranks of a job tell each other: each gives a value, and all get everybody's."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from typing import Any

from headrace import run_identity
from headrace.errors import Invalid

Gather = Callable[[Any], list[Any]]


class Exchange:
    """Of one process with all ranks of its job. All ranks must ask for the same exchanges in the same order. ``alone``: where they cannot
    talk, each is for itself."""

    def __init__(self, gather: Gather | None = None, alone: bool = False) -> None:
        self._gather = gather
        self._group: Any = None
        if gather is not None:
            # Which rank this is, says the list itself: the environment may speak of another job, or of none.
            own = uuid.uuid4().hex
            everybody = gather(own)
            if own not in everybody:
                raise Invalid("gather(value) returns the values of all ranks, this one's among them")
            self.rank, self.world = everybody.index(own), len(everybody)
            return
        distributed = _distributed()
        if distributed is not None:
            self.rank, self.world = distributed.get_rank(), distributed.get_world_size()
            if self.world > 1 and "gloo" not in str(distributed.get_backend()) and distributed.is_gloo_available():
                self._group = distributed.new_group(backend="gloo")  # no detour over the accelerator
            return
        self.rank, self.world = 0, 1
        if (ranks := run_identity.ranks()) > 1 and not alone:
            raise Invalid(
                f"this is rank {run_identity.rank()} of {ranks}, and the ranks cannot talk to each other: call "
                "torch.distributed.init_process_group() first, or give Checkpointer(…, gather=…), such as mpi4py's comm.allgather"
            )

    def all(self, value: Any) -> list[Any]:
        """Everybody's values, by rank."""
        if self.world == 1:
            return [value]
        if self._gather is not None:
            return list(self._gather(value))
        found: list[Any] = [None] * self.world
        _distributed().all_gather_object(found, value, group=self._group)
        return found


def _distributed() -> Any:
    """torch's, where the program has begun with it."""
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed
