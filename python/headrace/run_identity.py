"""Which run a process belongs to: its id, its rank and its life.

All ranks of a job, and all of its starts where a scheduler requeues it, find the same id without asking each other."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import sys
import time
import uuid
from collections.abc import Iterator

_calls = itertools.count()  # of hr.run() in this process that name no id


@dataclasses.dataclass(frozen=True)
class Identity:
    """Where a process looks for its run."""

    given: str | None = None  # the id that somebody named
    words: tuple[
        str, ...
    ] = ()  # what all processes of the job, and all its starts, have in common; none: a run of its own
    shared: bool = False  # with other ranks, who must find the same
    requeued: bool = False  # the job was started before

    def candidates(self) -> Iterator[str]:
        """Ids in the order in which they are tried: of a job that makes one run after another, each has its own."""
        if self.given is not None:
            yield self.given
        elif not self.words:
            yield uuid.uuid4().hex
        else:
            for number in itertools.count():
                text = "\0".join([*self.words, str(number)])
                yield hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]

    def takes(self, state: str) -> bool:
        """Whether a run that is there already, in this state, is this process's to go on with."""
        if self.given is not None or self.shared:
            return True
        return self.requeued and state not in ("finished", "failed")


def rank() -> int:
    """This process's number among those of its job, from the launcher's environment; 0 without one."""
    for name in ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK"):
        if (value := os.environ.get(name, "")).isdigit():
            return int(value)
    if "SLURM_STEP_ID" in os.environ and (value := os.environ.get("SLURM_PROCID", "")).isdigit():
        return int(value)
    return 0


def ranks() -> int:
    """How many processes the job has, from the launcher's environment; 1 without one."""
    for name in ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        if (value := os.environ.get(name, "")).isdigit():
            return int(value)
    if "SLURM_STEP_ID" in os.environ and (value := os.environ.get("SLURM_STEP_NUM_TASKS", "")).isdigit():
        return int(value)
    return 1


def _parent() -> str:
    """The process that started this one and its siblings, told apart from a later one with its number."""
    parent = os.getppid()
    try:
        with open(f"/proc/{parent}/stat") as stat:
            started = stat.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        started = ""
    return f"{os.uname().nodename} {parent} {started}"


def find(given: str | None) -> Identity:
    """By the id that was given; else by what all processes of this job have in common; else a new one."""
    if given is not None:
        return Identity(given=given)
    ordinal = next(_calls)
    get = os.environ.get
    if (inherited := get("HEADRACE_RUN")) and ordinal == 0:
        return Identity(given=inherited)
    shared = ranks() > 1
    slurm = [get("SLURM_CLUSTER_NAME", ""), get("SLURM_JOB_ID", "")] if get("SLURM_JOB_ID") else []
    words: list[str] = []
    if job := get("HEADRACE_JOB"):
        words = ["job", job]
    elif (launch := get("TORCHELASTIC_RUN_ID")) and launch != "none":
        words = ["torch", launch, *slurm]
    elif slurm and "SLURM_STEP_ID" in os.environ:
        words = ["step", *slurm, os.environ["SLURM_STEP_ID"]]
    elif slurm and get("ENVIRONMENT") == "BATCH":
        words = ["batch", *slurm]
    elif shared:
        words = ["parent", _parent(), get("MASTER_ADDR", ""), get("MASTER_PORT", "")]
    if not words:
        return Identity()
    requeued = int(get("SLURM_RESTART_COUNT") or "0") > 0
    return Identity(words=(*words, str(ordinal), *sys.argv), shared=shared, requeued=requeued)


def next_life(known: int | None) -> int:
    """The number of a start: later than all that are known."""
    return max(time.time_ns() // 1_000_000, (known or 0) + 1)
