"""The server against llama-server, built from the same source at the same commit: same model, threads, slots and machine.

Clients (bench/serve_load.cc) are one light C++ program on the same machine, which speaks /v1/completions to either. Both serve 32 at
once from one cache of 16,384 tokens (llama-server: -np 32 -kvu --swa-full -c 16384).
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from measure import Line

import engine

LOAD = os.environ.get("HEADRACE_BENCH_SERVE_LOAD", "")
OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
CELLS = "16384"


class Ours:
    def __init__(self, folder: str, *words: str, catalog: bool = True, model: str = "gemma") -> None:
        self.catalog = ["--catalog", f"{folder}/catalog"] if catalog else []
        if catalog and not pathlib.Path(folder, "catalog").exists():
            headrace("init", f"{folder}/catalog")
            headrace(*self.catalog, "model", "add", engine.GEMMA, "--name", "gemma", "-q")
        self.process = subprocess.Popen(
            ["headrace", *self.catalog, "--json", "serve", model, "--port", "0", "-c", CELLS, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=folder,
        )
        assert self.process.stdout
        self.url = json.loads(self.process.stdout.readline())["url"]

    def get(self, path: str, key: str = "") -> Any:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {key}"} if key else {})
        with OPEN(request, timeout=30) as answer:
            return json.load(answer)

    def cpu(self) -> float:
        """Seconds of the threads that are the server's own: connections, bodies, traces; not the model's (those that
        compute have the program's name, those that draw tokens are hr-draw)."""
        nanoseconds = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            name = (task / "comm").read_text().strip()
            if name.startswith("hr-") and name != "hr-draw":
                nanoseconds += int((task / "schedstat").read_text().split()[0])
        return nanoseconds / 1e9

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@contextlib.contextmanager
def ours(folder: str, *words: str, **options: Any) -> Iterator[Ours]:
    server = Ours(folder, *words, **options)
    try:
        yield server
    finally:
        server.stop()


def theirs() -> engine.Server:
    return engine.Server(*engine.COMMON, "-c", CELLS, "-np", "32")


def headrace(*words: str) -> str:
    return subprocess.run(["headrace", *words], check=True, capture_output=True, text=True).stdout


def load(work: str, url: str, **words: object) -> dict[str, Any]:
    done = subprocess.run(
        [LOAD, work, url, "model=gemma", *(f"{k}={v}" for k, v in words.items())],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def line(
    work: str, mine: float, rival: float, limit: float, *, rate: bool = False, unit: str = "", digits: int = 2
) -> Line:
    ratio = mine / rival if rival else float("inf")
    reached = ratio >= limit if rate else ratio <= limit
    return Line(
        work,
        f"{mine:.{digits}f}{unit}",
        f"{rival:.{digits}f}{unit}",
        ratio,
        f"{'≥' if rate else '≤'} {limit:g}",
        reached,
    )


def bound(work: str, value: float, limit: float, unit: str, note: str = "-", digits: int = 2) -> Line:
    return Line(work, f"{value:.{digits}f}{unit}", note, value, f"≤ {limit:g}{unit}", value <= limit)


def fair(scale: float) -> list[Line]:
    seconds, words = 120 * scale, {"words": 60, "tokens": 64, "light_words": 150}
    with tempfile.TemporaryDirectory() as folder:
        with ours(folder) as server:
            alone = load("fair", server.url, heavy=0, seconds=40 * scale, **words)
        keys = {
            name: headrace("--catalog", f"{folder}/catalog", "key", "create", name, "-q").strip()
            for name in ("heavy", "light")
        }
        with ours(folder) as server:
            mine = load("fair", server.url, seconds=seconds, heavy_key=keys["heavy"], light_key=keys["light"], **words)
    with theirs():
        rival = load("fair", engine.URL, seconds=seconds, **words)
    first, rival_first = mine["light"]["ttft_p95"], rival["light"]["ttft_p95"]
    return [
        line(
            "a heavy key with 40 in flight, a light one every 2 s (Poisson, 170 tokens), 120 s: light's time to first token, p95",
            first,
            rival_first,
            0.2,
            unit=" s",
        ),
        line("… ÷ the same without the heavy key", first, alone["light"]["ttft_p95"], 2.0, unit=" s"),
        line(
            "… p50 ÷ the same without the heavy key",
            mine["light"]["ttft_p50"],
            alone["light"]["ttft_p50"],
            2.0,
            unit=" s",
        ),
        *(
            line(f"… {what} (rate)", mine[rate], rival[rate], 0.97, rate=True, unit="/s", digits=1)
            for what, rate in (("tokens of both, prompts and answers", "all_rate"), ("answers' alone", "token_rate"))
        ),
    ]


def overload(scale: float) -> list[Line]:
    # Short answers: those that take longer than 5 s here nobody of the impatient half would see.
    seconds, words = 120 * scale, {"words": 20, "tokens": 16}
    with tempfile.TemporaryDirectory() as folder, ours(folder) as server:
        load("closed", server.url, clients=8, seconds=10, **words)
        capacity = load("closed", server.url, clients=32, seconds=60 * scale, deadline=1000, **words)["goodput"]
        rate = 1.5 * capacity
        mine = load("overload", server.url, rate=rate, seconds=seconds, deadline=10, send_deadline=1, **words)
    with theirs():
        rival = load("overload", engine.URL, rate=rate, seconds=seconds, deadline=10, **words)
    return [
        line(
            f"1.5 × capacity ({rate:.2f}/s arrive), half hang up within 5 s, deadline 10 s: whole answers in time (rate)",
            mine["goodput"],
            rival["goodput"],
            1.5,
            rate=True,
            unit="/s",
        ),
        line("… ÷ capacity (rate)", mine["goodput"], capacity, 0.85, rate=True, unit="/s"),
    ]


def costs(server: Ours, seconds: float) -> tuple[float, float, float]:
    """CPU seconds of a request and of a token, and the compute thread's share outside decode and sampling."""
    found = []
    outside = 0.0
    for tokens in (8, 256):
        before, cpu = server.get("/load")["models"][0], server.cpu()
        done = load("closed", server.url, clients=8, words=20, tokens=tokens, seconds=seconds)["crowd"]
        time.sleep(0.3)
        after, spent = server.get("/load")["models"][0], server.cpu() - cpu
        found.append((done["count"], after["answer_tokens"] - before["answer_tokens"], spent))
        step = after["step_seconds"] - before["step_seconds"]
        outside = max(
            outside,
            1
            - (after["decode_seconds"] + after["sample_seconds"] - before["decode_seconds"] - before["sample_seconds"])
            / step,
        )
    (r1, t1, c1), (r2, t2, c2) = found
    determinant = r1 * t2 - r2 * t1
    return (c1 * t2 - c2 * t1) / determinant, (r1 * c2 - r2 * c1) / determinant, outside


def overhead(scale: float) -> list[Line]:
    seconds = 30 * scale
    with tempfile.TemporaryDirectory() as folder:
        with ours(folder) as server:
            request, token, outside = costs(server, seconds)
        with ours(folder, catalog=False, model=f"gemma={engine.GEMMA}") as server:
            bare_request, bare_token, _ = costs(server, seconds)
    return [
        bound("compute thread's time outside decode and sampling", outside * 100, 2, " %"),
        bound(
            "server's CPU of a request: connection, body, prompt, trace",
            request * 1e3,
            1,
            " ms",
            f"without traces {bare_request * 1e3:.2f} ms",
        ),
        bound("server's CPU of a token", token * 1e6, 20, " µs", f"without traces {bare_token * 1e6:.1f} µs", 1),
        bound("traces' part of it, of a request", (request - bare_request) * 1e3, 1, " ms"),
        bound("traces' part of it, of a token", (token - bare_token) * 1e6, 5, " µs", digits=1),
    ]


def swap(scale: float) -> list[Line]:
    words = {"clients": 4, "words": 60, "tokens": 24}
    with tempfile.TemporaryDirectory() as folder:
        other = f"{folder}/other.gguf"
        headrace("model", "quantize", engine.GEMMA, other, "--type", "Q4_0", "--no-speed")
        with ours(folder) as server:
            at = ("--catalog", f"{folder}/catalog")
            headrace(*at, "model", "add", other, "--name", "other", "-q")  # probed and stored before
            load("closed", server.url, seconds=5, **words)
            calm = load("closed", server.url, seconds=20 * scale, **words)["crowd"]
            result: dict[str, Any] = {}
            loading = threading.Thread(
                target=lambda: result.update(load("closed", server.url, seconds=6, **words)["crowd"])
            )
            old = server.get("/v1/models")["data"][0]["sha256"]
            loading.start()
            time.sleep(1.5)
            headrace(*at, "model", "add", other, "--name", "gemma", "-q")
            moved = time.monotonic()
            while server.get("/v1/models")["data"][0]["sha256"] == old:
                time.sleep(0.02)
            swapped = time.monotonic() - moved
            body = json.dumps({"prompt": "One", "max_tokens": 1}).encode()
            OPEN(urllib.request.Request(server.url + "/v1/completions", body), timeout=60).read()
            first = time.monotonic() - moved
            loading.join()
    return [
        bound("model swapped under load: requests that failed", result["failed"], 0, "", digits=0),
        bound(
            "… time to first token, p95, added",
            result["ttft_p95"] - calm["ttft_p95"],
            swapped + 1,
            " s",
            f"loading took {swapped:.2f} s",
        ),
        line(
            "… between tokens, p95, while loading",
            result["itl_p95"] * 1e3,
            calm["itl_p95"] * 1e3,
            3,
            unit=" ms",
            digits=0,
        ),
        bound("… the new weights' first token after the name moved", first, 3, " s"),
    ]


BENCHES: dict[str, Callable[[float], list[Line]]] = {
    "fair": fair,
    "overload": overload,
    "overhead": overhead,
    "swap": swap,
}
