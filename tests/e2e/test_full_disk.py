"""Disks that are full, folders that may only be read, stores that never end an answer: told with the place and the cause, and nothing is
lost. (The spool and the committer on full disks: test_serve_traces.py, src/trace/committer_faults_test.cc.)"""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import headrace as hr
import numpy as np
import pytest
from conftest import in_ci
from s3_servers import ACCESS, SECRET, client_of, free_port, make_bucket, set_environment, start_moto

ENTER = ["unshare", "--user", "--map-root-user", "--mount"]


def may_mount() -> bool:
    if not shutil.which("unshare"):
        return False
    with_disk = [*ENTER, "mount", "-t", "tmpfs", "-o", "size=1m", "none", "/mnt"]
    return subprocess.run(with_disk, capture_output=True).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="this user may not mount a file system in a namespace of its own")
def test_every_operation_on_a_full_disk_and_in_a_read_only_folder(tmp_path: pathlib.Path) -> None:
    script = str(pathlib.Path(__file__).with_name("full_disk.py"))
    done = subprocess.run(
        [*ENTER, sys.executable, script, str(tmp_path), "1" if in_ci() else "3"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Dripping:
    """A server that takes a request and answers one byte each tenth of a second, for ever."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.over = threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while not self.over.is_set():
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.drip, args=(peer,), daemon=True).start()

    def drip(self, peer: socket.socket) -> None:
        with peer:
            peer.recv(65536)
            try:
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while not self.over.wait(0.1):
                    peer.sendall(b"x")
            except OSError:
                pass

    def close(self) -> None:
        self.over.set()
        self.socket.close()


def test_a_store_that_drips(tmp_path: pathlib.Path, headrace: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    dripping = Dripping()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{dripping.port}",
        "HEADRACE_S3_DEADLINE": "1",
    }
    done = headrace("--catalog", "s3://bucket/x", "ls", env=environment, timeout=60)
    assert done.returncode == 1 and "gave up on s3://bucket/x" in done.stderr, done.stderr
    assert f"http://127.0.0.1:{dripping.port}" in done.stderr, "it names the server"
    dripping.close()


def test_a_store_that_is_stopped(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operation ends by the deadline and names the store; when it goes on, so do they, and nothing is there twice."""
    port = free_port()
    server = start_moto(port)
    set_environment(monkeypatch, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("HEADRACE_S3_DEADLINE", "1")
    try:
        make_bucket(client_of(f"http://127.0.0.1:{port}"))
        catalog = hr.init("s3://bucket/x")
        table = catalog.create_table("t", {"n": list(range(100)), "vec": np.zeros((100, 4), np.float32)})
        snapshot = table.at()
        more = {"n": [100], "vec": np.ones((1, 4), np.float32)}
        os.kill(server.pid, signal.SIGSTOP)
        operations: dict[str, Callable[[], object]] = {
            "append": lambda: table.append(more, writer="w", sequence=1),
            "delete": lambda: table.delete("n = 5"),
            "update": lambda: table.update({"n": -1}, "n = 7"),
            "merge": lambda: table.merge({"n": [7, 200]}, on="n"),
            "compact": table.compact,
            "gc": table.gc,
            "open": lambda: hr.open("s3://bucket/x"),
            "sql": lambda: catalog.sql("select sum(n) from t").to_pylist(),
            "stream": lambda: list(hr.Stream(snapshot, ["vec"], batch_size=10, epochs=1, store_deadline=1)),
        }
        with concurrent.futures.ThreadPoolExecutor(len(operations)) as pool:
            for name, running in {name: pool.submit(run) for name, run in operations.items()}.items():
                with pytest.raises((hr.Unavailable, hr.UnknownOutcome), match="s3://bucket/x"):
                    print(name, running.result(timeout=60))
        os.kill(server.pid, signal.SIGCONT)
        for _ in range(2):
            table.append(more, writer="w", sequence=1)
        assert sorted(row["n"] for row in hr.open("s3://bucket/x")["t"]) == list(range(101))
        assert len(list(hr.Stream(table, ["vec"], batch_size=10, epochs=1))) == 11
        assert table.verify()
    finally:
        server.kill()
        server.wait()
