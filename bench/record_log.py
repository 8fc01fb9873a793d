"""Logs three scalars many times with one tracker, and prints the seconds of a call: median, 99.9th percentile, mean.

python record_log.py ours|wandb|tensorboardx|mlflow|trackio CALLS FOLDER
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

Log = Callable[[dict[str, float], int], object]


def opened(name: str, folder: str) -> tuple[Log, Callable[[], object], str]:
    """How to log and to finish, and what the store calls the run."""
    if name == "ours":
        import headrace as hr

        run = hr.run("bench", catalog=hr.open(folder, create=True))
        return (lambda values, step: run.log(values, step=step)), run.finish, run.id
    if name == "wandb":
        os.environ["WANDB_SILENT"] = "true"
        import wandb

        theirs = wandb.init(mode="offline", dir=folder, project="bench")
        return (lambda values, step: theirs.log(values, step=step)), theirs.finish, theirs.id
    if name == "tensorboardx":
        from tensorboardX import SummaryWriter

        mine = tempfile.mkdtemp(dir=folder)
        writer = SummaryWriter(mine)

        def add(values: dict[str, float], step: int) -> None:
            for key, value in values.items():
                writer.add_scalar(key, value, step)

        return add, writer.close, os.path.basename(mine)
    if name == "mlflow":
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        id_ = mlflow.start_run().info.run_id
        return (lambda values, step: mlflow.log_metrics(values, step=step)), mlflow.end_run, id_
    os.environ["TRACKIO_DIR"] = folder
    import trackio

    name = f"run-{os.getpid()}-{time.time_ns()}"
    trackio.init(project="bench", name=name)
    return (lambda values, step: trackio.log(values, step=step)), trackio.finish, name


def main() -> None:
    name, calls, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    pathlib.Path(folder).mkdir(parents=True)
    sys.stdout, out = sys.stderr, sys.stdout  # what trackers print
    log, finish, _ = opened(name, folder)
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


if __name__ == "__main__":
    main()
