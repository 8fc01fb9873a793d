"""The claims about tables in a bucket that is 20 ms away: versitygw behind a proxy that answers late and counts."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import headrace as hr
import lance
import numpy as np
import pyarrow as pa
from measure import Line, at_most, timed
from tables import Scratch, fixed, scalar_columns, vectors

HERE = pathlib.Path(__file__).resolve().parent
ACCESS, SECRET = "AKIABENCH", "benchsecret"
SECONDS = 0.020
ROUNDS = 7


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing answers at {port}")


@contextmanager
def bucket(folder: pathlib.Path) -> Iterator[tuple[int, int]]:
    """The ports of the server itself and of the late one."""
    cache = pathlib.Path(os.environ.get("HEADRACE_CACHE") or "~/.cache/headrace").expanduser()
    programs = sorted(cache.glob("deps/versitygw-*/versitygw"))
    assert programs, "./dev setup versitygw"
    near, far = free_port(), free_port()
    (folder / "bucket").mkdir()
    started = [
        subprocess.Popen(
            [programs[-1], "--quiet", "--port", f"127.0.0.1:{near}", "posix", folder],
            env={**os.environ, "ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ),
        subprocess.Popen([sys.executable, HERE / "slow_proxy.py", str(far), str(near), str(SECONDS)]),
    ]
    try:
        for port in (near, far):
            wait_for(port)
        yield near, far
    finally:
        for process in started:
            process.kill()
            process.wait()


def asked(far: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{far}/-/count") as answer:
        return dict(json.load(answer))


def options(port: int) -> dict[str, str]:
    return {
        "aws_access_key_id": ACCESS,
        "aws_secret_access_key": SECRET,
        "aws_endpoint": f"http://127.0.0.1:{port}",
        "aws_region": "us-east-1",
        "allow_http": "true",
    }


def use(port: int) -> None:
    os.environ |= {
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
        "HEADRACE_CACHE_BYTES": "0",  # cold is cold
    }


def distant_take(scale: float) -> list[Line]:
    rows = int(1_000_000 * scale)
    rng = np.random.default_rng(3)
    scalars = scalar_columns(rng, rows)
    names = list(scalars)
    lines = []
    with Scratch() as folder, bucket(folder) as (near, far):
        table = pa.table({**scalars, "vec": fixed(vectors(rows))})
        use(near)
        hr.init("s3://bucket/ours").create_table("t", table)
        lance.write_dataset(table, "s3://bucket/theirs", storage_options=options(near))
        use(far)
        for columns, most_bytes, label in (
            (names, 1.0, "5 scalars"),
            ([*names, "vec"], 5.0, "5 scalars and a 384-float vector"),
        ):
            sides: dict[str, list[tuple[float, int, int]]] = {"ours": [], "theirs": []}
            for index in range(ROUNDS + 1):
                picks = rng.choice(rows, 1000, replace=False).tolist()
                for side in ("ours", "theirs") if index % 2 else ("theirs", "ours"):

                    def work(side: str = side, picks: list[int] = picks) -> object:
                        if side == "ours":
                            return hr.open("s3://bucket/ours")["t"].take(picks, columns)
                        return lance.dataset("s3://bucket/theirs", storage_options=options(far)).take(picks, columns)

                    asked(far)
                    seconds = timed(work)
                    counts = asked(far)
                    if index:
                        sides[side].append((seconds, counts["requests"], counts["bytes"]))
            ours, theirs = ([statistics.median(part) for part in zip(*sides[s], strict=True)] for s in sides)
            work_name = f"open, and take 1,000 random rows of {rows:,}, a bucket 20 ms away: {label}"
            lines.append(at_most(work_name, ours[0], theirs[0], 1.05))
            for what, at, limit, unit in (("requests", 1, 1.05, 1), ("MB", 2, most_bytes, 1e6)):
                ratio = ours[at] / theirs[at]
                mine, rival = f"{ours[at] / unit:,.1f} {what}", f"{theirs[at] / unit:,.1f} {what}"
                lines.append(Line(f"… {label}: {what}", mine, rival, ratio, f"≤ {limit:g}", ratio <= limit))
    return lines


BENCHES = {"distant-take": distant_take}
