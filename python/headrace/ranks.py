"""Do all ranks of a job read the same rows in the same order?

A rank that opens a table by its name reads the newest version, and another rank may open it a moment later. So the first rank
of a job that opens a stream writes down, in the catalog, what it found; those that ask for the same thing must find the same."""

from __future__ import annotations

import collections
import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from headrace import _native
from headrace.errors import HeadraceError, Invalid

_OF_THE_RANK = {
    "rank", "local_rank", "local_world_size", "threads", "prefetch", "memory", "cache", "cache_size", "store_deadline",
}  # fmt: skip
_asked: collections.Counter[str] = collections.Counter()


def job() -> str | None:
    """The name that all ranks of this job know it by, from the launcher's environment; None if there is none."""
    get = os.environ.get
    if name := get("HEADRACE_JOB"):
        return name
    if (run := get("TORCHELASTIC_RUN_ID")) and run != "none":
        return f"{run}-{get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if slurm := get("SLURM_JOB_ID"):
        return f"slurm-{slurm}-{get('SLURM_STEP_ID', '0')}-{get('SLURM_RESTART_COUNT', '0')}"
    return None


def _place(name: str, digest: str) -> str:
    plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:80]
    return f"jobs/{plain}-{hashlib.sha256(name.encode()).hexdigest()[:16]}/{digest}.json"


def check(inputs: Sequence[tuple[Any, str | None]], options: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Compares what this rank found with what the first one did; Invalid says how they differ. ``state``: of the stream at its
    beginning. Nothing is compared outside of a job, or in one of a single rank."""
    name = job()
    if name is None or options["world_size"] < 2:
        return
    asked = {
        "tables": [[snapshot._view.prefix, where or ""] for snapshot, where in inputs],
        "options": {key: value for key, value in options.items() if key not in _OF_THE_RANK},
    }
    text = json.dumps(asked, sort_keys=True, default=str)
    _asked[text] += 1  # the same stream opened again is another one: the table may have grown on purpose
    digest = hashlib.sha256(f"{_asked[text]} {text}".encode()).hexdigest()[:32]
    found = {"versions": [snapshot.version for snapshot, _ in inputs], "state": state, "rank": options["rank"]}
    view: _native.View = inputs[0][0]._view
    try:
        first = json.loads(view.claim(_place(name, digest), json.dumps(found)))
    except HeadraceError as error:
        warnings.warn(f"the ranks of job {name} are not compared: {error}", stacklevel=4)
        return
    if first["versions"] != found["versions"]:
        raise Invalid(
            f"rank {options['rank']} of job {name} reads version {found['versions']} of the stream's tables and rank "
            f"{first['rank']} reads {first['versions']}: give every rank the same one, as in table.at({first['versions'][0]})"
        )
    if first["state"] != found["state"]:
        raise Invalid(
            f"rank {options['rank']} of job {name} would go through the rows in another order than rank {first['rank']}: "
            f"{found['state']} is not {first['state']}; they run different versions of headrace"
        )
