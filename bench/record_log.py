"""Logs three scalars many times with one tracker, and prints the seconds of a call: median, 99.9th percentile, mean.

python record_log.py ours|wandb|tensorboardx|mlflow|trackio CALLS FOLDER
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time
from collections.abc import Callable

Log = Callable[[dict[str, float], int], object]


def opened(name: str, folder: str) -> tuple[Log, Callable[[], object]]:
    if name == "ours":
        import headrace as hr

        run = hr.run("bench", catalog=hr.init(folder))
        return (lambda values, step: run.log(values, step=step)), run.finish
    if name == "wandb":
        os.environ["WANDB_SILENT"] = "true"
        import wandb

        theirs = wandb.init(mode="offline", dir=folder, project="bench")
        return (lambda values, step: theirs.log(values, step=step)), theirs.finish
    if name == "tensorboardx":
        from tensorboardX import SummaryWriter

        writer = SummaryWriter(folder)

        def add(values: dict[str, float], step: int) -> None:
            for key, value in values.items():
                writer.add_scalar(key, value, step)

        return add, writer.close
    if name == "mlflow":
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.start_run()
        return (lambda values, step: mlflow.log_metrics(values, step=step)), mlflow.end_run
    os.environ["TRACKIO_DIR"] = folder
    import trackio

    trackio.init(project="bench")
    return (lambda values, step: trackio.log(values, step=step)), trackio.finish


def main() -> None:
    name, calls, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    pathlib.Path(folder).mkdir(parents=True)
    sys.stdout, out = sys.stderr, sys.stdout  # what trackers print
    log, finish = opened(name, folder)
    seconds = []
    for step in range(calls):
        values = {"loss": 1.0 / (step + 1), "accuracy": step / calls, "lr": 0.001}
        start = time.perf_counter_ns()
        log(values, step)
        seconds.append((time.perf_counter_ns() - start) / 1e9)
    finish()
    seconds.sort()
    result = {"p50": seconds[calls // 2], "p999": seconds[calls * 999 // 1000], "mean": sum(seconds) / calls}
    print(json.dumps(result), file=out, flush=True)
    os._exit(0)  # what trackers leave running is not waited for


main()
