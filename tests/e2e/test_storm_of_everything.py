"""Many processes that do everything at once, killed at random; afterwards the log is replayed against a dict.

6 s, 16 processes for a minute in CI (and a few on S3), half an hour in ``--long``. Processes race, so a seed is no replay; it makes the
same steps and the same order of kills.
"""

from __future__ import annotations

import collections
import os
import pathlib
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time

import headrace as hr
import pytest
from conftest import in_ci
from s3_servers import KINDS, server, set_environment
from storm_plan import apply, row, step_of

LONG = bool(os.environ.get("HEADRACE_TEST_LONG"))
ROLES = ["compact", "collect", "read", "restore", "fill", "stream", "tag", "columns"]


class Storm:
    def __init__(self, location: str, folder: pathlib.Path, seed: int, changers: int, roles: list[str]) -> None:
        self.location, self.folder, self.seed = location, folder, seed
        self.roles = ["change"] * changers + roles
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, index: int) -> subprocess.Popen[bytes]:
        words = [self.roles[index], self.location, str(index), str(self.seed), str(self.folder / f"log{index}")]
        return subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__).with_name("storm_roles.py")), *words],
            stderr=subprocess.PIPE,
            env={**os.environ, "HEADRACE_LEASE_AFTER": "0"},
        )

    def run(self, seconds: float, pause: float) -> int:
        """Gives the number of kills. On a busy machine it takes longer: a process is killed once it has begun."""
        rng = random.Random(self.seed)
        end, kills = time.monotonic() + seconds, 0
        try:
            self.processes = [self.start(index) for index in range(len(self.roles))]
            while time.monotonic() < end or self.acknowledged() < 30:
                assert time.monotonic() < end + 60, "nothing is done"
                time.sleep(pause * (0.5 + rng.random()))
                for index, process in enumerate(self.processes):
                    if process.poll() is not None:
                        assert process.stderr
                        raise AssertionError(f"{self.roles[index]} {index}: {process.stderr.read().decode()}")
                # The collector takes longest for one turn.
                weights = [1 if role == "collect" else 3 for role in self.roles]
                (index,) = rng.choices(range(len(self.roles)), weights)
                victim = self.processes[index]
                if not (self.folder / f"began{victim.pid}").exists():
                    continue
                victim.send_signal(signal.SIGKILL)
                victim.wait()
                self.processes[index] = self.start(index)
                kills += 1
        finally:
            for process in self.processes:
                process.kill()
                process.wait()
        return kills

    def acknowledged(self) -> int:
        return sum(len(log.read_text().splitlines()) for log in self.folder.glob("log*"))

    def check_log(self, table: hr.Table) -> collections.Counter[str]:
        """Acknowledged steps are in the log once; what versions hold is what the log's steps make, one after the other."""
        entries = table.history()[::-1]
        kinds = collections.Counter(entry.kind for entry in entries)
        committed: dict[tuple[int, int], hr.HistoryEntry] = {}
        targets = {int(entry.columns[0][1:]) for entry in entries if entry.kind == "restore"}
        kept = {entry.version for entry in entries if not entry.expired}
        states: dict[int, dict[int, int]] = {}
        recent: collections.deque[dict[int, int]] = collections.deque([{}], maxlen=400)
        at = 0
        for entry in entries:
            state = recent[0]
            for version in range(at + 1, entry.version):  # reservations of column ids, which history leaves out
                states[version] = state
            at = entry.version
            if entry.kind == "restore":
                state = states[int(entry.columns[0][1:])]
            elif ":" in entry.why:
                process, number = map(int, entry.why.split(":"))
                assert (process, number) not in committed, f"step {entry.why} was committed twice"
                committed[process, number] = entry
                step = step_of(self.seed, process, number)
                assert entry.kind == {"purge": "delete"}.get(step.kind, step.kind)
                state = apply(step, process, number, state, entry.rows, list(recent))
            assert entry.rows_after == len(state), (
                f"v{entry.version} ({entry.kind} {entry.why}) has another number of rows"
            )
            if entry.version in targets | kept:
                states[entry.version] = state
            recent.appendleft(state)
        self.check_acknowledged(committed)
        for version in sorted(kept)[:: max(1, len(kept) // 15)]:
            rows = {item["k"]: item["v"] for item in table.at(version).scan(["k", "v"])}
            wrong = sorted(rows.items() ^ states[version].items())
            assert not wrong, f"v{version}: {wrong[:10]}"
        return kinds

    def check_acknowledged(self, committed: dict[tuple[int, int], hr.HistoryEntry]) -> None:
        for process in range(self.roles.count("change")):
            log = self.folder / f"log{process}"
            lines = log.read_text().splitlines() if log.exists() else []
            assert max((number for owner, number in committed if owner == process), default=-1) <= len(lines)
            for line in lines:
                number, rows, repeated = map(int, line.split())
                there = (process, number) in committed
                assert there == (rows > 0 or repeated == 1), f"step {process}:{number}, acknowledged with {rows} rows"


def storm(location: str, folder: pathlib.Path, changers: int, roles: list[str], seconds: float, pause: float) -> None:
    seed = int(os.environ.get("HEADRACE_STORM_SEED", secrets.randbelow(1_000_000)))
    catalog = hr.init(location, sync=False) if "://" not in location else hr.init(location)
    types = {"k": "int64", "w": "int64", "v": "int64", "vec": "tensor<float32>[2]", "image": "blob", "twice": "int64"}
    table = catalog.create_table("t", types)
    if seed % 2:
        table.sort_by("w", "k")
    it = Storm(location, folder, seed, changers, roles)
    try:
        kills = it.run(seconds, pause)
        kinds = it.check_log(table)
        assert kills > 3 and kinds["append"] > 3 and kinds["merge"] > 3, kinds
        found = catalog.verify()
        assert all(found), [one.damaged[:3] for one in found]
        # It goes on: what killed ones left goes, holes are filled, rows come and are read.
        table.append([row(10**12, 5)])
        table.compact()
        if "://" not in location:
            shutil.rmtree(folder / "c" / "leases")  # as after 90 s, when those of killed processes hold nothing
            assert not table.gc(keep=0, grace=0).damaged
        table.add_columns(lambda batch: {"twice": batch["k"] * 2}, inputs=["k"])
        assert all(item["twice"] == 2 * item["k"] for item in table.scan(["k", "twice"]))
        (late,) = table.scan(["k"], f"k = {10**12}", row_ids=True)
        assert table.take([late["_row_id"]], ["k"])["k"][0] == 10**12
        assert table.verify(newest=True)
        print(f"{dict(kinds)}, {kills} kills")
    except BaseException as error:
        raise AssertionError(f"HEADRACE_STORM_SEED={seed}: {error}") from error


def test_everything_at_once(tmp_path: pathlib.Path) -> None:
    changers, roles, seconds = (8, ROLES, 1800.0 if LONG else 60.0) if in_ci() else (2, ROLES[:6], 5.0)
    storm(str(tmp_path / "c"), tmp_path, changers, roles, seconds, 0.8 if in_ci() else 0.4)
    assert not list((tmp_path / "c").rglob(".pending-*")), "a killed writer leaves no half-written file"


@pytest.mark.skipif(not in_ci(), reason="./dev test --ci")
@pytest.mark.parametrize("kind", KINDS)
def test_everything_at_once_on_s3(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    with server(kind, tmp_path / "gateway") as endpoint:
        set_environment(monkeypatch, endpoint)
        if kind == "moto":  # one Python process answers
            storm("s3://bucket/some/prefix", tmp_path, 3, ROLES[:4], 60.0 if LONG else 10.0, 1.0)
        else:
            storm("s3://bucket/some/prefix", tmp_path, 8, ROLES, 1800.0 if LONG else 60.0, 1.0)
