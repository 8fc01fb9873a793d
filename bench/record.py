"""The claims about what is recorded of runs."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Callable

from measure import Line


def sampler(scale: float) -> list[Line]:
    program = pathlib.Path(os.environ["HEADRACE_BENCH_SYSTEM_METRICS"])
    nvml = program.parent.parent / "stubs" / "libnvidia-ml.so.1"
    loaders, limit = 8, 0.001
    words = [str(program), str(max(int(600 * scale), 20)), str(loaders), str(nvml)]
    done = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    if done["figures"] < 8 * 11:
        raise RuntimeError(f"only {done['figures']} figures: the GPUs of {nvml} are missing")
    share = done["share"]
    return [
        Line(
            f"system metrics each second, 8 (stub) GPUs, {loaders} child processes: share of a core",
            f"{share:.4%}",
            f"{limit:.1%} allowed",
            share / limit,
            "≤ 1",
            share <= limit,
        )
    ]


BENCHES: dict[str, Callable[[float], list[Line]]] = {"sampler": sampler}
