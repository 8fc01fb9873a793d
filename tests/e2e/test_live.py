"""Points that no commit has yet, as other machines see them through a bucket: put while somebody looks, read once."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from typing import Any

import headrace as hr
import pytest
from conftest import in_ci
from s3_servers import KINDS, client_of, server, set_environment

WANT, EVERY = 30, 5  # seconds: docs/format/live.md


@pytest.fixture(params=KINDS if in_ci() else KINDS[:1])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[str]:
    with server(request.param, tmp_path / "gateway") as endpoint:
        set_environment(monkeypatch, endpoint)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "here"))
        yield "s3://bucket/some/prefix"


def live() -> list[str]:
    """The keys below live/, without the prefix."""
    found = client_of(os.environ["AWS_ENDPOINT_URL"]).list_objects_v2(Bucket="bucket", Prefix="some/prefix/live/")
    return [one["Key"].removeprefix("some/prefix/live/") for one in found.get("Contents", [])]


class Machine:
    """Programs with spools of their own; their clocks may be off."""

    def __init__(self, folder: pathlib.Path, skew: int = 0) -> None:
        self.folder, self.environment = folder, {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
        folder.mkdir()
        if skew:
            shim = folder / "clock.so"
            source = pathlib.Path(__file__).with_name("clock_shim.c")
            subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"], check=True)
            (folder / "clock").write_text(str(skew))
            self.environment |= {"LD_PRELOAD": str(shim), "HEADRACE_TEST_CLOCK": str(folder / "clock")}

    def start(self, text: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", "import headrace as hr, json, numpy as np, time\n" + textwrap.dedent(text)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "errors").open("w"),
            text=True,
        )

    def logger(self, bucket: str, key: str) -> subprocess.Popen[str]:
        """Logs ten times a second until it is told to end; its run's id is its first line."""
        process = self.start(f"""
            import signal
            ended = []
            signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
            with hr.run(catalog={bucket!r}, system=False) as run:
                run.log({{"picture": np.zeros((8, 8, 3), np.uint8)}}, step=0)
                print(run.id, flush=True)
                step = 0
                while not ended:
                    run.log({{{key!r}: float(step)}}, step=step)
                    step += 1
                    time.sleep(0.1)
            print(step, flush=True)
        """)
        return process

    def viewer(self, bucket: str) -> subprocess.Popen[str]:
        """Looks twice a second: each look is a line of JSON, [values, different steps, committed values, ids of
        runs, pictures]."""
        return self.start(f"""
            catalog = hr.open({bucket!r})
            while True:
                seen = catalog.sql("select count(*) as n, count(distinct (run, key, step)) as d from points").to_pylist()[0]
                runs = catalog.sql("select id from runs_now").to_pylist()
                media = 0
                if "hr.media" in catalog.tables():
                    media = catalog.sql("select count(*) as n from hr.media where key = 'picture'").to_pylist()[0]["n"]
                committed = catalog.sql("select coalesce(sum(n), 0)::bigint as n from \\"hr.metrics@{{}}\\"".format(
                    "v" + str(catalog["hr.metrics"].version))).to_pylist()[0]["n"]
                print(json.dumps([seen["n"], seen["d"], committed, [run["id"] for run in runs], media]), flush=True)
                time.sleep(0.5)
        """)


def looks(viewer: subprocess.Popen[str]) -> Iterator[tuple[int, int, int, list[str], int]]:
    assert viewer.stdout
    for line in viewer.stdout:
        yield tuple(json.loads(line))


def number(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    return int(process.communicate(timeout=120)[0].split()[-1])


def test_a_viewer_sees_points_that_no_commit_has_and_each_once(bucket: str, tmp_path: pathlib.Path) -> None:
    """Also where clocks are off by minutes either way, and while commits land between the looks."""
    hr.init(bucket)
    with hr.run(catalog=bucket, system=False):  # the tables are there
        pass
    first, second = Machine(tmp_path / "first", 400), Machine(tmp_path / "second", -400)
    loggers = [first.logger(bucket, "a"), second.logger(bucket, "b")]
    viewer = Machine(tmp_path / "viewer").viewer(bucket)
    try:
        ahead, committed, until = 0, set[int](), time.monotonic() + (60 if in_ci() else 15)
        last = 0
        for values, different, in_table, runs, media in looks(viewer):
            assert values == different, "a point is there twice"
            assert len(runs) <= 3 and media <= 2
            ahead += values > in_table
            committed.add(in_table)
            last = max(last, values)
            if time.monotonic() > until and ahead > 5 and len(committed) > (2 if in_ci() else 1):
                break
            assert time.monotonic() < until + 120, (ahead, committed)
        numbers = [number(logger) for logger in loggers]
        for values, different, _, runs, media in looks(viewer):
            assert values == different
            if values == sum(numbers):
                assert len(runs) == 3 and media == 2
                break
            assert time.monotonic() < until + 300, (values, numbers)
    finally:
        for process in (viewer, *loggers):
            process.kill()
            process.communicate()
    assert last > 0
    assert "left out" not in (tmp_path / "viewer" / "errors").read_text()


@pytest.mark.skipif(not in_ci(), reason="waits until a want lapses")
def test_nothing_is_put_where_nobody_looks_and_no_more_after_the_viewer_is_gone(
    bucket: str, tmp_path: pathlib.Path
) -> None:
    hr.init(bucket)
    with hr.run(catalog=bucket, system=False):
        pass
    machine, other = Machine(tmp_path / "machine"), Machine(tmp_path / "other")
    logger = machine.logger(bucket, "a")
    assert logger.stdout and logger.stdout.readline()
    try:
        until = time.monotonic() + 2.5 * EVERY
        while time.monotonic() < until:
            assert live() == []
            time.sleep(0.5)
        viewer = other.viewer(bucket)
        next(looks(viewer))
        assert "want/metrics" in live()
        wait(lambda: any(key.startswith("tail/metrics/") for key in live()), 60)
        viewer.kill()
        viewer.communicate()
        wait(lambda: not any(key.startswith("tail/") for key in live()), WANT + 60)
        # One that begins when the want has lapsed finds that out by itself.
        number(logger)
        logger = machine.logger(bucket, "a")
        assert logger.stdout and logger.stdout.readline()
        time.sleep(2.5 * EVERY)
        wait(lambda: not any(key.startswith("tail/") for key in live()), 60)
        until = time.monotonic() + 2 * EVERY
        while time.monotonic() < until:
            assert not any(key.startswith("tail/") for key in live())
            time.sleep(0.5)
    finally:
        logger.kill()
        logger.communicate()


def wait(condition: Any, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.3)


def test_damaged_tails_are_left_out(bucket: str, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    catalog = hr.init(bucket)
    with hr.run(catalog=catalog, system=False) as run:
        run.log({"a": 1})
    client = client_of(os.environ["AWS_ENDPOINT_URL"])
    committer = uuid.uuid4().hex
    head = json.dumps({"committer": committer, "base": -1, "xxh3": "0" * 16}).encode()
    for body in (
        b"",
        b"\0" * 100,
        b"{}\n",
        head,
        head + b"\nrows",
        b"[" * 100_000,
        json.dumps({"committer": 1}).encode() + b"\n",
    ):
        client.put_object(Bucket="bucket", Key=f"some/prefix/live/tail/metrics/{uuid.uuid4().hex}", Body=body)
    client.put_object(Bucket="bucket", Key=f"some/prefix/live/tail/metrics/{committer}", Body=head + b"\nrows")
    client.put_object(Bucket="bucket", Key="some/prefix/live/tail/metrics/not-an-id", Body=b"x")
    client.put_object(Bucket="bucket", Key="some/prefix/live/want/no_such_table", Body=b"x")
    assert catalog.sql("select count(*) as n from points").to_pylist() == [{"n": 1}]
    told = capfd.readouterr().err
    assert told.count("is left out") == 8 and "does not match its checksum" in told


def test_a_tail_of_before_a_commit_is_not_read_after_it(bucket: str, tmp_path: pathlib.Path) -> None:
    catalog = hr.init(bucket)
    with hr.run(catalog=catalog, system=False):
        pass
    client, prefix = client_of(os.environ["AWS_ENDPOINT_URL"]), "some/prefix/live/"
    logger = Machine(tmp_path / "machine").logger(bucket, "a")
    query = "select count(*) as n, count(distinct step) as d from points where key = 'a'"
    try:
        until = time.monotonic() + 120
        while not (tails := [key for key in live() if key.startswith("tail/metrics/")]):
            catalog.sql(query).to_pylist()  # which is to look
            assert time.monotonic() < until
            time.sleep(0.3)
        body = client.get_object(Bucket="bucket", Key=prefix + tails[0])["Body"].read()
        steps = number(logger)
    finally:
        logger.kill()
        logger.communicate()
    assert catalog.sql(query).to_pylist() == [{"n": steps, "d": steps}]
    client.put_object(Bucket="bucket", Key=prefix + tails[0], Body=body)
    assert catalog.sql(query).to_pylist() == [{"n": steps, "d": steps}]
    # The base alone keeps it out: with that of the newest version its rows are there again.
    head, rows = body.split(b"\n", 1)
    told = json.loads(head)
    for base in range(told["base"] + 1, told["base"] + 20):
        changed = json.dumps(told | {"base": base}).encode() + b"\n" + rows
        client.put_object(Bucket="bucket", Key=prefix + tails[0], Body=changed)
        if (again := catalog.sql(query).to_pylist()[0])["n"] > steps:
            break
    assert again["n"] > again["d"] == steps
