"""Several processes write and read one table through a proxy that fails by chance: nothing is lost, nothing is twice."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from s3_servers import ACCESS, KINDS, SECRET, free_port, server

WRITER = """
import sys, headrace as hr
index, batches = int(sys.argv[1]), int(sys.argv[2])
table = hr.open("s3://bucket/x")["t"]
for batch in range(batches):
    rows = [{"n": (index * batches + batch) * 10 + i, "text": "x" * 20_000} for i in range(10)]
    table.append(rows, writer=f"w{index}", sequence=batch)
    if batch % 4 == 3:
        table.compact()
"""
READER = """
import sys, collections, headrace as hr
seen = 0
for _ in range(int(sys.argv[1])):
    numbers = [row["n"] for row in hr.open("s3://bucket/x")["t"].scan()]
    assert len(numbers) == len(set(numbers)) and len(numbers) % 10 == 0 and len(numbers) >= seen, numbers
    seen = len(numbers)
"""


@contextlib.contextmanager
def hostile(upstream: str, folder: pathlib.Path, seed: int, probability: float) -> Iterator[str]:
    port = free_port()
    program = pathlib.Path(__file__).with_name("hostile_proxy.py")
    words = [sys.executable, program, str(port), upstream, str(seed), str(probability), folder]
    process = subprocess.Popen(words)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def wrong_clock(folder: pathlib.Path, seconds: int) -> dict[str, str]:
    """For the environment of a process whose clock is off."""
    source = pathlib.Path(__file__).with_name("clock_shim.c")
    library = folder / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    (folder / "clock").write_text(str(seconds))
    return {"LD_PRELOAD": str(library), "HEADRACE_TEST_CLOCK": str(folder / "clock")}


class Tokens:
    """Credentials, and the credential_process that prints them. `expiring`: with a session token that is replaced again
    and again."""

    def __init__(self, folder: pathlib.Path, expiring: bool) -> None:
        self.folder, self.expiring = folder, expiring
        self.number = 0
        self.replaced = 0.0
        (folder / ".aws").mkdir(parents=True)
        (folder / ".aws" / "config").write_text(
            f"[default]\ncredential_process = cat {folder}/answer\nregion = us-east-1\n"
        )
        self.replace()

    def replace(self) -> None:
        self.number += 1
        keys = {"Version": 1, "AccessKeyId": ACCESS, "SecretAccessKey": SECRET}
        files = {"answer": json.dumps(keys)}
        if self.expiring:
            token = f"token {self.number}"
            files = {"answer": json.dumps({**keys, "SessionToken": token}), "token": token}
        for name, text in files.items():
            (self.folder / "next").write_text(text)
            (self.folder / "next").rename(self.folder / name)
        self.replaced = time.monotonic()


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_once_through_a_hostile_proxy(
    kind: str, tmp_path: pathlib.Path, headrace: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    seed = int(os.environ.get("HEADRACE_TEST_SEED") or time.time_ns() % 1_000_000)
    print(f"HEADRACE_TEST_SEED={seed}")
    writers, batches = (8, 60) if os.environ.get("HEADRACE_TEST_LONG") else (3, 6)
    folder = tmp_path / "shared"
    tokens = Tokens(folder, expiring=kind == "moto")  # versitygw knows no session tokens, and checks the time
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true"}
    if kind == "versitygw":
        environment |= wrong_clock(folder, 3600)
    with server(kind, tmp_path / "gateway") as upstream, hostile(upstream, folder, seed, 0.15) as endpoint:
        environment["AWS_ENDPOINT_URL"] = endpoint
        assert headrace("init", "s3://bucket/x", env=environment).returncode == 0
        make = "import headrace as hr; hr.open('s3://bucket/x').create_table('t', {'n': 'int64', 'text': 'string'})"
        subprocess.run([sys.executable, "-c", make], env=environment, check=True, timeout=120)
        started = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(index), str(batches)], env=environment)
            for index in range(writers)
        ]
        started.append(subprocess.Popen([sys.executable, "-c", READER, str(batches)], env=environment))
        while any(process.poll() is None for process in started):
            time.sleep(0.2)
            if time.monotonic() - tokens.replaced > 6:
                tokens.replace()
        assert [process.returncode for process in started] == [0] * len(started)
        faults = collections.Counter((folder / "log").read_text().splitlines())
        count = 'import headrace as hr; print(*[row["n"] for row in hr.open("s3://bucket/x")["t"].scan()])'
        done = subprocess.run(
            [sys.executable, "-c", count], env=environment, capture_output=True, text=True, check=True
        )
        assert sorted(map(int, done.stdout.split())) == list(range(writers * batches * 10))
        verified = headrace("--catalog", "s3://bucket/x", "verify", env=environment)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert len(faults) >= 8, faults
        for out in (verified.stdout, verified.stderr):
            assert SECRET not in out and "token " not in out
