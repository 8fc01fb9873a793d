"""The claims about what is recorded of runs."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import uuid
from collections.abc import Callable

import headrace as hr
import pyarrow as pa
from measure import Line, alternate, timed
from record_kills import kills
from record_traces import spans
from tables import Scratch

ROUNDS = 5


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


RIVALS = {"wandb": "W&B offline", "tensorboardx": "tensorboardX", "mlflow": "MLflow sqlite", "trackio": "Trackio"}
HERE = pathlib.Path(__file__).resolve().parent


def python_of(side: str) -> str:
    return sys.executable if side == "ours" else os.environ["HEADRACE_BENCH_RIVALS_RECORD"]


def logged(side: str, calls: int, folder: pathlib.Path) -> dict[str, float]:
    words = [python_of(side), str(HERE / "record_log.py"), side, str(calls), str(folder)]
    result: dict[str, float] = json.loads(
        subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )
    return result


def log(scale: float) -> list[Line]:
    """A call that logs three scalars, ours and each rival's, each in a process of its own, in turn."""
    calls = {"ours": 100_000, "tensorboardx": 20_000, "wandb": 20_000, "mlflow": 300, "trackio": 2_000}
    measured: dict[str, list[dict[str, float]]] = {side: [] for side in calls}
    with Scratch() as folder:
        for index in range(3):
            for side, number in calls.items():
                measured[side].append(logged(side, max(int(number * scale), 100), folder / f"{side}{index}"))

    def median(side: str, what: str) -> float:
        return statistics.median(one[what] for one in measured[side])

    fastest = min(RIVALS, key=lambda side: median(side, "p50"))
    others = ", ".join(f"{RIVALS[side]} {median(side, 'p50') * 1e6:,.0f}" for side in RIVALS if side != fastest)
    what = "log() of 3 scalars"
    lines = []
    for name, key, limit in (("p50", "p50", 3e-6), ("p99.9", "p999", 50e-6)):
        ours = median("ours", key)
        lines.append(
            Line(
                f"{what}: {name}, of {limit * 1e6:g} µs",
                f"{ours * 1e6:.2f} µs",
                f"{limit * 1e6:g} µs",
                ours / limit,
                "≤ 1",
                ours <= limit,
            )
        )
    ours, theirs = median("ours", "p50"), median(fastest, "p50")
    lines.append(
        Line(
            f"… p50 ÷ the fastest rival's, {RIVALS[fastest]} (µs: {others})",
            f"{ours * 1e6:.2f} µs",
            f"{theirs * 1e6:.2f} µs",
            ours / theirs,
            "≤ 0.3",
            ours / theirs <= 0.3,
        )
    )
    return lines


def first_run(scale: float) -> list[Line]:
    """A program that imports the package, begins a run in a catalog that is there, and logs once."""
    program = (
        "import headrace as hr, sys; run = hr.run('x', catalog=sys.argv[1]); run.log({'a': 1}); import os; os._exit(0)"
    )
    nothing = "import os; os._exit(0)"
    with Scratch() as folder:
        hr.init(folder / "c")
        both = [
            alternate(
                lambda: subprocess.run([sys.executable, "-c", program, str(folder / "c")], check=True),
                lambda: subprocess.run([sys.executable, "-c", nothing], check=True),
                ROUNDS,
            )
        ]
    ours = both[0][0] - both[0][1]
    return [
        Line(
            "import + first hr.run() + log(), less Python's own start, of 0.3 s",
            f"{ours:.3f} s",
            "0.3 s",
            ours / 0.3,
            "≤ 1",
            ours <= 0.3,
        )
    ]


def curve(scale: float) -> list[Line]:
    """A curve of ten million points: how fast they are committed, how large they are, how fast they are drawn."""
    points = int(10_000_000 * scale)
    with Scratch() as folder:
        words = [os.environ["HEADRACE_BENCH_CURVE"], str(folder / "c"), str(points), "2000"]
        done = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    what = f"a curve of {points:,} points"
    rate, overview, size = points / done["commit_seconds"], done["overview_seconds"], done["bytes"] / points
    return [
        Line(
            f"{what}: from the spool into the table, points/s",
            f"{rate:,.0f}/s",
            "1,000,000/s",
            rate / 1e6,
            "≥ 1",
            rate >= 1e6,
        ),
        Line(
            f"{what}: 2,000 pixels with exact extremes, of 200 ms",
            f"{overview * 1e3:.0f} ms",
            "200 ms",
            overview / 0.2,
            "≤ 1",
            overview <= 0.2,
        ),
        Line("… bytes a point in the table, of 14", f"{size:.2f} B", "14 B", size / 14, "≤ 1", size <= 14),
    ]


def many_processes(scale: float) -> list[Line]:
    """Commits of 64 processes of one machine."""
    seconds, processes = 120 * scale, 64
    with Scratch() as folder:
        catalog = hr.init(folder / "c")
        words = [sys.executable, str(HERE / "record_many.py"), str(folder / "c"), str(seconds)]
        running = [subprocess.Popen(words) for _ in range(processes)]
        failed = [one.wait() for one in running]
        if any(failed):
            raise RuntimeError(f"processes ended with {failed}")
        commits = sum(len(catalog[name].history()) for name in ("hr.metrics",))
        states = catalog.sql("select state, count(*) as n from runs_now group by state").to_pylist()
    if states != [{"state": "finished", "n": processes}]:
        raise RuntimeError(f"the runs are {states}")
    rate = commits / seconds
    return [
        Line(
            f"{processes} processes that log 50 times a second for {seconds:.0f} s: commits/s of hr.metrics",
            f"{rate:.3f}/s",
            "0.2/s",
            rate / 0.2,
            "≤ 1",
            rate <= 0.2,
        )
    ]


def page(scale: float) -> list[Line]:
    """The page of 30,000 runs that a filter and a sort by a summary's metric leave, beside MLflow's search."""
    runs = int(30_000 * scale)
    with Scratch() as folder:
        make_runs(hr.init(folder / "c", sync=False), runs)
        words = [python_of("mlflow"), str(HERE / "record_mlflow.py"), str(folder / "mlflow.db"), str(runs)]
        printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        theirs = json.loads(printed.splitlines()[-1])["seconds"]
        command = [
            "headrace",
            "--catalog",
            str(folder / "c"),
            "runs",
            "--sort",
            "summary.loss",
            "--where",
            "config.lr < 0.5",
            "--json",
        ]
        cold = statistics.median(
            timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(2 * ROUNDS)
        )
        catalog = hr.open(folder / "c")
        sql = (
            "select id, name, state, (summary->>'loss')::double as loss from runs_now "
            "where (config->>'lr')::double < 0.5 order by loss limit 20"
        )
        warm = statistics.median(timed(lambda: catalog.sql(sql).to_pylist()) for _ in range(2 * ROUNDS))
    what = f"{runs:,} runs: a page filtered and sorted by a summary's metric"
    return [
        Line(
            f"{what}: headrace runs, a process of its own, of 100 ms",
            f"{cold * 1e3:.0f} ms",
            "100 ms",
            cold / 0.1,
            "≤ 1",
            cold <= 0.1,
        ),
        Line("… in a process that runs, of 30 ms", f"{warm * 1e3:.0f} ms", "30 ms", warm / 0.03, "≤ 1", warm <= 0.03),
        Line(
            "… in a process that runs ÷ MLflow's search_runs on sqlite",
            f"{warm * 1e3:.0f} ms",
            f"{theirs * 1e3:.0f} ms",
            warm / theirs,
            "≤ 0.1",
            warm / theirs <= 0.1,
        ),
    ]


def make_runs(catalog: hr.Catalog, runs: int) -> None:
    """Three rows a run, as hr.run() leaves them."""
    with hr.run("seed", catalog=catalog, system=False):
        pass
    random.seed(1)
    begun = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    rows: list[dict[str, object]] = []
    for number in range(runs):
        run, at = uuid.UUID(int=random.getrandbits(128)).hex, begun + datetime.timedelta(minutes=number)
        config = json.dumps({"lr": random.random(), "layers": number % 50, "optimizer": {"name": "adam", "wd": 0.1}})
        summary = json.dumps({"loss": random.random(), "accuracy": random.random(), "epoch": 10})
        known: dict[str, object] = {"id": run, "writer": "w-" + run, "life": number, "config": config}
        rows += [
            {**known, "time": at, "state": "running", "name": f"probe-{number}", "project": "p", "started": at},
            {**known, "time": at + datetime.timedelta(seconds=1), "state": "running"},
            {
                **known,
                "time": at + datetime.timedelta(seconds=50),
                "state": "finished",
                "summary": summary,
                "ended": at,
            },
        ]
    names = ["id", "writer", "life", "config", "time", "state", "name", "project", "started", "ended", "summary"]
    for first in range(0, len(rows), 10_000):
        some = rows[first : first + 10_000]
        catalog["hr.runs"].append({name: column(name, [row.get(name) for row in some]) for name in names})


def column(name: str, values: list[object]) -> pa.Array:
    times = pa.timestamp("us", "UTC")
    return pa.array(
        values, times if name in ("time", "started", "ended") else pa.int64() if name == "life" else pa.string()
    )


def make_trace(catalog: hr.Catalog, spans: int) -> str:
    """Conversations of 2 KB, each below one of those before it."""
    trace, began = "ab" * 16, 1_700_000_000_000_000
    said = json.dumps({"messages": [{"role": "user", "content": "word " * 300}]})
    for first in range(0, spans, 5_000):
        rows = [
            {"id": f"{trace}{n + 1:016x}", "trace_id": trace, "span_id": f"{n + 1:016x}", "parent": f"{n // 2 + 1:016x}" if n else None,
             "name": f"step {n}", "operation": "chat", "service": "app", "model": "m", "started": began + n * 1000,
             "ended": began + n * 1000 + 900_000, "total_seconds": 0.9, "prompt_tokens": 300, "answer_tokens": 9, "input": said,
             "answer": "word " * 9, "attributes": json.dumps({f"attribute.{i}": "value" * 5 for i in range(10)})}
            for n in range(first, min(spans, first + 5_000))
        ]  # fmt: skip
        catalog._native.record_traces(json.dumps(rows))
    return trace


def waterfall(scale: float) -> list[Line]:
    """`trace show --html` of 30,000 spans in headless Chromium: from the navigation's start to the first contents on the screen."""
    sys.path.append(str(HERE.parent / "tests"))
    import browser

    if browser.find() is None:
        print("     no Chromium is on the path: the page of a trace is not measured")
        return []
    spans = int(30_000 * scale)
    with Scratch() as folder:
        trace = make_trace(hr.init(folder / "c", sync=False), spans)
        file = folder / "trace.html"
        command = ["headrace", "--catalog", str(folder / "c"), "trace", "show", trace, "--html", str(file)]
        subprocess.run(command, check=True, capture_output=True)
        paints = []
        for _ in range(ROUNDS):
            with browser.Browser() as opened:
                tab = opened.open()
                tab.go(file.as_uri())
                paints.append(tab.first_paint())
        size = file.stat().st_size
    paint = statistics.median(paints)
    return [
        Line(
            f"a trace of {spans:,} spans as a page of {size / 1e6:.0f} MB in a new Chromium: to first paint, of 1 s",
            f"{paint:.2f} s",
            "1 s",
            paint,
            "≤ 1",
            paint <= 1,
        )
    ]


BENCHES: dict[str, Callable[[float], list[Line]]] = {
    "log": log,
    "first_run": first_run,
    "curve": curve,
    "page": page,
    "waterfall": waterfall,
    "many_processes": many_processes,
    "sampler": sampler,
    "spans": spans,
    "kills": kills,
}
