"""Receivers of spans as processes of their own: ours, and Phoenix with sqlite."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

import headrace as hr

MODELS = pathlib.Path(os.environ.get("HEADRACE_MODELS", pathlib.Path.home() / ".cache/headrace/models"))
OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Receiver:
    """What both are: a process that is there once `url` answers."""

    url: str
    process: subprocess.Popen[Any]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 600) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(seconds)


class Ours(Receiver):
    """A 200 means that the body is in the spool: in the kernel's hands, and every reader sees its spans."""

    def __init__(self, folder: pathlib.Path, *words: str, wait: bool = True) -> None:
        self.folder = folder
        if not folder.exists():
            hr.init(folder)
        model = MODELS / "all-minilm-l6-v2-f16.gguf"  # it serves models: this one is not asked anything
        command = ["headrace", "--catalog", str(folder), "--json", "serve", str(model), "--port", "0", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if wait and not self.begun():
            raise RuntimeError("the server does not begin")

    def begun(self) -> bool:
        """Waits until it is there; False: it has ended."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if line:
            self.url = json.loads(line)["url"] + "/v1/traces"
        return bool(line)

    def rows(self) -> int:
        """Of the table: what is in spools does not count."""
        return len(hr.open(self.folder)["hr.traces"])


class Phoenix(Receiver):
    """A 200 means that the spans wait in a queue in memory; rows come later, 100 a transaction (db/bulk_inserter.py)."""

    def __init__(self, folder: pathlib.Path) -> None:
        folder.mkdir(exist_ok=True)
        self.database = folder / "phoenix.db"
        ports = []
        for _ in range(2):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                ports.append(str(free.getsockname()[1]))
        environment = {
            **os.environ,
            "PHOENIX_WORKING_DIR": str(folder),
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": ports[0],
            "PHOENIX_GRPC_PORT": ports[1],
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        }
        python = pathlib.Path(os.environ["HEADRACE_BENCH_RIVALS_PHOENIX"])
        self.log = (folder / "phoenix.log").open("ab")
        self.process = subprocess.Popen(
            [str(python.parent / "phoenix"), "serve"], env=environment, stdout=self.log, stderr=self.log
        )
        self.url = f"http://127.0.0.1:{ports[0]}/v1/traces"
        until = time.monotonic() + 180
        while not self.is_there(ports[0]):
            if time.monotonic() > until or self.process.poll() is not None:
                raise RuntimeError(f"Phoenix does not begin: see {self.log.name}")
            time.sleep(0.2)

    @staticmethod
    def is_there(port: str) -> bool:
        try:
            with OPEN(f"http://127.0.0.1:{port}/healthz", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def ids(self) -> list[str]:
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as database:
            return [row[0] for row in database.execute("select span_id from spans")]

    def rows(self) -> int:
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as database:
            (count,) = database.execute("select count(*) from spans").fetchone()
        return int(count)
