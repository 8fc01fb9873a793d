"""What is left of what was acknowledged when processes are killed (kill -9) at random.

record_kills.py KILLS [SEED]: ours alone, and an exit code of 1 where anything is lost or there twice. The bench has the rivals too.

Ours: loggers, and a server that receives spans, all on one catalog; whichever of them holds the committer's lock commits for all.
Each process is killed after a random time, also while it begins, and another takes its place. Rivals: a logger after another, each
killed once it has begun to log, and Phoenix under the senders that ours has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator

import headrace as hr
from headrace import importers
from measure import Line
from record_servers import Ours, Phoenix, Receiver
from record_spans import Body, send

HERE = pathlib.Path(__file__).resolve().parent
RIVALS = {"wandb": "W&B offline", "tensorboardx": "tensorboardX", "mlflow": "MLflow sqlite", "trackio": "Trackio"}
LOGGERS, SENDERS, SPANS = 3, 2, 8  # at a time; spans of a request
PAUSE, SLOW_PAUSE = 0.01, 0.05  # of a sender, between requests; Phoenix gets the lesser load, which it keeps up with


@dataclasses.dataclass
class Tally:
    """Of values or spans: `acknowledged`, of which `lost` are not there, and how many are there once too often."""

    acknowledged: int = 0
    lost: int = 0
    twice: int = 0

    def add(self, acknowledged: int, found: Counter[int]) -> None:
        """Of one key of one run: steps from 0 on, and those that were found."""
        self.acknowledged += acknowledged
        self.lost += sum(step not in found for step in range(acknowledged))
        self.twice += found.total() - len(found)

    def text(self) -> str:
        return f"{self.lost:,} of {self.acknowledged:,} lost, {self.twice:,} twice"


def scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="headrace-bench-", ignore_cleanup_errors=True)


class Logger:
    """A process that logs."""

    def __init__(self, side: str, folder: pathlib.Path, marks: pathlib.Path, burst: int) -> None:
        self.mark = marks / f"{time.time_ns()}"
        python = sys.executable if side == "ours" else os.environ["HEADRACE_BENCH_RIVALS_RECORD"]
        words = [python, str(HERE / "record_kill_logger.py"), side, str(folder), str(self.mark), str(burst)]
        # A group of its own: what a tracker starts beside it is ended with it when all is read.
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        )

    def begun(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def killed(self) -> tuple[str, int]:
        """Its run, "" where it had none yet, and how many calls returned."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        run = self.process.stdout.read().strip()
        self.process.stdout.close()
        calls = int.from_bytes(self.mark.read_bytes(), "little") if self.mark.exists() else 0
        return run, calls

    def end_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Sender(threading.Thread):
    """Sends a batch after another to a server until it is gone, as SDKs do: without an answer, the same again."""

    numbers = 0

    def __init__(self, url: str, pause: float = PAUSE) -> None:
        super().__init__()
        self.pause = pause
        Sender.numbers += 1
        self.number, self.url, self.acknowledged = Sender.numbers, urllib.parse.urlsplit(url), list[str]()
        self.start()

    def run(self) -> None:
        assert self.url.hostname and self.url.port
        body, number = Body(SPANS, self.number), 0
        connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=30)
        while True:
            ids = body.number(self.number, number)
            number += 1
            for attempt in range(3):
                try:
                    if send(connection, self.url.path, bytes(body.bytes)) == 200:
                        break
                except (OSError, http.client.HTTPException):
                    connection.close()
                if attempt == 2:
                    return
            self.acknowledged += ids
            time.sleep(self.pause)


class Receiving:
    """A server of ours that begins, and its senders once it has."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.senders: list[Sender] = []
        self.server = Ours(folder, "--commit-seconds", "0.1", wait=False)
        self.process = self.server.process
        self.beginning = threading.Thread(target=self.begin)
        self.beginning.start()

    def begin(self) -> None:
        if self.server.begun():
            self.senders = [Sender(self.server.url) for _ in range(SENDERS)]

    def killed(self) -> list[str]:
        self.server.kill()
        self.beginning.join()
        for sender in self.senders:
            sender.join()
        return [one for sender in self.senders for one in sender.acknowledged]


def holder(lock: pathlib.Path) -> int:
    """The process that holds it, 0: none."""
    if not lock.exists():
        return 0
    inode = lock.stat().st_ino
    for line in pathlib.Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
            return int(words[4])
    return 0


@dataclasses.dataclass
class Outcome:
    points: Tally
    spans: Tally
    killed: Counter[str]  # by role: "logger", "server"; "committer": those of them that held its lock
    runs: Counter[str]  # of those that logged anything, by state
    left: int  # spools, when all was committed


def ours(folder: pathlib.Path, kills: int, seed: int) -> Outcome:
    """Kills and restarts; then a server that nobody kills commits what is left, and everything is counted."""
    source, catalog, marks = random.Random(seed), hr.init(folder / "c"), folder / "marks"
    marks.mkdir()
    lock = folder / "c" / "spool" / "committer.lock"
    killed: Counter[str] = Counter()
    calls: dict[str, int] = {}
    spans: list[str] = []

    def begin(place: int) -> Logger | Receiving:
        return Logger("ours", folder / "c", marks, 10) if place else Receiving(folder / "c")

    places = [begin(place) for place in range(1 + LOGGERS)]

    def kill(place: int) -> None:
        one = places[place]
        killed["committer"] += holder(lock) == one.process.pid
        if isinstance(one, Receiving):
            spans.extend(one.killed())
            killed["server"] += 1
        else:
            run, returned = one.killed()
            killed["logger"] += 1
            if run:
                calls[run] = returned

    for _ in range(kills - len(places)):
        time.sleep(source.uniform(0.0, 0.8))
        # Mostly whoever commits, so that commits are cut off in all their places.
        holders = [p for p, one in enumerate(places) if one.process.pid == holder(lock)]
        place = holders[0] if holders and source.random() < 0.5 else source.randrange(len(places))
        kill(place)
        places[place] = begin(place)
    time.sleep(2)
    for place in range(len(places)):
        kill(place)
    Ours(folder / "c").stop()  # it commits all that they left
    return Outcome(
        points_of(catalog, calls),
        spans_of(catalog, spans),
        killed,
        Counter(
            row["state"] for row in catalog.sql("select id, state from runs_now").to_pylist() if calls.get(row["id"])
        ),
        len(list((folder / "c" / "spool").glob("*w-*"))),
    )


def points_of(catalog: hr.Catalog, calls: dict[str, int]) -> Tally:
    """A value that is not what was logged counts as lost."""
    if not calls:
        return Tally()
    runs = ", ".join(f"('{run}', {returned})" for run, returned in calls.items())
    rows = catalog.sql(
        f"""with told as (select * from (values {runs}) as told(run, calls), (values ('a', 1), ('b', -1)) as keys(key, sign))
        select calls, count(*) - count(distinct step) as twice,
               count(distinct step) filter (where step between 0 and calls - 1 and value = sign * step) as kept
        from told join points on points.run = told.run and points.key = told.key group by told.run, told.key, calls
        union all select calls, 0, 0 from told where calls > 0 and not exists (
          select 1 from hr.metrics m where m.run = told.run and m.key = told.key)"""
    ).to_pylist()
    return Tally(
        2 * sum(calls.values()), sum(row["calls"] - row["kept"] for row in rows), sum(row["twice"] for row in rows)
    )


def spans_of(catalog: hr.Catalog, acknowledged: list[str]) -> Tally:
    rows = catalog.sql(
        "select span_id, count(*) as n from hr.traces where resource is not null group by span_id"
    ).to_pylist()
    found = {row["span_id"]: row["n"] for row in rows}
    return Tally(len(acknowledged), sum(one not in found for one in acknowledged), sum(found.values()) - len(found))


def rival(side: str, folder: pathlib.Path, kills: int, seed: int) -> Tally:
    """One logger after another: killed between 0.2 and 1.2 s after it has begun."""
    source, marks, store = random.Random(seed), folder / f"{side}-marks", folder / side
    marks.mkdir()
    store.mkdir()
    loggers, calls = [], {}
    for _ in range(kills):
        logger = Logger(side, store, marks, 1)
        loggers.append(logger)
        run = logger.begun()
        if not run:
            raise RuntimeError(f"{RIVALS[side]} does not begin")
        time.sleep(source.uniform(0.2, 1.2))
        calls[run] = logger.killed()[1]
    time.sleep(10)  # for what trackers run beside the program
    for logger in loggers:
        logger.end_group()
    tally, found = Tally(), dict(trackio_runs(store) if side == "trackio" else imported_runs(store))
    for run, returned in calls.items():
        for key in ("a", "b"):
            tally.add(returned, found.get(run, {}).get(key, Counter()))
    return tally


def imported_runs(store: pathlib.Path) -> Iterator[tuple[str, dict[str, Counter[int]]]]:
    """As our importers read them, which are tested against files of these trackers."""
    for run in importers.find(store):
        name = run.name if run.tracker == "tensorboard" else run.origin
        yield name, {key: Counter(series.steps) for key, series in run.series.items()}


def trackio_runs(store: pathlib.Path) -> Iterator[tuple[str, dict[str, Counter[int]]]]:
    found: dict[str, dict[str, Counter[int]]] = {}
    for path in store.rglob("*.db"):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            for run, step, text in database.execute("select run_name, step, metrics from metrics"):
                for key in json.loads(text):
                    found.setdefault(run, {}).setdefault(key, Counter())[step] += 1
    yield from found.items()


def phoenix(folder: pathlib.Path, kills: int, seed: int) -> Tally:
    """Killed between 0.5 and 3 s after it has begun; at last it is left alone for as long as it adds rows."""
    source, spans = random.Random(seed), list[str]()
    for _ in range(kills):
        receiver: Receiver = Phoenix(folder / "phoenix")
        senders = [Sender(receiver.url, SLOW_PAUSE) for _ in range(SENDERS)]
        time.sleep(source.uniform(0.5, 3))
        receiver.kill()
        for sender in senders:
            sender.join()
            spans += sender.acknowledged
    last = Phoenix(folder / "phoenix")
    rows = -1
    while rows != last.rows():
        rows = last.rows()
        time.sleep(2)
    last.stop()
    found = Counter(last.ids())
    return Tally(len(spans), sum(one not in found for one in spans), found.total() - len(found))


def line(what: str, mine: Tally, theirs: str) -> Line:
    bad = mine.lost + mine.twice
    return Line(what, mine.text(), theirs, float(bad), "0", bad == 0 and mine.acknowledged > 0)


def lines(outcome: Outcome, told: dict[str, Tally], rivals: int, theirs: Tally, servers: int) -> list[Line]:
    if outcome.left or set(outcome.runs) != {"killed"}:
        raise RuntimeError(f"{outcome.left} spools are left; the runs are {outcome.runs}")
    killed, points = outcome.killed, outcome.points
    what = f"kill -9 ({killed['logger']} of loggers, {killed['server']} of servers; {killed['committer']} of them held the committer's lock)"
    return [
        line(f"{what}: values that log() had returned from", points, "–"),
        *(line(f"… {rivals} kills of loggers with {name}", points, tally.text()) for name, tally in told.items()),
        line(f"… spans that were acknowledged; {servers} kills of Phoenix", outcome.spans, theirs.text()),
    ]


def kills(scale: float) -> list[Line]:
    """200 kills of ours, 50 of each rival (20 of Phoenix, which takes long to begin)."""
    rivals, servers = max(int(50 * scale), 2), max(int(20 * scale), 2)
    with scratch() as name:
        folder = pathlib.Path(name)
        outcome = ours(folder, max(int(200 * scale), 10), 1)
        told = {name: rival(side, folder, rivals, 1) for side, name in RIVALS.items()}
        theirs = phoenix(folder, servers, 1)
    return lines(outcome, told, rivals, theirs, servers)


def main() -> int:
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    with scratch() as folder:
        outcome = ours(pathlib.Path(folder), count, seed)
    print(f"seed {seed}: killed {dict(outcome.killed)}; runs {dict(outcome.runs)}; spools left {outcome.left}")
    print(f"values: {outcome.points.text()}; spans: {outcome.spans.text()}")
    well = not any((outcome.points.lost, outcome.points.twice, outcome.spans.lost, outcome.spans.twice, outcome.left))
    return 0 if well and set(outcome.runs) <= {"killed"} and outcome.points.acknowledged > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
