"""Importers against what the trackers themselves write, and what they themselves read of it: every point is equal."""

from __future__ import annotations

import json
import math
import os
import pathlib
import random
import subprocess
import sys
import textwrap

import headrace as hr
import pytest
from headrace import importers
from headrace.imported_run import FoundRun


def points(run: FoundRun, key: str) -> list[tuple[int, float, int]]:
    """(step, value, life), with NaN as text so that it equals itself."""
    series = run.series[key]
    return [
        (step, "nan" if math.isnan(value) else value, life)
        for step, value, life in zip(series.steps, series.values, series.lives, strict=True)
    ]


def some_values(count: int) -> list[float]:
    rng = random.Random(7)
    return [*(rng.gauss(0, 1) * 10 ** rng.randint(-9, 9) for _ in range(count)), math.nan, math.inf, -math.inf, 0.0]


# ---------------------------------------------------------------- TensorBoard


def accumulated(folder: pathlib.Path) -> dict[str, list[tuple[int, float, float]]]:
    """What TensorBoard shows of a run: (step, time, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    found = {}
    for tag in events.Tags()["scalars"]:
        found[tag] = [(one.step, one.wall_time, one.value) for one in events.Scalars(tag)]
    for tag in events.Tags()["tensors"]:
        if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            from tensorboard.util.tensor_util import make_ndarray

            found[tag] = [
                (one.step, one.wall_time, float(make_ndarray(one.tensor_proto).item())) for one in events.Tensors(tag)
            ]
    return found


def shown(run: FoundRun) -> dict[str, list[tuple[int, float, float]]]:
    """The points that no later life supersedes."""
    found = {}
    for key, series in run.series.items():
        rows = list(zip(series.steps, series.seconds, series.values, series.lives, strict=True))
        first = {life: min(step for step, _, _, other in rows if other == life) for life in set(series.lives)}
        found[key] = [
            (step, time, value)
            for step, time, value, life in rows
            if all(later <= life or step < begin for later, begin in first.items())
        ]
    return found


def as_text(points: dict[str, list[tuple[int, float, float]]]) -> dict[str, list[str]]:
    return {key: [f"{step} {time!r} {value!r}" for step, time, value in rows] for key, rows in points.items()}


def test_tensorboard_shows_the_same(tmp_path: pathlib.Path) -> None:
    from tensorboardX import SummaryWriter

    values = some_values(500)
    with SummaryWriter(str(tmp_path / "runs" / "a")) as writer:
        for step, value in enumerate(values):
            writer.add_scalar("train/loss", value, step * 10)
            writer.add_scalar("größe", -value, step)
        writer.add_histogram("weights", [1.0, 2.0, 3.0], 1)
        writer.add_text("note", "hello", 1)
    (run,) = importers.find(tmp_path / "runs")
    assert (run.name, run.project, run.complaints) == ("a", "runs", [])
    assert run.points() == 2 * len(values)
    assert as_text(shown(run)) == as_text(accumulated(tmp_path / "runs" / "a"))
    assert run.passed_over == {"histograms": 1, "text": 1}


def test_tensorboard_tensors(tmp_path: pathlib.Path) -> None:
    """As TensorFlow 2 writes scalars: tensors, of which only the first of a tag names its plugin."""
    import numpy as np
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.scalar.metadata import create_summary_metadata
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    writer = EventFileWriter(str(tmp_path))

    def add(tag: str, value: object, step: int, first: bool) -> None:
        held = Summary.Value(tag=tag, tensor=make_tensor_proto(value))
        if first:
            held.metadata.CopyFrom(create_summary_metadata("", ""))
        writer.add_event(Event(wall_time=1e9 + step, step=step, summary=Summary(value=[held])))

    for step, value in enumerate(some_values(50)):
        add("accuracy", np.float32(value), step, step == 0)
    for step, kind in enumerate(["float32", "float64", "int32", "int64", "float16", "bool", "uint8"]):
        for value in (1, 0):
            add(kind, np.array(value, kind), step, value == 1)
    writer.close()
    (run,) = importers.find(tmp_path)
    assert as_text(shown(run)) == as_text(accumulated(tmp_path))
    assert run.points() == 54 + 14


def test_tensorboard_purge_begins_a_life(tmp_path: pathlib.Path) -> None:
    from tensorboardX import SummaryWriter

    for life, (begin, end, purge) in enumerate([(0, 80, None), (50, 90, 50), (60, 100, 60)]):
        with SummaryWriter(str(tmp_path), purge_step=purge, filename_suffix=f".{life}") as writer:
            for step in range(begin, end):
                writer.add_scalar("loss", life * 1000 + step, step)
    (run,) = importers.find(tmp_path)
    assert run.points() == 80 + 40 + 40, "nothing is dropped"
    assert as_text(shown(run)) == as_text(accumulated(tmp_path))
    assert [step for step, _, _ in shown(run)["loss"]] == list(range(100))


def test_tensorboard_hparams(tmp_path: pathlib.Path) -> None:
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_hparams({"lr": 0.1, "name": "x", "flag": True}, {"best": 3.0}, name="trial")
    (run,) = (run for run in importers.find(tmp_path) if run.config)
    assert run.config == {"lr": 0.1, "name": "x", "flag": True}


def test_a_cut_or_damaged_file_keeps_what_is_before(tmp_path: pathlib.Path) -> None:
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(20):
            writer.add_scalar("loss", step, step)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    last = 0
    for cut in range(0, len(whole), 7):
        file.write_bytes(whole[:cut])
        (run,) = importers.find(tmp_path)
        assert not run.complaints and run.points() >= last, "a writer may have been killed, or still write"
        last = run.points()
    for at in range(0, len(whole), 5):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        (run,) = importers.find(tmp_path)
        assert len(run.complaints) == 1 or at > len(whole) - 60, at
        assert points(run, "loss") == [(i, float(i), 0) for i in range(run.points())] if run.points() else True


# ---------------------------------------------------------------- W&B

WANDB = """
import json, math, sys
import wandb
values = [math.nan if v == "nan" else v for v in json.loads(sys.stdin.read(), parse_constant=float)]
first, id = int(sys.argv[1]), sys.argv[2]
run = wandb.init(project="demo", name="probe-1", id=id, mode="offline", config={"lr": 0.1, "net": {"layers": [1, 2]}}, tags=["small", "x"], notes="a note",
                 resume="allow" if first else None, settings=wandb.Settings(console="off", x_disable_stats=False, x_stats_sampling_interval=1))
for step, value in enumerate(values, first):
    run.log({"loss": value, "nested": {"a": value * 2, "b": {"c": 1}}, "big/" + "k" * 40000: step, "words": "text", "flag": step % 2 == 0}, step=step)
run.log({"hist": wandb.Histogram([1, 2, 3])}, step=first + len(values))
run.summary["best"] = 0.5
run.finish(exit_code=int(sys.argv[3]))
"""


def track(folder: pathlib.Path, values: list[float], first: int = 0, id: str = "abc123", code: int = 0) -> None:
    environment = os.environ | {"WANDB_DIR": str(folder), "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    subprocess.run(
        [sys.executable, "-c", WANDB, str(first), id, str(code)],
        input=json.dumps(values),
        text=True,
        env=environment,
        check=True,
        cwd=folder,
    )


def test_wandb(tmp_path: pathlib.Path) -> None:
    values = some_values(200)
    track(tmp_path, values)
    (run,) = importers.find(tmp_path)
    expected = [(step, "nan" if math.isnan(value) else value, 0) for step, value in enumerate(values)]
    assert points(run, "loss") == expected
    assert points(run, "nested.a") == [(s, v if v == "nan" else v * 2, 0) for s, v, _ in expected]
    assert points(run, "nested.b.c") == [(s, 1.0, 0) for s, _, _ in expected]
    assert points(run, "flag") == [(s, float(s % 2 == 0), 0) for s, _, _ in expected]
    assert points(run, "big/" + "k" * 40000) == [(s, float(s), 0) for s, _, _ in expected], "longer than a block"
    assert run.passed_over == {"str": len(values), "histogram": 1}
    assert (run.name, run.project, run.state, run.notes) == ("probe-1", "demo", "finished", "a note")
    assert (run.config["lr"], run.config["net"], run.tags) == (0.1, {"layers": [1, 2]}, ["small", "x"])
    assert run.summary["best"] == 0.5 and not any(key.startswith("_") for key in run.config)
    assert run.begin is not None and run.end is not None and run.begin <= run.end
    assert all(run.begin - 1 <= one <= run.end for one in run.series["loss"].seconds)
    assert not run.complaints


def test_wandb_failed_and_resumed(tmp_path: pathlib.Path) -> None:
    track(tmp_path, [1.0, 2.0, 3.0], code=1)
    (run,) = importers.find(tmp_path)
    assert run.state == "failed"
    track(tmp_path, [20.0, 30.0], first=1)
    (run,) = importers.find(tmp_path)
    assert points(run, "loss") == [(0, 1.0, 0), (1, 2.0, 0), (2, 3.0, 0), (1, 20.0, 1), (2, 30.0, 1)]


def test_a_cut_or_damaged_file_of_wandb(tmp_path: pathlib.Path) -> None:
    track(tmp_path, [float(i) for i in range(20)])
    (file,) = tmp_path.rglob("run-*.wandb")
    whole = file.read_bytes()
    last = 0
    for cut in range(7, len(whole), len(whole) // 97):
        file.write_bytes(whole[:cut])
        (run,) = importers.find(file)
        assert not run.complaints and run.points() >= last
        last = run.points()
    for at in range(7, len(whole), len(whole) // 97):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        (run,) = importers.find(file)
        assert all(step == value for step, value, _ in points(run, "loss")) if "loss" in run.series else True


# ---------------------------------------------------------------- MLflow


def test_mlflow(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    import mlflow
    from mlflow.tracking import MlflowClient

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_experiment("demo")
    values = some_values(100)
    with mlflow.start_run(run_name="outer") as outer:
        mlflow.log_params({"lr": 0.1, "net": "x"})
        mlflow.set_tag("kind", "small")
        for step, value in enumerate(values):
            mlflow.log_metric("loss", value, step=step)
        mlflow.log_metric("loss", 7.0, step=3)  # again
        with mlflow.start_run(run_name="inner", nested=True) as inner:
            mlflow.log_metric("größe/a b", 1.5)
    with pytest.raises(RuntimeError), mlflow.start_run(run_name="broken"):
        raise RuntimeError
    runs = {run.name: run for run in importers.find(tmp_path / "mlflow.db")}
    assert set(runs) == {"outer", "inner", "broken"}
    client = MlflowClient()
    for run in runs.values():
        for key in run.series:
            theirs = [
                # It gives infinity as the largest number, which is what it keeps in databases.
                (one.step, one.timestamp / 1000, one.value * (1 if abs(one.value) < sys.float_info.max else 10))
                for one in client.get_metric_history(run.origin, key)
            ]
            series = run.series[key]
            ours = list(zip(series.steps, series.seconds, series.values, strict=True))
            assert sorted(map(str, ours)) == sorted(map(str, theirs))
    assert runs["outer"].points() == len(values) + 1
    assert runs["inner"].parent == outer.info.run_id and runs["inner"].origin == inner.info.run_id
    assert runs["outer"].config == {"lr": "0.1", "net": "x"} and runs["outer"].tags == ["kind=small"]
    assert [runs[name].state for name in ("outer", "broken")] == ["finished", "failed"]
    assert runs["outer"].project == "demo"


def test_mlflow_that_was_killed_while_it_wrote(tmp_path: pathlib.Path) -> None:
    """SQLite has to take back what is half-written before it can be read, and the file is not ours to write to."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_experiment("killed")
    with mlflow.start_run():
        for step in range(50):
            mlflow.log_metric("loss", step / 2, step=step)
    killed = """
        import os, signal, sqlite3, sys
        database = sqlite3.connect(sys.argv[1])
        database.execute("pragma cache_size = 1")
        for step in range(5000):
            database.execute("update metrics set value = 9, key = ? where step = 7", ("x" * step,))
            database.execute("insert into tags select key || ?, value, run_uuid from tags limit 1", (str(step) * 50,))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(killed), str(tmp_path / "mlflow.db")], check=False)
    journal = tmp_path / "mlflow.db-journal"
    assert journal.stat().st_size > 0
    before = [path.read_bytes() for path in (tmp_path / "mlflow.db", journal)]
    (run,) = importers.find(tmp_path / "mlflow.db")
    assert run.series["loss"].values == [step / 2 for step in range(50)]
    assert before == [path.read_bytes() for path in (tmp_path / "mlflow.db", journal)]


def test_what_is_no_database_of_mlflow(tmp_path: pathlib.Path) -> None:
    import sqlite3

    sqlite3.connect(tmp_path / "other.db").execute("create table t (a)")
    with pytest.raises(hr.Invalid, match=r"other.db is no database of MLflow"):
        list(importers.find(tmp_path / "other.db"))


# ---------------------------------------------------------------- into a catalog


def test_runs_of_all_trackers_become_ours(tmp_path: pathlib.Path) -> None:
    from tensorboardX import SummaryWriter

    files = tmp_path / "files"
    values = some_values(3000)
    for life, purge in ((0, None), (1, 2000)):
        with SummaryWriter(str(files / "tb" / "a"), purge_step=purge, filename_suffix=f".{life}") as writer:
            for step in range(purge or 0, len(values)):
                writer.add_scalar("train/loss", values[step], step)
    (files / "wb").mkdir()
    track(files / "wb", [1.0, 2.0, 3.0], code=1)
    catalog = hr.init(tmp_path / "catalog")
    done = list(importers.import_runs(files, catalog=catalog))
    assert [(run.tracker, run.new, run.complaints) for run in done] == [("tensorboard", True, ()), ("wandb", True, ())]

    found = {run.tracker: run for run in importers.find(files)}
    for run in done:
        rows = catalog.sql(
            'select key, life, unnest(steps) as step, unnest("values") as value from hr.metrics where run = ? and steps is not null '
            "union all select key, life, unnest(generate_series(from_step, to_step, greatest((to_step - from_step) // greatest(n - 1, 1), 1))), "
            'unnest("values") from hr.metrics where run = ? and steps is null',
            [run.id, run.id],
        ).to_pylist()
        first = min(row["life"] for row in rows)
        ours = sorted(f"{row['key']} {row['life'] - first} {row['step']} {row['value']!r}" for row in rows)
        theirs = sorted(
            f"{key} {life} {step} {value!r}"
            for key, series in found[run.tracker].series.items()
            for step, value, life in zip(series.steps, series.values, series.lives, strict=True)
        )
        assert ours == theirs and len(ours) == run.points
    (row,) = catalog.sql("select * from hr.runs where name = 'probe-1'").to_pylist()
    assert (row["kind"], row["state"], row["project"], row["notes"]) == ("import", "failed", "demo", "a note")
    assert row["config"]["lr"] == 0.1 and row["summary"]["best"] == 0.5
    assert row["started"].timestamp() == pytest.approx(found["wandb"].begin)

    before = catalog["hr.metrics"].version
    again = list(importers.import_runs(files, catalog=catalog))
    assert [(run.id, run.new) for run in again] == [(run.id, False) for run in done]
    assert catalog["hr.metrics"].version == before


def test_an_import_that_was_killed_is_made_again(tmp_path: pathlib.Path) -> None:
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(tmp_path / "a")) as writer:
        for step in range(100):
            writer.add_scalar("loss", step, step)
    code = (
        "import os, sys; from headrace import importers; importers._row = lambda *given: os.kill(os.getpid(), 9); "
        "list(importers.import_runs(sys.argv[1], catalog=sys.argv[2]))"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "a"), str(tmp_path / "catalog")]
    assert subprocess.run(words, check=False).returncode == -9
    (done,) = importers.import_runs(tmp_path / "a", catalog=tmp_path / "catalog")
    assert done.new
    catalog = hr.open(tmp_path / "catalog")
    assert [row["state"] for row in catalog.sql("select state from hr.runs").to_pylist()] == ["finished"]
    lives = catalog.sql("select life, sum(n)::int as n from hr.metrics group by life order by life").to_pylist()
    assert [row["n"] for row in lives] == [100, 100], "the later one stands in place of the earlier"
    assert [run.new for run in importers.import_runs(tmp_path / "a", catalog=catalog)] == [False]


def test_the_command(tmp_path: pathlib.Path) -> None:
    track(tmp_path, [1.0, 2.0])
    environment = os.environ | {"HEADRACE_PYTHON": sys.executable}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        line = ["headrace", "--catalog", str(tmp_path / "catalog"), *words]
        return subprocess.run(line, capture_output=True, text=True, env=environment, check=False)

    done = run("runs", "import", str(tmp_path / "wandb"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["new"] is True
    assert hr.open(tmp_path / "catalog").sql("select count(*) as n from hr.runs").to_pylist()[0]["n"] == 1
    assert "there already" in run("runs", "import", str(tmp_path / "wandb")).stdout
    (tmp_path / "empty").mkdir()
    for place, why in (("none", "cannot read"), ("empty", "no runs of")):
        done = run("runs", "import", str(tmp_path / place))
        assert done.returncode == 1 and why in done.stderr
