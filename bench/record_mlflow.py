"""Fills an MLflow sqlite store with runs, straight through SQL, and times its search: record_mlflow.py DB RUNS."""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
import sys
import time
import uuid

import mlflow

path, runs = sys.argv[1], int(sys.argv[2])
sys.stdout, out = sys.stderr, sys.stdout
mlflow.set_tracking_uri(f"sqlite:///{path}")
with mlflow.start_run():  # makes the schema, and the experiment
    mlflow.log_metric("loss", 1)
    mlflow.log_param("lr", 1)
random.seed(1)
with sqlite3.connect(path) as db:
    names = [row[1] for row in db.execute("pragma table_info(runs)")]
    (sample,) = db.execute("select * from runs").fetchall()
    for number in range(runs):
        run, row = uuid.UUID(int=random.getrandbits(128)).hex, dict(zip(names, sample, strict=True))
        row |= {"run_uuid": run, "name": f"probe-{number}", "start_time": number * 60_000, "status": "FINISHED"}
        db.execute(f"insert into runs ({','.join(names)}) values ({','.join('?' * len(names))})", list(row.values()))
        db.execute("insert into params (key, value, run_uuid) values ('lr', ?, ?)", (str(random.random()), run))
        for key in ("loss", "accuracy", "epoch"):
            value = random.random()
            db.execute(
                "insert into latest_metrics (key, value, timestamp, step, is_nan, run_uuid) values (?, ?, 0, 9, 0, ?)",
                (key, value, run),
            )
seconds = []
for _ in range(5):
    start = time.perf_counter()
    # Its parameters are text, so the filter is on a metric, which it can do with an index.
    found = mlflow.search_runs(
        filter_string="metrics.accuracy < 0.5", order_by=["metrics.loss ASC"], max_results=20, output_format="list"
    )
    seconds.append(time.perf_counter() - start)
    if len(found) != 20:
        raise RuntimeError(f"{len(found)} runs were found")
print(json.dumps({"seconds": statistics.median(seconds)}), file=out)
