"""The engine against llama-server, built from the same source at the same commit: same model, threads and machine.

Our requests go to the engine in the load's own process, theirs over HTTP to llama-server; the load (bench/engine_load.cc) is
one C++ program with a thread for each client. Pairs alternate, each with fresh prompts; figures are medians, with the range of
the pairs' ratios.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from measure import Line

CACHE = pathlib.Path(os.environ.get("HEADRACE_CACHE", str(pathlib.Path.home() / ".cache" / "headrace")))
GEMMA = str(CACHE / "models" / "gemma-3-270m-q4_k_m.gguf")
MINILM = str(CACHE / "models" / "all-minilm-l6-v2-f16.gguf")
LOAD = os.environ.get("HEADRACE_BENCH_ENGINE_LOAD", "")
SERVER = os.environ.get("HEADRACE_BENCH_LLAMA_SERVER", "")
PORT = 8099
URL = f"http://127.0.0.1:{PORT}"
THREADS = os.cpu_count() or 2
COMMON = ["-m", GEMMA, "-t", str(THREADS), "-kvu", "--swa-full"]


class Server:
    """A llama-server for the length of a with block; ready when it says so."""

    def __init__(self, *flags: str) -> None:
        self.flags = flags

    def __enter__(self) -> Server:
        self.start = time.perf_counter()
        self.process = subprocess.Popen(
            [SERVER, "--port", str(PORT), "--no-ui", *self.flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        open_ = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        while True:
            try:
                with open_(f"{URL}/health", timeout=1) as answer:
                    if answer.status == 200:
                        return self
            except OSError:
                pass
            if self.process.poll() is not None:
                raise RuntimeError(f"llama-server ended with code {self.process.returncode}")
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


def load(work: str, where: str, model: str = GEMMA, **words: object) -> dict[str, Any]:
    done = subprocess.run(
        [LOAD, work, where, model, *(f"{k}={v}" for k, v in words.items())], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def pairs(
    work: str, count: int, model: str = GEMMA, **words: object
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Ours and theirs in turn, with the same seed in a pair and another in the next."""
    ours, theirs = [], []
    for seed in range(count):
        order = [("ours", ours), (URL, theirs)]
        for where, into in order if seed % 2 == 0 else order[::-1]:
            into.append(load(work, where, model, seed=seed + 1, **words))
    return ours, theirs


def compare(
    work: str, ours: list[float], theirs: list[float], limit: float, *, rate: bool = False, unit: str = ""
) -> Line:
    a, b = statistics.median(ours), statistics.median(theirs)
    ratios = [x / y for x, y in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ratios)
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    digits = 2 if b < 100 else 0
    reached = ratio >= limit if rate else ratio <= limit
    return Line(
        work + spread,
        f"{a:.{digits}f}{unit}",
        f"{b:.{digits}f}{unit}",
        ratio,
        f"{'≥' if rate else '≤'} {limit:g}",
        reached,
    )


def rounds(scale: float, full: int) -> int:
    return max(1, round(full * scale))


def burst(scale: float) -> list[Line]:
    with Server(*COMMON, "-c", "16384", "-np", "8"):
        ours, theirs = pairs("burst", rounds(scale, 3), cells=16384)
    return [
        compare(
            "cold burst, 8 requests share a fresh 1,500-token prefix: tokens prefilled",
            [o["prefilled"] for o in ours],
            [t["prefilled"] for t in theirs],
            1 / 6,
        ),
        compare("… time to first token, p50", [o["ttft"] for o in ours], [t["ttft"] for t in theirs], 0.25, unit=" s"),
    ]


def turns(scale: float) -> list[Line]:
    with Server(*COMMON, "-c", "8192", "-np", "8"):
        ours, theirs = pairs("turns", 1, cells=8192)
    return [
        compare(
            "24 conversations in turn on 8 slots' worth of cache: tokens prefilled",
            [o["prefilled"] for o in ours],
            [t["prefilled"] for t in theirs],
            0.5,
        )
    ]


def gap(scale: float) -> list[Line]:
    sweep: dict[int, dict[str, Any]] = {}
    for batch in (64, 128, 256, 512):
        with Server(*COMMON, "-c", "8192", "-np", "5", "-b", str(batch), "-ub", str(batch)):
            sweep[batch] = load("gap", URL, seed=50 + batch, stream=120)
    with Server(*COMMON, "-c", "8192", "-np", "5"):
        ours, theirs = pairs("gap", rounds(scale, 5), stream=120)
    held = load("gap", "ours", seed=9, stream=120, max_itl_ms=300)
    worst, prefill = statistics.median(o["worst"] for o in ours), statistics.median(o["prefill"] for o in ours)
    # The frontier: what their sweep reaches at our gap, between the two nearest of its points.
    points = sorted((s["worst"], s["prefill"]) for s in sweep.values())
    reachable = [p for g, p in points if g <= worst] or [points[0][1]]
    frontier = min(reachable)
    return [
        compare(
            "a 4,000-token prompt among 4 streams: worst gap between their tokens ÷ default",
            [o["worst"] for o in ours],
            [t["worst"] for t in theirs],
            0.2,
            unit=" s",
        ),
        compare(
            "… the prompt's prefill time ÷ default",
            [o["prefill"] for o in ours],
            [t["prefill"] for t in theirs],
            1.10,
            unit=" s",
        ),
        compare(
            "… prefill time ÷ the best of its batch-size sweep with a gap no worse",
            [prefill],
            [frontier],
            1.05,
            unit=" s",
        ),
        compare("… --max-itl 0.3 s: p99 of the gaps ÷ 0.3 s", [held["p99"]], [0.3], 1.0, unit=" s"),
    ]


def sample(scale: float) -> list[Line]:
    with Server(*COMMON, "-c", "8192", "-np", "8"):
        ours, theirs = pairs("sample", rounds(scale, 4))
    return [
        compare(
            "8 clients, temperature 1, top_p 0.95, no top_k: tokens/s (rate)",
            [o["rate"] for o in ours],
            [t["rate"] for t in theirs],
            1.6,
            rate=True,
        )
    ]


def schemas(scale: float) -> list[Line]:
    def valid(result: dict[str, Any]) -> int:
        count = 0
        for document in result["documents"]:
            try:
                json.loads(document["text"])
            except ValueError:
                continue
            count += document["finish"] in ("end", "eos", "stop")
        return count

    with Server(*COMMON, "-c", "8192", "-np", "8"):
        ours, theirs = pairs("schemas", rounds(scale, 2), documents=60)
    held = [load("constrained", "ours", documents=60) for _ in range(rounds(scale, 2))]
    plain = [load("constrained", "ours", documents=60, jump=0) for _ in range(rounds(scale, 2))]
    compiled = statistics.median(c["compile_seconds"] for c in held)
    return [
        compare(
            "8 clients, 20 JSON schemas, 60 documents: seconds per whole document",
            [o["seconds"] / valid(o) for o in ours],
            [t["seconds"] / valid(t) for t in theirs],
            0.5,
            unit=" s",
        ),
        compare(
            "… tokens asked for ÷ ours unconstrained, same lengths, without jumping "
            f"(rate; compiling took {compiled:.1f} s before)",
            [c["held"]["rate"] for c in plain],
            [c["free"]["rate"] for c in plain],
            0.95,
            rate=True,
            unit="/s",
        ),
        compare(
            "… the same with jumping, whose tokens are computed but not counted (rate)",
            [c["held"]["rate"] for c in held],
            [c["free"]["rate"] for c in held],
            0.95,
            rate=True,
            unit="/s",
        ),
    ]


def raw(scale: float) -> list[Line]:
    result = load("raw", "ours", pairs=rounds(scale, 16), threads=THREADS)
    lines = []
    for name, text in (
        ("decode1", "greedy decode, 1 stream"),
        ("decode8", "greedy decode, 8 streams"),
        ("prefill", "prefill of 1,024 tokens"),
    ):
        ratios = sorted(a / b for a, b in result[name])
        # Lower bound of the median: the sign test's interval at 95 % for this many pairs.
        n = len(ratios)
        low = ratios[max(0, int(n / 2 - 0.98 * n**0.5))]
        ours, theirs = (statistics.median(p[i] for p in result[name]) for i in (0, 1))
        lines.append(
            Line(
                f"{text}, in process, against llama.cpp's loop (rate; median {statistics.median(ratios):.3f}, lower bound at right)",
                f"{ours:.1f}/s",
                f"{theirs:.1f}/s",
                low,
                "≥ 0.97",
                low >= 0.97,
            )
        )
    return lines


def idle(scale: float) -> list[Line]:
    with Server(*COMMON, "-c", "32768", "-np", "16"):
        rates = load("idle", URL, clients=8, tokens=48, cells=32768, rounds=rounds(scale, 9))["rates"]
    return [
        compare(
            "8 greedy streams beside 28k idle cached tokens ÷ llama-server holding the same (rate)",
            [ours for ours, _ in rates],
            [theirs for _, theirs in rates],
            0.97,
            rate=True,
            unit="/s",
        )
    ]


def lookup(scale: float) -> list[Line]:
    copies, plain, novel, without = [], [], [], []
    for seed in range(rounds(scale, 4)):
        copies.append(load("copying", "ours", seed=seed)["rate"])
        plain.append(load("copying", "ours", seed=seed, lookup=0)["rate"])
        novel.append(load("copying", "ours", seed=seed, novel=1, round=seed)["rate"])
        without.append(load("copying", "ours", seed=seed, novel=1, round=seed, lookup=0)["rate"])
    return [
        compare("text that copies its prompt, with lookup ÷ without (rate)", copies, plain, 1.5, rate=True, unit="/s"),
        compare("novel text, with lookup ÷ without (rate)", novel, without, 0.98, rate=True, unit="/s"),
    ]


def adapters(scale: float) -> list[Line]:
    four, one = [], []
    for seed in range(rounds(scale, 5)):
        four.append(load("sample", "ours", seed=seed, clients=4, greedy=1, adapters=4)["rate"])
        one.append(load("sample", "ours", seed=seed, clients=4, greedy=1, adapters=1)["rate"])
    return [
        compare(
            "4 clients with 4 adapters (rank 8, every linear layer) ÷ the 4 with one adapter (rate)",
            four,
            one,
            0.85,
            rate=True,
            unit="/s",
        )
    ]


def start(scale: float) -> list[Line]:
    program = str(pathlib.Path(LOAD).parent.parent / "bin" / "headrace")
    body = json.dumps({"prompt": "The capital of France is", "n_predict": 1, "temperature": 0}).encode()

    def ours() -> float:
        begin = time.perf_counter()
        subprocess.run(
            [program, "run", GEMMA, "The capital of France is", "-n", "1", "-t", "0", "-c", "4096"],
            capture_output=True,
            check=True,
        )
        return time.perf_counter() - begin

    def theirs(*flags: str) -> float:
        with Server(*flags) as server:
            open_ = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
            with open_(
                urllib.request.Request(f"{URL}/completion", body, {"Content-Type": "application/json"})
            ) as answer:
                answer.read()
            return time.perf_counter() - server.start

    ours()
    mine, tuned, default = [], [], []
    for _ in range(rounds(scale, 5)):
        mine.append(ours())
        tuned.append(theirs("-m", GEMMA, "-t", str(THREADS), "-c", "4096", "-np", "1", "--no-warmup"))
        default.append(theirs("-m", GEMMA))
    return [
        compare(
            "process start to first token, weights in the page cache ÷ tuned (-c 4096 -np 1 --no-warmup)",
            mine,
            tuned,
            1.0,
            unit=" s",
        ),
        compare("… ÷ default", mine, default, 0.6, unit=" s"),
    ]


def embed(scale: float) -> list[Line]:
    flags = [
        "-m",
        MINILM,
        "-t",
        str(THREADS),
        "--embedding",
        "-c",
        "8192",
        "-b",
        "2048",
        "-ub",
        "2048",
        "-np",
        "16",
        "-kvu",
    ]
    with Server(*flags):
        many = pairs("embed", rounds(scale, 4), MINILM, clients=1, each=64, rounds=6)
        single = pairs("embed", rounds(scale, 4), MINILM, clients=16, each=1, rounds=12)
    return [
        compare(
            "MiniLM, 64 texts a request: texts/s (rate)",
            [o["rate"] for o in many[0]],
            [t["rate"] for t in many[1]],
            1.10,
            rate=True,
        ),
        compare(
            "… 16 clients with one text each (rate)",
            [o["rate"] for o in single[0]],
            [t["rate"] for t in single[1]],
            1.0,
            rate=True,
        ),
    ]


def neighbour(scale: float) -> list[Line]:
    busy = subprocess.Popen(["sh", "-c", "while :; do :; done"])
    try:
        ours = [load("sample", "ours", greedy=1, clients=1, tokens=96)["rate"] for _ in range(rounds(scale, 3))]
        best = 0.0
        for threads in (1, 2):
            with Server("-m", GEMMA, "-kvu", "--swa-full", "-c", "8192", "-np", "8", "-t", str(threads)):
                best = max(
                    best,
                    statistics.median(
                        load("sample", URL, greedy=1, clients=1, tokens=96)["rate"] for _ in range(rounds(scale, 3))
                    ),
                )
    finally:
        busy.kill()
        busy.wait()
    return [
        compare(
            "another process keeps one core busy, 1 stream ÷ llama-server at its better of 1 and 2 threads (rate)",
            [statistics.median(ours)],
            [best],
            1.0,
            rate=True,
            unit="/s",
        )
    ]


BENCHES: dict[str, Callable[[float], list[Line]]] = {
    "burst": burst,
    "turns": turns,
    "gap": gap,
    "sample": sample,
    "schemas": schemas,
    "raw-loop": raw,
    "idle": idle,
    "lookup": lookup,
    "adapters": adapters,
    "start": start,
    "embed": embed,
    "neighbour": neighbour,
}
