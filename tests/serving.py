"""A server under test: started with the real small models, spoken to with the standard library alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

MODELS = pathlib.Path(os.environ.get("HEADRACE_MODELS", pathlib.Path.home() / ".cache/headrace/models"))
GEMMA = MODELS / "gemma-3-270m-q4_k_m.gguf"
MINILM = MODELS / "all-minilm-l6-v2-f16.gguf"
needs_models = pytest.mark.skipif(not GEMMA.exists() or not MINILM.exists(), reason="./dev setup models")

# How far two ways to compute one log-probability may differ. One row and many rows take other kernels (gemv, gemm, attention
# by rows or by tiles; by the instruction set), which add in another order. Where that moves an activation over a rounding
# step of its 8-bit block, it moves by 1/127 of the block's largest value: uniform errors of 0.5/127/sqrt(3) of it, and the
# largest of 32 is about 3 times the root mean square. Each of two blocks in 18 layers adds such an error on either side,
# in quadrature, and logits spread by about 4. Three standard deviations of that; another token's is off by whole units.
KERNEL_NOISE = 3 * math.sqrt(2 * 2 * 18) * (0.5 / 127 / math.sqrt(3)) * 3 * 4

# How far two ways to compute one vector of all-MiniLM may differ, of its length (1). Weights are half precision, so what a
# matrix multiplies is rounded to 11 bits: an error of 2**-11 of a value at most, or 2**-11 / sqrt(3) in the root mean square.
# Two matrices follow each other in each of 12 blocks (attention and feed-forward of six layers); their errors add in
# quadrature, and so do those of the two computations. Sums are single precision, whose 2**-24 is nothing beside that.
_HALF_NOISE = math.sqrt(2) * math.sqrt(2 * 12) * 2**-11 / math.sqrt(3)  # 0.002
# Of one component, which is 0.21 at most: three standard deviations.
VECTOR_NOISE = 3 * 0.21 * _HALF_NOISE  # 0.0012
# Of a cosine, whatever the errors' directions: |v'w' - vw| <= |v' - v| + |w' - w|.
COSINE_NOISE = 2 * _HALF_NOISE  # 0.004


def program() -> str:
    found = shutil.which("headrace")
    assert found, "./dev test puts headrace on the path"
    return found


def run(*words: str, code: int = 0, **options: Any) -> str:
    done = subprocess.run(
        [program(), *words], **{"capture_output": True, "text": True, "timeout": 120, "check": False, **options}
    )
    assert done.returncode == code, done.stderr
    return str(done.stdout if code == 0 else done.stderr)


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[tuple[str, Any]]:
        """(event, data) of server-sent events; data as JSON where it is."""
        found = []
        for block in self.body.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
            if "data" in fields:
                data = fields["data"]
                found.append((fields.get("event", ""), data if data == "[DONE]" else json.loads(data)))
        return found


class Server:
    def __init__(self, catalog: pathlib.Path | None, *words: str, env: dict[str, str] | None = None) -> None:
        at = ["--catalog", str(catalog)] if catalog else []
        self.catalog = catalog
        self.errors = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"headrace-serve-{os.getpid()}-{id(self)}.log"
        with self.errors.open("wb") as log:
            self.process = subprocess.Popen(
                [program(), *at, "--json", "serve", "--port", "0", *words],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **(env or {})},
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.errors.read_text()
        self.facts = json.loads(line)
        self.port: int = self.facts["port"]
        self.url: str = self.facts["url"]
        self.key = ""  # sent where a request brings none of its own

    def connect(self, timeout: float = 60) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> Answer:
        connection = self.connect()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key and not {"authorization", "x-api-key"} & sent.keys():
            sent["authorization"] = f"Bearer {self.key}"
        data = body if isinstance(body, (bytes, str)) or body is None else json.dumps(body)
        connection.request(method or ("GET" if body is None else "POST"), path, data, sent)
        answer = Answer(connection.getresponse())
        connection.close()
        return answer

    def sql(self, query: str) -> list[dict[str, Any]]:
        out = run("--catalog", str(self.catalog), "sql", query, "--format", "json")
        return [json.loads(line) for line in out.splitlines()]

    def idle(self, seconds: float = 20) -> dict[str, Any]:
        """Waits until nobody is being answered."""
        until = time.monotonic() + seconds
        while True:
            load: dict[str, Any] = self.ask("/load").json
            busy = sum(model.get("running", 0) + model.get("waiting", 0) for model in load["models"])
            if not load["requests"] and not busy:
                return load
            assert time.monotonic() < until, load
            time.sleep(0.05)

    def stop(self, how: int = signal.SIGTERM, seconds: float = 60) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(seconds)
        if self.process.stdout:
            self.process.stdout.close()
        return code


def make_catalog(folder: pathlib.Path) -> pathlib.Path:
    catalog = folder / "catalog"
    run("init", str(catalog))
    run("--catalog", str(catalog), "model", "add", str(GEMMA), "--name", "gemma", "-q")
    run("--catalog", str(catalog), "model", "add", str(MINILM), "--name", "minilm", "-q")
    return catalog


@contextlib.contextmanager
def serving(catalog: pathlib.Path | None, *words: str, env: dict[str, str] | None = None) -> Iterator[Server]:
    server = Server(catalog, *words, env=env)
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)
        server.errors.unlink(missing_ok=True)
