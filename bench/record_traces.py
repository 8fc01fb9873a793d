"""The claims about spans: how many a second one receiver takes from one sender on the same cores, and how long a sender waits."""

from __future__ import annotations

import json
import pathlib
import statistics
import subprocess
import sys
import time
from typing import Any

from measure import Line
from record_servers import Ours, Phoenix, Receiver
from record_spans import BATCH
from tables import Scratch

HERE = pathlib.Path(__file__).resolve().parent
RATE = 10_000  # spans a second that must be reached


def sent(receiver: Receiver, batches: int, rate: float, sender: int) -> dict[str, Any]:
    words = [sys.executable, str(HERE / "record_spans.py"), receiver.url, str(batches), str(rate), str(sender)]
    printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(printed)
    return result


def stored(receiver: Any, batches: int, sender: int, before: int = 0) -> tuple[float, dict[str, Any]]:
    """Seconds until all spans are rows of the receiver's table, and what the sender says."""
    began = time.perf_counter()
    said = sent(receiver, batches, 0, sender)  # whose ids are new: what is there already is not kept twice
    until = time.perf_counter() + 600
    while (rows := receiver.rows() - before) < batches * BATCH:
        if time.perf_counter() > until:
            raise RuntimeError(f"{rows} rows of {batches * BATCH} spans that were accepted")
        time.sleep(0.1)
    return time.perf_counter() - began, said


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def spans(scale: float) -> list[Line]:
    """As fast as they are answered, until all are rows; then at the rate that must be reached, for the answers' times."""
    batches, rivals, paced = int(400 * scale) or 1, int(20 * scale) or 1, max(int(600 * scale), 20)
    rates: dict[str, list[float]] = {"ours": [], "theirs": [], "taken": []}
    with Scratch() as folder:
        theirs = Phoenix(folder / "phoenix")
        try:
            for index in range(3):
                ours = Ours(folder / f"ours{index}", "--commit-seconds", "1")
                try:
                    seconds, said = stored(ours, batches, index)
                finally:
                    ours.stop()
                rates["ours"].append(batches * BATCH / seconds)
                rates["taken"].append(batches * BATCH / said["seconds"])
                seconds, _ = stored(theirs, rivals, index, theirs.rows())
                rates["theirs"].append(rivals * BATCH / seconds)
        finally:
            theirs.stop()
        ours = Ours(folder / "paced")
        try:
            acks = sent(ours, paced, RATE, 0)["acks"]
        finally:
            ours.stop()
    ours_rate, theirs_rate = statistics.median(rates["ours"]), statistics.median(rates["theirs"])
    taken, p50, p99 = statistics.median(rates["taken"]), percentile(acks, 0.5), percentile(acks, 0.99)
    what = f"spans of 2 KB in batches of {BATCH}, the sender on the same cores"
    return [
        Line(
            f"{what}: rows of the table, spans/s (taken into the spool: {taken:,.0f}/s)",
            f"{ours_rate:,.0f}/s",
            f"{RATE:,}/s",
            ours_rate / RATE,
            "≥ 1",
            ours_rate >= RATE,
        ),
        Line(
            "… ÷ Phoenix on sqlite, spans/s until all are rows (rate)",
            f"{ours_rate:,.0f}/s",
            f"{theirs_rate:,.0f}/s",
            ours_rate / theirs_rate,
            "≥ 10",
            ours_rate / theirs_rate >= 10,
        ),
        Line(
            f"… at {RATE:,} spans/s: p99 of the wait for an answer, of 20 ms (p50 {p50 * 1e3:.1f} ms)",
            f"{p99 * 1e3:.1f} ms",
            "20 ms",
            p99 / 0.02,
            "≤ 1",
            p99 <= 0.02,
        ),
    ]
